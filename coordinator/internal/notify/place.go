package notify

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// Kinds of targets besides those that are schemes.
const (
	kindWebhook      = "webhook"
	kindHealthchecks = "healthchecks"
)

// place is an address that was understood.
type place struct {
	kind string
	url  *url.URL
}

// understand reads an address, of one of our kinds or of a service that the
// library knows. Refusals are *job.Failure that do not repeat it.
func understand(kind, address string) (place, error) {
	parsed, err := url.Parse(strings.TrimSpace(address))
	if err != nil || parsed.Scheme == "" {
		return place{}, job.Invalid("url", "not a URL").WithHint("for example ntfy://ntfy.sh/topic or smtp://user:password@mail.example.net:587/?from=…&to=…")
	}
	p := place{kind: kind, url: parsed}
	web := parsed.Scheme == "https" || parsed.Scheme == "http"
	switch {
	case kind == kindWebhook || kind == kindHealthchecks:
		if !web || parsed.Hostname() == "" {
			return place{}, job.Invalid("url", "the address of a %s begins with https:// or http://", kind)
		}
	case web && kind == "":
		return place{}, job.Invalid("kind", "an http address can be several things").WithHint("say %s or %s", kindWebhook, kindHealthchecks)
	default:
		p.kind, _, _ = strings.Cut(parsed.Scheme, "+")
		if kind != "" && kind != p.kind {
			return place{}, job.Invalid("kind", "%q, and the address is one of %s", kind, p.kind)
		}
		if err := p.check(); err != nil {
			return place{}, err
		}
	}
	if ip, err := netip.ParseAddr(parsed.Hostname()); err == nil && forbidden(ip) {
		return place{}, job.Invalid("url", "%s is an address that only this machine's own network knows", ip)
	}
	return p, nil
}

// services are the schemes that the library knows and that send something.
func services() []string {
	names := slices.DeleteFunc((&router.ServiceRouter{}).ListServices(), func(name string) bool { return name == "logger" })
	slices.Sort(names)
	return names
}

// check asks the library whether it understands the address. Matrix would sign in
// at once, and is left to the first message.
func (p place) check() error {
	if !slices.Contains(services(), p.kind) {
		return job.Invalid("url", "%s:// is no service that is known", p.kind).WithHint("one of %s; or an https address with kind %s or %s", strings.Join(services(), ", "), kindWebhook, kindHealthchecks)
	}
	if p.kind == "matrix" {
		return nil
	}
	if _, err := p.service(); err != nil {
		return job.Invalid("url", "not as %s wants it: %s", p.kind, p.scrub(err.Error())).WithHint("docs/notifications.md has an example of each")
	}
	return nil
}

// service returns the library's service for the address. The error may hold the
// address.
func (p place) service() (types.Service, error) {
	library := &router.ServiceRouter{}
	if p.url.Scheme != p.kind { // ntfy+https://…, which the library turns into one of its own
		return library.Locate(p.url.String())
	}
	service, err := library.NewService(p.kind)
	if err != nil {
		return nil, err
	}
	return service, service.Initialize(p.url, nil) // the router would not say what is wrong
}

// shownHosts are the services in whose addresses the host is one. In others it is
// a token.
var shownHosts = []string{
	kindWebhook, kindHealthchecks, "smtp", "ntfy", "gotify", "matrix", "mattermost", "rocketchat", "zulip", "opsgenie",
	"bark", "signal", "generic", "lark", "googlechat", "pagerduty",
}

// shown returns the address without its secrets.
func (p place) shown() string {
	switch {
	case p.url == nil:
		return ""
	case !slices.Contains(shownHosts, p.kind):
		return p.url.Scheme + "://…"
	default:
		return p.url.Scheme + "://" + p.url.Host + "/…"
	}
}

var anyURL = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`)

// scrub takes out of a text whatever of the address may be secret, and every other
// address, as services are called at others than they are given.
func (p place) scrub(text string) string {
	text = anyURL.ReplaceAllStringFunc(text, func(found string) string {
		scheme, _, _ := strings.Cut(found, "://")
		return scheme + "://…"
	})
	for _, part := range p.secrets() {
		text = strings.ReplaceAll(text, part, "…")
	}
	return text
}

// secrets returns the parts of an address that are not to be repeated, the longest
// first, as they are written and as they are meant.
func (p place) secrets() []string {
	if p.url == nil {
		return nil
	}
	var parts []string
	if user := p.url.User; user != nil {
		password, _ := user.Password()
		parts = append(parts, user.Username(), password, user.String())
	}
	if !slices.Contains(shownHosts, p.kind) {
		parts = append(parts, p.url.Host, p.url.Hostname())
	}
	parts = append(parts, p.url.Opaque, p.url.Path, p.url.RawQuery, p.url.Fragment)
	parts = append(parts, strings.Split(p.url.Path, "/")...)
	parts = append(parts, strings.Split(p.url.EscapedPath(), "/")...)
	for _, values := range p.url.Query() {
		parts = append(parts, values...)
	}
	for _, part := range parts {
		parts = append(parts, url.QueryEscape(part), url.PathEscape(part))
	}
	parts = slices.DeleteFunc(parts, func(part string) bool { return len(part) < 4 })
	slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(parts)
}

// forbidden reports whether an address is one of a link, where machines in a cloud
// are told their own secrets.
func forbidden(ip netip.Addr) bool {
	ip = ip.Unmap()
	if bytes := ip.As16(); translated.Contains(ip) {
		ip = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	return ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsUnspecified() || ip == metadataV6
}

// translated are the addresses by which a gateway reaches those of IPv4.
var translated = netip.MustParsePrefix("64:ff9b::/96")

// metadataV6 is where some clouds have over IPv6 what others have at 169.254.169.254.
var metadataV6 = netip.MustParseAddr("fd00:ec2::254")

// errForbidden is why nothing was sent.
func errForbidden(ip netip.Addr) error {
	return fmt.Errorf("%s is an address that only this machine's own network knows: nothing is sent there", ip)
}

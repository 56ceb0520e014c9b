package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Validate returns nil, or every fault joined, each with its field's path.
func (c Config) Validate() error {
	faults := []error{
		absolute("data", c.Data),
		address("http.listen", c.HTTP.Listen),
		schemeURL("http.url", c.HTTP.URL, "https://backup.example.net:8440", "https", "http"),
		c.Bus.validate(), c.Depot.validate(), c.TLS.validate(), c.OIDC.validate(), c.Deadman.validate(),
		oneOf("log.level", c.Log.Level, "trace", "debug", "info", "warn", "error"),
		oneOf("log.format", c.Log.Format, "text", "json"),
		positive("limits.running", c.Limits.Running), positive("limits.per_host", c.Limits.PerHost), positive("limits.per_store", c.Limits.PerStore),
		span("limits.expire", c.Limits.Expire, job.MaxExpiry),
		span("limits.timeout", c.Limits.Timeout, job.MaxTimeout),
		span("limits.offline", c.Limits.Offline, job.MaxExpiry),
		positive("history.jobs", c.History.Jobs),
	}
	if time.Duration(c.History.Keep) < time.Hour {
		faults = append(faults, errors.New("history.keep: must be at least 1h"))
	}
	return errors.Join(faults...)
}

func (b Bus) validate() error {
	faults := []error{schemeURL("bus.url", b.URL, "tls://backup.example.net:4222", "tls", "nats", "wss", "ws")}
	if len(b.External.URLs) > 0 {
		return errors.Join(append(faults, b.External.validate())...)
	}
	faults = append(faults, address("bus.listen", b.Listen))
	if b.Websocket != "" {
		faults = append(faults, address("bus.websocket", b.Websocket))
	}
	return errors.Join(faults...)
}

func (e External) validate() error {
	return errors.Join(
		needed("bus.external.credentials_file", e.CredentialsFile, "bus.external.urls"),
		needed("bus.external.agents_credentials_file", e.AgentsCredentialsFile, "bus.external.urls"),
		needed("bus.external.signing_key_file", e.SigningKeyFile, "bus.external.urls"),
	)
}

func (d Depot) validate() error {
	if d.Listen == "" {
		return nil
	}
	faults := []error{address("depot.listen", d.Listen), file("depot.path", d.Path), needed("depot.borg", d.Borg, "depot.listen")}
	if d.Address != "" {
		fault := address("depot.address", d.Address)
		if host, port, _ := net.SplitHostPort(d.Address); fault == nil && (anyAddress(host) || port == "0") {
			fault = fmt.Errorf("depot.address: %q is no place that hosts can connect to", d.Address)
		}
		faults = append(faults, fault)
	}
	return errors.Join(faults...)
}

func (t TLS) validate() error {
	var faults []error
	for i, name := range t.Names {
		if net.ParseIP(name) == nil && !dnsName.MatchString(name) {
			faults = append(faults, fmt.Errorf("tls.names[%d]: %q is not a DNS name or an IP address", i, name))
		}
	}
	faults = append(faults, file("tls.certificate_file", t.CertificateFile), file("tls.key_file", t.KeyFile), file("tls.ca_file", t.CAFile))
	if t.CertificateFile != "" {
		faults = append(faults, needed("tls.key_file", t.KeyFile, "tls.certificate_file"))
	}
	if t.KeyFile != "" {
		faults = append(faults, needed("tls.certificate_file", t.CertificateFile, "tls.key_file"))
	}
	if t.CAFile != "" && t.KeyFile == "" {
		faults = append(faults, needed("tls.certificate_file", t.CertificateFile, "tls.ca_file"))
	}
	return errors.Join(faults...)
}

func (o OIDC) validate() error {
	var faults []error
	for _, group := range slices.Sorted(maps.Keys(o.Roles)) {
		if role := o.Roles[group]; !slices.Contains(bus.Roles(), role) {
			faults = append(faults, fmt.Errorf("oidc.roles.%s: %q is not one of %v", group, role, bus.Roles()))
		}
	}
	if !o.Enabled() {
		if o.ClientID != "" || o.ClientSecretFile != "" || len(o.Roles) > 0 {
			faults = append(faults, needed("oidc.issuer", "", "the other keys of oidc"))
		}
		return errors.Join(faults...)
	}
	faults = append(faults,
		issuer(o.Issuer),
		needed("oidc.client_id", o.ClientID, "oidc.issuer"),
		needed("oidc.client_secret_file", o.ClientSecretFile, "oidc.issuer"), file("oidc.client_secret_file", o.ClientSecretFile),
		needed("oidc.name_claim", o.NameClaim, "oidc.issuer"),
		needed("oidc.role_claim", o.RoleClaim, "oidc.issuer"),
	)
	return errors.Join(faults...)
}

// validate does not repeat the address, which may be a secret.
func (d Deadman) validate() error {
	faults := []error{file("deadman.url_file", d.URLFile)}
	if d.URL != "" && d.URLFile != "" {
		faults = append(faults, errors.New("deadman.url_file: leave it out, or deadman.url"))
	}
	if parsed, err := url.Parse(d.URL); d.URL != "" && (err != nil || parsed.Hostname() == "" || parsed.Scheme != "https" && parsed.Scheme != "http") {
		faults = append(faults, errors.New("deadman.url: not a URL such as https://hc-ping.com/…"))
	}
	if every := time.Duration(d.Every); every < time.Second || every > 24*time.Hour {
		faults = append(faults, errors.New("deadman.every: must be between 1s and 24h"))
	}
	return errors.Join(faults...)
}

// issuer wants the provider to be reached over TLS, unless it is on this
// machine: what it says decides who gets in.
func issuer(text string) error {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Host == "" || parsed.Scheme != "https" && (parsed.Scheme != "http" || !bus.IsLoopback(parsed.Hostname())) {
		return fmt.Errorf("oidc.issuer: %q is not a URL such as https://login.example.net", text)
	}
	return nil
}

func absolute(field, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s: %q is not an absolute path", field, path)
	}
	return nil
}

// file accepts no path, or an absolute one.
func file(field, path string) error {
	if path == "" {
		return nil
	}
	return absolute(field, path)
}

// schemeURL accepts an empty text, or a URL with a host and one of the schemes.
func schemeURL(field, text, example string, schemes ...string) error {
	if text == "" {
		return nil
	}
	parsed, err := url.Parse(text)
	if err != nil || parsed.Hostname() == "" || parsed.User != nil || !slices.Contains(schemes, parsed.Scheme) {
		return fmt.Errorf("%s: %q is not a URL such as %s", field, text, example)
	}
	return nil
}

// dnsName is a name as certificates carry it.
var dnsName = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*$`)

// address accepts host:port; an empty host stands for every address.
func address(field, listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("%s: %q is not host:port", field, listen)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%s: %q is not a port", field, port)
	}
	if host != "" && net.ParseIP(host) == nil && !dnsName.MatchString(host) {
		return fmt.Errorf("%s: %q is not an address or a name", field, host)
	}
	return nil
}

func needed(field, value, because string) error {
	if value == "" {
		return fmt.Errorf("%s: is needed with %s", field, because)
	}
	return nil
}

func oneOf(field, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s: %q is not one of %v", field, value, allowed)
}

func positive(field string, n int) error {
	if n < 1 {
		return fmt.Errorf("%s: must be at least 1", field)
	}
	return nil
}

// span accepts 0, or a time from a second to the most.
func span(field string, d Duration, most time.Duration) error {
	if given := time.Duration(d); given != 0 && (given < time.Second || given > most) {
		return fmt.Errorf("%s: must be between 1s and %dd, or 0 for no limit", field, most/(24*time.Hour))
	}
	return nil
}

package config

import (
	"cmp"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Names returns every name and address under which the coordinator may be
// reached, without repeats: those that were given first, then what this machine
// is called. They stand in the certificate. With a listen address that means
// all addresses, this machine's are among them.
func (c Config) Names() []string {
	names := append([]string{}, c.TLS.Names...)
	names = append(names, hostOf(c.HTTP.URL), hostOf(c.Bus.URL))
	if name, err := os.Hostname(); err == nil && dnsName.MatchString(name) {
		names = append(names, name)
	}
	names = append(names, "localhost", "127.0.0.1", "::1")
	everywhere := false
	for _, listen := range []string{c.HTTP.Listen, c.Bus.Listen, c.Bus.Websocket} {
		host, _, err := net.SplitHostPort(listen)
		switch {
		case err != nil: // none
		case anyAddress(host):
			everywhere = true
		default:
			names = append(names, host)
		}
	}
	if everywhere {
		names = append(names, ownAddresses()...)
	}
	return unique(names)
}

// AgentURLs returns where agents find the bus: what bus.url says, else the
// external cluster, else listenURL, which is where the embedded server listens,
// under the first of the names that were given.
func (c Config) AgentURLs(listenURL string) []string {
	if c.Bus.URL != "" {
		return []string{c.Bus.URL}
	}
	if len(c.Bus.External.URLs) > 0 {
		return c.Bus.External.URLs
	}
	parsed, err := url.Parse(listenURL)
	if err != nil || parsed.Host == "" {
		return []string{listenURL}
	}
	parsed.Host = net.JoinHostPort(c.outward(parsed.Hostname()), parsed.Port())
	return []string{parsed.String()}
}

// DepotPath returns the directory of the repositories that are kept here.
func (c Config) DepotPath() string {
	return cmp.Or(c.Depot.Path, filepath.Join(c.Data, "depot"))
}

// DepotAddress returns where hosts find the depot: what depot.address says, else
// the port of listener, which is where it listens, under the first of the names
// that were given.
func (c Config) DepotAddress(listener string) string {
	host, port, err := net.SplitHostPort(listener)
	if c.Depot.Address != "" || err != nil {
		return cmp.Or(c.Depot.Address, listener)
	}
	return net.JoinHostPort(c.outward(host), port)
}

// outward returns the name under which others reach what listens on a host: the
// first of those that were given, if there are any.
func (c Config) outward(host string) string {
	if len(c.TLS.Names) > 0 {
		return c.TLS.Names[0]
	}
	if anyAddress(host) {
		if name, err := os.Hostname(); err == nil {
			return name
		}
	}
	return host
}

// hostOf returns the host of a URL, empty when there is none.
func hostOf(text string) string {
	parsed, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return parsed.Hostname()
}

// anyAddress reports whether listening on host means every address.
func anyAddress(host string) bool {
	return host == "" || net.ParseIP(host).IsUnspecified()
}

// ownAddresses returns the addresses of this machine that others can reach.
func ownAddresses() (addresses []string) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil // the names that were given must do
	}
	for _, address := range all {
		if ip, ok := address.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
			addresses = append(addresses, ip.IP.String())
		}
	}
	return addresses
}

// unique drops empty names and repeats, however they are written.
func unique(names []string) []string {
	seen, kept := map[string]bool{"": true}, []string{}
	for _, name := range names {
		name = strings.ToLower(name)
		if ip := net.ParseIP(name); ip != nil {
			name = ip.String()
		}
		if !seen[name] {
			seen[name], kept = true, append(kept, name)
		}
	}
	return kept
}

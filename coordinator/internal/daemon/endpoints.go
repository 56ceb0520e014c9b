package daemon

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/renameio/v2"
)

// EndpointsFile is the name of the file, in the data directory, that tells the
// command line on the same machine where the running coordinator listens.
const EndpointsFile = "endpoints.json"

// LocalTokenFile is the name of the file, in the data directory, whose content
// lets the directory's owner in. It is another one after every start.
const LocalTokenFile = "local.token"

// Endpoints is that file's content.
type Endpoints struct {
	HTTP   string `json:"http"`              // URL of the status page and API
	Bus    string `json:"bus"`               // URL of the bus
	Depot  string `json:"depot,omitempty"`   // host:port where the depot listens; empty: there is none
	CAFile string `json:"ca_file,omitempty"` // PEM of the authority of both; empty: the system's
}

func (e Endpoints) write(path string) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("encode endpoints: %w", err)
	}
	if err := renameio.WriteFile(path, append(data, '\n'), 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// loopback is where this machine reaches a listener: the listener's own address,
// or the loopback one of a listener on all addresses.
func loopback(listener string) (address string, isLoopback bool) {
	host, port, err := net.SplitHostPort(listener)
	ip, fault := netip.ParseAddr(host)
	switch {
	case err != nil || fault != nil:
		return listener, host == "localhost"
	case !ip.IsUnspecified():
		return listener, ip.Unmap().IsLoopback()
	default: // also "::", which takes IPv4 as well
		return net.JoinHostPort("127.0.0.1", port), true
	}
}

// localURL is where the command line on this machine finds the API: plain only
// over loopback. A given certificate need not name the address.
func (d *daemon) localURL() string {
	address, isLoopback := loopback(d.listener.Addr().String())
	switch {
	case isLoopback:
		return "http://" + address
	case d.config.TLS.CertificateFile != "" && d.config.HTTP.URL != "":
		return strings.TrimRight(d.config.HTTP.URL, "/")
	default:
		return "https://" + address
	}
}

// pageURL is where people open the pages: as configured; else on this machine
// only, or under the first name that the certificate has.
func (d *daemon) pageURL() string {
	if url := strings.TrimRight(d.config.HTTP.URL, "/"); url != "" {
		return url
	}
	listener := d.listener.Addr().String()
	host, port, err := net.SplitHostPort(listener)
	ip, fault := netip.ParseAddr(host)
	names := d.config.Names()
	if err != nil || fault != nil || !ip.IsUnspecified() || len(names) == 0 {
		return d.localURL()
	}
	return "https://" + net.JoinHostPort(names[0], port)
}

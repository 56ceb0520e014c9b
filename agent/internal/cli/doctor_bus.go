package cli

import (
	"cmp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/agent/internal/config"
	"github.com/borgfleet/borgfleet/agent/internal/daemon"
	"github.com/borgfleet/borgfleet/agent/internal/identity"
	"github.com/borgfleet/borgfleet/agent/internal/uplink"
	"github.com/borgfleet/borgfleet/shared/bus"
)

// soon is when the end of something that is renewed by itself is worth a word.
const soon = 7 * 24 * time.Hour

func checkCredentials(c config.Config) check {
	credentials, err := identity.ReadCredentials(c.Bus.CredentialsFile, c.Host)
	if err != nil {
		return failed("credentials", err)
	}
	if credentials.Expires.IsZero() {
		return ok("credentials", "%s can be read, by its owner only", c.Bus.CredentialsFile)
	}
	left := time.Until(credentials.Expires).Round(time.Minute)
	if left <= 0 {
		return check{Name: "credentials", State: "failed", Message: "expired " + (-left).String() + " ago",
			Fix: "enrol this host again: borgfleet host token " + c.Host + " --replace"}
	}
	return ok("credentials", "good for another %s; the running agent renews them", left)
}

func checkSigner(c config.Config) check {
	if _, err := identity.Signer(c.Bus.SignerFile, c.Host); err != nil {
		return failed("signer", err)
	}
	return ok("signer", "%s holds the coordinator's signing key", c.Bus.SignerFile)
}

func checkSealKey(c config.Config) check {
	public, err := identity.CheckSealKey(c.Data)
	if err != nil {
		return failed("seal key", err)
	}
	if public == "" {
		return check{Name: "seal key", State: "warning", Message: "there is none yet; the agent makes it when it starts"}
	}
	return ok("seal key", "secrets are sealed to %s", public)
}

// checkSession looks at what the running agent says of its connection.
func checkSession(c config.Config, running daemon.Status) []check {
	if !running.Bus.Connected || running.Bus.Error != "" {
		return []check{{Name: "bus", State: "failed", Message: cmp.Or(running.Bus.Error, "not connected yet"), Fix: running.Bus.Hint}}
	}
	checks := []check{ok("bus", "the agent is connected to %s", running.Bus.URL)}
	if end := running.Bus.CertificateExpires; !end.IsZero() {
		checks = append(checks, checkCertificate(end))
	}
	return checks
}

// tryBus connects as the agent would.
func tryBus(c config.Config) []check {
	if _, err := identity.ReadCredentials(c.Bus.CredentialsFile, c.Host); err != nil {
		return []check{{Name: "bus", State: "failed", Message: "not tried, since there are no usable credentials"}}
	}
	conn, err := connect(c)
	if err != nil {
		return []check{failed("bus", err)}
	}
	defer conn.Close()
	checks := []check{ok("bus", "%s can be reached with these credentials", strings.Join(c.Bus.URLs, ", "))}
	if state, err := conn.TLSConnectionState(); err == nil && len(state.PeerCertificates) > 0 { // an error: no TLS
		checks = append(checks, checkCertificate(state.PeerCertificates[0].NotAfter))
	}
	return checks
}

func connect(c config.Config) (*nats.Conn, error) {
	trust, err := identity.Trust(c.Bus.CAFile)
	if err != nil {
		return nil, err
	}
	return identity.Connect(c.Bus.URLs, bus.ConnectOptions{Name: c.Host, Credentials: c.Bus.CredentialsFile, TLS: trust})
}

func checkCertificate(end time.Time) check {
	result := ok("certificate", "the bus's certificate is trusted, and good until %s", end.UTC().Format(time.DateOnly))
	if time.Until(end) < soon {
		result.State = "warning"
		result.Fix = "see on the coordinator that it is renewed; one of its own it renews by itself"
	}
	return result
}

func checkClock(skew time.Duration) check {
	if skew.Abs() <= uplink.MaxSkew {
		return ok("clock", "%s", uplink.DescribeSkew(skew))
	}
	return check{Name: "clock", State: "failed", Message: uplink.DescribeSkew(skew),
		Fix: "set the clock that is wrong, for example with systemd-timesyncd or chrony"}
}

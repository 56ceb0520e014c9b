package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/job"
)

const setClock = "set the clock, for example with systemd-timesyncd or chrony"

// Explain says in a sentence why there is no connection to the bus at an
// address, and what to do about it.
func Explain(err error, address string) *job.Failure {
	if failure, ok := errors.AsType[*job.Failure](err); ok {
		return failure
	}
	if failure := explainCertificate(err, address); failure != nil {
		return failure
	}
	switch {
	case errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAccountAuthExpired):
		return job.Fail(job.NotAuthenticated, "the credentials of this host have expired").
			WithHint("run \"borgfleet-agent rotate\" while they are valid; now enrol this host again with a token that replaces it")
	case Refused(err):
		return job.Fail(job.NotAuthenticated, "the bus at %s does not accept the credentials of this host: it was removed or enrolled again elsewhere, or they have expired", address).
			WithHint("enrol it again: run \"borgfleet host token HOST --replace\" on the coordinator, and here the command that it prints")
	case errors.Is(err, nats.ErrSecureConnWanted):
		return job.Fail(job.NotAllowed, "the server at %s does not speak TLS", address).
			WithHint("see that the address is that of the coordinator's bus")
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return job.Fail(job.Unavailable, "the name %s cannot be resolved: %s", dns.Name, dns.Err).
			WithHint("see that the address of the bus is spelt right, and that this host's DNS works")
	}
	why := ""
	switch {
	case errors.Is(err, nats.ErrNoServers):
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		why = ": no answer in time"
	default:
		why = ": " + strings.TrimPrefix(err.Error(), "nats: ")
	}
	return job.Fail(job.Unavailable, "nothing usable answers at %s%s", address, why).
		WithHint("see that the coordinator runs, that this is the address of its bus, and that no firewall is between")
}

// Refused reports whether the bus does not accept the credentials.
func Refused(err error) bool {
	for _, refusal := range []error{
		nats.ErrAuthorization, nats.ErrAuthRevoked, nats.ErrAuthExpired, nats.ErrAccountAuthExpired,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// explainCertificate returns nil when the certificate is not the matter.
func explainCertificate(err error, address string) *job.Failure {
	if errors.Is(err, errPin) {
		return job.Fail(job.NotAllowed, "the server at %s is not the coordinator that made the token: it shows another authority's certificate. Nothing was sent", address).
			WithHint("see that the address is right and make a new token; if it is, somebody may be in between")
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return expired(invalid.Cert, time.Now(), address)
	}
	if wrong, ok := errors.AsType[x509.HostnameError](err); ok {
		return job.Fail(job.NotAllowed, "the certificate of the bus at %s is not for %q but for %s", address, wrong.Host, namesOf(wrong.Certificate)).
			WithHint("use an address with one of these names, or add the name to tls.names in coordinator.yaml")
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return job.Fail(job.NotAllowed, "the certificate of the bus at %s was not signed by the authority that this host trusts", address).
			WithHint("if the coordinator has a new authority, enrol this host again with a token that replaces it; if not, somebody may be in between")
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return job.Fail(job.NotAllowed, "the certificate of the bus at %s cannot be used: %s", address, invalid.Error()).
			WithHint("the coordinator needs another certificate; see tls in coordinator.yaml")
	}
	return nil
}

func expired(certificate *x509.Certificate, now time.Time, address string) *job.Failure {
	const form = "2006-01-02 15:04 MST"
	clock := now.UTC().Format(form)
	if now.Before(certificate.NotBefore) {
		return job.Fail(job.NotAllowed, "the certificate of the bus at %s is not valid before %s, and the clock of this host says %s",
			address, certificate.NotBefore.UTC().Format(form), clock).
			WithHint("this host's clock is probably behind: %s", setClock)
	}
	return job.Fail(job.NotAllowed, "the certificate of the bus at %s expired on %s, and the clock of this host says %s",
		address, certificate.NotAfter.UTC().Format(form), clock).
		WithHint("if that clock is wrong, %s; if it is right, give the coordinator a new certificate (one of its own it renews while it runs)", setClock)
}

func namesOf(certificate *x509.Certificate) string {
	names := certificate.DNSNames
	for _, ip := range certificate.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name at all"
	}
	return strings.Join(names, ", ")
}

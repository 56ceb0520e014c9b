package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// UnreachableError says that no coordinator answered, or that it could not
// prove to be the one that was meant.
type UnreachableError struct {
	URL string
	Err error // what the network said
}

// Error implements error.
func (e *UnreachableError) Error() string {
	if text := distrust(e.Err); text != "" {
		return fmt.Sprintf("the certificate of %s %s", e.URL, text)
	}
	return fmt.Sprintf("coordinator at %s is not reachable: %s", e.URL, cause(e.Err))
}

// Unwrap returns what the network said.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *UnreachableError) Hint() string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](e.Err); ok {
		return "`borgfleet login " + e.URL + "` lets this machine trust the coordinator's own authority (CA), once its fingerprint was compared; " +
			"if it was trusted before, another coordinator may be answering"
	}
	if _, ok := errors.AsType[x509.HostnameError](e.Err); ok {
		return "use a name or address that it is for, or add this one to tls.names in the coordinator's configuration"
	}
	if distrust(e.Err) != "" {
		return "is the clock right, here and there? a running coordinator renews its own certificate; one that was given to it is renewed where it comes from"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](e.Err); ok {
		return "does another program listen there?"
	}
	return "is it running? `borgfleet serve` starts it; --url or BORGFLEET_URL says where it is"
}

// distrust says what is wrong with a server's certificate; empty when that is
// not the matter.
func distrust(err error) string {
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return "is not for this name: " + name.Error()
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch {
		case invalid.Reason != x509.Expired:
			return "is not valid: " + invalid.Error()
		case invalid.Cert != nil && time.Now().Before(invalid.Cert.NotBefore):
			return "is not valid before " + invalid.Cert.NotBefore.UTC().Format(time.RFC3339)
		case invalid.Cert != nil:
			return "expired at " + invalid.Cert.NotAfter.UTC().Format(time.RFC3339)
		default:
			return "expired"
		}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "is not trusted: it is from an authority that this machine does not know"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "is not trusted: " + cause(err).Error()
	}
	return ""
}

// cause is the innermost readable part of a transport error: without the
// request's address, which is said already.
func cause(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

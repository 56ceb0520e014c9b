package sshlink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// pins are the keys that a server may show, and what one has shown.
type pins struct {
	keys    []ssh.PublicKey
	shown   ssh.PublicKey
	matched bool
}

func parsePins(p place, texts []string) (*pins, *job.Failure) {
	var pins pins
	for _, text := range texts {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
		if err != nil {
			return nil, job.Invalid("host_keys", "%q is no public key", cleaned(text)).
				WithHint("give a line of the server's /etc/ssh/ssh_host_*_key.pub")
		}
		pins.keys = append(pins.keys, key)
	}
	if len(pins.keys) == 0 {
		return nil, job.Invalid("host_keys", "no host key of %s is known", p).
			WithHint("look at what it shows, compare that with the server's own, and confirm it")
	}
	return &pins, nil
}

// check implements ssh.HostKeyCallback.
func (p *pins) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	p.shown = key
	p.matched = slices.ContainsFunc(p.keys, func(known ssh.PublicKey) bool {
		return bytes.Equal(known.Marshal(), key.Marshal())
	})
	if !p.matched {
		return errOtherKey
	}
	return nil
}

var errOtherKey = errors.New("another host key than those that are known")

// algorithms are those of the known keys: a server with keys of several types
// then shows one that we can compare.
func (p *pins) algorithms() []string {
	var names []string
	for _, key := range p.keys {
		for _, name := range signatures(key.Type()) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// signatures are the algorithms with which a key of a type signs, without those
// that use SHA-1.
func signatures(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// changed is the failure of a server that shows another key.
func (p *pins) changed(at place, shown string) *job.Failure {
	known := make([]string, len(p.keys))
	for i, key := range p.keys {
		known[i] = fingerprintOf(key)
	}
	confirm := "confirm it"
	if at.host != "" {
		confirm += " with borgfleet host set " + at.host + " --host-key FINGERPRINT"
	}
	return job.Fail(job.HostKeyChanged, "%s shows another host key than the known one: it shows %s, known is %s",
		at, shown, strings.Join(known, ", ")).
		WithHint("if the machine was installed anew, compare the fingerprint there and %s; if not, somebody may be listening in between", confirm)
}

func fingerprintOf(key ssh.PublicKey) string {
	return ssh.FingerprintSHA256(key) + " (" + key.Type() + ")"
}

// keyText is a public key in authorized_keys form, without a comment.
func keyText(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// scanned are the types of keys that Scan asks for, the best first.
var scanned = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA,
}

// Scan returns the keys that a server shows, the best first, and logs in nowhere
// but on the way to it. Its errors are *job.Failure.
func Scan(ctx context.Context, address string, jump []fleet.SSHHop, signer ssh.Signer) ([]fleet.ShownKey, error) {
	p := place{name: "the server", address: address}
	_, hostport, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	t := travel{signer: signer, options: Options{}.withDefaults()}
	defer func() { closeAll(t.clients) }()
	if fault := t.through(ctx, jump); fault != nil {
		return nil, fault.Failure
	}
	var shown []fleet.ShownKey
	for _, keyType := range scanned {
		key, fault := t.shown(ctx, hostport, signatures(keyType), p)
		if fault != nil {
			return nil, fault.Failure
		}
		if key != nil {
			shown = append(shown, fleet.ShownKey{Address: address, Key: keyText(key), Fingerprint: ssh.FingerprintSHA256(key)})
		}
	}
	if len(shown) == 0 {
		return nil, job.Fail(job.HostUnreachable, "%s has no host key of a type that is in use today", p).
			WithHint("make one there: ssh-keygen -A")
	}
	return shown, nil
}

// shown returns the key that a server shows for some algorithms; nil if it has
// none for them.
func (t *travel) shown(ctx context.Context, hostport string, algorithms []string, p place) (ssh.PublicKey, *fault) {
	ctx, stop := context.WithTimeout(ctx, t.options.Patience)
	defer stop()
	conn, fault := t.reach(ctx, hostport, p)
	if fault != nil {
		return nil, fault
	}
	defer conn.Close()
	var pins pins // none: the handshake ends when the key is shown
	_, err := t.shake(ctx, conn, hostport, &ssh.ClientConfig{
		User: "scan", HostKeyCallback: pins.check, HostKeyAlgorithms: algorithms,
	})
	negotiation, negotiated := errors.AsType[*ssh.AlgorithmNegotiationError](err)
	switch {
	case pins.shown != nil:
		return pins.shown, nil
	case negotiated && negotiation.What == "host key":
		return nil, nil
	default:
		return nil, transient(unreachable(p, "%s", reason(err)))
	}
}

// isClosed reports whether the other side, the network or we ended a connection
// without a word.
func isClosed(err error) bool {
	return err == nil || errors.Is(err, context.Canceled) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"unicode"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/shared/job"
)

// fault is why there is no connection, and whether only a person can mend it.
type fault struct {
	*job.Failure
	final bool
}

func transient(f *job.Failure) *fault { return &fault{Failure: f} }

func final(f *job.Failure) *fault { return &fault{Failure: f, final: true} }

// place is a server as failures name it.
type place struct {
	name    string // "host web1", "the jump server root@gate:22"
	address string
	host    string // name of the host; empty for servers on the way
}

func placeOf(c Config) place { return place{name: "host " + c.Host, address: c.Address, host: c.Host} }

func (p place) String() string { return p.name + " (" + p.address + ")" }

const hintUnreachable = "see that the machine is up, that sshd runs there, and that a firewall lets the coordinator through"

func unreachable(p place, format string, args ...any) *job.Failure {
	return job.Fail(job.HostUnreachable, "%s cannot be reached: %s", p, fmt.Sprintf(format, args...)).WithHint(hintUnreachable)
}

func lost(p place, err error) *job.Failure {
	return job.Fail(job.ConnectionLost, "the connection to %s broke while a script ran there: %s", p, reason(err)).WithHint(hintUnreachable)
}

func refusedKey(p place, user string, key ssh.PublicKey) *job.Failure {
	return job.Fail(job.PermissionDenied, "%s does not let the coordinator's key in as user %s", p, user).
		WithHint("put this line into ~/.ssh/authorized_keys of user %s there: %s", user, keyText(key))
}

// badShell is what is said when a script did not begin to run.
func badShell(p place, sudo bool, said string) *job.Failure {
	if said = cleaned(said); said == "" {
		said = "nothing"
	}
	if sudo {
		return job.Fail(job.PermissionDenied, "sudo on %s does not start a shell; it said: %s", p, said).
			WithHint("let the user run everything without a password there (NOPASSWD: ALL, no requiretty), or log in as root and leave sudo out")
	}
	return job.Fail(job.PermissionDenied, "the login shell on %s does not run commands; it said: %s", p, said).
		WithHint("give the user a shell such as /bin/sh (chsh -s /bin/sh), and its key no forced command")
}

// mostSaid bounds what is repeated of a server's words.
const mostSaid = 200

// cleaned makes one line without control characters of what a server said.
func cleaned(said string) string {
	said = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(said, "?"))
	said = strings.Join(strings.Fields(said), " ")
	if runes := []rune(said); len(runes) > mostSaid {
		said = string(runes[:mostSaid]) + "…"
	}
	return said
}

// reason says in a few words what ended or prevented a connection.
func reason(err error) string {
	var name *net.DNSError
	var number syscall.Errno
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return "it closed the connection"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &name) && name.IsNotFound:
		return fmt.Sprintf("its name %q has no address", name.Name)
	case errors.As(err, &number):
		return number.Error()
	default:
		return cleaned(strings.TrimPrefix(err.Error(), "ssh: handshake failed: "))
	}
}

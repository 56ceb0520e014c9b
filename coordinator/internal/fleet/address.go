package fleet

import (
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// sshPort is where an SSH server listens unless an address says otherwise.
const sshPort = "22"

var (
	sshUser = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}$`)
	sshName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$`)
)

// SSHAddress is where a user logs in.
type SSHAddress struct {
	User, Host, Port string
}

// HostPort returns what to dial.
func (a SSHAddress) HostPort() string { return net.JoinHostPort(a.Host, a.Port) }

// String returns the address in the form user@host:port.
func (a SSHAddress) String() string { return a.User + "@" + a.HostPort() }

// ParseSSHAddress reads user@host, with :port behind it unless it is 22. An
// IPv6 address stands in brackets. Refusals are *job.Failure that name the field.
func ParseSSHAddress(field, text string) (SSHAddress, error) {
	const form = "give user@host or user@host:port, such as root@web1.example.net"
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return SSHAddress{}, job.Invalid(field, "%q does not say which user logs in", text).WithHint(form)
	}
	a := SSHAddress{User: text[:at], Host: text[at+1:], Port: sshPort}
	if host, port, err := net.SplitHostPort(a.Host); err == nil {
		a.Host, a.Port = host, port
	} else if strings.HasPrefix(a.Host, "[") && strings.HasSuffix(a.Host, "]") {
		a.Host = a.Host[1 : len(a.Host)-1]
	}
	number, err := strconv.Atoi(a.Port)
	switch {
	case !sshUser.MatchString(a.User):
		return SSHAddress{}, job.Invalid(field, "%q is not the name of a user", a.User).WithHint(form)
	case !sshName.MatchString(a.Host) && net.ParseIP(a.Host) == nil:
		return SSHAddress{}, job.Invalid(field, "%q is neither a host's name nor an address", a.Host).WithHint(form)
	case err != nil || number < 1 || number > 65535 || strconv.Itoa(number) != a.Port:
		return SSHAddress{}, job.Invalid(field, "%q is not a port", a.Port).WithHint("1 to 65535")
	}
	return a, nil
}

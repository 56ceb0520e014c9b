package harness

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// SSHD is a real OpenSSH server, with keys of its own, that lets the test's
// user in with one key.
type SSHD struct {
	*Process
	Address string // where it listens, without the port
	Port    int
	dir     string
	user    string
}

// SSHDOptions are what tests choose about an sshd.
type SSHDOptions struct {
	Prefix []string // goes before its command line, to run it elsewhere
	Listen string   // address, without a port; empty means loopback
}

// StartSSHD starts an sshd on a free port of loopback, and waits until it
// answers.
func StartSSHD(t testing.TB) *SSHD {
	t.Helper()
	return StartSSHDWith(t, SSHDOptions{})
}

// StartSSHDWith is StartSSHD for tests that choose more.
func StartSSHDWith(t testing.TB, o SSHDOptions) *SSHD {
	t.Helper()
	current, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &SSHD{Address: cmp.Or(o.Listen, "127.0.0.1"), Port: FreePort(t), dir: t.TempDir(), user: current.Username}
	s.configure(t)
	if os.Getuid() == 0 { // its privilege separation needs this directory
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := exec.LookPath("sshd")
	if err != nil {
		program = "/usr/sbin/sshd"
	}
	argv := append(slices.Clone(o.Prefix), program, "-D", "-e", "-f", filepath.Join(s.dir, "sshd_config"))
	s.Process = Start(t, "sshd", nil, argv...)
	Eventually(t, "sshd to answer", func() error {
		connection, err := net.Dial("tcp", s.HostPort())
		if err != nil {
			return err
		}
		return connection.Close()
	})
	return s
}

// configure makes keys, and a configuration that knows no others.
func (s *SSHD) configure(t testing.TB) {
	t.Helper()
	for _, key := range []string{"host", "client"} {
		if r := Run(t, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, key)); r.Code != 0 {
			t.Fatal(r.Stderr)
		}
	}
	public, err := os.ReadFile(filepath.Join(s.dir, "client.pub"))
	if err != nil {
		t.Fatal(err)
	}
	hostKey, err := os.ReadFile(filepath.Join(s.dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "authorized_keys", string(public))
	s.write(t, "known_hosts", "* "+string(hostKey)) // it may be reached under other addresses
	s.write(t, "sshd_config", fmt.Sprintf(`Port %d
ListenAddress %s
HostKey %[3]s/host
AuthorizedKeysFile %[3]s/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
# As the README advises: what a lost connection holds is let go.
ClientAliveInterval 5
ClientAliveCountMax 3
# Borg takes the first network card's address for its host's name; here cards come and go with other tests.
SetEnv BORG_HOST_ID=server@test
`, s.Port, s.Address, s.dir))
}

func (s *SSHD) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// RSH is the ssh command with this server's key and identity, for borg.
func (s *SSHD) RSH() string {
	return fmt.Sprintf("ssh -F none -i %s/client -o IdentitiesOnly=yes -o UserKnownHostsFile=%s/known_hosts -o StrictHostKeyChecking=yes -o BatchMode=yes", s.dir, s.dir)
}

// HostPort is where it listens.
func (s *SSHD) HostPort() string { return net.JoinHostPort(s.Address, strconv.Itoa(s.Port)) }

// URL is the location of a repository on this server.
func (s *SSHD) URL(path string) string { return s.URLAt(s.HostPort(), path) }

// URLAt is URL for those who reach the server under another address.
func (s *SSHD) URLAt(hostPort, path string) string {
	return fmt.Sprintf("ssh://%s@%s%s", s.user, hostPort, path)
}

// FreePort returns a port that nobody listened on a moment ago.
func FreePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

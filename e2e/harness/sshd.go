package harness

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
)

// SSHD is a real OpenSSH server on loopback, with keys of its own, that lets
// the test's user in with one key.
type SSHD struct {
	*Process
	Port int
	dir  string
	user string
}

// StartSSHD starts an sshd on a free port, and waits until it answers.
func StartSSHD(t testing.TB) *SSHD {
	t.Helper()
	current, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &SSHD{Port: FreePort(t), dir: t.TempDir(), user: current.Username}
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
	s.write(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", s.Port, hostKey))
	s.write(t, "sshd_config", fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey %[2]s/host
AuthorizedKeysFile %[2]s/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
`, s.Port, s.dir))
	if os.Getuid() == 0 { // its privilege separation needs this directory
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := exec.LookPath("sshd")
	if err != nil {
		program = "/usr/sbin/sshd"
	}
	s.Process = Start(t, "sshd", nil, program, "-D", "-e", "-f", filepath.Join(s.dir, "sshd_config"))
	Eventually(t, "sshd to answer", func() error {
		connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
		if err != nil {
			return err
		}
		return connection.Close()
	})
	return s
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

// URL is the location of a repository on this server.
func (s *SSHD) URL(path string) string {
	return fmt.Sprintf("ssh://%s@127.0.0.1:%d%s", s.user, s.Port, path)
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

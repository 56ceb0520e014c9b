package harness

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
	argv    []string
}

// SSHDOptions are what tests choose about an sshd.
type SSHDOptions struct {
	Prefix []string // goes before its command line, to run it elsewhere
	Listen string   // address, without a port; empty means loopback
	Config []string // further lines of sshd_config
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
	s.configure(t, o.Config)
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
	s.argv = argv
	s.start(t)
	return s
}

func (s *SSHD) start(t testing.TB) {
	t.Helper()
	s.Process = Start(t, "sshd", nil, s.argv...)
	t.Cleanup(s.EndSessions) // they would outlive it
	Eventually(t, "sshd to answer", func() error {
		connection, err := net.Dial("tcp", s.HostPort())
		if err != nil {
			return err
		}
		return connection.Close()
	})
}

// Restart starts the server again, after Kill, at the same address.
func (s *SSHD) Restart(t testing.TB) {
	t.Helper()
	s.start(t)
}

// ChangeHostKey puts another server in this one's place: it has the same address
// and another key, and nobody's connection is kept.
func (s *SSHD) ChangeHostKey(t testing.TB) {
	t.Helper()
	sessions := children(s.PID())
	s.Kill()
	killAll(sessions)
	for _, name := range []string{"host", "host.pub"} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if r := Run(t, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, "host")); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	s.start(t)
}

// configure makes keys, and a configuration that knows no others. Of two lines
// about the same thing sshd takes the first.
func (s *SSHD) configure(t testing.TB, lines []string) {
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
	s.write(t, "sshd_config", strings.Join(lines, "\n")+"\n"+fmt.Sprintf(`Port %d
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
# The home is empty: start files of the user's own may take long, or fail.
SetEnv BORG_HOST_ID=server@test HOME=%[3]s/home
`, s.Port, s.Address, s.dir))
	if err := os.MkdirAll(filepath.Join(s.dir, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// EndSessions breaks all connections to the server.
func (s *SSHD) EndSessions() {
	if s.Alive() { // else its id may be another process's
		killAll(children(s.PID()))
	}
}

func killAll(pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// children are the processes whose parent has this id.
func children(parent int) (found []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		var state string
		var pid, itsParent int
		_, rest, _ := strings.Cut(string(stat), ") ") // the name before it may hold anything
		if _, err := fmt.Sscan(rest, &state, &itsParent); err != nil || itsParent != parent {
			continue
		}
		if _, err := fmt.Sscan(string(stat), &pid); err == nil {
			found = append(found, pid)
		}
	}
	return found
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

// HostKeyFile holds the public key with which the server proves itself.
func (s *SSHD) HostKeyFile() string { return filepath.Join(s.dir, "host.pub") }

// ClientKeyFile holds the private key that the server lets in.
func (s *SSHD) ClientKeyFile() string { return filepath.Join(s.dir, "client") }

// Allow lets in whoever has the key of a line in authorized_keys form, for what
// the line allows.
func (s *SSHD) Allow(t testing.TB, line string) {
	t.Helper()
	path := filepath.Join(s.dir, "authorized_keys")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "authorized_keys", string(text)+line+"\n")
}

// KnownHostsFile is for clients of the server, under whichever address.
func (s *SSHD) KnownHostsFile() string { return filepath.Join(s.dir, "known_hosts") }

// HostPort is where it listens.
func (s *SSHD) HostPort() string { return net.JoinHostPort(s.Address, strconv.Itoa(s.Port)) }

// URL is the location of a repository on this server.
func (s *SSHD) URL(path string) string { return s.URLAt(s.HostPort(), path) }

// URLAt is URL for those who reach the server under another address.
func (s *SSHD) URLAt(hostPort, path string) string {
	return fmt.Sprintf("ssh://%s@%s%s", s.user, hostPort, path)
}

// FreePort returns a port that nobody listened on a moment ago, below those that
// the system gives to whoever asks for any: another program does not come upon it
// before it is used.
func FreePort(t testing.TB) int {
	t.Helper()
	const from, to = 20000, 32000
	for range 100 {
		port := from + rand.IntN(to-from)
		if listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port)); err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatalf("none of 100 ports from %d to %d is free", from, to)
	return 0
}

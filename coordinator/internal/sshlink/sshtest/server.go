// Package sshtest gives tests a real OpenSSH server on loopback, with keys of
// its own, whose connections they can cut and freeze.
package sshtest

import (
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// Options are what tests choose about a server.
type Options struct {
	Config []string // lines of sshd_config; they come first, so they win over ours
	// Shell is the login shell of a user who is made for the test. Empty: who runs
	// the test logs in, with another HOME. Only root can make users; the test is skipped for others.
	Shell string
	Files map[string]string // what lies in the home directory of the user who is made: text by name
	Sudo  bool              // the user who is made may become root without a password
}

// Server is a real sshd that lets one user in with one key. It may be cut and
// frozen from any goroutine.
type Server struct {
	Address  string // user@127.0.0.1:port
	HostPort string // 127.0.0.1:port
	User     string
	Home     string     // the user's HOME, empty but for Options.Files
	HostKey  string     // its public key, in authorized_keys form
	Signer   ssh.Signer // the key that it lets in
	Identity string     // file of that key, for a real ssh client

	t   testing.TB
	dir string // readable by everybody: sshd reads the keys as the user

	mu  sync.Mutex
	cmd *exec.Cmd // nil when it is stopped
}

// Start starts a server that ends with the test, and waits until it answers.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "sshtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &Server{t: t, dir: dir, HostPort: freeAddress(t)}
	s.check(os.Chmod(dir, 0o755))
	s.account(o)
	s.Address = s.User + "@" + s.HostPort
	s.Identity = filepath.Join(dir, "client")
	s.Signer = s.key(s.Identity)
	s.NewHostKey()
	s.write("authorized_keys", string(ssh.MarshalAuthorizedKey(s.Signer.PublicKey())), 0o644)
	s.write("sshd_config", s.config(o), 0o600)
	if os.Getuid() == 0 { // its privilege separation needs this directory
		s.check(os.MkdirAll("/run/sshd", 0o755))
	}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("sshd said:\n%s", s.Log())
		}
	})
	s.Restart()
	return s
}

// config knows no keys but ours.
func (s *Server) config(o Options) string {
	_, port, _ := net.SplitHostPort(s.HostPort)
	return strings.Join(o.Config, "\n") + fmt.Sprintf(`
Port %s
ListenAddress 127.0.0.1
HostKey %[2]s/host
AuthorizedKeysFile %[2]s/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
LogLevel VERBOSE
# Borg takes the first network card's address for its host's name; here cards come and go with other tests.
SetEnv BORG_HOST_ID=server@test HOME=%s
`, port, s.dir, s.Home)
}

// NewHostKey gives the server another key; it shows it after Restart.
func (s *Server) NewHostKey() {
	s.t.Helper()
	host := s.key(filepath.Join(s.dir, "host"))
	s.HostKey = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(host.PublicKey())))
}

// LetIn replaces the keys that may log in, each in authorized_keys form.
func (s *Server) LetIn(keys ...string) {
	s.t.Helper()
	s.write("authorized_keys", strings.Join(keys, "\n")+"\n", 0o644)
}

// RSH is the ssh command that reaches this server, for borg; the host part of
// what it is given must be the server's address.
func (s *Server) RSH() string {
	_, port, _ := net.SplitHostPort(s.HostPort)
	known := filepath.Join(s.dir, "known_hosts")
	s.write("known_hosts", "* "+s.HostKey+"\n", 0o644)
	return fmt.Sprintf("ssh -F none -p %s -i %s -o IdentitiesOnly=yes -o UserKnownHostsFile=%s -o StrictHostKeyChecking=yes -o BatchMode=yes",
		port, s.Identity, known)
}

// Log is what the server has said since it was first started.
func (s *Server) Log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(text)
}

// key makes a key, keeps it in file, and returns it.
func (s *Server) key(file string) ssh.Signer {
	s.t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	s.check(err)
	block, err := ssh.MarshalPrivateKey(private, "")
	s.check(err)
	s.check(os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	signer, err := ssh.NewSignerFromKey(private)
	s.check(err)
	return signer
}

func (s *Server) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	s.check(os.WriteFile(filepath.Join(s.dir, name), []byte(text), mode))
}

func (s *Server) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// answers waits until the server shows its banner.
func (s *Server) answers() {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := banner(s.HostPort)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("sshd does not answer: %v\n%s", err, s.Log())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func banner(address string) error {
	connection, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	_, err = connection.Read(make([]byte, 4))
	return err
}

// freeAddress returns an address that nobody listened on a moment ago.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

package sshlink_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestParseAddress(t *testing.T) {
	tests := map[string]struct{ text, user, hostport string }{
		"port 22":      {"root@web1", "root", "web1:22"},
		"another port": {"backup@web1.example.net:2022", "backup", "web1.example.net:2022"},
		"IPv6":         {"root@[2001:db8::1]:22", "root", "[2001:db8::1]:22"},
		"no user":      {"web1", "", ""},
		"no host":      {"root@", "", ""},
		"an option":    {"root@-oProxyCommand=x", "", ""},
		"no port":      {"root@web1:ssh", "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			user, hostport, err := sshlink.ParseAddress(test.text)
			if user != test.user || hostport != test.hostport || (err == nil) != (test.user != "") {
				t.Errorf("it is %q, %q, %v", user, hostport, err)
			}
		})
	}
}

func TestHostKeys(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	other := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(otherKey(t).PublicKey())))
	const rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDMVdfLrvfwXH3mqMqMzQqvQjY3ExAhGEN/uAvRI1gnHAIpKXRsXbqwiQ1SjtXfOlAxq3RGbYUEZbcsFSmySCLMh5a6cPmTHGBqYvJ0ZhKWYKhyrRk5NbCWGfqdqeOwZv/Q9K2DJkfRYLwhRBnuXyT2qxWtbTZHoY9Z3dkI/0c7Iw=="
	fingerprint := func(key string) string {
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return ssh.FingerprintSHA256(public)
	}
	tests := map[string]struct {
		keys  []string
		code  job.Code // empty: it is let in
		words []string
	}{
		"its key":              {keys: []string{s.HostKey}},
		"among others":         {keys: []string{other, s.HostKey + " comment"}},
		"another key":          {[]string{other}, job.HostKeyChanged, []string{fingerprint(other), fingerprint(s.HostKey), "borgfleet host set web1 --host-key"}},
		"a key of other types": {[]string{rsa}, job.HostKeyChanged, []string{fingerprint(rsa), "none of their type"}},
		"no key":               {nil, job.InvalidRequest, []string{"no host key of host web1"}},
		"not a key":            {[]string{"ssh-ed25519 nonsense"}, job.InvalidRequest, []string{"nonsense"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := config(s)
			c.HostKeys = test.keys
			f := sshlink.Check(t.Context(), c)
			if test.code == "" {
				if f != nil {
					t.Error(f)
				}
				return
			}
			wantFailure(t, f, test.code, test.words...)
			watched := connect(t, c, sshlink.Options{})
			if state := watched.until(t, "failure", func(s sshlink.State) bool { return s.Failure != nil }); !state.Final || *state.Failure != *f {
				t.Errorf("the client says %+v", state)
			}
		})
	}
}

func TestANewHostKeyIsNoticed(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	c := connect(t, config(s), sshlink.Options{})
	c.connected(t)
	s.NewHostKey()
	s.Restart()
	state := c.until(t, "failure", func(s sshlink.State) bool {
		c.Poke()
		return s.Failure != nil && s.Failure.Code == job.HostKeyChanged
	})
	if !state.Final {
		t.Error("it is not final")
	}
	_, err := c.Exec(t.Context(), "true", nil, nil, nil)
	wantFailure(t, err, job.HostKeyChanged)
}

// listen serves connections of a server that is none.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				serve(connection)
			}()
		}
	}()
	return "root@" + listener.Addr().String()
}

func TestServersThatDropUs(t *testing.T) {
	t.Parallel()
	key := otherKey(t)
	login := func(how func(net.Conn) error) func(net.Conn) {
		return func(c net.Conn) {
			config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, how(c) }}
			config.AddHostKey(key)
			ssh.NewServerConn(c, config)
		}
	}
	unheard := func(t *testing.T) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		return "root@" + listener.Addr().String()
	}
	tests := map[string]struct {
		address string
		code    job.Code
		word    string
	}{
		"nobody listens":        {unheard(t), job.HostUnreachable, "connection refused"},
		"no such name":          {"root@no-such-host.invalid:22", job.HostUnreachable, "no-such-host.invalid"},
		"at once":               {listen(t, func(net.Conn) {}), job.HostUnreachable, "cannot be reached"},
		"after its banner":      {listen(t, func(c net.Conn) { io.WriteString(c, "SSH-2.0-test\r\n") }), job.HostUnreachable, "cannot be reached"},
		"not SSH":               {listen(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); io.Copy(io.Discard, c) }), job.HostUnreachable, "cannot be reached"},
		"silent":                {listen(t, func(c net.Conn) { io.Copy(io.Discard, c) }), job.HostUnreachable, "no answer in time"},
		"in mid-login":          {listen(t, login(func(c net.Conn) error { return c.Close() })), job.HostUnreachable, "while we logged in: it closed the connection"},
		"silent in mid-login":   {listen(t, login(func(net.Conn) error { <-t.Context().Done(); return errors.New("no") })), job.HostUnreachable, "no answer in time"},
		"a key that it refuses": {listen(t, login(func(net.Conn) error { return errors.New("no") })), job.PermissionDenied, "authorized_keys"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := connect(t, sshlink.Config{
				Host: "web1", Address: test.address, Signer: otherKey(t),
				HostKeys: []string{string(ssh.MarshalAuthorizedKey(key.PublicKey()))},
			}, sshlink.Options{Patience: 2 * time.Second})
			state := c.until(t, "failure", func(s sshlink.State) bool {
				return s.Failure != nil && strings.Contains(s.Failure.Error(), test.word)
			})
			wantFailure(t, state.Failure, test.code, "web1", test.address)
			if state.Final != (test.code == job.PermissionDenied) {
				t.Errorf("final is %v", state.Final)
			}
		})
	}
}

func TestJumpServers(t *testing.T) {
	first, second, last := sshtest.Start(t, sshtest.Options{}), sshtest.Start(t, sshtest.Options{}), sshtest.Start(t, sshtest.Options{})
	hop := func(s *sshtest.Server) fleet.SSHHop {
		return fleet.SSHHop{Address: s.Address, HostKeys: []string{s.HostKey}}
	}
	key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(last.Signer.PublicKey())))
	first.LetIn(key)
	second.LetIn(key)
	way := config(last)
	way.Jump = []fleet.SSHHop{hop(first), hop(second)}
	c := connect(t, way, sshlink.Options{})
	c.connected(t)
	if got := answer(t, c.Client, "echo $SSH_CONNECTION | cut -d' ' -f4", ""); !strings.HasSuffix(last.Address, ":"+strings.TrimSpace(got)) {
		t.Errorf("it answers %q", got)
	}
	first.Drop()
	c.until(t, "notice that a server on the way dropped us", func(s sshlink.State) bool { return !s.Connected })
	c.connected(t)

	shown, err := sshlink.Scan(t.Context(), last.Address, way.Jump, last.Signer)
	if want := []fleet.ShownKey{{Address: last.Address, Key: last.HostKey, Fingerprint: shown[0].Fingerprint}}; err != nil || !cmp.Equal(shown, want) {
		t.Errorf("Scan shows %+v, %v", shown, err)
	}

	strange := way
	strange.Jump = []fleet.SSHHop{hop(first), {Address: second.Address, HostKeys: []string{first.HostKey}}}
	wantFailure(t, sshlink.Check(t.Context(), strange), job.HostKeyChanged, "the jump server ("+second.Address+")")
	second.LetIn()
	wantFailure(t, sshlink.Check(t.Context(), way), job.PermissionDenied, "the jump server ("+second.Address+")", "authorized_keys")
	second.LetIn("restrict " + key)
	wantFailure(t, sshlink.Check(t.Context(), way), job.PermissionDenied, "does not let us through", "AllowTcpForwarding")
	second.LetIn(key)
	last.Stop()
	wantFailure(t, sshlink.Check(t.Context(), way), job.HostUnreachable, "from the jump server", "refused")
}

func TestAFrozenJumpServerIsGivenUp(t *testing.T) {
	t.Parallel()
	gate, last := sshtest.Start(t, sshtest.Options{}), sshtest.Start(t, sshtest.Options{})
	gate.LetIn(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(last.Signer.PublicKey()))))
	way := config(last)
	way.Jump = []fleet.SSHHop{{Address: gate.Address, HostKeys: []string{gate.HostKey}}}
	c := connect(t, way, sshlink.Options{Keepalive: 500 * time.Millisecond, Patience: 2 * time.Second})
	c.connected(t)
	gate.Freeze()
	defer gate.Thaw()
	c.until(t, "notice of the silence", func(s sshlink.State) bool { return !s.Connected && strings.Contains(s.Failure.Message, "not answered") })
	gate.Thaw()
	c.connected(t)
	last.Freeze() // now in mid-login, behind a server that answers
	defer last.Thaw()
	c.until(t, "notice of the silence behind it", func(s sshlink.State) bool {
		return !s.Connected && strings.Contains(s.Failure.Message, "no answer in time")
	})
}

// TestServersWithSeveralKeys holds that the key that is known is the one that is
// asked for, whichever the server likes best.
func TestServersWithSeveralKeys(t *testing.T) {
	var lines []string
	public := map[string]string{}
	for _, name := range []string{"rsa", "ecdsa"} {
		file := filepath.Join(t.TempDir(), name)
		if said, err := exec.Command("ssh-keygen", "-q", "-t", name, "-N", "", "-C", "", "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		text, err := os.ReadFile(file + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		lines, public[name] = append(lines, "HostKey "+file), strings.TrimSpace(string(text))
	}
	s := sshtest.Start(t, sshtest.Options{Config: lines})
	shown, err := sshlink.Scan(t.Context(), s.Address, nil, otherKey(t))
	if err != nil || len(shown) != 3 {
		t.Fatalf("it shows %+v, %v", shown, err)
	}
	for i, want := range []string{s.HostKey, public["ecdsa"], public["rsa"]} {
		if shown[i].Key != want {
			t.Errorf("key %d is %s, want %s", i, shown[i].Key, want)
		}
		c := config(s)
		c.HostKeys = []string{want}
		if f := sshlink.Check(t.Context(), c); f != nil {
			t.Errorf("with %s alone: %v", want, f)
		}
	}
}

func TestScan(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	shown, err := sshlink.Scan(t.Context(), s.Address, nil, otherKey(t))
	if err != nil || len(shown) != 1 || shown[0].Key != s.HostKey || !strings.HasPrefix(shown[0].Fingerprint, "SHA256:") {
		t.Errorf("it shows %+v, %v", shown, err)
	}
	if strings.Contains(s.Log(), "Accepted") {
		t.Error("it logged in")
	}
	s.Stop()
	_, err = sshlink.Scan(t.Context(), s.Address, nil, otherKey(t))
	wantFailure(t, err, job.HostUnreachable, "the server ("+s.Address+")", "refused")
	_, err = sshlink.Scan(t.Context(), "nobody", nil, otherKey(t))
	wantFailure(t, err, job.InvalidRequest)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := sshlink.Scan(ctx, listen(t, func(c net.Conn) { io.Copy(io.Discard, c) }), nil, otherKey(t)); err == nil {
		t.Error("it goes on though its context has ended")
	}
}

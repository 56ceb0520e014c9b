package depot_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/agent/internal/depot"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// server is what a depot is to an agent: it lets one key in, whatever the user's
// name, and runs borg serve in a directory.
type server struct {
	t       *testing.T
	address string
	key     string // in authorized_keys form
	dir     string
	client  atomic.Value // key that is let in, in authorized_keys form
	config  *ssh.ServerConfig
}

func signer(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return public, pem.EncodeToMemory(block)
}

func authorized(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func serve(t *testing.T) *server {
	t.Helper()
	own, _ := signer(t)
	s := &server{t: t, key: authorized(own.PublicKey()), dir: t.TempDir()}
	s.config = &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if authorized(key) != s.client.Load() {
			return nil, errors.New("not this key")
		}
		return nil, nil
	}}
	s.config.AddHostKey(own)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s.address = listener.Addr().String()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.talk(conn)
		}
	}()
	return s
}

// talk runs borg serve in a session, whatever the client asks for.
func (s *server) talk(conn net.Conn) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for opened := range channels {
		channel, requests, err := opened.Accept()
		if err != nil {
			return
		}
		for request := range requests {
			_ = request.Reply(request.Type == "exec", nil)
			if request.Type != "exec" {
				continue
			}
			cmd := exec.Command("borg", "serve", "--restrict-to-repository", filepath.Join(s.dir, "vault"))
			cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, channel, channel.Stderr()
			input, err := cmd.StdinPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				s.t.Error(err)
				return
			}
			go func() { _, _ = io.Copy(input, channel); input.Close() }()
			_ = cmd.Wait()
			_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, byte(cmd.ProcessState.ExitCode())})
			_ = channel.Close()
		}
	}
}

// enrolled returns the state directory of an agent that the server lets in. Its
// name is as awkward as a name may be.
func (s *server) enrolled() string {
	s.t.Helper()
	data := filepath.Join(s.t.TempDir(), "it's my 100%h data")
	public, private := signer(s.t)
	s.client.Store(authorized(public.PublicKey()))
	if err := os.MkdirAll(filepath.Join(data, "ssh"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "ssh", "depot"), private, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return data
}

func (s *server) order() bus.Order {
	return bus.Order{
		Kind: job.List, Repository: job.Repository{Name: "vault", Location: bus.DepotURL("vault")},
		Depot: &bus.Depot{Address: s.address, HostKey: s.key + " a comment"},
	}
}

// TestBorgReachesTheDepot runs borg over the real ssh.
func TestBorgReachesTheDepot(t *testing.T) {
	s := serve(t)
	way := depot.New(s.enrolled())
	rsh, failure := way.RSH(t.Context(), s.order())
	if failure != nil {
		t.Fatal(failure)
	}
	run := func(args ...string) ([]byte, error) {
		cmd := exec.Command("borg", args...)
		cmd.Env = append(borg.Inherit(os.Environ()), "LC_ALL=C.UTF-8", "BORG_RSH="+rsh, "BORG_BASE_DIR="+t.TempDir(),
			"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes")
		return cmd.CombinedOutput()
	}
	if said, err := run("init", "--encryption=none", bus.DepotURL("vault")); err != nil {
		t.Fatalf("init: %v\n%s", err, said)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "vault", "config")); err != nil {
		t.Error(err)
	}
	// Borg does not always pass on all that ssh has said before it ended.
	refused := func(words string) {
		t.Helper()
		patience.Until(t, "borg says: "+words, func() bool {
			said, err := run("list", bus.DepotURL("vault"))
			if err == nil {
				t.Fatalf("it was let in:\n%s", said)
			}
			return strings.Contains(string(said), words)
		})
	}
	s.client.Store("")
	refused("Permission denied")
	order := s.order()
	order.Depot.Address = serve(t).address
	if rsh, failure = way.RSH(t.Context(), order); failure != nil {
		t.Fatal(failure)
	}
	refused("Host key verification failed")
}

func TestRSH(t *testing.T) {
	s := serve(t)
	data := s.enrolled()
	with := func(change func(*bus.Order)) bus.Order {
		order := s.order()
		change(&order)
		return order
	}
	tests := map[string]struct {
		data  string
		order bus.Order
		code  job.Code // empty: no failure
		says  string   // in the failure, or in the command
	}{
		"not in the depot": {data, with(func(o *bus.Order) { o.Depot = nil }), "", ""},
		"in the depot":     {data, s.order(), "", "-oHostKeyAlias=borgfleet-depot"},
		"no address":       {data, with(func(o *bus.Order) { o.Depot.Address = "" }), job.HostUnreachable, "depot.address"},
		"no port":          {data, with(func(o *bus.Order) { o.Depot.Address = "depot.example" }), job.HostUnreachable, "no address"},
		"an option":        {data, with(func(o *bus.Order) { o.Depot.Address = "-oProxyCommand=x:22" }), job.HostUnreachable, "no address"},
		"two words":        {data, with(func(o *bus.Order) { o.Depot.Address = "a -oProxyCommand=b:22" }), job.HostUnreachable, "no address"},
		"no key":           {data, with(func(o *bus.Order) { o.Depot.HostKey = "" }), job.Internal, "by which key"},
		"not enrolled":     {t.TempDir(), s.order(), job.KeyMissing, "borgfleet-agent rotate"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			rsh, failure := depot.New(test.data).RSH(t.Context(), test.order)
			if test.code == "" {
				if failure != nil || (test.says == "") != (rsh == "") || !strings.Contains(rsh, test.says) {
					t.Errorf("got %q, %v", rsh, failure)
				}
				return
			}
			if failure == nil || failure.Code != test.code || failure.Retryable || !strings.Contains(failure.Error(), test.says) {
				t.Errorf("got %+v, want %s that says %q", failure, test.code, test.says)
			}
		})
	}
}

// TestKeyOfTheNewestOrder: the file is as the newest order says.
func TestKeyOfTheNewestOrder(t *testing.T) {
	s := serve(t)
	data := s.enrolled()
	way := depot.New(data)
	order := s.order()
	for range 2 {
		if _, failure := way.RSH(t.Context(), order); failure != nil {
			t.Fatal(failure)
		}
		text, err := os.ReadFile(filepath.Join(data, "depot_known_hosts"))
		key, _, _ := strings.Cut(order.Depot.HostKey, " a comment")
		if want := "borgfleet-depot " + key + "\n"; err != nil || !strings.HasSuffix(string(text), want) {
			t.Errorf("%q (%v); want it to end with %q", text, err, want)
		}
		another, _ := signer(t)
		order.Depot = &bus.Depot{Address: order.Depot.Address, HostKey: authorized(another.PublicKey())}
	}
}

func TestCheck(t *testing.T) {
	s := serve(t)
	data := s.enrolled()
	way := depot.New(data)
	check := func(code job.Code, says string) {
		t.Helper()
		address, err := way.Check(t.Context())
		if code == "" {
			if err != nil || address != says {
				t.Errorf("got %q, %v, want %q", address, err, says)
			}
			return
		}
		if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Code != code || !strings.Contains(failure.Error(), says) {
			t.Errorf("got %v, want %s that says %q", err, code, says)
		}
	}
	order := func(change func(*bus.Depot)) {
		t.Helper()
		o := s.order()
		change(o.Depot)
		if _, failure := way.RSH(context.Background(), o); failure != nil {
			t.Fatal(failure)
		}
	}
	check("", "")
	order(func(*bus.Depot) {})
	check("", s.address)
	another, _ := signer(t)
	order(func(d *bus.Depot) { d.HostKey = authorized(another.PublicKey()) })
	check(job.HostKeyChanged, ssh.FingerprintSHA256(another.PublicKey()))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := silent.Accept()
		if err == nil {
			conn.Close()
		}
	}()
	order(func(d *bus.Depot) { d.Address = silent.Addr().String() })
	check(job.HostUnreachable, "does not behave")
	silent.Close()
	check(job.HostUnreachable, "cannot be reached")
}

// TestOneAlias: the name in URLs is the one under which ssh knows the depot.
func TestOneAlias(t *testing.T) {
	if bus.DepotHost != borg.DepotAlias {
		t.Errorf("%q is not %q", bus.DepotHost, borg.DepotAlias)
	}
}

package sshlink_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// watched is a client that runs, and the states that it has told.
type watched struct {
	*sshlink.Client
	mu     sync.Mutex
	states []sshlink.State
}

// connect runs a client until the test ends.
func connect(t *testing.T, c sshlink.Config, o sshlink.Options) *watched {
	t.Helper()
	w := &watched{}
	o.Changed = func(s sshlink.State) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.states = append(w.states, s)
	}
	w.Client = sshlink.New(c, o)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run returns %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run does not return")
		}
	})
	return w
}

// until waits for a state.
func (w *watched) until(t *testing.T, what string, is func(sshlink.State) bool) sshlink.State {
	t.Helper()
	var state sshlink.State
	patience.Until(t, what, func() bool {
		state = w.State()
		return is(state)
	})
	return state
}

func (w *watched) connected(t *testing.T) {
	t.Helper()
	w.until(t, "a connection", func(s sshlink.State) bool {
		if !s.Connected {
			w.Poke()
		}
		return s.Connected
	})
}

// told returns the states that were told so far.
func (w *watched) told() []sshlink.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]sshlink.State(nil), w.states...)
}

// config is how a server for tests is reached.
func config(s *sshtest.Server) sshlink.Config {
	return sshlink.Config{Host: "web1", Address: s.Address, HostKeys: []string{s.HostKey}, Signer: s.Signer}
}

// otherKey is a key that nobody knows.
func otherKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// answer runs a script and returns what it prints.
func answer(t *testing.T, c *sshlink.Client, script, input string) string {
	t.Helper()
	var out, errs bytes.Buffer
	code, err := c.Exec(t.Context(), script, []byte(input), &out, &errs)
	if err != nil || code != 0 || errs.Len() > 0 {
		t.Fatalf("%s: code %d, %v, stderr %q", script, code, err, errs.String())
	}
	return out.String()
}

func wantFailure(t *testing.T, err error, code job.Code, words ...string) {
	t.Helper()
	f := job.AsFailure(err)
	if f == nil || f.Code != code {
		t.Fatalf("failure is %#v, want %s", f, code)
	}
	for _, word := range words {
		if !strings.Contains(f.Error(), word) {
			t.Errorf("failure %q does not mention %q", f.Error(), word)
		}
	}
}

func TestClientConnectsAgainAfterALoss(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	c := connect(t, config(s), sshlink.Options{})
	_, err := c.Exec(t.Context(), "true", nil, nil, nil)
	if err != nil && job.AsFailure(err).Code != job.HostUnreachable {
		t.Errorf("before there is a connection it fails with %v", err)
	}
	c.connected(t)
	s.Drop()
	c.until(t, "notice of the loss", func(s sshlink.State) bool { return !s.Connected })
	c.connected(t)
	if got := answer(t, c.Client, "echo back", ""); got != "back\n" {
		t.Errorf("it answers %q", got)
	}
	s.Stop()
	lost := c.until(t, "failure", func(s sshlink.State) bool {
		c.Poke()
		return !s.Connected && strings.Contains(s.Failure.Message, "refused")
	})
	wantFailure(t, lost.Failure, job.HostUnreachable, "web1", s.Address, "firewall")
	if lost.Final {
		t.Error("that a server is down counts as final")
	}
	_, err = c.Exec(t.Context(), "true", nil, nil, nil)
	wantFailure(t, err, job.HostUnreachable, "web1")
	s.Restart()
	c.connected(t)
	for i, state := range c.told()[1:] {
		if before := c.told()[i]; before.Connected == state.Connected && before.Connected {
			t.Errorf("state %d is told twice", i)
		}
	}
}

func TestClientTellsAnUnchangedFailureOnce(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	s.LetIn()
	c := connect(t, config(s), sshlink.Options{})
	for tries := 1; tries < 4; tries++ {
		patience.Until(t, "try", func() bool {
			c.Poke()
			return strings.Count(s.Log(), "Connection closed by authenticating user") >= tries
		})
	}
	states := c.told()
	if len(states) != 1 || !states[0].Final || states[0].Connected {
		t.Fatalf("told are %+v, want one final failure", states)
	}
	key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.Signer.PublicKey())))
	wantFailure(t, states[0].Failure, job.PermissionDenied, "web1", s.User, key)
	s.LetIn(key)
	c.connected(t)
}

func TestClientGivesUpASilentHost(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	c := connect(t, config(s), sshlink.Options{Keepalive: 500 * time.Millisecond, Patience: 2 * time.Second})
	c.connected(t)
	ended := make(chan error, 1)
	began := newSignal("began")
	go func() {
		_, err := c.Exec(t.Context(), "echo began; exec sleep 20", nil, began, nil)
		ended <- err
	}()
	began.wait(t)
	s.Freeze()
	defer s.Thaw()
	state := c.until(t, "notice of the silence", func(s sshlink.State) bool { return !s.Connected })
	wantFailure(t, state.Failure, job.HostUnreachable, "not answered for 1.5s")
	wantFailure(t, <-ended, job.ConnectionLost, "not answered for 1.5s")
	c.until(t, "notice that nobody answers", func(s sshlink.State) bool {
		return s.Failure != nil && strings.Contains(s.Failure.Message, "no answer in time")
	})
	s.Thaw()
	c.connected(t)
}

// signal is a writer that waits for words.
type signal struct {
	mu    sync.Mutex
	words string
	got   bytes.Buffer
	seen  chan struct{}
}

func newSignal(words string) *signal { return &signal{words: words, seen: make(chan struct{})} }

func (s *signal) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := strings.Contains(s.got.String(), s.words)
	s.got.Write(data)
	if !was && strings.Contains(s.got.String(), s.words) {
		close(s.seen)
	}
	return len(data), nil
}

func (s *signal) wait(t *testing.T) {
	t.Helper()
	select {
	case <-s.seen:
	case <-time.After(60 * time.Second):
		t.Fatalf("%q does not come", s.words)
	}
}

// Whoever wants the host now gets it over the one connection, or learns why not.
func TestTry(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	good := sshlink.New(config(s), sshlink.Options{Keepalive: time.Hour})
	go func() { _ = good.Run(t.Context()) }() // it ends with the test
	for range 3 {
		if f := good.Try(t.Context()); f != nil {
			t.Fatal(f)
		}
	}
	if n := s.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
	c := config(s)
	c.Address = "root@127.0.0.1:1"
	away := sshlink.New(c, sshlink.Options{})
	go func() { _ = away.Run(t.Context()) }()
	for range 3 { // also the same failure once more
		wantFailure(t, away.Try(t.Context()), job.HostUnreachable, "127.0.0.1:1")
	}
}

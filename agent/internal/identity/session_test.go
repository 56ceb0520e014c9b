package identity_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/agent/internal/identity"
	"github.com/borgfleet/borgfleet/agent/internal/uplink"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/journal"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// nobody asks the agent for anything in here.
type nobody struct{ uplink.Handler }

func (nobody) Settle(context.Context, []bus.Verdict) error { return nil }

// start runs the session of an agent.
func start(t *testing.T, r identity.Rotation) *uplink.Uplink {
	t.Helper()
	store, err := journal.Open(journal.Options{Path: filepath.Join(t.TempDir(), "journal.db"), Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	u := uplink.New(uplink.Options{
		Host: r.Host, Instance: "RUN", URLs: r.URLs, Credentials: r.Credentials, TLS: r.TLS, Explain: identity.Explain, Journal: store, Handler: nobody{},
		Identity: func() bus.Hello { return bus.Hello{} }, Logger: hclog.NewNullLogger(),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

func TestARunningAgentTakesTheNewCredentials(t *testing.T) {
	c, _, r := enrolled(t)
	hellos := make(chan struct{}, 64)
	if _, err := c.conn.Subscribe(bus.AllHellos, func(msg *nats.Msg) {
		data, err := json.Marshal(bus.HelloReply{At: time.Now()})
		if err == nil {
			err = msg.Respond(data)
		}
		if err != nil {
			t.Error(err)
		}
		hellos <- struct{}{}
	}); err != nil {
		t.Fatal(err)
	}
	u := start(t, r)
	patience.Until(t, "connected", func() bool { return u.Status().Connected && !u.Status().HelloAt.IsZero() })
	if end := u.Status().CertificateExpires; time.Until(end) < time.Hour {
		t.Errorf("certificate expires %s", end)
	}
	before := publicKey(t, r)
	if _, err := r.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	since := u.Status().Since
	c.revoke(before)
	cut := time.Now()
	patience.Until(t, "connected anew", func() bool { return u.Status().Connected && u.Status().Since.After(since) })
	t.Logf("away for %s", time.Since(cut))
	patience.Until(t, "a hello over the new connection", func() bool { return u.Status().HelloAt.After(cut) })
}

// TestAnAgentWhoseCredentialsEndedGoesOnTrying is about one that finds good ones
// only after it was refused many times.
func TestAnAgentWhoseCredentialsEndedGoesOnTrying(t *testing.T) {
	c, p, r := enrolled(t)
	u := start(t, r)
	patience.Until(t, "connected", func() bool { return u.Status().Connected })
	c.revoke(publicKey(t, r))
	patience.Until(t, "refused, and said so", func() bool {
		s := u.Status()
		return !s.Connected && strings.Contains(s.Error, "does not accept the credentials") && s.Hint != ""
	})
	if _, err := identity.Enrol(t.Context(), p.enrolment(c.token())); err != nil {
		t.Fatal(err)
	}
	patience.Until(t, "connected with the new ones", func() bool { return u.Status().Connected })
}

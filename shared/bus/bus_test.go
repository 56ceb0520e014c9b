package bus_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func signer(t *testing.T) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public
}

func TestOrderIsBelievedOnlyFromItsCoordinatorForThisHostInTime(t *testing.T) {
	pair, public := signer(t)
	_, stranger := signer(t)
	now := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	order := bus.Order{Host: "web1", Job: job.NewID(now), Attempt: 1, IssuedAt: now, ExpiresAt: now.Add(bus.OrderLifetime), Kind: job.Backup, Spec: []byte(`{}`)}
	envelope, err := bus.SignOrder(order, pair)
	if err != nil {
		t.Fatal(err)
	}
	got, err := bus.OpenOrder(envelope, public, "web1", now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(order, got); diff != "" {
		t.Error(diff)
	}
	changed := bus.Envelope{Body: append([]byte(" "), envelope.Body...), Signature: envelope.Signature}
	for name, c := range map[string]struct {
		envelope bus.Envelope
		signer   string
		host     string
		at       time.Time
		want     error
	}{
		"another signer": {envelope, stranger, "web1", now, bus.ErrSignature},
		"changed body":   {changed, public, "web1", now, bus.ErrSignature},
		"no signature":   {bus.Envelope{Body: envelope.Body}, public, "web1", now, bus.ErrSignature},
		"another host":   {envelope, public, "db1", now, bus.ErrWrongHost},
		"too late":       {envelope, public, "web1", now.Add(bus.OrderLifetime + time.Second), bus.ErrStale},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := bus.OpenOrder(c.envelope, c.signer, c.host, c.at); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestHostOf(t *testing.T) {
	for subject, want := range map[string]string{
		bus.HelloSubject("web1"):                      "web1",
		bus.EventSubject("db-2", "01J"):               "db-2",
		bus.ProgressSubject("a", "01J"):               "a",
		"borgfleet.v1.agent.web1":                     "",
		"borgfleet.v1.agent.*.hello":                  "",
		"borgfleet.v1.agent..hello":                   "",
		"borgfleet.v1.cmd.web1.order":                 "",
		"":                                            "",
		"borgfleet.v1.agent.WEB.hello":                "",
		"evil.borgfleet.v1.agent.web1.hello":          "",
		"borgfleet.v1.agent.borgfleet.v1.agent.hello": "borgfleet",
	} {
		got, err := bus.HostOf(subject)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", subject, got, err)
		}
	}
}

func TestOwnInbox(t *testing.T) {
	for reply, want := range map[string]bool{
		"_INBOX.web1.abc":   true,
		"_INBOX.web1.a.b":   true,
		"_INBOX.web1":       false,
		"_INBOX.web12.abc":  false,
		"_INBOX.web1.>":     false,
		"_INBOX.web1.*":     false,
		"$JS.API.INFO":      false,
		"":                  false,
		"x._INBOX.web1.abc": false,
	} {
		if got := bus.OwnInbox("web1", reply); got != want {
			t.Errorf("%q: %t", reply, got)
		}
	}
}

func TestFromCoordinator(t *testing.T) {
	own := bus.PrivateInbox(bus.AgentsConnection)
	for reply, want := range map[string]bool{
		own + ".abc":                     true,
		own:                              false,
		own + ".>":                       false,
		own + "x.abc":                    false,
		bus.PrivateInbox("api") + ".abc": false,
		"_INBOX.coordinator.abc":         false,
		"":                               false,
	} {
		if got := bus.FromCoordinator(reply); got != want {
			t.Errorf("%q: %t", reply, got)
		}
	}
}

func TestEventIDNamesOneEvent(t *testing.T) {
	seen := map[string]bool{}
	for attempt := range 12 {
		for seq := range 12 {
			for _, journal := range []string{"", "A", "B"} {
				id := bus.EventID(bus.Event{Event: job.Event{Job: "01J", Attempt: attempt, Seq: seq}, Stamp: bus.Stamp{Journal: journal}})
				if seen[id] {
					t.Errorf("%s names two events", id)
				}
				seen[id] = true
			}
		}
	}
}

func TestFromOperator(t *testing.T) {
	for reply, want := range map[string]bool{
		"_R_.abc":    true,
		"_R_.a.b":    true,
		"_R_":        false,
		"_R_x.abc":   false,
		"_INBOX.abc": false,
		"_R_.*":      false,
		"":           false,
	} {
		if got := bus.FromOperator(reply); got != want {
			t.Errorf("%q: %t", reply, got)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.9.0.1": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.example.net": false, "web1": false, "10.0.0.7": false, "0.0.0.0": false, "::": false,
	} {
		if got := bus.IsLoopback(host); got != want {
			t.Errorf("IsLoopback(%q) = %v", host, got)
		}
	}
}

func TestCheckInstance(t *testing.T) {
	for text, want := range map[string]bool{
		rand.Text(): true, "a1": true,
		"": false, "a.b": false, ">": false, "*": false, "a b": false, strings.Repeat("A", 65): false, "ä": false,
	} {
		if err := bus.CheckInstance(text); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWhoHasSomethingToTellIsBackSoon(t *testing.T) {
	for failures := range 40 {
		if d := bus.UrgentDelay(failures); d <= 0 || d > bus.UrgentGap+50*time.Millisecond {
			t.Errorf("after %d failures: %s", failures, d)
		}
		if d := bus.ReconnectDelay(failures); d <= 0 || d > bus.MaxReconnectGap+50*time.Millisecond {
			t.Errorf("at rest, after %d failures: %s", failures, d)
		}
	}
}

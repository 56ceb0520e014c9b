package agentlink_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/agentlink"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestPresent(t *testing.T) {
	b := startBroker(t, t.TempDir())
	link := agentlink.New(b.Agents(), b.Signer())
	if link.Present(t.Context(), "web1", "A") {
		t.Error("a run is there before its host is")
	}
	web1 := connect(t, b, "web1")
	for instance, answer := range map[string]func(*nats.Msg){
		"A": func(m *nats.Msg) { _ = m.Respond(encode(t, bus.Presence{Instance: "A"})) },
		"B": func(m *nats.Msg) { _ = m.Respond(encode(t, bus.Presence{Instance: "A"})) },
	} {
		if _, err := web1.Subscribe(bus.PresenceSubject("web1", instance), answer); err != nil {
			t.Fatal(err)
		}
	}
	if err := web1.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	for instance, want := range map[string]bool{"A": true, "B": false, "D": false} {
		if got := link.Present(t.Context(), "web1", instance); got != want {
			t.Errorf("run %s is there: %t", instance, got)
		}
	}
}

// TestSilenceIsWaitedForOnce: a host that is connected and answers nothing could
// keep the hellos of others waiting, with a new run in each of its own.
func TestSilenceIsWaitedForOnce(t *testing.T) {
	b := startBroker(t, t.TempDir())
	link := agentlink.New(b.Agents(), b.Signer())
	rogue, web1 := connect(t, b, "rogue"), connect(t, b, "web1")
	var asked atomic.Int32
	_, err := rogue.Subscribe(bus.PresenceSubject("rogue", "*"), func(*nats.Msg) { asked.Add(1) })
	_, err2 := web1.Subscribe(bus.PresenceSubject("web1", "A"), func(m *nats.Msg) { _ = m.Respond(encode(t, bus.Presence{Instance: "A"})) })
	if err := errors.Join(err, err2, rogue.FlushTimeout(patience), web1.FlushTimeout(patience)); err != nil {
		t.Fatal(err)
	}
	if link.Present(t.Context(), "rogue", "A") {
		t.Error("a run that does not answer is there")
	}
	for _, instance := range []string{"B", "C", "D"} {
		if !link.Present(t.Context(), "rogue", instance) {
			t.Errorf("run %s was waited for", instance)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times; want once", n)
	}
	if !link.Present(t.Context(), "web1", "A") || link.Present(t.Context(), "web1", "B") {
		t.Error("another host was not asked")
	}
}

func TestAnInstanceThatIsNoWordIsNotHeard(t *testing.T) {
	b, s := startBroker(t, t.TempDir()), newService()
	receive(t, b, s)
	web1 := connect(t, b, "web1")
	hello(t, web1, "web1") // somebody listens
	for _, instance := range []string{"x.>", ">", "a b", "x.order"} {
		if err := web1.PublishRequest(bus.HelloSubject("web1"), bus.InboxPrefix("web1")+".x",
			encode(t, bus.Hello{Host: "web1", Instance: instance})); err != nil {
			t.Fatal(err)
		}
		hello(t, web1, "web1") // the one before it is done
	}
	s.look(func() {
		for _, h := range s.hellos {
			if h.Instance != "" {
				t.Errorf("heard of %q", h.Instance)
			}
		}
	})
}

// The coordinator orders nothing before it has read what hosts told while it
// was away.
func TestCaughtUpIsToldAfterTheBacklog(t *testing.T) {
	b, s := startBroker(t, t.TempDir()), newService()
	stop := receive(t, b, s)
	s.until(t, "an empty stream", func() bool { return len(s.caughtUp) == 1 && s.caughtUp[0] == 0 })
	stop()
	web1 := connect(t, b, "web1")
	id := job.NewID(time.Now())
	const backlog = 600 // more than a batch
	for seq := 1; seq <= backlog; seq++ {
		tell(t, web1, bus.EventSubject("web1", id), event("web1", id, seq))
	}
	again := newService()
	receive(t, b, again)
	again.until(t, "the backlog", func() bool { return len(again.caughtUp) == 1 })
	again.look(func() {
		if again.caughtUp[0] < backlog {
			t.Errorf("told after %d events of %d", again.caughtUp[0], backlog)
		}
	})
}

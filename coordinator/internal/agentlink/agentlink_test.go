package agentlink_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/borgfleet/borgfleet/coordinator/internal/agentlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestHelloIsAnsweredByWhatTheCoordinatorSays(t *testing.T) {
	b, s := startBroker(t, t.TempDir()), newService()
	receive(t, b, s)
	web1 := connect(t, b, "web1")
	reply := hello(t, web1, "web1")
	if len(reply.Verdicts) != 1 || reply.Verdicts[0].Action != bus.Keep {
		t.Errorf("reply %+v", reply)
	}
	s.look(func() {
		if s.hellos[0].Host != "web1" || s.hellos[0].AgentVersion != "1.0.0" {
			t.Errorf("handed over %+v", s.hellos[0])
		}
	})
}

func TestHellosThatMustNotBeAnswered(t *testing.T) {
	b, s := startBroker(t, t.TempDir()), newService()
	receive(t, b, s)
	web1, web2 := connect(t, b, "web1"), connect(t, b, "web2")
	orders, err := web2.SubscribeSync(bus.OrderSubject("web2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := web2.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	hello(t, web1, "web1")
	good := encode(t, bus.Hello{Host: "web1", AgentVersion: "bad"})
	for _, attempt := range []struct {
		reply string
		data  []byte
	}{
		{bus.OrderSubject("web2"), good},
		{bus.InboxPrefix("web2") + ".x", good},
		{bus.PrivateInbox("agents") + ".x", good},
		{"", good},
		{bus.InboxPrefix("web1") + ".x", encode(t, bus.Hello{Host: "web2", AgentVersion: "bad"})},
		{bus.InboxPrefix("web1") + ".x", []byte("{")},
	} {
		message := &nats.Msg{Subject: bus.HelloSubject("web1"), Reply: attempt.reply, Data: attempt.data}
		if err := web1.PublishMsg(message); err != nil {
			t.Fatal(err)
		}
		hello(t, web1, "web1") // the one before it is done, so that not too many wait
	}
	s.look(func() {
		for _, h := range s.hellos {
			if h.AgentVersion == "bad" {
				t.Errorf("handed over: %+v", h)
			}
		}
	})
	if n, _, err := orders.Pending(); err != nil || n != 0 {
		t.Errorf("another host received %d messages (%v)", n, err)
	}
	s.change(func() { s.reject = true })
	if _, err := web1.Request(bus.HelloSubject("web1"), good, 100*time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("a hello that could not be handled was answered (%v)", err)
	}
}

func TestOrderRoundTrip(t *testing.T) {
	b := startBroker(t, t.TempDir())
	link := agentlink.New(b.Agents(), b.Signer())
	signer, err := b.Signer().PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	id := job.NewID(time.Now())
	order := bus.Order{Host: "web1", Job: id, Attempt: 2, Kind: job.Backup, ExpiresAt: time.Now().Add(time.Minute)}

	if _, err := link.Order(t.Context(), "web1", order); !errors.Is(err, fleet.ErrHostAway) {
		t.Fatalf("order to a host that is away: %v", err)
	}
	web1 := connect(t, b, "web1")
	answer := func(message *nats.Msg) {
		var envelope bus.Envelope
		if err := json.Unmarshal(message.Data, &envelope); err != nil {
			t.Error(err)
		}
		got, err := bus.OpenOrder(envelope, signer, "web1", time.Now())
		if err != nil || got.Job != id || got.Attempt != 2 {
			t.Errorf("the agent opened %+v (%v)", got, err)
		}
		if err := message.Respond(encode(t, bus.OrderReply{Accepted: true, Stamp: bus.Stamp{Journal: "a", Revision: 7}})); err != nil {
			t.Error(err)
		}
	}
	if _, err := web1.Subscribe(bus.OrderSubject("web1"), answer); err != nil {
		t.Fatal(err)
	}
	if _, err := web1.Subscribe(bus.CancelSubject("web1"), func(message *nats.Msg) {
		_ = message.Respond([]byte("nonsense"))
	}); err != nil {
		t.Fatal(err)
	}
	if err := web1.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	reply, err := link.Order(t.Context(), "web1", order)
	if err != nil || !reply.Accepted || reply.Stamp.Revision != 7 {
		t.Errorf("answer %+v (%v)", reply, err)
	}
	if _, err := link.Cancel(t.Context(), "web1", bus.Cancel{Job: id, Attempt: 2}); err == nil || errors.Is(err, fleet.ErrHostAway) {
		t.Errorf("an answer that is none is taken for %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := link.Order(ctx, "web1", order); err == nil || errors.Is(err, fleet.ErrHostAway) {
		t.Errorf("an order that was given up is taken for %v", err)
	}
}

func TestEventsArriveInOrderAndOnlyTheHostsOwn(t *testing.T) {
	b, s := startBroker(t, t.TempDir()), newService()
	receive(t, b, s)
	web1 := connect(t, b, "web1")
	id, other := job.NewID(time.Now()), job.NewID(time.Now())
	subject := bus.EventSubject("web1", id)
	tell(t, web1, subject, event("web1", id, 1))
	tellRaw(t, web1, subject, "claims another host", encode(t, event("web2", id, 90)))
	tellRaw(t, web1, subject, "claims another job", encode(t, event("web1", other, 91)))
	tellRaw(t, web1, subject, "no JSON", []byte("{"))
	tellRaw(t, web1, bus.Prefix+".agent.web1.event.nonsense", "no job", []byte("{}"))
	for seq := 2; seq <= 600; seq++ {
		tell(t, web1, subject, event("web1", id, seq))
	}
	s.until(t, "all events", func() bool { return len(s.events) == 600 })
	s.look(func() {
		for i, e := range s.events {
			if e.Seq != i+1 || e.Host != "web1" || e.Job != id {
				t.Fatalf("event %d is %+v", i+1, e)
			}
		}
		if got := s.events[599].Sequence; got != 604 {
			t.Errorf("place in the stream %d, want 604", got)
		}
	})
}

func TestEventsThatCannotBeStoredComeAgainInOrder(t *testing.T) {
	b, s := startBroker(t, t.TempDir()), newService()
	s.faults = 3
	receive(t, b, s)
	web1 := connect(t, b, "web1")
	id := job.NewID(time.Now())
	for seq := 1; seq <= 5; seq++ {
		tell(t, web1, bus.EventSubject("web1", id), event("web1", id, seq))
	}
	s.until(t, "events after faults", func() bool { return len(s.events) == 5 })
	s.look(func() {
		if got := seqs(s.events); got != "[1 2 3 4 5]" {
			t.Errorf("stored %s", got)
		}
	})
}

func TestIngestGoesOnWhereTheStoreIs(t *testing.T) {
	dir := t.TempDir()
	b, s := startBroker(t, dir), newService()
	stop := receive(t, b, s)
	web1 := connect(t, b, "web1")
	id := job.NewID(time.Now())
	subject := bus.EventSubject("web1", id)
	for seq := 1; seq <= 3; seq++ {
		tell(t, web1, subject, event("web1", id, seq))
	}
	s.until(t, "first events", func() bool { return len(s.events) == 3 })
	acknowledged(t, b, 3)
	stop()
	tell(t, web1, subject, event("web1", id, 4))
	web1.Close()
	b.Close()

	for name, test := range map[string]struct {
		position uint64
		want     string
	}{
		"in step":                           {3, "[4]"},
		"store restored from a backup":      {1, "[2 3 4]"},
		"store is ahead: stream was lost":   {99, "[1 2 3 4]"},
		"store ahead of the consumer's ack": {4, ""}, // what is known may come once more
	} {
		t.Run(name, func(t *testing.T) {
			b, s := startBroker(t, dir), newService()
			s.position = test.position
			stop := receive(t, b, s)
			web1 := connect(t, b, "web1")
			hello(t, web1, "web1")
			s.until(t, "events "+test.want, func() bool {
				return seqs(s.events) == test.want || test.want == "" && (len(s.events) == 0 || seqs(s.events) == "[4]")
			})
			acknowledged(t, b, 4) // else what is not may come again much later
			stop()
			b.Close()
		})
	}
}

// acknowledged waits until the server knows that events are stored up to a
// place in the stream: an acknowledgement is not answered.
func acknowledged(t *testing.T, b *broker.Broker, place uint64) {
	t.Helper()
	js, err := jetstream.New(b.Stream())
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		var floor uint64
		consumer, err := js.Consumer(t.Context(), bus.StreamName, bus.ConsumerName)
		if err == nil { // else it is just made anew
			floor = consumer.CachedInfo().AckFloor.Stream
		}
		if floor >= place {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("acknowledged up to %d, not %d: %v", floor, place, err)
		}
	}
}

func TestIngestSurvivesTheLossOfItsConsumer(t *testing.T) {
	b, s := startBroker(t, t.TempDir()), newService()
	receive(t, b, s)
	web1 := connect(t, b, "web1")
	id := job.NewID(time.Now())
	tell(t, web1, bus.EventSubject("web1", id), event("web1", id, 1))
	s.until(t, "first event", func() bool { return len(s.events) == 1 })
	js, err := jetstream.New(b.Stream())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteConsumer(t.Context(), bus.StreamName, bus.ConsumerName); err != nil {
		t.Fatal(err)
	}
	tell(t, web1, bus.EventSubject("web1", id), event("web1", id, 2))
	s.until(t, "second event, after all that is in the stream", func() bool { return seqs(s.events) == "[1 1 2]" })
}

func TestProgressIsHandedOverWhenItIsTheHostsOwn(t *testing.T) {
	b, s := startBroker(t, t.TempDir()), newService()
	receive(t, b, s)
	web1 := connect(t, b, "web1")
	hello(t, web1, "web1")
	id := job.NewID(time.Now())
	for _, message := range []struct {
		subject string
		data    []byte
	}{
		{bus.ProgressSubject("web1", id), []byte("{")},
		{bus.ProgressSubject("web1", id), encode(t, bus.Progress{Job: job.NewID(time.Now()), Attempt: 1})},
		{bus.ProgressSubject("web1", id), encode(t, bus.Progress{Job: id, Attempt: 3, Progress: job.Progress{NFiles: 5}})},
	} {
		if err := web1.Publish(message.subject, message.data); err != nil {
			t.Fatal(err)
		}
	}
	s.until(t, "progress", func() bool { return len(s.progress) > 0 })
	s.look(func() {
		if len(s.progress) != 1 || s.progress[0].Attempt != 3 || s.progress[0].Progress.NFiles != 5 {
			t.Errorf("handed over %+v", s.progress)
		}
	})
}

func TestPresenceFollowsTheConnections(t *testing.T) {
	b, s := startBroker(t, t.TempDir()), newService()
	first, firstKey := mint(t, b, "web1")
	second, secondKey := mint(t, b, "web1")
	other, otherKey := mint(t, b, "web2")
	s.keys = map[string]string{firstKey: "web1", secondKey: "web1", otherKey: "web2"}
	receive(t, b, s)
	unknown := connect(t, b, "web3")
	hello(t, unknown, "web3") // the receiver is there

	old := dial(t, b, "web1", first)
	s.until(t, "first connection", func() bool { return slices.Equal(s.presence, []string{"+web1"}) })
	renewed := dial(t, b, "web1", second)
	s.until(t, "second connection", func() bool { return slices.Equal(s.presence, []string{"+web1", "+web1"}) })
	old.Close()
	unknown.Close()
	dial(t, b, "web2", other).Close()
	s.until(t, "another host", func() bool { return slices.Contains(s.presence, "-web2") })
	s.look(func() {
		if slices.Contains(s.presence, "-web1") {
			t.Errorf("web1 is gone although it has another connection: %v", s.presence)
		}
	})
	renewed.Close()
	s.until(t, "last connection", func() bool { return slices.Contains(s.presence, "-web1") })
	s.look(func() {
		if want := []string{"+web1", "+web1", "+web2", "-web2", "-web1"}; !slices.Equal(s.presence, want) {
			t.Errorf("presence %v, want %v", s.presence, want)
		}
	})
}

// TestPresenceOfAHostThatWasRemovedAndAddedAgain ends the connection of a host
// that is not known any more, before another one of its name comes and goes.
func TestPresenceOfAHostThatWasRemovedAndAddedAgain(t *testing.T) {
	b, s := startBroker(t, t.TempDir()), newService()
	first, firstKey := mint(t, b, "web1")
	second, secondKey := mint(t, b, "web1")
	s.keys = map[string]string{firstKey: "web1"}
	receive(t, b, s)
	other := connect(t, b, "web3")
	hello(t, other, "web3") // the receiver is there

	removed := dial(t, b, "web1", first)
	s.until(t, "first connection", func() bool { return slices.Equal(s.presence, []string{"+web1"}) })
	s.change(func() { s.keys = map[string]string{secondKey: "web1"} })
	removed.Close()
	dial(t, b, "web1", second).Close()
	s.until(t, "second host", func() bool { return slices.Equal(s.presence, []string{"+web1", "+web1", "-web1"}) })
}

func BenchmarkOrder(b *testing.B) {
	broker := startBroker(b, b.TempDir())
	link := agentlink.New(broker.Agents(), broker.Signer())
	web1 := connect(b, broker, "web1")
	reply := encode(b, bus.OrderReply{Accepted: true})
	if _, err := web1.Subscribe(bus.OrderSubject("web1"), func(message *nats.Msg) { _ = message.Respond(reply) }); err != nil {
		b.Fatal(err)
	}
	if err := web1.FlushTimeout(patience); err != nil {
		b.Fatal(err)
	}
	order := bus.Order{Host: "web1", Job: job.NewID(time.Now()), Attempt: 1, Spec: json.RawMessage(`{"paths":["/etc"]}`)}
	for b.Loop() {
		if _, err := link.Order(b.Context(), "web1", order); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEvent(b *testing.B) {
	broker, s := startBroker(b, b.TempDir()), newService()
	s.told = make(chan struct{}, 1)
	receive(b, broker, s)
	web1 := connect(b, broker, "web1")
	id, seq := job.NewID(time.Now()), 0
	for b.Loop() {
		seq++
		tell(b, web1, bus.EventSubject("web1", id), event("web1", id, seq))
		<-s.told
	}
}

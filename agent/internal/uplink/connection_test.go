package uplink_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

func TestThisRunSaysThatItIsThere(t *testing.T) {
	f := newFixture(t, quick)
	msg, err := f.conn.Request(bus.PresenceSubject(host, instance), []byte("{}"), patience.Most)
	if err != nil {
		t.Fatal(err)
	}
	var presence bus.Presence
	if err := json.Unmarshal(msg.Data, &presence); err != nil || presence.Instance != instance {
		t.Errorf("answer %s, %v", msg.Data, err)
	}
	if _, err := f.conn.Request(bus.PresenceSubject(host, "ANOTHERRUN"), []byte("{}"), patience.Most); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("an answer for another run: %v", err)
	}
}

// The first order can overtake the answer to the hello that it follows.
func TestAnOrderBeforeTheFirstAnswer(t *testing.T) {
	f := newCoordinator(t)
	said, err := f.conn.SubscribeSync(bus.HelloSubject(host))
	if err == nil {
		err = f.conn.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	f.start(quick)
	if _, err := said.NextMsg(patience.Most); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience.Most)
	defer cancel()
	if _, err := f.conn.RequestWithContext(ctx, bus.OrderSubject(host), []byte(`{"body":"e30="}`)); err != nil {
		t.Errorf("order: %v", err)
	}
	if n := f.handler.orderCount(); n != 1 {
		t.Errorf("%d orders were handled", n)
	}
}

func TestARefusedAgentKeepsQuiet(t *testing.T) {
	f := newFixture(t, quick)
	stream := f.makeStream()
	var refused atomic.Bool
	refused.Store(true)
	hellos := f.reply(func(hello bus.Hello) bus.HelloReply {
		reply := bus.HelloReply{At: time.Now()}
		if refused.Load() {
			reply.Refused = job.Fail(job.Conflict, "another one is here").WithHint("stop one")
			return reply
		}
		for _, said := range hello.Attempts {
			reply.Verdicts = append(reply.Verdicts, settled(said))
		}
		return reply
	})
	patience.Until(t, "the refusal shows", func() bool { s := f.uplink.Status(); return s.Duplicate && s.Error != "" && s.Hint != "" })
	patience.Until(t, "it says that it was refused", func() bool { h := <-hellos; return h.Refused && h.Instance == instance })
	key := f.accept()
	f.record(key, job.EventFinished)
	live, err := f.conn.SubscribeSync(bus.ProgressSubject(host, key.Job))
	if err != nil {
		t.Fatal(err)
	}
	for n := range int64(2) { // borg may be silent after that
		f.progress <- bus.Progress{Job: key.Job, Attempt: 1, Progress: job.Progress{NFiles: n + 1}}
	}
	brief, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if msg, err := f.conn.RequestWithContext(brief, bus.OrderSubject(host), []byte("{}")); err == nil {
		t.Errorf("an order was answered: %s", msg.Data)
	}
	for range 3 { // it asks again
		<-hellos
	}
	if events := f.told(stream); len(events) != 0 || f.handler.orderCount() != 0 {
		t.Errorf("%d events told, %d orders taken", len(events), f.handler.orderCount())
	}
	refused.Store(false)
	if msg, err := live.NextMsg(patience.Most); err != nil || !strings.Contains(string(msg.Data), `"nfiles":2`) {
		t.Errorf("the newest progress is not passed on: %v", err)
	}
	patience.Until(t, "what happened is told", func() bool { return len(f.snapshot().Records) == 0 })
	if s := f.uplink.Status(); s.Duplicate || s.Error != "" {
		t.Errorf("status %+v", s)
	}
}

// A request that is under way when the connection breaks is not waited for.
func TestABrokenConnectionCostsNoRequestTimeout(t *testing.T) {
	timing := quick
	timing.Request = time.Hour
	f := newFixture(t, timing)
	stuck := make(chan struct{}, 64)
	if _, err := f.conn.Subscribe(bus.EventSubject("*", "*"), func(*nats.Msg) { stuck <- struct{}{} }); err != nil { // and no answer
		t.Fatal(err)
	}
	if err := f.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	key := f.accept()
	f.record(key, job.EventFinished)
	<-stuck
	restore := f.loseBus()
	restore()
	f.makeStream()
	f.answerHellos(settled)
	patience.Until(t, "what was under way is told", func() bool { return len(f.snapshot().Records) == 0 })
}

// What happens while an agent that had nothing to tell waits for the bus is told
// when that is back, or at once if it is back already.
func TestNewsOfAnAgentAtRest(t *testing.T) {
	f := newFixture(t, quick)
	restore := f.loseBus()
	restore()
	f.makeStream()
	f.answerHellos(settled)
	begun := time.Now()
	f.record(f.accept(), job.EventFinished)
	patience.Until(t, "the news are told", func() bool { return len(f.snapshot().Records) == 0 })
	t.Logf("told %s after it happened", time.Since(begun).Round(time.Millisecond))
}

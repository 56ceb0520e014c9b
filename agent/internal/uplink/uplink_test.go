package uplink_test

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/borgfleet/borgfleet/agent/internal/identity"
	"github.com/borgfleet/borgfleet/agent/internal/uplink"
	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// quick keeps tests short where waiting is not what they are about.
var quick = uplink.Timing{Busy: 200 * time.Millisecond, Idle: 300 * time.Millisecond, Settle: 5 * time.Millisecond, Request: time.Second}

func keep(said bus.HostAttempt) bus.Verdict {
	return bus.Verdict{Job: said.Job, Attempt: said.Attempt, Action: bus.Keep}
}

// settled is the verdict of a coordinator that has stored all it was told of.
func settled(said bus.HostAttempt) bus.Verdict {
	v := bus.Verdict{Job: said.Job, Attempt: said.Attempt, Action: bus.Keep, Stored: said.LastSeq}
	if said.Finished {
		v.Action = bus.Forget
	}
	return v
}

func TestOrdersAndCancellationsAreAnswered(t *testing.T) {
	f := newFixture(t, quick)
	envelope, err := json.Marshal(bus.Envelope{Body: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	msg, err := f.conn.Request(bus.OrderSubject(host), envelope, patience.Most)
	if err != nil {
		t.Fatal(err)
	}
	var reply bus.OrderReply
	if err := json.Unmarshal(msg.Data, &reply); err != nil || !reply.Accepted || reply.Stamp.Revision != 7 {
		t.Errorf("order's answer %+v, error %v", reply, err)
	}
	want := bus.Cancel{Job: job.NewID(time.Now()), Attempt: 3}
	cancel, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.conn.Request(bus.CancelSubject(host), cancel, patience.Most); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]bus.Cancel{want}, f.handler.cancels); diff != "" {
		t.Errorf("cancellations (-want +got):\n%s", diff)
	}
}

func TestStrangersAreNotAnswered(t *testing.T) {
	f := newFixture(t, quick)
	for name, reply := range map[string]string{
		"other client's inbox": "_INBOX.mallory.1", "another host's orders": bus.OrderSubject("web2"),
		"longer name": bus.PrivateInbox(bus.AgentsConnection) + "x.1", "prefix itself": bus.PrivateInbox(bus.AgentsConnection),
		"a host of that name": "_INBOX.coordinator.1", "another connection": bus.PrivateInbox("api") + ".1",
	} {
		if err := f.conn.PublishRequest(bus.OrderSubject(host), reply, []byte("{}")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := f.conn.Publish(bus.OrderSubject(host), []byte("{}")); err != nil { // no reply wanted
		t.Fatal(err)
	}
	// An own request comes last, so that the others have been seen when it is answered.
	if _, err := f.conn.Request(bus.OrderSubject(host), []byte("not JSON"), patience.Most); err != nil {
		t.Fatal(err)
	}
	if n := f.handler.orderCount(); n != 1 {
		t.Errorf("%d orders reached the worker; want only the coordinator's", n)
	}
}

func TestEventsReachTheStreamInOrder(t *testing.T) {
	f := newFixture(t, quick)
	stream := f.makeStream()
	keys := []attempt.Key{f.accept(), f.accept(), f.accept()}
	var writers sync.WaitGroup
	for _, key := range keys {
		writers.Go(func() {
			for range 10 {
				f.record(key, job.EventLog)
			}
			f.record(key, job.EventFinished)
		})
	}
	writers.Wait()
	const each = 12
	patience.Until(t, "all events are in the stream", func() bool { return len(f.told(stream)) >= each*len(keys) })
	last := map[job.ID]int{}
	for _, event := range f.told(stream) {
		if event.Seq != last[event.Job]+1 {
			t.Errorf("job %s: event %d after %d", event.Job, event.Seq, last[event.Job])
		}
		last[event.Job] = event.Seq
	}
	for _, key := range keys {
		if last[key.Job] != each {
			t.Errorf("job %s ends with event %d; want %d", key.Job, last[key.Job], each)
		}
	}
}

func TestEventsWaitForTheStream(t *testing.T) {
	f := newFixture(t, quick)
	key := f.accept()
	f.record(key, job.EventStarted, job.EventFinished)
	f.answerHellos(keep)
	if depth := f.snapshot().Depth; depth != 3 {
		t.Fatalf("journal's depth %d before there is a stream; want 3", depth)
	}
	stream := f.makeStream()
	patience.Until(t, "events come when there is a stream", func() bool { return len(f.told(stream)) == 3 })
	if depth := f.snapshot().Depth; depth != 3 {
		t.Errorf("journal's depth %d; want 3, as nothing is stored yet", depth)
	}
}

func TestJournalIsEmptyAtRest(t *testing.T) {
	timing := quick
	timing.Busy, timing.Idle = time.Hour, time.Hour // only extra hellos are said
	f := newFixture(t, timing)
	f.makeStream()
	f.answerHellos(settled)
	key := f.accept()
	f.record(key, job.EventStarted, job.EventFinished)
	patience.Until(t, "the journal forgets", func() bool { s := f.snapshot(); return len(s.Records) == 0 && s.Depth == 0 })
}

func TestLateVerdictIsAskedFor(t *testing.T) {
	timing := quick
	timing.Idle = time.Hour
	f := newFixture(t, timing)
	f.makeStream()
	var asked atomic.Int32
	f.answerHellos(func(said bus.HostAttempt) bus.Verdict {
		if asked.Add(1) < 4 {
			return keep(said) // not stored yet
		}
		return settled(said)
	})
	key := f.accept()
	f.record(key, job.EventFinished)
	patience.Until(t, "the journal forgets", func() bool { return len(f.snapshot().Records) == 0 })
}

func TestHelloTellsTheJournal(t *testing.T) {
	f := newFixture(t, quick)
	key := f.accept()
	f.record(key, job.EventStarted)
	hellos := f.answerHellos(keep)
	patience.Until(t, "a hello mentions the attempt", func() bool {
		hello := <-hellos
		return hello.Host == host && hello.Slots == 2 && hello.JournalDepth == 2 && hello.Stamp == f.snapshot().Stamp &&
			cmp.Equal(hello.Attempts, []bus.HostAttempt{{Job: key.Job, Attempt: 1, LastSeq: 2}})
	})
	patience.Until(t, "the answered hello shows in the status", func() bool { return !f.uplink.Status().HelloAt.IsZero() })
	if skew := f.uplink.Status().ClockSkew; skew.Abs() > time.Second {
		t.Errorf("clock skew %s on one machine", skew)
	}
}

func TestLostEventsAreToldAgain(t *testing.T) {
	timing := quick
	timing.Republish = 50 * time.Millisecond
	f := newFixture(t, timing)
	stream := f.makeStream()
	key := f.accept()
	f.record(key, job.EventFinished)
	patience.Until(t, "both events are in the stream", func() bool { return len(f.told(stream)) == 2 })
	js, err := f.conn.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream("EVENTS"); err != nil { // what was acknowledged is lost
		t.Fatal(err)
	}
	stream = f.makeStream()
	f.answerHellos(keep) // the coordinator has stored nothing
	patience.Until(t, "both events are told again", func() bool {
		events := f.told(stream)
		return len(events) >= 2 && events[0].Seq == 1 && events[1].Seq == 2
	})
}

func TestReconnect(t *testing.T) {
	f := newFixture(t, quick)
	f.makeStream()
	restore := f.loseBus()
	key := f.accept()
	f.record(key, job.EventFinished)
	f.progress <- bus.Progress{Job: key.Job} // dropped, and nobody is blocked

	back := time.Now()
	restore()
	f.answerHellos(settled)
	patience.Until(t, "the uplink is back", func() bool { return f.uplink.Status().Connected })
	patience.Until(t, "what happened meanwhile is told and forgotten", func() bool { return len(f.snapshot().Records) == 0 })
	t.Logf("told %s after the bus's return began", time.Since(back).Round(time.Millisecond))
	if _, err := f.conn.Request(bus.OrderSubject(host), []byte("{}"), patience.Most); err != nil {
		t.Errorf("order after the reconnect: %v", err)
	}
}

func TestProgressIsPassedOn(t *testing.T) {
	f := newFixture(t, quick)
	id := job.NewID(time.Now())
	subscription, err := f.conn.SubscribeSync(bus.ProgressSubject(host, id))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	f.progress <- bus.Progress{Job: id, Attempt: 1, Progress: job.Progress{NFiles: 42}}
	msg, err := subscription.NextMsg(patience.Most)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(msg.Data), `"nfiles":42`) {
		t.Errorf("progress %s", msg.Data)
	}
}

// TestStatusSaysWhyThereIsNoConnection is about the first connect, which fails
// before anything can be disconnected.
func TestStatusSaysWhyThereIsNoConnection(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	strict, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, Authorization: "token", NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	strict.Start()
	t.Cleanup(func() { stopServer(strict) })
	if !strict.ReadyForConnections(patience.Most) {
		t.Fatal("the server does not start")
	}
	for name, test := range map[string]struct {
		url, want string
		refused   bool
	}{
		"nobody listens":       {"nats://" + closed.Addr().String(), "nothing usable answers", false},
		"credentials not good": {strict.ClientURL(), "does not accept the credentials", true},
	} {
		t.Run(name, func(t *testing.T) {
			u := uplink.New(uplink.Options{
				Host: host, Instance: instance, URLs: []string{test.url}, Explain: identity.Explain, Journal: openJournal(t),
				Logger: hclog.NewNullLogger()})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- u.Run(ctx) }()
			patience.Until(t, "a reason", func() bool { return u.Status().Error != "" })
			if s := u.Status(); s.Connected || !strings.Contains(s.Error, test.want) || s.Hint == "" || s.Refused != test.refused {
				t.Errorf("status %+v", s)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAClockThatIsWrongIsSaid(t *testing.T) {
	for name, test := range map[string]struct {
		skew time.Duration
		want []string
	}{
		"right":  {20 * time.Millisecond, []string{"20ms ahead of"}},
		"ahead":  {time.Hour, []string{"1h0m0s ahead of", "orders look expired here and are refused"}},
		"behind": {-time.Hour, []string{"1h0m0s behind", "wrong times"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := uplink.DescribeSkew(test.skew)
			for _, want := range test.want {
				if !strings.Contains(text, want) || strings.Contains(text, ":") != (len(test.want) > 1) {
					t.Errorf("%q does not say %q", text, want)
				}
			}
		})
	}
	f := newFixture(t, quick)
	f.reply(func(bus.Hello) bus.HelloReply { return bus.HelloReply{At: time.Now().Add(time.Hour)} })
	patience.Until(t, "the difference shows in the status", func() bool {
		return (f.uplink.Status().ClockSkew + time.Hour).Abs() < time.Minute
	})
}

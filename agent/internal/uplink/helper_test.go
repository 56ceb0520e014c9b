package uplink_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/borgfleet/borgfleet/agent/internal/identity"
	"github.com/borgfleet/borgfleet/agent/internal/uplink"
	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/journal"
	"github.com/borgfleet/borgfleet/shared/patience"
)

const (
	host     = "web1"
	instance = "THISRUN"
)

// startServer runs a NATS server with JetStream; port -1 picks a free one.
func startServer(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience.Most) {
		t.Fatal("the server does not start")
	}
	t.Cleanup(func() { stopServer(s) })
	return s
}

func stopServer(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// handler is the agent's other half: it applies verdicts to the journal and
// notes what it is asked.
type handler struct {
	journal *journal.Journal
	mu      sync.Mutex
	orders  int
	cancels []bus.Cancel
	hold    chan struct{} // readers wait for it; nil: not at all
}

func (h *handler) Order(_ context.Context, envelope bus.Envelope) (bus.OrderReply, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.orders++
	return bus.OrderReply{Accepted: len(envelope.Body) > 0, Stamp: bus.Stamp{Journal: "J", Revision: 7}}, nil
}

func (h *handler) Cancel(_ context.Context, c bus.Cancel) (bus.CancelReply, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cancels = append(h.cancels, c)
	return bus.CancelReply{Stamp: bus.Stamp{Journal: "J", Revision: 8}}, nil
}

// Read answers with the number of the piece, and with none of another attempt.
func (h *handler) Read(ctx context.Context, r bus.Read) bus.Piece {
	if h.hold != nil {
		select {
		case <-h.hold:
		case <-ctx.Done():
		}
	}
	if r.Attempt != 1 {
		return bus.Piece{State: bus.PieceGone, Piece: r.Piece}
	}
	return bus.Piece{State: bus.PieceMore, Piece: r.Piece, Data: []byte(strconv.FormatInt(r.Piece, 10))}
}

func (h *handler) Settle(_ context.Context, verdicts []bus.Verdict) error {
	_, err := h.journal.Settle(verdicts)
	return err
}

func (h *handler) orderCount() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.orders
}

// fixture is an uplink between a real journal and a real server.
type fixture struct {
	t        *testing.T
	server   *server.Server
	dir      string
	journal  *journal.Journal
	handler  *handler
	uplink   *uplink.Uplink
	changes  chan struct{}
	progress chan bus.Progress
	conn     *nats.Conn // the coordinator's
	hellos   *nats.Subscription
}

// newFixture returns one whose hellos are answered.
func newFixture(t *testing.T, timing uplink.Timing) *fixture {
	t.Helper()
	f := newCoordinator(t)
	hellos := f.answerHellos(keep)
	f.start(timing)
	<-hellos // which follows the agent's subscriptions
	patience.Until(t, "the first hello is answered", func() bool { return !f.uplink.Status().HelloAt.IsZero() })
	return f
}

// newCoordinator returns one that has no uplink yet.
func newCoordinator(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), changes: make(chan struct{}, 1), progress: make(chan bus.Progress)}
	f.server = startServer(t, f.dir, -1)
	store := openJournal(t)
	f.journal, f.handler = store, &handler{journal: store}
	f.conn = f.connect()
	return f
}

// start makes the uplink and runs it until the test ends.
func (f *fixture) start(timing uplink.Timing) {
	t := f.t
	t.Helper()
	f.uplink = uplink.New(uplink.Options{
		Host: host, Instance: instance, URLs: []string{f.server.ClientURL()}, Explain: identity.Explain, Journal: f.journal, Handler: f.handler,
		Identity: func() bus.Hello { return bus.Hello{AgentVersion: "test", Slots: 2} },
		Changes:  f.changes, Progress: f.progress, Logger: hclog.NewNullLogger(), Timing: timing,
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.uplink.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func openJournal(t *testing.T) *journal.Journal {
	t.Helper()
	store, err := journal.Open(journal.Options{Path: filepath.Join(t.TempDir(), "journal.db"), Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// connect connects as the coordinator does.
func (f *fixture) connect() *nats.Conn {
	f.t.Helper()
	conn, err := nats.Connect(f.server.ClientURL(), nats.CustomInboxPrefix(bus.PrivateInbox(bus.AgentsConnection)))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(conn.Close)
	return conn
}

// loseBus stops the server and waits until the uplink has noticed. It returns
// what starts it again where it was, and connects the coordinator to it.
func (f *fixture) loseBus() (restore func()) {
	f.t.Helper()
	address, ok := f.server.Addr().(*net.TCPAddr)
	if !ok {
		f.t.Fatalf("address %v", f.server.Addr())
	}
	stopServer(f.server)
	patience.Until(f.t, "the loss is noticed", func() bool { return !f.uplink.Status().Connected })
	return func() {
		f.t.Helper()
		f.server = startServer(f.t, f.dir, address.Port)
		f.conn = f.connect()
	}
}

// makeStream makes the stream of events.
func (f *fixture) makeStream() jetstream.Stream {
	f.t.Helper()
	js, err := jetstream.New(f.conn)
	if err != nil {
		f.t.Fatal(err)
	}
	stream, err := js.CreateStream(f.t.Context(), jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{bus.EventSubject("*", "*")}, Duplicates: time.Minute})
	if err != nil {
		f.t.Fatal(err)
	}
	return stream
}

// told returns the events in the stream, in its order.
func (f *fixture) told(stream jetstream.Stream) []bus.Event {
	f.t.Helper()
	info, err := stream.Info(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	var events []bus.Event
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
		msg, err := stream.GetMsg(f.t.Context(), seq)
		if err != nil {
			f.t.Fatal(err)
		}
		var event bus.Event
		if err := json.Unmarshal(msg.Data, &event); err != nil {
			f.t.Fatal(err)
		}
		if id := msg.Header.Get(nats.MsgIdHdr); id != bus.EventID(event) {
			f.t.Errorf("event %s has the message id %q", bus.EventID(event), id)
		}
		events = append(events, event)
	}
	return events
}

// answerHellos plays the coordinator: verdict decides on each attempt. It
// returns the hellos that come.
func (f *fixture) answerHellos(verdict func(bus.HostAttempt) bus.Verdict) <-chan bus.Hello {
	f.t.Helper()
	return f.reply(func(hello bus.Hello) bus.HelloReply {
		reply := bus.HelloReply{At: time.Now()}
		for _, said := range hello.Attempts {
			reply.Verdicts = append(reply.Verdicts, verdict(said))
		}
		return reply
	})
}

// reply plays the coordinator instead of whoever did before.
func (f *fixture) reply(answer func(bus.Hello) bus.HelloReply) <-chan bus.Hello {
	f.t.Helper()
	if f.hellos != nil {
		_ = f.hellos.Unsubscribe() // its connection may be gone
	}
	hellos := make(chan bus.Hello, 1024)
	var err error
	f.hellos, err = f.conn.Subscribe(bus.HelloSubject(host), func(msg *nats.Msg) {
		var hello bus.Hello
		if err := json.Unmarshal(msg.Data, &hello); err != nil {
			f.t.Errorf("hello: %v", err)
		}
		data, err := json.Marshal(answer(hello))
		if err == nil {
			err = msg.Respond(data)
		}
		if err != nil && !errors.Is(err, nats.ErrConnectionClosed) { // it is closed at the test's end, before the uplink
			f.t.Errorf("answer hello: %v", err)
		}
		hellos <- hello
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.conn.Flush(); err != nil {
		f.t.Fatal(err)
	}
	return hellos
}

// accept journals an order and tells the uplink.
func (f *fixture) accept() attempt.Key {
	f.t.Helper()
	order := bus.Order{Host: host, Job: job.NewID(time.Now()), Attempt: 1, ExpiresAt: time.Now().Add(time.Minute)}
	first := job.Event{Host: host, Type: job.EventAccepted, State: job.Running, At: time.Now()}
	if _, _, err := f.journal.Accept(order, nil, first); err != nil {
		f.t.Fatal(err)
	}
	f.changed()
	return attempt.KeyOf(order)
}

func (f *fixture) record(key attempt.Key, types ...job.EventType) {
	f.t.Helper()
	for _, kind := range types {
		if err := f.journal.Record(key, attempt.Mark{}, job.Event{Host: host, Type: kind, At: time.Now()}); err != nil {
			f.t.Fatal(err)
		}
		f.changed()
	}
}

func (f *fixture) changed() {
	select {
	case f.changes <- struct{}{}:
	default:
	}
}

func (f *fixture) snapshot() attempt.Snapshot {
	f.t.Helper()
	snapshot, err := f.journal.Snapshot()
	if err != nil {
		f.t.Fatal(err)
	}
	return snapshot
}

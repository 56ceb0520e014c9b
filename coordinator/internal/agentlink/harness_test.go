package agentlink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/agentlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const patience = time.Minute

// service is a coordinator that remembers what it was told.
type service struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change
	hellos   []bus.Hello
	events   []bus.StreamEvent
	progress []bus.Progress
	presence []string
	position uint64
	faults   int               // times that HandleEvents fails from now on
	reject   bool              // hellos fail
	told     chan struct{}     // gets one for every event, when set
	keys     map[string]string // hosts by public key
	stuck    string            // host whose hellos are not answered
	caughtUp []int             // events that were stored when it was told so
}

func newService() *service { return &service{changed: make(chan struct{}), keys: map[string]string{}} }

func (s *service) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// look reads what was told.
func (s *service) look(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// until waits for a condition over what was told.
func (s *service) until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		done, changed := condition(), s.changed
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Fatalf("%s: not within %s; hellos %d, events %s, presence %v", what, patience, len(s.hellos), seqs(s.events), s.presence)
		}
	}
}

func (s *service) HandleHello(ctx context.Context, hello bus.Hello) (bus.HelloReply, error) {
	var err error
	stuck := false
	s.change(func() {
		s.hellos = append(s.hellos, hello)
		stuck = hello.Host == s.stuck
		if s.reject {
			err = errors.New("the store is closed")
		}
	})
	if stuck {
		<-ctx.Done()
		return bus.HelloReply{}, ctx.Err()
	}
	return bus.HelloReply{At: time.Unix(1, 0), Verdicts: []bus.Verdict{{Job: "j", Attempt: 1, Action: bus.Keep}}}, err
}

func (s *service) HandleEvents(_ context.Context, batch []bus.StreamEvent) error {
	var err error
	s.change(func() {
		if s.faults > 0 {
			s.faults--
			err = errors.New("disk full")
			return
		}
		s.events = append(s.events, batch...)
		s.position = batch[len(batch)-1].Sequence
	})
	if s.told != nil && err == nil {
		for range batch {
			s.told <- struct{}{}
		}
	}
	return err
}

func (s *service) CaughtUp() { s.change(func() { s.caughtUp = append(s.caughtUp, len(s.events)) }) }
func (s *service) HandleProgress(host string, p bus.Progress) {
	s.change(func() { s.progress = append(s.progress, p) })
}
func (s *service) HostConnected(host string) {
	s.change(func() { s.presence = append(s.presence, "+"+host) })
}
func (s *service) HostDisconnected(host string) {
	s.change(func() { s.presence = append(s.presence, "-"+host) })
}
func (s *service) StreamPosition() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position
}

func (s *service) hostByKey(key string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	host, known := s.keys[key]
	return host, known
}

func seqs(events []bus.StreamEvent) string {
	var all []int
	for _, e := range events {
		all = append(all, e.Seq)
	}
	return fmt.Sprint(all)
}

func startBroker(t testing.TB, dir string) *broker.Broker {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Options{Dir: dir, Listen: "127.0.0.1:0", Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// receive runs a receiver; the returned function stops it and waits for it.
func receive(t testing.TB, b *broker.Broker, s *service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	receiver := agentlink.NewReceiver(agentlink.Options{
		Agents: b.Agents(), System: b.System(), Account: b.AgentsAccount(),
		Stream: b, Sessions: s, Ingest: s, HostByKey: s.hostByKey, Logger: hclog.NewNullLogger(),
	})
	done := make(chan error, 1)
	go func() { done <- receiver.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("receiver ended: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func connect(t testing.TB, b *broker.Broker, host string) *nats.Conn {
	t.Helper()
	credentials, _ := mint(t, b, host)
	return dial(t, b, host, credentials)
}

func mint(t testing.TB, b *broker.Broker, host string) (credentials []byte, key string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if key, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	token, err := b.AuthorizeAgent(host, key)
	if err != nil {
		t.Fatal(err)
	}
	if credentials, err = jwt.FormatUserConfig(token, seed); err != nil {
		t.Fatal(err)
	}
	return credentials, key
}

func dial(t testing.TB, b *broker.Broker, host string, credentials []byte) *nats.Conn {
	t.Helper()
	file := filepath.Join(t.TempDir(), host+".creds")
	if err := os.WriteFile(file, credentials, 0o600); err != nil {
		t.Fatal(err)
	}
	connection, err := nats.Connect(b.URL(), bus.ConnectOptions{Name: host, Credentials: file}.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	if err := connection.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	return connection
}

// hello says hello until it is answered, since the receiver may just start.
func hello(t testing.TB, connection *nats.Conn, host string) bus.HelloReply {
	t.Helper()
	data := encode(t, bus.Hello{Host: host, AgentVersion: "1.0.0"})
	deadline := time.Now().Add(patience)
	for {
		answer, err := connection.Request(bus.HelloSubject(host), data, patience)
		if errors.Is(err, nats.ErrNoResponders) && time.Now().Before(deadline) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var reply bus.HelloReply
		if err := json.Unmarshal(answer.Data, &reply); err != nil {
			t.Fatal(err)
		}
		return reply
	}
}

func encode(t testing.TB, value any) []byte {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func event(host string, id job.ID, seq int) bus.Event {
	return bus.Event{Event: job.Event{Job: id, Host: host, Attempt: 1, Seq: seq, Type: job.EventLog, At: time.Unix(1, 0).UTC()}}
}

// tell publishes an event and waits for the stream's confirmation.
func tell(t testing.TB, connection *nats.Conn, subject string, e bus.Event) {
	t.Helper()
	tellRaw(t, connection, subject, bus.EventID(e), encode(t, e))
}

func tellRaw(t testing.TB, connection *nats.Conn, subject, id string, data []byte) {
	t.Helper()
	message := nats.NewMsg(subject)
	message.Header.Set(jetstream.MsgIDHeader, id)
	message.Data = data
	if _, err := connection.RequestMsg(message, patience); err != nil {
		t.Fatal(err)
	}
}

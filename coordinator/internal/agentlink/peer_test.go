package agentlink_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/journal"
	"github.com/borgfleet/borgfleet/shared/policy"
	"github.com/borgfleet/borgfleet/shared/probe"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/borgfleet/borgfleet/shared/worker"
)

// TestMain lets the test's own binary be the supervisor of what it runs.
func TestMain(m *testing.M) { enginetest.Main(m) }

// noMounts is a host where nothing is mounted.
type noMounts struct{}

func (noMounts) List() ([]string, error)              { return nil, nil }
func (noMounts) Remove(context.Context, string) error { return nil }

// peer is a small agent: journal and worker behind the subjects of the bus. It
// tells everything again and again until it is stored, and says hello often.
type peer struct {
	t           *testing.T
	broker      *broker.Broker
	dir, borg   string
	credentials []byte
	key         string // public
	ring        *secret.Ring
	instance    string
	begun       time.Time
	journal     *journal.Journal
	worker      *worker.Worker
	link        *nats.Conn // nil while it is cut
	mu          sync.Mutex // of link
	end         func()
}

const peerPause = 20 * time.Millisecond // between its rounds

func newPeer(t *testing.T, b *broker.Broker, borg string) *peer {
	t.Helper()
	p := &peer{t: t, broker: b, dir: t.TempDir(), borg: borg, end: func() {}}
	p.credentials, p.key = mint(t, b, "web1")
	pair, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if p.ring, err = secret.ParseRing(seed); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end() })
	return p
}

// begin starts the agent, after it was ended.
func (p *peer) begin() {
	p.t.Helper()
	p.end()
	opened, err := journal.Open(journal.Options{Path: filepath.Join(p.dir, "journal.db"), Logger: hclog.NewNullLogger()})
	if err != nil {
		p.t.Fatal(err)
	}
	p.journal, p.instance, p.begun = opened, rand.Text(), time.Now().UTC()
	p.worker = p.newWorker()
	ctx, cancel := context.WithCancel(context.Background())
	var actors sync.WaitGroup
	actors.Go(func() {
		if err := p.worker.Run(ctx); err != nil {
			p.t.Errorf("worker: %v", err)
		}
	})
	actors.Go(func() { p.speak(ctx) })
	p.mend()
	p.end = sync.OnceFunc(func() {
		p.cut()
		cancel()
		actors.Wait()
		if err := opened.Close(); err != nil {
			p.t.Errorf("close journal: %v", err)
		}
	})
}

func (p *peer) newWorker() *worker.Worker {
	p.t.Helper()
	signer, err := p.broker.Signer().PublicKey()
	if err != nil {
		p.t.Fatal(err)
	}
	logger := hclog.NewNullLogger()
	runs := process.NewLocal(process.Options{Root: filepath.Join(p.dir, "jobs"), Supervisor: enginetest.Supervisor(), Logger: logger})
	return worker.New(worker.Options{
		Host: "web1", Instance: p.instance, Signer: signer, Secrets: p.ring, Slots: 1, Journal: p.journal, Runs: runs, Mounts: noMounts{},
		Policy: policy.Rules{Kinds: job.Kinds(), Read: []string{"/"}, Repositories: []string{"*"}}, Borg: probe.NewBorg(p.borg), Logger: logger,
		Engine: engine.New(engine.Options{
			Environment: borg.Environment{Binary: p.borg, BaseDir: filepath.Join(p.dir, "borg")}, Executor: runs, Logger: logger,
		}),
	})
}

func (p *peer) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil {
		p.link.Close()
		p.link = nil
	}
}

// mend connects, and answers from then on.
func (p *peer) mend() {
	p.t.Helper()
	connection := dial(p.t, p.broker, "web1", p.credentials)
	current := p.worker
	for subject, answer := range map[string]func([]byte) ([]byte, error){
		bus.OrderSubject("web1"): func(data []byte) ([]byte, error) {
			return handle(data, func(e bus.Envelope) (bus.OrderReply, error) { return current.Order(context.Background(), e) })
		},
		bus.CancelSubject("web1"): func(data []byte) ([]byte, error) {
			return handle(data, func(c bus.Cancel) (bus.CancelReply, error) { return current.Cancel(context.Background(), c) })
		},
		bus.PresenceSubject("web1", p.instance): func([]byte) ([]byte, error) {
			return json.Marshal(bus.Presence{Instance: p.instance})
		},
		bus.ReadSubject("web1"): func(data []byte) ([]byte, error) {
			var read bus.Read
			err := json.Unmarshal(data, &read)
			return current.Read(context.Background(), read).Append(nil), err
		},
	} {
		_, err := connection.Subscribe(subject, func(m *nats.Msg) {
			go func() { // a question for a piece may wait
				if reply, err := answer(m.Data); err == nil {
					_ = m.Respond(reply) // a connection that is cut is part of the tests
				}
			}()
		})
		if err != nil {
			p.t.Fatal(err)
		}
	}
	if err := connection.FlushTimeout(patience); err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link = connection
}

func handle[Request, Reply any](data []byte, f func(Request) (Reply, error)) ([]byte, error) {
	var request Request
	if err := json.Unmarshal(data, &request); err != nil {
		return nil, err
	}
	reply, err := f(request)
	if err != nil {
		return nil, err
	}
	return json.Marshal(reply)
}

// speak tells what the journal has, and says hello, until ctx ends.
func (p *peer) speak(ctx context.Context) {
	for ctx.Err() == nil {
		p.mu.Lock()
		connection := p.link
		p.mu.Unlock()
		if connection != nil {
			p.round(ctx, connection)
		}
		select {
		case <-ctx.Done():
		case bp := <-p.worker.Progress():
			if data, err := json.Marshal(bp); err == nil && connection != nil {
				_ = connection.Publish(bus.ProgressSubject("web1", bp.Job), data) // it may be lost
			}
		case <-time.After(peerPause):
		}
	}
}

// round is given up at the first fault: the next one follows at once.
func (p *peer) round(ctx context.Context, connection *nats.Conn) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	snapshot, err := p.journal.Snapshot()
	if err != nil {
		p.t.Errorf("snapshot: %v", err)
		return
	}
	hello := bus.Hello{
		Host: "web1", Instance: p.instance, SealKey: p.ring.Public(), StartedAt: p.begun, At: time.Now(),
		Slots: 1, Stamp: snapshot.Stamp, JournalDepth: snapshot.Depth,
	}
	for _, r := range snapshot.Records {
		hello.Attempts = append(hello.Attempts, bus.HostAttempt{Job: r.Key.Job, Attempt: r.Key.Number, LastSeq: r.LastSeq, Finished: r.Finished})
		if p.publish(ctx, connection, r) != nil {
			return
		}
	}
	answer, err := request(ctx, connection, bus.HelloSubject("web1"), "", hello)
	if err != nil {
		return
	}
	var reply bus.HelloReply
	if err := json.Unmarshal(answer.Data, &reply); err != nil {
		p.t.Errorf("answer to a hello: %v", err)
	}
	if err := p.worker.Settle(ctx, reply.Verdicts); err != nil && ctx.Err() == nil {
		p.t.Errorf("settle: %v", err)
	}
}

func (p *peer) publish(ctx context.Context, connection *nats.Conn, r attempt.Record) error {
	events, err := p.journal.Events(r.Key, r.Stored, r.LastSeq)
	for _, e := range events {
		if err == nil {
			_, err = request(ctx, connection, bus.EventSubject("web1", e.Job), bus.EventID(e), e)
		}
	}
	return err
}

func request(ctx context.Context, connection *nats.Conn, subject, id string, body any) (*nats.Msg, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	message := nats.NewMsg(subject)
	message.Data = data
	if id != "" {
		message.Header.Set(jetstream.MsgIDHeader, id)
	}
	return connection.RequestMsgWithContext(ctx, message)
}

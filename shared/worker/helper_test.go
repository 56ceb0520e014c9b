package worker_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/journal"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/policy"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/borgfleet/borgfleet/shared/worker"
)

const host = "web1"

// fakeEngine runs nothing: an attempt tells that it started, and ends when the
// test says so or when it is cancelled.
type fakeEngine struct {
	mu      sync.Mutex
	running map[string]chan job.Outcome
	outputs map[string]process.Output // of attempts that stream
	resumed []engine.Resume
	tasks   []engine.Attempt
	removed []string
	ending  []string
	ended   chan struct{} // End waits for it; nil: not at all
	fail    int           // so many calls fail before one works
}

func (e *fakeEngine) Resume(ctx context.Context, a engine.Attempt, from engine.Resume, rec engine.Recorder, cancel <-chan struct{}) error {
	e.mu.Lock()
	if e.fail > 0 {
		e.fail--
		e.mu.Unlock()
		return context.DeadlineExceeded
	}
	end := make(chan job.Outcome, 1)
	e.running[a.ID()] = end
	e.resumed, e.tasks = append(e.resumed, from), append(e.tasks, a)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.running, a.ID())
		e.mu.Unlock()
	}()
	at := process.Offsets{Stderr: 10}
	if !from.StartedTold {
		if err := rec.Record(ctx, job.Event{Type: job.EventStarted, State: job.Running}, at); err != nil {
			return err
		}
	}
	rec.Progress(job.Progress{NFiles: 1})
	outcome := job.Outcome{State: job.Cancelled}
	select {
	case outcome = <-end:
	case <-cancel:
	case <-ctx.Done():
		return ctx.Err()
	}
	return rec.Record(ctx, job.Event{Type: job.EventFinished, State: outcome.State, Failure: outcome.Failure}, at)
}

// output waits for the attempt's start, as a real one does.
func (e *fakeEngine) output(ctx context.Context, id string) (process.Output, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		e.mu.Lock()
		_, runs := e.running[id]
		output := e.outputs[id]
		e.mu.Unlock()
		if runs && output == nil {
			return nil, process.ErrNoOutput
		}
		if runs {
			return output, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func (e *fakeEngine) End(ctx context.Context, id string) error {
	e.mu.Lock()
	e.ending = append(e.ending, id)
	e.mu.Unlock()
	if e.ended == nil {
		return nil
	}
	select {
	case <-e.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *fakeEngine) Remove(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.removed = append(e.removed, id)
	return nil
}

func (e *fakeEngine) ids() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	ids := []string{}
	for id := range e.running {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (e *fakeEngine) finish(t *testing.T, key attempt.Key, state job.State) {
	t.Helper()
	patience.Until(t, key.String()+" runs", func() bool { return slices.Contains(e.ids(), key.String()) })
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[key.String()] <- job.Outcome{State: state}
}

// fakeRuns are job directories that are only names.
type fakeRuns struct {
	engine *fakeEngine // starts what prints
	mu     sync.Mutex
	ids    []string
	over   []string // those of them that do not live
	argv   map[string][]string
	kept   []string
}

func (r *fakeRuns) List(context.Context) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids), nil
}

func (r *fakeRuns) Over(_ context.Context, id string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.over, id), nil
}

func (r *fakeRuns) Argv(_ context.Context, id string) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.argv[id], nil
}

func (r *fakeRuns) Output(ctx context.Context, id string) (process.Output, error) {
	return r.engine.output(ctx, id)
}

func (r *fakeRuns) Clean(_ context.Context, _ time.Duration, keep func(string) bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.ids {
		if keep(id) {
			r.kept = append(r.kept, id)
		}
	}
	return nil
}

// fakeMounts are mount points that are only names.
type fakeMounts struct {
	mu     sync.Mutex
	points []string
}

func (m *fakeMounts) List() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.points), nil
}

func (m *fakeMounts) Remove(_ context.Context, point string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.points = slices.DeleteFunc(m.points, func(p string) bool { return p == point })
	return nil
}

type fakeBorg struct{ failure *job.Failure }

func (b fakeBorg) Version(context.Context) (borg.Version, *job.Failure) {
	return borg.Version{Major: 1, Minor: 2, Patch: 4, Text: "1.2.4"}, b.failure
}

// fixture is a worker over a real journal.
type fixture struct {
	t       *testing.T
	path    string
	signer  nkeys.KeyPair
	seal    nkeys.KeyPair
	engine  *fakeEngine
	runs    *fakeRuns
	mounts  *fakeMounts
	borg    fakeBorg
	checks  func(context.Context) []job.Finding
	rules   policy.Rules
	wait    time.Duration // for a piece; 0: the protocol's
	idle    time.Duration // without questions for pieces; 0: the protocol's
	slots   int
	now     func() time.Time // nil: time.Now
	journal *journal.Journal
	worker  *worker.Worker
	stop    func()
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	signer, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seal, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	engine := &fakeEngine{running: map[string]chan job.Outcome{}, outputs: map[string]process.Output{}}
	return &fixture{
		t: t, path: filepath.Join(t.TempDir(), "journal.db"), signer: signer, seal: seal, slots: 1,
		engine: engine, runs: &fakeRuns{engine: engine}, mounts: &fakeMounts{},
		rules: policy.Rules{Kinds: job.Kinds(), Read: []string{"/"}, Repositories: []string{"*"}},
	}
}

// start opens the journal and runs a worker on it.
func (f *fixture) start() *fixture {
	f.t.Helper()
	store, err := journal.Open(journal.Options{Path: f.path, Logger: hclog.NewNullLogger(), Now: f.now})
	if err != nil {
		f.t.Fatal(err)
	}
	public, err := f.signer.PublicKey()
	if err != nil {
		f.t.Fatal(err)
	}
	f.journal = store
	f.worker = worker.New(worker.Options{
		Host: host, Signer: public, Secrets: f.ring(), Slots: f.slots, Journal: store, Engine: f.engine, Runs: f.runs,
		Policy: f.rules, Mounts: f.mounts, Borg: f.borg, Checks: f.checks, Logger: hclog.NewNullLogger(), Now: f.now,
		PieceWait: f.wait, PieceIdle: f.idle,
	})
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error)
	go func() { done <- f.worker.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("run: %v", err)
		}
		if err := store.Close(); err != nil {
			f.t.Errorf("close journal: %v", err)
		}
	})
	f.t.Cleanup(f.stop)
	return f
}

// ring is the host's seal key as the worker uses it.
func (f *fixture) ring() *secret.Ring {
	f.t.Helper()
	seed, err := f.seal.Seed()
	if err != nil {
		f.t.Fatal(err)
	}
	ring, err := secret.ParseRing(seed)
	if err != nil {
		f.t.Fatal(err)
	}
	return ring
}

// order returns a good order for a new job.
func (f *fixture) order() bus.Order {
	f.t.Helper()
	now := time.Now()
	public, err := f.seal.PublicKey()
	if err != nil {
		f.t.Fatal(err)
	}
	sealed, err := secret.Seal(secret.FromString("hunter2"), secret.Purpose{Host: host, Repository: "main"}, public)
	if err != nil {
		f.t.Fatal(err)
	}
	return bus.Order{
		Host: host, Job: job.NewID(now), Attempt: 1, IssuedAt: now, ExpiresAt: now.Add(bus.OrderLifetime),
		Kind: job.Backup, Spec: json.RawMessage(`{"paths":["/etc"]}`), Archive: "web1-now",
		Repository: job.Repository{Name: "main", Location: "/srv/main", Encryption: job.Repokey}, Passphrase: &sealed,
	}
}

// send gives an order to the worker, signed.
func (f *fixture) send(order bus.Order) bus.OrderReply {
	f.t.Helper()
	envelope, err := bus.SignOrder(order, f.signer)
	if err != nil {
		f.t.Fatal(err)
	}
	reply, err := f.worker.Order(f.t.Context(), envelope)
	if err != nil {
		f.t.Fatalf("order: %v", err)
	}
	return reply
}

func (f *fixture) cancel(key attempt.Key) {
	f.t.Helper()
	if _, err := f.worker.Cancel(f.t.Context(), bus.Cancel{Job: key.Job, Attempt: key.Number}); err != nil {
		f.t.Fatalf("cancel: %v", err)
	}
}

// told returns what the journal tells of an attempt, as type or final state.
func (f *fixture) told(key attempt.Key) []string {
	f.t.Helper()
	events, err := f.journal.Events(key, 0, 1000)
	if err != nil {
		f.t.Fatal(err)
	}
	told := []string{}
	for _, event := range events {
		word := string(event.Type)
		if event.Type == job.EventFinished {
			word = string(event.State)
		}
		told = append(told, word)
	}
	return told
}

func (f *fixture) awaitEnd(key attempt.Key, want ...string) {
	f.t.Helper()
	patience.Until(f.t, key.String()+" is over", func() bool {
		told := f.told(key)
		return len(told) > 0 && job.State(told[len(told)-1]).Terminal()
	})
	if told := f.told(key); !slices.Equal(told, want) {
		f.t.Errorf("%s told %v; want %v", key, told, want)
	}
}

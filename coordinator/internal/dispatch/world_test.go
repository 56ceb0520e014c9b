package dispatch_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// world is a coordinator's dispatch on a real store, with agents around it.
type world struct {
	t        testing.TB
	dir      string
	link     *link
	registry *registry
	agents   map[string]*agent
	limits   dispatch.Limits
	wrap     func(*dispatch.Service) // for faults of the store
	behind   bool                    // the stream is not read yet at a start
	history  dispatch.History

	depot     *depot                   // nil: there is none
	attention func() []fleet.Attention // what other parts say

	mu     sync.Mutex
	stream []bus.Event
	next   int // first event that is not acknowledged

	store    *store.Store
	feed     *feed.Feed
	presence *dispatch.Presence
	service  *dispatch.Service
	stop     func()
}

// newWorld makes a store with hosts and repositories, and starts the service.
func newWorld(t testing.TB, hosts, repositories []string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), agents: map[string]*agent{}, limits: dispatch.Limits{PerHost: 2}}
	w.link = &link{agents: map[string]*agent{}}
	w.registry = &registry{views: map[string]fleet.HostView{}}
	w.openStore()
	var changes []store.Change
	for _, name := range hosts {
		host := fleet.Host{Name: name, Mode: fleet.ModeAgent, CreatedAt: time.Now()}
		changes = append(changes, store.CreateHost(host))
		w.registry.views[name] = fleet.HostView{Host: host}
		w.agents[name] = newAgent(name, w.publish)
		w.link.agents[name] = w.agents[name]
	}
	for _, name := range repositories {
		changes = append(changes, store.CreateRepository(fleet.Repository{
			Repository:    job.Repository{Name: name, Location: "/srv/" + name, Encryption: job.RepokeyBlake2},
			HasPassphrase: true,
		}))
	}
	if _, err := w.store.Apply(changes...); err != nil {
		t.Fatal(err)
	}
	w.start()
	t.Cleanup(w.halt)
	return w
}

func (w *world) openStore() {
	w.t.Helper()
	var err error
	if w.store, err = store.Open(filepath.Join(w.dir, "store.db"), hclog.NewNullLogger()); err != nil {
		w.t.Fatal(err)
	}
}

// start makes a service on the store, as a coordinator's start does, and runs it.
func (w *world) start() {
	w.t.Helper()
	w.feed, w.presence = feed.New(), dispatch.NewPresence(nil)
	w.registry.online = w.presence.Online
	options := dispatch.Options{
		Store: w.store, Link: w.link, Registry: w.registry, Presence: w.presence, Feed: w.feed,
		LogDir: filepath.Join(w.dir, "logs"), Limits: w.limits, Logger: hclog.NewNullLogger(), Version: "test",
		Attention: w.attention, History: w.history,
	}
	if w.depot != nil {
		options.Depot, options.DepotAddress = w.depot, w.depot.address
	}
	service, err := dispatch.New(options)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.wrap != nil {
		w.wrap(service)
	}
	if !w.behind {
		service.CaughtUp()
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = service.Run(ctx) // ctx's error
	}()
	w.mu.Lock()
	w.service = service
	w.mu.Unlock()
	w.stop = func() {
		cancel()
		<-ended
	}
}

// restart is a coordinator that dies and comes back on the same files.
func (w *world) restart() {
	w.t.Helper()
	w.halt()
	w.openStore()
	w.start()
}

func (w *world) halt() {
	if w.stop == nil {
		return
	}
	w.stop()
	w.stop = nil
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) dispatch() *dispatch.Service {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.service
}

func (w *world) publish(event bus.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stream = append(w.stream, event)
}

// deliver hands over what is in the stream and not acknowledged.
func (w *world) deliver() error {
	w.mu.Lock()
	var batch []bus.StreamEvent
	for i := w.next; i < len(w.stream); i++ {
		batch = append(batch, bus.StreamEvent{Sequence: uint64(i + 1), Event: w.stream[i]})
	}
	end, service := len(w.stream), w.service
	w.mu.Unlock()
	err := service.HandleEvents(context.Background(), batch)
	if err == nil {
		w.mu.Lock()
		w.next = max(w.next, end)
		w.mu.Unlock()
	}
	return err
}

// mustDeliver is deliver without faults around it.
func (w *world) mustDeliver() {
	w.t.Helper()
	if err := w.deliver(); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

// hello lets a host say hello, and waits until everything that follows is done.
func (w *world) hello(host string) bus.HelloReply {
	w.t.Helper()
	a := w.agents[host]
	reply, err := w.dispatch().HandleHello(context.Background(), a.hello())
	if err != nil {
		w.t.Fatal(err)
	}
	a.settled(reply)
	synctest.Wait()
	return reply
}

func backup(host, repository string) job.Request {
	return job.Request{Host: host, Kind: job.Backup, Repository: repository, Spec: json.RawMessage(`{"paths":["/etc"]}`)}
}

func (w *world) submit(request job.Request) job.Job {
	w.t.Helper()
	j, err := w.dispatch().Submit(context.Background(), fleet.Actor{Name: "operator:alice"}, request)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// job waits until nothing moves, and returns the job.
func (w *world) job(id job.ID) job.Job {
	w.t.Helper()
	synctest.Wait()
	j, err := w.dispatch().Job(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// expect checks a job's state, attempt and reason.
func (w *world) expect(id job.ID, state job.State, attempt int, reason string) job.Job {
	w.t.Helper()
	j := w.job(id)
	if j.State != state || j.Attempt != attempt || j.Reason != reason {
		w.t.Fatalf("job is %s in attempt %d (%q), want %s in attempt %d (%q)", j.State, j.Attempt, j.Reason, state, attempt, reason)
	}
	return j
}

func succeeded() job.Event {
	return job.Event{Type: job.EventFinished, State: job.Succeeded, Result: &job.Result{Archive: "a", OriginalSize: 100, NFiles: 3, Duration: 1}}
}

func failed(code job.Code) job.Event {
	return job.Event{Type: job.EventFinished, State: job.Failed, Failure: job.Fail(code, "it broke")}
}

// spoilLogs puts a file where the directory of logs should be.
func spoilLogs(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "logs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

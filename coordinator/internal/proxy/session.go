package proxy

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/journal"
	"github.com/borgfleet/borgfleet/shared/worker"
)

// session is one host for as long as it is attached.
type session struct {
	service   *Service
	runner    Runner
	logger    hclog.Logger
	instance  string
	startedAt time.Time
	journal   *journal.Journal
	worker    *worker.Worker
	engine    *runs
	reach     *reach
	greets    chan chan<- struct{} // who wants a hello now

	life   context.Context // of the session
	cancel context.CancelFunc
	actors sync.WaitGroup

	using  sync.RWMutex // held for reading by whoever uses the journal from outside
	closed bool
}

// open opens a host's journal and makes its worker; nothing runs yet.
func (s *Service) open(r Runner) (*session, error) {
	dir := s.dir(r.Host)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of host %s: %w", r.Host, err)
	}
	logger := s.logger.With("host", r.Host)
	opened, err := journal.Open(journal.Options{Path: filepath.Join(dir, "journal.db"), Logger: logger, Now: s.options.Now})
	if err != nil {
		return nil, fmt.Errorf("journal of host %s: %w", r.Host, err)
	}
	r.Slots = cmp.Or(r.Slots, 1)
	h := &session{
		service: s, runner: r, logger: logger, journal: opened,
		instance: rand.Text(), startedAt: s.options.Now().UTC(), reach: newReach(), greets: make(chan chan<- struct{}),
	}
	h.life, h.cancel = context.WithCancel(context.Background())
	h.engine = newRuns(h)
	h.worker = worker.New(worker.Options{
		Host: r.Host, Instance: h.instance, Secrets: s.options.Ring, Slots: r.Slots, Journal: opened, Engine: h.engine,
		Runs: r.Runs, Policy: guarded{r.Policy, r.Problem}, Mounts: r.Mounts, Borg: r.Borg, RSH: r.RSH, Checks: r.Checks,
		Logger: logger, Now: s.options.Now, PieceIdle: s.options.PieceIdle,
	})
	return h, nil
}

// begin starts what the session does.
func (h *session) begin() {
	ctx := h.life
	h.actors.Go(func() { h.work(ctx) })
	h.actors.Go(func() { h.settle(ctx) })
	h.actors.Go(func() { h.engine.clean(ctx) })
	h.actors.Go(func() { h.forward(ctx) })
}

// end stops all of that, and closes the journal.
func (h *session) end() error {
	h.cancel()
	h.actors.Wait()
	h.using.Lock()
	defer h.using.Unlock()
	h.closed = true
	if err := h.journal.Close(); err != nil {
		return fmt.Errorf("close the journal of host %s: %w", h.runner.Host, err)
	}
	return nil
}

// use calls f while the journal is open, or returns that the host is away.
func (h *session) use(f func() error) error {
	h.using.RLock()
	defer h.using.RUnlock()
	if h.closed {
		return fleet.ErrHostAway
	}
	return f()
}

// Waits before the worker is run again that could not look at its host.
const (
	minWait = time.Second
	maxWait = 30 * time.Second
)

// work runs the worker. It begins by looking at the job directories: as long as
// the host cannot be reached it fails there, and nothing begins.
func (h *session) work(ctx context.Context) {
	for wait := minWait; ; wait = min(2*wait, maxWait) {
		if !h.reach.await(ctx) {
			return
		}
		err := h.worker.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		h.logger.Warn("look at what runs on the host; trying again", "err", err)
		if !pause(ctx, wait) {
			return
		}
	}
}

// forward passes live progress on.
func (h *session) forward(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-h.worker.Progress():
			h.service.options.Sessions.HandleProgress(h.runner.Host, p)
		}
	}
}

// pause reports false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// guarded is a policy that refuses everything while a person must act.
type guarded struct {
	worker.Policy
	problem func() *job.Failure
}

// Check implements worker.Policy.
func (g guarded) Check(order bus.Order) *job.Failure {
	if g.problem != nil {
		if failure := g.problem(); failure != nil {
			return failure
		}
	}
	return g.Policy.Check(order)
}

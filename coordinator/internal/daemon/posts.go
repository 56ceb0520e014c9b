package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/proxy"
	"github.com/borgfleet/borgfleet/coordinator/internal/registry"
	"github.com/borgfleet/borgfleet/shared/job"
)

// post is what the coordinator keeps up for one host without an agent, besides
// its session in proxy.
type post interface {
	// runner is what runs the host's jobs.
	runner() proxy.Runner
	// run keeps the host in reach until ctx ends. The host is attached meanwhile.
	run(ctx context.Context)
	// still reports whether the post is right for a host as it is now.
	still(fleet.Host) bool
	// problem says why the host is not reached; nil: it is.
	problem() *job.Failure
}

// posts keeps the hosts without an agent in service, as the registry has them.
// It is safe for concurrent use.
type posts struct {
	registry *registry.Registry
	proxy    *proxy.Service
	feed     *feed.Feed
	logger   hclog.Logger
	dir      string // of the journals
	// restored says that the store was put back to an older copy: it may have
	// forgotten hosts whose journals are here.
	restored bool
	open     func(ctx context.Context, host fleet.Host) (post, error)

	changing sync.Mutex // held while one is opened or closed
	mu       sync.Mutex
	life     context.Context // of Run; nil before
	kept     map[string]*keptPost
	taken    map[string]bool // out of service, by whoever took them
	failed   bool            // one could not be opened; it is tried again
}

// keptPost is a post that runs.
type keptPost struct {
	post
	cancel context.CancelFunc
	done   chan struct{}
}

// reopen is after how long a host is tried again that could not be taken into
// service.
const reopen = 30 * time.Second

// Run follows the registry until ctx ends. Then no post is kept any more.
func (p *posts) Run(ctx context.Context) error {
	watcher := p.feed.Watch()
	defer watcher.Close()
	defer p.closeAll()
	p.mu.Lock()
	p.life = ctx
	p.mu.Unlock()
	p.sweep(ctx)
	p.all(ctx)
	updates := make(chan []feed.Update)
	go func() {
		defer close(updates)
		for {
			batch, err := watcher.Next(ctx)
			if err != nil {
				return
			}
			select {
			case updates <- batch:
			case <-ctx.Done():
				return
			}
		}
	}()
	again := time.NewTicker(reopen)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case batch := <-updates:
			p.take(ctx, batch)
		case <-again.C:
			if p.hasFailed() {
				p.all(ctx)
			}
		}
	}
}

// take looks at what has changed.
func (p *posts) take(ctx context.Context, batch []feed.Update) {
	for _, update := range batch {
		switch update.Type {
		case feed.Missed:
			p.all(ctx)
		case feed.HostChanged:
			p.one(ctx, update.Host)
		}
	}
}

// all looks at every host.
func (p *posts) all(ctx context.Context) {
	p.mu.Lock()
	p.failed = false
	names := map[string]bool{}
	for name := range p.kept {
		names[name] = true
	}
	p.mu.Unlock()
	hosts, err := p.registry.Hosts(ctx)
	if err != nil {
		p.fail("look for hosts without an agent", "", err)
		return
	}
	for _, host := range hosts {
		names[host.Name] = true
	}
	for name := range names {
		p.one(ctx, name)
	}
}

// one takes a host into service, or out of it, as the registry has it.
func (p *posts) one(ctx context.Context, name string) {
	p.changing.Lock()
	defer p.changing.Unlock()
	view, err := p.registry.Host(ctx, name)
	failure, known := errors.AsType[*job.Failure](err)
	switch {
	case known && failure.Code == job.UnknownHost:
		p.drop(name)
	case err != nil:
		p.fail("look at a host", name, err)
	case view.Mode != fleet.ModeSSH && view.Mode != fleet.ModeLocal:
		p.drop(name)
	default:
		if err := p.keep(ctx, view.Host); err != nil {
			p.fail("take a host into service; trying again", name, err)
		}
	}
}

func (p *posts) fail(doing, host string, err error) {
	p.logger.Error(doing, "host", host, "err", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = true
}

func (p *posts) hasFailed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

func (p *posts) find(host string) *keptPost {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept[host]
}

// keep opens a post, unless there is one that is still right.
func (p *posts) keep(ctx context.Context, host fleet.Host) error {
	p.mu.Lock()
	taken := p.taken[host.Name]
	p.mu.Unlock()
	present := p.find(host.Name)
	if taken || present != nil && present.still(host) && p.proxy.Has(host.Name) {
		return nil
	}
	p.close(host.Name)
	opened, err := p.open(ctx, host)
	if err != nil {
		return err
	}
	if err := p.proxy.Attach(opened.runner()); err != nil {
		return err
	}
	within, cancel := context.WithCancel(ctx)
	k := &keptPost{post: opened, cancel: cancel, done: make(chan struct{})}
	p.mu.Lock()
	p.kept[host.Name] = k
	p.mu.Unlock()
	go func() {
		defer close(k.done)
		k.run(within)
	}()
	return nil
}

// close ends a post, and returns when it has ended. What runs on the host goes
// on, and its session with it.
func (p *posts) close(host string) {
	p.mu.Lock()
	k := p.kept[host]
	delete(p.kept, host)
	p.mu.Unlock()
	if k != nil {
		k.cancel()
		<-k.done
	}
}

// drop takes a host out of service that is gone, or has an agent now.
func (p *posts) drop(host string) {
	p.mu.Lock()
	kept, taken := p.kept[host] != nil, p.taken[host]
	p.mu.Unlock()
	if taken || !kept && !p.proxy.Has(host) {
		return
	}
	p.close(host)
	p.proxy.Detach(host, true)
}

// catchUp takes a host into service as the registry has it now, for who does not
// want to wait until the feed has told so.
func (p *posts) catchUp(host string) {
	p.mu.Lock()
	life := p.life
	p.mu.Unlock()
	if life != nil && life.Err() == nil {
		p.one(life, host)
	}
}

// lend takes a host out of service, but keeps its connection, until release is
// called. What runs on the host goes on.
func (p *posts) lend(host string) (release func(), err error) {
	p.changing.Lock()
	defer p.changing.Unlock()
	p.mu.Lock()
	life, taken := p.life, p.taken[host]
	if !taken {
		p.taken[host] = true
	}
	p.mu.Unlock()
	if taken {
		return nil, job.Fail(job.Conflict, "host %s is out of service already", host)
	}
	p.proxy.Detach(host, false)
	return func() {
		p.mu.Lock()
		delete(p.taken, host)
		p.mu.Unlock()
		p.one(life, host)
	}, nil
}

// lent reports whether a host is out of service, since it is given an agent.
func (p *posts) lent(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken[host]
}

func (p *posts) closeAll() {
	p.changing.Lock()
	defer p.changing.Unlock()
	p.mu.Lock()
	kept := p.kept
	p.kept = map[string]*keptPost{}
	p.mu.Unlock()
	for _, k := range kept {
		k.cancel()
	}
	for _, k := range kept {
		<-k.done
	}
}

// sweep forgets the journals of hosts that were removed when nobody was there
// to do so.
func (p *posts) sweep(ctx context.Context) {
	entries, err := os.ReadDir(p.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.logger.Warn("look for journals of hosts that are gone", "err", err)
	}
	for _, entry := range entries {
		view, err := p.registry.Host(ctx, entry.Name())
		failure, known := errors.AsType[*job.Failure](err)
		gone := known && failure.Code == job.UnknownHost && !p.restored
		if gone || err == nil && view.Mode == fleet.ModeAgent {
			p.proxy.Detach(entry.Name(), true)
		}
	}
}

// problem says why a host is not reached, for the registry. It may be nil before
// there are posts.
func (p *posts) problem(host string) *job.Failure {
	if p == nil {
		return nil
	}
	if k := p.find(host); k != nil {
		return k.problem()
	}
	return nil
}

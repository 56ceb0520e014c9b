package daemon

import (
	"cmp"
	"context"
	"net"
	"reflect"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/proxy"
	"github.com/borgfleet/borgfleet/coordinator/internal/remote"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Times of a host over SSH.
const (
	lookTime    = 30 * time.Second // to find out what it is like
	lookEvery   = 5 * time.Minute
	waitForHost = 15 * time.Second // an attempt waits so long for a connection that has just been lost
)

// sshPost is a host that the coordinator connects to.
type sshPost struct {
	*daemon
	host   fleet.Host
	config sshlink.Config
	client *sshlink.Client
	remote *remote.Host

	mu     sync.Mutex
	moved  chan struct{} // closed, and made anew, when the connection comes or goes
	hello  *bus.Hello    // what it is like; nil: nobody has looked
	ahead  time.Duration // its clock, before ours
	fault  *job.Failure  // why nothing can be run there, though it is connected
	dir    string        // of ours there
	rsh    string        // how borg reaches servers but the depot
	tunnel int           // port on its loopback that leads to the depot; 0: none
}

// openSSH makes the post of a host; nobody is called yet.
func (d *daemon) openSSH(ctx context.Context, host fleet.Host) (*sshPost, error) {
	if host.SSH == nil {
		return nil, job.Fail(job.Internal, "nothing is known of how host %s is reached", host.Name)
	}
	key, err := d.registry.SSHKey(ctx, host.Name)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(key.Reveal())
	if err != nil { // whose words might quote the key
		return nil, job.Fail(job.Internal, "the key that is shown to host %s cannot be used", host.Name)
	}
	access := *host.SSH
	p := &sshPost{daemon: d, host: host, moved: make(chan struct{})}
	p.config = sshlink.Config{
		Host: host.Name, Address: access.Address, HostKeys: access.HostKeys, Jump: access.Jump, Signer: signer, Sudo: access.Sudo,
	}
	p.client = sshlink.New(p.config, sshlink.Options{Logger: d.logger.Named("sshlink"), Changed: func(sshlink.State) { p.change(func() {}) }})
	p.remote = remote.New(remote.Options{
		Shell: p.client, Host: host.Name, Dir: access.Dir, Borg: access.Borg, Hooks: access.Hooks, Logger: d.logger,
	})
	if f := host.Facts; f != nil { // until somebody has looked again
		p.hello = &bus.Hello{BorgVersion: f.BorgVersion, BorgFailure: f.BorgFailure, OS: f.OS, FreeBytes: f.FreeBytes}
		p.ahead = time.Duration(f.ClockSkew * float64(time.Second))
	}
	return p, nil
}

// change calls f with the lock, and lets everybody look again.
func (p *sshPost) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.moved)
	p.moved = make(chan struct{})
}

// state returns how the connection is, and what is closed when that changes.
func (p *sshPost) state() (sshlink.State, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.client.State(), p.moved
}

func (p *sshPost) still(host fleet.Host) bool {
	return host.Mode == fleet.ModeSSH && host.Reach == p.host.Reach && reflect.DeepEqual(host.SSH, p.host.SSH)
}

func (p *sshPost) problem() *job.Failure {
	state, _ := p.state()
	if !state.Connected {
		return state.Failure
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

// final says why the host cannot be reached until a person has acted.
func (p *sshPost) final() *job.Failure {
	if state, _ := p.state(); state.Final {
		return state.Failure
	}
	return nil
}

// run keeps the connection, and tells who waits for the host whether it is there.
func (p *sshPost) run(ctx context.Context) {
	var client sync.WaitGroup
	defer client.Wait()
	client.Go(func() { _ = p.client.Run(ctx) }) // it ends with ctx
	again := time.NewTicker(lookEvery)
	defer again.Stop()
	for told := (sshlink.State{}); ; {
		state, moved := p.state()
		if state != told {
			p.follow(ctx, state)
			told = state
		}
		select {
		case <-ctx.Done():
			return
		case <-moved:
		case <-again.C:
			if state.Connected {
				p.look(ctx)
			}
		}
	}
}

// follow takes in that the connection came or went. A host that a person must
// mend counts as there, so that its jobs fail at once and do not wait, but not
// before anything is known of it.
func (p *sshPost) follow(ctx context.Context, state sshlink.State) {
	if state.Connected {
		p.arrive(ctx)
	}
	p.mu.Lock()
	known := p.hello != nil
	p.mu.Unlock()
	p.proxy.SetOnline(p.host.Name, known && (state.Connected || state.Final))
	p.feed.Publish(feed.Update{Type: feed.HostChanged, Host: p.host.Name})
}

// arrive looks at the host when there is a new connection.
func (p *sshPost) arrive(ctx context.Context) {
	p.mu.Lock()
	p.tunnel = 0 // it has gone with the connection before
	p.mu.Unlock()
	p.remote.Forget()
	p.look(ctx)
	p.prepareKey(ctx)
	if p.host.Reach == fleet.ReachTunnel {
		if _, failure := p.dig(ctx); failure != nil {
			p.logger.Warn("no tunnel to the depot; it is tried again when a job needs it", "host", p.host.Name, "err", failure)
		}
	}
}

// look finds out what the host is like.
func (p *sshPost) look(ctx context.Context) *job.Failure {
	ctx, done := context.WithTimeout(ctx, lookTime)
	defer done()
	facts, failure := p.remote.Look(ctx)
	if failure != nil {
		p.logger.Warn("look at a host", "host", p.host.Name, "err", failure)
		return failure
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hello = &bus.Hello{BorgVersion: facts.Borg.Text, BorgFailure: facts.BorgFailure, OS: facts.OS, FreeBytes: facts.FreeBytes}
	p.ahead, p.fault, p.dir = facts.ClockAhead, facts.Problem, facts.Dir
	return nil
}

// prepareKey has the host make its own key, which is known to the depot from
// then on, and is shown to other servers as well.
func (p *sshPost) prepareKey(ctx context.Context) {
	ctx, done := context.WithTimeout(ctx, lookTime)
	defer done()
	public, failure := p.remote.EnsureKey(ctx)
	if failure != nil {
		p.logger.Warn("a host has no key of its own", "host", p.host.Name, "err", failure)
		return
	}
	if err := p.registry.SetDepotKey(ctx, p.host.Name, public); err != nil {
		p.logger.Warn("note the key of a host", "host", p.host.Name, "err", err)
	}
	files, failure := p.remote.Identities(ctx)
	if failure != nil {
		p.logger.Warn("look for the keys of a host", "host", p.host.Name, "err", failure)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rsh = borg.IdentityRSH(files)
}

// dig returns the port of the tunnel to the depot, which it opens if there is
// none.
func (p *sshPost) dig(ctx context.Context) (int, *job.Failure) {
	if p.depot == nil {
		return 0, job.Fail(job.Unavailable, "this coordinator keeps no depot").WithHint("set depot.listen in coordinator.yaml")
	}
	p.mu.Lock()
	port := p.tunnel
	p.mu.Unlock()
	if port != 0 {
		return port, nil
	}
	port, err := p.client.Forward(context.WithoutCancel(ctx), func(c net.Conn) { // it ends with the connection
		p.depot.ServeConn(c, "the tunnel of host "+p.host.Name)
	})
	if err != nil {
		return 0, job.AsFailure(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tunnel = port
	return port, nil
}

// Version implements worker.Borg. It waits for a connection that has just been
// lost, so that no attempt is spent on that.
func (p *sshPost) Version(ctx context.Context) (borg.Version, *job.Failure) {
	ctx, done := context.WithTimeout(ctx, waitForHost)
	defer done()
	for {
		state, moved := p.state()
		failure := state.Failure
		if state.Connected {
			version, why := p.remote.Version(ctx)
			if why == nil || why.Code != job.HostUnreachable && why.Code != job.ConnectionLost {
				return version, why
			}
			failure = why
		}
		if state.Final {
			return borg.Version{}, failure
		}
		select {
		case <-moved:
		case <-ctx.Done():
			if failure == nil {
				failure = job.Fail(job.HostUnreachable, "host %s is not connected", p.host.Name)
			}
			return borg.Version{}, failure
		}
	}
}

// reachServer is how borg reaches the depot; empty: the repository is elsewhere.
func (p *sshPost) reachServer(ctx context.Context, order bus.Order) (string, *job.Failure) {
	if order.Depot == nil {
		return "", nil
	}
	way := *order.Depot
	if way.Address == "" {
		port, failure := p.dig(ctx)
		if failure != nil {
			return "", failure
		}
		way.Address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	return p.remote.RSH(ctx, way)
}

func (p *sshPost) facts(context.Context) bus.Hello {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hello == nil {
		return bus.Hello{}
	}
	hello := *p.hello
	hello.At = fault.Now().Add(p.ahead).UTC()
	return hello
}

func (p *sshPost) environment(context.Context) (borg.Environment, *job.Failure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return borg.Environment{Binary: p.host.SSH.Borg, RSH: p.rsh}, nil
}

func (p *sshPost) runner() proxy.Runner {
	return proxy.Runner{
		Host: p.host.Name, Executor: p.remote.Executor(), Runs: p.remote, Mounts: p.remote.Mounts(), Policy: p.remote.Policy(),
		Borg: p, Environment: p.environment, Nice: localNice, IOClass: localIOClass, RSH: p.reachServer,
		Checks: p.remote.Findings, Facts: p.facts, Problem: p.final, Slots: cmp.Or(p.host.SSH.Slots, 1),
	}
}

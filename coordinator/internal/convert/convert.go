// Package convert makes a host that the coordinator reaches over SSH one with an
// agent: it installs the agent over that very connection, enrols it, and waits
// until it has said hello. Only then the registry says that the host has an
// agent; its name, and so its history, stays. Whatever goes wrong before leaves
// the host as it was, apart from what is then said to be installed.
package convert

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Shell runs scripts on a host, as root when the host's access says so.
type Shell interface {
	// Exec runs a script by /bin/sh; input is what it reads. An error says that
	// the script may not have run, or not to its end.
	Exec(ctx context.Context, script string, input []byte, out, errs io.Writer) (code int, err error)
}

// Access is a host while it is converted. The coordinator gives it no orders
// meanwhile, neither over SSH nor to its agent, and takes it for offline until
// its agent is there.
type Access struct {
	Shell   Shell
	BaseDir string // where borg keeps keys and what it remembers there, with what the coordinator starts
	HostID  string // BORG_HOST_ID, with what the coordinator starts
	// Release ends that: without an agent, the host is in service as before.
	Release func(converted bool)
}

// Hosts is the registry. Refusals are *job.Failure.
type Hosts interface {
	// Host returns a host with its present state.
	Host(ctx context.Context, name string) (fleet.HostView, error)
	// ConvertHost says that a host of mode ssh has an agent now, and drops how
	// else it was reached, with the key for that.
	ConvertHost(ctx context.Context, by fleet.Actor, name string) error
}

// Tokens makes what a host needs to enrol. Refusals are *job.Failure.
type Tokens interface {
	EnrolmentToken(ctx context.Context, by fleet.Actor, asked fleet.NewEnrolmentToken) (fleet.EnrolmentToken, fleet.EnrolmentCommand, error)
	RemoveEnrolmentToken(ctx context.Context, by fleet.Actor, id string) error
}

// Jobs is where jobs are looked up.
type Jobs interface {
	Jobs(ctx context.Context, filter job.Filter) (job.Page, error)
}

// Options are what a Service works with.
type Options struct {
	Hosts  Hosts
	Tokens Tokens
	Jobs   Jobs
	// Take takes a host of mode ssh out of service. A refusal is a *job.Failure.
	Take func(ctx context.Context, host string) (Access, error)
	// Agents are the directories in which agents' binaries are looked for, named
	// borgfleet-agent or borgfleet-agent-linux-ARCH; the coordinator's own when
	// there are none.
	Agents []string
	Place  Place            // zero: where the agent's packages put things
	Wait   time.Duration    // for the agent's hello; 0: a minute
	Now    func() time.Time // nil: time.Now
	Logger hclog.Logger
}

// Place is where things lie on the host.
type Place struct {
	Binary string // of the agent
	Config string // agent.yaml
	Data   string // the agent's state directory
}

// maxTime bounds a conversion.
const maxTime = 5 * time.Minute

// Service converts hosts. It is safe for concurrent use.
type Service struct {
	options Options
	logger  hclog.Logger

	mu   sync.Mutex
	busy map[string]bool // hosts that are being converted
}

// New returns a Service.
func New(o Options) *Service {
	if o.Place == (Place{}) {
		o.Place = usualPlace
	}
	if o.Wait == 0 {
		o.Wait = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{options: o, logger: o.Logger.Named("convert"), busy: map[string]bool{}}
}

// usualPlace is where the agent's packages put things.
var usualPlace = Place{Binary: "/usr/local/bin/borgfleet-agent", Config: "/etc/borgfleet/agent.yaml", Data: "/var/lib/borgfleet-agent"}

// Convert makes a host of mode ssh one of mode agent, within five minutes, and
// returns what it has done, also with an error. That is a *job.Failure unless
// the coordinator itself is at fault. Who goes away does not end it.
func (s *Service) Convert(ctx context.Context, by fleet.Actor, host string) ([]fleet.ConvertStep, error) {
	done, err := s.begin(host)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxTime)
	defer cancel()
	view, err := s.options.Hosts.Host(ctx, host)
	if err == nil {
		err = s.check(ctx, view)
	}
	if err != nil {
		return nil, err
	}
	access, err := s.options.Take(ctx, host)
	if err != nil {
		return nil, err
	}
	c := &conversion{service: s, by: by, host: view, access: access, place: s.options.Place, taken: s.options.Now()}
	err = c.convert(ctx)
	access.Release(err == nil)
	if err != nil {
		s.logger.Warn("host not converted", "host", host, "by", by.Name, "err", err)
		return c.steps, err
	}
	s.logger.Info("host converted", "host", host, "by", by.Name)
	return c.steps, nil
}

// begin keeps others from converting the same host.
func (s *Service) begin(host string) (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[host] {
		return nil, job.Fail(job.Conflict, "host %s is being given an agent already", host).WithHint("wait until that is done; it takes minutes at most")
	}
	s.busy[host] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.busy, host)
	}, nil
}

// check refuses a host that has an agent, or work to do.
func (s *Service) check(ctx context.Context, host fleet.HostView) error {
	switch host.Mode {
	case fleet.ModeSSH:
	case fleet.ModeLocal:
		return job.Fail(job.Conflict, "host %s is the coordinator itself, and needs no agent", host.Name).
			WithHint("to back up the coordinator's machine, enrol an agent there under another name: borgfleet host token NAME")
	default:
		return job.Fail(job.Conflict, "host %s has an agent already", host.Name).
			WithHint("to set its agent up anew: borgfleet host token %s --replace", host.Name)
	}
	for _, state := range []job.State{job.Queued, job.Sent, job.Running} {
		page, err := s.options.Jobs.Jobs(ctx, job.Filter{Host: host.Name, State: state, Limit: 1})
		if err != nil {
			return fmt.Errorf("look for open jobs of host %s: %w", host.Name, err)
		}
		if len(page.Jobs) > 0 {
			return job.Fail(job.Conflict, "host %s has jobs that are not over: job %s is %s", host.Name, page.Jobs[0].ID, state).
				WithHint("cancel them, or wait until they are over; borgfleet job list --host %s shows them", host.Name)
		}
	}
	return nil
}

package dispatch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file tells the runs of a host's agent apart. Each has a random name, its
// instance. The coordinator works with one at a time.

// run is one run of an agent, from its start to its end.
type run struct {
	instance string // "": an agent of 0.2, which does not say
	started  time.Time
	stamp    bus.Stamp // the newest that it was heard with
}

// news is what a hello says besides its words. It holds until the hello is
// settled with the store.
type news struct {
	another    bool // it is of another run than the hello before
	rolledBack bool // the host's journal has gone back in time
}

// greeting is a hello that is settled.
type greeting struct {
	bus.Hello
	news
	at       time.Time
	restored time.Time // when the store was put back to an older copy; zero: never
	ready    bool      // what the stream held at the start is in the store
}

// rival is a run with the identity of a host whose agent is another one.
type rival struct{ since, heard time.Time }

const (
	rivalTime  = 90 * time.Second // without a hello, after which a rival is gone
	rolledTime = 24 * time.Hour   // for which a journal that went back is shown
)

// instance returns the run of the agent that the coordinator works with.
func (p *Presence) instance(host string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.hosts[host]; w != nil {
		return w.agent.instance
	}
	return ""
}

// replaced is why a run is refused whose host was given to another agent; nil
// for any other run.
func (p *Presence) replaced(hello bus.Hello) *job.Failure {
	p.mu.Lock()
	defer p.mu.Unlock()
	if hello.Instance == "" || p.retired[hello.Host] != hello.Instance {
		return nil
	}
	return job.Fail(job.Conflict, "the identity of host %s was given to another agent", hello.Host).
		WithHint("stop this one; to use it after all, enrol it again with a new token")
}

// opponent returns the run that would have to be gone before the coordinator
// can work with the one that says hello; "" if there is none. With wait, the
// latter was refused before the coordinator's start: the one that it stood back
// for gets time to be heard of.
func (p *Presence) opponent(hello bus.Hello) (instance string, wait bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.hosts[hello.Host]; w != nil {
		instance = w.agent.instance
	}
	if hello.Instance == "" || instance == hello.Instance {
		return "", false
	}
	return instance, instance == "" && hello.Refused && p.now().Sub(p.started) < silence
}

// refuse notes that a run of an agent was refused. It reports whether that is
// news.
func (p *Presence) refuse(host string) (fresh bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, now := p.of(host), p.now()
	if w.rival == nil || now.Sub(w.rival.heard) >= rivalTime {
		w.rival, fresh = &rival{since: now}, true
	}
	w.rival.heard = now
	return fresh
}

// work makes a run the one that the coordinator works with, and returns what is
// new with it. A later run of an agent knows all that an earlier one had on its
// disk when it told of it; otherwise the disk has gone back.
func (p *Presence) work(hello bus.Hello) news {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.of(hello.Host)
	before := w.agent
	later := hello.StartedAt.After(before.started)
	if later && !before.started.IsZero() && before.stamp.Journal == hello.Stamp.Journal && hello.Stamp.Revision < before.stamp.Revision {
		w.news.rolledBack, w.rolled = true, p.now()
	}
	if later || before.instance != hello.Instance {
		w.news.another = w.news.another || before.instance != hello.Instance
		w.agent = run{instance: hello.Instance, started: hello.StartedAt}
	}
	if hello.Stamp.Journal != w.agent.stamp.Journal || hello.Stamp.Revision > w.agent.stamp.Revision {
		w.agent.stamp = hello.Stamp
	}
	return w.news
}

// settled notes that the store knows what was new.
func (p *Presence) settled(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of(host).news = news{}
}

// noteStamp remembers the newest state of a host's journal that anything told
// of, not only a hello.
func (p *Presence) noteStamp(host string, stamp bus.Stamp) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.of(host); stamp.Revision > w.agent.stamp.Revision {
		w.agent.stamp = stamp
	}
}

// attention says which hosts' agents need a person, by name.
func (p *Presence) attention() []fleet.Attention {
	p.mu.Lock()
	defer p.mu.Unlock()
	items, now := []fleet.Attention{}, p.now()
	for host, w := range p.hosts {
		if w.rival != nil && now.Sub(w.rival.heard) < rivalTime {
			items = append(items, fleet.Attention{
				Kind: "duplicate", Host: host, Since: w.rival.since,
				Message: fmt.Sprintf("two agents run with the identity of host %s; one of them is refused", host),
				Hint:    "stop one of the two (borgfleet-agent status there says which is refused), and enrol a copied machine under a name of its own",
			})
		}
		if !w.rolled.IsZero() && now.Sub(w.rolled) < rolledTime {
			items = append(items, fleet.Attention{
				Kind: "rolled_back", Host: host, Since: w.rolled,
				Message: fmt.Sprintf("the agent's journal on host %s went back in time: its disk was put back to an older state", host),
				Hint:    "what ran there since is taken as interrupted; if nobody restored that machine, look at its disk",
			})
		}
	}
	slices.SortFunc(items, func(a, b fleet.Attention) int { return strings.Compare(a.Host+a.Kind, b.Host+b.Kind) })
	return items
}

// admit returns nil if the coordinator works with the run of an agent that says
// hello, or why it does not. The run that it works with is asked whether it is
// still there; no lock is held meanwhile.
func (s *Service) admit(ctx context.Context, hello bus.Hello) *job.Failure {
	if refused := s.presence.replaced(hello); refused != nil {
		return refused
	}
	present, wait := s.presence.opponent(hello)
	if !wait && (present == "" || !s.options.Link.Present(ctx, hello.Host, present)) {
		return nil
	}
	refused := job.Fail(job.Conflict, "another agent with the identity of host %s is at work", hello.Host).
		WithHint("stop one of the two; a machine that was copied must be enrolled under a name of its own: borgfleet-agent enroll")
	if s.presence.refuse(hello.Host) {
		s.logger.Error("a second agent with the same identity is refused", "host", hello.Host, "started", hello.StartedAt)
	}
	return refused
}

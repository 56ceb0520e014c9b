package dispatch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// model runs a fleet under random faults: lost requests and replies, hosts
// that come and go, repeated and reordered deliveries, a store that fails
// before and after its commit, coordinators that die at any moment, jobs that
// expire or run out of time, hosts that are away for longer than the limit, and
// hosts that talk nonsense. One repository is in the depot, and only to be
// appended to. It checks while it runs that processes never overlap
// where they must not, and that no step is asked of the store that the state
// table has not; and at the end that every job is over and ran to its end at
// most once.
type model struct {
	*world
	t         *testing.T
	random    *rand.Rand
	faults    bool // off at the end, so that everything can come to rest
	jobs      []job.ID
	completed map[job.ID]int      // processes that ended well or with a warning
	said      map[key]job.State   // what each process ended with
	lines     map[key]int         // log lines that each process wrote
	cancelled map[job.ID]bool     // by us
	unhosted  map[job.ID]bool     // open when their host was removed
	logged    map[job.ID][]string // what the log must hold, in order
}

func TestModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &model{
					t: t, world: newWorld(t, []string{"web1", "web2", "web3"}, []string{"a", "b"}),
					random: rand.New(rand.NewPCG(seed, 7)), faults: true,
					completed: map[job.ID]int{}, said: map[key]job.State{}, lines: map[key]int{},
					cancelled: map[job.ID]bool{}, unhosted: map[job.ID]bool{}, logged: map[job.ID][]string{},
				}
				m.halt()
				m.limits.Offline = 90 * time.Second
				m.openStore()
				m.keepDepot(map[string]fleet.Depot{"k": {AppendOnly: true, Hosts: []string{"*"}}})
				m.start()
				m.run()
			})
		})
	}
}

// chance is true once in n times while faults are on.
func (m *model) chance(n int) bool { return m.faults && m.random.IntN(n) == 0 }

func (m *model) run() {
	m.link.setFault(m.linkFault())
	m.breakStore()
	for range 250 {
		m.step()
	}
	m.faults = false
	m.link.setFault(nil)
	for _, a := range m.agents {
		a.setUp(true)
	}
	if m.random.IntN(2) == 0 { // it must not take a restart to mend what faults did
		m.restart()
	}
	for i := 0; !m.allOver(); i++ {
		if i == 500 {
			m.t.Fatalf("jobs do not come to an end: %s", m.openJobs())
		}
		for host := range m.agents {
			m.tryHello(host)
			m.work(host)
			m.mustDeliver()
			m.checkNow()
		}
		time.Sleep(10 * time.Second)
	}
	m.checkEnd()
}

// linkFault loses requests and replies. It runs on the service's goroutines,
// so it has randomness of its own.
func (m *model) linkFault() func(string) (error, error) {
	rolls := make(chan int, 10_000)
	for range cap(rolls) {
		rolls <- m.random.IntN(12)
	}
	return func(string) (error, error) {
		switch <-rolls {
		case 0:
			return errLost, nil
		case 1:
			return nil, errLost
		case 2:
			return fleet.ErrHostAway, nil
		}
		return nil, nil
	}
}

// breakStore makes writes fail now and then, stored or not.
func (m *model) breakStore() {
	rolls := rand.New(rand.NewPCG(m.random.Uint64(), 1)) // used under the service's write lock
	m.wrap = func(s *dispatch.Service) {
		s.WrapApply(func(inner func(...store.Change) (uint64, error)) func(...store.Change) (uint64, error) {
			return func(changes ...store.Change) (uint64, error) {
				if !m.faults || rolls.IntN(25) != 0 {
					sequence, err := inner(changes...)
					if errors.Is(err, store.ErrIllegal) || errors.Is(err, store.ErrTerminal) {
						m.t.Errorf("the store was asked for a step that no job can take: %v", err)
					}
					return sequence, err
				}
				switch rolls.IntN(3) {
				case 0:
					return 0, errors.New("disk full")
				case 1:
					return 0, store.ErrAmbiguous
				}
				if _, err := inner(changes...); err != nil {
					return 0, err
				}
				return 0, store.ErrAmbiguous
			}
		})
	}
	m.wrap(m.service)
}

func (m *model) step() {
	hosts := []string{"web1", "web2", "web3", fleet.LocalHost}
	host := hosts[m.random.IntN(len(hosts))]
	switch roll := m.random.IntN(20); {
	case roll < 3 && m.faults:
		m.trySubmit(host)
	case roll < 8:
		m.tryHello(host)
	case roll < 14:
		m.work(host)
	case roll < 17:
		_ = m.deliver() // what was not stored comes again
	case roll == 17 && m.chance(2):
		m.replay()
	case roll == 18 && m.chance(3):
		m.restart()
	case roll == 19 && m.chance(2):
		m.mischief(host)
	}
	time.Sleep(time.Duration(m.random.IntN(3000)) * time.Millisecond)
	synctest.Wait()
	m.checkNow()
}

func (m *model) trySubmit(host string) {
	if host == fleet.LocalHost {
		host = "web1"
	}
	kinds := []job.Kind{job.Backup, job.Backup, job.List, job.Prune, job.Mount, job.Umount}
	kind := kinds[m.random.IntN(len(kinds))]
	request := job.Request{
		Host: host, Kind: kind, Repository: []string{"a", "b", "k"}[m.random.IntN(3)],
		MaxAttempts: 5, IdempotencyKey: fmt.Sprintf("key-%d", m.random.Uint64()),
	}
	if m.random.IntN(3) == 0 {
		request.ExpiresIn = 1 + m.random.IntN(60)
	}
	if m.random.IntN(3) == 0 {
		request.Timeout = 1 + m.random.IntN(60)
	}
	if !kind.NeedsRepository() {
		request.Repository = ""
	}
	switch kind {
	case job.Backup:
		request.Spec = json.RawMessage(`{"paths":["/etc"]}`)
	case job.Mount, job.Umount:
		request.Spec = json.RawMessage(`{"mount_point":"/var/restore/mnt"}`)
	case job.Prune:
		request.Spec = json.RawMessage(fmt.Sprintf(`{"keep_daily":7,"confirmed":%v}`, m.random.IntN(4) == 0))
	}
	if kind.TakesSlot() && m.random.IntN(3) == 0 {
		m.tryPlanned(request)
		return
	}
	for range 50 { // a client that does not give up
		j, err := m.dispatch().Submit(context.Background(), fleet.Actor{Name: "model"}, request)
		if err == nil {
			m.jobs = append(m.jobs, j.ID)
			return
		}
	}
	m.t.Fatal("submit failed 50 times")
}

// tryPlanned submits a request for two repositories, as a run of a plan does.
func (m *model) tryPlanned(request job.Request) {
	request.Plan = []string{"daily", "hourly"}[m.random.IntN(2)]
	both := []dispatch.Planned{
		{Request: request, Run: "R", Series: request.Host + "-" + request.Plan + "-", RetryWait: 3 * time.Second},
		{Request: request, Run: "R", Window: &job.Window{Hours: "00:00-23:59", Ends: m.random.IntN(2) == 0}},
	}
	both[1].Repository, both[1].IdempotencyKey = "b", request.IdempotencyKey+"/b"
	for range 50 {
		answer, err := m.dispatch().SubmitPlanned(context.Background(), fleet.Actor{Name: "plan"}, both)
		if err != nil {
			continue
		}
		for _, one := range answer {
			if one.Err != nil {
				m.t.Fatal(one.Err)
			}
			m.jobs = append(m.jobs, one.Job.ID)
		}
		return
	}
	m.t.Fatal("submit failed 50 times")
}

func (m *model) tryHello(host string) {
	a := m.agents[host]
	if up := m.up(a); !up {
		return
	}
	if m.chance(4) {
		m.dispatch().HostConnected(host)
	}
	reply, err := m.dispatch().HandleHello(context.Background(), a.hello())
	if err == nil && !m.chance(5) { // else the reply is lost
		a.settled(reply)
	}
}

func (m *model) up(a *agent) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.up
}

// work lets a process of a host go on: it starts, says something, or ends.
func (m *model) work(host string) {
	a := m.agents[host]
	open := a.open()
	if len(open) == 0 {
		return
	}
	k := open[m.random.IntN(len(open))]
	r := a.of(k)
	switch {
	case r.cancelled:
		m.end(a, k, job.Event{Type: job.EventFinished, State: job.Cancelled})
	case len(r.events) == 1:
		a.tell(k, job.Event{Type: job.EventStarted, PID: 1})
	case m.faults && m.random.IntN(2) == 0:
		m.lines[k]++
		text := fmt.Sprintf("%d.%d", k.attempt, m.lines[k])
		m.logged[k.job] = append(m.logged[k.job], text)
		a.tell(k, job.Event{Type: job.EventLog, Lines: []job.LogLine{{Text: text}}})
	case m.chance(20):
		m.nonsense(a, k)
	case r.order.Timeout > 0 && m.chance(4):
		m.end(a, k, failed(job.Timeout))
	case m.chance(3):
		codes := []job.Code{job.ConnectionLost, job.Interrupted, job.RepositoryLocked, job.DiskFull}
		m.end(a, k, failed(codes[m.random.IntN(len(codes))]))
	default:
		m.completed[k.job]++
		m.end(a, k, m.success(r.order.Kind))
	}
}

// success is how a process ends well. A prune, and the dry run before it, tell of
// a share of archives that may be too large.
func (m *model) success(kind job.Kind) job.Event {
	event := succeeded()
	if kind == job.Prune {
		event.Result.KeptOmitted, event.Result.PrunedOmitted = 10, m.random.IntN(14)
	}
	return event
}

// nonsense is what no host has to say of a running process.
func (m *model) nonsense(a *agent, k key) {
	switch state := []job.State{"", job.Queued, job.Sent, job.Running, job.Expired, "confused"}[m.random.IntN(6)]; {
	case m.random.IntN(2) == 0:
		a.tell(k, job.Event{Type: job.EventFinished, State: state})
		m.said[k] = job.Failed
	default:
		types := []job.EventType{job.EventAccepted, job.EventStarted, job.EventQueued, job.EventCancelled, "dance"}
		a.tell(k, job.Event{Type: types[m.random.IntN(len(types))], State: state})
	}
}

func (m *model) end(a *agent, k key, event job.Event) {
	m.said[k] = event.State
	a.tell(k, event)
}

// replay delivers old events once more, as a stream does that lost its place.
func (m *model) replay() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next = m.random.IntN(m.next + 1)
}

func (m *model) mischief(host string) {
	a := m.agents[host]
	switch m.random.IntN(4) {
	case 3:
		if host != fleet.LocalHost {
			m.exchange(host)
		}
	case 0:
		a.setUp(false)
		m.dispatch().HostDisconnected(host)
		if m.chance(2) { // for longer than the limit
			time.Sleep(2 * time.Minute)
		}
	case 1:
		a.setUp(true)
	case 2:
		if len(m.jobs) > 0 {
			id := m.jobs[m.random.IntN(len(m.jobs))]
			m.cancelled[id] = true // an error does not say that nothing was stored
			_, _ = m.dispatch().Cancel(context.Background(), fleet.Actor{Name: "model"}, id)
		}
	}
}

// exchange removes a host and adds another one of its name. What the old agent
// has published may still come; its processes are nobody's any more.
func (m *model) exchange(host string) {
	open, err := m.store.OpenJobs()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, j := range open {
		m.unhosted[j.ID] = m.unhosted[j.ID] || j.Host == host
	}
	m.forget(host)
	if m.chance(2) {
		m.restart()
	} else {
		m.dispatch().HostRemoved(host)
		time.Sleep(time.Minute) // the store may have to be tried again
	}
	m.add(host)
}

package dispatch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
// hosts that talk nonsense. It checks while it runs that processes never overlap
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
	for seed := range uint64(20) {
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
	hosts := []string{"web1", "web2", "web3"}
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
	kinds := []job.Kind{job.Backup, job.Backup, job.List, job.Prune}
	kind := kinds[m.random.IntN(len(kinds))]
	request := job.Request{
		Host: host, Kind: kind, Repository: []string{"a", "b"}[m.random.IntN(2)],
		MaxAttempts: 5, IdempotencyKey: fmt.Sprintf("key-%d", m.random.Uint64()),
	}
	if m.random.IntN(3) == 0 {
		request.ExpiresIn = 1 + m.random.IntN(60)
	}
	if m.random.IntN(3) == 0 {
		request.Timeout = 1 + m.random.IntN(60)
	}
	switch kind {
	case job.Backup:
		request.Spec = json.RawMessage(`{"paths":["/etc"]}`)
	case job.Prune:
		request.Spec = json.RawMessage(`{"keep_daily":7}`)
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
		m.end(a, k, succeeded())
	}
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
		m.exchange(host)
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

// checkNow checks what must hold at every moment.
func (m *model) checkNow() {
	m.t.Helper()
	writers, readers, attempts := map[string]int{}, map[string]int{}, map[job.ID]int{}
	for host, a := range m.agents {
		open := slices.DeleteFunc(a.open(), func(k key) bool { return m.givenUp(k.job) })
		if len(open) > 2 {
			m.t.Fatalf("host %s runs %d jobs at once", host, len(open))
		}
		for _, k := range open {
			r := a.of(k)
			attempts[k.job]++
			if r.order.Kind.Exclusive() {
				writers[r.order.Repository.Name]++
			} else {
				readers[r.order.Repository.Name]++
			}
		}
	}
	for name, n := range writers {
		if n > 1 || readers[name] > 0 {
			m.t.Fatalf("repository %s has %d writers and %d readers", name, n, readers[name])
		}
	}
	for id, n := range attempts {
		if n > 1 {
			m.t.Fatalf("job %s runs %d times at once", id, n)
		}
	}
}

// givenUp reports whether a job was ended as its host was away for too long: its
// process may go on there until the host is back and is told to end it.
func (m *model) givenUp(id job.ID) bool {
	j, found, err := m.store.Job(id)
	if err != nil {
		m.t.Fatal(err)
	}
	return found && j.State == job.Failed && j.Failure.Code == job.HostUnreachable
}

func (m *model) allOver() bool { return len(m.jobs) > 0 && m.openJobs() == "" }

func (m *model) openJobs() string {
	open, err := m.store.OpenJobs()
	if err != nil {
		m.t.Fatal(err)
	}
	text := ""
	for _, j := range open {
		text += fmt.Sprintf("\n%s %s on %s: %s attempt %d (%s)", j.ID, j.Kind, j.Host, j.State, j.Attempt, j.Reason)
	}
	return text
}

func (m *model) checkEnd() {
	for _, id := range m.jobs {
		j, err := m.dispatch().Job(context.Background(), id)
		if err != nil {
			m.t.Fatal(err)
		}
		switch {
		case m.unhosted[id]:
			m.checkUnhosted(j)
			continue
		case m.givenUp(id):
			if j.Failure.Retryable {
				m.t.Errorf("job %s was given up, and may be tried again", id)
			}
			continue
		case j.State == job.Expired:
			m.checkExpired(j)
			continue
		}
		if m.completed[id] > 1 {
			m.t.Errorf("job %s ran to its end %d times", id, m.completed[id])
		}
		if done := m.completed[id] == 1; done != (j.State == job.Succeeded) {
			m.t.Errorf("job %s is %s, and its processes ended well %d times", id, j.State, m.completed[id])
		}
		if said := m.said[key{id, j.Attempt}]; said != j.State && (j.State != job.Cancelled || !m.cancelled[id]) {
			m.t.Errorf("job %s is %s, its last process said %s", id, j.State, said)
		}
		if len(j.Attempts) != j.Attempt {
			m.t.Errorf("job %s lists %d attempts of %d", id, len(j.Attempts), j.Attempt)
		}
		m.checkLog(id)
	}
	m.checkAudit()
	m.checkRest()
}

// checkExpired checks that a job which expired was never begun.
func (m *model) checkExpired(j job.Job) {
	for _, order := range m.agents[j.Host].orders {
		if order.Job == j.ID {
			m.t.Errorf("job %s has expired, and host %s accepted attempt %d of it", j.ID, j.Host, order.Attempt)
		}
	}
	if j.ExpiresAt == nil || j.FinishedAt.Before(*j.ExpiresAt) {
		m.t.Errorf("job %s expired at %v before its time, %v", j.ID, j.FinishedAt, j.ExpiresAt)
	}
}

// checkUnhosted checks a job whose host was removed before it was over.
func (m *model) checkUnhosted(j job.Job) {
	interrupted := j.State == job.Failed && j.Failure.Code == job.Interrupted && !j.Failure.Retryable
	if !interrupted && j.State != job.Cancelled {
		m.t.Errorf("job %s of a removed host is %s: %v", j.ID, j.State, j.Failure)
	}
}

// checkAudit checks that each job was asked for once and ended once.
func (m *model) checkAudit() {
	page, err := m.store.Audit(fleet.AuditFilter{Action: "borg.", Limit: 10_000})
	if err != nil {
		m.t.Fatal(err)
	}
	requested, ended := map[string]int{}, map[string]int{}
	for _, entry := range page.Entries {
		_, id, _ := strings.Cut(entry.Detail, "job ")
		id, _, _ = strings.Cut(id, ",")
		if entry.Outcome == "requested" {
			requested[id]++
		} else {
			ended[id]++
		}
	}
	for _, id := range m.jobs {
		if requested[string(id)] != 1 || ended[string(id)] != 1 {
			m.t.Errorf("job %s was requested %d times and ended %d times in the audit", id, requested[string(id)], ended[string(id)])
		}
	}
}

// checkLog checks that the log holds every line once and in order.
func (m *model) checkLog(id job.ID) {
	log, err := m.dispatch().Log(context.Background(), id, 0)
	if err != nil || !log.Complete {
		m.t.Errorf("log of job %s: complete %v, %v", id, log.Complete, err)
	}
	got := []string{}
	for _, line := range log.Lines {
		got = append(got, line.Text)
	}
	if fmt.Sprint(got) != fmt.Sprint(m.logged[id]) {
		m.t.Errorf("log of job %s is %v, want %v", id, got, m.logged[id])
	}
}

// checkRest checks that nothing is left over once everything is told.
func (m *model) checkRest() {
	for host, a := range m.agents {
		for range 3 {
			m.hello(host)
			for range a.open() { // of jobs that were given up
				m.work(host)
			}
			m.mustDeliver()
		}
		if h := a.hello(); len(h.Attempts) != 0 {
			m.t.Errorf("host %s still remembers %+v", host, h.Attempts)
		}
	}
	states, err := m.store.AttemptStates()
	if err != nil || len(states) != 0 {
		m.t.Errorf("attempt states left: %+v, %v", states, err)
	}
	if err := m.store.Check(); err != nil {
		m.t.Errorf("store: %v", err)
	}
}

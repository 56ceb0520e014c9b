package dispatch_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// reconciliation plays what makes a coordinator and its hosts disagree: agents
// that are killed and started, second agents on a copied machine, disks that are
// put back to an older state, and stores that are. It checks that no process is
// begun twice in one attempt, that what a store or a disk forgot comes to a true
// end, and that nothing but a disk or a store that was put back loses anything.
type reconciliation struct {
	*world
	t       *testing.T
	random  *rand.Rand
	run     int // of agents, for their names
	jobs    []job.ID
	images  map[string]*agent // copies of machines, as they were
	lost    map[job.ID]bool   // known to a disk or a store that was put back
	ended   map[key]job.State
	started map[key]int
}

func TestReconciliation(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &reconciliation{
					t: t, world: newWorld(t, []string{"web1", "web2"}, []string{"a", "b", "c"}), random: rand.New(rand.NewPCG(seed, 11)),
					images: map[string]*agent{}, lost: map[job.ID]bool{}, ended: map[key]job.State{}, started: map[key]int{},
				}
				m.play()
			})
		})
	}
}

func (m *reconciliation) play() {
	for host := range m.agents {
		m.kill(host)
	}
	copied, taken := m.snapshot()
	restoredOnce := false
	for range 150 {
		host := []string{"web1", "web2"}[m.random.IntN(2)]
		switch roll := m.random.IntN(24); {
		case roll < 4:
			j := m.submit(backup(host, []string{"a", "b", "c"}[m.random.IntN(3)]))
			m.jobs = append(m.jobs, j.ID)
		case roll < 12:
			m.work(host)
		case roll < 16:
			m.greet(host)
		case roll < 18:
			m.mustDeliver()
		case roll < 20:
			m.kill(host)
		case roll == 20:
			m.images[host] = m.clone(host, "")
		case roll == 21:
			m.second(host)
		case roll == 22 && m.images[host] != nil && m.random.IntN(3) == 0:
			m.rollBack(host)
		case roll == 23 && !restoredOnce && len(m.jobs) > 4:
			restoredOnce = true
			for _, id := range m.jobs {
				m.lost[id] = true
			}
			m.putBack(copied, taken)
		case roll == 23:
			m.restart()
		}
		time.Sleep(time.Duration(m.random.IntN(2000)+1) * time.Millisecond)
		synctest.Wait()
	}
	m.rest()
}

// kill starts a host's agent anew, on the same journal.
func (m *reconciliation) kill(host string) {
	m.run++
	m.agents[host].begin(fmt.Sprint("RUN", m.run))
}

func (m *reconciliation) greet(host string) {
	a := m.agents[host]
	reply, err := m.dispatch().HandleHello(context.Background(), a.hello())
	if err != nil {
		m.t.Fatal(err)
	}
	if reply.Refused != nil {
		m.t.Fatalf("the only agent of %s is refused: %v", host, reply.Refused)
	}
	a.settled(reply)
}

// second lets a copy of the machine say hello while the first one is there.
func (m *reconciliation) second(host string) {
	m.greet(host) // so that it is known
	m.run++
	twin := m.clone(host, fmt.Sprint("TWIN", m.run))
	if m.random.IntN(2) == 0 {
		twin.attempts, twin.journal = map[key]*record{}, fmt.Sprint("journal-of-twin-", m.run)
	}
	if reply := m.hear(twin); reply.Refused == nil {
		m.t.Fatalf("two agents of %s are at work", host)
	}
}

// rollBack starts the agent on an older image of its disk. Its processes are
// gone with the machine; those that the image knows of have been interrupted.
func (m *reconciliation) rollBack(host string) {
	old, image := m.agents[host], m.images[host]
	delete(m.images, host)
	for k := range old.attempts {
		m.lost[k.job] = true
	}
	for k := range old.fences {
		m.lost[k.job] = true
	}
	m.agents[host], m.link.agents[host] = image, image
	m.kill(host)
	for _, k := range image.open() {
		m.lost[k.job] = true
		image.tell(k, failed(job.Interrupted))
	}
}

// work lets a process of a host go on.
func (m *reconciliation) work(host string) {
	a := m.agents[host]
	open := a.open()
	if len(open) == 0 {
		return
	}
	k := open[m.random.IntN(len(open))]
	switch r := a.of(k); {
	case len(r.events) == 1:
		m.started[k]++
		a.tell(k, job.Event{Type: job.EventStarted, PID: 1})
	case m.random.IntN(5) == 0:
		m.ended[k] = job.Failed
		a.tell(k, failed(job.ConnectionLost))
	default:
		m.ended[k] = job.Succeeded
		a.tell(k, succeeded())
	}
}

// rest lets everything come to its end without faults, and checks it.
func (m *reconciliation) rest() {
	quiet := 0
	for i := 0; quiet < 5; i++ {
		open, err := m.store.OpenJobs()
		if err != nil {
			m.t.Fatal(err)
		}
		if quiet++; len(open) > 0 {
			quiet = 0
		}
		if i == 300 {
			m.t.Fatalf("jobs do not come to an end: %+v", open)
		}
		for host := range m.agents {
			m.greet(host)
			m.work(host)
			m.mustDeliver()
		}
		time.Sleep(10 * time.Second)
	}
	for k, n := range m.started {
		if n > 1 && !m.lost[k.job] {
			m.t.Errorf("attempt %d of job %s was begun %d times", k.attempt, k.job, n)
		}
	}
	for _, id := range m.jobs {
		m.check(id)
	}
	for host, a := range m.agents {
		if h := a.hello(); len(h.Attempts) != 0 {
			m.t.Errorf("host %s still remembers %+v", host, h.Attempts)
		}
	}
	if err := m.store.Check(); err != nil {
		m.t.Error(err)
	}
}

func (m *reconciliation) check(id job.ID) {
	j, err := m.dispatch().Job(context.Background(), id)
	if err != nil {
		if !m.lost[id] {
			m.t.Errorf("job %s: %v", id, err)
		}
		return // it was asked for after the copy, and no host had it
	}
	if said, ran := m.ended[key{id, j.Attempt}]; !m.lost[id] && (!ran || said != j.State) {
		m.t.Errorf("job %s is %s, its process ended %s", id, j.State, said)
	}
	good := slices.IndexFunc(j.Attempts, func(a job.Attempt) bool { return a.State == job.Succeeded })
	if good >= 0 && good != len(j.Attempts)-1 {
		m.t.Errorf("job %s was tried again after it had succeeded: %+v", id, j.Attempts)
	}
}

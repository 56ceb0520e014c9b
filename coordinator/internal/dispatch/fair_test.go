package dispatch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// crowd is a queue of jobs that nothing but slots keeps from going.
func crowd(jobs, groups int) []waiting {
	queue := make([]waiting, jobs)
	for i := range queue {
		queue[i] = of(fmt.Sprintf("plan p%d", i%groups), at(i, job.Backup, fmt.Sprintf("web%d", i), fmt.Sprintf("r%d", i)))
		queue[i].Since = noon.Add(time.Duration(i) * time.Millisecond)
	}
	return queue
}

// TestTurnsOfACrowd: slots that are free are given to all groups alike, however long
// the line of each is.
func TestTurnsOfACrowd(t *testing.T) {
	var queue []waiting
	for i, size := range []int{1000, 40, 7, 1} {
		for range size {
			n := len(queue)
			queue = append(queue, of(fmt.Sprintf("plan p%d", i), at(n, job.Backup, fmt.Sprintf("web%d", n), fmt.Sprintf("r%d", n))))
		}
	}
	got := makePlan(queue, nil, ready, Limits{Running: 48, PerHost: 1}, noon)
	went := map[string]int{}
	for _, w := range queue {
		if slices.Contains(got.Go, w.ID) {
			went[w.Group]++
		}
	}
	// 1 + 7 + 20 + 20
	for group, want := range map[string]int{"plan p0": 20, "plan p1": 20, "plan p2": 7, "plan p3": 1} {
		if went[group] != want {
			t.Errorf("%d of %s go, want %d", went[group], group, want)
		}
	}
}

// TestTurnsModel runs random crowds through few slots, with groups that come late and
// others that never stop coming. Each job goes once, in the order of its group and
// never before one of a higher priority; and none waits for longer than its turn
// can take.
func TestTurnsModel(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 3))
		m := &turnsModel{t: t, random: random, now: noon, ends: map[job.ID]time.Time{}, tickets: map[job.ID]ticket{}}
		for range 600 {
			m.step()
		}
		for i := 0; len(m.queue) > 0; i++ {
			if i == 5000 {
				t.Fatalf("seed %d: %d jobs never go", seed, len(m.queue))
			}
			m.step()
		}
		if m.longest > 3*time.Hour {
			t.Errorf("seed %d: a job waited for %s", seed, m.longest)
		}
	}
}

// TestTurnsStarveNobody: a group with a job that runs for hours gets a turn, though
// groups that have nothing running keep coming and take more than there is.
func TestTurnsStarveNobody(t *testing.T) {
	m := &turnsModel{t: t, random: rand.New(rand.NewPCG(1, 1)), now: noon, ends: map[job.ID]time.Time{}, tickets: map[job.ID]ticket{}, made: 600}
	m.add("plan big")
	m.step()
	for id := range m.ends {
		m.ends[id] = noon.Add(24 * time.Hour)
	}
	m.add("plan big")
	for m.queue[0].Group == "plan big" {
		if m.now.Sub(noon) > patience+10*time.Minute {
			t.Fatal("it is kept waiting")
		}
		for i := range 4 {
			m.add(fmt.Sprintf("plan new%d", m.made+i))
		}
		m.step()
	}
}

type turnsModel struct {
	t       *testing.T
	random  *rand.Rand
	now     time.Time
	made    int
	queue   []waiting
	ends    map[job.ID]time.Time // of those that run
	tickets map[job.ID]ticket
	longest time.Duration
}

// add puts a job of a group into the queue.
func (m *turnsModel) add(group string) {
	n := m.made
	m.made++
	w := of(group, at(n, job.Backup, fmt.Sprintf("web%d", n), fmt.Sprintf("r%d", n)))
	w.Since = m.now
	m.queue = append(m.queue, w)
}

func (m *turnsModel) step() {
	m.now = m.now.Add(time.Minute)
	if m.made < 600 {
		if m.random.IntN(60) == 0 {
			for range m.random.IntN(40) {
				m.add("plan big")
			}
		}
		m.add(fmt.Sprintf("plan new%d", m.made)) // one that has nothing running
	}
	var held []ticket
	for id, end := range m.ends {
		if !end.After(m.now) {
			delete(m.ends, id)
			continue
		}
		held = append(held, m.tickets[id])
	}
	got := makePlan(m.queue, held, ready, Limits{Running: 4, PerHost: 1}, m.now)
	if len(got.Go)+len(held) > 4 || len(got.Go)+len(got.Reasons) != len(m.queue) {
		m.t.Fatalf("%d go beside %d, and %d wait, of %d", len(got.Go), len(held), len(got.Reasons), len(m.queue))
	}
	for _, id := range got.Go {
		at := slices.IndexFunc(m.queue, func(w waiting) bool { return w.ID == id })
		w := m.queue[at]
		m.queue = slices.Delete(m.queue, at, at+1)
		m.longest = max(m.longest, m.now.Sub(w.Since))
		if before := slices.IndexFunc(m.queue, func(o waiting) bool { return o.Group == w.Group }); before >= 0 && before < at {
			m.t.Fatalf("a job of %s goes before an older one", w.Group)
		}
		m.tickets[id] = w.ticket
		m.ends[id] = m.now.Add(time.Duration(1+m.random.IntN(5)) * time.Minute)
	}
}

func TestServerOfARepository(t *testing.T) {
	for location, want := range map[string]string{
		"ssh://borg@Store.example.net:2222/srv/a": "store.example.net",
		"ssh://store.example.net/srv/a":           "store.example.net",
		"ssh://borg@[2001:db8::7]:22/srv/a":       "2001:db8::7",
		"ssh://[2001:db8::7]/./a":                 "2001:db8::7",
		"/srv/a":                                  "web1",
		"depot":                                   "depot",
		"":                                        "",
	} {
		if got := server(fleet.Repository{Repository: job.Repository{Location: location}}, "web1"); got != want {
			t.Errorf("%q is on %q, want %q", location, got, want)
		}
	}
}

// BenchmarkPlan plans long queues behind a fleet that is busy: ten times as many jobs
// should take about ten times as long.
func BenchmarkPlan(b *testing.B) {
	for _, jobs := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(jobs), func(b *testing.B) {
			queue := crowd(jobs, jobs/5)
			for b.Loop() {
				makePlan(queue, nil, ready, Limits{Running: 50, PerHost: 1}, noon)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*jobs), "ns/job")
		})
	}
}

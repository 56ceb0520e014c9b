package dispatch

import (
	"cmp"
	"container/heap"
	"iter"
	"time"
)

// This file has jobs of one priority take turns, so that a plan with a thousand
// hosts does not keep a plan with one waiting until it is through.

// patience is how long a job waits for each of its group's that run, until it goes
// before all others that are younger: it never waits for ever behind groups that
// have nothing running.
const patience = 10 * time.Minute

// turns yields the queue: by priority; then from the group that has the fewest jobs
// running at that moment, counting those that go meanwhile; then by age. The order
// within a group stays.
func (p *planner) turns(queue []waiting) iter.Seq[waiting] {
	return func(yield func(waiting) bool) {
		for len(queue) > 0 {
			n := 1
			for n < len(queue) && queue[n].Priority == queue[0].Priority {
				n++
			}
			if !p.turn(queue[:n], yield) {
				return
			}
			queue = queue[n:]
		}
	}
}

// turn yields the jobs of one priority.
func (p *planner) turn(queue []waiting, yield func(waiting) bool) bool {
	r := &round{planner: p}
	places := map[string]int{}
	for i, w := range queue {
		at, known := places[w.Group]
		if !known {
			at = len(r.lines)
			places[w.Group] = at
			r.lines = append(r.lines, &jobLine{})
		}
		r.lines[at].jobs = append(r.lines[at].jobs, place{waiting: &queue[i], age: i})
	}
	for _, l := range r.lines {
		r.rank(l)
	}
	heap.Init(r)
	for len(r.lines) > 0 {
		l := r.lines[0]
		next := l.jobs[0].waiting
		if !yield(*next) {
			return false
		}
		if l.jobs = l.jobs[1:]; len(l.jobs) == 0 {
			heap.Pop(r)
			continue
		}
		r.rank(l)
		heap.Fix(r, 0)
	}
	return true
}

// jobLine is the queued jobs of one group, oldest first.
type jobLine struct {
	jobs []place
	rank int
}

type place struct {
	*waiting
	age int // in the queue; lower is older
}

// round is the groups whose jobs take turns, as a heap.
type round struct {
	planner *planner
	lines   []*jobLine
}

// rank says which turn a group has: how many of its jobs run, less what its next
// job has waited for.
func (r *round) rank(l *jobLine) {
	next := l.jobs[0]
	l.rank = r.planner.groups[next.Group]
	if l.rank > 0 && !next.Since.IsZero() {
		l.rank = max(0, l.rank-int(r.planner.now.Sub(next.Since)/patience))
	}
}

func (r *round) Len() int { return len(r.lines) }
func (r *round) Less(i, j int) bool {
	a, b := r.lines[i], r.lines[j]
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.jobs[0].age, b.jobs[0].age)) < 0
}
func (r *round) Swap(i, j int) { r.lines[i], r.lines[j] = r.lines[j], r.lines[i] }
func (r *round) Push(line any) { r.lines = append(r.lines, line.(*jobLine)) }
func (r *round) Pop() any {
	last := r.lines[len(r.lines)-1]
	r.lines = r.lines[:len(r.lines)-1]
	return last
}

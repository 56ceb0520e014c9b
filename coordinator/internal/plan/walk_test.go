package plan_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// winter is a time in which no clock is set.
var winter = time.Date(2026, 1, 12, 0, 0, 0, 0, time.UTC)

// seeds are those of the walks: the same ones each time, so that nobody's change
// fails for what another one's did. More of them, and one at random:
// BORGFLEET_WALKS=50; one alone: BORGFLEET_WALK=17.
func seeds(t *testing.T) (list []uint64) {
	t.Helper()
	if one := os.Getenv("BORGFLEET_WALK"); one != "" {
		seed, err := strconv.ParseUint(one, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return []uint64{seed}
	}
	more := os.Getenv("BORGFLEET_WALKS")
	if more == "" {
		return []uint64{1, 3}
	}
	count, err := strconv.Atoi(more)
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		list = append(list, uint64(i+1))
	}
	return append(list, rand.Uint64N(1<<32)+1000)
}

// TestWalk takes random plans through random days, and checks what must be so
// whatever happens.
func TestWalk(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newWalk(t, seed).run() })
			if t.Failed() {
				t.Logf("again: BORGFLEET_WALK=%d go test -run TestWalk ./coordinator/internal/plan", seed)
			}
		})
	}
}

// walk is a simulation, and what an observer knows of it.
type walk struct {
	*simulation
	random   *rand.Rand
	seed     uint64
	specs    map[string][]fleet.PlanSpec // all that each plan has ever been
	created  map[string]time.Time
	paused   map[string]bool // plans that were paused at some time
	runs     map[string]fleet.Run
	hands    map[string]bool      // runs that were asked for by hand
	accepted map[string]time.Time // by plan, host and repository: the first time
	gone     map[string]bool      // hosts that were removed
	jumps    []time.Time          // clocks that were set back, to when
	jumped   bool
	log      []string
}

func newWalk(t *testing.T, seed uint64) *walk {
	w := &walk{
		simulation: simulate(t, 4, winter), random: rand.New(rand.NewPCG(seed, 1)), seed: seed, specs: map[string][]fleet.PlanSpec{}, created: map[string]time.Time{},
		paused: map[string]bool{}, runs: map[string]fleet.Run{}, hands: map[string]bool{}, accepted: map[string]time.Time{}, gone: map[string]bool{},
	}
	w.simulation.mu.Lock()
	w.simulation.fate = w.fateOf
	w.simulation.mu.Unlock()
	return w
}

// note keeps what was done, to be told when something is wrong.
func (w *walk) note(format string, args ...any) {
	w.log = append(w.log, w.now().UTC().Format("Jan 02 15:04:05 ")+fmt.Sprintf(format, args...))
}

// wrong says that something must not be.
func (w *walk) wrong(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf("seed %d: at %s: "+format, append([]any{w.seed, w.now().UTC().Format("Jan 02 15:04:05")}, args...)...)
}

// chance is true so many times of a hundred.
func (w *walk) chance(percent int) bool { return w.random.IntN(100) < percent }

func below(random *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(d)))
}

func pick[T any](w *walk, from ...T) T { return from[w.random.IntN(len(from))] }

// fateOf is how an attempt goes: the same for each walk of a seed, whichever host
// comes first. It is called with the lock of the simulation held.
func (w *walk) fateOf(m *machine, order bus.Order) fate {
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%d/%s/%d", w.seed, m.name, len(m.ran))
	random := rand.New(rand.NewPCG(sum.Sum64(), w.seed))
	f := fate{length: time.Minute + below(random, 40*time.Minute), state: job.Succeeded, files: 14_000}
	switch n := random.IntN(100); {
	case n < 7:
		f.state, f.failure = job.Failed, job.Fail(job.ConnectionLost, "the connection was lost")
	case n < 10:
		f.state, f.failure = job.Failed, job.Fail(job.RefusedByHost, "refused")
	case n < 13:
		f.state, f.failure = job.Warning, job.Fail(job.Internal, "a file has changed")
	case n < 16 && order.Kind == job.Backup:
		f.state, f.failure = job.Cancelled, job.Fail(job.Skipped, "a hook said so")
	case n < 26:
		f.files = 5
	case n < 29:
		f.length = 3*time.Hour + below(random, 4*time.Hour)
	}
	return f
}

// run is the walk: some days in which much goes wrong, then some in which nothing
// does and nothing is due.
func (w *walk) run() {
	w.t.Helper()
	for range 2 {
		w.addPlan()
	}
	often := hourly() // enough backups to know which are odd
	often.Schedule, often.Retention, often.After = &fleet.Schedule{Every: "1h"}, &fleet.Retention{KeepDaily: 7}, []job.Kind{job.Prune}
	w.add("often", often)
	w.specs["often"], w.created["often"] = []fleet.PlanSpec{often}, winter
	for begin, step := time.Now(), 0; time.Since(begin) < 3*24*time.Hour && !w.t.Failed(); step++ {
		w.act()
		w.rest(below(w.random, 50*time.Minute))
		w.observe(step%12 == 0)
	}
	w.calm()
	w.rest(4 * 24 * time.Hour)
	w.observe(true)
	for _, run := range w.runs {
		if _, there := w.created[run.Plan]; there && run.FinishedAt == nil {
			w.wrong("run %s of %s has not ended: %+v", run.ID, run.Plan, run.Tasks)
		}
	}
	w.judge()
	if err := w.store.Check(); err != nil {
		w.wrong("%v", err)
	}
	if w.t.Failed() {
		for _, line := range w.log {
			w.t.Log(line)
		}
		for name, specs := range w.specs {
			w.t.Logf("%s: %s", name, text(specs))
		}
	}
}

// rest lets time pass. A coordinator that dies in it is started again.
func (w *walk) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-w.died:
			w.note("the coordinator has died")
			w.restart()
		case <-timer.C:
			time.Sleep(12 * time.Second) // what was tried again, has been
			synctest.Wait()
			select {
			case <-w.died:
				w.note("the coordinator has died")
				w.restart()
				timer.Reset(time.Minute)
				continue
			default:
			}
			return
		}
	}
}

// calm ends all that goes wrong, and all that is due.
func (w *walk) calm() {
	w.mu.Lock()
	w.blow = nil
	w.mu.Unlock()
	w.rest(0)
	for _, m := range w.machines() {
		if !w.gone[m.name] && !w.isOn(m) {
			w.turn(m.name, true)
		}
	}
	for name := range w.created {
		if _, err := w.plans.PausePlan(context.Background(), alice, name, nil, "the end"); err != nil {
			w.wrong("pause %s: %v", name, err)
		}
		w.paused[name] = true
	}
	w.note("calm")
}

// act does something to the fleet.
func (w *walk) act() {
	ctx := context.Background()
	names := slices.Sorted(maps.Keys(w.created))
	name := names[w.random.IntN(len(names))]
	host := w.host()
	switch n := w.random.IntN(100); {
	case n < 30: // nothing happens
	case n < 40:
		on := !w.isOn(w.hosts[host])
		w.note("%s is on: %v", host, on)
		w.turn(host, on)
	case n < 52:
		b := &blow{jobs: w.chance(40), after: w.chance(50), kills: w.chance(70), spare: w.random.IntN(4)}
		w.note("a blow: %+v", *b)
		w.mu.Lock()
		w.blow = b
		w.mu.Unlock()
	case n < 58:
		w.down(below(w.random, pick(w, 3*time.Minute, time.Hour, 8*time.Hour)))
	case n < 66:
		w.changePlan(name)
	case n < 67:
		w.removePlan(name)
	case n < 68:
		w.removeHost(host)
	case n < 74:
		w.pause(name)
	case n < 80:
		w.runPlan(name)
	case n < 84:
		if open, err := w.store.OpenPlanRuns(); err == nil && len(open) > 0 {
			id := open[w.random.IntN(len(open))].ID
			w.note("cancel run %s", id)
			w.may(second(w.plans.CancelRun(ctx, alice, id)))
		}
	case n < 90:
		if open, err := w.store.OpenJobs(); err == nil && len(open) > 0 {
			id := open[w.random.IntN(len(open))].ID
			w.note("cancel job %s", id)
			w.may(second(w.jobs.Cancel(ctx, alice, id)))
		}
	case n < 94:
		w.accept(name)
	case n < 97:
	case len(w.jumps) < 2 && w.seed%2 == 0:
		w.jump()
	}
}

func second[T any](_ T, err error) error { return err }

// may checks that an error is one that a person can be told.
func (w *walk) may(err error) bool {
	if err != nil && code(err) == job.Internal {
		w.wrong("%v", err)
	}
	return err == nil
}

func (w *walk) host() string {
	for {
		if name := fmt.Sprintf("web%02d", w.random.IntN(len(w.hosts))+1); !w.gone[name] {
			return name
		}
	}
}

func (w *walk) down(d time.Duration) {
	w.note("down for %s", d)
	w.kill()
	time.Sleep(d)
	select { // it has died once more, and now it is started
	case <-w.died:
	default:
	}
	w.open()
	w.start()
}

func (w *walk) addPlan() {
	name := fmt.Sprintf("plan%d", len(w.specs)+1)
	for range 50 {
		spec := w.spec()
		_, err := w.plans.AddPlan(context.Background(), alice, name, spec)
		w.may(err)
		if stored, there, _ := w.store.Plan(name); there { // also when nobody was told
			w.note("added %s", name)
			w.specs[name], w.created[name] = []fleet.PlanSpec{spec}, stored.CreatedAt
			return
		}
	}
	w.wrong("no plan could be added")
}

func (w *walk) changePlan(name string) {
	spec := w.spec()
	if known := w.specs[name]; w.chance(50) {
		spec = known[len(known)-1]
		spec.Retention, spec.After, spec.Check, spec.RestoreTest = nil, nil, nil, nil
	}
	_, err := w.plans.ChangePlan(context.Background(), alice, name, spec)
	w.may(err)
	w.note("change %s: %v", name, code(err))
	if stored, there, _ := w.store.Plan(name); there {
		w.specs[name] = append(w.specs[name], stored.PlanSpec)
	}
}

func (w *walk) removePlan(name string) {
	w.see()
	err := w.plans.RemovePlan(context.Background(), alice, name)
	w.may(err)
	w.note("remove %s: %v", name, err)
	if _, there, _ := w.store.Plan(name); !there {
		delete(w.created, name)
		w.addPlan()
	}
}

func (w *walk) removeHost(name string) {
	if len(w.gone) > 0 || !w.isOn(w.hosts[name]) {
		return
	}
	w.note("remove %s", name)
	if _, err := w.store.Apply(store.DeleteHost(name)); err != nil {
		w.wrong("%v", err)
	}
	w.gone[name] = true
	w.mu.Lock()
	w.hosts[name].on = false
	w.mu.Unlock()
	w.changes.Publish(feed.Update{Type: feed.HostChanged, Host: name})
	w.jobs.HostRemoved(name)
}

func (w *walk) pause(name string) {
	ctx := context.Background()
	w.paused[name] = true
	if w.chance(50) {
		w.note("resume %s", name)
		w.may(second(w.plans.ResumePlan(ctx, alice, name)))
		return
	}
	until := w.now().Add(time.Minute + below(w.random, 10*time.Hour))
	w.note("pause %s until %s", name, until)
	w.may(second(w.plans.PausePlan(ctx, alice, name, &until, "")))
}

func (w *walk) runPlan(name string) {
	w.note("run %s", name)
	_, _, err := w.plans.RunPlan(context.Background(), alice, name, fleet.RunRequest{})
	w.may(err)
}

func (w *walk) accept(name string) {
	for _, f := range w.rows() {
		if f.Plan == name && f.Suspicion != nil {
			w.note("accept %s %s %s", f.Plan, f.Host, f.Repository)
			if err := w.plans.AcceptBackup(context.Background(), alice, f.Plan, f.Host, f.Repository, ""); w.may(err) || code(err) == job.Unavailable {
				if key := f.Plan + " " + f.Host + " " + f.Repository; w.accepted[key].IsZero() {
					w.accepted[key] = w.now()
				}
			}
		}
	}
}

// jump sets the clock.
func (w *walk) jump() {
	by := below(w.random, 3*time.Hour)
	w.jumped = true
	if w.chance(50) {
		by = -by
		w.jumps = append(w.jumps, w.now().Add(by))
	}
	w.note("the clock is set by %s", by)
	w.offset.Add(int64(by))
}

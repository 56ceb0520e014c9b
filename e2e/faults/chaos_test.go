package faults_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestChaos gives a fleet of five a stream of jobs and of faults, both drawn
// from a seed, and then checks what became of every job. BORGFLEET_CHAOS is the
// seed, BORGFLEET_CHAOS_MINUTES how long it lasts; without them it is a short
// one. The same seed draws the same jobs and faults at the same moments.
func TestChaos(t *testing.T) {
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("BORGFLEET_CHAOS"), "1"), 10, 64)
	if err != nil {
		t.Fatalf("BORGFLEET_CHAOS: %v", err)
	}
	minutes, err := strconv.ParseFloat(cmp.Or(os.Getenv("BORGFLEET_CHAOS_MINUTES"), "0.2"), 64)
	if err != nil {
		t.Fatalf("BORGFLEET_CHAOS_MINUTES: %v", err)
	}
	r := &riot{world: newWorld(t, options{hosts: fleetSize, shelf: true}), begun: time.Now()}
	for i := range r.hosts[1:] {
		r.addRepository(fmt.Sprintf("main%d", i+2), options{})
	}
	r.noteRest()
	r.draw(seed, time.Duration(minutes*float64(time.Minute)))
	r.play()
	f := r.check()
	r.judge(&f)
	count := map[job.State]int{}
	attempts := 0
	for _, j := range f.jobs {
		count[j.State]++
		attempts += j.Attempt
	}
	fmt.Printf("\nseed %d, %.1f min: %d jobs %v in %d attempts, %d faults, settled %.1f s after the last, %d breaches\n",
		seed, minutes, len(f.jobs), count, attempts, len(r.faults), f.settled.Seconds(), len(f.breaches))
	if f.waited != nil {
		fmt.Printf("  it waited last because %s\n", f.waited)
	}
	for _, b := range f.breaches {
		t.Errorf("%s: %s", b.class, b.what)
	}
	if t.Failed() {
		t.Logf("play it again with: make chaos SEED=%d MINUTES=%v", seed, minutes)
		r.tell(t)
	}
}

const fleetSize = 5

// riot is a world with a plan of what happens when.
type riot struct {
	*world
	begun  time.Time
	jobs   []wish
	faults []misfortune

	url string // of the API; the coordinator keeps its address over restarts

	mu        sync.Mutex
	granted   []job.ID // of wishes that were not refused
	refused   int
	cancelled map[job.ID]bool
	breaking  map[string]*sync.Mutex // by target
}

// wish is a job that will be asked for.
type wish struct {
	at         time.Duration
	key        string
	host, repo int
	kind       job.Kind
	spec       any
	cancel     time.Duration // after so long; 0: not
	files      int
}

// misfortune is a fault that will happen.
type misfortune struct {
	at, lasts time.Duration
	target    string // what it keeps busy: no two faults break the same thing at the same time
	what      string
	do        func(r *riot, lasts time.Duration)
}

// draw makes the plan.
func (r *riot) draw(seed uint64, lasts time.Duration) {
	dice := rand.New(rand.NewPCG(seed, 4))
	for at := time.Duration(0); at < lasts; at += 300*time.Millisecond + time.Duration(dice.IntN(5000))*time.Millisecond {
		w := wish{at: at, key: fmt.Sprintf("wish-%d", len(r.jobs)), host: dice.IntN(fleetSize), kind: job.Backup}
		w.repo = w.host
		if dice.IntN(4) == 0 {
			w.repo = 0 // everybody may write there, too
		}
		switch dice.IntN(16) {
		case 10, 11, 12, 13, 14, 15:
			r.drawReader(dice, &w)
		case 0:
			w.kind, w.spec = job.List, job.ListSpec{}
		case 1:
			w.kind, w.spec = job.Check, job.CheckSpec{}
		case 2:
			w.kind, w.spec = job.Compact, job.CompactSpec{}
		case 3, 4, 5:
			w.files = 2 + dice.IntN(12) // each takes half a second
		default:
			w.files = 1
		}
		if dice.IntN(8) == 0 {
			w.cancel = time.Duration(dice.IntN(4000)) * time.Millisecond
		}
		r.jobs = append(r.jobs, w)
	}
	busy := map[string]time.Duration{}
	for at := time.Second; at < lasts; at += time.Second + time.Duration(dice.IntN(7000))*time.Millisecond {
		m := drawFault(dice)
		m.at = at
		if busy[m.target] > at {
			continue
		}
		busy[m.target] = at + m.lasts + 5*time.Second
		r.faults = append(r.faults, m)
	}
}

// drawFault draws one fault.
func drawFault(dice *rand.Rand) misfortune {
	n := dice.IntN(fleetSize)
	agent := "agent " + strconv.Itoa(n+1)
	some := time.Duration(500+dice.IntN(9000)) * time.Millisecond
	held := []string{fault.OrderRead, fault.OrderJournaled, fault.BorgStarted, fault.BorgEnded, fault.FinishedJournaled, fault.FinishedPublished, fault.VerdictRead, fault.StartMarked, fault.StartUntold, fault.ExitUntold}
	heldHere := []string{fault.OrderStored, fault.OrderReplied, fault.EventRead, fault.EventStored}
	point, here := held[dice.IntN(len(held))], heldHere[dice.IntN(len(heldHere))]
	all := []misfortune{
		{0, some, agent, "kill " + agent, func(r *riot, d time.Duration) { h := r.hosts[n]; h.Kill(); pass(d); h.Restart() }},
		{0, some, agent, "stop " + agent, func(r *riot, d time.Duration) { h := r.hosts[n]; h.Stop(); pass(d); h.Continue() }},
		{0, some, agent, "cut " + agent, func(r *riot, d time.Duration) { k := r.hosts[n].machine.Link; k.Cut(); pass(d); k.Heal() }},
		{0, some, agent, "mute " + agent, func(r *riot, d time.Duration) { k := r.hosts[n].machine.Link; k.CutToHub(); pass(d); k.Heal() }},
		{0, some, agent, "deafen " + agent, func(r *riot, d time.Duration) { k := r.hosts[n].machine.Link; k.CutFromHub(); pass(d); k.Heal() }},
		{0, some, agent, "kill " + agent + " at " + point, func(r *riot, d time.Duration) { r.killAt(n, point, d) }},
		{0, some, agent, "crash the host of " + agent, func(r *riot, d time.Duration) { r.crash(n, false); pass(d); r.hosts[n].Restart() }},
		{0, some, agent, "lose the journal of " + agent, func(r *riot, d time.Duration) { r.crash(n, true); pass(d); r.hosts[n].Restart() }},
		{0, 0, agent, "kill a borg of " + agent, func(r *riot, _ time.Duration) { r.killBorg(n) }},
		{0, some, "coordinator", "kill the coordinator", func(r *riot, d time.Duration) { r.c.Kill(); pass(d); r.c.Restart() }},
		{0, some, "coordinator", "stop the coordinator", func(r *riot, d time.Duration) { r.c.Stop(); pass(d); r.c.Continue() }},
		{0, 0, "coordinator", "restart the coordinator", func(r *riot, _ time.Duration) { r.c.Terminate(r.t); r.c.Restart() }},
		{0, some, "coordinator", "kill the coordinator at " + here, func(r *riot, d time.Duration) { r.killHere(here, d) }},
		{0, 0, "server", "cut a connection of the repositories' server", func(r *riot, _ time.Duration) { r.killServe(dice.Uint64()) }},
	}
	return all[dice.IntN(len(all))]
}

// pass lets a fault last.
func pass(d time.Duration) { <-time.After(d) }

// killAt kills an agent, or its supervisor, at a point, if it comes there soon.
func (r *riot) killAt(n int, point string, lasts time.Duration) {
	h := r.hosts[n]
	h.points.Arm(point)
	await(h.points, point, lasts)
	h.Kill()
	h.points.Release(point)
	h.Restart()
}

func (r *riot) killHere(point string, lasts time.Duration) {
	r.points.Arm(point)
	await(r.points, point, lasts)
	r.c.Kill()
	r.points.Release(point)
	r.c.Restart()
}

// await waits until a point is reached, but not for ever.
func await(p *lab.Points, point string, atMost time.Duration) (reached bool) {
	for deadline := time.Now().Add(atMost); time.Now().Before(deadline); pass(10 * time.Millisecond) {
		if _, err := os.Lstat(filepath.Join(p.Dir, point+".reached")); err == nil {
			return true
		}
	}
	return false
}

// crash ends everything on a host at once.
func (r *riot) crash(n int, loseJournal bool) {
	h := r.hosts[n]
	h.Kill()
	h.killRuns()
	if loseJournal {
		h.orphans += len(h.runs()) // also of those that have ended and were not told yet
		if err := os.Remove(filepath.Join(h.Data, "journal.db")); err != nil {
			r.t.Error(err)
		}
	}
}

// killRuns kills the host's borgs and their supervisors.
func (h *host) killRuns() {
	borgs := h.borgs()
	if h.sshd != nil {
		for _, pid := range harness.PIDs(h.Data + "/jobs") {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have gone by itself
		}
	}
	for _, pid := range harness.PIDs("supervise") {
		for _, borg := range borgs {
			if parent(borg) == pid {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have gone by itself
			}
		}
	}
	for _, pid := range borgs {
		_ = syscall.Kill(pid, syscall.SIGKILL) // likewise
	}
}

func (r *riot) killBorg(n int) {
	for _, pid := range r.hosts[n].borgs() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // likewise
	}
}

// killServe ends one of the server's borgs.
func (r *riot) killServe(luck uint64) {
	if serving := harness.PIDs("borg serve"); len(serving) > 0 {
		_ = syscall.Kill(serving[luck%uint64(len(serving))], syscall.SIGTERM) // likewise
	}
}

// play lets everything happen at its time.
func (r *riot) play() {
	r.cancelled, r.breaking, r.url = map[job.ID]bool{}, map[string]*sync.Mutex{}, r.c.HTTP
	for _, m := range r.faults {
		r.breaking[m.target] = &sync.Mutex{}
	}
	var all sync.WaitGroup
	r.begun = time.Now()
	for _, w := range r.jobs {
		all.Go(func() { r.grant(w) })
	}
	for _, m := range r.faults {
		all.Go(func() {
			pass(time.Until(r.begun.Add(m.at)))
			r.breaking[m.target].Lock()
			defer r.breaking[m.target].Unlock()
			m.do(r, m.lasts)
		})
	}
	all.Wait()
}

// grant asks for a job, as often as it takes, and cancels it if that is
// wished. The wishes' order is kept in asked.
func (r *riot) grant(w wish) {
	if w.kind == job.Backup {
		dir := r.t.TempDir()
		harness.MakeTree(r.t, dir, w.files, 64<<10)
		w.spec = job.BackupSpec{Paths: []string{dir}, UploadLimit: 128, Compression: "none"}
	}
	raw, err := json.Marshal(w.spec)
	if err != nil {
		r.t.Error(err)
		return
	}
	body, err := json.Marshal(job.Request{
		Host: r.hosts[w.host].Host, Repository: r.repos[w.repo].name, Kind: w.kind, Spec: raw, IdempotencyKey: w.key, MaxAttempts: 10})
	if err != nil {
		r.t.Error(err)
		return
	}
	pass(time.Until(r.begun.Add(w.at)))
	if w.kind == job.Download {
		r.fetch(r.hosts[w.host])
		return
	}
	var j job.Job
	r.persist(http.MethodPost, "/api/v1/jobs", string(body), &j)
	r.mu.Lock()
	if j.ID == "" {
		r.refused++
	} else {
		r.asked, r.granted = append(r.asked, j.ID), append(r.granted, j.ID)
	}
	r.mu.Unlock()
	if w.cancel == 0 || j.ID == "" {
		return
	}
	pass(w.cancel)
	r.mu.Lock()
	r.cancelled[j.ID] = true
	r.mu.Unlock()
	r.persist(http.MethodPost, "/api/v1/jobs/"+string(j.ID)+"/cancel", "{}", nil)
}

// persist sends a request until it is answered, as a good client does.
func (r *riot) persist(method, path, body string, into any) {
	for deadline := time.Now().Add(harness.Patience); ; pass(100 * time.Millisecond) {
		status, err := r.try(method, path, body, into)
		if err == nil && (status < 300 || status == http.StatusConflict) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Errorf("%s %s: %d %v", method, path, status, err)
			return
		}
	}
}

// try sends a request once.
func (r *riot) try(method, path, body string, into any) (status int, err error) {
	token, err := os.ReadFile(filepath.Join(r.c.Data, "local.token")) // another one after each start
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if into != nil && response.StatusCode < 300 {
		err = json.NewDecoder(response.Body).Decode(into)
	}
	return response.StatusCode, err
}

// judge compares how jobs ended with what may be: a job that nobody cancelled
// and that has attempts left succeeds in the end.
func (r *riot) judge(f *finding) {
	for _, j := range f.jobs {
		good := j.State == job.Succeeded || j.State == job.Warning
		switch {
		case good, j.State == job.Cancelled && r.cancelled[j.ID]:
		case j.State == job.Failed && j.Attempt == j.MaxAttempts && j.Failure.Retryable:
		case !slices.Contains(r.granted, j.ID): // a dry run, or one of the tries of a download
		case j.State == job.Failed && excused(j):
		default:
			f.breach(lost, "job %s of kind %s ended %s: %v", j.ID, j.Kind, j.State, j.Failure)
		}
	}
	wished := 0
	for _, w := range r.jobs {
		if w.kind != job.Download {
			wished++
		}
	}
	if len(r.granted)+r.refused != wished {
		f.breach(lost, "%d jobs were asked for, %d are there and %d were refused", wished, len(r.granted), r.refused)
	}
	seen := map[job.ID]bool{}
	for _, j := range f.jobs {
		if seen[j.ID] {
			f.breach(twice, "job %s stands for two requests", j.ID)
		}
		seen[j.ID] = true
	}
}

// tell logs what happened when.
func (r *riot) tell(t *testing.T) {
	for _, m := range slices.SortedFunc(slices.Values(r.faults), func(a, b misfortune) int { return cmp.Compare(a.at, b.at) }) {
		t.Logf("%7.1f s  %s, for %s", m.at.Seconds(), m.what, m.lasts)
	}
}

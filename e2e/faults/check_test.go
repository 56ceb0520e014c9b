package faults_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
	"github.com/borgfleet/borgfleet/shared/job"
)

// class is what kind of promise was broken.
type class string

// The promises, in the order of the summary.
const (
	lost  class = "lost"  // a result is missing, or not true
	twice class = "twice" // something was done twice
	stale class = "lock"  // a lock or a lease stayed behind
	rests class = "rest"  // something else stayed behind: a process, a journal's entry, memory
)

// breach is one broken promise.
type breach struct {
	class class
	what  string
}

// finding is what was seen after a fault.
type finding struct {
	settled  time.Duration // from the repair to every job being over, running for real, or waiting for its retry
	waited   error         // for what, at last; nil: for nothing
	jobs     []job.Job
	breaches []breach
	// connections are how often a host's sshd has let the coordinator in anew.
	connections int
}

func (f *finding) breach(c class, format string, args ...any) {
	f.breaches = append(f.breaches, breach{c, fmt.Sprintf(format, args...)})
}

// rest is what a program holds when nothing is to be done.
type rest struct {
	descriptors int
	memory      int64 // bytes
}

func (w *world) noteRest() {
	for name, pid := range w.programs() {
		w.rest[name] = rest{lab.Descriptors(w.t, pid), lab.RSS(w.t, pid)}
	}
}

// programs are the daemons that should run at rest.
func (w *world) programs() map[string]int {
	all := map[string]int{"coordinator": w.c.PID()}
	for _, h := range w.hosts {
		if h.journal == "" {
			all["agent of "+h.Host] = h.PID()
		}
	}
	return all
}

// check looks at everything after the repair of a fault.
func (w *world) check() finding {
	w.t.Helper()
	f := finding{}
	repaired := time.Now()
	w.awaitRuns()
	harness.Eventually(w.t, "every job to be settled", func() error {
		err := w.settled()
		if err != nil {
			f.waited = err
		}
		return err
	})
	f.settled = time.Since(repaired)
	w.awaitEnd()
	if w.discover(); len(w.asked) > 0 {
		w.awaitEnd()
	}
	f.jobs = w.jobs()
	w.checkLocks(&f)
	w.checkArchives(&f) // runs a job on each repository: their leases are free
	w.checkLeft(&f)
	w.checkConnections(&f)
	w.checkPassphrases(&f)
	w.checkSpools(&f)
	w.checkStarts(&f) // after that: what came late was taken before the job that was run
	w.checkAudit(&f)
	w.checkPlans(&f)
	w.checkHooks(&f)
	w.checkScratch(&f)
	w.checkRest(&f)
	return f
}

// jobs reads all that were asked for.
func (w *world) jobs() []job.Job {
	w.t.Helper()
	list := make([]job.Job, len(w.asked))
	for i, id := range w.asked {
		list[i] = w.c.Job(id)
	}
	return list
}

// settled returns an error unless every job is over, runs for real, waits for a
// retry that has a time, or waits for one of the others.
func (w *world) settled() error {
	busy := false // somebody has a reason not to be over
	var waits error
	for _, id := range w.asked {
		var j job.Job
		if err := w.c.Get("/api/v1/jobs/"+string(id), &j); err != nil {
			return err
		}
		switch {
		case j.State.Terminal():
		case j.State == job.Running && w.runs(j), j.State == job.Queued && j.RetryAt != nil:
			busy = true
		case j.State == job.Queued:
			waits = fmt.Errorf("job %s waits for none of the others (%s)", id, j.Reason)
		default:
			return fmt.Errorf("job %s is %s (%s)", id, j.State, j.Reason)
		}
	}
	if busy {
		return nil
	}
	return waits
}

// runs reports whether a borg of the job's attempt lives.
func (w *world) runs(j job.Job) bool {
	h := w.host(j.Host)
	return h != nil && h.borg(j.ID.AttemptID(j.Attempt)) != 0
}

func (w *world) host(name string) *host {
	for _, h := range w.runners() {
		if h.Host == name {
			return h
		}
	}
	return nil
}

// awaitEnd waits until every job is over. How long that takes follows from how
// many there are; so it ends the test only when none has ended for a while.
func (w *world) awaitEnd() {
	w.t.Helper()
	for left := w.asked; len(left) > 0; {
		harness.Eventually(w.t, "another job to be over", func() error {
			for i, id := range left {
				if j := w.c.Job(id); j.State.Terminal() {
					left = slices.Delete(slices.Clone(left), i, i+1)
					return nil
				} else if i == len(left)-1 {
					return fmt.Errorf("job %s is %s (%s)", id, j.State, j.Reason)
				}
			}
			return nil
		})
	}
}

// over returns an error unless every job is over.
func (w *world) over() error {
	for _, id := range w.asked {
		var j job.Job
		if err := w.c.Get("/api/v1/jobs/"+string(id), &j); err != nil {
			return err
		}
		if !j.State.Terminal() {
			return fmt.Errorf("job %s is %s (%s)", id, j.State, j.Reason)
		}
	}
	return nil
}

// borg returns the process of an attempt's borg while it lives, else 0.
func (h *host) borg(attempt string) int {
	if h.sshd != nil {
		return h.noted(attempt, "started")
	}
	var started struct{ PID int }
	data, err := os.ReadFile(filepath.Join(h.Data, "jobs", attempt, "started.json"))
	if err != nil || json.Unmarshal(data, &started) != nil || !alive(started.PID) {
		return 0
	}
	return started.PID
}

// alive reports whether a process exists and has not ended.
func alive(pid int) bool {
	if pid == 0 {
		return false
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	return err == nil && len(fields) > 1 && fields[0] != "Z" && fields[0] != "X"
}

// parent returns the parent of a process.
func parent(pid int) int {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // gone: no parent
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}

// lockPatience is how long a server may take to notice that the other end of a
// connection is gone: its goodbye is on its way again after a cut, at intervals
// that the kernel has doubled meanwhile.
const lockPatience = 90 * time.Second

// checkLocks looks whether a borg that knows nothing of us could work: no lock
// may be left whose holder is gone, and what a living server still holds for a
// connection that is over must go by itself.
func (w *world) checkLocks(f *finding) {
	for _, r := range w.repos {
		var locks []lock
		for until := time.Now().Add(lockPatience); ; time.Sleep(100 * time.Millisecond) {
			locks = r.locks()
			if !slices.ContainsFunc(locks, lock.held) || time.Now().After(until) {
				break
			}
		}
		if len(locks) > 0 {
			f.breach(stale, "repository %s is locked by %v", r.name, locks)
		}
	}
}

// lock is one entry of borg's, with the process that holds it.
type lock struct {
	name string
	pid  int
}

func (l lock) held() bool { return alive(l.pid) }

var lockName = regexp.MustCompile(`\.([0-9]+)-[0-9]+$`)

// locks are those of a repository: exclusive ones are files, shared ones are
// listed in the roster.
func (r *repository) locks() (found []lock) {
	files, _ := filepath.Glob(filepath.Join(r.dir, "lock.exclusive", "*"))
	for _, file := range files {
		l := lock{name: filepath.Base(file)}
		if match := lockName.FindStringSubmatch(l.name); match != nil {
			l.pid, _ = strconv.Atoi(match[1])
		}
		found = append(found, l)
	}
	var roster map[string][][]any // by kind: host, process, thread
	text, err := os.ReadFile(filepath.Join(r.dir, "lock.roster"))
	if err != nil || json.Unmarshal(text, &roster) != nil {
		return found
	}
	for _, holders := range roster {
		for _, holder := range holders {
			l := lock{name: fmt.Sprint(holder)}
			if len(holder) > 1 {
				if pid, ok := holder[1].(float64); ok {
					l.pid = int(pid)
				}
			}
			found = append(found, l)
		}
	}
	return found
}

var attemptDir = regexp.MustCompile(`/jobs/([0-9A-Z]{26}\.[0-9]+)/stderr `)

// begun counts how often borg was started for each attempt, as the borg of
// each host has noted itself.
func (w *world) begun() map[string]int {
	w.t.Helper()
	count := map[string]int{}
	for _, h := range w.runners() {
		file, err := os.Open(h.starts)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			w.t.Fatal(err)
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if match := attemptDir.FindStringSubmatch(lines.Text()); match != nil {
				count[match[1]]++
			}
		}
		_ = file.Close() // read only
	}
	return count
}

// checkStarts looks whether each attempt had one borg at the most, and each
// that ended well had one.
func (w *world) checkStarts(f *finding) {
	begun, most := w.begun(), map[string]int{}
	for _, j := range f.jobs {
		if j.Kind == job.TestRestore { // it lists and restores
			for _, a := range j.Attempts {
				most[j.ID.AttemptID(a.Number)] = 2
			}
		}
	}
	for attempt, n := range begun {
		if n > max(1, most[attempt]) {
			f.breach(twice, "borg was started %d times for attempt %s", n, attempt)
		}
	}
	for _, j := range f.jobs {
		good := (j.State == job.Succeeded || j.State == job.Warning) && j.Kind != job.Umount // takes no borg
		if good && begun[j.ID.AttemptID(j.Attempt)] == 0 {
			f.breach(lost, "job %s is %s, and borg was never started for its attempt %d", j.ID, j.State, j.Attempt)
		}
		for _, a := range j.Attempts {
			if !a.State.Terminal() {
				f.breach(lost, "attempt %d of job %s is %s although the job is over", a.Number, j.ID, a.State)
			}
		}
	}
}

// checkAudit looks whether each job has one request and one end there.
func (w *world) checkAudit(f *finding) {
	requests, ends := map[string]int{}, map[string]int{}
	id := regexp.MustCompile(`job ([0-9A-Z]{26})`)
	for before := uint64(0); ; {
		var page struct {
			Entries []struct{ Outcome, Detail string }
			Before  uint64
		}
		out := w.c.MustCLI("audit", "list", "--action", "borg.", "--limit", "500", "--before", strconv.FormatUint(before, 10), "--json")
		if err := json.Unmarshal([]byte(out), &page); err != nil {
			w.t.Fatal(err)
		}
		for _, e := range page.Entries {
			if match := id.FindStringSubmatch(e.Detail); match == nil {
			} else if e.Outcome == "requested" {
				requests[match[1]]++
			} else {
				ends[match[1]]++
			}
		}
		if before = page.Before; before == 0 {
			break
		}
	}
	for _, j := range f.jobs {
		if requests[string(j.ID)] != 1 || ends[string(j.ID)] != 1 {
			f.breach(twice, "the audit has %d requests and %d ends of job %s", requests[string(j.ID)], ends[string(j.ID)], j.ID)
		}
	}
	if out := w.c.CLI("audit", "verify"); out.Code != 0 {
		f.breach(lost, "the audit does not verify: %s", out.Stderr)
	}
}

// checkSpools looks whether the agents have nothing more to tell.
func (w *world) checkSpools(f *finding) {
	for _, h := range w.runners() {
		var last error
		if !within(func() error { last = h.empty(); return last }) {
			f.breach(rests, "host %s: %s", h.Host, last)
		}
	}
}

// status is what a running agent says of itself.
type status struct {
	JournalDepth int   `json:"journal_depth"`
	Attempts     []any `json:"attempts"`
	Bus          struct {
		HelloAt time.Time `json:"hello_at"`
	} `json:"bus"`
}

func (h *host) status() (status, error) {
	result := harness.Run(h.t, nil, harness.Binary(h.t, "borgfleet-agent"), "status", "--data", h.Data, "--json")
	var s status
	if err := json.Unmarshal([]byte(result.Stdout), &s); err != nil {
		return s, fmt.Errorf("status: %w: %s", err, result.Stderr)
	}
	return s, nil
}

// empty returns an error unless the agent's journal, its job directories and
// its processes are as they are when nothing is to be done.
func (h *host) empty() error {
	if err := h.settled(); err != nil {
		return err
	}
	if left := h.runs(); len(left) > h.orphans {
		return fmt.Errorf("job directories are left: %v", left)
	}
	if left := h.borgs(); len(left) > 0 {
		return fmt.Errorf("borgs are left: %v", left)
	}
	return nil
}

// settled returns an error unless the journal is empty.
func (h *host) settled() error {
	if h.journal != "" {
		return h.emptyJournal()
	}
	status, err := h.status()
	if err != nil {
		return err
	}
	if status.JournalDepth != 0 || len(status.Attempts) != 0 {
		return fmt.Errorf("its journal holds %d events and %d attempts", status.JournalDepth, len(status.Attempts))
	}
	return nil
}

// runs returns the job directories. A supervisor stands by in a hidden one.
func (h *host) runs() []string {
	dirs, _ := filepath.Glob(filepath.Join(h.Data, "jobs", "[^.]*")) // the pattern is right
	return dirs
}

// borgs returns all processes whose standard error is in a job directory.
func (h *host) borgs() (found []int) {
	entries, _ := filepath.Glob("/proc/[0-9]*/fd/2")
	for _, entry := range entries {
		output, err := os.Readlink(entry)
		if err != nil || !strings.HasPrefix(output, filepath.Join(h.Data, "jobs")+"/") {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(entry, "/")[2]); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// Slack of what a program may hold more than before: a standby's socket and
// lock, connections that are being closed; what the runtime has not given back.
const (
	moreDescriptors = 12
	moreMemory      = 48 << 20
)

// checkRest looks whether the programs hold as much as before.
func (w *world) checkRest(f *finding) {
	for name, pid := range w.programs() {
		before := w.rest[name]
		var now rest
		if !within(func() error {
			now = rest{lab.Descriptors(w.t, pid), lab.RSS(w.t, pid)}
			if now.descriptors > before.descriptors+moreDescriptors || now.memory > before.memory+moreMemory {
				return errors.New("more than before")
			}
			return nil
		}) {
			f.breach(rests, "%s holds %d descriptors and %d MB, before: %d and %d MB",
				name, now.descriptors, now.memory>>20, before.descriptors, before.memory>>20)
		}
	}
}

// within waits for a condition like harness.Eventually, but says whether it
// came to hold instead of ending the test.
func within(condition func() error) bool {
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for deadline := time.Now().Add(harness.Patience / 2); time.Now().Before(deadline); <-pause.C {
		if condition() == nil {
			return true
		}
	}
	return false
}

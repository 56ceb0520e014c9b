package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// checkNow checks what must hold at every moment.
func (m *model) checkNow() {
	m.t.Helper()
	writers, readers, attempts := map[string]int{}, map[string]int{}, map[job.ID]int{}
	for host, a := range m.agents {
		open := slices.DeleteFunc(a.open(), func(k key) bool { return m.givenUp(k.job) })
		slots := 0
		for _, k := range open {
			r := a.of(k)
			attempts[k.job]++
			if r.order.Kind.TakesSlot() {
				slots++
			}
			if r.order.Kind.Exclusive() {
				writers[r.order.Repository.Name]++
			} else {
				readers[r.order.Repository.Name]++
			}
		}
		if host == fleet.LocalHost {
			m.checkAlone(a, open)
		}
		if slots > 2 {
			m.t.Fatalf("host %s runs %d jobs at once", host, slots)
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
	for _, id := range slices.Clone(m.jobs) {
		m.checkPreview(id)
		m.checkVet(id)
	}
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
		case j.State == job.Failed && j.Attempt == 0: // see checkPreview
			m.checkLog(id)
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

// checkPreview checks that a prune which needs a dry run had one that ended well
// before it began, or else ended as that says. From then on the dry run is one of
// the jobs that are checked.
func (m *model) checkPreview(id job.ID) {
	prune, err := m.dispatch().Job(context.Background(), id)
	if err != nil {
		m.t.Fatal(err)
	}
	aside, err := m.store.Aside(id)
	if err != nil {
		m.t.Fatal(err)
	}
	spec, _ := prune.Spec.(job.PruneSpec)
	needed := prune.Kind == job.Prune && !spec.Confirmed
	if aside.Preview == "" {
		if needed && prune.Attempt > 0 {
			m.t.Errorf("prune %s began without a dry run", id)
		}
		return
	}
	dry, err := m.dispatch().Job(context.Background(), aside.Preview)
	if err != nil {
		m.t.Fatal(err)
	}
	m.jobs, m.cancelled[dry.ID] = append(m.jobs, dry.ID), m.cancelled[id]
	good := dry.State == job.Succeeded
	tooMuch := good && dry.Result.PrunedOmitted > 10
	switch {
	case !needed:
		m.t.Errorf("%s %s has a dry run", prune.Kind, id)
	case prune.Attempt > 0 && (!good || tooMuch || prune.Attempts[0].SentAt.Before(*dry.FinishedAt)):
		m.t.Errorf("prune %s began, and its dry run is %s (%+v)", id, dry.State, dry.Result)
	case aside.Vet != "": // it ended with that
	case prune.Attempt == 0 && prune.State == job.Failed && tooMuch != (prune.Failure.Code == job.NeedsConfirmation):
		m.t.Errorf("prune %s ended with %v, and its dry run is %s (%+v)", id, prune.Failure, dry.State, dry.Result)
	case prune.Attempt == 0 && prune.State == job.Failed && good && !tooMuch:
		m.t.Errorf("prune %s failed after a good dry run: %v", id, prune.Failure)
	}
}

// checkAlone checks that hosts are kept out while something is deleted.
func (m *model) checkAlone(a *agent, open []key) {
	for _, k := range open {
		r := a.of(k)
		deletes := r.order.Kind == job.Prune && !strings.Contains(string(r.order.Spec), "dry_run")
		if deletes && !m.dispatch().Busy(r.order.Repository.Name) {
			m.t.Fatalf("hosts may use repository %s while job %s deletes", r.order.Repository.Name, k.job)
		}
	}
}

// checkVet checks that a prune in the depot began after a look that ended well.
func (m *model) checkVet(id job.ID) {
	prune, err := m.dispatch().Job(context.Background(), id)
	if err != nil {
		m.t.Fatal(err)
	}
	aside, err := m.store.Aside(id)
	if err != nil {
		m.t.Fatal(err)
	}
	if prune.Kind != job.Prune || prune.Repository != "k" || prune.Attempt == 0 {
		return
	}
	if aside.VetFor < prune.Attempt {
		m.t.Errorf("attempt %d of prune %s had no look before it: %+v", prune.Attempt, id, aside)
	}
	if aside.VetFor != prune.Attempt {
		return // there was to be another attempt
	}
	vet, err := m.dispatch().Job(context.Background(), aside.Vet)
	if err != nil || vet.State != job.Succeeded || vet.FinishedAt.After(prune.Attempts[prune.Attempt-1].SentAt) {
		m.t.Errorf("prune %s began, and the look before it is %+v, %v", id, vet, err)
	}
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

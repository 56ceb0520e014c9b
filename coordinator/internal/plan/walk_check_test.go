package plan_test

import (
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// see remembers runs as they are stored.
func (w *walk) see() {
	w.t.Helper()
	for name := range w.created {
		page, err := w.store.PlanRuns(fleet.RunFilter{Plan: name, Limit: store.MaxPlanRuns})
		if err != nil {
			w.wrong("%v", err)
		}
		for _, run := range page.Runs {
			if before, seen := w.runs[run.ID]; seen && before.FinishedAt != nil && text(before) != text(run) {
				w.wrong("a run that was over has changed:\n%s\n%s", text(before), text(run))
			}
			w.runs[run.ID] = run
		}
	}
}

// observe checks what must be so at any moment.
func (w *walk) observe(all bool) {
	w.t.Helper()
	open, err := w.store.OpenJobs()
	if err != nil {
		w.wrong("%v", err)
	}
	busy := map[string]job.Job{}
	for _, j := range open {
		if j.Kind != job.Backup || j.Run == "" {
			continue
		}
		key := j.Plan + " " + j.Host
		if other, two := busy[key]; two {
			w.wrong("two backups of %s are open:\n%s\n%s", key, text(other), text(j))
		}
		busy[key] = j
	}
	if !all {
		return
	}
	w.see()
	w.checkFreshness(w.allJobs())
}

// allJobs returns all jobs, oldest first.
func (w *walk) allJobs() (jobs []job.Job) {
	w.t.Helper()
	filter := job.Filter{Limit: job.MaxPage}
	for {
		page, err := w.store.Jobs(filter)
		if err != nil {
			w.wrong("%v", err)
		}
		jobs = append(jobs, page.Jobs...)
		if filter.Cursor = page.Cursor; filter.Cursor == "" {
			slices.SortFunc(jobs, func(a, b job.Job) int { return strings.Compare(string(a.ID), string(b.ID)) })
			return jobs
		}
	}
}

func wasGood(j job.Job) bool { return j.State == job.Succeeded || j.State == job.Warning }

// dumpOf is the hook whose output a backup is; empty: it is one of files.
func dumpOf(j job.Job) string {
	if spec, ok := j.Spec.(job.BackupSpec); ok {
		return spec.ContentFrom
	}
	return ""
}

// newestGood returns the newest good job among those that are chosen.
func newestGood(jobs []job.Job, chosen func(job.Job) bool) *job.Job {
	var newest *job.Job
	for i, j := range jobs {
		if wasGood(j) && chosen(j) && (newest == nil || !j.FinishedAt.Before(*newest.FinishedAt)) {
			newest = &jobs[i]
		}
	}
	return newest
}

// checkFreshness compares what is said of plans with what can be seen of their jobs.
func (w *walk) checkFreshness(jobs []job.Job) {
	w.t.Helper()
	said := map[string]bool{}
	for _, c := range w.plans.Conditions() {
		said[c.Kind+" "+c.Plan+" "+c.Host+" "+c.Repository] = true
	}
	for _, f := range w.rows() {
		specs := w.specs[f.Plan]
		spec := specs[len(specs)-1]
		var oldest *job.Job
		missing := false
		for _, part := range partsOf(spec) {
			good := newestGood(jobs, func(j job.Job) bool {
				return j.Kind == job.Backup && j.Plan == f.Plan && j.Host == f.Host && j.Repository == f.Repository && dumpOf(j) == part
			})
			missing = missing || good == nil
			if good != nil && (oldest == nil || good.FinishedAt.Before(*oldest.FinishedAt)) {
				oldest = good
			}
		}
		if missing {
			oldest = nil
		}
		if (oldest == nil) != (f.LastSuccess == nil) || oldest != nil && !oldest.FinishedAt.Equal(f.LastSuccess.FinishedAt) {
			w.wrong("the last success of %s is another: %s", text(f), text(oldest))
		}
		w.checkOverdue(f, spec, oldest, said["overdue "+f.Plan+" "+f.Host+" "+f.Repository])
		w.checkMissed(f, spec, oldest, said["missed "+f.Plan+" "+f.Host+" "+f.Repository])
		w.checkTested(f, spec, jobs, said["restore_test_old "+f.Plan+" "+f.Host+" "+f.Repository])
	}
}

func (w *walk) checkOverdue(f fleet.Freshness, spec fleet.PlanSpec, last *job.Job, said bool) {
	w.t.Helper()
	period := regular(spec)
	if w.paused[f.Plan] || period == 0 {
		return
	}
	allowed := 2*period + time.Hour
	if spec.MaxAge != "" {
		allowed = spec.MaxAge.Duration()
	}
	from := w.created[f.Plan].Add(period)
	if last != nil {
		from = *last.FinishedAt
	}
	if overdue := w.now().Sub(from) >= allowed; overdue != said || overdue != (f.State == fleet.Overdue) {
		w.wrong("overdue is %v, and is said to be %v: %s", overdue, said, text(f))
	}
}

func (w *walk) checkMissed(f fleet.Freshness, spec fleet.PlanSpec, last *job.Job, said bool) {
	w.t.Helper()
	if w.paused[f.Plan] || len(spec.Dumps) > 0 {
		return
	}
	missed := false
	for _, run := range w.runs {
		for _, task := range run.Tasks {
			if run.Plan == f.Plan && task.Host == f.Host && task.Repository == f.Repository && task.Kind == job.Backup && task.Dump == "" && task.State == fleet.RunMissed {
				missed = missed || last == nil || last.FinishedAt.Before(*task.FinishedAt)
			}
		}
	}
	if missed != said {
		w.wrong("missed is %v, and is said to be %v: %s", missed, said, text(f))
	}
}

func (w *walk) checkTested(f fleet.Freshness, spec fleet.PlanSpec, jobs []job.Job, said bool) {
	w.t.Helper()
	period := regular(spec)
	if w.paused[f.Plan] || period == 0 || spec.RestoreTest == nil {
		return
	}
	from := w.created[f.Plan]
	if good := newestGood(jobs, func(j job.Job) bool {
		return j.Kind == job.TestRestore && j.Plan == f.Plan && j.Host == f.Host && j.Repository == f.Repository
	}); good != nil {
		from = *good.FinishedAt
	}
	if old := w.now().Sub(from) >= spec.RestoreTest.Every.Duration()+max(period, time.Hour); old != said {
		w.wrong("the restore test is too old: %v, and is said to be: %v: %s", old, said, text(f))
	}
}

// judge checks, at the end, all that has happened.
func (w *walk) judge() {
	w.t.Helper()
	jobs := w.allJobs()
	w.t.Logf("%d runs, %d jobs", len(w.runs), len(jobs))
	w.judgeJobs(jobs)
	w.judgeRuns()
	w.judgeHours(jobs)
	w.judgeOrder(jobs)
	w.judgePrunes(jobs)
}

// judgeJobs checks that no job was made twice, and that none came before its time.
func (w *walk) judgeJobs(jobs []job.Job) {
	w.t.Helper()
	made, due := map[string]job.Job{}, map[job.ID]time.Time{}
	for _, run := range w.runs {
		for _, task := range run.Tasks {
			due[task.Job] = task.NotBefore
		}
	}
	for _, j := range jobs {
		dump := dumpOf(j)
		if spec, ok := j.Spec.(job.PruneSpec); ok {
			dump = spec.Series
		}
		key := strings.Join([]string{j.Run, j.Host, j.Repository, string(j.Kind), dump}, " ")
		if other, twice := made[key]; twice && j.Run != "" {
			w.wrong("%s has two jobs: %s and %s", key, text(other), text(j))
		}
		made[key] = j
		if at, known := due[j.ID]; known && j.Kind == job.Backup && !w.jumped && j.SubmittedAt.Before(at) {
			w.wrong("job %s began before its time, %s", text(j), at)
		}
	}
}

// judgeRuns checks that what is due runs once, and is made up in its time.
func (w *walk) judgeRuns() {
	w.t.Helper()
	seen := map[string]fleet.Run{}
	for _, run := range w.runs {
		if run.Trigger == fleet.TriggerManual {
			continue
		}
		key := run.Plan + " " + run.Due.String()
		again := slices.ContainsFunc(w.jumps, func(to time.Time) bool { return run.Due.After(to) })
		if other, twice := seen[key]; twice && !again {
			w.wrong("%s has run twice: %s and %s", key, text(other), text(run))
		}
		seen[key] = run
		late, worst := run.StartedAt.Sub(run.Due), fleet.RunState("")
		for _, task := range run.Tasks {
			if task.State != fleet.RunMissed || task.Reason != "the coordinator was away" {
				worst = task.State
			}
		}
		allowed := slices.ContainsFunc(w.specs[run.Plan], func(spec fleet.PlanSpec) bool {
			table, err := schedule.Parse(*spec.Schedule)
			return err == nil && table.Last(run.Due).Equal(run.Due) && (late <= time.Minute || late < table.CatchUp(run.Due))
		})
		if !allowed && worst != "" || late < 0 {
			w.wrong("a run was made up too late, or is none of its plan's: %s", text(run))
		}
	}
}

// judgeHours checks that hosts began jobs in the hours of their plans, and were told
// to end in them.
func (w *walk) judgeHours(jobs []job.Job) {
	w.t.Helper()
	stored := map[job.ID]job.Job{}
	for _, j := range jobs {
		stored[j.ID] = j
	}
	for _, m := range w.machines() {
		for _, r := range m.ran {
			run, known := w.runs[r.Run]
			if !known || run.Trigger == fleet.TriggerManual || r.Kind == job.TestRestore {
				continue
			}
			asked := stored[r.Job].Window
			if !slices.ContainsFunc(w.specs[r.Plan], func(spec fleet.PlanSpec) bool { return text(hoursOf(spec, r.Kind)) == text(asked) }) {
				w.wrong("%s %s has hours that are none of its plan's: %s", r.Kind, r.Job, text(asked))
			}
			if asked == nil {
				continue
			}
			window, err := schedule.ParseWindow(asked.Hours, asked.Timezone)
			if err != nil || !window.Open(r.at) && !previewed(jobs, stored[r.Job], window) {
				w.wrong("%s %s began at %s, outside %s (%v): %s", r.Kind, r.Job, r.at, asked.Hours, err, text(stored[r.Job]))
			}
			limit := time.Duration(r.Timeout) * time.Second
			if asked.Ends && (limit == 0 || r.at.Add(limit).After(window.Closes(r.at).Add(time.Second))) {
				w.wrong("%s %s began at %s for %s, which is longer than %s", r.Kind, r.Job, r.at, limit, asked.Hours)
			}
		}
	}
}

// previewed reports whether the dry run that goes before a prune was asked for in
// its hours: with that it has begun.
func previewed(jobs []job.Job, prune job.Job, window schedule.Window) bool {
	spec, ok := prune.Spec.(job.PruneSpec)
	return ok && slices.ContainsFunc(jobs, func(j job.Job) bool {
		look, ok := j.Spec.(job.PruneSpec)
		return ok && look.DryRun && look.Series == spec.Series && j.Repository == prune.Repository && !j.SubmittedAt.Before(prune.SubmittedAt) && window.Open(j.SubmittedAt)
	})
}

// hoursOf are the hours in which a job of a plan may begin.
func hoursOf(spec fleet.PlanSpec, kind job.Kind) *job.Window {
	s := spec.Schedule
	switch {
	case kind == job.Check && spec.Check != nil && spec.Check.Window != "":
		return &job.Window{Hours: spec.Check.Window, Timezone: s.Timezone}
	case s.Window == "":
		return nil
	default:
		return &job.Window{Hours: s.Window, Timezone: s.Timezone, Ends: s.WindowEnds && kind == job.Backup}
	}
}

// judgeOrder checks that hosts of one run waited for each other, where their plan
// says so, and were left out after a failure.
func (w *walk) judgeOrder(jobs []job.Job) {
	w.t.Helper()
	stored := map[job.ID]job.Job{}
	for _, j := range jobs {
		stored[j.ID] = j
	}
	for _, run := range w.runs {
		specs := w.specs[run.Plan]
		if w.jumped || slices.ContainsFunc(specs, func(p fleet.PlanSpec) bool { return p.Order != fleet.Sequential }) {
			continue
		}
		stop := !slices.ContainsFunc(specs, func(p fleet.PlanSpec) bool { return !p.StopOnFailure })
		for i, task := range run.Tasks {
			for _, before := range run.Tasks[:i] {
				if task.Kind != job.Backup || before.Kind != job.Backup || task.Job == "" || before.Host == task.Host {
					continue
				}
				if before.FinishedAt == nil || stored[before.Job].FinishedAt != nil && stored[before.Job].FinishedAt.After(stored[task.Job].SubmittedAt) {
					w.wrong("%s did not wait for %s: %s", task.Host, before.Host, text(run))
				}
				if stop && (before.State == fleet.RunFailed || before.State == fleet.RunMissed) {
					w.wrong("%s has run after %s: %s", task.Host, before.Host, text(run))
				}
			}
		}
	}
}

// judgePrunes checks that archives were only deleted after a good backup, and not
// while one was suspicious that nobody had accepted.
func (w *walk) judgePrunes(jobs []job.Job) {
	w.t.Helper()
	for _, m := range w.machines() {
		for _, r := range m.ran {
			run, known := w.runs[r.Run]
			if !known || r.Kind != job.Prune {
				continue
			}
			at := slices.IndexFunc(run.Tasks, func(task fleet.Task) bool { return task.Job == r.Job })
			if at < 0 {
				w.wrong("prune %s is none of its run's: %s", r.Job, text(run))
				continue
			}
			t := run.Tasks[at]
			if !slices.ContainsFunc(run.Tasks, func(b fleet.Task) bool {
				return b.Kind == job.Backup && b.Host == t.Host && b.Repository == t.Repository && b.Dump == t.Dump && (b.State == fleet.RunSucceeded || b.State == fleet.RunWarning)
			}) {
				w.wrong("%s was pruned without a good backup: %s", t.Host, text(run))
			}
			if since := w.heldSince(jobs, run.Plan, t, r.at); !since.IsZero() {
				w.wrong("%s was pruned at %s, and was held since %s: %s", t.Host, r.at, since, text(run))
			}
		}
	}
}

// heldSince returns since when a suspicious backup was to keep archives from being
// pruned at a moment; zero: there was none.
func (w *walk) heldSince(jobs []job.Job, plan string, t fleet.Task, at time.Time) (since time.Time) {
	holds := !slices.ContainsFunc(w.specs[plan], func(p fleet.PlanSpec) bool { return p.Suspicion != "" })
	if accepted, was := w.accepted[plan+" "+t.Host+" "+t.Repository]; was && at.After(accepted) || !holds || w.jumped {
		return since
	}
	usual := 0
	for _, j := range jobs {
		if j.Plan != plan || j.Host != t.Host || j.Repository != t.Repository || j.Kind != job.Backup || dumpOf(j) != "" || !wasGood(j) {
			continue
		}
		switch {
		case j.Result.NFiles > 1000:
			usual++
		case usual >= 8 && at.Sub(*j.FinishedAt) > time.Minute && since.IsZero():
			since = *j.FinishedAt
		}
	}
	return since
}

package plan

import (
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// hostsReturn is how long hosts may take, after a start, to tell what they did
// meanwhile.
const hostsReturn = 90 * time.Second

// world answers what a step of a run is decided by. It is called under work.
func (s *Service) world(e *entry, r *openRun, now time.Time) world {
	var earlier, later []fleet.Run
	for _, other := range e.runs {
		switch c := order(other.run.Run, r.run.Run); {
		case c < 0:
			earlier = append(earlier, other.run.Run)
		case c > 0:
			later = append(later, other.run.Run)
		}
	}
	begun := later
	if e.overlap() != fleet.OverlapReplace {
		later = nil
	}
	w := world{
		now: now, plan: e.plan.PlanSpec, job: s.job, early: now.Sub(s.since) < hostsReturn,
		host:     func(name string) bool { return slices.Contains(e.hosts, name) },
		before:   func(host string) standing { return before(slices.Concat(earlier, on(begun, host)), host, now, s.job) },
		replaced: func(host string) *fleet.Run { return replacing(later, host, now) },
		judge:    func(t fleet.Task) *fleet.Suspicion { return s.judge(e.plan.Name, t) },
		shut:     func(t fleet.Task) bool { return s.shut(e, r.run.Run, t, now) },
		held: func(host, repository string) *fleet.Suspicion {
			return s.mem.tracks[trackID{e.plan.Name, host, repository}].held
		},
		care: func(host, repository string) care { return s.careOf(r.run.ID, trackID{e.plan.Name, host, repository}) },
	}
	if e.table != nil && r.run.Trigger != fleet.TriggerManual {
		w.late = e.table.CatchUp(r.run.Due)
	}
	return w
}

// job returns what is stored of a job. One that cannot be read now is as one that
// runs.
func (s *Service) job(id job.ID) (job.Job, bool) {
	if id == "" {
		return job.Job{}, false
	}
	j, found, err := s.options.Store.Job(id)
	if err != nil {
		s.logger.Error("the job of a run cannot be read; trying again", "job", id, "err", err)
		s.stale = true
		return job.Job{ID: id, State: job.Running}, true
	}
	return j, found
}

// careOf is what is known of the care of a repository, and of a track in it.
func (s *Service) careOf(run string, id trackID) care {
	known := s.mem.repositories[id.repository]
	c := care{
		lastCheck: known.lastCheck, lastVerify: known.lastVerify, lastCompact: known.lastCompact,
		lastRestoreTest: s.mem.tracks[id].lastRestoreTest,
	}
	checks := s.mem.checks[id.repository]
	c.checking = checks != "" && checks != run
	return c
}

// judge says in what the backup of a task looks suspicious.
func (s *Service) judge(plan string, t fleet.Task) *fleet.Suspicion {
	track, err := s.options.Store.Track(plan, t.Host, t.Repository)
	if err != nil {
		s.logger.Error("what backups were like cannot be read", "plan", plan, "host", t.Host, "repo", t.Repository, "err", err)
		return nil
	}
	return suspect(track, t.Job)
}

// plannedOf makes the request for the job of a task.
func (s *Service) plannedOf(run fleet.Run, t fleet.Task, now time.Time) (fleet.Planned, error) {
	e := s.mem.plans[run.Plan]
	id := trackID{run.Plan, t.Host, t.Repository}
	a := ask{plan: e.plan, run: run, task: t, now: now, known: s.careOf(run.ID, id)}
	switch t.Kind {
	case job.Prune:
		if e.plan.Retention == nil {
			return fleet.Planned{}, job.Fail(job.Conflict, "the plan has no retention any more")
		}
	case job.Check:
		if e.plan.Check == nil {
			return fleet.Planned{}, job.Fail(job.Conflict, "the plan has no checks any more")
		}
	case job.TestRestore:
		newest, err := s.newest(id)
		if err != nil {
			return fleet.Planned{}, err
		}
		a.archive, a.canary = newest.Archive, s.canaryIn(newest.Job)
	case job.Backup:
		a.expires = s.patience(e, run, t, now)
	}
	return a.planned()
}

// patience is how long the backup of a task may wait.
func (s *Service) patience(e *entry, run fleet.Run, t fleet.Task, now time.Time) time.Duration {
	if e.table == nil {
		return 0
	}
	first, late := t.NotBefore, e.table.CatchUp(run.Due)
	if run.Trigger == fleet.TriggerManual {
		first = time.Time{}
	}
	return expiry(e.table, first, now, e.delay(t.Host), late)
}

// shut reports whether the hours of a plan begin when a backup may not wait any
// more.
func (s *Service) shut(e *entry, run fleet.Run, t fleet.Task, now time.Time) bool {
	if e.table == nil || run.Trigger == fleet.TriggerManual {
		return false
	}
	closed := e.table.Window().Opens(now).Sub(now)
	return closed > 0 && closed >= s.patience(e, run, t, now)
}

// delay is how much later than the plan a host begins. Hosts that wait for each
// other begin as one.
func (e *entry) delay(host string) time.Duration {
	switch {
	case e.table == nil:
		return 0
	case e.plan.Order == fleet.Sequential:
		return e.table.Delay(e.plan.Name, "")
	default:
		return e.table.Delay(e.plan.Name, host)
	}
}

// newest returns the newest good backup of a track: of files, else of a dump.
func (s *Service) newest(id trackID) (fleet.BackupSummary, error) {
	known := s.mem.tracks[id]
	if known.last != nil {
		return *known.last, nil
	}
	var newest fleet.BackupSummary
	for _, dump := range known.dumps {
		if dump.FinishedAt.After(newest.FinishedAt) {
			newest = dump
		}
	}
	if newest.Archive == "" {
		return newest, job.Fail(job.ArchiveMissing, "there is no good backup of %s to %s by plan %s yet", id.host, id.repository, id.plan).
			WithHint("borgfleet plan run %s", id.plan)
	}
	return newest, nil
}

// canaryIn returns the small file that a backup was given, nil if it was given
// none, or that is not known any more.
func (s *Service) canaryIn(id job.ID) *job.Canary {
	j, found, err := s.options.Store.Job(id)
	if err != nil || !found {
		return nil
	}
	spec, ok := j.Spec.(job.BackupSpec)
	if !ok {
		return nil
	}
	return spec.Canary
}

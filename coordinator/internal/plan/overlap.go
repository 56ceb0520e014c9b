package plan

import (
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// standing is how the earlier runs of a plan stand on a host.
type standing struct {
	over   bool      // nothing of them is left to do
	ending bool      // they end by themselves at once: their job's time is over
	waits  bool      // one of them waits for another to end
	due    time.Time // of the oldest that is not over
}

func (s standing) run() string { return "its run of " + clock(s.due) }

// settleTime is how long a job whose time is over may take to be ended.
const settleTime = 2 * time.Second

// before says how runs, all of them earlier, stand on a host.
func before(earlier []fleet.Run, host string, now time.Time, find func(job.ID) (job.Job, bool)) standing {
	s, ending := standing{over: true}, true
	for _, run := range earlier {
		open, asked := false, job.ID("")
		for _, t := range run.Tasks {
			if t.Host != host || t.Kind != job.Backup || t.State != fleet.RunRunning {
				continue
			}
			open = true
			if t.Job != "" {
				asked = t.Job
			} else if asked == "" && !t.NotBefore.After(now) && !begun(run, host) {
				s.waits = true
			}
		}
		if !open {
			continue
		}
		if s.over {
			s.over, s.due = false, run.Due
		}
		j, found := find(asked)
		ending = ending && asked != "" && found && expiring(j, now)
	}
	s.ending = !s.over && ending
	return s
}

// begun reports whether a run has asked for a job on a host.
func begun(run fleet.Run, host string) bool {
	for _, t := range run.Tasks {
		if t.Host == host && t.Job != "" {
			return true
		}
	}
	return false
}

// expiring reports whether a job is about to be ended, or was, as no host has taken
// it in its time.
func expiring(j job.Job, now time.Time) bool {
	if j.State.Terminal() {
		return true
	}
	never := j.State == job.Queued && j.Attempt == 0
	return never && j.ExpiresAt != nil && !j.ExpiresAt.After(now.Add(settleTime))
}

// on returns the runs among later ones that have begun on a host already, and are
// not over there, as can be after a clock was set back.
func on(later []fleet.Run, host string) (ahead []fleet.Run) {
	for _, run := range later {
		if begun(run, host) && openOn(run, host) {
			ahead = append(ahead, run)
		}
	}
	return ahead
}

func openOn(run fleet.Run, host string) bool {
	return slices.ContainsFunc(run.Tasks, func(t fleet.Task) bool {
		return t.Host == host && t.Kind == job.Backup && t.State == fleet.RunRunning
	})
}

// replacing returns the first of later runs that has come to a host.
func replacing(later []fleet.Run, host string, now time.Time) *fleet.Run {
	for i, run := range later {
		for _, t := range run.Tasks {
			if t.Host == host && t.Kind == job.Backup && t.State == fleet.RunRunning && !t.NotBefore.After(now) {
				return &later[i]
			}
		}
	}
	return nil
}

package plan

import (
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// stateOf is what the end of a job means for its task, and why.
func stateOf(j job.Job) (state fleet.RunState, reason string) {
	if j.Failure != nil {
		reason = j.Failure.Message
	}
	switch j.State {
	case job.Succeeded:
		return fleet.RunSucceeded, ""
	case job.Warning:
		return fleet.RunWarning, reason
	case job.Cancelled:
		if j.Failure != nil && j.Failure.Code == job.Skipped {
			return fleet.RunSkipped, reason
		}
		return fleet.RunCancelled, reason
	case job.Expired:
		return fleet.RunMissed, reason
	case job.Failed:
		return fleet.RunFailed, reason
	default:
		return fleet.RunRunning, ""
	}
}

// good reports whether a task has brought what it was for.
func good(t fleet.Task) bool {
	return t.State == fleet.RunSucceeded || t.State == fleet.RunWarning
}

// over reports whether all tasks of a run have ended.
func over(tasks []fleet.Task) bool {
	for _, t := range tasks {
		if t.State == fleet.RunRunning {
			return false
		}
	}
	return true
}

// worst is the state of a run whose tasks have ended. It is skipped or missed if
// nothing else happened; a part that was missed is a warning.
func worst(tasks []fleet.Task) fleet.RunState {
	count := map[fleet.RunState]int{}
	for _, t := range tasks {
		count[t.State]++
	}
	done := count[fleet.RunSucceeded] + count[fleet.RunWarning]
	switch {
	case count[fleet.RunFailed] > 0:
		return fleet.RunFailed
	case count[fleet.RunCancelled] > 0:
		return fleet.RunCancelled
	case done == 0 && count[fleet.RunMissed] > 0:
		return fleet.RunMissed
	case done == 0:
		return fleet.RunSkipped
	case count[fleet.RunWarning]+count[fleet.RunMissed] > 0:
		return fleet.RunWarning
	default:
		return fleet.RunSucceeded
	}
}

package fleet

import (
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Planned asks for a job that belongs to a run of a plan.
type Planned struct {
	job.Request        // Plan and IdempotencyKey are set
	Run         string // of the plan
	// Series begins the name of a backup's archive, where the time follows. Empty:
	// the host's own.
	Series    string
	RetryWait time.Duration // before the second attempt, doubled from there up to an hour; 0: as for other jobs
	Window    *job.Window   // hours in which attempts may begin; null: any
}

// Submitted is what became of one of several that were planned.
type Submitted struct {
	Job job.Job
	Err error // a *job.Failure, why there is no such job; it concerns this one alone
}

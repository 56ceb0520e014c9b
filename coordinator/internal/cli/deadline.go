package cli

import (
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// deadlines are the times that every command takes which submits a job.
type deadlines struct {
	Timeout config.Duration `help:"Stop an attempt that runs for longer, for example 90m or 2d. Default: the coordinator's limit." placeholder:"TIME"`
	Expires config.Duration `help:"Let the job expire if its host has not accepted it within this time, for example 12h or 2d. Default: the coordinator's limit." placeholder:"TIME"`
}

// set puts the times that were given into a request.
func (d deadlines) set(request *job.Request) error {
	for _, t := range []struct {
		flag  string
		given config.Duration
		into  *int
	}{{"--timeout", d.Timeout, &request.Timeout}, {"--expires", d.Expires, &request.ExpiresIn}} {
		span := time.Duration(t.given)
		if span == 0 {
			continue
		}
		if span < time.Second {
			return console.Usage("%s must be at least 1s", t.flag)
		}
		*t.into = int((span + time.Second - 1) / time.Second)
	}
	return nil
}

// deadlines says how long a job may wait and run.
func (t *table) deadlines(j job.Job, now time.Time) {
	if at := j.ExpiresAt; at != nil && j.Attempt == 0 && !j.State.Terminal() {
		t.row("expires", "in "+human.Duration(at.Sub(now))+", at "+at.Local().Format("2006-01-02 15:04:05"))
	}
	if j.Timeout > 0 {
		t.row("timeout", human.Duration(time.Duration(j.Timeout)*time.Second)+" an attempt")
	}
}

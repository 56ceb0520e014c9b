package dispatch

import (
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file says what is wrong with hosts, for the status.

// severity says how soon somebody should look at what needs a person: at once,
// where backups do not happen or may be lost.
func severity(kind string) fleet.Severity {
	switch kind {
	case "failed", "no_borg", "unreachable", "frozen", "store", "disk_low", "duplicate":
		return fleet.SeverityCritical
	}
	return fleet.SeverityWarning
}

// barred reports whether a host cannot be reached until a person does something,
// whether or not jobs wait for it.
func barred(h fleet.HostView) bool {
	return h.Problem != nil && h.Problem.Code != job.HostUnreachable && h.Problem.Code != job.ConnectionLost
}

func barredHost(h fleet.HostView) fleet.Attention {
	return fleet.Attention{
		Kind: "unreachable", Host: h.Name, Since: h.Since, Hint: h.Problem.Hint,
		Message: fmt.Sprintf("host %s cannot be reached: %s", h.Name, h.Problem.Message),
	}
}

func awayHost(h fleet.HostView, open int) fleet.Attention {
	waits := plural(open, "job waits", "jobs wait")
	a := fleet.Attention{Kind: "offline", Host: h.Name, Since: h.Since}
	switch {
	case h.Mode == fleet.ModeLocal:
		a.Message = fmt.Sprintf("the depot's own jobs are not run, and %s", waits)
		a.Hint = "see the coordinator's log"
	case h.Mode == fleet.ModeSSH:
		a.Message = fmt.Sprintf("host %s is not reached, and %s for it", h.Name, waits)
		a.Hint = "the jobs go on when it is; borgfleet host verify " + h.Name + " tries it now"
		if h.Problem != nil {
			a.Message += ": " + h.Problem.Message
		}
	case h.Since.IsZero():
		a.Message = fmt.Sprintf("host %s has never connected, and %s for it", h.Name, waits)
		a.Hint = "enrol its agent: borgfleet host token " + h.Name + " prints the command that does it"
	default:
		a.Message = fmt.Sprintf("host %s is offline, and %s for it", h.Name, waits)
		a.Hint = "the jobs go on when it connects; look at borgfleet-agent there (systemctl status borgfleet-agent, borgfleet-agent doctor)"
	}
	return a
}

// unfit says what the newest look at a host has found, which was not good.
func unfit(j job.Job) fleet.Attention {
	a := fleet.Attention{
		Kind: "verify", Host: j.Host, Job: j.ID, Since: *j.FinishedAt,
		Message: fmt.Sprintf("host %s was not found fit", j.Host), Hint: "borgfleet host verify " + j.Host + " looks again",
	}
	if f := j.Failure; f != nil {
		a.Message += ": " + f.Message
		if f.Hint != "" {
			a.Hint = f.Hint
		}
	}
	if j.Result == nil {
		return a
	}
	bad := []job.Finding{}
	for _, f := range j.Result.Checks {
		if !f.Good {
			bad = append(bad, f)
		}
	}
	if len(bad) > 0 {
		a.Message = fmt.Sprintf("host %s was not found fit: %s%s", j.Host, bad[0].Detail, more(len(bad)-1))
		if bad[0].Hint != "" {
			a.Hint = bad[0].Hint
		}
		if len(bad) > 1 {
			a.Hint += "; borgfleet host show " + j.Host + " has the others"
		}
	}
	return a
}

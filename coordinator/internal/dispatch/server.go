package dispatch

import (
	"net"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
	"github.com/borgfleet/borgfleet/shared/job"
)

// server names the machine that does the work for a repository when a host uses it:
// its location's, the depot, or the host itself. Empty: there is no repository.
func server(repository fleet.Repository, host string) string {
	if repository.InDepot() {
		return job.DepotLocation
	}
	rest, remote := strings.CutPrefix(repository.Location, "ssh://")
	switch {
	case remote:
	case repository.Location == "":
		return ""
	default:
		return host
	}
	authority, _, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		authority = authority[at+1:]
	}
	if name, _, err := net.SplitHostPort(authority); err == nil {
		authority = name
	}
	return strings.ToLower(strings.Trim(authority, "[]"))
}

// windowOf is the window of a job, which was understood when the job was taken.
func windowOf(j job.Job) schedule.Window {
	if j.Window == nil {
		return schedule.Window{}
	}
	window, err := schedule.ParseWindow(j.Window.Hours, j.Window.Timezone)
	if err != nil {
		return schedule.Window{} // a zone that there is no more: better at any hour than never
	}
	return window
}

// group names whose job it is: its plan's, or that of who asked for it.
func group(j job.Job) string {
	if j.Plan != "" {
		return "plan " + j.Plan
	}
	return j.SubmittedBy
}

package cli

import (
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// mostAttention is how many things are named that need a person; whoever has more
// of them looks at the list of alerts.
const mostAttention = 25

// mostJobs is how many jobs are named that wait or run.
const mostJobs = 50

type statusCommand struct{}

// Run runs the command.
func (statusCommand) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	status, err := api.Status(s.ctx)
	if err != nil {
		return err
	}
	return s.show(status, func() { s.printStatus(status) })
}

func (s *session) printStatus(status fleet.Status) {
	s.printf("%s\n%d of %s online, %d running, %d waiting\n", status.Summary,
		status.HostsOnline, human.Plural(status.HostsTotal, "host"), len(status.Running), len(status.Queued))
	if len(status.Attention) > 0 {
		s.printf("\nNeeds attention\n")
		for _, a := range status.Attention[:min(len(status.Attention), mostAttention)] {
			s.printf("  %s: %s\n", strings.ReplaceAll(a.Kind, "_", " "), console.Printable(a.Message))
			if a.Hint != "" {
				s.printf("    hint: %s\n", console.Printable(a.Hint))
			}
			if a.Job != "" {
				s.printf("    job: %s\n", a.Job)
			}
		}
		s.printMore(len(status.Attention)-mostAttention, "borgfleet alert list")
	}
	if len(status.KeysNotExported) > 0 {
		s.printf("\nKeys never exported (borgfleet repo key-export --help): %s\n", strings.Join(status.KeysNotExported, ", "))
	}
	for _, part := range []struct {
		title string
		jobs  []job.Job
	}{{"Running", status.Running}, {"Waiting", status.Queued}, {"Recent", status.Recent}} {
		if len(part.jobs) > 0 {
			s.printf("\n%s\n", part.title)
			s.printJobs(part.jobs[:min(len(part.jobs), mostJobs)], status.At)
			s.printMore(len(part.jobs)-mostJobs, "borgfleet job list")
		}
	}
	if len(status.Hosts) > 0 {
		s.printf("\nHosts\n")
		s.printHosts(status.Hosts, status.At)
	}
}

// printMore says that a list goes on, and where all of it is shown.
func (s *session) printMore(n int, command string) {
	if n > 0 {
		s.printf("  and %s more: %s\n", human.Count(n), command)
	}
}

func (s *session) printJobs(jobs []job.Job, now time.Time) {
	t := newTable(s.Out, "JOB", "STATE", "KIND", "HOST", "REPOSITORY", "SUBMITTED", "RAN", "REMARK")
	for _, j := range jobs {
		ran := human.None
		if j.StartedAt != nil {
			ran = human.Duration(j.Duration(now))
		}
		t.row(string(j.ID), string(j.State), string(j.Kind), about(j), orNone(j.Repository), human.Ago(j.SubmittedAt, now), ran, remark(j))
	}
	t.end()
}

// remark is the one thing worth saying of a job in a list.
func remark(j job.Job) string {
	if spec, ok := j.Spec.(job.MountSpec); ok && j.Mounted() {
		return "mounted at " + spec.MountPoint
	}
	if j.State == job.Running && j.Progress != nil {
		return progressText(*j.Progress)
	}
	return human.Remark(j)
}

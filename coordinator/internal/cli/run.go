package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Between two looks at a run that is watched.
const (
	firstLook = 100 * time.Millisecond
	maxLook   = 2 * time.Second
)

type planRun struct {
	onePlan
	Host           []string `help:"Only this of its hosts; may be repeated." placeholder:"HOST"`
	IdempotencyKey string   `help:"The same key begins only one run, however often it is tried." placeholder:"KEY"`
	Watch          bool     `help:"Follow the run; exit with its outcome." short:"w"`
}

// Run runs the command.
func (c planRun) Run(s *session) error {
	return s.startPlan(c.Name, fleet.RunRequest{Hosts: c.Host, IdempotencyKey: c.IdempotencyKey}, c.Watch)
}

// startPlan runs a plan, and watches the run if that is wanted.
func (s *session) startPlan(name string, asked fleet.RunRequest, watch bool) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	start, err := api.RunPlan(s.ctx, name, asked)
	if err != nil {
		return err
	}
	if watch {
		return s.watchRun(api, start.Run)
	}
	return s.show(start, func() {
		s.printf("%s run of %s: %s\n", start.Run.ID, console.Printable(start.Run.Plan), start.Run.State)
		for _, j := range start.Jobs {
			s.printSubmitted(j)
		}
	})
}

// watchRun follows a run to its end, and returns its outcome as an exit code.
func (s *session) watchRun(api *client.Client, run fleet.Run) error {
	say := func(format string, args ...any) {
		if !s.globals.JSON {
			fmt.Fprintf(s.Err, format, args...)
		}
	}
	say("run %s of %s\n", run.ID, console.Printable(run.Plan))
	told := map[int]string{}
	wait := time.NewTimer(0)
	defer wait.Stop()
	for gap, lost := firstLook, false; ; gap = min(2*gap, maxLook) {
		for i, task := range run.Tasks {
			if text := taskText(task); text != told[i] {
				told[i] = text
				say("  %s\n", text)
			}
		}
		if run.State != fleet.RunRunning {
			return s.finishRun(run)
		}
		wait.Reset(gap)
		select {
		case <-s.ctx.Done():
			return fmt.Errorf("stopped watching; the run goes on (to end it: borgfleet run cancel %s)", run.ID)
		case <-wait.C:
		}
		next, err := api.Run(s.ctx, run.ID)
		switch _, gone := errors.AsType[*client.UnreachableError](err); {
		case err == nil:
			run, lost = next, false
		case s.ctx.Err() != nil:
		case !gone:
			return err
		case !lost:
			lost = true
			say("connection to the coordinator lost, trying again; the run goes on\n")
		}
	}
}

// finishRun prints how a run ended, and turns it into an exit code.
func (s *session) finishRun(run fleet.Run) error {
	if err := s.show(run, func() { s.printRun(run) }); err != nil {
		return err
	}
	switch run.State {
	case fleet.RunSucceeded:
		return nil
	case fleet.RunWarning:
		return console.Exit{Code: console.ExitWarning}
	default:
		return console.Exit{Code: console.ExitJobFailed}
	}
}

// taskText is a task of a run in one line.
func taskText(task fleet.Task) string {
	what := string(task.Kind) + " of " + task.Host + " in " + task.Repository
	if task.Kind == job.Backup {
		what = "backup of " + task.Host + " into " + task.Repository
	}
	if task.Dump != "" {
		what += " (" + task.Dump + ")"
	}
	state := string(task.State)
	if task.State == fleet.RunRunning && task.Job == "" {
		state = "waiting"
	}
	return console.Printable(what + ": " + state + because(task.Reason))
}

func (s *session) printRun(run fleet.Run) {
	now := time.Now()
	s.printf("run of %s: %s", console.Printable(run.Plan), run.State)
	if run.FinishedAt != nil {
		s.printf(" after %s", human.Duration(run.Duration(now)))
	}
	s.printf("\n")
	t := newFacts(s.Out)
	t.row("run", run.ID)
	t.row("began", human.Ago(run.StartedAt, now)+", "+triggerText(run))
	t.end()
	tasks := newTable(s.Out, "JOB", "STATE", "KIND", "HOST", "REPOSITORY", "REMARK")
	for _, task := range run.Tasks {
		state := string(task.State)
		if task.State == fleet.RunRunning && task.Job == "" {
			state = "waiting"
		}
		remark := task.Reason
		if task.Dump != "" {
			remark = strings.Trim(task.Dump+", "+remark, ", ")
		}
		tasks.row(orNone(string(task.Job)), state, string(task.Kind), task.Host, task.Repository, remark)
	}
	tasks.end()
}

func triggerText(run fleet.Run) string {
	switch run.Trigger {
	case fleet.TriggerSchedule:
		return "by its schedule"
	case fleet.TriggerCatchUp:
		return "to make up for the one of " + date(run.Due)
	default:
		return "by " + run.By
	}
}

type runCommands struct {
	List   runList   `cmd:"" help:"List runs of plans, newest first."`
	Show   runShow   `cmd:"" help:"Show one run, and its jobs."`
	Watch  runWatch  `cmd:"" help:"Follow a run to its end; exits with its outcome."`
	Cancel runCancel `cmd:"" help:"Cancel a run's jobs, and begin no others."`
}

// runFilter is what commands that list runs take.
type runFilter struct {
	State  fleet.RunState `help:"Only in this state: running, succeeded, warning, failed, cancelled, skipped or missed." enum:",running,succeeded,warning,failed,cancelled,skipped,missed" default:"" placeholder:"STATE"`
	Since  moment         `help:"Only due then or later: 2026-11-22, 2026-11-22T14:00, or 7d (ago)." placeholder:"TIME"`
	Limit  int            `help:"At most this many. Default: ${default}." default:"50" placeholder:"N"`
	Cursor string         `help:"Go on where the list before ended." placeholder:"CURSOR"`
}

func (c runFilter) print(s *session, plan string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	page, err := api.Runs(s.ctx, fleet.RunFilter{Plan: plan, State: c.State, Since: c.Since.Time, Limit: c.Limit, Cursor: c.Cursor})
	if err != nil {
		return err
	}
	return s.show(page, func() {
		if len(page.Runs) == 0 {
			s.printf("No runs.\n")
			return
		}
		now := time.Now()
		t := newTable(s.Out, "RUN", "PLAN", "STATE", "DUE", "TOOK", "JOBS", "BEGAN")
		for _, run := range page.Runs {
			t.row(run.ID, run.Plan, string(run.State), date(run.Due), human.Duration(run.Duration(now)), human.Count(jobsOf(run)), triggerText(run))
		}
		t.end()
		if page.Cursor != "" {
			s.printf("There are more: add --cursor %s\n", page.Cursor)
		}
	})
}

func jobsOf(run fleet.Run) (count int) {
	for _, task := range run.Tasks {
		if task.Job != "" {
			count++
		}
	}
	return count
}

type runList struct {
	Plan string `help:"Only of this plan." placeholder:"PLAN"`
	runFilter
}

// Run runs the command.
func (c runList) Run(s *session) error { return c.print(s, c.Plan) }

type planHistory struct {
	onePlan
	runFilter
}

// Run runs the command.
func (c planHistory) Run(s *session) error { return c.print(s, c.Name) }

// oneRun is what every command about one run takes.
type oneRun struct {
	ID string `arg:"" help:"The run's id."`
}

// read returns the run as do answers it.
func (c oneRun) read(s *session, do func(*client.Client) (fleet.Run, error)) (*client.Client, fleet.Run, error) {
	api, err := s.connect()
	if err != nil {
		return nil, fleet.Run{}, err
	}
	run, err := do(api)
	return api, run, err
}

type runShow struct{ oneRun }

// Run runs the command.
func (c runShow) Run(s *session) error {
	_, run, err := c.read(s, func(api *client.Client) (fleet.Run, error) { return api.Run(s.ctx, c.ID) })
	if err != nil {
		return err
	}
	return s.show(run, func() { s.printRun(run) })
}

type runWatch struct{ oneRun }

// Run runs the command.
func (c runWatch) Run(s *session) error {
	api, run, err := c.read(s, func(api *client.Client) (fleet.Run, error) { return api.Run(s.ctx, c.ID) })
	if err != nil {
		return err
	}
	return s.watchRun(api, run)
}

type runCancel struct{ oneRun }

// Run runs the command.
func (c runCancel) Run(s *session) error {
	_, run, err := c.read(s, func(api *client.Client) (fleet.Run, error) { return api.CancelRun(s.ctx, c.ID) })
	if err != nil {
		return err
	}
	return s.show(run, func() { s.printRun(run) })
}

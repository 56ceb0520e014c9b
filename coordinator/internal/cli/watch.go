package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// plainGap is how often progress is said where there is no terminal.
const plainGap = 10 * time.Second

func (s *session) submitAndWatch(request job.Request) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	submitted, err := api.SubmitJob(s.ctx, request)
	if err != nil {
		return err
	}
	return s.watch(api, submitted.ID)
}

// watch follows a job to its end, and returns its outcome as an exit code.
func (s *session) watch(api *client.Client, id job.ID) error {
	done, err := s.await(api, id)
	if err != nil {
		return err
	}
	return s.finish(done)
}

// await shows a job's life until it is over, and returns it as it then is.
func (s *session) await(api *client.Client, id job.ID) (job.Job, error) {
	return s.awaitThat(api, id, func(job.Job) bool { return false })
}

// awaitThat is await until the job is as wanted, or over.
func (s *session) awaitThat(api *client.Client, id job.ID, wanted func(job.Job) bool) (job.Job, error) {
	v := s.newViewer()
	defer v.stop()
	for event, err := range api.Events(s.ctx, client.EventFilter{Job: id}) {
		if s.ctx.Err() != nil {
			return job.Job{}, stopped(id, v.job)
		}
		if err != nil {
			return job.Job{}, err
		}
		v.show(event)
		if v.job.State.Terminal() || wanted(v.job) {
			return v.job, nil
		}
	}
	return job.Job{}, errors.New("the event stream ended before the job")
}

// stopped says what a job goes on with that is not watched any more, and how to
// end it.
func stopped(id job.ID, last job.Job) error {
	if last.Mounted() {
		return fmt.Errorf("stopped watching; it stays mounted (to end it: %s)", umounting(last))
	}
	return fmt.Errorf("stopped watching; the job goes on (to end it: borgfleet job cancel %s)", id)
}

// finish prints the outcome and turns it into an exit code.
func (s *session) finish(j job.Job) error {
	if err := s.show(j, func() { s.printOutcome(j) }); err != nil {
		return err
	}
	switch j.State {
	case job.Succeeded:
		return nil
	case job.Warning:
		return console.Exit{Code: console.ExitWarning}
	default:
		return console.Exit{Code: console.ExitJobFailed}
	}
}

// withWarnings reports whether a job's outcome, as finish returns it, is a good
// one with warnings.
func withWarnings(outcome error) bool {
	exit, ok := errors.AsType[console.Exit](outcome)
	return ok && exit.Code == console.ExitWarning
}

// viewer shows a job's life on standard error: a moving line on a terminal,
// plain lines elsewhere, nothing with --json.
type viewer struct {
	s        *session
	live     *liveLine // nil without a terminal
	now      func() time.Time
	job      job.Job   // as last heard of
	said     string    // the last plain line about its state
	saidAt   time.Time // of the last plain line
	attempt  int       // that log lines were shown of
	logShown int       // the highest step shown of it
}

func (s *session) newViewer() *viewer {
	v := &viewer{s: s, now: time.Now}
	if _, ok := terminalWidth(s.Err); ok && !s.globals.JSON {
		v.live = newLiveLine(s.Err, func() int { width, _ := terminalWidth(s.Err); return width })
	}
	return v
}

// stop takes the moving line away. It may be called again.
func (v *viewer) stop() {
	if v.live != nil {
		v.live.close()
		v.live = nil
	}
}

// line prints one line, above the moving one if there is one.
func (v *viewer) line(text string) {
	switch {
	case v.s.globals.JSON:
	case v.live != nil:
		v.live.above(text)
	default:
		fmt.Fprintln(v.s.Err, text)
		v.saidAt = v.now()
	}
}

func (v *viewer) show(event client.Event) {
	switch {
	case event.Type == client.EventLost:
		v.line("connection to the coordinator lost, trying again; the job goes on")
	case event.Job != nil:
		v.state(*event.Job)
	case event.Progress != nil:
		v.job.Progress = &event.Progress.Progress
		v.progress(event.Progress.Progress)
	case event.Step != nil:
		v.step(*event.Step)
	}
}

// quiet reports whether the answer is all that is of interest: borg's command
// line and the states on the way to it are not.
func (v *viewer) quiet() bool {
	switch spec := v.job.Spec.(type) {
	case job.ListSpec, job.InfoSpec, job.DiffSpec, job.VerifySpec, job.UmountSpec:
		return true
	case job.DeleteSpec:
		return spec.DryRun
	case job.PruneSpec:
		return spec.DryRun
	default:
		return false
	}
}

func (v *viewer) state(j job.Job) {
	first, known := v.job.ID == "", v.job
	v.job = j
	if j.Progress == nil && j.State == job.Running && j.Attempt == known.Attempt {
		v.job.Progress = known.Progress // what is stored has none
	}
	if j.State.Terminal() {
		return
	}
	if first && !v.quiet() {
		v.line("job " + string(j.ID) + ": " + subject(j))
	}
	if j.Progress != nil {
		v.progress(*j.Progress)
		return
	}
	text := stateText(j)
	if v.live != nil {
		v.live.set(nil, func() string { return text + v.since() }, "")
		return
	}
	worthALine := j.Reason != "" || j.CancelRequested || j.State == job.Running && !v.quiet()
	if text != v.said && worthALine {
		v.said = text
		v.line(text)
	}
}

// since is how long the job runs.
func (v *viewer) since() string {
	if v.job.StartedAt == nil || v.job.State != job.Running {
		return ""
	}
	return " for " + human.Duration(v.now().Sub(*v.job.StartedAt).Truncate(time.Second))
}

// stateText is the state of an open job in words.
func stateText(j job.Job) string {
	text := string(j.State)
	switch {
	case j.CancelRequested:
		return "being cancelled; it is over when borg's process is gone"
	case j.State == job.Queued:
		text = "waiting"
	case j.State == job.Sent:
		text = "sent to " + j.Host
	}
	return console.Printable(text + because(j.Reason))
}

// step shows log lines once, though they may be told again after a gap.
func (v *viewer) step(e job.Event) {
	if e.Attempt != v.attempt {
		v.attempt, v.logShown = e.Attempt, 0
	}
	if e.Type != job.EventLog || e.Seq <= v.logShown {
		return
	}
	v.logShown = e.Seq
	if e.Omitted > 0 {
		v.line("  (" + human.Plural(e.Omitted, "line") + " left out)")
	}
	for _, line := range e.Lines {
		if troubling(line) || !v.quiet() {
			v.line("  " + logText(line))
		}
	}
}

func (v *viewer) progress(p job.Progress) {
	switch {
	case v.job.CancelRequested:
	case v.live != nil && p.NFiles > 0:
		v.live.set(p.Percent, func() string { return progressText(p) }, p.Path)
	case v.live != nil:
		v.live.set(p.Percent, func() string { return progressText(p) }, "")
	case v.now().Sub(v.saidAt) >= plainGap:
		v.line(console.Printable(progressText(p)))
	}
}

// progressText is one line of progress, without the bar.
func progressText(p job.Progress) string {
	text := ""
	add := func(part string) {
		if text != "" {
			text += ", "
		}
		text += part
	}
	if p.Percent != nil {
		add(fmt.Sprintf("%.0f %%", *p.Percent))
	}
	switch {
	case p.NFiles > 0:
		add(human.Plural(p.NFiles, "file"))
		add(human.Bytes(p.OriginalSize))
		add(human.Bytes(p.DeduplicatedSize) + " new")
	case p.Path != "":
		add(p.Path)
	default:
		add(p.Phase)
	}
	if p.Rate != nil {
		add(human.Rate(*p.Rate))
	}
	if p.ETASeconds != nil {
		add(human.Seconds(*p.ETASeconds) + " left")
	}
	return text
}

// follow prints a job's log as it grows, until the job is over.
func (s *session) follow(api *client.Client, id job.ID) error {
	after := 0
	for event, err := range api.Events(s.ctx, client.EventFilter{Job: id}) {
		if s.ctx.Err() != nil {
			return nil // Ctrl-C is how following ends
		}
		if err != nil {
			return err
		}
		news := event.Job != nil || event.Step != nil && event.Step.Type == job.EventLog
		if !news {
			continue
		}
		if after, err = s.printLog(api, id, after); err != nil {
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}
		if event.Job != nil && event.Job.State.Terminal() {
			return nil
		}
	}
	return errors.New("the event stream ended before the job")
}

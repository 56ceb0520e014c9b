package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// plainGap is how often progress is said where there is no terminal.
const plainGap = 5 * time.Second

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
	v := s.newViewer()
	for event, err := range api.Events(s.ctx, client.EventFilter{Job: id}) {
		if errors.Is(err, context.Canceled) {
			v.stop()
			return codeError{ExitFailed, fmt.Sprintf("stopped watching; the job goes on (borgfleet job watch %s, borgfleet job cancel %s)", id, id)}
		}
		if err != nil {
			v.stop()
			return err
		}
		v.show(event)
		if event.Job != nil && event.Job.State.Terminal() {
			v.stop()
			return s.finish(*event.Job)
		}
	}
	return errors.New("the event stream ended before the job")
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
		return codeError{code: ExitWarning}
	default:
		return codeError{code: ExitJobFailed}
	}
}

// viewer shows a job's life: a bar on a terminal, plain lines elsewhere, and
// nothing but the end with --json.
type viewer struct {
	s        *session
	bar      *progressbar.ProgressBar // nil without a terminal
	said     string                   // last state and reason that were said
	saidAt   time.Time                // of the last plain progress line
	logShown int                      // highest step shown of the present attempt
	attempt  int
}

func (s *session) newViewer() *viewer {
	v := &viewer{s: s}
	if file, ok := s.Err.(*os.File); ok && !s.globals.JSON && term.IsTerminal(int(file.Fd())) {
		v.bar = progressbar.NewOptions(-1,
			progressbar.OptionSetWriter(file), progressbar.OptionFullWidth(), progressbar.OptionThrottle(50*time.Millisecond),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionClearOnFinish(),
			progressbar.OptionSpinnerType(14), progressbar.OptionSetTheme(progressbar.ThemeASCII))
	}
	return v
}

func (v *viewer) stop() {
	if v.bar != nil {
		_ = v.bar.Clear()
	}
}

// line prints one line, above the bar if there is one.
func (v *viewer) line(format string, args ...any) {
	if v.s.globals.JSON {
		return
	}
	v.stop()
	fmt.Fprintf(v.s.Err, format+"\n", args...)
}

func (v *viewer) show(event client.Event) {
	switch {
	case event.Type == client.EventLost:
		v.line("connection to the coordinator lost, trying again; the job goes on")
	case event.Job != nil:
		v.state(*event.Job)
		if event.Job.Progress != nil {
			v.progress(*event.Job.Progress)
		}
	case event.Progress != nil:
		v.progress(event.Progress.Progress)
	case event.Step != nil:
		v.step(*event.Step)
	}
}

func (v *viewer) state(j job.Job) {
	text := fmt.Sprintf("%s: %s%s", j.Title(), j.State, because(j.Reason))
	if text == v.said || j.State.Terminal() {
		return
	}
	v.said = text
	v.line("%s", text)
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
		v.line("  (%s left out)", human.Plural(e.Omitted, "line"))
	}
	for _, line := range e.Lines {
		v.line("  %s", logText(line))
	}
}

func (v *viewer) progress(p job.Progress) {
	if v.bar == nil {
		if now := time.Now(); now.Sub(v.saidAt) >= plainGap {
			v.saidAt = now
			v.line("%s", progressText(p))
		}
		return
	}
	v.bar.Describe(progressText(p))
	if p.Percent == nil {
		_ = v.bar.Add(1)
		return
	}
	if v.bar.GetMax() != 100 {
		v.bar.ChangeMax(100)
	}
	_ = v.bar.Set(int(*p.Percent))
}

// progressText is one line of progress, without the bar.
func progressText(p job.Progress) string {
	text := p.Phase
	if p.Percent != nil {
		text += fmt.Sprintf(" %.0f %%", *p.Percent)
	}
	if p.NFiles > 0 {
		text += fmt.Sprintf(", %s files, %s, %s new", human.Count(p.NFiles), human.Bytes(p.OriginalSize), human.Bytes(p.DeduplicatedSize))
	}
	if p.Rate != nil {
		text += ", " + human.Rate(*p.Rate)
	}
	if p.ETASeconds != nil {
		text += ", " + human.Seconds(float64(*p.ETASeconds)) + " left"
	}
	return text
}

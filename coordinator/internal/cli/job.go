package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

type jobCommands struct {
	Submit jobSubmit `cmd:"" help:"Submit a job: JSON as on the bus, or flags."`
	List   jobList   `cmd:"" help:"List jobs, newest first."`
	Show   jobShow   `cmd:"" help:"Show one job."`
	Watch  jobWatch  `cmd:"" help:"Follow a job to its end; exits with its outcome."`
	Log    jobLog    `cmd:"" help:"Print a job's log."`
	Cancel jobCancel `cmd:"" help:"End a job. It is cancelled once its process is gone."`
	Retry  jobRetry  `cmd:"" help:"Submit a finished job's request again, as a new job."`
}

type jobSubmit struct {
	Request        string   `arg:"" optional:"" help:"The request as JSON, or - for standard input."`
	Host           string   `help:"The host that runs it." placeholder:"HOST"`
	Kind           job.Kind `help:"What to do: init, backup, list, info, prune, compact or check." placeholder:"KIND"`
	Repository     string   `help:"The repository." placeholder:"REPOSITORY"`
	Spec           string   `help:"What exactly, as JSON." placeholder:"JSON"`
	IdempotencyKey string   `help:"The same key submits only one job, however often it is tried." placeholder:"KEY"`
	Priority       int      `help:"Higher goes first; -100 to 100." placeholder:"N"`
	MaxAttempts    int      `help:"How often it is tried in all. Default: by its kind." placeholder:"N"`
	Watch          bool     `help:"Follow the job; exit with its outcome." short:"w"`
}

func (c jobSubmit) Run(s *session) error {
	request, err := c.request(s)
	if err != nil {
		return err
	}
	if c.Watch {
		return s.submitAndWatch(request)
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	submitted, err := api.SubmitJob(s.ctx, request)
	if err != nil {
		return err
	}
	return s.show(submitted, func() {
		s.printf("%s %s%s\n", submitted.ID, submitted.State, because(submitted.Reason))
	})
}

func (c jobSubmit) request(s *session) (job.Request, error) {
	flags := job.Request{
		Host: c.Host, Kind: c.Kind, Repository: c.Repository, Spec: json.RawMessage(c.Spec),
		IdempotencyKey: c.IdempotencyKey, Priority: c.Priority, MaxAttempts: c.MaxAttempts,
	}
	if c.Request == "" {
		if c.Kind == "" {
			return flags, codeError{ExitUsage, `nothing to submit (give the request as JSON, or --host, --kind and --repository)`}
		}
		if c.Spec != "" && !json.Valid([]byte(c.Spec)) {
			return flags, codeError{ExitUsage, "--spec is not valid JSON"}
		}
		return flags, nil
	}
	if c.Host != "" || c.Kind != "" || c.Repository != "" || c.Spec != "" {
		return flags, codeError{ExitUsage, "give the request as JSON or as flags, not both"}
	}
	text := []byte(c.Request)
	if c.Request == "-" {
		var err error
		if text, err = io.ReadAll(io.LimitReader(s.In, 2*job.MaxSpecBytes)); err != nil {
			return flags, fmt.Errorf("read request: %w", err)
		}
	}
	request := job.Request{IdempotencyKey: c.IdempotencyKey, Priority: c.Priority, MaxAttempts: c.MaxAttempts}
	return request, job.DecodeStrict(text, &request)
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

type jobList struct {
	Host       string        `help:"Only this host's." placeholder:"HOST"`
	Repository string        `help:"Only on this repository." placeholder:"REPOSITORY"`
	State      job.State     `help:"Only in this state." placeholder:"STATE"`
	Kind       job.Kind      `help:"Only of this kind." placeholder:"KIND"`
	Since      time.Duration `help:"Only submitted within this time, for example 24h." placeholder:"TIME"`
	Limit      int           `help:"At most this many." default:"50"`
	Cursor     string        `help:"Go on where a list with --json ended." placeholder:"CURSOR"`
}

func (c jobList) Run(s *session) error {
	filter := job.Filter{Host: c.Host, Repository: c.Repository, State: c.State, Kind: c.Kind, Limit: c.Limit, Cursor: c.Cursor}
	if c.Since > 0 {
		filter.Since = time.Now().Add(-c.Since)
	}
	if err := filter.Validate(); err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	page, err := api.Jobs(s.ctx, filter)
	if err != nil {
		return err
	}
	return s.show(page, func() {
		if len(page.Jobs) == 0 {
			s.printf("No jobs.\n")
			return
		}
		s.printJobs(page.Jobs, time.Now())
		if page.Cursor != "" {
			s.printf("There are more: --cursor %s\n", page.Cursor)
		}
	})
}

// oneJob is what every command about one job takes.
type oneJob struct {
	ID string `arg:"" help:"The job's id."`
}

func (c oneJob) id() (job.ID, error) { return job.ParseID(c.ID) }

type jobShow struct{ oneJob }

func (c jobShow) Run(s *session) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	found, err := api.Job(s.ctx, id)
	if err != nil {
		return err
	}
	return s.show(found, func() { s.printJob(found) })
}

func (s *session) printJob(j job.Job) {
	now := time.Now()
	s.printf("%s into %s: %s%s\n", j.Title(), j.Repository, j.State, because(j.Reason))
	t := newTable(s.Out)
	t.row("job", string(j.ID))
	t.row("submitted", human.Ago(j.SubmittedAt, now)+" by "+j.SubmittedBy)
	if spec, err := json.Marshal(j.Spec); err == nil {
		t.row("spec", string(spec))
	}
	for _, a := range j.Attempts {
		text := string(a.State)
		if a.Failure != nil {
			text += ": " + a.Failure.Message
		}
		t.row(fmt.Sprintf("attempt %d of %d", a.Number, j.MaxAttempts), text)
	}
	t.end()
	if j.Progress != nil {
		s.printf("%s\n", progressText(*j.Progress))
	}
	s.printOutcome(j)
}

type jobWatch struct{ oneJob }

func (c jobWatch) Run(s *session) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	return s.watch(api, id)
}

type jobLog struct{ oneJob }

func (c jobLog) Run(s *session) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(s.Out)
	for after := 0; ; {
		log, err := api.Log(s.ctx, id, after)
		if err != nil {
			return err
		}
		for _, entry := range log.Lines {
			if s.globals.JSON {
				if err := encoder.Encode(entry); err != nil {
					return err
				}
				continue
			}
			s.printf("%s\n", logText(entry.LogLine))
		}
		if len(log.Lines) == 0 || log.Next == after {
			return nil
		}
		after = log.Next
	}
}

func logText(line job.LogLine) string {
	text := line.At.Local().Format("15:04:05.000") + " "
	if line.Level == job.LevelWarning || line.Level == job.LevelError {
		text += string(line.Level) + ": "
	}
	return text + line.Text
}

type jobCancel struct{ oneJob }

func (c jobCancel) Run(s *session) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	changed, err := api.Cancel(s.ctx, id)
	if err != nil {
		return err
	}
	return s.show(changed, func() {
		if changed.State == job.Cancelled {
			s.printf("%s is cancelled.\n", changed.Title())
			return
		}
		s.printf("%s is being cancelled; it is %s until its process is gone.\n", changed.Title(), changed.State)
	})
}

type jobRetry struct {
	oneJob
	Watch bool `help:"Follow the new job; exit with its outcome." short:"w"`
}

func (c jobRetry) Run(s *session) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	submitted, err := api.Retry(s.ctx, id)
	if err != nil {
		return err
	}
	if c.Watch {
		return s.watch(api, submitted.ID)
	}
	return s.show(submitted, func() { s.printf("%s %s%s\n", submitted.ID, submitted.State, because(submitted.Reason)) })
}

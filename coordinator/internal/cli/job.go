package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type jobCommands struct {
	List   jobList   `cmd:"" help:"List jobs, newest first."`
	Show   jobShow   `cmd:"" help:"Show one job."`
	Watch  jobWatch  `cmd:"" help:"Follow a job to its end; exits with its outcome."`
	Log    jobLog    `cmd:"" help:"Print a job's log; with -f as it grows."`
	Cancel jobCancel `cmd:"" help:"End a job. It is cancelled once its process is gone."`
	Retry  jobRetry  `cmd:"" help:"Submit a finished job's request again, as a new job."`
	Submit jobSubmit `cmd:"" help:"Submit any job: JSON as on the bus, or flags."`
}

type jobSubmit struct {
	Request        string   `arg:"" optional:"" help:"The request as JSON, or - for standard input."`
	Host           string   `help:"The host that runs it." placeholder:"HOST"`
	Kind           job.Kind `help:"What to do, one of ${kinds}." placeholder:"KIND"`
	Repo           string   `help:"The repository." placeholder:"REPOSITORY" aliases:"repository"`
	Spec           string   `help:"What exactly, as JSON." placeholder:"JSON"`
	IdempotencyKey string   `help:"The same key submits only one job, however often it is tried." placeholder:"KEY"`
	Priority       int      `help:"Higher goes first; -100 to 100." placeholder:"N"`
	MaxAttempts    int      `help:"How often it is tried in all. Default: by its kind." placeholder:"N"`
	Watch          bool     `help:"Follow the job; exit with its outcome." short:"w"`
	deadlines
}

// Help is the end of the command's help.
func (jobSubmit) Help() string {
	return `Examples:

    borgfleet job submit --watch --host web1 --kind check --repo main
    borgfleet job submit '{"host":"web1","kind":"backup","repository":"main","spec":{"paths":["/etc"]}}'`
}

// Run runs the command.
func (c jobSubmit) Run(s *session) error {
	request, err := c.request(s)
	if err != nil {
		return err
	}
	if asked, ok := fleet.RunsPlan(request); ok {
		return s.startPlan(request.Plan, asked, c.Watch)
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
		s.printSubmitted(submitted)
	})
}

func (c jobSubmit) request(s *session) (job.Request, error) {
	flags := job.Request{
		Host: c.Host, Kind: c.Kind, Repository: c.Repo, Spec: json.RawMessage(c.Spec),
		IdempotencyKey: c.IdempotencyKey, Priority: c.Priority, MaxAttempts: c.MaxAttempts,
	}
	if err := c.deadlines.set(&flags); err != nil {
		return flags, err
	}
	if c.Request == "" {
		if c.Kind == "" {
			return flags, console.Usage(`nothing to submit (give the request as JSON, or --host, --kind and --repository)`)
		}
		if c.Spec != "" && !json.Valid([]byte(c.Spec)) {
			return flags, console.Usage("--spec is not valid JSON")
		}
		return flags, nil
	}
	if c.Host != "" || c.Kind != "" || c.Repo != "" || c.Spec != "" {
		return flags, console.Usage("give the request as JSON or as flags, not both")
	}
	request := flags // what the JSON does not say
	text := []byte(c.Request)
	if c.Request == "-" {
		var err error
		if text, err = io.ReadAll(io.LimitReader(s.In, 2*job.MaxSpecBytes)); err != nil {
			return flags, fmt.Errorf("read request: %w", err)
		}
	}
	err := job.DecodeStrict(text, &request)
	if failure, ok := errors.AsType[*job.Failure](err); ok && failure.Hint == "" {
		err = failure.WithHint("borgfleet job submit --help has an example")
	}
	return request, err
}

// printSubmitted says the id first, for scripts that cut it off.
func (s *session) printSubmitted(j job.Job) {
	s.printf("%s %s: %s\n", j.ID, subject(j), stateText(j))
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

type jobList struct {
	Plan   string        `help:"Only of this plan." placeholder:"PLAN"`
	Host   string        `help:"Only this host's." placeholder:"HOST"`
	Repo   string        `help:"Only on this repository." placeholder:"REPOSITORY" aliases:"repository"`
	State  job.State     `help:"Only in this state: queued, sent, running, succeeded, warning, failed, cancelled or expired." placeholder:"STATE"`
	Kind   job.Kind      `help:"Only of this kind, one of ${kinds}." placeholder:"KIND"`
	Since  time.Duration `help:"Only submitted within this time, for example 24h." placeholder:"TIME"`
	Limit  int           `help:"At most this many. Default: ${default}." default:"50" placeholder:"N"`
	Cursor string        `help:"Go on where the list before ended." placeholder:"CURSOR"`
}

// Run runs the command.
func (c jobList) Run(s *session) error {
	filter := job.Filter{Plan: c.Plan, Host: c.Host, Repository: c.Repo, State: c.State, Kind: c.Kind, Limit: c.Limit, Cursor: c.Cursor}
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
			s.printf("There are more: add --cursor %s\n", page.Cursor)
		}
	})
}

// oneJob is what every command about one job takes.
type oneJob struct {
	ID string `arg:"" help:"The job's id."`
}

// open checks the id and connects.
func (c oneJob) open(s *session) (*client.Client, job.ID, error) {
	id, err := job.ParseID(c.ID)
	if err != nil {
		return nil, "", err
	}
	api, err := s.connect()
	return api, id, err
}

type jobShow struct{ oneJob }

// Run runs the command.
func (c jobShow) Run(s *session) error {
	api, id, err := c.open(s)
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
	if j.State.Terminal() {
		s.printOutcome(j)
	} else {
		s.printf("%s: %s\n", subject(j), stateText(j))
	}
	if j.Progress != nil {
		s.printf("  %s\n", console.Printable(progressText(*j.Progress)))
	}
	t := newFacts(s.Out)
	t.row("job", string(j.ID))
	t.row("submitted", human.Ago(j.SubmittedAt, now)+" by "+j.SubmittedBy)
	if j.Plan != "" {
		t.row("plan", j.Plan)
	}
	if j.Run != "" {
		t.row("run", j.Run)
	}
	if spec, err := json.Marshal(j.Spec); err == nil {
		t.row("spec", string(spec))
	}
	t.deadlines(j, now)
	for _, a := range j.Attempts {
		text := string(a.State)
		if a.Failure != nil {
			text += ": " + a.Failure.Message
		}
		if a.StartedAt != nil {
			text += ", started " + human.Ago(*a.StartedAt, now)
		}
		t.row(fmt.Sprintf("attempt %d of %d", a.Number, j.MaxAttempts), text)
	}
	t.end()
}

type jobWatch struct{ oneJob }

// Run runs the command.
func (c jobWatch) Run(s *session) error {
	api, id, err := c.open(s)
	if err != nil {
		return err
	}
	return s.watch(api, id)
}

type jobLog struct {
	oneJob
	Follow bool `help:"Go on until the job is over." short:"f"`
}

// Run runs the command.
func (c jobLog) Run(s *session) error {
	api, id, err := c.open(s)
	if err != nil {
		return err
	}
	if c.Follow {
		return s.follow(api, id)
	}
	_, err = s.printLog(api, id, 0)
	return err
}

// printLog prints the log from a place to its present end, and returns where that is.
func (s *session) printLog(api *client.Client, id job.ID, after int) (int, error) {
	encoder := json.NewEncoder(s.Out)
	for {
		log, err := api.Log(s.ctx, id, after)
		if err != nil {
			return after, err
		}
		for _, entry := range log.Lines {
			if s.globals.JSON {
				if err := encoder.Encode(entry); err != nil {
					return after, err
				}
				continue
			}
			s.printf("%s\n", logText(entry.LogLine))
		}
		if len(log.Lines) == 0 || log.Next == after {
			return after, nil
		}
		after = log.Next
	}
}

// troubling reports whether a line is a warning or an error.
func troubling(line job.LogLine) bool {
	return line.Level == job.LevelWarning || line.Level == job.LevelError
}

func logText(line job.LogLine) string {
	text := line.At.Local().Format("15:04:05.000") + " "
	if troubling(line) {
		text += string(line.Level) + ": "
	}
	return text + console.Printable(line.Text)
}

type jobCancel struct{ oneJob }

// Run runs the command.
func (c jobCancel) Run(s *session) error {
	api, id, err := c.open(s)
	if err != nil {
		return err
	}
	changed, err := api.Cancel(s.ctx, id)
	if err != nil {
		return err
	}
	return s.show(changed, func() {
		if changed.State == job.Cancelled {
			s.printf("%s: cancelled\n", subject(changed))
			return
		}
		s.printf("%s: %s\n", subject(changed), stateText(changed))
	})
}

type jobRetry struct {
	oneJob
	Watch bool `help:"Follow the new job; exit with its outcome." short:"w"`
}

// Run runs the command.
func (c jobRetry) Run(s *session) error {
	api, id, err := c.open(s)
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
	return s.show(submitted, func() { s.printSubmitted(submitted) })
}

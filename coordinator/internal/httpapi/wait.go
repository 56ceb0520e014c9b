package httpapi

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/shared/job"
)

// rereadEvery is how long a call that waits for a job relies on the feed alone.
const rereadEvery = time.Second

// Why a call does not wait any longer.
var (
	errDraining = errors.New("the server is shut down")
	errLate     = errors.New("the caller does not want to wait any longer")
)

// await returns the job as it is once until says so: at once, or when the feed
// tells of a change. It gives up, with the job as it was last, when ctx ends or
// the server is shut down; the job does not mind.
func (a *API) await(ctx context.Context, id job.ID, until func(job.Job) bool) (job.Job, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer onDrain(ctx, func() { cancel(errDraining) })()
	watcher := a.options.Feed.Watch() // before the job is read, so that no change falls in between
	defer watcher.Close()
	for {
		found, err := a.options.Jobs.Job(ctx, id)
		if err != nil || until(found) {
			return found, err
		}
		rest(ctx, watcher, id)
		switch {
		case errors.Is(context.Cause(ctx), errDraining):
			return found, job.Fail(job.Unavailable, "the coordinator is shutting down; job %s goes on", id).
				WithHint("GET %s/jobs/%s shows what became of it", Prefix, id)
		case ctx.Err() != nil:
			return found, context.Cause(ctx)
		}
	}
}

// rest returns when it is worth reading the job again, or ctx has ended.
func rest(ctx context.Context, watcher *feed.Watcher, id job.ID) {
	ctx, cancel := context.WithTimeout(ctx, rereadEvery)
	defer cancel()
	for {
		batch, err := watcher.Next(ctx)
		if err != nil {
			return
		}
		for _, update := range batch {
			if update.Type == feed.Missed || update.Job != nil && update.Job.ID == id {
				return
			}
		}
	}
}

// Preference says how long a caller wants to wait (RFC 7240). It is exported
// because huma passes over embedded types that are not.
type Preference struct {
	Prefer string `header:"Prefer" maxLength:"200" example:"respond-async" doc:"respond-async: answer 202 with the job at once; wait=5: answer 202 when it is not over after 5 seconds (RFC 7240)"`

	all []string
}

// Resolve implements huma.Resolver: the header may be there more than once.
func (p *Preference) Resolve(ctx huma.Context) []error {
	ctx.EachHeader(func(name, value string) {
		if strings.EqualFold(name, "Prefer") {
			p.all = append(p.all, value)
		}
	})
	return nil
}

// patience is a [Preference] as it is understood.
type patience struct {
	async   bool          // do not wait, but for limit
	bounded bool          // wait at most for limit
	limit   time.Duration // 0: not at all
}

// maxPatience keeps a duration from overflowing.
const maxPatience = 24 * time.Hour

// patience reads what it knows and passes over the rest, as preferences are to
// be. Of one that is there twice the first counts.
func (p Preference) patience() patience {
	var wish patience
	for _, part := range strings.Split(strings.Join(p.all, ","), ",") {
		token, _, _ := strings.Cut(part, ";")
		name, value, _ := strings.Cut(token, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "respond-async":
			wish.async = true
		case "wait":
			seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
			if err == nil && !wish.bounded {
				wish.bounded, wish.limit = true, min(time.Duration(seconds)*time.Second, maxPatience)
			}
		}
	}
	return wish
}

// applied is what an answer before the job's end says of the preference.
func (p patience) applied() string {
	var parts []string
	if p.async {
		parts = append(parts, "respond-async")
	}
	if p.bounded {
		parts = append(parts, "wait="+strconv.Itoa(int(p.limit/time.Second)))
	}
	return strings.Join(parts, ", ")
}

// waitedOutput answers a call that waits for its job: what the job brought, or,
// with the status 202, the job.
type waitedOutput struct {
	Status   int
	Job      string `header:"Borgfleet-Job" doc:"the job's id"`
	Location string `header:"Location" doc:"with 202: where the job is"`
	Applied  string `header:"Preference-Applied" doc:"with 202: the preference that was followed"`
	Body     any
}

// waiting is what a call waits for, and what it then answers.
type waiting struct {
	until func(job.Job) bool         // nil: the job's end
	body  func(job.Job) (any, error) // of a job that has not failed

	settled <-chan struct{} // closed when what follows from the job's end is done; nil: nothing does
}

// answer waits for a job as the caller prefers. A failed job is a problem that
// names it. When the caller goes away, the job goes on.
func (a *API) answer(ctx context.Context, j job.Job, prefer Preference, w waiting) (*waitedOutput, error) {
	wish := prefer.patience()
	if wish.async && wish.limit == 0 {
		return accepted(j, wish), nil
	}
	waited := ctx
	if wish.bounded {
		bounded, cancel := context.WithTimeoutCause(ctx, wish.limit, errLate)
		defer cancel()
		waited = bounded
	}
	until := w.until
	if until == nil {
		until = isOver
	}
	var body any
	done, err := a.await(waited, j.ID, until)
	if errors.Is(err, errLate) || err != nil && errors.Is(context.Cause(waited), errLate) && ctx.Err() == nil {
		return accepted(j, wish), nil
	}
	if err == nil {
		body, err = w.of(ctx, done)
	}
	if err != nil {
		problem := a.problem(ctx, err)
		problem.Job = j.ID
		return nil, problem
	}
	return &waitedOutput{Status: http.StatusOK, Job: string(j.ID), Body: body}, nil
}

// of returns the answer about a job that is where the call has waited for.
func (w waiting) of(ctx context.Context, j job.Job) (any, error) {
	if w.settled != nil {
		select {
		case <-w.settled:
		case <-ctx.Done():
		}
	}
	if err := failureOf(j); err != nil {
		return nil, err
	}
	return w.body(j)
}

func accepted(j job.Job, wish patience) *waitedOutput {
	return &waitedOutput{
		Status: http.StatusAccepted, Job: string(j.ID), Location: Prefix + "/jobs/" + string(j.ID),
		Applied: wish.applied(), Body: completeJob(j),
	}
}

func isOver(j job.Job) bool { return j.State.Terminal() }

// failureOf returns why a job failed; nil if it did not, or is not over.
func failureOf(j job.Job) error {
	switch {
	case !j.State.Terminal() || j.State == job.Succeeded || j.State == job.Warning:
		return nil
	case j.Failure != nil:
		return j.Failure
	case j.State == job.Cancelled:
		return job.Fail(job.CodeCancelled, "the job was cancelled").WithHint("GET %s/audit says by whom", Prefix)
	case j.State == job.Expired:
		return job.Fail(job.Timeout, "the job expired before its host accepted it").WithHint("see whether the host is there, and try again")
	default:
		return job.Fail(job.Internal, "the job ended as %s", j.State).WithHint("GET %s/jobs/%s/log shows its log", Prefix, j.ID)
	}
}

// waits adds to an operation that it may answer 202 with the job, and what its
// answer consists of: huma cannot read that from a body that is either.
func (o operation) waits(a *API) huma.Operation {
	op := o.huma(a)
	answer := op.Responses[strconv.Itoa(o.status)].Content["application/json"]
	answer.Schema = a.registry().Schema(reflect.TypeOf(o.answer), true, o.id)
	answer.Schema.Nullable = false
	queued := exampleJob()
	queued.State, queued.Attempt, queued.StartedAt, queued.Progress, queued.Attempts = job.Queued, 0, nil, nil, []job.Attempt{}
	op.Responses[strconv.Itoa(http.StatusAccepted)] = &huma.Response{
		Description: http.StatusText(http.StatusAccepted) + ": the job is not over, and goes on",
		Content: map[string]*huma.MediaType{"application/json": {
			Schema: a.registry().Schema(reflect.TypeFor[job.Job](), true, "Job"), Example: queued,
		}},
	}
	return op
}

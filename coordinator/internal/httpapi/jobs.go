package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

type submitInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" doc:"the same as idempotency_key in the body"`
	Body           SubmitJob
}

// SubmitJob is a submission: what [job.Request] is on the bus.
type SubmitJob struct {
	Host           string   `json:"host,omitempty" maxLength:"200" doc:"which host does it"`
	Kind           kindName `json:"kind,omitempty" doc:"what is to be done"`
	Repository     string   `json:"repository,omitempty" maxLength:"200" doc:"on which repository"`
	Spec           specBody `json:"spec,omitempty" doc:"the details; which fields there are follows from the kind"`
	Plan           string   `json:"plan,omitempty" maxLength:"200" doc:"run this plan now; excludes all other fields but idempotency_key"`
	Timeout        int      `json:"timeout,omitempty" minimum:"0" doc:"seconds that an attempt may run; 0 or left out: the coordinator's limit"`
	ExpiresIn      int      `json:"expires_in,omitempty" minimum:"0" doc:"seconds in which a host must have accepted it, else it expires; 0 or left out: the coordinator's limit"`
	MaxAttempts    int      `json:"max_attempts,omitempty" minimum:"0" maximum:"10" doc:"tries in all; 0 or left out: the kind's own default"`
	Priority       int      `json:"priority,omitempty" minimum:"-100" maximum:"100" doc:"higher goes first"`
	IdempotencyKey string   `json:"idempotency_key,omitempty" maxLength:"200" doc:"the same key gets the same job, so that a request may be repeated"`
}

// JobPath is the part of the path that names a job. It is exported because huma
// passes over embedded types that are not.
type JobPath struct {
	ID string `path:"id" pattern:"^[0-7][0-9A-HJKMNP-TV-Z]{25}$" patternDescription:"a job id of 26 characters, such as 01JD9X7Q2M4T6W8Y0ABCDEFGHJ" example:"01JD9X7Q2M4T6W8Y0ABCDEFGHJ" doc:"the job's id"`
}

type jobOutput struct{ Body job.Job }

type submittedOutput struct {
	Location string `header:"Location" doc:"where the new job is"`
	Body     job.Job
}

type submitOutput struct {
	Location string `header:"Location" doc:"where the new job, or the run, is"`
	Body     any
}

type jobsInput struct {
	PageQuery
	Host       string      `query:"host" maxLength:"200" doc:"only of this host, or done for it by the coordinator"`
	Repository string      `query:"repository" maxLength:"200" doc:"only on this repository"`
	Plan       string      `query:"plan" maxLength:"200" doc:"only of this plan"`
	State      stateFilter `query:"state" doc:"only in this state"`
	Kind       kindFilter  `query:"kind" doc:"only of this kind"`
	Since      time.Time   `query:"since" doc:"only submitted at this time or later (RFC 3339)"`
}

type jobsOutput struct{ Body job.Page }

type logInput struct {
	JobPath
	After int `query:"after" minimum:"0" doc:"0 for the beginning, or next of the answer before"`
}

type logOutput struct{ Body fleet.JobLog }

func unknownJob() job.Failure {
	return job.Failure{Code: job.UnknownJob, Message: "there is no job 01JD9X7Q2M4T6W8Y0ABCDEFGHJ", Hint: "borgfleet job list shows the jobs"}
}

func (a *API) registerJobs() {
	list := operation{
		id: "list-jobs", method: http.MethodGet, path: "/jobs", tag: tagJobs, status: http.StatusOK,
		summary: "List jobs, newest first", answer: job.Page{Jobs: []job.Job{exampleJob()}},
	}
	huma.Register(a.huma, list.huma(a), a.listJobs)
	submit := operation{
		id: "submit-job", method: http.MethodPost, path: "/jobs", tag: tagJobs, status: http.StatusCreated,
		summary: "Submit a job", needs: bus.Operator,
		description: "When this answers, the job is stored and will not be lost. It waits in the queue while its host is away or its repository is busy; reason says why. Some kinds need the role admin: init, delete, key-export, break-lock. With nothing but plan, that plan is run: the answer has the run and the first of its jobs.",
		request: SubmitJob{
			Host: "web1", Kind: kindName(job.Backup), Repository: "web1-main",
			Spec: specBody{RawMessage: json.RawMessage(`{"paths":["/etc","/var/www"],"compression":"zstd,3"}`)},
		},
		answer: exampleJob(),
		failures: []job.Failure{
			unknownHost(), unknownRepository(),
			{Code: job.InvalidSpec, Message: `paths[0]: "etc" is relative`, Hint: "give absolute paths, such as /etc"},
			{Code: job.UnknownKind, Message: `"bakup" is not a job kind`, Hint: "one of init, backup, list, info, prune, compact, check"},
			{Code: job.Conflict, Message: "this idempotency key belongs to another request", Hint: "use a fresh key"},
		},
	}
	op := submit.huma(a)
	op.Responses["201"].Content["application/json"].Schema = either[job.Job, PlanStart](a.registry())
	huma.Register(a.huma, op, a.submitJob)
	get := operation{
		id: "get-job", method: http.MethodGet, path: "/jobs/{id}", tag: tagJobs, status: http.StatusOK,
		summary: "Show a job", answer: exampleJob(), failures: []job.Failure{unknownJob()},
	}
	huma.Register(a.huma, get.huma(a), a.getJob)
	log := operation{
		id: "get-job-log", method: http.MethodGet, path: "/jobs/{id}/log", tag: tagJobs, status: http.StatusOK,
		summary:     "Read a job's log",
		description: "One answer is bounded: ask again with after set to next, until complete is true. While the job runs, ask again later, or follow /events?job=.",
		answer:      exampleLog(), failures: []job.Failure{unknownJob()},
	}
	huma.Register(a.huma, log.huma(a), a.getLog)
	a.registerJobActions()
}

func (a *API) registerJobActions() {
	cancel := operation{
		id: "cancel-job", method: http.MethodPost, path: "/jobs/{id}/cancel", tag: tagJobs, status: http.StatusOK,
		summary: "Cancel a job", needs: bus.Operator,
		description: "A queued job is cancelled at once. A running one is asked to end, and is cancelled when its process is gone: until then cancel_requested is true. Cancelling again changes nothing.",
		answer:      exampleJob(),
		failures:    []job.Failure{unknownJob(), {Code: job.Conflict, Message: "the job is over: succeeded", Hint: "there is nothing to cancel"}},
	}
	huma.Register(a.huma, cancel.huma(a), func(ctx context.Context, in *JobPath) (*jobOutput, error) {
		cancelled, err := a.options.Jobs.Cancel(ctx, fleet.ActorOf(ctx), job.ID(in.ID))
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &jobOutput{Body: completeJob(cancelled)}, nil
	})
	retry := operation{
		id: "retry-job", method: http.MethodPost, path: "/jobs/{id}/retry", tag: tagJobs, status: http.StatusCreated,
		summary: "Submit a finished job again", needs: bus.Operator,
		description: "Makes a new job with the same request. The old one stays as it is.",
		answer:      exampleJob(),
		failures:    []job.Failure{unknownJob(), {Code: job.Conflict, Message: "the job is not over: running", Hint: "cancel it first, or wait"}},
	}
	huma.Register(a.huma, retry.huma(a), func(ctx context.Context, in *JobPath) (*submittedOutput, error) {
		fresh, err := a.options.Jobs.Retry(ctx, fleet.ActorOf(ctx), job.ID(in.ID))
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return submitted(fresh), nil
	})
}

func submitted(j job.Job) *submittedOutput {
	return &submittedOutput{Location: Prefix + "/jobs/" + string(j.ID), Body: completeJob(j)}
}

func (a *API) submitJob(ctx context.Context, in *submitInput) (*submitOutput, error) {
	key, err := oneKey(in.IdempotencyKey, in.Body.IdempotencyKey)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	request := job.Request{
		Host: in.Body.Host, Kind: job.Kind(in.Body.Kind), Repository: in.Body.Repository,
		Spec: in.Body.Spec.RawMessage, Plan: in.Body.Plan, MaxAttempts: in.Body.MaxAttempts,
		Timeout: in.Body.Timeout, ExpiresIn: in.Body.ExpiresIn,
		Priority: in.Body.Priority, IdempotencyKey: key,
	}
	if asked, ok := fleet.RunsPlan(request); ok && a.options.Plans != nil {
		start, err := a.startPlan(ctx, request.Plan, asked)
		if err != nil {
			return nil, err
		}
		return &submitOutput{Location: Prefix + "/runs/" + start.Run.ID, Body: start}, nil
	}
	stored, err := a.options.Jobs.Submit(ctx, fleet.ActorOf(ctx), request)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &submitOutput{Location: Prefix + "/jobs/" + string(stored.ID), Body: completeJob(stored)}, nil
}

func (a *API) listJobs(ctx context.Context, in *jobsInput) (*jobsOutput, error) {
	filter := job.Filter{
		Host: in.Host, Repository: in.Repository, Plan: in.Plan, State: job.State(in.State),
		Kind: job.Kind(in.Kind), Since: in.Since, Limit: in.Limit, Cursor: in.Cursor,
	}
	page, err := a.options.Jobs.Jobs(ctx, filter)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	page.Jobs = completeJobs(page.Jobs)
	return &jobsOutput{Body: page}, nil
}

func (a *API) getJob(ctx context.Context, in *JobPath) (*jobOutput, error) {
	found, err := a.options.Jobs.Job(ctx, job.ID(in.ID))
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &jobOutput{Body: completeJob(found)}, nil
}

func (a *API) getLog(ctx context.Context, in *logInput) (*logOutput, error) {
	log, err := a.options.Logs.Log(ctx, job.ID(in.ID), in.After)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	log.Lines = list(log.Lines)
	return &logOutput{Body: log}, nil
}

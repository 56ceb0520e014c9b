package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Runs runs plans and tells of their runs. Safe for concurrent use; an error that
// is the caller's fault is a *job.Failure.
type Runs interface {
	// RunPlan returns after the run is stored, also with the jobs of its first
	// tasks. The same idempotency key gets the same run.
	RunPlan(ctx context.Context, by fleet.Actor, name string, asked fleet.RunRequest) (fleet.Run, []job.Job, error)
	PlanRun(ctx context.Context, id string) (fleet.Run, error)
	// PlanRuns returns one page, newest first.
	PlanRuns(ctx context.Context, filter fleet.RunFilter) (fleet.RunPage, error)
	CancelRun(ctx context.Context, by fleet.Actor, id string) (fleet.Run, error)
}

// RunPath is the part of the path that names a run.
type RunPath struct {
	ID string `path:"id" pattern:"^[0-7][0-9A-HJKMNP-TV-Z]{25}$" patternDescription:"a run's id of 26 characters, such as 01JD9X7Q2M4T6W8Y0ABCDEFGHJ" example:"01JD9X7Q2M4T6W8Y0ABCDEFGHJ" doc:"the run's id"`
}

// RunQuery is what runs are chosen by.
type RunQuery struct {
	PageQuery
	State runFilter `query:"state" doc:"only in this state"`
	Since time.Time `query:"since" doc:"only due at this time or later (RFC 3339)"`
}

// NewRun asks to run a plan now.
type NewRun struct {
	Hosts          []string `json:"hosts,omitempty" maxItems:"10000" doc:"only these of the plan's hosts; left out: all"`
	IdempotencyKey string   `json:"idempotency_key,omitempty" maxLength:"200" doc:"the same key gets the same run, so that a request may be repeated"`
}

type runPlanInput struct {
	PlanPath
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" doc:"the same as idempotency_key in the body"`
	Body           *NewRun
}

type runsInput struct {
	RunQuery
	Plan string `query:"plan" maxLength:"200" doc:"only of this plan"`
}

type planRunsInput struct {
	PlanPath
	RunQuery
}

type runOutput struct{ Body fleet.Run }

type runsOutput struct{ Body fleet.RunPage }

type startedOutput struct {
	Location string `header:"Location" doc:"where the new run is"`
	Body     PlanStart
}

// PlanStart is a run that has begun, with the first of its jobs: others follow
// when these are over.
type PlanStart struct {
	Run  fleet.Run `json:"run"`
	Jobs []job.Job `json:"jobs"`
}

func unknownRun() job.Failure {
	return job.Failure{Code: job.NotFound, Message: "there is no run 01JD9X7Q2M4T6W8Y0ABCDEFGHJ", Hint: "borgfleet run list shows the runs"}
}

func (a *API) registerRuns() {
	start := operation{
		id: "run-plan", method: http.MethodPost, path: "/plans/{plan}/run", tag: tagPlans, status: http.StatusCreated,
		summary: "Run a plan now", needs: bus.Operator, request: NewRun{Hosts: []string{"web1"}}, answer: exampleStart(),
		description: "When this answers, the run is stored and will not be lost. A paused plan runs, too.",
		failures:    []job.Failure{unknownPlan(), unknownHost()},
	}
	huma.Register(a.huma, start.huma(a), a.runPlan)
	history := operation{
		id: "list-plan-runs", method: http.MethodGet, path: "/plans/{plan}/runs", tag: tagPlans, status: http.StatusOK,
		summary: "List the runs of a plan, newest first", answer: fleet.RunPage{Runs: []fleet.Run{exampleRun()}}, failures: []job.Failure{unknownPlan()},
	}
	huma.Register(a.huma, history.huma(a), func(ctx context.Context, in *planRunsInput) (*runsOutput, error) {
		if _, err := a.options.Plans.Plan(ctx, in.Plan); err != nil {
			return nil, a.problem(ctx, err)
		}
		return a.listRuns(ctx, in.Plan, in.RunQuery)
	})
	list := operation{
		id: "list-runs", method: http.MethodGet, path: "/runs", tag: tagPlans, status: http.StatusOK,
		summary: "List runs of plans, newest first", answer: fleet.RunPage{Runs: []fleet.Run{exampleRun()}},
	}
	huma.Register(a.huma, list.huma(a), func(ctx context.Context, in *runsInput) (*runsOutput, error) {
		return a.listRuns(ctx, in.Plan, in.RunQuery)
	})
	get := operation{
		id: "get-run", method: http.MethodGet, path: "/runs/{id}", tag: tagPlans, status: http.StatusOK,
		summary: "Show a run of a plan", answer: exampleRun(), failures: []job.Failure{unknownRun()},
	}
	huma.Register(a.huma, get.huma(a), func(ctx context.Context, in *RunPath) (*runOutput, error) {
		return a.runAnswer(ctx)(a.options.Plans.PlanRun(ctx, in.ID))
	})
	cancel := operation{
		id: "cancel-run", method: http.MethodPost, path: "/runs/{id}/cancel", tag: tagPlans, status: http.StatusOK,
		summary: "Cancel a run of a plan", needs: bus.Operator, answer: exampleRun(),
		description: "Its jobs that are not over are cancelled, and no others begin. Cancelling again changes nothing.",
		failures:    []job.Failure{unknownRun(), {Code: job.Conflict, Message: "the run is over: succeeded", Hint: "there is nothing to cancel"}},
	}
	huma.Register(a.huma, cancel.huma(a), func(ctx context.Context, in *RunPath) (*runOutput, error) {
		return a.runAnswer(ctx)(a.options.Plans.CancelRun(ctx, fleet.ActorOf(ctx), in.ID))
	})
}

func (a *API) runAnswer(ctx context.Context) func(fleet.Run, error) (*runOutput, error) {
	return func(run fleet.Run, err error) (*runOutput, error) {
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &runOutput{Body: completeRun(run)}, nil
	}
}

func (a *API) listRuns(ctx context.Context, plan string, q RunQuery) (*runsOutput, error) {
	page, err := a.options.Plans.PlanRuns(ctx, fleet.RunFilter{Plan: plan, State: fleet.RunState(q.State), Since: q.Since, Limit: q.Limit, Cursor: q.Cursor})
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	runs := make([]fleet.Run, len(page.Runs))
	for i, run := range page.Runs {
		runs[i] = completeRun(run)
	}
	return &runsOutput{Body: fleet.RunPage{Runs: runs, Cursor: page.Cursor}}, nil
}

func (a *API) runPlan(ctx context.Context, in *runPlanInput) (*startedOutput, error) {
	var asked NewRun
	if in.Body != nil {
		asked = *in.Body
	}
	key, err := oneKey(in.IdempotencyKey, asked.IdempotencyKey)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	start, err := a.startPlan(ctx, in.Plan, fleet.RunRequest{Hosts: asked.Hosts, IdempotencyKey: key})
	if err != nil {
		return nil, err
	}
	return &startedOutput{Location: Prefix + "/runs/" + start.Run.ID, Body: start}, nil
}

// startPlan runs a plan. Its error is a problem.
func (a *API) startPlan(ctx context.Context, plan string, asked fleet.RunRequest) (PlanStart, error) {
	run, jobs, err := a.options.Plans.RunPlan(ctx, fleet.ActorOf(ctx), plan, asked)
	if err != nil {
		return PlanStart{}, a.problem(ctx, err)
	}
	return PlanStart{Run: completeRun(run), Jobs: completeJobs(jobs)}, nil
}

// oneKey returns the idempotency key of a request, which may be in its header or
// in its body.
func oneKey(header, body string) (string, error) {
	if header != "" && body != "" && header != body {
		return "", job.Invalid("body.idempotency_key", "differs from the header Idempotency-Key").WithHint("give one of them")
	}
	if header != "" {
		return header, nil
	}
	return body, nil
}

package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Plans keeps plans and runs them. Safe for concurrent use; an error that is the
// caller's fault is a *job.Failure, or several that are joined.
type Plans interface {
	AddPlan(ctx context.Context, by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error)
	ChangePlan(ctx context.Context, by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error)
	RemovePlan(ctx context.Context, by fleet.Actor, name string) error
	PausePlan(ctx context.Context, by fleet.Actor, name string, until *time.Time, reason string) (fleet.PlanView, error)
	ResumePlan(ctx context.Context, by fleet.Actor, name string) (fleet.PlanView, error)
	Plan(ctx context.Context, name string) (fleet.PlanView, error)
	PlanNames(ctx context.Context) ([]string, error)
	AcceptBackup(ctx context.Context, by fleet.Actor, plan, host, repository, reason string) error
	TestRestore(ctx context.Context, by fleet.Actor, plan, host, repository string) (job.Job, error)
	Runs
	Outlook
}

// PlanPath is the part of the path that names a plan. It is exported because huma
// passes over embedded types that are not.
type PlanPath struct {
	Plan string `path:"plan" pattern:"^[a-z0-9][a-z0-9-]{0,62}$" patternDescription:"a plan's name: 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit" example:"web1-daily" doc:"the plan's name"`
}

// NewPlan is a request to add a plan.
type NewPlan struct {
	Name string `json:"name"`
	fleet.PlanSpec
}

// newPlanBody is a plan that is not decoded yet. It is decoded as strictly as one
// in fleet.yaml, and judged by the plan service, whose errors are better.
type newPlanBody struct{ json.RawMessage }

// Schema implements huma.SchemaProvider. What stands in Extensions is for the
// document only, and not checked by huma.
func (newPlanBody) Schema(registry huma.Registry) *huma.Schema { return shown[NewPlan](registry) }

// planSpecBody is a plan without its name that is not decoded yet.
type planSpecBody struct{ json.RawMessage }

// Schema implements huma.SchemaProvider.
func (planSpecBody) Schema(registry huma.Registry) *huma.Schema {
	return shown[fleet.PlanSpec](registry)
}

// NewPause says why, and until when, a plan does not run by itself.
type NewPause struct {
	Until  *time.Time `json:"until,omitempty" doc:"when it ends by itself (RFC 3339); left out: when somebody resumes the plan"`
	Reason string     `json:"reason,omitempty" maxLength:"1000" doc:"why, for the audit and for others"`
}

// NewAcceptance says which backup is right, though it looks suspicious, and why.
type NewAcceptance struct {
	NewRestoreTest
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"why, for the audit"`
}

// NewRestoreTest says of which backup a sample is to be restored.
type NewRestoreTest struct {
	Host       string `json:"host" pattern:"^[a-z0-9-]{1,63}$" patternDescription:"a host name: 1 to 63 of a-z, 0-9 and -" doc:"the host that was backed up"`
	Repository string `json:"repository" maxLength:"200" doc:"the repository that it was backed up to"`
}

type newPlanInput struct{ Body newPlanBody }

type changePlanInput struct {
	PlanPath
	Body planSpecBody
}

type pauseInput struct {
	PlanPath
	Body *NewPause
}

type acceptInput struct {
	PlanPath
	Body NewAcceptance
}

type restoreTestInput struct {
	PlanPath
	Body NewRestoreTest
}

type planOutput struct{ Body fleet.PlanView }

type addedPlanOutput struct {
	Location string `header:"Location" doc:"where the new plan is"`
	Body     fleet.PlanView
}

type plansOutput struct{ Body PlanPage }

// PlanPage is one page of plans.
type PlanPage struct {
	Plans  []fleet.PlanView `json:"plans"`
	Cursor string           `json:"cursor"`
}

func unknownPlan() job.Failure { return *fleet.UnknownPlan("web9-daily") }

func badPlan() job.Failure {
	return job.Failure{Code: job.InvalidRequest, Message: `schedule.cron: "0 2 31 2 *" never comes`, Hint: "five fields: minute, hour, day, month, weekday"}
}

// registerPlans registers what there is of plans, their runs and their outlook.
func (a *API) registerPlans() {
	list := operation{
		id: "list-plans", method: http.MethodGet, path: "/plans", tag: tagPlans, status: http.StatusOK,
		summary: "List plans by name", answer: PlanPage{Plans: []fleet.PlanView{examplePlan()}},
	}
	huma.Register(a.huma, list.huma(a), a.listPlans)
	get := operation{
		id: "get-plan", method: http.MethodGet, path: "/plans/{plan}", tag: tagPlans, status: http.StatusOK,
		summary: "Show a plan", answer: examplePlan(), failures: []job.Failure{unknownPlan()},
	}
	huma.Register(a.huma, get.huma(a), a.getPlan)
	add := operation{
		id: "add-plan", method: http.MethodPost, path: "/plans", tag: tagPlans, status: http.StatusCreated,
		summary: "Add a plan", needs: bus.Admin, description: "The keys are those of a plan in fleet.yaml. All that is wrong with it is told at once.",
		request: NewPlan{Name: "web1-daily", PlanSpec: examplePlan().PlanSpec}, answer: examplePlan(),
		failures: []job.Failure{badPlan(), unknownHost(), unknownRepository(), {Code: job.Conflict, Message: `there is already a plan "web1-daily"`, Hint: "choose another name"}},
	}
	huma.Register(a.huma, add.huma(a), a.addPlan)
	change := operation{
		id: "change-plan", method: http.MethodPut, path: "/plans/{plan}", tag: tagPlans, status: http.StatusOK,
		summary: "Change a plan", needs: bus.Admin, description: "The plan is given as a whole. A run that is not over goes on as it was begun.",
		request: examplePlan().PlanSpec, answer: examplePlan(), failures: []job.Failure{badPlan(), unknownPlan(), unknownHost(), unknownRepository()},
	}
	huma.Register(a.huma, change.huma(a), a.changePlan)
	remove := operation{
		id: "remove-plan", method: http.MethodDelete, path: "/plans/{plan}", tag: tagPlans, status: http.StatusNoContent,
		summary: "Remove a plan", needs: bus.Admin, description: "Its archives stay.",
		failures: []job.Failure{unknownPlan()},
	}
	huma.Register(a.huma, remove.huma(a), answerNothing(a, a.removePlan))
	a.registerPauses()
	a.registerProof()
	a.registerRuns()
	a.registerOutlook()
}

func (a *API) registerPauses() {
	pause := operation{
		id: "pause-plan", method: http.MethodPost, path: "/plans/{plan}/pause", tag: tagPlans, status: http.StatusOK,
		summary: "Keep a plan from running by itself", needs: bus.Operator, request: NewPause{Reason: "the store is moved"}, answer: examplePlan(),
		description: "A paused plan is not overdue, and can be run by hand. What was due meanwhile is not made up.",
		failures:    []job.Failure{unknownPlan()},
	}
	huma.Register(a.huma, pause.huma(a), func(ctx context.Context, in *pauseInput) (*planOutput, error) {
		var asked NewPause
		if in.Body != nil {
			asked = *in.Body
		}
		return a.planAnswer(ctx)(a.options.Plans.PausePlan(ctx, fleet.ActorOf(ctx), in.Plan, asked.Until, asked.Reason))
	})
	resume := operation{
		id: "resume-plan", method: http.MethodPost, path: "/plans/{plan}/resume", tag: tagPlans, status: http.StatusOK,
		summary: "Let a plan run by itself again", needs: bus.Operator, answer: examplePlan(), failures: []job.Failure{unknownPlan()},
	}
	huma.Register(a.huma, resume.huma(a), func(ctx context.Context, in *PlanPath) (*planOutput, error) {
		return a.planAnswer(ctx)(a.options.Plans.ResumePlan(ctx, fleet.ActorOf(ctx), in.Plan))
	})
}

// registerProof registers what concerns the worth of a plan's backups.
func (a *API) registerProof() {
	accept := operation{
		id: "accept-backup", method: http.MethodPost, path: "/plans/{plan}/accept", tag: tagPlans, status: http.StatusOK,
		summary: "Take a suspicious backup as right", needs: bus.Operator, answer: examplePlan(),
		request:     NewAcceptance{NewRestoreTest{Host: "web1", Repository: "web1-main"}, "the old logs were deleted"},
		description: "While the newest backup looks unlike those before it, nothing is pruned. From now on its like counts as usual.",
		failures:    []job.Failure{unknownPlan(), {Code: job.Conflict, Message: "the newest backup of web1 to web1-main is not suspicious"}},
	}
	huma.Register(a.huma, accept.huma(a), func(ctx context.Context, in *acceptInput) (*planOutput, error) {
		err := a.options.Plans.AcceptBackup(ctx, fleet.ActorOf(ctx), in.Plan, in.Body.Host, in.Body.Repository, in.Body.Reason)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return a.getPlan(ctx, &in.PlanPath)
	})
	test := operation{
		id: "test-restore", method: http.MethodPost, path: "/plans/{plan}/restore-test", tag: tagPlans, status: http.StatusCreated,
		summary: "Restore a sample of the newest backup now", needs: bus.Operator, answer: exampleRestoreTest(),
		request:     NewRestoreTest{Host: "web1", Repository: "web1-main"},
		description: "Submits a job of the kind restore-test: it restores into a scratch directory, compares with the source where that has not changed since, and cleans up. result.evidence of the job says what was seen.",
		failures:    []job.Failure{unknownPlan(), {Code: job.Conflict, Message: "there is no backup of web1 to web1-main yet", Hint: "borgfleet plan run web1-daily"}},
	}
	huma.Register(a.huma, test.huma(a), func(ctx context.Context, in *restoreTestInput) (*submittedOutput, error) {
		started, err := a.options.Plans.TestRestore(ctx, fleet.ActorOf(ctx), in.Plan, in.Body.Host, in.Body.Repository)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return submitted(started), nil
	})
}

// planAnswer answers with a plan, or why there is none.
func (a *API) planAnswer(ctx context.Context) func(fleet.PlanView, error) (*planOutput, error) {
	return func(plan fleet.PlanView, err error) (*planOutput, error) {
		if err != nil {
			return nil, a.problems(ctx, err)
		}
		return &planOutput{Body: completePlan(plan)}, nil
	}
}

func (a *API) listPlans(ctx context.Context, in *PageQuery) (*plansOutput, error) {
	names, err := a.options.Plans.PlanNames(ctx)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	names, next := pageOf(names, func(name string) string { return name }, in.Limit, in.Cursor)
	page := make([]fleet.PlanView, 0, len(names))
	for _, name := range names {
		plan, err := a.options.Plans.Plan(ctx, name)
		if f, ok := errors.AsType[*job.Failure](err); ok && f.Code == job.UnknownPlan {
			continue // removed since
		}
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		page = append(page, completePlan(plan))
	}
	return &plansOutput{Body: PlanPage{Plans: page, Cursor: next}}, nil
}

func (a *API) getPlan(ctx context.Context, in *PlanPath) (*planOutput, error) {
	return a.planAnswer(ctx)(a.options.Plans.Plan(ctx, in.Plan))
}

func (a *API) addPlan(ctx context.Context, in *newPlanInput) (*addedPlanOutput, error) {
	var asked NewPlan
	if err := job.DecodeStrict(in.Body.RawMessage, &asked); err != nil {
		return nil, a.problem(ctx, err)
	}
	plan, err := a.options.Plans.AddPlan(ctx, fleet.ActorOf(ctx), asked.Name, asked.PlanSpec)
	if err != nil {
		return nil, a.problems(ctx, err)
	}
	return &addedPlanOutput{Location: Prefix + "/plans/" + plan.Name, Body: completePlan(plan)}, nil
}

func (a *API) changePlan(ctx context.Context, in *changePlanInput) (*planOutput, error) {
	var spec fleet.PlanSpec
	if err := job.DecodeStrict(in.Body.RawMessage, &spec); err != nil {
		return nil, a.problem(ctx, err)
	}
	return a.planAnswer(ctx)(a.options.Plans.ChangePlan(ctx, fleet.ActorOf(ctx), in.Plan, spec))
}

func (a *API) removePlan(ctx context.Context, in *PlanPath) error {
	return a.options.Plans.RemovePlan(ctx, fleet.ActorOf(ctx), in.Plan)
}

package httpapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Notifications keeps who is told of what, and what they were told. Safe for
// concurrent use; an error that is the caller's fault is a *job.Failure.
type Notifications interface {
	Targets(ctx context.Context) ([]fleet.Target, error)
	// PutTarget adds a target, or changes it.
	PutTarget(ctx context.Context, by fleet.Actor, asked fleet.NewTarget) (fleet.Target, error)
	RemoveTarget(ctx context.Context, by fleet.Actor, name string) error
	// TestTarget sends a message, and returns what came of it.
	TestTarget(ctx context.Context, by fleet.Actor, name string) (fleet.Delivery, error)
	Rulebook
	// Deliveries returns one page, newest first, and where the next begins.
	Deliveries(ctx context.Context, target string, limit int, cursor string) ([]fleet.Delivery, string, error)
}

// TargetPath is the part of the path that names a target or a rule.
type TargetPath struct {
	Name string `path:"name" pattern:"^[a-z0-9][a-z0-9-]{0,62}$" patternDescription:"a name: 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit" example:"ops" doc:"its name"`
}

// NewTarget says where notifications go.
type NewTarget struct {
	URL      *string `json:"url,omitempty" maxLength:"4096" writeOnly:"true" doc:"ntfy://…, smtp://…, slack://… and so on, or https://… with a kind; kept encrypted, and never shown again; left out: as before"`
	Kind     string  `json:"kind,omitempty" enum:"webhook,healthchecks" doc:"what answers at an http or https address; left out for others"`
	Secret   *string `json:"secret,omitempty" maxLength:"4096" writeOnly:"true" doc:"webhook: the key of its signature; kept encrypted, and never shown again; left out: none, or as before"`
	Disabled bool    `json:"disabled,omitempty" doc:"send nothing"`
}

type targetInput struct {
	TargetPath
	Body NewTarget
}

type deliveriesInput struct {
	PageQuery
	Target string `query:"target" maxLength:"200" doc:"only to this target"`
}

type targetOutput struct{ Body fleet.Target }

type targetsOutput struct{ Body TargetList }

// TargetList is where notifications go, by name.
type TargetList struct {
	Targets []fleet.Target `json:"targets"`
}

type deliveryOutput struct{ Body fleet.Delivery }

type deliveriesOutput struct{ Body DeliveryPage }

// DeliveryPage is one page of what was sent, newest first.
type DeliveryPage struct {
	Deliveries []fleet.Delivery `json:"deliveries"`
	Cursor     string           `json:"cursor"`
}

func unknownTarget(name string) *job.Failure {
	return job.Fail(job.NotFound, "there is no target %q", name).WithHint("borgfleet notify target list shows the targets")
}

func (a *API) registerNotifications() {
	show := operation{
		id: "list-targets", method: http.MethodGet, path: "/targets", tag: tagNotifications, status: http.StatusOK,
		summary: "List where notifications go", answer: TargetList{Targets: []fleet.Target{exampleTarget()}},
	}
	huma.Register(a.huma, show.huma(a), a.listTargets)
	get := operation{
		id: "get-target", method: http.MethodGet, path: "/targets/{name}", tag: tagNotifications, status: http.StatusOK,
		summary: "Show a target of notifications", answer: exampleTarget(), failures: []job.Failure{*unknownTarget("ops")},
	}
	huma.Register(a.huma, get.huma(a), a.getTarget)
	url := "ntfy://ntfy.example.net/backups"
	put := operation{
		id: "put-target", method: http.MethodPut, path: "/targets/{name}", tag: tagNotifications, status: http.StatusOK,
		summary: "Add or change a target of notifications", needs: bus.Admin, request: NewTarget{URL: &url}, answer: exampleTarget(),
		failures: []job.Failure{{Code: job.InvalidRequest, Message: `url: there is no service "nfty"`, Hint: "did you mean ntfy?"}},
	}
	huma.Register(a.huma, put.huma(a), func(ctx context.Context, in *targetInput) (*targetOutput, error) {
		target, err := a.options.Notifications.PutTarget(ctx, fleet.ActorOf(ctx), fleet.NewTarget{
			Name: in.Name, URL: secretOf(in.Body.URL), Kind: in.Body.Kind, Secret: secretOf(in.Body.Secret), Disabled: in.Body.Disabled,
		})
		if err != nil {
			return nil, a.problems(ctx, err)
		}
		return &targetOutput{Body: target}, nil
	})
	remove := operation{
		id: "remove-target", method: http.MethodDelete, path: "/targets/{name}", tag: tagNotifications, status: http.StatusNoContent,
		summary: "Remove a target of notifications", needs: bus.Admin,
		failures: []job.Failure{*unknownTarget("ops"), {Code: job.Conflict, Message: "rules send to target ops: night", Hint: "change or remove them first"}},
	}
	huma.Register(a.huma, remove.huma(a), answerNothing(a, func(ctx context.Context, in *TargetPath) error {
		return a.options.Notifications.RemoveTarget(ctx, fleet.ActorOf(ctx), in.Name)
	}))
	a.registerDeliveries()
	a.registerRules()
}

func (a *API) registerDeliveries() {
	test := operation{
		id: "test-target", method: http.MethodPost, path: "/targets/{name}/test", tag: tagNotifications, status: http.StatusOK,
		summary: "Send a test message to a target", needs: bus.Operator, answer: exampleDelivery(),
		description: "sent_at of the answer says that it was taken there; else error says why not.",
		failures:    []job.Failure{*unknownTarget("ops")},
	}
	huma.Register(a.huma, test.huma(a), func(ctx context.Context, in *TargetPath) (*deliveryOutput, error) {
		delivery, err := a.options.Notifications.TestTarget(ctx, fleet.ActorOf(ctx), in.Name)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		delivery.Alerts = list(delivery.Alerts)
		return &deliveryOutput{Body: delivery}, nil
	})
	log := operation{
		id: "list-deliveries", method: http.MethodGet, path: "/deliveries", tag: tagNotifications, status: http.StatusOK,
		summary: "List what was sent to whom, newest first", answer: DeliveryPage{Deliveries: []fleet.Delivery{exampleDelivery()}},
	}
	huma.Register(a.huma, log.huma(a), func(ctx context.Context, in *deliveriesInput) (*deliveriesOutput, error) {
		found, cursor, err := a.options.Notifications.Deliveries(ctx, in.Target, in.Limit, in.Cursor)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		page := slices.Clone(list(found))
		for i := range page {
			page[i].Alerts = list(page[i].Alerts)
		}
		return &deliveriesOutput{Body: DeliveryPage{Deliveries: page, Cursor: cursor}}, nil
	})
}

func (a *API) listTargets(ctx context.Context, _ *struct{}) (*targetsOutput, error) {
	targets, err := a.options.Notifications.Targets(ctx)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &targetsOutput{Body: TargetList{Targets: list(targets)}}, nil
}

func (a *API) getTarget(ctx context.Context, in *TargetPath) (*targetOutput, error) {
	targets, err := a.options.Notifications.Targets(ctx)
	at := slices.IndexFunc(targets, func(t fleet.Target) bool { return t.Name == in.Name })
	switch {
	case err != nil:
		return nil, a.problem(ctx, err)
	case at < 0:
		return nil, a.problem(ctx, unknownTarget(in.Name))
	}
	return &targetOutput{Body: targets[at]}, nil
}

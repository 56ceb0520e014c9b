package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

type statusOutput struct{ Body fleet.Status }

func (a *API) registerStatus() {
	op := operation{
		id: "get-status", method: http.MethodGet, path: "/status", tag: tagStatus, status: http.StatusOK,
		summary:     "The whole in short",
		description: "Hosts with their presence, what runs, what waits and why, what ended lately, and what needs a person.",
		answer:      exampleStatus(),
	}
	huma.Register(a.huma, op.huma(a), func(ctx context.Context, _ *struct{}) (*statusOutput, error) {
		status, err := a.options.Statuses.Status(ctx)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &statusOutput{Body: completeStatus(status)}, nil
	})
}

func (a *API) registry() huma.Registry { return a.huma.OpenAPI().Components.Schemas }

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

// Alerts tells what needs a person, and keeps some of it quiet. Safe for
// concurrent use; an error that is the caller's fault is a *job.Failure.
type Alerts interface {
	// Alerts returns one page: those that hold first, then newest first.
	Alerts(ctx context.Context, filter fleet.AlertFilter) (fleet.AlertPage, error)
	Alert(ctx context.Context, id string) (fleet.Alert, error)
	Silences(ctx context.Context) ([]fleet.Silence, error)
	AddSilence(ctx context.Context, by fleet.Actor, asked fleet.Silence) (fleet.Silence, error)
	RemoveSilence(ctx context.Context, by fleet.Actor, id string) error
}

// ULIDPath is the part of the path that names an alert or a silence.
type ULIDPath struct {
	ID string `path:"id" pattern:"^[0-7][0-9A-HJKMNP-TV-Z]{25}$" patternDescription:"an id of 26 characters, such as 01JD9X7Q2M4T6W8Y0ABCDEFGHJ" example:"01JD9X7Q2M4T6W8Y0ABCDEFGHJ" doc:"its id"`
}

type alertsInput struct {
	PageQuery
	Kind       string `query:"kind" maxLength:"200" doc:"only of this kind"`
	Severity   string `query:"severity" enum:"info,warning,critical" doc:"only of this severity"`
	Host       string `query:"host" maxLength:"200" doc:"only of this host"`
	Repository string `query:"repository" maxLength:"200" doc:"only on this repository"`
	Plan       string `query:"plan" maxLength:"200" doc:"only of this plan"`
	Open       bool   `query:"open" doc:"only those that still hold"`
}

// NewSilence says which alerts are to be quiet, until when and why. What is left
// out matches everything; * and ? stand for anything.
type NewSilence struct {
	Kind       string    `json:"kind,omitempty" maxLength:"200" doc:"only of this kind"`
	Host       string    `json:"host,omitempty" maxLength:"200" doc:"only of this host"`
	Repository string    `json:"repository,omitempty" maxLength:"200" doc:"only on this repository"`
	Plan       string    `json:"plan,omitempty" maxLength:"200" doc:"only of this plan"`
	Reason     string    `json:"reason,omitempty" maxLength:"1000" doc:"why, for the audit and for others"`
	Until      time.Time `json:"until" doc:"when it ends (RFC 3339)"`
}

type newSilenceInput struct{ Body NewSilence }

type alertOutput struct{ Body fleet.Alert }

type alertsOutput struct{ Body fleet.AlertPage }

type silenceOutput struct{ Body fleet.Silence }

type silencesOutput struct{ Body SilenceList }

// SilenceList is the silences that are not over.
type SilenceList struct {
	Silences []fleet.Silence `json:"silences"`
}

func (a *API) registerAlerts() {
	notThere := job.Failure{Code: job.NotFound, Message: "there is no alert 01JD9X7Q2M4T6W8Y0ABCDEFGHJ", Hint: "borgfleet alert list shows the alerts"}
	show := operation{
		id: "list-alerts", method: http.MethodGet, path: "/alerts", tag: tagAlerts, status: http.StatusOK,
		summary: "List what needs a person: what still holds first, then newest first", answer: fleet.AlertPage{Alerts: []fleet.Alert{exampleAlert()}, Open: 1},
	}
	huma.Register(a.huma, show.huma(a), a.listAlerts)
	get := operation{
		id: "get-alert", method: http.MethodGet, path: "/alerts/{id}", tag: tagAlerts, status: http.StatusOK,
		summary: "Show an alert", answer: exampleAlert(), failures: []job.Failure{notThere},
	}
	huma.Register(a.huma, get.huma(a), func(ctx context.Context, in *ULIDPath) (*alertOutput, error) {
		alert, err := a.options.Alerts.Alert(ctx, in.ID)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &alertOutput{Body: completeAlert(alert)}, nil
	})
	a.registerSilences()
}

func (a *API) registerSilences() {
	show := operation{
		id: "list-silences", method: http.MethodGet, path: "/silences", tag: tagAlerts, status: http.StatusOK,
		summary: "List the silences", answer: SilenceList{Silences: []fleet.Silence{exampleSilence()}},
	}
	huma.Register(a.huma, show.huma(a), func(ctx context.Context, _ *struct{}) (*silencesOutput, error) {
		silences, err := a.options.Alerts.Silences(ctx)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &silencesOutput{Body: SilenceList{Silences: list(silences)}}, nil
	})
	add := operation{
		id: "add-silence", method: http.MethodPost, path: "/silences", tag: tagAlerts, status: http.StatusCreated,
		summary: "Keep alerts quiet for a time", needs: bus.Operator, answer: exampleSilence(),
		request:     NewSilence{Kind: "offline", Host: "web1", Reason: "the machine is moved", Until: exampleTime().Add(8 * time.Hour)},
		description: "They are shown all the same, and nobody is notified. At least one of kind, host, repository and plan is given, in which * and ? stand for anything.",
		failures:    []job.Failure{{Code: job.InvalidRequest, Message: "until: is over already", Hint: "give a time to come"}},
	}
	huma.Register(a.huma, add.huma(a), func(ctx context.Context, in *newSilenceInput) (*silenceOutput, error) {
		silence, err := a.options.Alerts.AddSilence(ctx, fleet.ActorOf(ctx), fleet.Silence{
			Kind: in.Body.Kind, Host: in.Body.Host, Repository: in.Body.Repository, Plan: in.Body.Plan,
			Reason: in.Body.Reason, Until: in.Body.Until,
		})
		if err != nil {
			return nil, a.problems(ctx, err)
		}
		return &silenceOutput{Body: silence}, nil
	})
	remove := operation{
		id: "remove-silence", method: http.MethodDelete, path: "/silences/{id}", tag: tagAlerts, status: http.StatusNoContent,
		summary: "End a silence", needs: bus.Operator,
		failures: []job.Failure{{Code: job.NotFound, Message: "there is no silence 01JD9X7Q2M4T6W8Y0ABCDEFGHJ", Hint: "borgfleet alert silences shows them"}},
	}
	huma.Register(a.huma, remove.huma(a), answerNothing(a, func(ctx context.Context, in *ULIDPath) error {
		return a.options.Alerts.RemoveSilence(ctx, fleet.ActorOf(ctx), in.ID)
	}))
}

func (a *API) listAlerts(ctx context.Context, in *alertsInput) (*alertsOutput, error) {
	page, err := a.options.Alerts.Alerts(ctx, fleet.AlertFilter{
		Kind: in.Kind, Host: in.Host, Repository: in.Repository, Plan: in.Plan, Severity: fleet.Severity(in.Severity),
		Open: in.Open, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	alerts := make([]fleet.Alert, len(page.Alerts))
	for i, alert := range page.Alerts {
		alerts[i] = completeAlert(alert)
	}
	page.Alerts = alerts
	return &alertsOutput{Body: page}, nil
}

func completeAlert(alert fleet.Alert) fleet.Alert {
	alert.Told = list(alert.Told)
	if alert.Labels == nil {
		alert.Labels = map[string]string{}
	}
	return alert
}

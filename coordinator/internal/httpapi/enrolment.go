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

type newEnrolmentInput struct{ Body NewEnrolmentToken }

// NewEnrolmentToken is a request for a one-time token for an agent.
type NewEnrolmentToken struct {
	Host    string `json:"host" pattern:"^[a-z0-9-]{1,63}$" patternDescription:"a host name: 1 to 63 of a-z, 0-9 and -" doc:"what the host is, or will be, called"`
	Expires int64  `json:"expires_seconds,omitempty" minimum:"60" maximum:"604800" default:"3600" doc:"how long it may be used; left out: an hour"`
	Replace bool   `json:"replace,omitempty" doc:"let it take the place of a host that has an identity, which is then revoked"`
}

type enrolmentsOutput struct{ Body EnrolmentTokenList }

// EnrolmentTokenList is the records of all enrolment tokens.
type EnrolmentTokenList struct {
	Tokens []fleet.EnrolmentToken `json:"tokens"`
}

type issuedOutput struct{ Body IssuedEnrolmentToken }

// IssuedEnrolmentToken is a new enrolment token. Its worth is in this one
// answer and nowhere else.
type IssuedEnrolmentToken struct {
	fleet.EnrolmentToken
	Token   string `json:"token"`
	URL     string `json:"url"`
	Command string `json:"command"`
}

func exampleEnrolment() fleet.EnrolmentToken {
	return fleet.EnrolmentToken{
		ID: string(exampleID), Host: "web1", CreatedAt: exampleTime(), CreatedBy: "operator:alice", ExpiresAt: exampleTime().Add(time.Hour),
	}
}

func (a *API) registerEnrolment() {
	list := operation{
		id: "list-enrolment-tokens", method: http.MethodGet, path: "/enrolment-tokens", tag: tagEnrolment, status: http.StatusOK, needs: bus.Admin,
		summary: "List enrolment tokens", answer: EnrolmentTokenList{Tokens: []fleet.EnrolmentToken{exampleEnrolment()}},
	}
	huma.Register(a.huma, list.huma(a), a.listEnrolments)
	issue := operation{
		id: "add-enrolment-token", method: http.MethodPost, path: "/enrolment-tokens", tag: tagEnrolment, status: http.StatusCreated, needs: bus.Admin,
		summary:     "Make a one-time token for a host's agent",
		description: "Run the command on the host: its agent makes its keys there, spends the token, and connects. The token and the command are in this answer and nowhere else.",
		request:     NewEnrolmentToken{Host: "web1", Expires: 3600},
		answer: IssuedEnrolmentToken{
			EnrolmentToken: exampleEnrolment(), Token: "bfe1_8XKQ...", URL: "tls://backup.example.net:4222",
			Command: "borgfleet-agent enroll --token bfe1_8XKQ...",
		},
		failures: []job.Failure{{Code: job.Conflict, Message: `host "web1" has an identity`, Hint: "set replace to give it a new one"}},
	}
	huma.Register(a.huma, issue.huma(a), a.issueEnrolment)
	remove := operation{
		id: "remove-enrolment-token", method: http.MethodDelete, path: "/enrolment-tokens/{id}", tag: tagEnrolment, status: http.StatusNoContent, needs: bus.Admin,
		summary: "End an enrolment token", failures: []job.Failure{unknownToken()},
	}
	huma.Register(a.huma, remove.huma(a), answerNothing(a, func(ctx context.Context, in *tokenInput) error {
		return a.options.Enrolment.RemoveEnrolmentToken(ctx, fleet.ActorOf(ctx), in.ID)
	}))
}

func (a *API) listEnrolments(ctx context.Context, _ *struct{}) (*enrolmentsOutput, error) {
	tokens, err := a.options.Enrolment.EnrolmentTokens(ctx)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &enrolmentsOutput{Body: EnrolmentTokenList{Tokens: list(tokens)}}, nil
}

func (a *API) issueEnrolment(ctx context.Context, in *newEnrolmentInput) (*issuedOutput, error) {
	asked := fleet.NewEnrolmentToken{Host: in.Body.Host, Lifetime: time.Duration(in.Body.Expires) * time.Second, Replace: in.Body.Replace}
	record, worth, err := a.options.Enrolment.EnrolmentToken(ctx, fleet.ActorOf(ctx), asked)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &issuedOutput{Body: IssuedEnrolmentToken{
		EnrolmentToken: record, Token: string(worth.Token.Reveal()), URL: worth.URL, Command: worth.Command,
	}}, nil
}

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

type tokenInput struct {
	ID string `path:"id" maxLength:"200" example:"01JD9X7Q2M4T6W8Y0ABCDEFGHJ" doc:"the token's id, which is not secret"`
}

type newTokenInput struct{ Body NewToken }

// NewToken is a request for an API token.
type NewToken struct {
	Name    string   `json:"name" minLength:"1" maxLength:"200" doc:"what it is for; the audit shows it"`
	Role    bus.Role `json:"role" enum:"viewer,operator,admin" doc:"what it may do"`
	Expires int64    `json:"expires_seconds,omitempty" minimum:"60" maximum:"63244800" default:"7776000" doc:"how long it works; at most two years; left out: 90 days"`
}

type tokensOutput struct{ Body TokenList }

// TokenList is the records of all API tokens.
type TokenList struct {
	Tokens []fleet.APIToken `json:"tokens"`
}

type addedTokenOutput struct{ Body AddedToken }

// AddedToken is a new API token. Its worth is in this one answer and nowhere
// else.
type AddedToken struct {
	fleet.APIToken
	Token string `json:"token"`
}

func exampleToken() fleet.APIToken {
	return fleet.APIToken{
		ID: string(exampleID), Name: "ci", Role: bus.Operator, CreatedAt: exampleTime(), CreatedBy: "operator:alice", ExpiresAt: exampleTime().AddDate(0, 0, 90),
	}
}

func unknownToken() job.Failure {
	return job.Failure{Code: job.NotFound, Message: "there is no token 01JD9X7Q2M4T6W8Y0ABCDEFGHJ", Hint: "its list shows the ids"}
}

func (a *API) registerTokens() {
	list := operation{
		id: "list-tokens", method: http.MethodGet, path: "/tokens", tag: tagTokens, status: http.StatusOK, needs: bus.Admin,
		summary: "List API tokens", answer: TokenList{Tokens: []fleet.APIToken{exampleToken()}},
	}
	huma.Register(a.huma, list.huma(a), a.listTokens)
	add := operation{
		id: "add-token", method: http.MethodPost, path: "/tokens", tag: tagTokens, status: http.StatusCreated, needs: bus.Admin,
		summary: "Make an API token", description: "The token is in this answer and nowhere else.",
		request: NewToken{Name: "ci", Role: bus.Operator, Expires: 7776000},
		answer:  AddedToken{APIToken: exampleToken(), Token: exampleSecret},
	}
	huma.Register(a.huma, add.huma(a), a.addToken)
	remove := operation{
		id: "remove-token", method: http.MethodDelete, path: "/tokens/{id}", tag: tagTokens, status: http.StatusNoContent, needs: bus.Admin,
		summary: "End an API token", failures: []job.Failure{unknownToken()},
	}
	huma.Register(a.huma, remove.huma(a), answerNothing(a, func(ctx context.Context, in *tokenInput) error {
		return a.options.Tokens.RemoveToken(ctx, fleet.ActorOf(ctx), in.ID)
	}))
}

func (a *API) listTokens(ctx context.Context, _ *struct{}) (*tokensOutput, error) {
	tokens, err := a.options.Tokens.Tokens(ctx)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &tokensOutput{Body: TokenList{Tokens: list(tokens)}}, nil
}

func (a *API) addToken(ctx context.Context, in *newTokenInput) (*addedTokenOutput, error) {
	asked := fleet.NewAPIToken{Name: in.Body.Name, Role: in.Body.Role, Lifetime: time.Duration(in.Body.Expires) * time.Second}
	record, token, err := a.options.Tokens.AddToken(ctx, fleet.ActorOf(ctx), asked)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &addedTokenOutput{Body: AddedToken{APIToken: record, Token: string(token.Reveal())}}, nil
}

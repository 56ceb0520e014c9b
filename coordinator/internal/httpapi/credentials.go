package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

type credentialsInput struct {
	Name string `path:"name" maxLength:"200" example:"alice" doc:"whose credentials"`
}

type newCredentialsInput struct{ Body NewCredentials }

// NewCredentials is a request for credentials for the bus.
type NewCredentials struct {
	Name string   `json:"name" minLength:"1" maxLength:"200" doc:"who will use them"`
	Role bus.Role `json:"role" enum:"viewer,operator,admin" doc:"what they allow"`
}

type credentialsOutput struct{ Body CredentialsList }

// CredentialsList is the records of all credentials that were given out.
type CredentialsList struct {
	Credentials []fleet.NATSCredentials `json:"credentials"`
}

type mintedOutput struct{ Body MintedCredentials }

// MintedCredentials are new credentials. Their text is in this one answer and
// nowhere else.
type MintedCredentials struct {
	fleet.NATSCredentials
	Credentials string `json:"credentials"`
}

func exampleCredentials() fleet.NATSCredentials {
	return fleet.NATSCredentials{
		Name: "alice", Role: bus.Operator, PublicKey: exampleHost().PublicKey, CreatedAt: exampleTime(), CreatedBy: fleet.Local,
	}
}

func (a *API) registerCredentials() {
	list := operation{
		id: "list-nats-credentials", method: http.MethodGet, path: "/nats-credentials", tag: tagCredentials, status: http.StatusOK, needs: bus.Admin,
		summary: "List credentials for the bus", answer: CredentialsList{Credentials: []fleet.NATSCredentials{exampleCredentials()}},
	}
	huma.Register(a.huma, list.huma(a), a.listCredentials)
	mint := operation{
		id: "mint-nats-credentials", method: http.MethodPost, path: "/nats-credentials", tag: tagCredentials, status: http.StatusCreated, needs: bus.Admin,
		summary:     "Make credentials for the bus",
		description: "The answer holds the text of a .creds file, for any NATS client. It is in this answer and nowhere else. Earlier credentials of the same name keep working.",
		request:     NewCredentials{Name: "alice", Role: bus.Operator},
		answer:      MintedCredentials{NATSCredentials: exampleCredentials(), Credentials: "-----BEGIN NATS USER JWT-----\n..."},
	}
	huma.Register(a.huma, mint.huma(a), a.mintCredentials)
	revoke := operation{
		id: "revoke-nats-credentials", method: http.MethodDelete, path: "/nats-credentials/{name}", tag: tagCredentials, status: http.StatusNoContent, needs: bus.Admin,
		summary: "Revoke all credentials of a name", description: "Connections that use them are cut at once.",
		failures: []job.Failure{{Code: job.NotFound, Message: `there are no credentials of "bob"`, Hint: "borgfleet nats-creds lists them"}},
	}
	huma.Register(a.huma, revoke.huma(a), answerNothing(a, func(ctx context.Context, in *credentialsInput) error {
		return a.options.Credentials.RevokeCredentials(ctx, fleet.ActorOf(ctx), in.Name)
	}))
}

func (a *API) listCredentials(ctx context.Context, _ *struct{}) (*credentialsOutput, error) {
	credentials, err := a.options.Credentials.Credentials(ctx)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &credentialsOutput{Body: CredentialsList{Credentials: list(credentials)}}, nil
}

func (a *API) mintCredentials(ctx context.Context, in *newCredentialsInput) (*mintedOutput, error) {
	record, text, err := a.options.Credentials.MintCredentials(ctx, fleet.ActorOf(ctx), in.Body.Name, in.Body.Role)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &mintedOutput{Body: MintedCredentials{NATSCredentials: record, Credentials: string(text.Reveal())}}, nil
}

package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// NewLogin is a request for a token that stands for a person.
type NewLogin struct {
	Name      string `json:"name" minLength:"1" maxLength:"200" doc:"who signs in, without operator:"`
	Password  string `json:"password" minLength:"1" maxLength:"4096" writeOnly:"true" doc:"the person's password"`
	TokenName string `json:"token_name,omitempty" maxLength:"200" default:"login" doc:"under which the token is listed, such as the machine that it is for"`
}

type newLoginInput struct{ Body NewLogin }

// NewPassword is a request for another password.
type NewPassword struct {
	Old string `json:"old_password" minLength:"1" maxLength:"4096" writeOnly:"true" doc:"the present password"`
	New string `json:"new_password" minLength:"1" maxLength:"4096" writeOnly:"true" doc:"the password from now on: at least 10 characters"`
}

type newPasswordInput struct{ Body NewPassword }

// Login is what signing in gives.
type Login struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
	Name      string    `json:"name"`
	Role      bus.Role  `json:"role"`
}

type loginOutput struct{ Body Login }

// WhoAmI is who the coordinator takes the caller for.
type WhoAmI struct {
	Name string   `json:"name"`
	Role bus.Role `json:"role"`
	From string   `json:"from"`
}

type whoAmIOutput struct{ Body WhoAmI }

// rawInput is the request itself, for what is not ours to read: credentials.
type rawInput struct {
	writer  http.ResponseWriter
	request *http.Request
}

// Resolve implements huma.Resolver.
func (in *rawInput) Resolve(ctx huma.Context) []error {
	in.request, in.writer = humago.Unwrap(ctx)
	return nil
}

// exampleSecret stands where a secret would.
const exampleSecret = "bft_5JZ2K7QXW4..."

func (a *API) registerLogin() {
	login := operation{
		id: "login", method: http.MethodPost, path: loginPath, tag: tagLogin, status: http.StatusOK, open: true,
		summary:     "Exchange a password for a token",
		description: "The token stands for the person: it has the same role, and ends when the person is removed. Who guesses is slowed down.",
		request:     NewLogin{Name: "alice", Password: "correct horse battery staple", TokenName: "alice's laptop"},
		answer:      Login{Token: exampleSecret, ExpiresAt: exampleTime().AddDate(0, 0, 30), Name: "operator:alice", Role: bus.Operator},
		failures: []job.Failure{
			{Code: job.NotAuthenticated, Message: "the name or the password is wrong", Hint: "try again"},
			{Code: job.TooMany, Message: "there were too many attempts to sign in", Hint: "wait a minute"},
		},
	}
	huma.Register(a.huma, login.huma(a), a.login)
	logout := operation{
		id: "logout", method: http.MethodPost, path: "/logout", tag: tagLogin, status: http.StatusNoContent,
		summary: "End the login that this request comes with", description: "A token that was not made by POST /login is not ended so: DELETE /tokens/{id} does that.",
	}
	huma.Register(a.huma, logout.huma(a), answerNothing(a, a.logout))
	password := operation{
		id: "change-password", method: http.MethodPost, path: "/password", tag: tagLogin, status: http.StatusNoContent,
		summary:     "Change one's own password",
		description: "For people, not for tokens that stand for themselves. Everything that the old password has let in ends: sessions and logins, also the one that this request comes with.",
		request:     NewPassword{Old: "correct horse battery staple", New: "four other words entirely"},
		failures: []job.Failure{
			{Code: job.InvalidRequest, Message: "old_password: is wrong", Hint: "an admin can make a link for a new password: borgfleet user link NAME"},
			{Code: job.TooMany, Message: "there were too many attempts to sign in", Hint: "wait a minute"},
		},
	}
	huma.Register(a.huma, password.huma(a), answerNothing(a, a.changePassword))
	whoAmI := operation{
		id: "who-am-i", method: http.MethodGet, path: "/whoami", tag: tagLogin, status: http.StatusOK,
		summary: "Tell who the caller is", answer: WhoAmI{Name: "operator:alice", Role: bus.Operator, From: "http 10.0.0.7"},
	}
	huma.Register(a.huma, whoAmI.huma(a), func(ctx context.Context, _ *struct{}) (*whoAmIOutput, error) {
		actor := fleet.ActorOf(ctx)
		return &whoAmIOutput{Body: WhoAmI{Name: actor.Name, Role: actor.Role, From: actor.From}}, nil
	})
}

func (a *API) login(ctx context.Context, in *newLoginInput) (*loginOutput, error) {
	actor, err := a.options.Logins.Login(ctx, fleet.ActorOf(ctx).From, in.Body.Name, secret.FromString(in.Body.Password))
	a.options.Metrics.CountLogin(err)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	record, token, err := a.options.Logins.LoginToken(ctx, actor, in.Body.TokenName)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &loginOutput{Body: Login{Token: string(token.Reveal()), ExpiresAt: record.ExpiresAt, Name: actor.Name, Role: actor.Role}}, nil
}

func (a *API) logout(_ context.Context, in *rawInput) error {
	return a.options.Logins.EndSession(in.writer, in.request)
}

func (a *API) changePassword(ctx context.Context, in *newPasswordInput) error {
	return a.options.Logins.ChangePassword(ctx, fleet.ActorOf(ctx), secret.FromString(in.Body.Old), secret.FromString(in.Body.New))
}

package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

type userInput struct {
	User string `path:"user" maxLength:"200" example:"alice" doc:"the person's name"`
}

type newUserInput struct{ Body NewUser }

// NewUser is a request to invite a person.
type NewUser struct {
	Name string   `json:"name" minLength:"1" maxLength:"200" doc:"how the person signs in"`
	Role bus.Role `json:"role" enum:"viewer,operator,admin" doc:"what the person may do"`
}

type newRoleInput struct {
	User string `path:"user" maxLength:"200" example:"alice" doc:"the person's name"`
	Body NewRole
}

// NewRole is a request to give a person another role.
type NewRole struct {
	Role bus.Role `json:"role" enum:"viewer,operator,admin" doc:"what the person may do from now on"`
}

type usersOutput struct{ Body UserList }

// UserList is all who may sign in.
type UserList struct {
	Users []fleet.User `json:"users"`
}

type userOutput struct{ Body fleet.User }

type addedUserOutput struct{ Body AddedUser }

// AddedUser is a new person, with the link to hand over.
type AddedUser struct {
	fleet.User
	SetupLink
}

type linkOutput struct{ Body SetupLink }

// SetupLink is a one-time link with which a person chooses a password. It is in
// this one answer and nowhere else.
type SetupLink struct {
	SetupURL       string    `json:"setup_url"`
	SetupExpiresAt time.Time `json:"setup_expires_at"`
}

func unknownUser() job.Failure {
	return job.Failure{Code: job.NotFound, Message: `there is no user "bob"`, Hint: "borgfleet user list shows them"}
}

func lastAdmin() job.Failure {
	return job.Failure{Code: job.Conflict, Message: "alice is the last admin", Hint: "make somebody else admin first"}
}

func exampleUser() fleet.User {
	seen := exampleTime()
	return fleet.User{Name: "alice", Role: bus.Admin, CreatedAt: exampleTime().AddDate(0, -3, 0), CreatedBy: fleet.Local, HasPassword: true, LastLogin: &seen}
}

func exampleLink() SetupLink {
	return SetupLink{SetupURL: "https://backup.example.net:8440/setup/4Q7Z...", SetupExpiresAt: exampleTime().AddDate(0, 0, 1)}
}

func (a *API) registerPeople() {
	list := operation{
		id: "list-users", method: http.MethodGet, path: "/users", tag: tagPeople, status: http.StatusOK, needs: bus.Admin,
		summary: "List who may sign in", answer: UserList{Users: []fleet.User{exampleUser()}},
	}
	huma.Register(a.huma, list.huma(a), a.listUsers)
	add := operation{
		id: "add-user", method: http.MethodPost, path: "/users", tag: tagPeople, status: http.StatusCreated, needs: bus.Admin,
		summary:     "Invite a person",
		description: "Hand the link over: with it the person chooses a password, once.",
		request:     NewUser{Name: "bob", Role: bus.Viewer},
		answer:      AddedUser{User: exampleUser(), SetupLink: exampleLink()},
		failures:    []job.Failure{{Code: job.Conflict, Message: `there is already a user "bob"`, Hint: "choose another name"}},
	}
	huma.Register(a.huma, add.huma(a), a.addUser)
	role := operation{
		id: "set-role", method: http.MethodPatch, path: "/users/{user}", tag: tagPeople, status: http.StatusOK, needs: bus.Admin,
		summary: "Give a person another role", description: "It holds at once, for sessions and tokens too.",
		request: NewRole{Role: bus.Operator}, answer: exampleUser(), failures: []job.Failure{unknownUser(), lastAdmin()},
	}
	huma.Register(a.huma, role.huma(a), a.setRole)
	link := operation{
		id: "new-user-link", method: http.MethodPost, path: "/users/{user}/link", tag: tagPeople, status: http.StatusOK, needs: bus.Admin,
		summary: "Make a new link for a person", description: "For a password that was forgotten, or a link that has expired. Earlier links end.",
		answer: exampleLink(), failures: []job.Failure{unknownUser()},
	}
	huma.Register(a.huma, link.huma(a), a.newLink)
	remove := operation{
		id: "remove-user", method: http.MethodDelete, path: "/users/{user}", tag: tagPeople, status: http.StatusNoContent, needs: bus.Admin,
		summary: "Remove a person", description: "Sessions and logins end at once.", failures: []job.Failure{unknownUser(), lastAdmin()},
	}
	huma.Register(a.huma, remove.huma(a), answerNothing(a, func(ctx context.Context, in *userInput) error {
		return a.options.People.RemoveUser(ctx, fleet.ActorOf(ctx), in.User)
	}))
}

// setupLink is where a link's secret is used.
func (a *API) setupLink(token secret.Value, expires time.Time) SetupLink {
	return SetupLink{SetupURL: a.options.URL + setupPrefix + string(token.Reveal()), SetupExpiresAt: expires}
}

func (a *API) listUsers(ctx context.Context, _ *struct{}) (*usersOutput, error) {
	users, err := a.options.People.Users(ctx)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &usersOutput{Body: UserList{Users: list(users)}}, nil
}

func (a *API) addUser(ctx context.Context, in *newUserInput) (*addedUserOutput, error) {
	user, link, expires, err := a.options.People.AddUser(ctx, fleet.ActorOf(ctx), in.Body.Name, in.Body.Role)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &addedUserOutput{Body: AddedUser{User: user, SetupLink: a.setupLink(link, expires)}}, nil
}

func (a *API) setRole(ctx context.Context, in *newRoleInput) (*userOutput, error) {
	user, err := a.options.People.SetRole(ctx, fleet.ActorOf(ctx), in.User, in.Body.Role)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &userOutput{Body: user}, nil
}

func (a *API) newLink(ctx context.Context, in *userInput) (*linkOutput, error) {
	link, expires, err := a.options.People.NewLink(ctx, fleet.ActorOf(ctx), in.User)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &linkOutput{Body: a.setupLink(link, expires)}, nil
}

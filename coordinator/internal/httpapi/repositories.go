package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

type repositoryInput struct {
	Repository string `path:"repo" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$" patternDescription:"a repository name: 1 to 63 of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit" example:"web1-main" doc:"the repository's name"`
}

type newRepositoryInput struct {
	Body NewRepository
}

// NewRepository is a request to add a repository.
type NewRepository struct {
	Name       string         `json:"name" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$" patternDescription:"a repository name: 1 to 63 of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit" doc:"what it is called from now on"`
	Location   string         `json:"location" maxLength:"4096" doc:"an absolute path on the host, ssh://user@host:port/path, or depot for one that the coordinator keeps itself"`
	Encryption job.Encryption `json:"encryption,omitempty" enum:"repokey-blake2,repokey,keyfile-blake2,keyfile,authenticated-blake2,authenticated,none" doc:"borg's encryption mode; left out: repokey-blake2"`
	Passphrase *string        `json:"passphrase,omitempty" maxLength:"4096" writeOnly:"true" doc:"kept encrypted, and never shown again"`
	Generate   bool           `json:"generate_passphrase,omitempty" doc:"make a strong passphrase; it is in the answer, once"`
	Custody    fleet.Custody  `json:"custody,omitempty" enum:"coordinator,hosts" doc:"who can read the passphrase; left out: coordinator"`

	Sealed map[string]fleet.SealedPassphrase `json:"sealed,omitempty" maxProperties:"500" doc:"with custody hosts: the passphrase for each host by name, as it was sealed to it"`
	Depot  *NewDepot                         `json:"depot,omitempty" doc:"with the location depot: what is agreed"`
}

type changeRepositoryInput struct {
	Repository string `path:"repo" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$" patternDescription:"a repository name: 1 to 63 of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit" example:"web1-main" doc:"the repository's name"`
	Body       ChangeRepository
}

// ChangeRepository is what can be changed of a repository: one of these.
type ChangeRepository struct {
	Location string                            `json:"location,omitempty" minLength:"1" maxLength:"4096" doc:"where it is now: an absolute path on the host, or ssh://user@host:port/path"`
	Sealed   map[string]fleet.SealedPassphrase `json:"sealed,omitempty" minProperties:"1" maxProperties:"500" doc:"with custody hosts: the passphrase for more hosts by name, or anew, as it was sealed to each"`
}

type repositoryOutput struct{ Body fleet.RepositoryView }

type addedRepositoryOutput struct {
	Location string `header:"Location" doc:"where the new repository is"`
	Body     AddedRepository
}

// AddedRepository is a new repository.
type AddedRepository struct {
	fleet.RepositoryView
	// GeneratedPassphrase is the one place where a passphrase leaves the
	// coordinator in clear: to the caller who asked for it to be made.
	GeneratedPassphrase string `json:"generated_passphrase,omitempty"`
}

type repositoriesOutput struct{ Body RepositoryPage }

// RepositoryPage is one page of repositories.
type RepositoryPage struct {
	Repositories []fleet.RepositoryView `json:"repositories"`
	Cursor       string                 `json:"cursor"`
}

func unknownRepository() job.Failure {
	return job.Failure{Code: job.UnknownRepository, Message: `there is no repository "web9-main"`, Hint: "borgfleet repo list shows the repositories"}
}

func (a *API) registerRepositories() {
	list := operation{
		id: "list-repositories", method: http.MethodGet, path: "/repositories", tag: tagRepositories, status: http.StatusOK,
		summary: "List repositories by name", answer: RepositoryPage{Repositories: []fleet.RepositoryView{exampleRepository()}},
	}
	huma.Register(a.huma, list.huma(a), a.listRepositories)
	get := operation{
		id: "get-repository", method: http.MethodGet, path: "/repositories/{repo}", tag: tagRepositories, status: http.StatusOK,
		summary: "Show a repository", answer: exampleRepository(), failures: []job.Failure{unknownRepository()},
	}
	huma.Register(a.huma, get.huma(a), a.getRepository)
	passphrase := "correct horse battery staple"
	add := operation{
		id: "add-repository", method: http.MethodPost, path: "/repositories", tag: tagRepositories, status: http.StatusCreated,
		summary: "Add a repository", needs: bus.Admin,
		description: "Nothing is made on disk: an init job does that. A passphrase that you give is never shown again; one that is made for you is in this answer and nowhere else, so keep it. With custody hosts the passphrase is sealed where it is typed in: to seal_key of each host, as a NATS xkey box, so that the coordinator stores what it cannot read.",
		request:     NewRepository{Name: "web1-main", Location: "ssh://backup@store.example.net/srv/borg/web1", Passphrase: &passphrase},
		answer:      AddedRepository{RepositoryView: exampleRepository()},
		failures:    []job.Failure{{Code: job.Conflict, Message: `there is already a repository "web1-main"`, Hint: "choose another name"}},
	}
	huma.Register(a.huma, add.huma(a), a.addRepository)
	change := operation{
		id: "change-repository", method: http.MethodPatch, path: "/repositories/{repo}", tag: tagRepositories, status: http.StatusOK,
		summary: "Say where a repository is now, or give more hosts its passphrase", needs: bus.Admin,
		description: "One of both at a time. A location is changed after the repository was moved on disk, and while no job of it is open; its passphrase stays. Each host's borg then asks whether that is right: a verify job with accept_moved says so. A passphrase is sealed with custody hosts only; hosts that are not named keep what they have.",
		request:     ChangeRepository{Location: "ssh://backup@new.example.net/srv/borg/web1"}, answer: exampleRepository(),
		failures: []job.Failure{unknownRepository(),
			{Code: job.Conflict, Message: "repository web1-main has jobs that are not over", Hint: "cancel them, or wait until they are over"}},
	}
	huma.Register(a.huma, change.huma(a), a.changeRepository)
	remove := operation{
		id: "remove-repository", method: http.MethodDelete, path: "/repositories/{repo}", tag: tagRepositories, status: http.StatusNoContent,
		summary: "Forget a repository", needs: bus.Admin,
		description: "A repository with open jobs is not removed. What is on its disk stays; its passphrase is forgotten.",
		failures:    []job.Failure{unknownRepository(), {Code: job.Conflict, Message: `repository "web1-main" has open jobs`, Hint: "cancel them, or wait for them"}},
	}
	huma.Register(a.huma, remove.huma(a), answerNothing(a, a.removeRepository))
}

func (a *API) listRepositories(ctx context.Context, in *PageQuery) (*repositoriesOutput, error) {
	repositories, err := a.options.Repositories.Repositories(ctx)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	page, next := pageOf(repositories, func(r fleet.RepositoryView) string { return r.Name }, in.Limit, in.Cursor)
	return &repositoriesOutput{Body: RepositoryPage{Repositories: completeRepositories(page), Cursor: next}}, nil
}

func (a *API) getRepository(ctx context.Context, in *repositoryInput) (*repositoryOutput, error) {
	repository, err := a.options.Repositories.Repository(ctx, in.Repository)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &repositoryOutput{Body: completeRepository(repository)}, nil
}

func (a *API) addRepository(ctx context.Context, in *newRepositoryInput) (*addedRepositoryOutput, error) {
	request := fleet.NewRepository{
		Name: in.Body.Name, Location: in.Body.Location, Encryption: in.Body.Encryption, Generate: in.Body.Generate,
		Custody: in.Body.Custody, Sealed: in.Body.Sealed,
	}
	request.Passphrase = secretOf(in.Body.Passphrase)
	if depot := in.Body.Depot; depot != nil {
		request.Depot = &fleet.Depot{Quota: depot.Quota, AppendOnly: depot.AppendOnly, Hosts: depot.Hosts}
	}
	repository, generated, err := a.options.Repositories.AddRepository(ctx, fleet.ActorOf(ctx), request)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &addedRepositoryOutput{
		Location: Prefix + "/repositories/" + repository.Name,
		Body:     AddedRepository{RepositoryView: completeRepository(repository), GeneratedPassphrase: string(generated.Reveal())},
	}, nil
}

func (a *API) changeRepository(ctx context.Context, in *changeRepositoryInput) (*repositoryOutput, error) {
	var repository fleet.RepositoryView
	var err error
	by, location, sealed := fleet.ActorOf(ctx), in.Body.Location, in.Body.Sealed
	switch {
	case (location == "") == (len(sealed) == 0):
		err = job.Invalid("body", "names neither location nor sealed, or both").WithHint("give one of them")
	case location != "":
		repository, err = a.options.Repositories.MoveRepository(ctx, by, in.Repository, location)
	default:
		repository, err = a.options.Repositories.SealPassphrase(ctx, by, in.Repository, sealed)
	}
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &repositoryOutput{Body: completeRepository(repository)}, nil
}

func (a *API) removeRepository(ctx context.Context, in *repositoryInput) error {
	return a.options.Repositories.RemoveRepository(ctx, fleet.ActorOf(ctx), in.Repository)
}

package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// NewDepot is what is agreed for a new repository in the depot.
type NewDepot struct {
	Quota      int64    `json:"quota,omitempty" minimum:"0" doc:"bytes that it may take; left out: no quota"`
	AppendOnly bool     `json:"append_only,omitempty" doc:"hosts may add, and never delete"`
	Hosts      []string `json:"hosts,omitempty" maxItems:"1000" doc:"who may use it; * is everybody; left out: nobody yet"`
}

// NewReason says why something is done.
type NewReason struct {
	Reason string `json:"reason" minLength:"1" maxLength:"1000" doc:"why, for the audit"`
}

// NewRollback says how far a repository is rolled back.
type NewRollback struct {
	Transaction int    `json:"transaction" minimum:"0" doc:"the last one that stays"`
	Reason      string `json:"reason" minLength:"1" maxLength:"1000" doc:"why, for the audit"`
}

// RepositoryPath is the part of the path that names a repository. It is exported
// because huma passes over embedded types that are not.
type RepositoryPath struct {
	Repository string `path:"repo" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$" patternDescription:"a repository name: 1 to 63 of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit" example:"web1-main" doc:"the repository's name"`
}

type admissionInput struct {
	RepositoryPath
	Host string `path:"host" pattern:"^([a-z0-9-]{1,63}|\\*)$" patternDescription:"a host name: 1 to 63 of a-z, 0-9 and -; or * for all" example:"web1" doc:"the host's name, or * for all"`
}

type unfreezeInput struct {
	RepositoryPath
	Preference
	Body NewReason
}

type rollbackInput struct {
	RepositoryPath
	Body NewRollback
}

type depotOutput struct{ Body fleet.DepotView }

type transactionsOutput struct{ Body TransactionList }

// TransactionList is the changes of a repository, oldest first.
type TransactionList struct {
	Transactions []fleet.Transaction `json:"transactions"`
}

func notInDepot() job.Failure {
	return job.Failure{Code: job.Conflict, Message: "repository web1-main is not in the depot", Hint: "who may use it is for the server at ssh://backup@store.example.net/srv/borg/web1 to say"}
}

func (a *API) registerDepot() {
	show := operation{
		id: "get-depot", method: http.MethodGet, path: "/depot", tag: tagRepositories, status: http.StatusOK,
		summary: "Show the depot", description: "Where the coordinator keeps repositories itself, how it proves itself to hosts, and what went there and back since it was started.",
		answer: exampleDepot(),
	}
	huma.Register(a.huma, show.huma(a), a.getDepot)
	for _, op := range []struct {
		id, method, summary string
		do                  func(context.Context, *admissionInput) (*repositoryOutput, error)
	}{
		{"allow-host", http.MethodPut, "Let a host use a repository in the depot", a.allowHost},
		{"deny-host", http.MethodDelete, "No longer let a host use a repository in the depot", a.denyHost},
	} {
		use := operation{
			id: op.id, method: op.method, path: "/repositories/{repo}/hosts/{host}", tag: tagRepositories, status: http.StatusOK,
			summary: op.summary, needs: bus.Admin, answer: exampleDepotRepository(),
			failures: []job.Failure{unknownRepository(), unknownHost(), notInDepot()},
		}
		huma.Register(a.huma, use.huma(a), op.do)
	}
	a.registerFrozen()
}

// registerFrozen registers what helps when a repository is not as it should be.
func (a *API) registerFrozen() {
	transactions := operation{
		id: "list-transactions", method: http.MethodGet, path: "/repositories/{repo}/transactions", tag: tagRepositories, status: http.StatusOK,
		summary: "List the changes of a repository in the depot, oldest first", answer: TransactionList{Transactions: []fleet.Transaction{{Number: 41, At: exampleTime()}}},
		failures: []job.Failure{unknownRepository(), notInDepot()},
	}
	huma.Register(a.huma, transactions.huma(a), a.listTransactions)
	unfreeze := operation{
		id: "unfreeze-repository", method: http.MethodPost, path: "/repositories/{repo}/unfreeze", tag: tagRepositories, status: http.StatusOK,
		summary: "Take a frozen repository as it is", needs: bus.Admin, request: NewReason{Reason: "the archives were deleted by hand, and that was right"}, answer: exampleUnfreezing(),
		description: "A repository in the depot is frozen when its archives are not those that were recorded: nothing is deleted from it any more. This takes those that are there now as the right ones: it runs a job of the kind list, and waits for it.",
		failures:    []job.Failure{unknownRepository(), {Code: job.Conflict, Message: "repository web1-main is not frozen"}},
	}
	huma.Register(a.huma, unfreeze.waits(a), a.unfreeze)
	rollback := operation{
		id: "rollback-repository", method: http.MethodPost, path: "/repositories/{repo}/rollback", tag: tagRepositories, status: http.StatusOK,
		summary: "Undo the newest changes of a frozen repository", needs: bus.Admin, request: NewRollback{Transaction: 41, Reason: "web1 was broken into"}, answer: exampleDepotRepository(),
		description: "What came after the transaction is put aside beside the repository, and not deleted; archives that were made since are gone from it. The repository stays frozen until it is unfrozen.",
		failures:    []job.Failure{unknownRepository(), {Code: job.Conflict, Message: "repository web1-main has jobs that are not over", Hint: "cancel them, or wait until they are over"}},
	}
	huma.Register(a.huma, rollback.huma(a), a.rollback)
}

func (a *API) getDepot(ctx context.Context, _ *struct{}) (*depotOutput, error) {
	depot, err := a.options.Depot.Depot(ctx)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	depot.Uses = list(depot.Uses)
	return &depotOutput{Body: depot}, nil
}

func (a *API) allowHost(ctx context.Context, in *admissionInput) (*repositoryOutput, error) {
	return a.repositoryAnswer(ctx)(a.options.Repositories.Allow(ctx, fleet.ActorOf(ctx), in.Repository, in.Host))
}

func (a *API) denyHost(ctx context.Context, in *admissionInput) (*repositoryOutput, error) {
	return a.repositoryAnswer(ctx)(a.options.Repositories.Deny(ctx, fleet.ActorOf(ctx), in.Repository, in.Host))
}

func (a *API) listTransactions(ctx context.Context, in *RepositoryPath) (*transactionsOutput, error) {
	transactions, err := a.options.Depot.Transactions(ctx, in.Repository)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &transactionsOutput{Body: TransactionList{Transactions: list(transactions)}}, nil
}

func (a *API) unfreeze(ctx context.Context, in *unfreezeInput) (*waitedOutput, error) {
	submitted, err := a.options.Depot.Unfreeze(ctx, fleet.ActorOf(ctx), in.Repository, in.Body.Reason)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return a.answer(ctx, submitted, in.Preference, waiting{body: func(done job.Job) (any, error) { return completeJob(done), nil }})
}

func (a *API) rollback(ctx context.Context, in *rollbackInput) (*repositoryOutput, error) {
	err := a.options.Depot.Rollback(ctx, fleet.ActorOf(ctx), in.Repository, in.Body.Transaction, in.Body.Reason)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return a.getRepository(ctx, &repositoryInput{Repository: in.Repository})
}

// repositoryAnswer answers with a repository, or why there is none.
func (a *API) repositoryAnswer(ctx context.Context) func(fleet.RepositoryView, error) (*repositoryOutput, error) {
	return func(repository fleet.RepositoryView, err error) (*repositoryOutput, error) {
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &repositoryOutput{Body: completeRepository(repository)}, nil
	}
}

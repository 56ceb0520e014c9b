package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file has what an admin does about a repository in the depot that is not as
// it should be.

// transactionsPerPage bounds the list of a repository's changes.
const transactionsPerPage = 100

// transactionsPage is the data of the list of a repository's changes.
type transactionsPage struct {
	repositoryRow
	commands
	reader
	Crumbs       []crumb
	Transactions []transactionRow // newest first
	Total        int
	Next, First  string // addresses of other pages; empty: none
}

// transactionRow is one change of a repository.
type transactionRow struct {
	fleet.Transaction
	Newest bool
}

// transactions builds the page of a repository's changes.
func (s *site) transactions(ctx context.Context, name string, query url.Values, c commands) (*view, error) {
	r, err := s.Repositories.Repository(ctx, name)
	if err != nil {
		return nil, err
	}
	list, err := s.Depot.Transactions(ctx, name)
	if err != nil {
		return nil, err
	}
	page := &transactionsPage{repositoryRow: repositoryRow{s.moment(), r}, commands: c, reader: readerOf(ctx), Total: len(list)}
	page.Crumbs = []crumb{{"Repositories", "/repositories"}, {name, repositoryURL(name)}, {Label: "transactions"}}
	before := len(list)
	if text := query.Get("before"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, job.Invalid("before", "%.40q is not the number of a transaction", text)
		}
		before, _ = slices.BinarySearchFunc(list, n, func(t fleet.Transaction, n int) int { return t.Number - n })
		page.First = transactionsURL(name)
	}
	from := max(0, before-transactionsPerPage)
	for i := before - 1; i >= from; i-- {
		page.Transactions = append(page.Transactions, transactionRow{Transaction: list[i], Newest: i == len(list)-1})
	}
	if from > 0 {
		page.Next = withQuery(transactionsURL(name), "before", strconv.Itoa(list[from].Number))
	}
	return &view{Title: "Transactions of " + name, Nav: "/repositories", Body: "transactions", Data: page}, nil
}

func transactionsURL(repository string) string { return repositoryURL(repository) + "/transactions" }

// RollbackURL asks whether what came after a transaction shall be undone.
func (p *transactionsPage) RollbackURL(number int) string {
	return withQuery(repositoryURL(p.Name)+"/rollback", "to", strconv.Itoa(number))
}

// ListTransactions prints the changes of a repository.
func (c commands) ListTransactions(name string) string {
	return c.borgfleet("repo", "transactions", name)
}

// Unfreeze takes a repository as it is.
func (c commands) Unfreeze(name string) string {
	return c.borgfleet("repo", "unfreeze", name, "--reason", "…")
}

// reasonField asks why; the audit keeps it.
func reasonField(r *http.Request) field {
	return field{Name: "reason", Label: "Why", Kind: "text", Value: strings.TrimSpace(r.FormValue("reason")), Needed: true, Help: "The audit keeps it."}
}

// inDepot reads a repository that has to be in the depot.
func (s *site) inDepot(r *http.Request) (fleet.RepositoryView, error) {
	repository, err := s.Repositories.Repository(r.Context(), r.PathValue("repository"))
	if err == nil && repository.Depot == nil {
		err = job.Fail(job.Conflict, "repository %s is not in the depot", repository.Name)
	}
	return repository, err
}

// confirmUnfreeze is the page before a frozen repository is taken as it is.
func (s *site) confirmUnfreeze(r *http.Request) (*confirmation, error) {
	repository, err := s.inDepot(r)
	if err != nil {
		return nil, err
	}
	frozen := repository.Depot.Frozen
	if frozen == nil {
		return nil, job.Fail(job.Conflict, "repository %s is not frozen", repository.Name)
	}
	reason := reasonField(r)
	page := &confirmation{
		Title: "Unfreeze " + repository.Name, Action: "unfreeze", Nav: "/repositories", Back: repositoryURL(repository.Name), BackTo: repository.Name,
		Button: "Unfreeze " + repository.Name, Fields: []field{reason}, Names: frozen.Missing, after: repositoryURL(repository.Name),
		Happens: []string{
			"What is in " + repository.Name + " now counts as right: its archives are listed, and the list is recorded.",
			"Prune, delete, compact and repair work again, and make final what a host may have done to it. Until then it can be rolled back.",
		},
		Command: s.commandsFor(r).borgfleet("repo", "unfreeze", repository.Name, "--reason", orReason(reason.Value)),
	}
	if len(frozen.Missing) > 0 {
		page.Happens = append(page.Happens, "These archives are given up:")
	}
	page.do = func(ctx context.Context, by fleet.Actor) error {
		if reason.Value == "" {
			return job.Invalid("reason", "is empty")
		}
		_, err := s.Depot.Unfreeze(ctx, by, repository.Name, reason.Value)
		return err
	}
	return page, nil
}

// confirmRollback is the page before a repository is put back. To which
// transaction is in its address.
func (s *site) confirmRollback(r *http.Request) (*confirmation, error) {
	repository, err := s.inDepot(r)
	if err != nil {
		return nil, err
	}
	if repository.Depot.Frozen == nil {
		return nil, job.Fail(job.Conflict, "repository %s is not frozen", repository.Name).WithHint("only what is known to be wrong is rolled back")
	}
	to, err := strconv.Atoi(r.URL.Query().Get("to"))
	if err != nil {
		return nil, job.Invalid("to", "%.40q is not the number of a transaction", r.URL.Query().Get("to"))
	}
	list, err := s.Depot.Transactions(r.Context(), repository.Name)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(list, func(t fleet.Transaction) bool { return t.Number == to })
	if at < 0 {
		return nil, job.Fail(job.NotFound, "repository %s has no transaction %d", repository.Name, to)
	}
	reason := reasonField(r)
	name := repository.Name
	page := &confirmation{
		Title: "Roll " + name + " back to transaction " + strconv.Itoa(to), Action: "roll back", Nav: "/repositories", Back: transactionsURL(name), BackTo: "transactions of " + name,
		Ask: name, Button: "Roll " + name + " back", Fields: []field{reason}, after: repositoryURL(name),
		Happens: []string{
			undone(list[at+1:]),
			"Hosts that use the repository are cut off meanwhile. A host that has seen what is undone refuses the repository afterwards: once it is in good hands, verify it with the repository, and tick that it was rolled back and that this is right.",
			"It stays frozen until an admin unfreezes it.",
		},
		Command: s.commandsFor(r).borgfleet("repo", "rollback", name, "--to", strconv.Itoa(to), "--reason", orReason(reason.Value)),
	}
	page.do = func(ctx context.Context, by fleet.Actor) error {
		if reason.Value == "" {
			return job.Invalid("reason", "is empty")
		}
		return s.Depot.Rollback(ctx, by, name, to, reason.Value)
	}
	return page, nil
}

// undone says what a rollback takes away.
func undone(later []fleet.Transaction) string {
	const kept = " The files are moved beside the repository, and none is deleted."
	if len(later) == 0 {
		return "Nothing came after it: only borg's index is made anew." + kept
	}
	first, last := later[0].At.UTC().Format("2 Jan 2006 15:04 UTC"), later[len(later)-1].At.UTC().Format("2 Jan 2006 15:04 UTC")
	if len(later) == 1 {
		return "The one change after it, of " + first + ", is undone: archives that were made in it are gone, and those that were deleted in it are back." + kept
	}
	return "The " + strconv.Itoa(len(later)) + " changes after it, of " + first + " to " + last + ", are undone: archives that were made in them are gone, and those that were deleted in them are back." + kept
}

func orReason(reason string) string {
	if reason == "" {
		return "…"
	}
	return reason
}

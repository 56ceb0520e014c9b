package web

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// repositoriesPage is the data of the list of repositories.
type repositoriesPage struct {
	clock
	commands
	reader
	Repositories []repositoryRow
	Busy         int
}

func (s *site) repositories(ctx context.Context, c commands) (*view, error) {
	list, err := s.Repositories.Repositories(ctx)
	if err != nil {
		return nil, wrap("repositories", err)
	}
	page := &repositoriesPage{clock: s.moment(), commands: c, reader: readerOf(ctx)}
	for _, r := range list {
		page.Repositories = append(page.Repositories, repositoryRow{page.clock, r})
		if r.Busy != "" {
			page.Busy++
		}
	}
	return &view{
		Title: "Repositories", Nav: "/repositories", Body: "repositories", Data: page,
		Live: []string{"repositories-summary", "repository-list"}, Cares: caresForState,
	}, nil
}

// repositoryPage is the data of one repository's page.
type repositoryPage struct {
	repositoryRow
	commands
	reader
	Running []jobRow
	Jobs    []jobRow
	More    bool
	Form    *careForm
}

// repository builds the page of a repository. refused is the form as it was
// sent, when it could not be accepted.
func (s *site) repository(ctx context.Context, name string, c commands, refused *careForm) (*view, error) {
	r, err := s.Repositories.Repository(ctx, name)
	if err != nil {
		return nil, err
	}
	now := s.moment()
	page := &repositoryPage{repositoryRow: repositoryRow{now, r}, commands: c, reader: readerOf(ctx), Form: refused}
	jobs, err := s.Jobs.Jobs(ctx, job.Filter{Repository: name, Limit: jobsOnPage})
	if err != nil {
		return nil, wrap("jobs of "+name, err)
	}
	page.Jobs, page.More = now.jobs(jobs.Jobs), jobs.Cursor != ""
	if page.Running, err = s.running(ctx, now, job.Filter{Repository: name}); err != nil {
		return nil, err
	}
	return &view{
		Title: name, Nav: "/repositories", Body: "repository", Data: page,
		Live:     []string{"repository-head", "repository-facts", "repository-running", "repository-jobs"},
		Cares:    func(u feed.Update) bool { return caresForState(u) && (u.Repository == name || u.Type == feed.Missed) },
		Progress: runningProgress("repository-running", now, page.Running),
		Fill: func(ctx context.Context) error {
			if !page.Operates() {
				return nil
			}
			form, err := s.fillCareForm(ctx, r, page.Form)
			page.Form = form
			return err
		},
	}, nil
}

// KeyAtRisk reports whether borg's key was never exported: when the
// repository's own copy is lost, so are its archives.
func (r repositoryRow) KeyAtRisk() bool { return r.HasKey && r.KeyExportedAt == nil }

// ByHosts reports whether only hosts can read the passphrase.
func (r repositoryRow) ByHosts() bool { return r.Custody == fleet.CustodyHosts }

// KeyHost is a host that reaches the repository, or an example.
func (r repositoryRow) KeyHost() string {
	switch {
	case r.LastBackup != nil:
		return r.LastBackup.Host
	case len(r.SealedFor) > 0:
		return r.SealedFor[0]
	}
	return "HOST"
}

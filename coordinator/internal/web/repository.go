package web

import (
	"context"
	"time"

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
	Depot        *fleet.DepotView // nil: there is none
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
	if page.Depot, err = s.depotView(ctx); err != nil {
		return nil, err
	}
	return &view{
		Title: "Repositories", Nav: "/repositories", Body: "repositories", Data: page,
		Live: []string{"repositories-summary", "repository-list"}, Cares: caresForState,
	}, nil
}

// repositoryPage is the data of one repository's page.
type repositoryPage struct {
	clock
	repositoryRow
	commands
	reader
	archiveTable
	KnownArchives int // in all
	AsOf          *time.Time
	Mounts        []mountRow
	Running       []jobRow
	Jobs          []jobRow
	More          bool
	Form          *careForm
	Store         *depotPart   // nil: the coordinator does not keep it
	Refused       *job.Failure // why the last action was not done
}

// care is a form about the repository, with its name on a button.
type care struct{ Label, URL, About string }

// Care are the forms that the reader may send.
func (p *repositoryPage) Care() []care {
	own := repositoryURL(p.Name)
	list := []care{
		{"Check…", own + "/check", "Is everything readable? Quick, full, or every chunk."},
		{"Prune…", own + "/prune", "Delete old archives by rules; the preview shows which."},
		{"Compact…", own + "/compact", "Free the space of deleted archives."},
		{"Verify…", own + "/verify", "Can a host reach and read it?"},
		{"Mount…", own + "/mount", "Look into all archives in a directory of a host."},
	}
	if p.Administers() {
		list = append(list, care{"Repair…", own + "/repair", "Mend what a check found damaged. What is lost is lost."})
	}
	return list
}

// ListCommand asks borg for the archives.
func (p *repositoryPage) ListCommand() string {
	return p.borgfleet("archive", "list", p.Name, "--host", p.KeyHost())
}

// repository builds the page of a repository. refused is the form as it was
// sent, when it could not be accepted.
func (s *site) repository(ctx context.Context, name string, c commands, refused *careForm) (*view, error) {
	r, err := s.Repositories.Repository(ctx, name)
	if err != nil {
		return nil, err
	}
	now := s.moment()
	page := &repositoryPage{repositoryRow: repositoryRow{now, r}, clock: now, commands: c, reader: readerOf(ctx), Form: refused}
	if err := s.newest(ctx, page); err != nil {
		return nil, err
	}
	if page.Store, err = s.depot(ctx, r); err != nil {
		return nil, err
	}
	jobs, err := s.Jobs.Jobs(ctx, job.Filter{Repository: name, Limit: jobsOnPage})
	if err != nil {
		return nil, wrap("jobs of "+name, err)
	}
	page.Jobs, page.More = now.jobs(jobs.Jobs), jobs.Cursor != ""
	if page.Running, err = s.running(ctx, now, job.Filter{Repository: name}); err != nil {
		return nil, err
	}
	page.Running = withoutMounts(page.Running)
	return &view{
		Title: name, Nav: "/repositories", Body: "repository", Data: page,
		Live:     []string{"repository-head", "repository-frozen", "repository-facts", "repository-depot", "mounts", "repository-running", "repository-archives", "repository-jobs"},
		Cares:    func(u feed.Update) bool { return caresForState(u) && (u.Repository == name || u.Type == feed.Missed) },
		Progress: mountProgress(page.Mounts, runningProgress("repository-running", now, page.Running)),
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

// newest reads the newest archives of a repository, and what is mounted of it.
func (s *site) newest(ctx context.Context, page *repositoryPage) error {
	found, err := s.Archives.Archives(ctx, fleet.ArchiveFilter{Repository: page.Name, Limit: newestArchives})
	if err != nil {
		return wrap("archives of "+page.Name, err)
	}
	page.archiveTable = archiveTable{clock: page.clock, Repository: page.Name, Archives: page.clock.archives(found.Archives, s.Catalog)}
	page.KnownArchives, page.AsOf = found.Total, found.AsOf
	page.Mounts, err = s.mounts(ctx, job.Filter{Repository: page.Name}, "")
	return err
}

// KeyAtRisk reports whether borg's key was never exported: when the
// repository's own copy is lost, so are its archives.
func (r repositoryRow) KeyAtRisk() bool { return r.HasKey && r.KeyExportedAt == nil }

// ByHosts reports whether only hosts can read the passphrase.
func (r repositoryRow) ByHosts() bool { return r.Custody == fleet.CustodyHosts }

// KeyHost is a host that reaches the repository, or an example.
func (r repositoryRow) KeyHost() string {
	switch {
	case r.Kept():
		return fleet.LocalHost
	case r.LastBackup != nil:
		return r.LastBackup.Host
	case len(r.SealedFor) > 0:
		return r.SealedFor[0]
	}
	return "HOST"
}

package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Archives knows the archives of the repositories, without when they were
// listed. It is safe for concurrent use; an error that is the caller's fault is a
// *job.Failure.
type Archives interface {
	Archives(ctx context.Context, filter fleet.ArchiveFilter) (fleet.ArchivePage, error)
	Archive(ctx context.Context, repository, name string) (fleet.Archive, error)
}

// Catalog knows the files of the archives that were listed. It is safe for
// concurrent use; an error that is the caller's fault is a *job.Failure, with the
// code not_listed for an archive that was not.
type Catalog interface {
	Files(ctx context.Context, query fleet.FilesQuery) (fleet.FilePage, error)
	Find(ctx context.Context, query fleet.FindQuery) (fleet.MatchPage, error)
	History(ctx context.Context, repository, path string) (fleet.PathHistory, error)
	// ListedAt returns when the archives of a repository were listed, by name.
	ListedAt(repository string) map[string]time.Time
}

// ArchivesPath is the part of the path that names a repository. It is exported,
// as others here, because huma passes over embedded types that are not.
type ArchivesPath struct {
	Repository string `path:"repo" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$" patternDescription:"a repository name: 1 to 63 of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit" example:"web1-main" doc:"the repository's name"`
}

// ArchivePath is the part of the path that names an archive.
type ArchivePath struct {
	ArchivesPath
	Archive string `path:"archive" maxLength:"200" example:"web1-2026-11-22T02:00:00" doc:"the archive's name"`
}

// FilesPageQuery is what lists of files take.
type FilesPageQuery struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"200" doc:"how many at most"`
	Cursor string `query:"cursor" maxLength:"16384" doc:"from the page before, for the next one"`
}

type archivesInput struct {
	ArchivesPath
	PageQuery
	Host   string    `query:"host" maxLength:"200" doc:"only those that this host made"`
	Prefix string    `query:"prefix" maxLength:"200" doc:"only those whose name begins so"`
	Glob   string    `query:"glob" maxLength:"200" doc:"only those whose name matches: * ? [abc]"`
	After  time.Time `query:"after" doc:"only those begun then or later (RFC 3339)"`
	Before time.Time `query:"before" doc:"only those begun before (RFC 3339)"`
}

type filesInput struct {
	ArchivePath
	FilesPageQuery
	Path string `query:"path" maxLength:"4096" doc:"a directory as the archive has it; left out: the top"`
}

type findInput struct {
	FilesPageQuery
	Name       string `query:"name" required:"true" minLength:"1" maxLength:"4096" doc:"part of a file's name, in small or capital letters; with * or ? a glob over the whole name; with a slash it is looked for in the path"`
	Repository string `query:"repository" maxLength:"200" doc:"only in this repository"`
	Archive    string `query:"archive" maxLength:"200" doc:"only in this archive"`
}

type historyInput struct {
	ArchivesPath
	Path string `query:"path" required:"true" minLength:"1" maxLength:"4096" doc:"a file or a directory as archives have it"`
}

type (
	archivesOutput struct{ Body fleet.ArchivePage }
	archiveOutput  struct{ Body fleet.Archive }
	filesOutput    struct{ Body fleet.FilePage }
	findOutput     struct{ Body fleet.MatchPage }
	historyOutput  struct{ Body fleet.PathHistory }
)

func unknownArchive() job.Failure {
	return *fleet.UnknownArchive("web1-main", "web1-2026-11-22T02:00:00")
}

func notListed() job.Failure { return *fleet.NotListed("web1-main", "web1-2026-11-22T02:00:00") }

func pathMissing() job.Failure {
	return job.Failure{Code: job.PathMissing, Message: `the archive has no path "srv/none"`, Hint: "give it as the archive has it, without a leading slash"}
}

func (a *API) registerArchives() {
	all := operation{
		id: "list-archives", method: http.MethodGet, path: "/repositories/{repo}/archives", tag: tagArchives, status: http.StatusOK,
		summary: "List the known archives of a repository, newest first", answer: exampleArchives(), failures: []job.Failure{unknownRepository()},
		description: "Known are those that jobs made, and those that borg named in a list. as_of says when it last named all; a job of the kind list does so.",
	}
	huma.Register(a.huma, all.huma(a), a.listArchives)
	one := operation{
		id: "get-archive", method: http.MethodGet, path: "/repositories/{repo}/archives/{archive}", tag: tagArchives, status: http.StatusOK,
		summary: "Show an archive", answer: exampleArchive(), failures: []job.Failure{unknownRepository(), unknownArchive()},
	}
	huma.Register(a.huma, one.huma(a), a.getArchive)
	files := operation{
		id: "list-files", method: http.MethodGet, path: "/repositories/{repo}/archives/{archive}/files", tag: tagArchives, status: http.StatusOK,
		summary: "List a directory of an archive", answer: exampleFiles(), failures: []job.Failure{notListed(), pathMissing()},
		description: "Answered from the list of the archive's files that is kept here. Where there is none, a job of the kind list with the archive's name in its spec makes it.",
	}
	huma.Register(a.huma, files.huma(a), a.listFiles)
	find := operation{
		id: "find-files", method: http.MethodGet, path: "/find", tag: tagArchives, status: http.StatusOK,
		summary: "Look for files by name in listed archives", answer: exampleMatches(), failures: []job.Failure{notListed()},
		description: "In one archive, in those of a repository, or in all of the fleet; newest archives first. A page may be short, or empty, before the last one.",
	}
	huma.Register(a.huma, find.huma(a), a.findFiles)
	history := operation{
		id: "get-history", method: http.MethodGet, path: "/repositories/{repo}/history", tag: tagArchives, status: http.StatusOK,
		summary: "Follow one path through the listed archives of a repository", answer: exampleHistory(), failures: []job.Failure{unknownRepository()},
	}
	huma.Register(a.huma, history.huma(a), a.getHistory)
	a.registerDiff()
	a.registerVerify()
	a.registerDownload()
}

func (a *API) listArchives(ctx context.Context, in *archivesInput) (*archivesOutput, error) {
	page, err := a.options.Archives.Archives(ctx, fleet.ArchiveFilter{
		Repository: in.Repository, Host: in.Host, Prefix: in.Prefix, Glob: in.Glob, After: in.After, Before: in.Before,
		Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	page.Archives = fleet.WithListedAt(page.Archives, a.options.Catalog.ListedAt(in.Repository))
	return &archivesOutput{Body: page}, nil
}

func (a *API) getArchive(ctx context.Context, in *ArchivePath) (*archiveOutput, error) {
	found, err := a.options.Archives.Archive(ctx, in.Repository, in.Archive)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &archiveOutput{Body: fleet.WithListedAt([]fleet.Archive{found}, a.options.Catalog.ListedAt(in.Repository))[0]}, nil
}

func (a *API) listFiles(ctx context.Context, in *filesInput) (*filesOutput, error) {
	page, err := a.options.Catalog.Files(ctx, fleet.FilesQuery{
		Repository: in.Repository, Archive: in.Archive, Path: in.Path, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	page.Files = list(page.Files)
	return &filesOutput{Body: page}, nil
}

func (a *API) findFiles(ctx context.Context, in *findInput) (*findOutput, error) {
	page, err := a.options.Catalog.Find(ctx, fleet.FindQuery{
		Repository: in.Repository, Archive: in.Archive, Name: in.Name, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	page.Matches = list(page.Matches)
	return &findOutput{Body: page}, nil
}

func (a *API) getHistory(ctx context.Context, in *historyInput) (*historyOutput, error) {
	history, err := a.options.Catalog.History(ctx, in.Repository, in.Path)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	history.Versions = list(history.Versions)
	return &historyOutput{Body: history}, nil
}

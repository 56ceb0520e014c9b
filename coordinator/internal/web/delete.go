package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// confirmDelete is the page before archives are deleted. Which ones is in its
// address.
func (s *site) confirmDelete(r *http.Request) (*confirmation, error) {
	repository, query := r.PathValue("repository"), r.URL.Query()
	names := query["archive"]
	if len(names) == 0 {
		return nil, job.Fail(job.InvalidRequest, "no archive is chosen").WithHint("Go back, and tick those that shall be deleted.")
	}
	chosen, makers, err := s.chosen(r.Context(), repository, names)
	if err != nil {
		return nil, err
	}
	v := &typed{Values: url.Values{"host": {r.FormValue("host")}}}
	host, name, err := s.hostField(r.Context(), v, task{repository, job.Delete}, append(makers, s.lastHost(r.Context(), repository))...)
	if err != nil {
		return nil, err
	}
	spec := job.DeleteSpec{Archives: names}
	page := &confirmation{
		Title: "Delete " + human.Plural(len(names), "archive") + " of " + repository, Action: "delete", Nav: "/repositories",
		Back: archivesURL(repository), BackTo: "archives in " + repository, Ask: repository, Button: "Delete " + human.Plural(len(names), "archive"),
		Archives: chosen, Fields: []field{host},
		Happens: []string{
			"Of each of these archives, every file in it is gone for ever from " + repository + ". Files that are in other archives too stay there.",
			"The space is free after the repository is compacted.",
		},
		Command: s.commandsFor(r).borgfleet(withPaths([]string{"archive", "delete", repository, "--host", orHOST(name)}, names...)...),
		Post:    s.commandsFor(r).Post(job.Request{Host: orHOST(name), Kind: job.Delete, Repository: repository, Spec: encode(spec)}),
	}
	if len(names) == 1 {
		page.Title, page.Ask, page.Back, page.BackTo = "Delete "+names[0], names[0], archiveURL(repository, names[0]), names[0]
		page.Happens[0] = "Every file in this archive is gone for ever from " + repository + ". Files that are in other archives too stay there."
	}
	page.do = func(ctx context.Context, by fleet.Actor) error {
		if err := spec.Validate(); err != nil {
			return failures(err)[0]
		}
		j, err := s.Actions.Submit(ctx, by, job.Request{Host: name, Kind: job.Delete, Repository: repository, Spec: encode(spec)})
		page.after = jobURL(j.ID)
		return err
	}
	return page, nil
}

func orHOST(name string) string {
	if name == "" {
		return "HOST"
	}
	return name
}

// chosen reads the archives that were picked, and the hosts that made them.
func (s *site) chosen(ctx context.Context, repository string, names []string) (rows []archiveRow, makers []string, err error) {
	var list []fleet.Archive
	for _, name := range names {
		a, err := s.Archives.Archive(ctx, repository, name)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, a)
		if a.Host != "" && !slices.Contains(makers, a.Host) {
			makers = append(makers, a.Host)
		}
	}
	if len(makers) > 1 {
		makers = nil // which of them is a guess
	}
	return s.moment().archives(list, s.Catalog), makers, nil
}

// confirmPrune is the page between a prune's preview and the prune.
func (s *site) confirmPrune(r *http.Request) (*confirmation, error) {
	preview, spec, err := s.previewed(r.Context(), job.ID(r.PathValue("id")))
	if err != nil {
		return nil, err
	}
	spec.DryRun, spec.Confirmed = false, true
	gone := preview.Result.Pruned
	count := len(gone) + preview.Result.PrunedOmitted
	request := job.Request{Host: subject(preview), Kind: job.Prune, Repository: preview.Repository, Spec: encode(spec)}
	page := &confirmation{
		Title: "Prune " + preview.Repository, Action: "prune", Nav: "/repositories", Back: jobURL(preview.ID), BackTo: "preview",
		Button: "Delete " + human.Plural(count, "archive"), Names: gone, More: preview.Result.PrunedOmitted,
		Happens: []string{
			human.Plural(count, "archive") + " of " + preview.Repository + " would be deleted, as of the preview, and every file that is only in them is gone for ever.",
			"The rules are applied anew: what was backed up since counts, so that others may go and these may stay.",
			"The space is free after the repository is compacted.",
		},
		Command: s.commandsFor(r).borgfleet(pruneWords(preview.Repository, subject(preview), spec)...), Post: s.commandsFor(r).Post(request),
	}
	page.do = func(ctx context.Context, by fleet.Actor) error {
		j, err := s.Actions.Submit(ctx, by, request)
		page.after = jobURL(j.ID)
		return err
	}
	return page, nil
}

// previewed reads a prune's dry run that ended well.
func (s *site) previewed(ctx context.Context, id job.ID) (job.Job, job.PruneSpec, error) {
	if _, err := job.ParseID(string(id)); err != nil {
		return job.Job{}, job.PruneSpec{}, job.Fail(job.UnknownJob, "there is no job %q", id)
	}
	j, err := s.Jobs.Job(ctx, id)
	if err != nil {
		return j, job.PruneSpec{}, err
	}
	spec, ok := j.Spec.(job.PruneSpec)
	if !ok || !spec.DryRun || !good(j) || len(j.Result.Pruned) == 0 {
		return j, spec, job.Fail(job.Conflict, "job %s is not a preview with archives that would go", id).
			WithHint("preview the prune again from the repository's page")
	}
	return j, spec, nil
}

// good reports whether a job brought what it was asked for.
func good(j job.Job) bool {
	return (j.State == job.Succeeded || j.State == job.Warning) && j.Result != nil
}

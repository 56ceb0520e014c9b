package dispatch

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file compares what is in an append-only repository with what is recorded
// of it, freezes it when that differs, and lets it go again.

// maxNamed bounds the names in [fleet.Frozen].
const maxNamed = 100

// listing is what a list has named, together with those that it goes on from.
type listing struct {
	archives []job.Archive
	whole    bool      // these are all archives of the repository
	at       time.Time // when the first of the lists ended
	from     time.Time // before which the last one looked; zero: everywhere
	more     bool      // it was cut off
}

// next is before which moment a list has to look that goes on from this one.
func (l listing) next() (before time.Time, ok bool) {
	if !l.more || len(l.archives) == 0 {
		return before, false
	}
	before = l.archives[0].Start
	for _, archive := range l.archives {
		if archive.Start.Before(before) {
			before = archive.Start
		}
	}
	before = before.Add(time.Microsecond) // borg's own unit: others may have been begun at the very same time
	return before, l.from.IsZero() || before.Before(l.from)
}

// listing reads what a list has named.
func (s *Service) listing(look *entry) (listing, error) {
	spec, _ := look.job.Spec.(job.ListSpec)
	l := listing{
		archives: look.job.Result.Archives, at: *look.job.FinishedAt,
		from: spec.Before, more: look.job.Result.ArchivesOmitted > 0,
	}
	last, follows := look.job, look.follows
	for follows != "" {
		earlier, found, err := s.options.Store.Job(follows)
		if err != nil || !found || earlier.Result == nil {
			return l, err // what is not known any more keeps it from being whole
		}
		aside, err := s.options.Store.Aside(follows)
		if err != nil {
			return l, err
		}
		l.archives = slices.Concat(l.archives, earlier.Result.Archives)
		l.at, last, follows = *earlier.FinishedAt, earlier, aside.Follows
	}
	l.whole = !l.more && last.Spec == job.ListSpec{}
	return l, nil
}

// difference compares what was listed of a repository with what is recorded; nil:
// all is as it should be.
func (s *Service) difference(repository string, seen listing, record store.RepositoryRecord) (*fleet.Frozen, error) {
	recorded, err := s.options.Store.AllArchives(repository)
	if err != nil {
		return nil, err
	}
	gone, err := s.settles(record.Unsettled)
	if err != nil || gone.mended && seen.whole {
		return nil, err // a repair of ours: whatever is there now
	}
	known, listed := map[string]string{}, map[string]string{}
	for _, archive := range recorded {
		known[archive.Name] = archive.ID
	}
	var missing []string
	unknown := map[string]bool{}
	for _, archive := range seen.archives {
		id, found := known[archive.Name]
		switch {
		case checkpoint.MatchString(archive.Name):
		case !found:
			unknown[archive.Name] = true
		case found && id != "" && id != archive.ID && listed[archive.Name] == "":
			missing = append(missing, archive.Name)
		}
		listed[archive.Name] = archive.ID
	}
	for _, archive := range recorded {
		_, found := listed[archive.Name]
		if !found && seen.whole && !archive.SeenAt.After(seen.at) && !gone.may(archive.Name) {
			missing = append(missing, archive.Name)
		}
	}
	if err := s.claimed(repository, unknown); err != nil {
		return nil, err
	}
	return differing(missing, slices.Sorted(maps.Keys(unknown))), nil
}

// checkpoint is how borg names what a backup leaves that did not come to its end.
var checkpoint = regexp.MustCompile(`\.checkpoint(\.[0-9]+)?$`)

// differing is a freeze for archives that are missing or unknown, nil for none.
func differing(missing, unknown []string) *fleet.Frozen {
	var parts []string
	if n := len(missing); n > 0 {
		parts = append(parts, plural(n, "archive that was recorded is not there as it was", "archives that were recorded are not there as they were"))
	}
	if n := len(unknown); n > 0 {
		parts = append(parts, plural(n, "archive was made by no job", "archives were made by no job"))
	}
	if len(parts) == 0 {
		return nil
	}
	return &fleet.Frozen{
		Reason:  strings.Join(parts, ", and "),
		Missing: missing[:min(maxNamed, len(missing))],
		Unknown: unknown[:min(maxNamed, len(unknown))],
	}
}

// departure says which archives jobs may have removed that could not say which.
type departure struct {
	mended bool
	may    func(name string) bool
}

func (s *Service) settles(unsettled []job.ID) (departure, error) {
	var rules []func(string) bool
	d := departure{may: func(name string) bool {
		return slices.ContainsFunc(rules, func(may func(string) bool) bool { return may(name) })
	}}
	for _, id := range unsettled {
		j, found, err := s.options.Store.Job(id)
		if err != nil {
			return d, err
		}
		switch spec := j.Spec.(type) {
		case job.CheckSpec:
			d.mended = d.mended || found
		case job.DeleteSpec:
			rules = append(rules, func(name string) bool {
				return slices.Contains(spec.Archives, name) || spec.Glob != "" && job.MatchesGlob(spec.Glob, name)
			})
		case job.PruneSpec:
			may, err := s.pruned(j, spec)
			if err != nil {
				return d, err
			}
			rules = append(rules, may)
		}
	}
	return d, nil
}

// pruned says what a prune may have removed: what its dry run has named, or if
// there is none what it looked at.
func (s *Service) pruned(j job.Job, spec job.PruneSpec) (func(string) bool, error) {
	aside, err := s.options.Store.Aside(j.ID)
	if err != nil {
		return nil, err
	}
	dry, found, err := s.options.Store.Job(aside.Preview)
	if err != nil {
		return nil, err
	}
	if found && dry.Result != nil && dry.Result.PrunedOmitted == 0 {
		return func(name string) bool { return slices.Contains(dry.Result.Pruned, name) }, nil
	}
	return func(name string) bool { return considers(spec, subject(j), name) }, nil
}

// claimed takes the names out that backups of ours have made who could not say so.
func (s *Service) claimed(repository string, unknown map[string]bool) error {
	filter := job.Filter{Kind: job.Backup, Repository: repository, Limit: job.MaxPage}
	for len(unknown) > 0 {
		page, err := s.options.Store.Jobs(filter)
		if err != nil {
			return err
		}
		for _, j := range page.Jobs {
			told := (j.State == job.Succeeded || j.State == job.Warning) && j.Result != nil
			for _, a := range j.Attempts {
				if !told || j.Result.Archive != a.Archive { // else it was recorded, and deleted since
					delete(unknown, a.Archive)
				}
			}
		}
		if filter.Cursor = page.Cursor; filter.Cursor == "" {
			break
		}
	}
	return nil
}

// freeze keeps everybody from deleting from a repository, ends the job that wanted
// to, and tells people.
func (b *batch) freeze(repository fleet.Repository, writer *entry, frozen fleet.Frozen) {
	frozen.At = b.s.now()
	frozen.Missing, frozen.Unknown = append([]string{}, frozen.Missing...), append([]string{}, frozen.Unknown...)
	if writer != nil {
		b.s.endInPlace(b, writer, job.Failed, frozenFailure(repository.Name, frozen))
	}
	b.also(store.SetFrozen(repository.Name, &frozen), store.AppendAudit(fleet.AuditEntry{
		At: frozen.At, By: coordinator.Name, Action: "repository.freeze", Object: "repository/" + repository.Name,
		Outcome: "done", Detail: frozen.Reason,
	}))
	b.repos[repository.Name] = true
	b.s.logger.Error("repository frozen: it is not as it was recorded", "repo", repository.Name, "reason", frozen.Reason,
		"missing", len(frozen.Missing), "unknown", len(frozen.Unknown))
}

// adopt makes what is in a frozen repository what is recorded, and lets it go.
func (b *batch) adopt(repository fleet.Repository, seen listing) error {
	if !seen.whole {
		b.s.logger.Error("repository stays frozen: not all of its archives could be listed", "repo", repository.Name)
		return nil
	}
	if b.s.options.Depot != nil {
		if err := b.s.options.Depot.KeepConfig(repository.Name); err != nil {
			b.s.logger.Error("repository stays frozen: its configuration cannot be kept", "repo", repository.Name, "err", err)
			return nil
		}
	}
	record, err := b.record(repository.Name)
	if err != nil {
		return err
	}
	if record.Damage == store.DamageFound {
		record.Damage = store.DamageAccepted
	}
	b.takeOver(repository.Name, seen, record)
	b.also(store.SetFrozen(repository.Name, nil), store.AppendAudit(fleet.AuditEntry{
		At: b.s.now(), By: coordinator.Name, Action: "repository.unfreeze", Object: "repository/" + repository.Name,
		Outcome: "done", Detail: plural(len(seen.archives), "archive is recorded", "archives are recorded"),
	}))
	b.repos[repository.Name] = true
	b.s.logger.Warn("repository let go", "repo", repository.Name)
	return nil
}

// Unfreeze lets a repository go that was frozen: it submits the job that lists it,
// and when that has ended well, what is there is what is recorded. The reason is
// for the audit. The error is a *job.Failure.
func (s *Service) Unfreeze(_ context.Context, by fleet.Actor, repository, reason string) (job.Job, error) {
	s.write.Lock()
	defer s.write.Unlock()
	if strings.TrimSpace(reason) == "" {
		return job.Job{}, job.Invalid("reason", "is missing").WithHint("say why what is in the repository is right, for the audit")
	}
	known, found, err := s.options.Store.Repository(repository)
	if err != nil {
		return job.Job{}, s.failure("let go of repository", err)
	}
	if !found {
		return job.Job{}, fleet.UnknownRepository(repository)
	}
	if known.Depot == nil || known.Depot.Frozen == nil {
		return job.Job{}, job.Fail(job.Conflict, "repository %s is not frozen", repository).WithHint("there is nothing to let go of")
	}
	e, err := s.check(by, job.Request{Repository: repository, Kind: job.List})
	if err != nil {
		return job.Job{}, s.failure("let go of repository", err)
	}
	e.adopt = true
	return s.submit(by, e, "", store.PutAside(e.job.ID, store.Aside{Adopt: true}), store.AppendAudit(fleet.AuditEntry{
		At: e.job.SubmittedAt, By: by.Name, From: by.From, Action: "repository.unfreeze", Object: "repository/" + repository,
		Outcome: "requested", Detail: fmt.Sprintf("%s (frozen: %s), job %s", reason, known.Depot.Frozen.Reason, e.job.ID),
	}))
}

// frozenRepositories lists the repositories that are frozen, for the status.
func frozenRepositories(repositories []fleet.Repository) (items []fleet.Attention) {
	for _, r := range repositories {
		if r.Depot == nil || r.Depot.Frozen == nil {
			continue
		}
		items = append(items, fleet.Attention{
			Kind: "frozen", Repository: r.Name, Since: r.Depot.Frozen.At,
			Message: fmt.Sprintf("repository %s is frozen, and nothing is deleted from it: %s", r.Name, r.Depot.Frozen.Reason),
			Hint:    "borgfleet repo show " + r.Name + " says what is wrong and what can be done; backups go on",
		})
	}
	return items
}

package dispatch

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file keeps jobs from deleting archives that they should not.

// minPruned is of how many archives a prune may take any share: of three backups
// two may be too many, and no percentage says so.
const minPruned = 4

// guard returns nil, or why a job must not do to archives what its spec says.
func (s *Service) guard(j job.Job) error {
	if err := s.guardFrozen(j); err != nil {
		return err
	}
	switch spec := j.Spec.(type) {
	case job.PruneSpec:
		return s.guardOthers(j, spec)
	case job.DeleteSpec:
		if !spec.DryRun {
			return s.guardMounted(j, spec)
		}
	}
	return nil
}

// guardMounted refuses to delete archives that are mounted. They would stay there
// until they are unmounted, and the job would wait for that without saying so.
func (s *Service) guardMounted(j job.Job, spec job.DeleteSpec) error {
	for _, e := range s.index.mounts(j.Repository) {
		mount := e.job.Spec.(job.MountSpec)
		named := slices.Contains(spec.Archives, mount.Archive) || spec.Glob != "" && job.MatchesGlob(spec.Glob, mount.Archive)
		if mount.Archive != "" && !named {
			continue
		}
		what := "archive " + mount.Archive
		if mount.Archive == "" {
			what = "the whole repository " + j.Repository
		}
		return job.Fail(job.Conflict, "%s is mounted at %s on %s by job %s", what, mount.MountPoint, e.job.Host, e.job.ID).
			WithHint("unmount it first: borgfleet archive umount %s --host %s", mount.MountPoint, e.job.Host)
	}
	return nil
}

// guardOthers refuses to prune what another host has made, as far as that is
// known.
func (s *Service) guardOthers(j job.Job, spec job.PruneSpec) error {
	host := subject(j)
	if host == fleet.LocalHost && !spec.All && spec.Prefix == "" && spec.Series == "" {
		return job.Invalid("host", "is missing: whose archives of repository %s are to be pruned?", j.Repository).
			WithHint("name the host that made them, or give a --prefix")
	}
	makers, err := s.makers(j.Repository)
	if err != nil {
		return fmt.Errorf("read the archives of %s: %w", j.Repository, err)
	}
	owners := ownersOf(makers, host)
	owners.narrow = ownNames(spec, host)
	var first store.ArchiveMaker
	var owner string
	others := 0
	for _, m := range makers {
		if !considers(spec, host, m.Name) {
			continue
		}
		made, err := s.madeBy(m, owners)
		if err != nil {
			return err
		}
		if made == "" || made == host {
			continue
		}
		if others++; others == 1 {
			first, owner = m, made
		}
	}
	if others == 0 {
		return nil
	}
	return job.Fail(job.Conflict, "this would also prune archives that %s has not made: %s of %s%s", host, first.Name, owner, more(others-1)).
		WithHint("give a --prefix that only archives of %s have, and prune those of %s by a job for it; what nobody prunes can be deleted by name: borgfleet archive delete", host, owner)
}

// makers returns who made the archives of a repository, also those that are known
// of it under another name: a repository that was declared twice has one id.
func (s *Service) makers(repository string) ([]store.ArchiveMaker, error) {
	makers, err := s.options.Store.ArchiveMakers(repository)
	if err != nil {
		return nil, err
	}
	own, err := s.options.Store.RepositoryRecord(repository)
	if err != nil || own.Info == nil || own.Info.ID == "" {
		return makers, err
	}
	all, err := s.options.Store.Repositories()
	if err != nil {
		return nil, err
	}
	for _, other := range all {
		record, err := s.options.Store.RepositoryRecord(other.Name)
		if err != nil {
			return nil, err
		}
		if other.Name == repository || record.Info == nil || record.Info.ID != own.Info.ID {
			continue
		}
		theirs, err := s.options.Store.ArchiveMakers(other.Name)
		if err != nil {
			return nil, err
		}
		makers = append(makers, theirs...)
	}
	return makers, nil
}

// ownNames reports whether a prune only looks at archives that have the host's name
// in theirs.
func ownNames(spec job.PruneSpec, host string) bool {
	return !spec.All && spec.Prefix == "" && (spec.Series == "" || strings.HasPrefix(spec.Series, host+"-"))
}

// considers reports whether a prune looks at an archive of this name. Without a
// prefix, borg is given the names that archiveName makes for the host.
func considers(spec job.PruneSpec, host, name string) bool {
	switch {
	case spec.All:
		return true
	case spec.Prefix != "":
		return strings.HasPrefix(name, spec.Prefix)
	case spec.Series != "":
		return job.InSeries(spec.Series, name)
	}
	return defaultHost(name) == host
}

// defaultHost returns the host that a name was made for by archiveName; empty: it
// was not. Hosts have no capitals in their names.
func defaultHost(name string) string {
	const day, length = "-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T", len("-2006-01-02T")
	end := strings.IndexByte(name, 'T') + 1
	if end <= length || !job.MatchesGlob(day, name[end-length:end]) {
		return ""
	}
	return name[:end-length]
}

// guardSeen refuses to prune archives that the dry run has found and that go by
// another host's name, unless the prune's own has made them: in a repository that
// was never listed, the dry run is the first to name any.
func (s *Service) guardSeen(j job.Job, seen job.Result) error {
	makers, err := s.makers(j.Repository)
	if err != nil {
		return fmt.Errorf("read the archives of %s: %w", j.Repository, err)
	}
	host, own := subject(j), map[string]bool{}
	for _, m := range makers {
		own[m.Name] = m.Host == host
	}
	for _, name := range slices.Concat(seen.Pruned, seen.Kept) {
		other := defaultHost(name)
		if other == "" || other == host || own[name] {
			continue
		}
		switch _, found, err := s.options.Store.Host(other); {
		case err != nil:
			return fmt.Errorf("look for host %s: %w", other, err)
		case found:
			return job.Fail(job.Conflict, "this would also prune archives that %s has not made: %s of %s, by its name; nothing was deleted", host, name, other).
				WithHint("give a --prefix that only archives of %s have; borgfleet archive list %s --host %s shows who made which", host, j.Repository, host)
		}
	}
	return nil
}

// owners says which host a machine is, as archives of both show.
type owners struct {
	host     string
	machines map[string]string // name of the machine → of the host
	known    bool              // how the host's own machine is called
	narrow   bool              // only archives with the host's own names are looked at
}

func ownersOf(makers []store.ArchiveMaker, host string) owners {
	o := owners{host: host, machines: map[string]string{}}
	for _, m := range makers {
		if m.Host == "" || m.Hostname == "" {
			continue
		}
		if m.Host == host {
			o.known = true
		}
		if m.Host == host || o.machines[m.Hostname] == "" {
			o.machines[m.Hostname] = m.Host
		}
	}
	return o
}

// madeBy returns the host that has made an archive, or the machine if that is
// certainly another one than the host's own; empty: not known.
func (s *Service) madeBy(m store.ArchiveMaker, o owners) (string, error) {
	if m.Host != "" || m.Hostname == "" {
		return m.Host, nil
	}
	if host := o.machines[m.Hostname]; host != "" {
		return host, nil
	}
	short, _, _ := strings.Cut(m.Hostname, ".")
	for _, name := range []string{m.Hostname, short} {
		if name == o.host {
			return name, nil
		}
		if _, found, err := s.options.Store.Host(name); err != nil || found {
			return name, err
		}
	}
	if o.known && !o.narrow {
		return m.Hostname, nil
	}
	return "", nil
}

// holdBack keeps a job from being ordered that could go now: what others' archives
// or a freeze were found for since it was submitted fails, and what has to be
// looked at before waits for that. It reports whether it does.
func (s *Service) holdBack(b *batch, e *entry) (bool, error) {
	spec, prune := e.job.Spec.(job.PruneSpec)
	why := s.guardFrozen(e.job)
	if prune && why == nil {
		why = s.guard(e.job)
	}
	if why != nil {
		f := job.AsFailure(why)
		if f.Code != job.Conflict && f.Code != job.RepositoryFrozen && f.Code != job.InvalidRequest {
			return false, why
		}
		s.endInPlace(b, e, job.Failed, f)
		return true, nil
	}
	if held, err := s.holdPrune(b, e, spec); held || err != nil {
		return held, err
	}
	return s.vet(b, e)
}

// holdPrune keeps a prune back whose dry run has not been made yet. One that is
// confirmed has none, unless nobody knows what there is in the repository.
func (s *Service) holdPrune(b *batch, e *entry, spec job.PruneSpec) (bool, error) {
	if e.job.Kind != job.Prune {
		return false, nil
	}
	if spec.DryRun || e.job.Attempt > 0 || e.preview != "" {
		return false, nil
	}
	if spec.Confirmed {
		record, err := s.options.Store.RepositoryRecord(e.job.Repository)
		if err != nil || record.ArchivesAsOf != nil || ownNames(spec, subject(e.job)) {
			return false, err
		}
	}
	return true, s.preview(b, e, spec)
}

// preview queues the dry run that goes before a prune, and tells which it is in
// the same transaction.
func (s *Service) preview(b *batch, e *entry, spec job.PruneSpec) error {
	spec.DryRun = true
	dry, err := s.onBehalf(e, spec)
	if err != nil {
		return err
	}
	dry.job.MaxAttempts, dry.job.ExpiresAt, dry.job.Timeout = e.job.MaxAttempts, e.job.ExpiresAt, e.job.Timeout
	aside, err := b.ahead(e, dry)
	if err != nil {
		return err
	}
	aside.Preview = dry.job.ID
	b.also(store.PutAside(e.job.ID, aside))
	e.preview = dry.job.ID
	b.set(e, true)
	s.logger.Info("looking what a prune would delete", "repo", e.job.Repository, "host", e.job.Host, "job", e.job.ID, "preview", dry.job.ID)
	return nil
}

// previewed ends the prunes in whose dry run the batch sees that they must not go.
// The others go on: their dry run is not open any more.
func (b *batch) previewed() {
	for _, id := range slices.Clone(b.order) {
		dry := b.entries[id]
		spec, ok := dry.job.Spec.(job.PruneSpec)
		if !ok || !spec.DryRun || !dry.job.State.Terminal() {
			continue
		}
		known := b.s.index.previewedBy(id)
		if known == nil {
			continue
		}
		e := b.get(known.job.ID)
		if e.held() || e.job.State.Terminal() {
			continue
		}
		why := objection(e.job, dry.job)
		if why == nil {
			why = job.AsFailure(b.s.guardSeen(e.job, *dry.job.Result))
		}
		if why != nil {
			state := job.Failed
			if dry.job.State == job.Cancelled {
				state = job.Cancelled
			}
			b.s.endInPlace(b, e, state, why)
			b.s.logger.Warn("prune ended after its dry run", "job", e.job.ID, "host", e.job.Host, "err", why)
		}
	}
}

// objection returns why a prune must not go after its dry run, or nil.
func objection(prune, dry job.Job) *job.Failure {
	if dry.State != job.Succeeded && dry.State != job.Warning {
		failure := job.Fail(job.Internal, "it ended as %s", dry.State)
		if dry.Failure != nil {
			*failure = *dry.Failure
		}
		failure.Message = fmt.Sprintf("the dry run before it, job %s, has not ended well: %s", dry.ID, failure.Message)
		failure.Retryable = false
		return failure
	}
	if dry.Result == nil {
		return job.Fail(job.Internal, "the dry run before it, job %s, did not say what would be deleted", dry.ID)
	}
	r := dry.Result
	gone := len(r.Pruned) + r.PrunedOmitted
	total := gone + len(r.Kept) + r.KeptOmitted
	spec, _ := prune.Spec.(job.PruneSpec)
	most := cmp.Or(spec.MaxPercent, job.DefaultMaxPercent)
	if spec.Confirmed || total < minPruned || gone*100 <= most*total {
		return nil
	}
	return job.Fail(job.NeedsConfirmation, "%d of %d archives would be deleted, more than %d %%; nothing was", gone, total, most).
		WithHint("see which in job %s (borgfleet job show %s); if that is right, prune with --confirm", dry.ID, dry.ID)
}

// callOff cancels what goes before a job that was cancelled while it waited for
// that. It returns what a host has to be told of.
func (s *Service) callOff(b *batch, e *entry) (tell []*entry) {
	for _, id := range []job.ID{e.preview, e.vet} {
		before := b.get(id)
		if before == nil || before.job.CancelRequested {
			continue
		}
		before.job.CancelRequested = true
		b.set(before, true)
		if before.held() {
			tell = append(tell, before)
			continue
		}
		s.cancelQueued(b, before, asked())
	}
	return tell
}

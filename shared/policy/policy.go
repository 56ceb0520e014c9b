// Package policy is what this host lets its coordinator ask for. The rules are
// agent.yaml's, written by the host's owner; an order that breaks one is
// refused with a failure that names the rule.
package policy

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Rules are what the host's owner allows. What is not listed is not allowed.
type Rules struct {
	Kinds        []job.Kind // kinds of job that may run
	Read         []string   // directories below which paths may be backed up
	Restore      []string   // directories below which files may be restored
	Repositories []string   // globs; one must match the repository's name or location, or "depot" if it is there
	Hooks        string     // directory of the scripts that plans may name
	ExtraOptions bool       // options of borg create that borgfleet does not know
}

// Check returns nil when the rules allow the order, else a failure with code
// refused_by_host. It touches the disk only to see where symbolic links lead.
func (r Rules) Check(order bus.Order) *job.Failure {
	if !slices.Contains(r.Kinds, order.Kind) {
		return refuse("kinds", "this host does not run jobs of kind %s", order.Kind)
	}
	if order.Repository != (job.Repository{}) || order.Kind.NeedsRepository() {
		if failure := r.checkRepository(order); failure != nil {
			return failure
		}
	}
	switch order.Kind {
	case job.Backup:
		return read(order, r.checkBackup)
	case job.Restore:
		return read(order, r.checkRestore)
	case job.TestRestore:
		return read(order, r.checkRestoreTest)
	case job.Mount:
		return read(order, func(s job.MountSpec) *job.Failure { return second(r.MountPoint(s.MountPoint)) })
	case job.Umount:
		return read(order, func(s job.UmountSpec) *job.Failure { return second(r.MountPoint(s.MountPoint)) })
	default:
		return nil
	}
}

// read checks an order's spec.
func read[S job.Spec](order bus.Order, check func(S) *job.Failure) *job.Failure {
	var spec S
	if err := json.Unmarshal(order.Spec, &spec); err != nil {
		return job.Fail(job.InvalidSpec, "spec: %s", err)
	}
	return check(spec)
}

// checkRestore checks where a restore writes to: a directory, or a script.
func (r Rules) checkRestore(spec job.RestoreSpec) *job.Failure {
	if spec.ContentTo != "" {
		return second(r.Hook(spec.ContentTo))
	}
	return second(r.Target(spec.Target))
}

func second(_ string, failure *job.Failure) *job.Failure { return failure }

func (r Rules) checkRepository(order bus.Order) *job.Failure {
	repository := order.Repository
	if !r.allowsRepository(repository) && !r.allowsDepot(order) {
		return refuse("repositories", "this host may not use repository %s at %s", repository.Name, repository.Location)
	}
	return nil
}

// Target returns the directory that a restore to target writes to: the same,
// without symbolic links. It is asked once more when the restore begins, as
// links may have changed since [Rules.Check]; and whoever makes and enters the
// directory then must follow no link, so that what was allowed is what is
// written to. A failure has code refused_by_host; target is returned with it as
// it is.
func (r Rules) Target(target string) (string, *job.Failure) {
	if !within(filepath.Clean(target), r.Restore, filepath.Clean) {
		return target, refuse("restore", "this host does not let anything be restored to %s", target)
	}
	real := resolve(target)
	if !within(real, r.Restore, resolve) {
		return target, refuse("restore", "this host does not let anything be restored to %s, where %s leads", real, target)
	}
	return real, nil
}

// MountPoint returns the directory that something is mounted on, or unmounted
// from: the same, without symbolic links. It may lie where files may be restored,
// and is asked for once more when the mount begins, as [Rules.Target] is.
//
// The mount point itself is not looked into: a mount whose repository does not
// answer would keep whoever does.
func (r Rules) MountPoint(point string) (string, *job.Failure) {
	if !within(filepath.Clean(point), r.Restore, filepath.Clean) {
		return point, refuse("restore", "this host does not let anything be mounted at %s", point)
	}
	real := entry(point)
	if !within(real, r.Restore, entry) {
		return point, refuse("restore", "this host does not let anything be mounted at %s, where %s leads", real, point)
	}
	return real, nil
}

func (r Rules) checkPaths(paths []string) *job.Failure {
	if slices.Contains(r.Read, "/") {
		return nil // everything is below it
	}
	for _, p := range paths {
		if !within(filepath.Clean(p), r.Read, filepath.Clean) {
			return refuse("read", "this host does not let %s be backed up", p)
		}
		if real := resolve(p); !within(real, r.Read, resolve) {
			return refuse("read", "this host does not let %s be backed up, where %s leads", real, p)
		}
	}
	return nil
}

func (r Rules) allowsRepository(repository job.Repository) bool {
	return slices.ContainsFunc(r.Repositories, func(glob string) bool {
		return matches(glob, repository.Name) || !climbs(repository.Location) && matches(glob, repository.Location)
	})
}

// allowsDepot reports whether the order's repository is in the coordinator's
// depot, and whatever is kept there may be used. That the order says so is not
// enough: the location must be the one that follows from it.
func (r Rules) allowsDepot(order bus.Order) bool {
	if order.Depot == nil || order.Repository.Location != bus.DepotURL(order.Repository.Name) {
		return false
	}
	return slices.ContainsFunc(r.Repositories, func(glob string) bool { return matches(glob, job.DepotLocation) })
}

// climbs reports whether a location has ".." in it. Such a one is not where it
// seems to be.
func climbs(location string) bool { return slices.Contains(strings.Split(location, "/"), "..") }

// matches compares text with a glob in which * also matches slashes.
func matches(glob, text string) bool {
	ok, err := path.Match(flat(glob), flat(text))
	return ok && err == nil
}

// flat replaces slashes, at which path.Match would stop, by a byte that
// neither names nor locations contain.
func flat(text string) string { return strings.ReplaceAll(text, "/", "\x01") }

// within reports whether an absolute clean path is one of the roots or lies
// below one. The roots are brought into the same form by form.
func within(p string, roots []string, form func(string) string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		root = form(root)
		return p == root || strings.HasPrefix(p, strings.TrimSuffix(root, "/")+"/")
	})
}

// maxLinks is after how many links that lead nowhere no more is looked for, as
// in the kernel.
const maxLinks = 40

// resolve returns p as an absolute clean path without symbolic links. Of a path
// that does not exist, the part that does is resolved; a link to what does not
// exist leads there all the same.
func resolve(p string) string { return follow(p, maxLinks) }

func follow(p string, links int) string {
	p = filepath.Clean(p)
	if real, err := filepath.EvalSymlinks(p); err == nil {
		return real
	}
	parent := filepath.Dir(p)
	if parent == p {
		return p
	}
	p = filepath.Join(follow(parent, links), filepath.Base(p))
	to, linked := target(p)
	if !linked || links == 0 {
		return p
	}
	return follow(to, links-1)
}

// entry is resolve for what may be a mount point: only its parent is resolved,
// and it itself read as a link.
func entry(p string) string {
	for range maxLinks {
		p = filepath.Clean(p)
		p = filepath.Join(resolve(filepath.Dir(p)), filepath.Base(p))
		to, linked := target(p)
		if !linked {
			break
		}
		p = to
	}
	return p
}

// target returns where a link leads, or p as it is.
func target(p string) (to string, linked bool) {
	to, err := os.Readlink(p)
	switch {
	case err != nil:
		return p, false
	case filepath.IsAbs(to):
		return to, true
	default:
		return filepath.Join(filepath.Dir(p), to), true
	}
}

func refuse(rule, format string, args ...any) *job.Failure {
	return job.Fail(job.RefusedByHost, format, args...).WithHint("policy.%s in the host's agent.yaml does not allow it", rule)
}

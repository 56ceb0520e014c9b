// Package policy is what this host lets its coordinator ask for. The rules are
// agent.yaml's, written by the host's owner; an order that breaks one is
// refused with a failure that names the rule.
package policy

import (
	"encoding/json"
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
	Repositories []string   // globs; one must match the repository's name or location
	Hooks        string     // directory of the scripts that plans may name
}

// Check returns nil when the rules allow the order, else a failure with code
// refused_by_host. It touches the disk only to see where symbolic links lead.
func (r Rules) Check(order bus.Order) *job.Failure {
	if !slices.Contains(r.Kinds, order.Kind) {
		return refuse("kinds", "this host does not run jobs of kind %s", order.Kind)
	}
	if !r.allowsRepository(order.Repository) {
		return refuse("repositories", "this host may not use repository %s at %s", order.Repository.Name, order.Repository.Location)
	}
	if order.Kind != job.Backup {
		return nil
	}
	return r.checkPaths(order)
}

func (r Rules) checkPaths(order bus.Order) *job.Failure {
	if slices.Contains(r.Read, "/") {
		return nil // everything is below it
	}
	var spec job.BackupSpec
	if err := json.Unmarshal(order.Spec, &spec); err != nil {
		return job.Fail(job.InvalidSpec, "spec: %s", err)
	}
	for _, p := range spec.Paths {
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
		return matches(glob, repository.Name) || matches(glob, repository.Location)
	})
}

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

// resolve returns p as an absolute clean path without symbolic links. Of a path
// that does not exist, the part that does is resolved.
func resolve(p string) string {
	p = filepath.Clean(p)
	if real, err := filepath.EvalSymlinks(p); err == nil {
		return real
	}
	if parent := filepath.Dir(p); parent != p {
		return filepath.Join(resolve(parent), filepath.Base(p))
	}
	return p
}

func refuse(rule, format string, args ...any) *job.Failure {
	return job.Fail(job.RefusedByHost, format, args...).WithHint("policy.%s in the host's agent.yaml does not allow it", rule)
}

package plan

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// CheckAll checks plans by themselves, against the hosts and repositories that
// there are, and against each other: put are those that are new or changed, others
// stay. The error joins a *fleet.ObjectError for each fault; its cause begins with
// the field.
func CheckAll(put, others map[string]fleet.PlanSpec, w fleet.World) error {
	known := knownIn(w)
	faults := map[string][]error{}
	for name, p := range put {
		if err := errors.Join(Check(name, p), known.check(p)); err != nil {
			faults[name] = append(faults[name], err)
		}
	}
	known.clashes(put, others, faults)
	var all []error
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		all = append(all, ofPlan(name, errors.Join(faults[name]...)))
	}
	return errors.Join(all...)
}

// ofPlan says of which plan faults are.
func ofPlan(name string, err error) error {
	var all []error
	for _, f := range failures(err) {
		all = append(all, &fleet.ObjectError{Object: "plan/" + name, Cause: f})
	}
	return errors.Join(all...)
}

// surroundings are hosts and repositories by name.
type surroundings struct {
	hosts        map[string]fleet.Host
	repositories map[string]fleet.Repository
}

func knownIn(w fleet.World) surroundings {
	s := surroundings{hosts: map[string]fleet.Host{}, repositories: map[string]fleet.Repository{}}
	for _, host := range w.Hosts {
		s.hosts[host.Name] = host
	}
	for _, repository := range w.Repositories {
		s.repositories[repository.Name] = repository
	}
	return s
}

// check checks that what a plan names is there, and may be used.
func (s surroundings) check(p fleet.PlanSpec) error {
	faults := []error{s.named(p)}
	hosts := resolve(p, s.hosts)
	if len(p.Selector) > 0 && len(hosts) == 0 {
		faults = append(faults, job.Invalid("selector", "no host has these labels").WithHint("borgfleet host list shows them"))
	}
	if test := p.RestoreTest; test != nil && test.Host != "" {
		hosts = append(hosts, test.Host)
	}
	for i, name := range p.Repositories {
		if repository, ok := s.repositories[name]; ok {
			faults = append(faults, admitted(i, repository, hosts))
		}
	}
	return errors.Join(faults...)
}

// named checks that the hosts and repositories that a plan names are there.
func (s surroundings) named(p fleet.PlanSpec) error {
	var faults []error
	for i, name := range p.Hosts {
		if _, ok := s.hosts[name]; !ok {
			faults = append(faults, at(fmt.Sprintf("hosts[%d]", i), fleet.UnknownHost(name)))
		}
	}
	if test := p.RestoreTest; test != nil && test.Host != "" {
		if _, ok := s.hosts[test.Host]; !ok {
			faults = append(faults, at("restore_test.host", fleet.UnknownHost(test.Host)))
		}
	}
	for i, name := range p.Repositories {
		if _, ok := s.repositories[name]; !ok {
			faults = append(faults, at(fmt.Sprintf("repositories[%d]", i), fleet.UnknownRepository(name)))
		}
	}
	return errors.Join(faults...)
}

// at says in which field a fault is.
func at(field string, f *job.Failure) error {
	f.Message = field + ": " + f.Message
	return f
}

// checkStaying checks that plans which stay find the hosts and repositories that
// they name.
func checkStaying(plans map[string]fleet.PlanSpec, w fleet.World) error {
	known := knownIn(w)
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(plans)) {
		faults = append(faults, ofPlan(name, known.named(plans[name])))
	}
	return errors.Join(faults...)
}

// maxNamed bounds how many hosts one fault names.
const maxNamed = 5

// admitted checks that hosts may use the repository that a plan has at place i.
func admitted(i int, r fleet.Repository, hosts []string) error {
	if r.Depot == nil {
		return nil
	}
	kept := slices.DeleteFunc(slices.Clone(hosts), r.Depot.Admits)
	if len(kept) == 0 {
		return nil
	}
	text := strings.Join(kept[:min(len(kept), maxNamed)], ", ")
	if len(kept) > maxNamed {
		text += fmt.Sprintf(" and %d more", len(kept)-maxNamed)
	}
	return job.Invalid(fmt.Sprintf("repositories[%d]", i), "%s may not be used by %s", r.Name, text).WithHint("borgfleet repo allow %s HOST lets one", r.Name)
}

// place is where archives of one series lie.
type place struct{ repository, series string }

// clashes finds plans that would prune the archives of another.
func (s surroundings) clashes(put, others map[string]fleet.PlanSpec, faults map[string][]error) {
	owners := map[place]string{}
	prunes := map[string]bool{}
	for _, set := range []map[string]fleet.PlanSpec{others, put} {
		for _, name := range slices.Sorted(maps.Keys(set)) {
			p := set[name]
			prunes[name] = slices.Contains(p.After, job.Prune)
			told := map[string]bool{}
			for _, at := range s.places(name, p) {
				owner, taken := owners[at]
				if !taken {
					owners[at] = name
					continue
				}
				if told[owner] || owner != name && !prunes[owner] && !prunes[name] {
					continue
				}
				told[owner] = true
				faults[name] = append(faults[name], job.Fail(job.Conflict, "archive_prefix: plan %s has archives in %s that begin with %q, too: one would prune those of the other", owner, at.repository, at.series).
					WithHint("give one of them another archive_prefix, or another repository"))
			}
		}
	}
}

// places returns where the archives of a plan lie.
func (s surroundings) places(name string, p fleet.PlanSpec) []place {
	var places []place
	for _, host := range resolve(p, s.hosts) {
		for _, repository := range p.Repositories {
			if hasFiles(p) {
				places = append(places, place{repository, series(p, name, host, "")})
			}
			for _, dump := range p.Dumps {
				places = append(places, place{repository, series(p, name, host, dump.Hook)})
			}
		}
	}
	return places
}

package manifest

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// sections are where objects of a kind stand in a text.
var sections = map[string]string{
	"host": "hosts", "repository": "repositories", "plan": "plans", "target": "notify.targets", "rule": "notify.rules",
}

// cutObject parts host/web1 into its kind and its name.
func cutObject(object string) (kind, name string, ok bool) { return strings.Cut(object, "/") }

// pathOf returns where an object stands in a text.
func pathOf(object string) string {
	kind, name, _ := cutObject(object)
	return sections[kind] + "." + name
}

// objectOf returns the path of the object that a field is of.
func objectOf(field string, root *yaml.Node) string {
	for _, section := range sections {
		rest, ok := strings.CutPrefix(field, section+".")
		if !ok {
			continue
		}
		node := root
		for name := range strings.SplitSeq(section, ".") {
			_, value, _ := step(resolve(node), name)
			if value == nil {
				return field
			}
			node = value
		}
		if at, _, _ := step(resolve(node), rest); at != nil {
			return section + "." + at.Value
		}
	}
	return field
}

// fieldForm is how a fault begins that names its field.
var fieldForm = regexp.MustCompile(`^([a-z_]+(?:\[[0-9]+\])?(?:\.[A-Za-z0-9_-]+(?:\[[0-9]+\])?)*): `)

// objectFault notes what is wrong with an object.
func (w *work) objectFault(object string, failure *job.Failure) {
	path := pathOf(object)
	field, message := path, failure.Message
	if match := fieldForm.FindStringSubmatch(message); match != nil {
		field, message = path+"."+match[1], message[len(match[0]):]
	}
	w.fieldFault(field, message, failure.Hint)
}

// fieldFault notes what is wrong with a field, unless what it is of could not be
// read anyway: the rest is only a consequence of that.
func (w *work) fieldFault(field, message, hint string) {
	if w.broken[objectOf(field, w.root)] {
		return
	}
	line, column := locate(w.root, field)
	w.faults = append(w.faults, fleet.ManifestFault{Line: line, Column: column, Field: field, Message: message, Hint: hint})
}

func (w *work) sortFaults() {
	slices.SortStableFunc(w.faults, func(a, b fleet.ManifestFault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Field, b.Field))
	})
	w.faults = slices.Compact(w.faults)
}

// take notes faults that somebody has found. An error that is none is returned.
func (w *work) take(err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			if err := w.take(one); err != nil {
				return err
			}
		}
		return nil
	}
	if of, ok := errors.AsType[*fleet.ObjectError](err); ok {
		w.objectFault(of.Object, of.Cause)
		return nil
	}
	failure, ok := errors.AsType[*job.Failure](err)
	if !ok {
		return err
	}
	field, message := "", failure.Message
	if match := fieldForm.FindStringSubmatch(message); match != nil {
		field, message = match[1], message[len(match[0]):]
	}
	w.fieldFault(field, message, failure.Hint)
	return nil
}

// check has those who will make the changes look at them.
func (s *Service) check(ctx context.Context, w *work) error {
	change := w.change()
	change.PutHosts = slices.DeleteFunc(change.PutHosts, func(put fleet.PutHost) bool { return w.keyless[put.Name] })
	if err := w.take(s.options.Fleet.CheckFleet(ctx, change)); err != nil {
		return err
	}
	if !w.asked.DryRun {
		for _, path := range w.outcome.Needs {
			w.faults = append(w.faults, fleet.ManifestFault{Message: "the content of " + path + " did not come with it", Hint: "borgfleet apply reads such files where it runs"})
		}
		for _, server := range w.outcome.Unknown {
			w.fieldFault("hosts."+server.Host+".ssh", "it is not known by which keys its servers prove themselves", "borgfleet apply asks them; or write host_keys")
		}
	}
	if len(w.outcome.Changes) > 0 {
		if err := w.take(s.options.Plans.CheckPlans(ctx, w.plans, w.unplan, w.world())); err != nil {
			return err
		}
	}
	if w.document.Notify == nil {
		return nil
	}
	changes, err := s.options.Notify.Compare(ctx, w.targets, w.rules, w.asked.Prune)
	if err != nil {
		return w.take(err)
	}
	w.compared(changes)
	return nil
}

// change is all that changes of hosts and repositories.
func (w *work) change() fleet.FleetChange {
	return fleet.FleetChange{
		PutHosts: slices.Clone(w.put.PutHosts), PutRepositories: w.put.PutRepositories,
		RemoveHosts: w.remove.RemoveHosts, RemoveRepositories: w.remove.RemoveRepositories,
	}
}

// world returns hosts and repositories as they are going to be.
func (w *work) world() fleet.World {
	var world fleet.World
	hosts := map[string]fleet.Host{}
	for name, host := range w.state.hosts {
		hosts[name] = host
	}
	for name, said := range w.document.Hosts { // also those that could not be read
		host, found := hosts[name]
		if !found {
			host = fleet.Host{Name: name, Mode: fleet.ModeAgent}
		}
		host.Labels = said.Labels
		if said.SSH != nil {
			host.Mode = fleet.ModeSSH
		}
		hosts[name] = host
	}
	for _, name := range w.remove.RemoveHosts {
		delete(hosts, name)
	}
	for _, name := range keysOf(hosts) {
		world.Hosts = append(world.Hosts, hosts[name])
	}
	world.Repositories = w.futureRepositories()
	return world
}

func (w *work) futureRepositories() []fleet.Repository {
	repositories := map[string]fleet.Repository{}
	for name, repository := range w.state.repositories {
		repositories[name] = repository
	}
	for name, said := range w.document.Repositories {
		if _, found := repositories[name]; !found {
			repositories[name] = fleet.Repository{Repository: job.Repository{Name: name, Location: said.Location}}
		}
	}
	for _, put := range w.put.PutRepositories {
		repository := repositories[put.Name]
		repository.Repository, repository.Depot = put.Repository, put.Depot
		repositories[put.Name] = repository
	}
	var list []fleet.Repository
	for _, name := range keysOf(repositories) {
		if !slices.Contains(w.remove.RemoveRepositories, name) {
			list = append(list, repositories[name])
		}
	}
	return list
}

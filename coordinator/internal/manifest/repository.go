package manifest

import (
	"cmp"
	"maps"
	"slices"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// everyHost stands for all hosts in a list of those that may use a repository.
const everyHost = "*"

func (w *work) repository(name string, said Repository, needed map[string]bool) {
	object := "repository/" + name
	known, found := w.state.repositories[name]
	have, want := repositoryOf(known, w.state.notes[object]), w.completeRepository(name, said, known, needed)
	fields := difference(have, want)
	if found && len(fields) == 0 {
		return
	}
	put := fleet.PutRepository{Repository: job.Repository{Name: name, Location: want.Location, Encryption: want.Encryption}}
	w.depot(&put, name, want)
	if want.Custody == fleet.CustodyHosts && (!found || known.Custody != fleet.CustodyHosts) {
		w.objectFault(object, job.Fail(job.InvalidRequest, "custody: a repository whose passphrase only hosts know cannot be made by a manifest").
			WithHint("borgfleet repo add %s --custody hosts, where the passphrase is typed in", name))
	} else if want.Custody == "" && found && known.Custody == fleet.CustodyHosts {
		w.objectFault(object, job.Fail(job.InvalidRequest, "custody: it is hosts, and stays so").WithHint("write custody: hosts"))
	}
	if file := want.PassphraseFile; file != have.PassphraseFile {
		if file != "" {
			put.Passphrase, put.PassphraseComes = w.secret(file), true
		}
		w.notes = append(w.notes, note(object, "", map[string]string{passphraseFile: file}))
	}
	w.put.PutRepositories = append(w.put.PutRepositories, put)
	if found {
		w.changed("change", object, fields)
	} else {
		w.changed("add", object, nil)
	}
}

// depot says what is agreed for a repository in the depot, and refuses that of
// one elsewhere.
func (w *work) depot(put *fleet.PutRepository, name string, want Repository) {
	quota, err := want.Quota.Bytes()
	if err != nil {
		w.objectFault("repository/"+name, job.Invalid("quota", "%s", err))
	}
	if put.InDepot() {
		put.Depot = &fleet.Depot{Quota: quota, AppendOnly: want.AppendOnly, Hosts: append([]string{}, want.Hosts...)}
		return
	}
	for field, given := range map[string]bool{"quota": want.Quota != "", "append_only": want.AppendOnly, "hosts": len(want.Hosts) > 0} {
		if given {
			w.objectFault("repository/"+name, job.Invalid(field, "is only for a repository in the depot").
				WithHint("leave it out: that is for the server at %s to say", want.Location))
		}
	}
}

// completeRepository writes what is said of a repository as it would be stored.
func (w *work) completeRepository(name string, said Repository, known fleet.Repository, needed map[string]bool) Repository {
	said.Encryption = cmp.Or(said.Encryption, known.Encryption, job.RepokeyBlake2)
	if said.Custody == fleet.CustodyCoordinator {
		said.Custody = ""
	}
	if bytes, err := said.Quota.Bytes(); err == nil {
		said.Quota = fleet.SizeOf(bytes)
	}
	if said.Location != job.DepotLocation {
		return said
	}
	if said.Hosts == nil {
		if known.Depot != nil {
			said.Hosts = slices.Clone(known.Depot.Hosts)
		}
		said.Hosts = w.withNeeded(said.Hosts, needed)
	}
	said.Hosts = sorted(said.Hosts)
	return said
}

// withNeeded adds hosts of plans to those that may use a repository. Those that
// are removed are none any more.
func (w *work) withNeeded(hosts []string, needed map[string]bool) []string {
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(host string) bool { return slices.Contains(w.remove.RemoveHosts, host) })
	if slices.Contains(hosts, everyHost) {
		return hosts
	}
	for host := range needed {
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return sorted(hosts)
}

// admitted returns the repositories in the depot that stay as they are but for
// hosts of plans in the text.
func (w *work) admitted(needed map[string]map[string]bool) []string {
	var names []string
	for _, name := range keysOf(needed) {
		known, found := w.state.repositories[name]
		_, said := w.document.Repositories[name]
		if !found || said || known.Depot == nil || slices.Contains(w.remove.RemoveRepositories, name) {
			continue
		}
		if len(w.withNeeded(known.Depot.Hosts, needed[name])) != len(known.Depot.Hosts) {
			names = append(names, name)
		}
	}
	return names
}

// admit lets hosts use a repository that is not in the text.
func (w *work) admit(name string, needed map[string]bool) {
	known := w.state.repositories[name]
	depot := *known.Depot
	depot.Hosts = w.withNeeded(depot.Hosts, needed)
	before, after := repositoryOf(known, w.state.notes["repository/"+name]), repositoryOf(known, w.state.notes["repository/"+name])
	after.Hosts = sorted(depot.Hosts)
	w.put.PutRepositories = append(w.put.PutRepositories, fleet.PutRepository{Repository: known.Repository, Depot: &depot})
	w.changed("change", "repository/"+name, difference(before, after))
}

// neededBy returns the hosts that plans of the text have for each repository in
// the depot.
func (w *work) neededBy() map[string]map[string]bool {
	needed := map[string]map[string]bool{}
	hosts := w.world().Hosts
	bySelector, there := map[string][]string{}, map[string]bool{}
	for _, host := range hosts {
		there[host.Name] = true
	}
	for _, spec := range w.document.Plans {
		for _, name := range spec.Repositories {
			said, inText := w.document.Repositories[name]
			if !inText {
				said.Location = w.state.repositories[name].Location
			}
			if said.Location != job.DepotLocation || said.Hosts != nil {
				continue
			}
			if needed[name] == nil {
				needed[name] = map[string]bool{}
			}
			for _, host := range spec.Hosts {
				if there[host] { // else it is the plan's fault, and told there
					needed[name][host] = true
				}
			}
			for _, host := range selected(spec.Selector, hosts, bySelector) {
				needed[name][host] = true
			}
		}
	}
	return needed
}

// selected returns the hosts that have all labels of a selector. The answers are
// kept, as many plans may have the same.
func selected(selector map[string]string, hosts []fleet.Host, known map[string][]string) []string {
	if len(selector) == 0 {
		return nil
	}
	key := ""
	for _, name := range keysOf(selector) {
		key += name + "\x00" + selector[name] + "\x00"
	}
	if names, ok := known[key]; ok {
		return names
	}
	var names []string
	for _, host := range hosts {
		has := func(label string) bool { value, ok := host.Labels[label]; return ok && value == selector[label] }
		if host.Mode != fleet.ModeLocal && !slices.ContainsFunc(slices.Collect(maps.Keys(selector)), func(label string) bool { return !has(label) }) {
			names = append(names, host.Name)
		}
	}
	known[key] = names
	return names
}

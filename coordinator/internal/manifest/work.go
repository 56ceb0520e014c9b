package manifest

import (
	"context"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// work is one text on its way: what it says, what there is, and what follows.
type work struct {
	asked    fleet.Manifest
	document Document
	root     *yaml.Node
	broken   map[string]bool // objects of which something could not be read
	state    state

	outcome fleet.ManifestOutcome
	faults  []fleet.ManifestFault
	put     fleet.FleetChange // of hosts and repositories
	remove  fleet.FleetChange
	notes   []store.Change // that belong to those
	plans   map[string]fleet.PlanSpec
	unplan  []string
	keyless map[string]bool // hosts that cannot be put before keys are known
	targets map[string]fleet.NewTarget
	rules   map[string]fleet.Rule
	told    bool // targets or rules change
}

// Apply makes everything match a text, or says what would change. Everything is
// looked at first: after a *fleet.ManifestError nothing has changed.
func (s *Service) Apply(ctx context.Context, by fleet.Actor, asked fleet.Manifest) (fleet.ManifestOutcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &work{
		asked: asked, plans: map[string]fleet.PlanSpec{}, keyless: map[string]bool{}, broken: map[string]bool{},
		outcome: fleet.ManifestOutcome{Changes: []fleet.ManifestChange{}, Needs: []string{}, Unknown: []fleet.UnknownServer{}},
	}
	w.document, w.root, w.faults = parse(asked.Text)
	if w.root == nil {
		return w.outcome, &fleet.ManifestError{Faults: w.faults}
	}
	for _, fault := range w.faults {
		w.broken[objectOf(fault.Field, w.root)] = true
	}
	var err error
	if w.state, err = s.read(ctx); err != nil {
		return w.outcome, err
	}
	w.compare()
	if err := s.check(ctx, w); err != nil {
		return w.outcome, err
	}
	if len(w.faults) > 0 {
		w.sortFaults()
		return w.outcome, &fleet.ManifestError{Faults: w.faults}
	}
	if asked.DryRun || len(w.outcome.Changes) == 0 {
		return w.outcome, nil
	}
	err = s.carryOut(ctx, by, w)
	w.outcome.Applied = err == nil
	return w.outcome, err
}

// compare finds what is to change, section by section.
func (w *work) compare() {
	for _, name := range keysOf(w.document.Hosts) {
		w.host(name, w.document.Hosts[name])
	}
	for _, name := range keysOf(w.document.Plans) {
		w.plan(name, w.document.Plans[name])
	}
	if w.asked.Prune {
		w.prune()
	}
	needed := w.neededBy()
	for _, name := range keysOf(w.document.Repositories) {
		w.repository(name, w.document.Repositories[name], needed[name])
	}
	for _, name := range w.admitted(needed) { // not in the text, but plans that are need them
		w.admit(name, needed[name])
	}
	if w.document.Notify != nil {
		w.notify(*w.document.Notify)
	}
	slices.Sort(w.outcome.Needs)
	w.outcome.Needs = slices.Compact(w.outcome.Needs)
}

// changed notes a change of an object.
func (w *work) changed(action, object string, fields []string) {
	w.outcome.Changes = append(w.outcome.Changes, fleet.ManifestChange{Action: action, Object: object, Fields: append([]string{}, fields...)})
}

// secret returns the content of a file that the text names. One that did not come
// is noted as needed.
func (w *work) secret(path string) secret.Value {
	value, came := w.asked.Secrets[path]
	if !came || value.Empty() {
		w.outcome.Needs = append(w.outcome.Needs, path)
	}
	return value
}

// note keeps from which files an object's secrets came.
func note(object, of string, files map[string]string) store.Change {
	for field, path := range files {
		if path == "" {
			delete(files, field)
		}
	}
	if len(files) == 0 {
		return store.DeleteManifestNote(object)
	}
	return store.PutManifestNote(object, store.ManifestNote{Of: of, Files: files})
}

func (w *work) host(name string, said Host) {
	object := "host/" + name
	known, found := w.state.hosts[name]
	have, want := hostOf(known, w.state.notes[object]), w.completeHost(name, said, known)
	fields := difference(have, want)
	if found && len(fields) == 0 {
		return
	}
	put := fleet.PutHost{Name: name, Labels: want.Labels, Reach: want.Reach}
	if want.SSH != nil {
		put.SSH = want.SSH.access()
		if file := want.SSH.IdentityFile; file != "" && (have.SSH == nil || have.SSH.IdentityFile != file) {
			put.Key, put.KeyComes = w.secret(file), true
			if !put.Key.Empty() {
				w.notes = append(w.notes, note(object, publicKey(put.Key), map[string]string{identityFile: file}))
			}
		} else if file == "" && have.SSH != nil && have.SSH.IdentityFile != "" {
			w.notes = append(w.notes, store.DeleteManifestNote(object))
		}
	}
	w.put.PutHosts = append(w.put.PutHosts, put)
	if found {
		w.changed("change", object, fields)
	} else {
		w.changed("add", object, nil)
	}
}

// completeHost writes what is said of a host as it would be stored, with the keys
// of servers that are known.
func (w *work) completeHost(name string, said Host, known fleet.Host) Host {
	if said.Reach == fleet.ReachDepot {
		said.Reach = ""
	}
	if said.SSH == nil {
		return said
	}
	ssh := *said.SSH
	ssh.Jump = slices.Clone(ssh.Jump)
	ssh.OwnKey = ssh.OwnKey && ssh.IdentityFile == ""
	if known.SSH != nil && known.SSH.OwnKey && ssh.IdentityFile != "" && known.Mode == fleet.ModeSSH {
		ssh.OwnKey = false
	}
	stored := map[string][]string{}
	if known.SSH != nil {
		stored[known.SSH.Address] = known.SSH.HostKeys
		for _, hop := range known.SSH.Jump {
			stored[hop.Address] = hop.HostKeys
		}
	}
	complete := true
	for i := range ssh.Jump {
		ok := w.completeHop(&ssh.Jump[i], stored)
		complete = complete && ok
	}
	own := Hop{Address: ssh.Address, HostKeys: ssh.HostKeys}
	ok := w.completeHop(&own, stored)
	ssh.Address, ssh.HostKeys = own.Address, own.HostKeys
	if !complete || !ok {
		w.keyless[name] = true
		w.outcome.Unknown = append(w.outcome.Unknown, fleet.UnknownServer{Host: name, Address: ssh.Address, Jump: ssh.access().Jump})
	}
	said.SSH = &ssh
	return said
}

// completeHop writes an address in full, and finds the keys of a server. An
// address that is none is left for others to refuse.
func (w *work) completeHop(hop *Hop, stored map[string][]string) (complete bool) {
	parsed, err := fleet.ParseSSHAddress("address", hop.Address)
	if err != nil {
		return true
	}
	hop.Address = parsed.String()
	if len(hop.HostKeys) == 0 {
		hop.HostKeys = w.asked.HostKeys[hop.Address]
	}
	if len(hop.HostKeys) == 0 {
		hop.HostKeys = stored[hop.Address]
	}
	hop.HostKeys = plainKeys(hop.HostKeys)
	return len(hop.HostKeys) > 0
}

func (w *work) plan(name string, said fleet.PlanSpec) {
	have, found := w.state.plans[name]
	fields := difference(have, said)
	if found && len(fields) == 0 {
		return
	}
	w.plans[name] = said
	if found {
		w.changed("change", "plan/"+name, fields)
	} else {
		w.changed("add", "plan/"+name, nil)
	}
}

// prune notes what sections of the text do not name.
func (w *work) prune() {
	if w.document.Plans != nil {
		for _, name := range keysOf(w.state.plans) {
			if _, stays := w.document.Plans[name]; !stays {
				w.unplan = append(w.unplan, name)
				w.changed("remove", "plan/"+name, nil)
			}
		}
	}
	if w.document.Repositories != nil {
		for _, name := range keysOf(w.state.repositories) {
			if _, stays := w.document.Repositories[name]; !stays && !w.state.repositories[name].Pending {
				w.remove.RemoveRepositories = append(w.remove.RemoveRepositories, name)
				w.changed("remove", "repository/"+name, nil)
			}
		}
	}
	if w.document.Hosts != nil {
		for _, name := range keysOf(w.state.hosts) {
			if _, stays := w.document.Hosts[name]; !stays && w.state.hosts[name].Mode != fleet.ModeLocal {
				w.remove.RemoveHosts = append(w.remove.RemoveHosts, name)
				w.changed("remove", "host/"+name, nil)
			}
		}
	}
}

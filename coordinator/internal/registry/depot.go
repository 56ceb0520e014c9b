package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// everyHost stands for all hosts in a list of those that may use a repository.
const everyHost = "*"

// minQuota is the least that borg serve takes.
const minQuota = 10_000_000

// DepotGrant returns what the host with a public key, in authorized_keys form
// without a comment, may do with a repository in the depot. Together with a
// *job.Failure that says why not, it holds no more than the host, if one has the
// key.
func (r *Registry) DepotGrant(publicKey, name string) (fleet.DepotGrant, *job.Failure) {
	host, known := r.byDepotKey(publicKey)
	if !known {
		return fleet.DepotGrant{}, job.Fail(job.PermissionDenied, "no host has this key").
			WithHint("a host gets its key when it is enrolled, or first reached over SSH; borgfleet host verify looks at it")
	}
	repository, err := readRepository(r.store, name)
	if err != nil {
		return fleet.DepotGrant{Host: host.Name}, job.AsFailure(err)
	}
	if repository.Depot == nil {
		return fleet.DepotGrant{Host: host.Name}, job.Fail(job.PermissionDenied, "repository %s is not in the depot, but at %s", name, repository.Location)
	}
	if !repository.Depot.Admits(host.Name) {
		return fleet.DepotGrant{Host: host.Name}, job.Fail(job.PermissionDenied, "host %s may not use repository %s", host.Name, name).
			WithHint("borgfleet repo allow %s %s", name, host.Name)
	}
	return fleet.DepotGrant{
		Host: host.Name, Repository: name, AppendOnly: repository.Depot.AppendOnly, Quota: repository.Depot.Quota,
	}, nil
}

// byDepotKey returns the host with a key for the depot.
func (r *Registry) byDepotKey(publicKey string) (host fleet.Host, known bool) {
	for _, host := range r.roster.byName() {
		if slices.Contains(depotKeys(host), publicKey) {
			return host, true
		}
	}
	return fleet.Host{}, false
}

// depotKeys returns the public keys by which a host is known to the depot.
func depotKeys(host fleet.Host) []string {
	keys := []string{host.SSHKey}
	if host.Staged != nil {
		keys = append(keys, host.Staged.SSHKey)
	}
	var plain []string
	for _, key := range keys {
		if fields := strings.Fields(key); len(fields) >= 2 { // behind them there may be a comment
			plain = append(plain, fields[0]+" "+fields[1])
		}
	}
	return plain
}

// checkDepotKey refuses the depot key of another host.
func (r *Registry) checkDepotKey(host, publicKey string) error {
	for _, key := range depotKeys(fleet.Host{SSHKey: publicKey}) {
		if owner, taken := r.byDepotKey(key); taken && owner.Name != host {
			return job.Fail(job.Conflict, "the depot key of host %s belongs to host %s", host, owner.Name).
				WithHint("each host makes its own; was its data directory copied from %s? Remove the key from the copy, and it makes another one", owner.Name)
		}
	}
	return nil
}

// SetDepotKey notes the public key, in authorized_keys form, that a host which
// is reached over SSH has made for the depot. Refusals are *job.Failure.
func (r *Registry) SetDepotKey(_ context.Context, name, publicKey string) error {
	key, err := readPublicKey("ssh_key", publicKey)
	if err != nil {
		return err
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	host, known := r.roster.get(name)
	switch {
	case !known:
		return fleet.UnknownHost(name)
	case host.Mode != fleet.ModeSSH:
		return job.Fail(job.Conflict, "host %s is not reached over SSH", name)
	case host.SSHKey == key:
		return nil
	}
	if err := r.checkDepotKey(name, key); err != nil {
		return err
	}
	host.SSHKey = key
	err = r.apply(store.PutHost(host), r.audit(fleet.Actor{Name: "host:" + name, From: "ssh"}, "host.depot_key", "host/"+name, key))
	if err != nil {
		return fmt.Errorf("store depot key of host %s: %w", name, err)
	}
	r.roster.change(name, func(h *fleet.Host) { h.SSHKey = key })
	r.hostChanged(name, "host has a key for the depot", fleet.Actor{Name: fleet.Itself})
	return nil
}

// mayUse reports whether a name can stand in a list of those that may use a
// repository: a host's, or that for all.
func (r *Registry) mayUse(name string) bool {
	host, found := r.roster.get(name)
	return name == everyHost || found && host.Mode != fleet.ModeLocal
}

// Allow lets a host, or all with "*", use a repository in the depot. Refusals are
// *job.Failure.
func (r *Registry) Allow(_ context.Context, by fleet.Actor, name, host string) (fleet.RepositoryView, error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	if !r.mayUse(host) {
		return fleet.RepositoryView{}, fleet.UnknownHost(host)
	}
	return r.changeUsers(by, "repository.allow", name, host, func(hosts []string) ([]string, error) {
		if slices.Contains(hosts, host) {
			return hosts, nil
		}
		return slices.Sorted(slices.Values(append(slices.Clone(hosts), host))), nil
	})
}

// Deny takes from a host what [Registry.Allow] has given it. Refusals are
// *job.Failure.
func (r *Registry) Deny(_ context.Context, by fleet.Actor, name, host string) (fleet.RepositoryView, error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	return r.changeUsers(by, "repository.deny", name, host, func(hosts []string) ([]string, error) {
		if !r.mayUse(host) && !slices.Contains(hosts, host) {
			return nil, fleet.UnknownHost(host) // a name that was mistyped must not seem to be kept out
		}
		if host != everyHost && slices.Contains(hosts, everyHost) {
			return nil, job.Fail(job.Conflict, "every host may use repository %s", name).
				WithHint("borgfleet repo deny %s '*', then allow the hosts that may", name)
		}
		return slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return h == host }), nil
	})
}

// leaveDepot returns the changes that take a host that is removed from the lists
// of those that may use what is in the depot.
func (r *Registry) leaveDepot(host fleet.Host) ([]store.Change, error) {
	repositories, err := r.store.Repositories()
	if err != nil {
		return nil, fmt.Errorf("read repositories: %w", err)
	}
	var changes []store.Change
	for _, repository := range repositories {
		switch {
		case repository.Depot == nil:
		case host.Mode == fleet.ModeLocal:
			return nil, job.Fail(job.Conflict, "host %s cares for repository %s in the depot", host.Name, repository.Name).
				WithHint("remove the repositories in the depot first; their data stays")
		case slices.Contains(repository.Depot.Hosts, host.Name):
			rest := slices.DeleteFunc(slices.Clone(repository.Depot.Hosts), func(h string) bool { return h == host.Name })
			changes = append(changes, store.SetDepotHosts(repository.Name, rest))
		}
	}
	return changes, nil
}

// depotRepository completes what is to be added to the depot. Refusals are
// *job.Failure.
func depotRepository(repository *fleet.Repository, asked *fleet.Depot, mayUse func(host string) bool) error {
	if !repository.InDepot() {
		if asked != nil {
			return job.Invalid("depot", "given, but the location is %s", repository.Location).WithHint("leave it out, or choose the location %q", job.DepotLocation)
		}
		return nil
	}
	if repository.Custody != fleet.CustodyCoordinator {
		return job.Invalid("custody", "what is in the depot is cared for by the coordinator, which needs the passphrase").
			WithHint("leave custody out; a repository elsewhere may have the custody %q", fleet.CustodyHosts)
	}
	if repository.Encryption == job.Keyfile || repository.Encryption == job.KeyfileBlake2 {
		return job.Invalid("encryption", "%s keeps borg's key on the machine that made the repository: hosts could not use one in the depot", repository.Encryption).
			WithHint("choose %s; borgfleet repo key-export keeps a copy of its key for you", job.RepokeyBlake2)
	}
	depot := fleet.Depot{Hosts: []string{}}
	if asked != nil {
		depot.Quota, depot.AppendOnly = asked.Quota, asked.AppendOnly
		depot.Hosts = append(depot.Hosts, asked.Hosts...)
	}
	if depot.Quota != 0 && depot.Quota < minQuota {
		return job.Invalid("depot.quota", "%d bytes are too little: borg takes no less than 10 MB", depot.Quota).
			WithHint("0 means no quota")
	}
	for _, host := range depot.Hosts {
		if !mayUse(host) {
			return fleet.UnknownHost(host)
		}
	}
	slices.Sort(depot.Hosts)
	depot.Hosts = slices.Compact(depot.Hosts)
	repository.Depot = &depot
	return nil
}

// changeUsers changes which hosts may use a repository in the depot.
func (r *Registry) changeUsers(by fleet.Actor, action, name, host string, change func([]string) ([]string, error)) (fleet.RepositoryView, error) {
	repository, err := readRepository(r.store, name)
	if err != nil {
		return fleet.RepositoryView{}, err
	}
	if repository.Depot == nil {
		return fleet.RepositoryView{}, job.Fail(job.Conflict, "repository %s is not in the depot", name).
			WithHint("who may use it is for the server at %s to say", repository.Location)
	}
	hosts, err := change(repository.Depot.Hosts)
	if err != nil {
		return fleet.RepositoryView{}, err
	}
	if err := r.apply(store.SetDepotHosts(name, hosts), r.audit(by, action, "repository/"+name, host)); err != nil {
		return fleet.RepositoryView{}, failure(err, job.UnknownRepository, "repository "+name)
	}
	r.changed(name, "who may use a repository has changed", by)
	if repository, err = readRepository(r.store, name); err != nil {
		return fleet.RepositoryView{}, err
	}
	return r.viewRepository(repository)
}

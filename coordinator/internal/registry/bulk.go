package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// ChangeFleet changes many hosts and repositories in one transaction, together
// with what also has to change with them. Faults are those of
// [Registry.CheckFleet]; after one nothing has changed.
func (r *Registry) ChangeFleet(ctx context.Context, by fleet.Actor, change fleet.FleetChange, also ...store.Change) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	check, err := r.newBulkCheck(change, true)
	if err != nil {
		return err
	}
	if err := check.run(change); err != nil {
		return err
	}
	w := &bulkWork{registry: r, by: by, changes: also, known: check.repositories}
	if err := w.collect(change); err != nil {
		return err
	}
	if len(w.changes) == 0 {
		return nil
	}
	if err := r.apply(w.changes...); err != nil {
		return bulkFailure(err)
	}
	return w.done(ctx, change)
}

// bulkFailure translates what the store refuses of what was just looked at: only
// a job can have come between.
func bulkFailure(err error) error {
	if errors.Is(err, store.ErrOpenJobs) {
		return job.Fail(job.Conflict, "a repository has got a job meanwhile: nothing was changed").WithHint("try again when it is over")
	}
	return fmt.Errorf("change hosts and repositories: %w", err)
}

// bulkWork is the changes of a transaction, and what memory learns after it.
type bulkWork struct {
	registry *Registry
	by       fleet.Actor
	known    map[string]fleet.Repository
	changes  []store.Change
	hosts    []fleet.Host // put
	gone     []fleet.Host
	ended    []string // identities of those
}

func (w *bulkWork) add(changes ...store.Change) { w.changes = append(w.changes, changes...) }

func (w *bulkWork) collect(change fleet.FleetChange) error {
	for _, put := range change.PutHosts {
		if err := w.putHost(put); err != nil {
			return err
		}
	}
	for _, put := range change.PutRepositories {
		if err := w.putRepository(put); err != nil {
			return err
		}
	}
	for _, name := range change.RemoveRepositories {
		w.add(store.RequireNoOpenJobs("", name), store.DeleteRepository(name), w.registry.options.Keyring.delete(name),
			w.registry.audit(w.by, "repository.remove", "repository/"+name, w.known[name].Location))
	}
	for _, name := range change.RemoveHosts {
		host, _ := w.registry.roster.get(name)
		ended := identities(host)
		w.gone, w.ended = append(w.gone, host), append(w.ended, ended...)
		w.add(w.registry.revocations(ended)...)
		w.add(store.DeleteHost(name), w.registry.options.Keyring.forgetSSHKey(name),
			w.registry.audit(w.by, "host.remove", "host/"+name, "bus identity "+cmp.Or(host.PublicKey, "none")))
	}
	return nil
}

func (w *bulkWork) putHost(put fleet.PutHost) error {
	r := w.registry
	host, found := r.roster.get(put.Name)
	action, detail := "host.change", "as a manifest says"
	if !found {
		host = r.newHost(put.Name)
		action, detail = "host.add", ""
	}
	host.Labels = map[string]string{}
	maps.Copy(host.Labels, put.Labels)
	host.Reach = put.Reach
	if put.SSH != nil {
		if err := w.putAccess(&host, put); err != nil {
			return err
		}
		detail = "over SSH at " + host.SSH.Address
	}
	w.hosts = append(w.hosts, host)
	w.add(store.PutHost(host), r.audit(w.by, action, "host/"+put.Name, detail))
	return nil
}

// putAccess makes a host one over SSH, if it is none, and says how it is reached.
func (w *bulkWork) putAccess(host *fleet.Host, put fleet.PutHost) error {
	access, err := checkAccess(*put.SSH)
	if err != nil {
		return err
	}
	host.Reach = cmp.Or(put.Reach, fleet.ReachDepot)
	if host.Mode != fleet.ModeSSH {
		host.Mode, host.Disabled = fleet.ModeSSH, true
	}
	before := host.SSH
	host.SSH = &access
	if before != nil && put.Key.Empty() && before.OwnKey == put.SSH.OwnKey {
		access.OwnKey, access.PublicKey = before.OwnKey, before.PublicKey
		return nil
	}
	access.OwnKey = put.SSH.OwnKey || !put.Key.Empty()
	if before != nil && before.OwnKey && !access.OwnKey {
		w.add(w.registry.options.Keyring.forgetSSHKey(host.Name))
	}
	keys, err := w.registry.giveKey(host.Name, &access, put.Key)
	w.add(keys...)
	return err
}

func (w *bulkWork) putRepository(put fleet.PutRepository) error {
	r := w.registry
	repository, found := w.known[put.Name]
	action := "repository.change"
	if !found {
		repository = fleet.Repository{CreatedAt: r.options.Now().UTC(), Custody: fleet.CustodyCoordinator}
		action = "repository.add"
	}
	if found && repository.Location != put.Location {
		w.add(store.RequireNoOpenJobs("", put.Name))
	}
	repository.Repository = put.Repository
	if err := depotRepository(&repository, put.Depot, func(string) bool { return true }); err != nil { // who may was looked at
		return err
	}
	if repository.InDepot() {
		if err := r.ensureLocalHost(); err != nil {
			return err
		}
	}
	if !put.Passphrase.Empty() {
		repository.HasPassphrase = true
		secret, err := r.options.Keyring.put(put.Name, put.Passphrase)
		if err != nil {
			return err
		}
		w.add(secret)
	}
	w.add(store.PutRepository(repository), r.audit(w.by, action, "repository/"+put.Name, repository.Location))
	return nil
}

// done tells memory, and everybody, what was stored.
func (w *bulkWork) done(_ context.Context, change fleet.FleetChange) error {
	r := w.registry
	for _, host := range w.hosts {
		if _, found := r.roster.get(host.Name); !found {
			r.roster.put(host)
		} else { // its facts may be newer
			r.roster.change(host.Name, func(h *fleet.Host) {
				h.Labels, h.Mode, h.SSH, h.Reach, h.Disabled = host.Labels, host.Mode, host.SSH, host.Reach, host.Disabled
			})
		}
		r.options.Feed.Publish(feed.Update{Type: feed.HostChanged, Host: host.Name})
	}
	for _, host := range w.gone {
		r.roster.remove(host.Name)
	}
	revoked := r.revoke(w.ended)
	for _, host := range w.gone {
		r.options.Presence.Forget(host.Name)
		r.options.Removed(host.Name)
		r.options.Feed.Publish(feed.Update{Type: feed.HostChanged, Host: host.Name})
	}
	for _, put := range change.PutRepositories {
		r.options.Feed.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: put.Name})
	}
	for _, name := range change.RemoveRepositories {
		r.options.Feed.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: name})
	}
	r.logger.Info("hosts and repositories changed", "hosts", len(w.hosts), "hosts_removed", len(w.gone),
		"repos", len(change.PutRepositories), "repos_removed", len(change.RemoveRepositories), "by", w.by.Name)
	if revoked != nil {
		cause := job.AsFailure(revoked)
		return job.Fail(job.Unavailable, "hosts were removed, but their credentials still work: %s", cause.Message).
			WithHint("%s", cmp.Or(cause.Hint, "they are revoked at the coordinator's next start; see its log"))
	}
	return nil
}

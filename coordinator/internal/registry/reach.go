package registry

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// AddSSHHost adds a host that the coordinator connects to. It is switched off
// until there was borg when it was looked at for the first time. Refusals are
// *job.Failure.
func (r *Registry) AddSSHHost(_ context.Context, by fleet.Actor, asked fleet.NewSSHHost) (fleet.HostView, error) {
	if err := checkNewName("name", asked.Name); err != nil {
		return fleet.HostView{}, err
	}
	if err := checkLabels(asked.Labels); err != nil {
		return fleet.HostView{}, err
	}
	access, err := checkAccess(asked.SSHAccess)
	if err != nil {
		return fleet.HostView{}, err
	}
	if err := checkReach(fleet.ModeSSH, asked.Reach); err != nil {
		return fleet.HostView{}, err
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	access.OwnKey = asked.OwnKey || !asked.Key.Empty()
	put, err := r.giveKey(asked.Name, &access, asked.Key)
	if err != nil {
		return fleet.HostView{}, err
	}
	host := r.newHost(asked.Name)
	maps.Copy(host.Labels, asked.Labels)
	host.Mode, host.SSH, host.Reach, host.Disabled = fleet.ModeSSH, &access, cmp.Or(asked.Reach, fleet.ReachDepot), true
	changes := append(put, store.CreateHost(host), r.audit(by, "host.add", "host/"+host.Name, "over SSH at "+access.Address))
	if err := r.apply(changes...); err != nil {
		return fleet.HostView{}, failure(err, job.UnknownHost, "host "+host.Name)
	}
	r.roster.put(host)
	r.hostChanged(host.Name, "host added", by)
	return r.viewHost(host)
}

// giveKey notes in the access which key the host is shown, and returns the
// changes that store it, if it is the host's own and new.
func (r *Registry) giveKey(name string, access *fleet.SSHAccess, given secret.Value) ([]store.Change, error) {
	key, err := given, error(nil)
	switch {
	case !access.OwnKey:
		key, err = r.sharedSSHKey()
	case given.Empty():
		key, err = makeSSHKey()
	}
	if err != nil {
		return nil, err
	}
	signer, err := parseSSHKey(key)
	if err != nil {
		return nil, err
	}
	access.PublicKey = authorizedKey(signer.PublicKey())
	if !access.OwnKey {
		return nil, nil
	}
	put, err := r.options.Keyring.putSSHKey(ownKey(name), key)
	return []store.Change{put}, err
}

// ChangeHost changes how a host is reached, and whether it is backed up. It is
// switched on only when borg was there when it was last looked at. Refusals are
// *job.Failure.
func (r *Registry) ChangeHost(_ context.Context, by fleet.Actor, name string, asked fleet.HostChange) (fleet.HostView, error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	host, known := r.roster.get(name)
	if !known {
		return fleet.HostView{}, fleet.UnknownHost(name)
	}
	changes, err := r.changeAccess(&host, asked)
	if err != nil {
		return fleet.HostView{}, err
	}
	if err := cmp.Or(changeUse(&host, asked), changeLabels(&host, asked)); err != nil {
		return fleet.HostView{}, err
	}
	changes = append(changes, store.PutHost(host), r.audit(by, "host.change", "host/"+name, describeChange(host, asked)))
	if err := r.apply(changes...); err != nil {
		return fleet.HostView{}, fmt.Errorf("change host %s: %w", name, err)
	}
	r.roster.change(name, func(h *fleet.Host) {
		h.SSH, h.Reach, h.Disabled, h.Labels = host.SSH, host.Reach, host.Disabled, host.Labels
	})
	r.hostChanged(name, "host changed", by)
	return r.viewHost(host)
}

// changeAccess changes how a host is reached.
func (r *Registry) changeAccess(host *fleet.Host, asked fleet.HostChange) ([]store.Change, error) {
	if asked.SSH == nil && asked.Key.Empty() {
		return nil, nil
	}
	if host.Mode != fleet.ModeSSH || host.SSH == nil {
		return nil, job.Invalid("ssh", "host %s is not reached over SSH, but has the mode %s", host.Name, host.Mode).
			WithHint("borgfleet host add NAME --ssh user@host adds one that is")
	}
	access := *host.SSH
	if asked.SSH != nil {
		checked, err := checkAccess(*asked.SSH)
		if err != nil {
			return nil, err
		}
		checked.OwnKey, checked.PublicKey = access.OwnKey, access.PublicKey
		access = checked
	}
	host.SSH = &access
	if asked.Key.Empty() {
		return nil, nil
	}
	access.OwnKey = true
	return r.giveKey(host.Name, &access, asked.Key)
}

// changeLabels changes by what plans and people find a host.
func changeLabels(host *fleet.Host, asked fleet.HostChange) error {
	if asked.Labels == nil {
		return nil
	}
	host.Labels = maps.Clone(asked.Labels)
	return checkLabels(asked.Labels)
}

// changeUse changes what a host is used for, and its way to the depot.
func changeUse(host *fleet.Host, asked fleet.HostChange) error {
	if asked.Reach != nil {
		if err := checkReach(host.Mode, *asked.Reach); err != nil {
			return err
		}
		host.Reach = cmp.Or(*asked.Reach, fleet.ReachDepot)
	}
	if asked.Disabled == nil {
		return nil
	}
	if host.Mode == fleet.ModeLocal {
		return job.Invalid("disabled", "nothing is backed up from %s itself", host.Name)
	}
	if !*asked.Disabled && host.Disabled {
		if err := usable(*host); err != nil {
			return err
		}
	}
	host.Disabled = *asked.Disabled
	return nil
}

// usable refuses a host of which is not known that there is borg.
func usable(host fleet.Host) error {
	const then = "then: borgfleet host enable "
	switch {
	case host.Facts == nil && host.Mode == fleet.ModeSSH:
		return job.Fail(job.Conflict, "host %s was never reached: whether borg is there is not known", host.Name).
			WithHint("borgfleet host verify %s says why, %s%s", host.Name, then, host.Name)
	case host.Facts == nil || host.Facts.BorgFailure == nil:
		return nil
	default:
		missing := *host.Facts.BorgFailure
		missing.Message = "host " + host.Name + " cannot be backed up: " + missing.Message
		missing.Hint = strings.TrimPrefix(missing.Hint+"; "+then+host.Name, "; ")
		return &missing
	}
}

// describeChange says in the audit what was changed.
func describeChange(host fleet.Host, asked fleet.HostChange) string {
	var parts []string
	if asked.SSH != nil {
		parts = append(parts, "over SSH at "+host.SSH.Address)
	}
	if !asked.Key.Empty() {
		parts = append(parts, "another key")
	}
	if asked.Reach != nil {
		parts = append(parts, "reaches the depot by "+string(host.Reach))
	}
	if asked.Disabled != nil {
		parts = append(parts, map[bool]string{true: "switched off", false: "switched on"}[*asked.Disabled])
	}
	if asked.Labels != nil {
		parts = append(parts, fmt.Sprintf("%d labels", len(host.Labels)))
	}
	return strings.Join(parts, ", ")
}

// hostChanged tells everybody that a host is not as it was.
func (r *Registry) hostChanged(name, what string, by fleet.Actor) {
	r.options.Feed.Publish(feed.Update{Type: feed.HostChanged, Host: name})
	r.logger.Info(what, "host", name, "by", by.Name)
}

// EnsureLocalHost makes the coordinator's own machine known, on which what is in
// the depot is cared for. Refusals are *job.Failure.
func (r *Registry) EnsureLocalHost(context.Context) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	return r.ensureLocalHost()
}

// ensureLocalHost is EnsureLocalHost for whoever holds the lock.
func (r *Registry) ensureLocalHost() error {
	host, known := r.roster.get(fleet.LocalHost)
	switch {
	case known && host.Mode == fleet.ModeLocal:
		return nil
	case known:
		return job.Fail(job.Conflict, "the name of host %s is needed for the coordinator's own machine", fleet.LocalHost).
			WithHint("enrol that host under another name, then: borgfleet host remove %s", fleet.LocalHost)
	}
	host = r.newHost(fleet.LocalHost)
	host.Mode = fleet.ModeLocal
	if err := r.apply(store.CreateHost(host)); err != nil {
		return fmt.Errorf("add the coordinator's own machine: %w", err)
	}
	r.roster.put(host)
	r.hostChanged(host.Name, "host added", fleet.Actor{Name: fleet.Itself})
	return nil
}

package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/nats-io/nkeys"
)

// maxSSHKeyBytes bounds a public key in authorized_keys form.
const maxSSHKeyBytes = 4096

// EnrolHost gives a host the identity that was made there, and adds the host
// when it is not known. What also has to change with it is stored in the same
// transaction, whose errors are returned as they are. A host that has another
// identity is a *job.Failure, unless the enrolment replaces it: then that one
// is ended, and passphrases sealed to its keys are dropped, as the new agent
// cannot open them.
func (r *Registry) EnrolHost(_ context.Context, by fleet.Actor, enrolment fleet.Enrolment, also ...store.Change) error {
	if err := checkEnrolment(enrolment); err != nil {
		return err
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	name, keys := enrolment.Host, fleet.HostKeys{PublicKey: enrolment.PublicKey, SealKey: enrolment.SealKey, SSHKey: enrolment.SSHKey}
	if err := r.checkKeyOwners(name, keys); err != nil {
		return err
	}
	host, known := r.roster.get(name)
	if !known {
		host = r.newHost(name)
	}
	if err := checkMode(host, enrolment.Replace); err != nil {
		return err
	}
	if host.PublicKey != "" && host.PublicKey != keys.PublicKey && !enrolment.Replace {
		return job.Fail(job.Conflict, "host %s has an identity already", name).
			WithHint("if its agent was set up anew, make a token that may replace it: borgfleet host token %s --replace", name)
	}
	enrolledAt := r.options.Now().UTC()
	enrol := func(h *fleet.Host) {
		h.PublicKey, h.SealKey, h.SSHKey = keys.PublicKey, keys.SealKey, keys.SSHKey
		h.EnrolledAt, h.Staged = &enrolledAt, nil
	}
	ended := slices.DeleteFunc(identities(host), func(key string) bool { return key == keys.PublicKey })
	enrol(&host)
	changes, err := r.dropSeals(name, keys.SealKey)
	if err != nil {
		return err
	}
	changes = slices.Concat(changes, r.revocations(ended), also)
	changes = append(changes, store.PutHost(host), r.audit(by, "host.enrol", "host/"+name, "bus identity "+keys.PublicKey))
	if err := r.apply(changes...); err != nil {
		return fmt.Errorf("enrol host %s: %w", name, err)
	}
	if known {
		r.roster.change(name, enrol) // its facts may be newer
	} else {
		r.roster.put(host)
	}
	r.logger.Info("host enrolled", "host", name, "key", keys.PublicKey, "by", by.Name)
	r.replaced(name, ended)
	return nil
}

func checkEnrolment(e fleet.Enrolment) error {
	if err := checkNewName("host", e.Host); err != nil {
		return err
	}
	if e.SealKey == "" {
		return job.Invalid("seal_key", "is missing")
	}
	return checkKeys(fleet.HostKeys{PublicKey: e.PublicKey, SealKey: e.SealKey, SSHKey: e.SSHKey})
}

// checkKeys checks keys of which all but the first may be left out.
func checkKeys(keys fleet.HostKeys) error {
	switch {
	case !nkeys.IsValidPublicUserKey(keys.PublicKey):
		return job.Invalid("public_key", "%q is not a public key of a bus identity", keys.PublicKey)
	case keys.SealKey != "" && !nkeys.IsValidPublicCurveKey(keys.SealKey):
		return job.Invalid("seal_key", "%q is not a public curve key", keys.SealKey)
	case len(keys.SSHKey) > maxSSHKeyBytes || strings.ContainsFunc(keys.SSHKey, unicode.IsControl):
		return job.Invalid("ssh_key", "is not one line in authorized_keys form")
	}
	return nil
}

// checkKeyOwners refuses keys of another host.
func (r *Registry) checkKeyOwners(host string, keys fleet.HostKeys) error {
	if err := r.checkIdentity(host, keys.PublicKey); err != nil {
		return err
	}
	return r.checkDepotKey(host, keys.SSHKey)
}

// checkIdentity refuses the identity of another host.
func (r *Registry) checkIdentity(host, publicKey string) error {
	if owner, taken := r.roster.byKey(publicKey); taken && owner != host {
		return job.Fail(job.Conflict, "the bus identity %s belongs to host %s", publicKey, owner).
			WithHint("each host makes its own; was the agent's data directory copied from %s?", owner)
	}
	return nil
}

// StageKey notes keys that a host wants to change to, so that its agent is known
// by both its bus identities until [Registry.ConfirmKey]. Keys that were staged
// before end. The present identity and the staged keys may be asked for again,
// which changes nothing. Refusals are *job.Failure.
func (r *Registry) StageKey(_ context.Context, name string, request bus.RenewRequest) error {
	keys := fleet.HostKeys{PublicKey: request.PublicKey, SealKey: request.SealKey, SSHKey: request.SSHKey}
	if err := checkKeys(keys); err != nil {
		return err
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	host, err := r.enrolled(name)
	if err != nil || host.PublicKey == keys.PublicKey || host.Staged != nil && *host.Staged == keys {
		return err
	}
	if err := r.checkKeyOwners(name, keys); err != nil {
		return err
	}
	var ended []string
	if host.Staged != nil && host.Staged.PublicKey != keys.PublicKey {
		ended = append(ended, host.Staged.PublicKey)
	}
	host.Staged = &keys
	changes := append(r.revocations(ended), store.PutHost(host),
		r.audit(fleet.Actor{Name: "host:" + name, From: "bus"}, "host.key.stage", "host/"+name, "bus identity "+keys.PublicKey))
	if err := r.apply(changes...); err != nil {
		return fmt.Errorf("stage keys of host %s: %w", name, err)
	}
	r.roster.change(name, func(h *fleet.Host) { h.Staged = &keys })
	_ = r.revoke(ended) // logged, and done at the next start
	return nil
}

// ConfirmKey makes staged keys a host's own, and ends the identity that it had
// before. Confirming again changes nothing. Keys that are not staged are a
// *job.Failure.
func (r *Registry) ConfirmKey(_ context.Context, name string, request bus.RenewRequest) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	host, err := r.enrolled(name)
	if err != nil || host.PublicKey == request.PublicKey {
		return err
	}
	if host.Staged == nil || host.Staged.PublicKey != request.PublicKey {
		return job.Fail(job.Conflict, "host %s has not asked for the bus identity %s", name, request.PublicKey).
			WithHint("ask for it first: borgfleet-agent rotate")
	}
	before, staged := host.PublicKey, *host.Staged
	confirm := func(h *fleet.Host) {
		h.PublicKey, h.Staged = staged.PublicKey, nil
		if staged.SealKey != "" {
			h.SealKey = staged.SealKey
		}
		if staged.SSHKey != "" {
			h.SSHKey = staged.SSHKey
		}
	}
	confirm(&host)
	changes := append(r.revocations([]string{before}), store.PutHost(host),
		r.audit(fleet.Actor{Name: "host:" + name, From: "bus"}, "host.key.change", "host/"+name, "bus identity "+host.PublicKey))
	if err := r.apply(changes...); err != nil {
		return fmt.Errorf("change keys of host %s: %w", name, err)
	}
	r.roster.change(name, confirm)
	r.logger.Info("host has a new identity", "host", name, "key", host.PublicKey)
	r.options.Feed.Publish(feed.Update{Type: feed.HostChanged, Host: name})
	_ = r.revoke([]string{before}) // logged, and done at the next start
	return nil
}

// enrolled returns a host that has an identity.
func (r *Registry) enrolled(name string) (fleet.Host, error) {
	host, known := r.roster.get(name)
	switch {
	case !known:
		return host, fleet.UnknownHost(name)
	case host.PublicKey == "":
		return host, job.Fail(job.Conflict, "host %s is not enrolled", name).WithHint("borgfleet host token %s", name)
	}
	return host, nil
}

// replaced ends the identities that a host had before its present one.
func (r *Registry) replaced(name string, ended []string) {
	if len(ended) > 0 {
		r.options.Presence.Forget(name) // first: what the old agent still says must not be heard
		_ = r.revoke(ended)             // logged, and done at the next start
	}
	r.options.Feed.Publish(feed.Update{Type: feed.HostChanged, Host: name})
}

// identities returns the bus identities that speak for a host.
func identities(host fleet.Host) []string {
	var keys []string
	if host.PublicKey != "" {
		keys = append(keys, host.PublicKey)
	}
	if host.Staged != nil {
		keys = append(keys, host.Staged.PublicKey)
	}
	return keys
}

// revocations returns the changes that note identities to be revoked: the store
// remembers them until the bus has carried that out.
func (r *Registry) revocations(publicKeys []string) []store.Change {
	var changes []store.Change
	for _, key := range publicKeys {
		changes = append(changes, store.PutRevocation(store.Revocation{PublicKey: key, At: r.options.Now().UTC()}))
	}
	return changes
}

// revoke ends agents' identities on the bus. What fails is logged, stays noted,
// and is tried again at the next start.
func (r *Registry) revoke(publicKeys []string) error {
	var faults []error
	for _, key := range publicKeys {
		err := r.options.Revoker.RevokeAgent(key)
		if err == nil {
			_, err = r.store.Apply(store.DeleteRevocation(key))
		}
		if err != nil {
			r.logger.Error("a bus identity that was ended may still work; trying again at the next start", "key", key, "err", err)
			faults = append(faults, fmt.Errorf("revoke bus identity %s: %w", key, err))
		}
	}
	return errors.Join(faults...)
}

// FinishRevocations ends the agents' identities that an earlier life of the
// coordinator noted, but did not come to end. Call it at the start. What the bus
// does not do is logged and stays noted, and is no error: not every external bus
// lets identities be ended, and the coordinator must start all the same.
func (r *Registry) FinishRevocations() error {
	pending, err := r.store.Revocations()
	if err != nil {
		return fmt.Errorf("read revocations: %w", err)
	}
	var agents []string
	for _, revocation := range pending {
		if !revocation.Operator { // those are not of hosts
			agents = append(agents, revocation.PublicKey)
		}
	}
	_ = r.revoke(agents) // logged
	return nil
}

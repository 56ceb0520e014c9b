package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/nats-io/nkeys"
)

// flushEvery is how old the stored facts of a host that says hello can be.
const flushEvery = time.Minute

// UpdateFacts takes in what a host says of itself in a hello. What rarely
// changes is stored at once; the rest of all hosts is stored together, once a
// minute, as hellos are many. An unknown host is a *job.Failure.
func (r *Registry) UpdateFacts(_ context.Context, name string, facts fleet.Facts, sealKey string) error {
	if !nkeys.IsValidPublicCurveKey(sealKey) {
		return job.Invalid("seal_key", "%q is not a public curve key", sealKey)
	}
	before, known := r.roster.note(name, facts, sealKey)
	if !known {
		return fleet.UnknownHost(name)
	}
	newKey := before.SealKey != sealKey
	if staged := before.Staged; newKey && before.SealKey != "" && (staged == nil || staged.SealKey != sealKey) {
		r.logger.Warn("host has a new seal key; secrets are sealed to it from now on", "host", name)
	}
	if newKey || !sameSetup(before.Facts, facts) || r.flushDue() {
		if err := r.Flush(); err != nil {
			return err
		}
	}
	if before.Disabled && before.Facts == nil && facts.BorgFailure == nil && before.Mode == fleet.ModeSSH {
		if err := r.enable(name); err != nil { // there is borg at the first look
			return err
		}
	}
	if newKey || !looksSame(before.Facts, facts) {
		r.options.Feed.Publish(feed.Update{Type: feed.HostChanged, Host: name})
	}
	return nil
}

// enable switches a host on, beside whatever else is changed of it.
func (r *Registry) enable(name string) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	if err := r.apply(store.EnableHost(name), r.audit(fleet.Actor{Name: fleet.Itself}, "host.change", "host/"+name, "switched on: it has borg")); err != nil {
		return fmt.Errorf("switch on host %s: %w", name, err)
	}
	r.roster.change(name, func(h *fleet.Host) { h.Disabled = false })
	return nil
}

// sameSetup reports whether nothing changed that changes rarely.
func sameSetup(before *fleet.Facts, now fleet.Facts) bool {
	if before == nil {
		return false
	}
	sameFailure := (before.BorgFailure == nil) == (now.BorgFailure == nil) &&
		(now.BorgFailure == nil || *before.BorgFailure == *now.BorgFailure)
	return sameFailure && before.AgentVersion == now.AgentVersion && before.BorgVersion == now.BorgVersion &&
		before.OS == now.OS && before.Slots == now.Slots && before.StartedAt.Equal(now.StartedAt)
}

// looksSame reports whether nothing changed that is worth showing at once.
func looksSame(before *fleet.Facts, now fleet.Facts) bool {
	return sameSetup(before, now) && before.FreeBytes == now.FreeBytes && before.JournalDepth == now.JournalDepth
}

// flushDue reports whether it is time to store the facts of all hosts.
func (r *Registry) flushDue() bool {
	return r.options.Now().Sub(time.Unix(0, r.flushed.Load())) >= flushEvery
}

// Flush stores the facts that are newer than stored, in one transaction. Call
// it before the store is closed.
func (r *Registry) Flush() error {
	r.flushed.Store(r.options.Now().UnixNano())
	hosts := r.roster.takeStale()
	if len(hosts) == 0 {
		return nil
	}
	changes := make([]store.Change, len(hosts))
	for i, host := range hosts {
		changes[i] = store.SetHostFacts(host.Name, *host.Facts, host.SealKey)
	}
	if _, err := r.store.Apply(changes...); err != nil {
		r.roster.giveBack(hosts)
		return fmt.Errorf("store facts of %d hosts: %w", len(hosts), err)
	}
	return nil
}

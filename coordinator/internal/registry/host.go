package registry

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Bounds of a host's labels.
const (
	maxLabels     = 64
	maxLabelBytes = 256 // of a key, and of a value
)

// AddHost declares a host: jobs can be submitted for it, and wait until its
// agent has enrolled. Refusals are *job.Failure.
func (r *Registry) AddHost(_ context.Context, by fleet.Actor, name string, labels map[string]string) (fleet.HostView, error) {
	if err := checkNewName("name", name); err != nil {
		return fleet.HostView{}, err
	}
	if err := checkLabels(labels); err != nil {
		return fleet.HostView{}, err
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	host := r.newHost(name)
	maps.Copy(host.Labels, labels)
	if err := r.apply(store.CreateHost(host), r.audit(by, "host.add", "host/"+name, "")); err != nil {
		return fleet.HostView{}, failure(err, job.UnknownHost, "host "+name)
	}
	r.roster.put(host)
	r.options.Feed.Publish(feed.Update{Type: feed.HostChanged, Host: name})
	r.logger.Info("host added", "host", name, "by", by.Name)
	return r.viewHost(host)
}

// newHost returns a host without an identity.
func (r *Registry) newHost(name string) fleet.Host {
	return fleet.Host{Name: name, Mode: fleet.ModeAgent, Labels: map[string]string{}, CreatedAt: r.options.Now().UTC()}
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return job.Invalid("labels", "%d, more than the %d that are allowed", len(labels), maxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		for _, text := range []string{key, labels[key]} {
			if len(text) > maxLabelBytes || strings.ContainsFunc(text, unicode.IsControl) {
				return job.Invalid("labels", "%q is too long or has control characters", text).
					WithHint("at most %d bytes in a key and in a value", maxLabelBytes)
			}
		}
		if strings.TrimSpace(key) == "" {
			return job.Invalid("labels", "a key is empty")
		}
	}
	return nil
}

// RemoveHost removes a host and ends its identity: when it returns without an
// error, its agent can no longer connect. Its open jobs end, too; they stay in
// the history, as its archives do in their repositories. It is refused while plans
// name it.
func (r *Registry) RemoveHost(_ context.Context, by fleet.Actor, name string) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	host, ok := r.roster.get(name)
	if !ok {
		return fleet.UnknownHost(name)
	}
	left, err := r.leaveDepot(host)
	if err != nil {
		return err
	}
	ended := identities(host)
	err = r.apply(append(append(r.revocations(ended), left...), store.RequireUnplanned(name, ""), store.DeleteHost(name),
		r.options.Keyring.forgetSSHKey(name), r.audit(by, "host.remove", "host/"+name, "bus identity "+cmp.Or(host.PublicKey, "none")))...)
	if err != nil {
		return failure(err, job.UnknownHost, "host "+name)
	}
	r.roster.remove(name)
	revoked := r.revoke(ended)
	r.options.Presence.Forget(name)
	r.options.Removed(name)
	r.options.Feed.Publish(feed.Update{Type: feed.HostChanged, Host: name})
	r.logger.Info("host removed", "host", name, "by", by.Name)
	if revoked != nil {
		cause := job.AsFailure(revoked)
		return job.Fail(job.Unavailable, "host %s was removed, but its credentials still work: %s", name, cause.Message).
			WithHint("%s", cmp.Or(cause.Hint, "they are revoked at the coordinator's next start; see its log"))
	}
	return nil
}

// Host returns a host with its present state.
func (r *Registry) Host(_ context.Context, name string) (fleet.HostView, error) {
	host, ok := r.roster.get(name)
	if !ok {
		return fleet.HostView{}, fleet.UnknownHost(name)
	}
	return r.viewHost(host)
}

// HostByKey returns the host whose agent has this public key. It is quick.
func (r *Registry) HostByKey(publicKey string) (host string, known bool) {
	return r.roster.byKey(publicKey)
}

// Hosts returns every host with its present state, by name.
func (r *Registry) Hosts(context.Context) ([]fleet.HostView, error) {
	hosts := r.roster.byName()
	views := make([]fleet.HostView, 0, len(hosts))
	for _, host := range hosts {
		view, err := r.viewHost(host)
		if err != nil {
			return nil, err
		}
		views = append(views, view)
	}
	return views, nil
}

func (r *Registry) viewHost(host fleet.Host) (fleet.HostView, error) {
	view := fleet.HostView{Host: host}
	view.Online, view.Since = r.options.Presence.Online(host.Name)
	view.Problem = r.options.Problem(host.Name)
	if view.Since.IsZero() && !view.Online && host.Facts != nil {
		view.Since = host.Facts.SeenAt
	}
	active, err := r.store.CountActive(host.Name, "")
	if err != nil {
		return view, fmt.Errorf("count jobs of host %s: %w", host.Name, err)
	}
	view.Running = active
	backups, err := r.store.BackupsOfHost(host.Name)
	if err != nil {
		return view, fmt.Errorf("read backups of host %s: %w", host.Name, err)
	}
	view.LastBackup = newest(backups)
	if view.Runs, err = r.store.Runs(host.Name); err != nil {
		return view, fmt.Errorf("read runs of host %s: %w", host.Name, err)
	}
	if view.Runs == nil {
		view.Runs = []job.State{}
	}
	return view, nil
}

// newest returns the backup that finished last; nil if there is none.
func newest(backups []fleet.BackupSummary) *fleet.BackupSummary {
	var last *fleet.BackupSummary
	for i := range backups {
		if last == nil || backups[i].FinishedAt.After(last.FinishedAt) {
			last = &backups[i]
		}
	}
	return last
}

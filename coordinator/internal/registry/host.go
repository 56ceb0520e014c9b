package registry

import (
	"context"
	"errors"
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

// AddHost adds a host whose agent connects to the bus, and returns the
// directory that holds the credentials made for it. Refusals are *job.Failure.
func (r *Registry) AddHost(_ context.Context, by fleet.Actor, name string, labels map[string]string) (fleet.HostView, string, error) {
	if err := job.CheckHostName("name", name); err != nil {
		return fleet.HostView{}, "", err
	}
	if err := checkLabels(labels); err != nil {
		return fleet.HostView{}, "", err
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	if _, taken := r.roster.get(name); taken { // its credentials must not be replaced
		return fleet.HostView{}, "", failure(store.ErrExists, job.UnknownHost, "host "+name)
	}
	credentials, publicKey, err := r.options.Minter.MintAgent(name)
	if err != nil {
		return fleet.HostView{}, "", fmt.Errorf("mint credentials of host %s: %w", name, err)
	}
	dir, err := r.writeCredentials(name, credentials)
	if err != nil {
		return fleet.HostView{}, "", err
	}
	host := fleet.Host{
		Name: name, Mode: fleet.ModeAgent, Labels: maps.Clone(labels), PublicKey: publicKey, CreatedAt: r.options.Now().UTC(),
	}
	if host.Labels == nil {
		host.Labels = map[string]string{}
	}
	err = r.apply(store.CreateHost(host), r.audit(by, "host.add", "host/"+name, "bus identity "+publicKey))
	if err != nil {
		if !errors.Is(err, store.ErrAmbiguous) {
			err = errors.Join(err, r.removeCredentials(name))
		}
		return fleet.HostView{}, "", failure(err, job.UnknownHost, "host "+name)
	}
	r.roster.put(host)
	r.options.Feed.Publish(feed.Update{Type: feed.HostChanged, Host: name})
	r.logger.Info("host added", "host", name, "by", by.Name)
	view, err := r.viewHost(host)
	return view, dir, err
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

// RemoveHost removes a host, and ends its credentials. Its jobs stay in the
// history, its archives in their repositories. It is refused while jobs of the
// host are open.
func (r *Registry) RemoveHost(_ context.Context, by fleet.Actor, name string) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	host, ok := r.roster.get(name)
	if !ok {
		return unknownHost(name)
	}
	err := r.apply(store.RequireNoOpenJobs(name, ""), store.DeleteHost(name),
		r.audit(by, "host.remove", "host/"+name, "bus identity "+host.PublicKey))
	if err != nil {
		return failure(err, job.UnknownHost, "host "+name)
	}
	r.roster.remove(name)
	r.options.Presence.Forget(name)
	r.options.Feed.Publish(feed.Update{Type: feed.HostChanged, Host: name})
	r.logger.Info("host removed", "host", name, "by", by.Name)
	return r.endCredentials(host)
}

func unknownHost(name string) *job.Failure {
	return job.Fail(job.UnknownHost, "there is no host %q", name).WithHint("borgfleet host list shows all; borgfleet host add makes one")
}

// Host returns a host with its present state.
func (r *Registry) Host(_ context.Context, name string) (fleet.HostView, error) {
	host, ok := r.roster.get(name)
	if !ok {
		return fleet.HostView{}, unknownHost(name)
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

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/registry"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/coordinator/internal/vault"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
)

var start = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)

// revoker notes whose credentials were ended.
type revoker struct {
	revoked []string
	err     error
}

func (r *revoker) RevokeAgent(publicKey string) error {
	if r.err == nil {
		r.revoked = append(r.revoked, publicKey)
	}
	return r.err
}

// presence knows since when hosts are online.
type presence struct{ since sync.Map } // time.Time by host

func (p *presence) Online(host string) (bool, time.Time) {
	since, ok := p.since.Load(host)
	if !ok {
		return false, time.Time{}
	}
	return true, since.(time.Time)
}

func (p *presence) Forget(host string) { p.since.Delete(host) }

func (p *presence) come(host string, at time.Time) { p.since.Store(host, at) }

// house is a registry with its surroundings.
type house struct {
	*registry.Registry
	store    *store.Store
	keyring  *registry.Keyring
	revoker  *revoker
	presence *presence
	feed     *feed.Feed
	watcher  *feed.Watcher
	data     string
	removed  []string // hosts that dispatch was told of
	now      time.Time
	problems map[string]*job.Failure // of hosts over SSH
}

func newHouse(t testing.TB) *house {
	t.Helper()
	data, updates := t.TempDir(), feed.New()
	s, err := store.Open(filepath.Join(data, "borgfleet.db"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Check(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	v, err := vault.Open(filepath.Join(data, "secrets.key"), true)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{
		store: s, keyring: registry.NewKeyring(s, v), revoker: &revoker{}, presence: &presence{},
		feed: updates, watcher: updates.Watch(), data: data, now: start,
	}
	h.restart(t)
	return h
}

// restart makes the registry anew of what is stored.
func (h *house) restart(t testing.TB) {
	t.Helper()
	r, err := registry.New(registry.Options{
		Store: h.store, Keyring: h.keyring, Revoker: h.revoker, Presence: h.presence, Feed: h.feed,
		Problem: func(host string) *job.Failure { return h.problems[host] },
		Removed: func(host string) { h.removed = append(h.removed, host) },
		Now:     func() time.Time { return h.now }, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Registry = r
}

func (h *house) apply(t testing.TB, changes ...store.Change) {
	t.Helper()
	if _, err := h.store.Apply(changes...); err != nil {
		t.Fatal(err)
	}
}

// updates returns what was published since the last call.
func (h *house) updates(t testing.TB) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	batch, err := h.watcher.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, u := range batch {
		texts = append(texts, fmt.Sprintf("%s %s%s", u.Type, u.Host, u.Repository))
	}
	return texts
}

// audit returns the audit, newest first.
func (h *house) audit(t testing.TB) []string {
	t.Helper()
	page, err := h.store.Audit(fleet.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, e := range page.Entries {
		if !e.At.Equal(start) || e.Outcome != "done" {
			t.Errorf("audit entry %+v", e)
		}
		texts = append(texts, fmt.Sprintf("%s %s %s", e.By, e.Action, e.Object))
	}
	return texts
}

func wantFailure(t testing.TB, err error, code job.Code, says string) {
	t.Helper()
	failure, ok := errors.AsType[*job.Failure](err)
	if !ok {
		t.Fatalf("error %v is not a failure", err)
	}
	if failure.Code != code || !strings.Contains(failure.Message, says) {
		t.Errorf("failure %q (%s), want %s and %q", failure, failure.Code, code, says)
	}
}

func same(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
}

func newJob(second int, host, repository string, state job.State) job.Job {
	at := start.Add(time.Duration(second) * time.Second)
	j := job.Job{
		ID: job.NewID(at), Kind: job.Backup, Host: host, Repository: repository, State: state,
		SubmittedAt: at, Spec: job.BackupSpec{Paths: []string{"/etc"}},
	}
	if state.Terminal() {
		j.FinishedAt = &at
	}
	return j
}

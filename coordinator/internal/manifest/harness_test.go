package manifest_test

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/manifest"
	"github.com/borgfleet/borgfleet/coordinator/internal/registry"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/coordinator/internal/vault"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

const serverKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2m4T6qkUq0bW5gkVhR7sX1yE8nQp3tLwZc9dFvHa0K"

var (
	admin = fleet.Actor{Name: "operator:ada"}
	start = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
)

// nobody is who is connected, and whose credentials were ended.
type nobody struct{}

func (nobody) RevokeAgent(string) error        { return nil }
func (nobody) Online(string) (bool, time.Time) { return false, time.Time{} }
func (nobody) Forget(string)                   {}

// plans keeps plans, and knows three faults.
type plans struct {
	specs map[string]fleet.PlanSpec
	calls int
}

func (p *plans) Specs(context.Context) (map[string]fleet.PlanSpec, error) {
	return maps.Clone(p.specs), nil
}

func (p *plans) CheckPlans(_ context.Context, put map[string]fleet.PlanSpec, remove []string, world fleet.World) error {
	after := maps.Clone(p.specs)
	maps.Copy(after, put)
	for _, name := range remove {
		delete(after, name)
	}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(after)) {
		spec := after[name]
		bad := func(f *job.Failure) { faults = append(faults, &fleet.ObjectError{Object: "plan/" + name, Cause: f}) }
		for _, host := range spec.Hosts {
			if !slices.ContainsFunc(world.Hosts, func(h fleet.Host) bool { return h.Name == host }) {
				bad(job.Invalid("hosts", "there is no host %q", host))
			}
		}
		for i, repository := range spec.Repositories {
			at := slices.IndexFunc(world.Repositories, func(r fleet.Repository) bool { return r.Name == repository })
			if at < 0 {
				bad(job.Invalid("repositories["+string(rune('0'+i))+"]", "there is no repository %q", repository))
			} else if depot := world.Repositories[at].Depot; depot != nil && len(spec.Hosts) > 0 && !depot.Admits(spec.Hosts[0]) {
				bad(job.Invalid("repositories", "host %s may not use %s", spec.Hosts[0], repository))
			}
		}
		if spec.Schedule != nil && spec.Schedule.Cron == "0 2 31 2 *" {
			bad(job.Invalid("schedule.cron", "there is no such day"))
		}
	}
	return errors.Join(faults...)
}

func (p *plans) ApplyPlans(_ context.Context, _ fleet.Actor, put map[string]fleet.PlanSpec, remove []string) error {
	p.calls++
	maps.Copy(p.specs, put)
	for _, name := range remove {
		delete(p.specs, name)
	}
	return nil
}

// notifications keeps targets with their addresses, and rules.
type notifications struct {
	targets map[string]fleet.NewTarget
	rules   map[string]fleet.Rule
}

func (n *notifications) Targets(context.Context) ([]fleet.Target, error) {
	var list []fleet.Target
	for name, t := range n.targets {
		list = append(list, fleet.Target{Name: name, Kind: t.Kind, Disabled: t.Disabled, CreatedAt: start})
	}
	return list, nil
}

func (n *notifications) Rules(context.Context) ([]fleet.Rule, error) {
	return slices.Collect(maps.Values(n.rules)), nil
}

func (n *notifications) Compare(_ context.Context, targets map[string]fleet.NewTarget, rules map[string]fleet.Rule, prune bool) ([][2]string, error) {
	var changes [][2]string
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		asked := targets[name]
		old, known := n.targets[name]
		switch {
		case !known && asked.URL.Empty():
			return nil, errors.Join(job.Invalid("notify.targets."+name+".url", "missing"))
		case !known:
			changes = append(changes, [2]string{"add", "target/" + name})
		case !asked.URL.Empty() && !asked.URL.Equal(old.URL) || asked.Disabled != old.Disabled:
			changes = append(changes, [2]string{"change", "target/" + name})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		if old, known := n.rules[name]; !known {
			changes = append(changes, [2]string{"add", "rule/" + name})
		} else if old.Severity != rules[name].Severity {
			changes = append(changes, [2]string{"change", "rule/" + name})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.targets)) {
		if _, stays := targets[name]; !stays && prune {
			changes = append(changes, [2]string{"remove", "target/" + name})
		}
	}
	return changes, nil
}

func (n *notifications) Apply(_ context.Context, _ fleet.Actor, targets map[string]fleet.NewTarget, rules map[string]fleet.Rule, prune bool) error {
	for name, asked := range targets {
		if asked.URL.Empty() {
			asked.URL = n.targets[name].URL
		}
		n.targets[name] = asked
	}
	maps.Copy(n.rules, rules)
	if prune {
		maps.DeleteFunc(n.targets, func(name string, _ fleet.NewTarget) bool { _, stays := targets[name]; return !stays })
	}
	return nil
}

// house is a service with a real registry.
type house struct {
	*manifest.Service
	store    *store.Store
	registry *registry.Registry
	keyring  *registry.Keyring
	plans    *plans
	notify   *notifications
}

func newHouse(t testing.TB) *house {
	t.Helper()
	data := t.TempDir()
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
		store: s, keyring: registry.NewKeyring(s, v), plans: &plans{specs: map[string]fleet.PlanSpec{}},
		notify: &notifications{targets: map[string]fleet.NewTarget{}, rules: map[string]fleet.Rule{}},
	}
	h.registry, err = registry.New(registry.Options{
		Store: s, Keyring: h.keyring, Revoker: nobody{}, Presence: nobody{}, Feed: feed.New(), Removed: func(string) {},
		Now: func() time.Time { return start }, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Service = manifest.New(manifest.Options{Store: s, Fleet: h.registry, Plans: h.plans, Notify: h.notify, Logger: hclog.NewNullLogger()})
	return h
}

// apply applies a text, with a secret for each file.
func (h *house) apply(t testing.TB, asked fleet.Manifest) fleet.ManifestOutcome {
	t.Helper()
	outcome, err := h.Apply(t.Context(), admin, asked)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return outcome
}

func secrets(files ...string) map[string]secret.Value {
	all := map[string]secret.Value{}
	for _, file := range files {
		all[file] = secret.FromString("secret of " + file)
	}
	return all
}

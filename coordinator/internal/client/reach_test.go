package client_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2m4T6qkUq0bW5gkVhR7sX1yE8nQp3tLwZc9dFvHa0K"

// outside is what a backend was asked of hosts over SSH and of the depot.
type outside struct {
	added   fleet.NewSSHHost
	changed fleet.HostChange
	jump    []fleet.SSHHop
	steps   []fleet.ConvertStep
	failure error
}

func (b *backend) AddSSHHost(_ context.Context, _ fleet.Actor, asked fleet.NewSSHHost) (fleet.HostView, error) {
	b.outside.added = asked
	return fleet.HostView{Host: fleet.Host{Name: asked.Name, Mode: fleet.ModeSSH}}, nil
}

func (b *backend) ChangeHost(_ context.Context, _ fleet.Actor, name string, asked fleet.HostChange) (fleet.HostView, error) {
	b.outside.changed = asked
	return fleet.HostView{Host: fleet.Host{Name: name}}, nil
}

func (b *backend) SharedSSHKey(context.Context) (string, error) { return hostKey, nil }

func (b *backend) ScanSSH(_ context.Context, _ fleet.Actor, address string, jump []fleet.SSHHop) ([]fleet.ShownKey, error) {
	b.outside.jump = jump
	return []fleet.ShownKey{{Address: address, Key: hostKey, Fingerprint: "SHA256:abc"}}, nil
}

func (b *backend) TryHost(context.Context, fleet.Actor, string) error { return b.outside.failure }

func (b *backend) ConvertHost(context.Context, fleet.Actor, string) ([]fleet.ConvertStep, error) {
	return b.outside.steps, b.outside.failure
}

func (b *backend) Allow(_ context.Context, _ fleet.Actor, name, host string) (fleet.RepositoryView, error) {
	b.called("allow " + name + " " + host)
	return repository(name), nil
}

func (b *backend) Deny(_ context.Context, _ fleet.Actor, name, host string) (fleet.RepositoryView, error) {
	b.called("deny " + name + " " + host)
	return repository(name), nil
}

func (b *backend) Depot(context.Context) (fleet.DepotView, error) {
	return fleet.DepotView{Address: "backup:2222", Uses: []fleet.DepotUse{{Repository: "main", Open: 1}}}, nil
}

func (b *backend) Transactions(context.Context, string) ([]fleet.Transaction, error) {
	return []fleet.Transaction{{Number: 41}}, nil
}

func (b *backend) Unfreeze(_ context.Context, _ fleet.Actor, name, reason string) (job.Job, error) {
	b.called("unfreeze " + name + ": " + reason)
	return b.job, nil
}

func (b *backend) Rollback(_ context.Context, _ fleet.Actor, name string, to int, reason string) error {
	if to != 41 {
		return errors.New("to another place")
	}
	b.called("rollback " + name + ": " + reason)
	return nil
}

func equal(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func TestHostsOverSSHTravelUnchanged(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	asked := fleet.NewSSHHost{
		Name: "legacy", Labels: map[string]string{"a": "b"}, Reach: fleet.ReachTunnel, Key: secret.FromString("PRIVATE"),
		SSHAccess: fleet.SSHAccess{
			Address: "me@legacy", HostKeys: []string{hostKey}, Jump: []fleet.SSHHop{{Address: "me@gate", HostKeys: []string{hostKey}}},
			OwnKey: true, Sudo: true, Borg: "/b", Dir: "/d", Hooks: "/h", Slots: 2,
		},
	}
	host := must[fleet.HostView](t)(c.AddSSHHost(t.Context(), asked))
	if got := b.outside.added; !got.Key.Equal(asked.Key) || host.Mode != fleet.ModeSSH {
		t.Errorf("another key, or host %+v", host)
	}
	b.outside.added.Key = asked.Key // which does not show itself
	equal(t, "asked", asked.SSHAccess, b.outside.added.SSHAccess)
	equal(t, "reach", asked.Reach, b.outside.added.Reach)

	off, reach := true, fleet.ReachDepot
	access := asked.SSHAccess
	access.OwnKey = false // is not changed so
	must[fleet.HostView](t)(c.ChangeHost(t.Context(), "legacy", fleet.HostChange{SSH: &access, Reach: &reach, Disabled: &off}))
	equal(t, "changed", access, *b.outside.changed.SSH)
	if got := b.outside.changed; *got.Reach != reach || !*got.Disabled || !got.Key.Empty() {
		t.Errorf("changed %+v", got)
	}
	must[fleet.HostView](t)(c.ChangeHost(t.Context(), "legacy", fleet.HostChange{Key: secret.FromString("OTHER")}))
	if got := b.outside.changed; got.SSH != nil || got.Reach != nil || got.Disabled != nil || !got.Key.Equal(secret.FromString("OTHER")) {
		t.Errorf("changed %+v", got)
	}

	keys := must[[]fleet.ShownKey](t)(c.ScanSSH(t.Context(), "me@legacy", access.Jump))
	equal(t, "keys", []fleet.ShownKey{{Address: "me@legacy", Key: hostKey, Fingerprint: "SHA256:abc"}}, keys)
	equal(t, "over", access.Jump, b.outside.jump)
	equal(t, "key for all", hostKey, must[string](t)(c.SSHKey(t.Context())))
}

func TestVerifyHost(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	request := job.Request{Host: "web1", Repository: "main", Timeout: 60, ExpiresIn: 30}
	submitted := must[job.Job](t)(c.VerifyHost(t.Context(), request, job.VerifySpec{RebuildCache: true}))
	equal(t, "job", b.job.ID, submitted.ID)
	request.Kind, request.Spec = job.Verify, []byte(`{"rebuild_cache":true}`)
	equal(t, "request", request, b.request)
	b.outside.failure = job.Fail(job.HostKeyChanged, "another key").WithHint("look")
	_, err := c.VerifyHost(t.Context(), request, job.VerifySpec{})
	if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Code != job.HostKeyChanged || failure.Hint != "look" {
		t.Errorf("error %v", err)
	}
}

func TestConvertHost(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	b.outside.steps, b.outside.failure = []fleet.ConvertStep{{Name: "copy", Detail: "done"}}, job.Fail(job.Timeout, "no hello")
	done, err := c.ConvertHost(t.Context(), "legacy")
	if err != nil || done.Failure == nil || done.Failure.Code != job.Timeout {
		t.Errorf("%+v, %v", done, err)
	}
	equal(t, "steps", b.outside.steps, done.Steps)
}

func TestDepotTravels(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	depot := must[fleet.DepotView](t)(c.Depot(t.Context()))
	equal(t, "depot", fleet.DepotView{Address: "backup:2222", Uses: []fleet.DepotUse{{Repository: "main", Open: 1}}}, depot)
	must[fleet.RepositoryView](t)(c.AllowHost(t.Context(), "main", "*"))
	must[fleet.RepositoryView](t)(c.DenyHost(t.Context(), "main", "web1"))
	must[job.Job](t)(c.Unfreeze(t.Context(), "main", "right"))
	must[fleet.RepositoryView](t)(c.Rollback(t.Context(), "main", 41, "bad"))
	equal(t, "transactions", []fleet.Transaction{{Number: 41}}, must[[]fleet.Transaction](t)(c.Transactions(t.Context(), "main")))
	equal(t, "calls", []string{"allow main *", "deny main web1", "unfreeze main: right", "rollback main: bad"}, b.calls)
	agreed := fleet.Depot{Quota: 5, AppendOnly: true, Hosts: []string{"web1"}}
	if _, err := c.AddRepository(t.Context(), fleet.NewRepository{Name: "kept", Location: job.DepotLocation, Depot: &agreed}); err != nil {
		t.Fatal(err)
	}
	equal(t, "agreed", &agreed, b.repository.Depot)
}

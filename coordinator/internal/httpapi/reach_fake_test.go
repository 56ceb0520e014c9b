package httpapi_test

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2m4T6qkUq0bW5gkVhR7sX1yE8nQp3tLwZc9dFvHa0K"
	userKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBw8vP3kR6tYh1NcX5mQ2sDf7gJzL4aEo9iUbW0nTqMy"
)

// outside is what a backend knows of hosts over SSH and of the depot.
type outside struct {
	asked     fleet.NewSSHHost
	changed   fleet.HostChange
	scanned   []fleet.SSHHop // jumps and then the server that was last asked
	tried     []string       // hosts
	refuses   error          // what every host says to a try
	steps     []fleet.ConvertStep
	unusable  error // what a conversion ends with
	reason    string
	rolled    int
	admission []string
	depot     *fleet.Depot // that was asked for
}

func (b *backend) AddSSHHost(ctx context.Context, by fleet.Actor, asked fleet.NewSSHHost) (fleet.HostView, error) {
	host, err := b.AddHost(ctx, by, asked.Name, asked.Labels)
	if err != nil {
		return host, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outside.asked = asked
	access := asked.SSHAccess
	access.PublicKey = userKey
	host.Mode, host.SSH, host.Reach, host.Disabled = fleet.ModeSSH, &access, asked.Reach, true
	b.hosts[asked.Name] = host
	return host, nil
}

func (b *backend) ChangeHost(_ context.Context, by fleet.Actor, name string, asked fleet.HostChange) (fleet.HostView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	host, ok := b.hosts[name]
	if err := needs(bus.Admin, by); err != nil || !ok {
		return host, cmp.Or(err, error(fleet.UnknownHost(name)))
	}
	b.outside.changed = asked
	if asked.Disabled != nil {
		host.Disabled = *asked.Disabled
	}
	b.hosts[name] = host
	return host, nil
}

func (b *backend) SharedSSHKey(ctx context.Context) (string, error) {
	return userKey, needs(bus.Admin, fleet.ActorOf(ctx))
}

func (b *backend) ScanSSH(_ context.Context, by fleet.Actor, address string, jump []fleet.SSHHop) ([]fleet.ShownKey, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outside.scanned = append(slices.Clone(jump), fleet.SSHHop{Address: address})
	if b.outside.refuses != nil {
		return nil, b.outside.refuses
	}
	return []fleet.ShownKey{{Address: address, Key: hostKey, Fingerprint: "SHA256:abc"}}, needs(bus.Operator, by)
}

func (b *backend) TryHost(_ context.Context, by fleet.Actor, host string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outside.tried = append(b.outside.tried, host)
	return cmp.Or(needs(bus.Operator, by), b.outside.refuses)
}

func (b *backend) ConvertHost(_ context.Context, by fleet.Actor, _ string) ([]fleet.ConvertStep, error) {
	return b.outside.steps, cmp.Or(needs(bus.Admin, by), b.outside.unusable)
}

func (b *backend) admit(by fleet.Actor, name, what string) (fleet.RepositoryView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	repository, ok := b.repositories[name]
	if err := needs(bus.Admin, by); err != nil || !ok {
		return fleet.RepositoryView{}, cmp.Or(err, error(fleet.UnknownRepository(name)))
	}
	b.outside.admission = append(b.outside.admission, what)
	return repository, nil
}

func (b *backend) Allow(_ context.Context, by fleet.Actor, name, host string) (fleet.RepositoryView, error) {
	return b.admit(by, name, "allow "+host)
}

func (b *backend) Deny(_ context.Context, by fleet.Actor, name, host string) (fleet.RepositoryView, error) {
	return b.admit(by, name, "deny "+host)
}

func (b *backend) Depot(context.Context) (fleet.DepotView, error) {
	return fleet.DepotView{
		Address: "backup.example.net:2222", HostKey: hostKey, Fingerprint: "SHA256:abc",
		Uses: []fleet.DepotUse{{Repository: "main", Open: 1, Connections: 3, Refused: 2, Received: 10, Sent: 20}},
	}, nil
}

func (b *backend) Transactions(context.Context, string) ([]fleet.Transaction, error) {
	return []fleet.Transaction{{Number: 41, At: time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)}}, nil
}

func (b *backend) Unfreeze(_ context.Context, by fleet.Actor, name, reason string) (job.Job, error) {
	b.outside.reason = reason
	_, err := b.admit(by, name, "unfreeze")
	if err != nil {
		return job.Job{}, err
	}
	at := time.Now().UTC()
	listed := job.Job{
		ID: job.NewID(at), Kind: job.List, Host: fleet.LocalHost, Repository: name, State: job.Succeeded, MaxAttempts: 1,
		SubmittedBy: by.Name, SubmittedAt: at, FinishedAt: &at, Spec: job.ListSpec{}, Result: &job.Result{},
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jobs = append(b.jobs, listed)
	return listed, nil
}

func (b *backend) Rollback(_ context.Context, by fleet.Actor, name string, to int, reason string) error {
	b.outside.rolled, b.outside.reason = to, reason
	_, err := b.admit(by, name, "rollback")
	return err
}

// putDepot stores a repository in the depot that is frozen.
func (b *backend) putDepot(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.repositories[name] = fleet.RepositoryView{Repository: fleet.Repository{
		Custody: fleet.CustodyCoordinator, Repository: job.Repository{Name: name, Location: job.DepotLocation, Encryption: job.RepokeyBlake2},
		Depot: &fleet.Depot{Quota: 5, AppendOnly: true, Frozen: &fleet.Frozen{Reason: "an archive is gone"}},
	}}
}

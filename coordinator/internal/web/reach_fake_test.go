package web_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Keys of servers, and of the coordinator.
const (
	serverKey   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEiYBkDWsIwkTYVsCfS9nkDdFWSLBSDvkr3BqDyX4Tqn"
	serverPrint = "SHA256:cQV26x0f2PZUCCrd7AvA3IbcGRNE0L0dRJmNV5Uyo3c"
	gateKey     = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA"
	sharedKey   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPublicPartOfTheKeyForAllHosts"
	depotPrint  = "SHA256:depotDEPOTdepotDEPOTdepotDEPOTdepotDEPOTdep"
	passphrase  = "SECRET-PASSPHRASE"
)

// harbour is the part of the world that is about hosts over SSH and the depot.
type harbour struct {
	added        []fleet.NewSSHHost
	changed      []fleet.HostChange
	made         []fleet.NewRepository
	transactions []fleet.Transaction
	depot        fleet.DepotView
	absent       bool // there is no depot, and hosts over SSH cannot be added
	closed       bool // the depot does not listen
}

func (w *world) ScanSSH(_ context.Context, _ fleet.Actor, address string, jump []fleet.SSHHop) ([]fleet.ShownKey, error) {
	through := make([]string, len(jump))
	for i, hop := range jump {
		through[i] = hop.Address + " " + strings.Join(hop.HostKeys, ",")
	}
	if err := w.note("scan", address, "through", fmt.Sprint(through)); err != nil {
		return nil, err
	}
	switch {
	case strings.Contains(address, "gone"):
		return nil, job.Fail(job.HostUnreachable, "%s does not answer", address).WithHint("is sshd running there?")
	case strings.Contains(address, "gate"):
		return []fleet.ShownKey{{Address: address, Key: gateKey, Fingerprint: "SHA256:gateGATE"}}, nil
	}
	return []fleet.ShownKey{{Address: address, Key: serverKey, Fingerprint: serverPrint}}, nil
}

func (w *world) AddSSHHost(_ context.Context, _ fleet.Actor, asked fleet.NewSSHHost) (fleet.HostView, error) {
	if asked.Name == "db1" {
		return fleet.HostView{}, job.Fail(job.Conflict, "there is a host db1 already")
	}
	w.added = append(w.added, asked)
	return fleet.HostView{Host: fleet.Host{Name: asked.Name}}, w.note("add host", asked.Name)
}

func (w *world) ChangeHost(_ context.Context, _ fleet.Actor, name string, change fleet.HostChange) (fleet.HostView, error) {
	w.changed = append(w.changed, change)
	return fleet.HostView{}, w.note("change host", name)
}

func (w *world) TryHost(_ context.Context, _ fleet.Actor, host string) error {
	if host == "cam2" {
		return job.Fail(job.PermissionDenied, "cam2 does not let the coordinator's key in")
	}
	return w.note("try", host)
}

func (w *world) SharedSSHKey(context.Context) (string, error) { return sharedKey, w.broken }

func (w *world) Depot(context.Context) (fleet.DepotView, error) {
	if w.closed {
		return fleet.DepotView{}, job.Fail(job.Unavailable, "this coordinator keeps no depot")
	}
	return w.depot, w.broken
}

func (w *world) Transactions(context.Context, string) ([]fleet.Transaction, error) {
	return w.transactions, w.broken
}

func (w *world) AddRepository(_ context.Context, _ fleet.Actor, asked fleet.NewRepository) (fleet.RepositoryView, secret.Value, error) {
	if asked.Name == "nas" {
		return fleet.RepositoryView{}, secret.Value{}, job.Invalid("name", "nas is taken")
	}
	w.made = append(w.made, asked)
	view := fleet.RepositoryView{Repository: fleet.Repository{Repository: job.Repository{Name: asked.Name}}}
	if !asked.Generate {
		return view, secret.Value{}, w.note("add repository", asked.Name)
	}
	return view, secret.FromString(passphrase), w.note("add repository", asked.Name)
}

func (w *world) Allow(_ context.Context, _ fleet.Actor, repository, host string) (fleet.RepositoryView, error) {
	return fleet.RepositoryView{}, w.note("allow", repository, host)
}

func (w *world) Deny(_ context.Context, _ fleet.Actor, repository, host string) (fleet.RepositoryView, error) {
	return fleet.RepositoryView{}, w.note("deny", repository, host)
}

func (w *world) Unfreeze(_ context.Context, _ fleet.Actor, repository, reason string) (job.Job, error) {
	return job.Job{}, w.note("unfreeze", repository, reason)
}

func (w *world) Rollback(_ context.Context, _ fleet.Actor, repository string, to int, reason string) error {
	return w.note("rollback", repository, fmt.Sprint(to), reason)
}

// seaside is a rich world with hosts over SSH and a depot.
func seaside() *world {
	w := rich()
	ssh := host("cam1", "sssss", 9*time.Hour)
	ssh.Mode, ssh.Reach, ssh.Facts.AgentVersion = fleet.ModeSSH, fleet.ReachTunnel, ""
	ssh.LastBackup.Repository = "vault"
	ssh.SSH = &fleet.SSHAccess{
		Address: "backup@cam1.example.net:22", HostKeys: []string{serverKey}, PublicKey: sharedKey, Sudo: true, Dir: "/var/lib/fleet", Slots: 2,
		Jump: []fleet.SSHHop{{Address: "hop@gate.example.net:2222", HostKeys: []string{gateKey}}},
	}
	fresh := host("cam2", "", 0)
	fresh.Mode, fresh.Facts, fresh.LastBackup, fresh.Online, fresh.Since, fresh.Disabled = fleet.ModeSSH, nil, nil, false, time.Time{}, true
	fresh.SSH = &fleet.SSHAccess{Address: "root@cam2:22", HostKeys: []string{serverKey}, OwnKey: true, PublicKey: sharedKey}
	fresh.Problem = job.Fail(job.PermissionDenied, "cam2 does not let the coordinator's key in").WithHint("put its key into `~/.ssh/authorized_keys`")
	local := host(fleet.LocalHost, "", 0)
	local.Mode, local.LastBackup, local.Facts.AgentVersion = fleet.ModeLocal, nil, ""
	w.hosts = append(w.hosts, ssh, fresh, local)
	vault, yard := w.repositories[0], w.repositories[0]
	vault.Name, vault.Location, vault.Depot = "vault", job.DepotLocation, &fleet.Depot{Quota: 500e9, AppendOnly: true, Hosts: []string{"cam1", "web1"}}
	yard.Name, yard.Location, yard.Depot = "yard", job.DepotLocation, &fleet.Depot{Hosts: []string{"*"}}
	w.repositories = append(w.repositories, vault, yard)
	w.depot = fleet.DepotView{Address: "backup.example.net:8022", HostKey: sharedKey, Fingerprint: depotPrint, Uses: []fleet.DepotUse{
		{Repository: "vault", Open: 2, Connections: 1310, Refused: 3, Received: 41_300_000_000, Sent: 12_000_000},
	}}
	for i := range 250 {
		w.transactions = append(w.transactions, fleet.Transaction{Number: 2*i + 1, At: noon.Add(time.Duration(i-250) * time.Hour)})
	}
	verify := ended(id(60), job.Verify, "cam1", job.Warning, job.VerifySpec{})
	verify.Result = &job.Result{Checks: []job.Finding{
		{Name: "login", Good: true, Detail: "as root, by `sudo -n`"}, {Name: "space", Detail: "812 MB are free in `/var/lib/fleet`", Hint: "choose another `--dir`"},
	}}
	prune := ended(id(61), job.Prune, fleet.LocalHost, job.Succeeded, job.PruneSpec{KeepDaily: 7, DryRun: true})
	prune.Repository, prune.For, prune.Result = "vault", "cam1", &job.Result{Kept: []string{"a"}, Pruned: []string{"b"}}
	w.jobs = append([]job.Job{prune, verify}, w.jobs...)
	return w
}

// freeze makes the repository vault look as after an attack.
func (w *world) freeze(missing, unknown []string) *world {
	for i := range w.repositories {
		if w.repositories[i].Name == "vault" {
			depot := *w.repositories[i].Depot
			depot.Frozen = &fleet.Frozen{At: noon.Add(-2 * time.Hour), Reason: "2 archives are missing that no job has deleted", Missing: missing, Unknown: unknown}
			w.repositories[i].Depot = &depot
		}
	}
	w.status.Attention = append(w.status.Attention,
		fleet.Attention{Kind: "frozen", Repository: "vault", Job: prunedJob, Since: noon, Message: "repository vault is frozen", Hint: "borgfleet repo show vault"},
		fleet.Attention{Kind: "unreachable", Host: "cam2", Since: noon, Message: "cam2 does not let the coordinator's key in"},
		fleet.Attention{Kind: "verify", Host: "cam1", Job: id(60), Since: noon, Message: "1 finding about cam1 is not good"})
	return w
}

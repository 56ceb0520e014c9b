package registry_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

var ada = fleet.Actor{Name: "operator:ada"}

// bulkHouse has an agent's host, one over SSH, and a repository elsewhere and one
// in the depot.
func bulkHouse(t *testing.T) *house {
	t.Helper()
	h := newHouse(t)
	access := fleet.SSHAccess{Address: "root@legacy:22", HostKeys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2m4T6qkUq0bW5gkVhR7sX1yE8nQp3tLwZc9dFvHa0K"}, Jump: []fleet.SSHHop{}}
	err := h.ChangeFleet(t.Context(), ada, fleet.FleetChange{
		PutHosts: []fleet.PutHost{{Name: "web1", Labels: map[string]string{"site": "fra"}}, {Name: "legacy", SSH: &access}},
		PutRepositories: []fleet.PutRepository{
			{Repository: job.Repository{Name: "main", Location: "ssh://b@store/srv", Encryption: job.RepokeyBlake2}, Passphrase: secret.FromString("one")},
			{Repository: job.Repository{Name: "kept", Location: "depot", Encryption: job.Unencrypted}, Depot: &fleet.Depot{Hosts: []string{"web1"}}},
		},
	}, store.PutManifestNote("repository/main", store.ManifestNote{Files: map[string]string{"passphrase_file": "/x"}}))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestChangeFleet(t *testing.T) {
	h := bulkHouse(t)
	h.restart(t) // memory is what is stored
	legacy, err := h.Host(t.Context(), "legacy")
	if err != nil || legacy.Mode != fleet.ModeSSH || !legacy.Disabled || legacy.SSH.PublicKey == "" || legacy.SSH.OwnKey {
		t.Errorf("legacy is %+v (%v)", legacy, err)
	}
	if passphrase, err := h.keyring.Passphrase(t.Context(), "main"); err != nil || !passphrase.Equal(secret.FromString("one")) {
		t.Errorf("passphrase of main: %v", err)
	}
	if local, err := h.Host(t.Context(), fleet.LocalHost); err != nil || local.Mode != fleet.ModeLocal {
		t.Errorf("the coordinator's own machine: %+v (%v)", local, err)
	}
	page, err := h.store.Audit(fleet.AuditFilter{Limit: 10})
	if err != nil || len(page.Entries) != 4 {
		t.Errorf("%d entries in the audit (%v), want one for each object", len(page.Entries), err)
	}
	change := fleet.FleetChange{
		PutHosts:        []fleet.PutHost{{Name: "web1", Labels: map[string]string{"site": "ams"}}},
		PutRepositories: []fleet.PutRepository{{Repository: job.Repository{Name: "main", Location: "ssh://b@other/srv", Encryption: job.RepokeyBlake2}}},
		RemoveHosts:     []string{"legacy"}, RemoveRepositories: []string{"kept"},
	}
	if err := h.ChangeFleet(t.Context(), ada, change); err != nil {
		t.Fatal(err)
	}
	web1, err := h.Host(t.Context(), "web1")
	if err != nil || web1.Labels["site"] != "ams" {
		t.Errorf("web1 is %+v (%v)", web1, err)
	}
	main, err := h.Repository(t.Context(), "main")
	if err != nil || main.Location != "ssh://b@other/srv" || !main.HasPassphrase {
		t.Errorf("main is %+v (%v)", main, err)
	}
	if _, err := h.Host(t.Context(), "legacy"); err == nil || len(h.removed) != 1 {
		t.Errorf("legacy is still there; %v were told", h.removed)
	}
}

func TestCheckFleet(t *testing.T) {
	repository := func(name, location string, encryption job.Encryption) fleet.PutRepository {
		return fleet.PutRepository{Repository: job.Repository{Name: name, Location: location, Encryption: encryption}}
	}
	for name, c := range map[string]struct {
		change fleet.FleetChange
		object string // empty: it is good
		says   string
	}{
		"nothing":                {fleet.FleetChange{}, "", ""},
		"name":                   {fleet.FleetChange{PutHosts: []fleet.PutHost{{Name: "Web"}}}, "host/Web", "name: "},
		"own machine":            {fleet.FleetChange{PutHosts: []fleet.PutHost{{Name: "coordinator"}}}, "host/coordinator", "own machine"},
		"left by SSH":            {fleet.FleetChange{PutHosts: []fleet.PutHost{{Name: "legacy"}}}, "host/legacy", "reached over SSH"},
		"reach of an agent":      {fleet.FleetChange{PutHosts: []fleet.PutHost{{Name: "web1", Reach: fleet.ReachTunnel}}}, "host/web1", "reach: "},
		"no host key":            {fleet.FleetChange{PutHosts: []fleet.PutHost{{Name: "nas", SSH: &fleet.SSHAccess{Address: "me@nas"}}}}, "host/nas", "ssh.host_keys: "},
		"no key":                 {fleet.FleetChange{PutHosts: []fleet.PutHost{{Name: "nas", SSH: &fleet.SSHAccess{Address: "nas"}, Key: secret.FromString("x")}}}, "host/nas", "ssh.address: "},
		"unknown host removed":   {fleet.FleetChange{RemoveHosts: []string{"gone"}}, "host/gone", "no host"},
		"own machine removed":    {fleet.FleetChange{RemoveHosts: []string{"coordinator"}}, "host/coordinator", "own machine"},
		"put and removed":        {fleet.FleetChange{PutHosts: []fleet.PutHost{{Name: "web1"}}, RemoveHosts: []string{"web1"}}, "host/web1", "at once"},
		"place of another":       {fleet.FleetChange{PutRepositories: []fleet.PutRepository{repository("two", "ssh://b@store:22//srv", job.Unencrypted)}}, "repository/two", "belongs to repository main"},
		"place that gets free":   {fleet.FleetChange{PutRepositories: []fleet.PutRepository{repository("two", "ssh://b@store/srv", job.Unencrypted)}, RemoveRepositories: []string{"main"}}, "", ""},
		"another encryption":     {fleet.FleetChange{PutRepositories: []fleet.PutRepository{repository("main", "ssh://b@store/srv", job.Repokey)}}, "repository/main", "encryption: "},
		"out of the depot":       {fleet.FleetChange{PutRepositories: []fleet.PutRepository{repository("kept", "/srv", job.Unencrypted)}}, "repository/kept", "location: "},
		"no passphrase":          {fleet.FleetChange{PutRepositories: []fleet.PutRepository{repository("two", "/srv", job.Repokey)}}, "repository/two", "passphrase_file: "},
		"unknown user":           {fleet.FleetChange{PutRepositories: []fleet.PutRepository{{Repository: job.Repository{Name: "kept", Location: "depot", Encryption: job.Unencrypted}, Depot: &fleet.Depot{Hosts: []string{"web9"}}}}}, "repository/kept", "web9"},
		"user that comes":        {fleet.FleetChange{PutHosts: []fleet.PutHost{{Name: "web9"}}, PutRepositories: []fleet.PutRepository{{Repository: job.Repository{Name: "kept", Location: "depot", Encryption: job.Unencrypted}, Depot: &fleet.Depot{Hosts: []string{"web9"}}}}}, "", ""},
		"unknown repository":     {fleet.FleetChange{RemoveRepositories: []string{"gone"}}, "repository/gone", "no repository"},
		"passphrase that comes":  {fleet.FleetChange{PutRepositories: []fleet.PutRepository{{Repository: job.Repository{Name: "two", Location: "/srv", Encryption: job.Repokey}, PassphraseComes: true}}}, "", ""},
		"needless passphrase":    {fleet.FleetChange{PutRepositories: []fleet.PutRepository{{Repository: job.Repository{Name: "two", Location: "/srv", Encryption: job.Unencrypted}, PassphraseComes: true}}}, "repository/two", "uses no passphrase"},
		"passphrase of two rows": {fleet.FleetChange{PutRepositories: []fleet.PutRepository{{Repository: job.Repository{Name: "two", Location: "/srv", Encryption: job.Repokey}, Passphrase: secret.FromString("a\nb")}}}, "repository/two", "passphrase: "},
	} {
		t.Run(name, func(t *testing.T) {
			h := bulkHouse(t)
			err := h.CheckFleet(t.Context(), c.change)
			if c.object == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			of, ok := errors.AsType[*fleet.ObjectError](err)
			if !ok || of.Object != c.object || !strings.Contains(of.Cause.Message, c.says) {
				t.Errorf("error %v, want one of %s that says %q", err, c.object, c.says)
			}
			if err := h.ChangeFleet(t.Context(), ada, c.change); err == nil {
				t.Error("it was changed all the same")
			}
		})
	}
}

func TestRepositoryWithJobsStays(t *testing.T) {
	h := bulkHouse(t)
	h.apply(t, store.CreateJob(job.Job{ID: job.NewID(start), Kind: job.Info, Host: "web1", Repository: "main", State: job.Queued, MaxAttempts: 1, SubmittedAt: start, Spec: job.InfoSpec{}}))
	for name, change := range map[string]fleet.FleetChange{
		"removed": {RemoveRepositories: []string{"main"}},
		"moved":   {PutRepositories: []fleet.PutRepository{{Repository: job.Repository{Name: "main", Location: "/elsewhere", Encryption: job.RepokeyBlake2}}}},
	} {
		if err := h.ChangeFleet(t.Context(), ada, change); err == nil || !strings.Contains(err.Error(), "jobs that are not over") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAlsoFails holds that one transaction makes all of it, or nothing.
func TestAlsoFails(t *testing.T) {
	h := bulkHouse(t)
	err := h.ChangeFleet(t.Context(), ada, fleet.FleetChange{PutHosts: []fleet.PutHost{{Name: "web2"}}}, store.RequireHost("nobody"))
	if err == nil {
		t.Fatal("it went well")
	}
	if _, err := h.Host(t.Context(), "web2"); err == nil {
		t.Error("memory has a host that is not stored")
	}
}

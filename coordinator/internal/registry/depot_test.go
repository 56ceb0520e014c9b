package registry_test

import (
	"errors"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func inDepot(name string, hosts ...string) fleet.NewRepository {
	return fleet.NewRepository{
		Name: name, Location: job.DepotLocation, Passphrase: secret.FromString("correct horse"),
		Depot: &fleet.Depot{Quota: 5e9, AppendOnly: true, Hosts: hosts},
	}
}

func TestAddRepositoryToTheDepot(t *testing.T) {
	h := newHouse(t)
	h.mustHost(t, "web1")
	h.mustAdd(t, inDepot("kept", "web1", "*", "web1"))
	plain := inDepot("plain")
	plain.Depot = nil
	h.mustAdd(t, plain) // at the same location, which is none
	for name, want := range map[string]*fleet.Depot{
		"kept": {Quota: 5e9, AppendOnly: true, Hosts: []string{"*", "web1"}}, "plain": {Hosts: []string{}},
	} {
		view, err := h.Repository(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		same(t, name, want, view.Depot)
	}
	local, err := h.Host(t.Context(), fleet.LocalHost)
	if err != nil || local.Mode != fleet.ModeLocal {
		t.Errorf("the coordinator's own machine: %+v, %v", local, err)
	}
	if err := h.EnsureLocalHost(t.Context()); err != nil {
		t.Error(err)
	}
	wantFailure(t, h.RemoveHost(t.Context(), alice, fleet.LocalHost), job.Conflict, "cares for repository kept")
	for _, name := range []string{"kept", "plain"} {
		if err := h.RemoveRepository(t.Context(), alice, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.RemoveHost(t.Context(), alice, fleet.LocalHost); err != nil {
		t.Errorf("with an empty depot: %v", err)
	}
}

func TestDepotRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*fleet.NewRepository)
		code  job.Code
		says  string
	}{
		"sealed to hosts":       {func(r *fleet.NewRepository) { r.Custody, r.Passphrase = fleet.CustodyHosts, secret.Value{} }, job.InvalidRequest, "needs the passphrase"},
		"an unknown host":       {func(r *fleet.NewRepository) { r.Depot.Hosts = []string{"db"} }, job.UnknownHost, "db"},
		"a key on one machine":  {func(r *fleet.NewRepository) { r.Encryption = job.KeyfileBlake2 }, job.InvalidRequest, "hosts could not use"},
		"a quota below zero":    {func(r *fleet.NewRepository) { r.Depot.Quota = -1 }, job.InvalidRequest, "too little"},
		"a quota of too little": {func(r *fleet.NewRepository) { r.Depot.Quota = 9_999_999 }, job.InvalidRequest, "no less than 10 MB"},
		"for one elsewhere":     {func(r *fleet.NewRepository) { r.Location = "/srv/x" }, job.InvalidRequest, "depot"},
		"the name of an agent":  {func(r *fleet.NewRepository) { r.Depot.Hosts = nil }, job.Conflict, "is needed for the coordinator's own machine"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			if test.code == job.Conflict { // from before the name was taken
				h.apply(t, store.CreateHost(fleet.Host{Name: fleet.LocalHost, Mode: fleet.ModeAgent}))
				h.restart(t)
			}
			asked := inDepot("kept")
			test.spoil(&asked)
			_, _, err := h.AddRepository(t.Context(), alice, asked)
			wantFailure(t, err, test.code, test.says)
			h.wantNone(t, "kept")
		})
	}
	h := newHouse(t)
	_, err := h.AddHost(t.Context(), alice, fleet.LocalHost, nil)
	wantFailure(t, err, job.InvalidRequest, "own machine")
	wantFailure(t, h.EnrolHost(t.Context(), alice, newKeys(t).enrolment(fleet.LocalHost)), job.InvalidRequest, "own machine")
	h.mustAdd(t, inDepot("kept"))
	h.mustAdd(t, newRepository())
	_, err = h.MoveRepository(t.Context(), alice, "kept", "/srv/x")
	wantFailure(t, err, job.InvalidRequest, "not moved")
	_, err = h.MoveRepository(t.Context(), alice, "main", job.DepotLocation)
	wantFailure(t, err, job.InvalidRequest, "not moved")
}

func TestAllowAndDeny(t *testing.T) {
	h := newHouse(t)
	h.mustHost(t, "web1")
	h.mustHost(t, "db1")
	h.mustAdd(t, inDepot("kept"))
	frozen := fleet.Frozen{Reason: "an archive is gone", At: start}
	h.apply(t, store.SetFrozen("kept", &frozen))
	for _, step := range []struct {
		allow bool
		host  string
		want  []string
	}{
		{true, "web1", []string{"web1"}}, {true, "db1", []string{"db1", "web1"}}, {true, "web1", []string{"db1", "web1"}},
		{false, "web1", []string{"db1"}}, {false, "web1", []string{"db1"}}, {true, "*", []string{"*", "db1"}}, {false, "*", []string{"db1"}},
	} {
		change := h.Deny
		if step.allow {
			change = h.Allow
		}
		view, err := change(t.Context(), bob, "kept", step.host)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "hosts", step.want, view.Depot.Hosts)
		same(t, "still frozen", &frozen, view.Depot.Frozen)
	}
	same(t, "newest audit entry", "operator:bob repository.deny repository/kept", h.audit(t)[0])
	for _, name := range []string{"nope", fleet.LocalHost} {
		_, err := h.Allow(t.Context(), bob, "kept", name)
		wantFailure(t, err, job.UnknownHost, name)
		_, err = h.Deny(t.Context(), bob, "kept", name)
		wantFailure(t, err, job.UnknownHost, name)
	}
	if _, err := h.Allow(t.Context(), bob, "kept", "*"); err != nil {
		t.Fatal(err)
	}
	_, err := h.Deny(t.Context(), bob, "kept", "db1")
	wantFailure(t, err, job.Conflict, "every host")
	h.mustAdd(t, newRepository())
	_, err = h.Allow(t.Context(), bob, "main", "web1")
	wantFailure(t, err, job.Conflict, "not in the depot")
	if err := h.RemoveHost(t.Context(), alice, "db1"); err != nil {
		t.Fatal(err)
	}
	view, err := h.Repository(t.Context(), "kept")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "after the host is gone", []string{"*"}, view.Depot.Hosts)
}

func TestDepotGrant(t *testing.T) {
	h := newHouse(t)
	key, second := sshKey(t), sshKey(t)
	agent := newKeys(t).enrolment("web1")
	agent.SSHKey = key + " borgfleet@web1"
	if err := h.EnrolHost(t.Context(), alice, agent); err != nil {
		t.Fatal(err)
	}
	h.mustSSH(t, overSSH(t, "legacy"))
	if err := h.SetDepotKey(t.Context(), "legacy", second+" legacy\n"); err != nil {
		t.Fatal(err)
	}
	h.mustAdd(t, inDepot("kept", "web1"))
	h.mustAdd(t, newRepository())
	grant, failure := h.DepotGrant(key, "kept")
	if failure != nil {
		t.Fatal(failure)
	}
	same(t, "grant", fleet.DepotGrant{Host: "web1", Repository: "kept", AppendOnly: true, Quota: 5e9}, grant)
	refused := func(key, repository, says string) {
		t.Helper()
		_, failure := h.DepotGrant(key, repository)
		if failure == nil {
			t.Fatalf("let in to %s", repository)
		}
		wantFailure(t, failure, failure.Code, says)
	}
	refused(second, "kept", "host legacy may not use repository kept")
	refused(sshKey(t), "kept", "no host has this key")
	refused("", "kept", "no host has this key")
	refused(key, "main", "is not in the depot")
	refused(key, "../kept", "there is no repository")
	if _, err := h.Allow(t.Context(), alice, "kept", "legacy"); err != nil {
		t.Fatal(err)
	}
	if _, failure := h.DepotGrant(second, "kept"); failure != nil {
		t.Error(failure)
	}
	if err := h.RemoveHost(t.Context(), alice, "legacy"); err != nil {
		t.Fatal(err)
	}
	refused(second, "kept", "no host has this key")
}

func TestSetDepotKey(t *testing.T) {
	h := newHouse(t)
	key := sshKey(t)
	h.mustSSH(t, overSSH(t, "one"))
	h.mustSSH(t, overSSH(t, "two"))
	h.mustHost(t, "web1")
	for range 2 {
		if err := h.SetDepotKey(t.Context(), "one", key); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "audit", []string{"host:one host.depot_key host/one"}, h.audit(t)[:len(h.audit(t))-3])
	wantFailure(t, h.SetDepotKey(t.Context(), "two", key), job.Conflict, "belongs to host one")
	wantFailure(t, h.SetDepotKey(t.Context(), "two", "nonsense"), job.InvalidRequest, "is not a public key")
	wantFailure(t, h.SetDepotKey(t.Context(), "web1", sshKey(t)), job.Conflict, "is not reached over SSH")
	wantFailure(t, h.SetDepotKey(t.Context(), "nope", sshKey(t)), job.UnknownHost, "nope")
	thief := newKeys(t).enrolment("web1")
	thief.SSHKey = key + " mine"
	wantFailure(t, h.EnrolHost(t.Context(), alice, thief), job.Conflict, "belongs to host one")
}

// server is a depot that notes what is done.
type server struct {
	done  []string
	fault error
	busy  func(string) bool
}

func (*server) HostKey() string        { return "ssh-ed25519 AAAA" }
func (*server) Fingerprint() string    { return "SHA256:abc" }
func (*server) Uses() []fleet.DepotUse { return []fleet.DepotUse{{Repository: "kept", Open: 1}} }
func (s *server) Evict(repository string) {
	if s.busy(repository) {
		s.done = append(s.done, "evict "+repository)
	}
}
func (*server) Transactions(string) ([]fleet.Transaction, error) {
	return []fleet.Transaction{{Number: 41}}, nil
}
func (s *server) Rollback(repository string, to int) error {
	if to != 41 || !s.busy(repository) {
		return errors.New("not to be let in")
	}
	s.done = append(s.done, "roll back "+repository)
	return s.fault
}

func TestCaretaker(t *testing.T) {
	h := newHouse(t)
	h.mustAdd(t, inDepot("kept"))
	h.mustAdd(t, newRepository())
	depot := &server{}
	care := h.Caretaker(depot, "backup:2222")
	depot.busy = care.Busy
	view, err := care.Depot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "depot", fleet.DepotView{Address: "backup:2222", HostKey: "ssh-ed25519 AAAA", Fingerprint: "SHA256:abc", Uses: depot.Uses()}, view)
	transactions, err := care.Transactions(t.Context(), "kept")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "transactions", []fleet.Transaction{{Number: 41}}, transactions)
	_, err = care.Transactions(t.Context(), "main")
	wantFailure(t, err, job.Conflict, "not in the depot")

	rollback := func(reason string) error { return care.Rollback(t.Context(), bob, "kept", 41, reason) }
	wantFailure(t, rollback(" "), job.InvalidRequest, "reason")
	wantFailure(t, rollback("bad"), job.Conflict, "is not frozen")
	h.apply(t, store.SetFrozen("kept", &fleet.Frozen{Reason: "an archive is gone"}))
	open := newJob(1, "web1", "kept", job.Running)
	h.apply(t, store.CreateJob(open))
	wantFailure(t, rollback("bad"), job.Conflict, "jobs that are not over")
	open.State, open.FinishedAt = job.Failed, &start
	h.apply(t, store.PutJob(open))
	if err := rollback("bad"); err != nil {
		t.Fatal(err)
	}
	same(t, "done", []string{"evict kept", "roll back kept"}, depot.done)
	same(t, "newest audit entry", "operator:bob repository.rollback repository/kept", h.audit(t)[0])
	same(t, "busy after it", false, care.Busy("kept"))
	depot.fault = job.Fail(job.DiskFull, "no space")
	wantFailure(t, rollback("again"), job.DiskFull, "no space")
	same(t, "busy after a fault", false, care.Busy("kept"))
}

func TestNoDepot(t *testing.T) {
	h := newHouse(t)
	h.mustAdd(t, inDepot("kept"))
	care := h.Caretaker(nil, "")
	_, err := care.Depot(t.Context())
	wantFailure(t, err, job.Unavailable, "keeps no depot")
	_, err = care.Transactions(t.Context(), "kept")
	wantFailure(t, err, job.Unavailable, "keeps no depot")
}

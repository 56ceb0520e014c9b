package registry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func (h *house) mustAdopt(t testing.TB, location string) fleet.RepositoryView {
	t.Helper()
	view, err := h.Adopt(t.Context(), alice, location, job.RepokeyBlake2)
	if err != nil {
		t.Fatal(err)
	}
	return view
}

func (h *house) wantNone(t testing.TB, name string) {
	t.Helper()
	_, err := h.Repository(t.Context(), name)
	wantFailure(t, err, job.UnknownRepository, name)
}

func TestAdopt(t *testing.T) {
	h := newHouse(t)
	view := h.mustAdopt(t, location)
	want := fleet.RepositoryView{Repository: fleet.Repository{
		Repository: job.Repository{Name: "web1", Location: location, Encryption: job.RepokeyBlake2},
		CreatedAt:  start, Custody: fleet.CustodyCoordinator, Pending: true,
	}, HasKey: true, SealedFor: []string{}}
	same(t, "view", want, view)
	same(t, "updates", []string{"repository web1"}, h.updates(t))
	same(t, "the same location again", want, h.mustAdopt(t, location))
	same(t, "audit", []string{"operator:alice repository.adopt repository/web1"}, h.audit(t))
}

// TestOneServerWrittenInTwoWays: one repository must not have two records, since
// leases and what is known of archives go by its name.
func TestOneServerWrittenInTwoWays(t *testing.T) {
	h := newHouse(t)
	view := h.mustAdopt(t, "ssh://backup@store.example.net/srv/borg/x")
	same(t, "with the usual port", view.Name, h.mustAdopt(t, "ssh://backup@Store.example.net:22//srv/borg/x/").Name)
	again := newRepository()
	again.Name, again.Location = "again", "ssh://backup@store.example.net:22/srv/borg/x"
	_, _, err := h.AddRepository(t.Context(), alice, again)
	wantFailure(t, err, job.Conflict, view.Name)
}

func TestAdoptNames(t *testing.T) {
	for what, test := range map[string]struct{ location, name string }{
		"capitals and spaces":   {"/srv/Borg Data", "borg-data"},
		"a hidden directory":    {"/srv/.borg", "borg"},
		"nothing that is left":  {"/srv/日本", "repository"},
		"something very long":   {"/srv/" + strings.Repeat("x", 90), strings.Repeat("x", 56)},
		"the name of another":   {"/mnt/main", "main-2"},
		"a port and a user":     {"ssh://u@h.example.net:2222/./repo", "repo"},
		"a dash at the end":     {"/srv/borg-", "borg"},
		"the root of something": {"/", "repository"},
	} {
		t.Run(what, func(t *testing.T) {
			h := newHouse(t)
			h.mustAdd(t, newRepository())
			same(t, "name", test.name, h.mustAdopt(t, test.location).Name)
		})
	}
}

func TestAdoptRefuses(t *testing.T) {
	h := newHouse(t)
	for what, location := range map[string]string{
		"a relative path": "srv/borg", "a password": "ssh://me:pw@h/repo", "a placeholder": "/srv/{hostname}", "an archive": "/srv/a::b",
	} {
		t.Run(what, func(t *testing.T) {
			_, err := h.Adopt(t.Context(), alice, location, job.RepokeyBlake2)
			wantFailure(t, err, job.InvalidRequest, "location")
		})
	}
	_, err := h.Adopt(t.Context(), alice, location, "rot13")
	wantFailure(t, err, job.InvalidRequest, "rot13")
	same(t, "audit", []string(nil), h.audit(t))
}

func TestKeep(t *testing.T) {
	h := newHouse(t)
	name := h.mustAdopt(t, location).Name
	h.apply(t, store.PutRepositoryRecord(name, store.RepositoryRecord{Info: &job.RepositoryInfo{Encryption: job.Keyfile}}))
	if err := h.Keep(t.Context(), alice, name, secret.FromString("correct horse")); err != nil {
		t.Fatal(err)
	}
	view, err := h.Repository(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if view.Pending || !view.HasPassphrase || view.Encryption != job.Keyfile {
		t.Errorf("kept as %+v", view.Repository)
	}
	h.wantPassphrase(t, name, secret.FromString("correct horse"))
	same(t, "audit", []string{"operator:alice repository.keep repository/web1", "operator:alice repository.adopt repository/web1"}, h.audit(t))
	if err := h.Abandon(t.Context(), alice, name); err != nil {
		t.Errorf("abandon what was kept: %v", err)
	}
	h.wantPassphrase(t, name, secret.FromString("correct horse"))
}

// A list and a backup tell the encryption, too.
func TestKeepBelievesWhatBorgSaidLast(t *testing.T) {
	h := newHouse(t)
	name := h.mustAdopt(t, location).Name
	h.apply(t, store.PutRepositoryRecord(name, store.RepositoryRecord{Encryption: job.KeyfileBlake2}))
	if err := h.Keep(t.Context(), alice, name, secret.FromString("correct horse")); err != nil {
		t.Fatal(err)
	}
	if view, err := h.Repository(t.Context(), name); err != nil || view.Encryption != job.KeyfileBlake2 {
		t.Errorf("kept as %+v, %v", view.Repository, err)
	}
}

func TestKeepWithoutAPassphrase(t *testing.T) {
	h := newHouse(t)
	name := h.mustAdopt(t, location).Name
	h.apply(t, store.PutRepositoryRecord(name, store.RepositoryRecord{Info: &job.RepositoryInfo{Encryption: job.Unencrypted}}))
	if err := h.Keep(t.Context(), alice, name, secret.FromString("of no use")); err != nil {
		t.Fatal(err)
	}
	view, err := h.Repository(t.Context(), name)
	if err != nil || view.Pending || view.HasPassphrase || view.HasKey {
		t.Errorf("kept as %+v, %v", view, err)
	}
}

// TestKeepOfWhatWasAdoptedWithoutAPassphrase: a second call knows better.
func TestKeepOfWhatWasAdoptedWithoutAPassphrase(t *testing.T) {
	h := newHouse(t)
	view, err := h.Adopt(t.Context(), alice, location, job.Unencrypted)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Keep(t.Context(), alice, view.Name, secret.FromString("correct horse")); err != nil {
		t.Fatal(err)
	}
	h.wantPassphrase(t, view.Name, secret.FromString("correct horse"))
}

func TestKeepRefuses(t *testing.T) {
	h := newHouse(t)
	wantFailure(t, h.Keep(t.Context(), alice, "nope", secret.Value{}), job.UnknownRepository, "nope")
	asked := newRepository()
	asked.Passphrase, asked.Custody = secret.Value{}, fleet.CustodyHosts
	h.mustAdd(t, asked)
	wantFailure(t, h.Keep(t.Context(), alice, "main", secret.FromString("x")), job.Conflict, "only its hosts")
}

func TestAbandon(t *testing.T) {
	h := newHouse(t)
	name := h.mustAdopt(t, location).Name
	using := newJob(1, "web1", name, job.Running)
	h.apply(t, store.CreateJob(using))
	abandon := func() {
		t.Helper()
		if err := h.Abandon(t.Context(), alice, name); err != nil {
			t.Fatal(err)
		}
	}
	abandon()
	if _, err := h.Repository(t.Context(), name); err != nil {
		t.Fatalf("gone, though a job uses it: %v", err)
	}
	using.State, using.FinishedAt = job.Failed, &start
	h.apply(t, store.PutJob(using))
	abandon()
	h.wantNone(t, name)
	wantFailure(t, h.Abandon(t.Context(), alice, name), job.UnknownRepository, name)
	same(t, "audit", []string{"operator:alice repository.abandon repository/web1", "operator:alice repository.adopt repository/web1"}, h.audit(t))
}

// TestAbandonLeavesWhatAnotherCallHasReached: that call has not kept it yet.
func TestAbandonLeavesWhatAnotherCallHasReached(t *testing.T) {
	h := newHouse(t)
	h.apply(t, store.CreateJob(newJob(0, "web1", "web1", job.Succeeded))) // of an earlier one of this name
	h.now = start.Add(time.Minute)
	name := h.mustAdopt(t, location).Name
	h.apply(t, store.CreateJob(newJob(61, "web1", name, job.Warning)))
	if err := h.Abandon(t.Context(), alice, name); err != nil {
		t.Fatal(err)
	}
	if view, err := h.Repository(t.Context(), name); err != nil || !view.Pending {
		t.Errorf("%+v, %v", view, err)
	}
}

// TestAbandonLeavesWhatAnotherCallHasAdopted: that call's job is not there yet.
func TestAbandonLeavesWhatAnotherCallHasAdopted(t *testing.T) {
	h := newHouse(t)
	name := h.mustAdopt(t, location).Name
	h.mustAdopt(t, location)
	if err := h.Abandon(t.Context(), alice, name); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Repository(t.Context(), name); err != nil {
		t.Fatalf("the other call has lost it: %v", err)
	}
	if err := h.Abandon(t.Context(), alice, name); err != nil {
		t.Fatal(err)
	}
	h.wantNone(t, name)
	h.mustAdopt(t, location) // as if it had never been there
	if err := h.Abandon(t.Context(), alice, name); err != nil {
		t.Fatal(err)
	}
	h.wantNone(t, name)
}

func TestFinishAdoptions(t *testing.T) {
	h := newHouse(t)
	h.mustAdd(t, newRepository())
	reached, open, lost := h.mustAdopt(t, "/srv/reached").Name, h.mustAdopt(t, "/srv/open").Name, h.mustAdopt(t, "/srv/lost").Name
	h.apply(t, store.CreateJob(newJob(1, "web1", reached, job.Succeeded)), store.CreateJob(newJob(2, "web1", open, job.Queued)))
	h.restart(t)
	if err := h.FinishAdoptions(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.wantNone(t, lost)
	for name, pending := range map[string]bool{reached: false, open: true, "main": false} {
		view, err := h.Repository(t.Context(), name)
		if err != nil || view.Pending != pending {
			t.Errorf("%s: pending %v, %v", name, view.Pending, err)
		}
	}
	h.wantPassphrase(t, "main", secret.FromString("correct horse"))
}

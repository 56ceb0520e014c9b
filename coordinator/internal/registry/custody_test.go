package registry_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// seal seals a passphrase as the command line does, away from the coordinator.
func seal(t testing.TB, host, sealKey string) fleet.SealedPassphrase {
	t.Helper()
	sealed, err := secret.Seal(secret.FromString("correct horse"), secret.Purpose{Host: host, Repository: "main"}, sealKey)
	if err != nil {
		t.Fatal(err)
	}
	return fleet.SealedPassphrase{Sealed: sealed, SealKey: sealKey}
}

func seals(names map[string]fleet.SealedPassphrase) fleet.NewRepository {
	return fleet.NewRepository{Name: "main", Location: location, Custody: fleet.CustodyHosts, Sealed: names}
}

func TestAddRepositoryThatOnlyHostsCanRead(t *testing.T) {
	h := newHouse(t)
	web1 := h.mustEnrol(t, "web1")
	given := seal(t, "web1", web1.SealKey)
	view, generated, err := h.AddRepository(t.Context(), alice, seals(map[string]fleet.SealedPassphrase{"web1": given}))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "view", fleet.RepositoryView{Repository: fleet.Repository{
		Repository: job.Repository{Name: "main", Location: location, Encryption: job.RepokeyBlake2},
		CreatedAt:  start, HasPassphrase: true, Custody: fleet.CustodyHosts,
	}, HasKey: true, SealedFor: []string{"web1"}}, view)
	if has, err := h.store.HasSecrets(); has || err != nil || !generated.Empty() {
		t.Errorf("the coordinator keeps a secret: %v, %v", has, err)
	}
	stored, _, err := h.store.Sealed("main", "web1")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "stored", given, stored)
	_, err = h.Passphrase(t.Context(), "main")
	wantFailure(t, err, job.NotAllowed, "only its hosts")
}

func TestAddRepositoryChecksItsCustody(t *testing.T) {
	h := newHouse(t)
	web1 := h.mustEnrol(t, "web1")
	h.mustHost(t, "new")
	good := seal(t, "web1", web1.SealKey)
	sealed := func(host string, s fleet.SealedPassphrase) func(*fleet.NewRepository) {
		return func(r *fleet.NewRepository) { r.Sealed = map[string]fleet.SealedPassphrase{host: s} }
	}
	spoiled := good
	spoiled.Ciphertext = nil
	tests := map[string]struct {
		spoil      func(*fleet.NewRepository)
		code       job.Code
		says, hint string
	}{
		"unknown custody": {func(r *fleet.NewRepository) { r.Custody = "mine" }, job.InvalidRequest, `"mine"`, `"coordinator" or "hosts"`},
		"passphrase":      {func(r *fleet.NewRepository) { r.Passphrase = secret.FromString("x") }, job.InvalidRequest, "must never see it", "give it sealed to each host, as borgfleet repo add --custody hosts does"},
		"to be made":      {func(r *fleet.NewRepository) { r.Generate = true }, job.InvalidRequest, "must never see it", "give it sealed to each host, as borgfleet repo add --custody hosts does"},
		"no encryption":   {func(r *fleet.NewRepository) { r.Encryption = job.Unencrypted }, job.InvalidRequest, "uses no passphrase", "leave custody out, or choose another encryption"},
		"unknown host":    {sealed("db", good), job.UnknownHost, `"db"`, "borgfleet host list shows all; borgfleet host token lets a new one in"},
		"not enrolled":    {sealed("new", good), job.Conflict, "host new has no key yet", "enrol its agent first, then: borgfleet repo seal main --host new"},
		"another key":     {sealed("web1", seal(t, "web1", sealKey(t))), job.Conflict, "host web1 was sealed to another key", "seal it again: borgfleet repo seal main --host web1"},
		"not sealed":      {sealed("web1", spoiled), job.InvalidRequest, "not a sealed one", ""},
		"sealed for nothing": {func(r *fleet.NewRepository) {
			r.Custody, r.Passphrase = "", secret.FromString("x")
		}, job.InvalidRequest, "the coordinator is to keep", `leave it out, or choose the custody "hosts"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			asked := seals(map[string]fleet.SealedPassphrase{"web1": good})
			test.spoil(&asked)
			_, _, err := h.AddRepository(t.Context(), alice, asked)
			wantFailure(t, err, test.code, test.says)
			same(t, "hint", test.hint, job.AsFailure(err).Hint)
			all, err := h.store.Repositories()
			if err != nil || len(all) != 0 {
				t.Errorf("repositories %v, %v", all, err)
			}
		})
	}
}

func TestSealPassphrase(t *testing.T) {
	h := newHouse(t)
	web1, db := h.mustEnrol(t, "web1"), h.mustEnrol(t, "db")
	h.mustAdd(t, seals(nil))
	both := map[string]fleet.SealedPassphrase{"web1": seal(t, "web1", web1.SealKey), "db": seal(t, "db", db.SealKey)}
	view, err := h.SealPassphrase(t.Context(), bob, "main", both)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "sealed for", []string{"db", "web1"}, view.SealedFor)
	same(t, "newest audit entry", "operator:bob repository.seal repository/main", h.audit(t)[0])

	newer := seal(t, "web1", web1.SealKey)
	if _, err := h.SealPassphrase(t.Context(), bob, "main", map[string]fleet.SealedPassphrase{"web1": newer}); err != nil {
		t.Fatal(err)
	}
	stored, _, err := h.store.Sealed("main", "web1")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "stored", newer, stored)

	_, err = h.SealPassphrase(t.Context(), bob, "main", nil)
	wantFailure(t, err, job.InvalidRequest, "names no host")
	_, err = h.SealPassphrase(t.Context(), bob, "other", both)
	wantFailure(t, err, job.UnknownRepository, "other")
	plain := newRepository()
	plain.Name, plain.Location = "plain", location+"2"
	h.mustAdd(t, plain)
	_, err = h.SealPassphrase(t.Context(), bob, "plain", both)
	wantFailure(t, err, job.Conflict, "kept by the coordinator")
}

// TestSealsFollowTheHost has passphrases that their host can no longer open.
func TestSealsFollowTheHost(t *testing.T) {
	sealedFor := func(t *testing.T, h *house) []string {
		view, err := h.Repository(t.Context(), "main")
		if err != nil {
			t.Fatal(err)
		}
		return view.SealedFor
	}
	tests := map[string]struct {
		happens func(*testing.T, *house, keys) error
		want    []string
	}{
		"rotated: it keeps its older keys": {func(t *testing.T, h *house, _ keys) error {
			request := newKeys(t).renewal()
			if err := h.StageKey(t.Context(), "web1", request); err != nil {
				return err
			}
			return h.ConfirmKey(t.Context(), "web1", request)
		}, []string{"db", "web1"}},
		"enrolled anew": {func(t *testing.T, h *house, _ keys) error {
			anew := newKeys(t).enrolment("web1")
			anew.Replace = true
			return h.EnrolHost(t.Context(), alice, anew)
		}, []string{"db"}},
		"enrolled anew with its old seal key": {func(t *testing.T, h *house, old keys) error {
			anew := newKeys(t).enrolment("web1")
			anew.Replace, anew.SealKey = true, old.SealKey
			return h.EnrolHost(t.Context(), alice, anew)
		}, []string{"db", "web1"}},
		"removed": {func(t *testing.T, h *house, _ keys) error {
			return h.RemoveHost(t.Context(), alice, "web1")
		}, []string{"db"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			web1, db := h.mustEnrol(t, "web1"), h.mustEnrol(t, "db")
			h.mustAdd(t, seals(map[string]fleet.SealedPassphrase{
				"web1": seal(t, "web1", web1.SealKey), "db": seal(t, "db", db.SealKey),
			}))
			if err := test.happens(t, h, web1); err != nil {
				t.Fatal(err)
			}
			same(t, "sealed for", test.want, sealedFor(t, h))
		})
	}
}

// A repository that was stored before custody existed.
func TestCustodyOfAnOldRepository(t *testing.T) {
	h := newHouse(t)
	h.apply(t, store.CreateRepository(fleet.Repository{Repository: job.Repository{Name: "old", Encryption: job.Unencrypted}}))
	view, err := h.Repository(t.Context(), "old")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "custody", fleet.CustodyCoordinator, view.Custody)
	same(t, "has key", false, view.HasKey)
}

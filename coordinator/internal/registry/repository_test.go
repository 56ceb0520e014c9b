package registry_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/registry"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/coordinator/internal/vault"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

const location = "ssh://backup@store.example.net/srv/borg/web1"

func newRepository() fleet.NewRepository {
	return fleet.NewRepository{Name: "main", Location: location, Passphrase: secret.FromString("correct horse")}
}

func (h *house) mustAdd(t testing.TB, asked fleet.NewRepository) secret.Value {
	t.Helper()
	_, generated, err := h.AddRepository(t.Context(), fleet.Actor{Name: "operator:alice"}, asked)
	if err != nil {
		t.Fatal(err)
	}
	return generated
}

func (h *house) wantPassphrase(t testing.TB, repository string, want secret.Value) {
	t.Helper()
	got, err := h.Passphrase(t.Context(), repository)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Equal(want) {
		t.Error("another passphrase came back")
	}
}

func TestAddRepository(t *testing.T) {
	h := newHouse(t)
	view, generated, err := h.AddRepository(t.Context(), fleet.Actor{Name: "operator:alice"}, newRepository())
	if err != nil {
		t.Fatal(err)
	}
	want := fleet.RepositoryView{Repository: fleet.Repository{
		Repository: job.Repository{Name: "main", Location: location, Encryption: job.RepokeyBlake2},
		CreatedAt:  start, HasPassphrase: true, Custody: fleet.CustodyCoordinator,
	}, HasKey: true, SealedFor: []string{}}
	same(t, "view", want, view)
	if !generated.Empty() {
		t.Error("a passphrase was made although one was given")
	}
	h.wantPassphrase(t, "main", secret.FromString("correct horse"))
	same(t, "updates", []string{"repository main"}, h.updates(t))
	same(t, "audit", []string{"operator:alice repository.add repository/main"}, h.audit(t))
	data, err := os.ReadFile(filepath.Join(h.data, "borgfleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("correct horse")) {
		t.Error("the database holds the passphrase in clear")
	}
}

func TestAddRepositoryGeneratesAPassphrase(t *testing.T) {
	h := newHouse(t)
	asked := newRepository()
	asked.Passphrase, asked.Generate = secret.Value{}, true
	first := h.mustAdd(t, asked)
	if !regexp.MustCompile(`^[A-Z2-7]{52}$`).Match(first.Reveal()) {
		t.Error("the passphrase is not 52 letters and digits")
	}
	h.wantPassphrase(t, "main", first)
	asked.Name, asked.Location = "other", location+"2"
	if h.mustAdd(t, asked).Equal(first) {
		t.Error("the same passphrase was made twice")
	}
}

func TestAddRepositoryWithoutEncryption(t *testing.T) {
	h := newHouse(t)
	h.mustAdd(t, fleet.NewRepository{Name: "plain", Location: "/srv/plain", Encryption: job.Unencrypted})
	h.wantPassphrase(t, "plain", secret.Value{})
	h.mustAdd(t, fleet.NewRepository{Name: "plain2", Location: "/srv/plain", Encryption: job.Unencrypted}) // a path of another host
}

func TestAddRepositoryRefuses(t *testing.T) {
	tests := map[string]struct {
		spoil func(*fleet.NewRepository)
		code  job.Code
		says  string
	}{
		"taken name":         {func(r *fleet.NewRepository) { r.Name = "taken" }, job.Conflict, "repository taken already exists"},
		"taken location":     {func(r *fleet.NewRepository) { r.Location = "ssh://x/taken" }, job.Conflict, "belongs to repository taken"},
		"bad name":           {func(r *fleet.NewRepository) { r.Name = "../x" }, job.InvalidRequest, "name"},
		"relative location":  {func(r *fleet.NewRepository) { r.Location = "srv" }, job.InvalidRequest, "location"},
		"unknown encryption": {func(r *fleet.NewRepository) { r.Encryption = "rot13" }, job.InvalidRequest, "encryption"},
		"no passphrase":      {func(r *fleet.NewRepository) { r.Passphrase = secret.Value{} }, job.InvalidRequest, "needs one"},
		"given and to make":  {func(r *fleet.NewRepository) { r.Generate = true }, job.InvalidRequest, "passphrase"},
		"given and unused":   {func(r *fleet.NewRepository) { r.Encryption = job.Unencrypted }, job.InvalidRequest, "uses none"},
		"line end":           {func(r *fleet.NewRepository) { r.Passphrase = secret.FromString("a\nb") }, job.InvalidRequest, "line end"},
		"not text":           {func(r *fleet.NewRepository) { r.Passphrase = secret.FromString("a\xff") }, job.InvalidRequest, "UTF-8"},
		"too long": {func(r *fleet.NewRepository) {
			r.Passphrase = secret.FromString(strings.Repeat("hunter2", secret.MaxBytes))
		}, job.InvalidRequest, "longer"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			taken := newRepository()
			taken.Name, taken.Location = "taken", "ssh://x/taken"
			h.mustAdd(t, taken)
			asked := newRepository()
			asked.Passphrase = secret.FromString("hunter2")
			test.spoil(&asked)
			_, generated, err := h.AddRepository(t.Context(), fleet.Actor{Name: "operator:bob"}, asked)
			wantFailure(t, err, test.code, test.says)
			if strings.Contains(err.Error(), "hunter2") || !generated.Empty() {
				t.Error("the refusal tells a passphrase")
			}
			all, err := h.Repositories(t.Context())
			if err != nil || len(all) != 1 {
				t.Errorf("Repositories = %v, %v", all, err)
			}
			h.wantPassphrase(t, "taken", secret.FromString("correct horse"))
			same(t, "audit", []string{"operator:alice repository.add repository/taken"}, h.audit(t))
		})
	}
}

func TestRepositoryShowsWhatIsKnown(t *testing.T) {
	h := newHouse(t)
	h.mustAdd(t, newRepository())
	running := newJob(1, "web1", "main", job.Running)
	check, info := start.Add(time.Hour), job.RepositoryInfo{ID: "abc"}
	h.apply(t, store.CreateJob(newJob(0, "db", "main", job.Queued)), store.CreateJob(running),
		store.PutBackupSummary(fleet.BackupSummary{Host: "a", Repository: "main", FinishedAt: start.Add(time.Minute)}),
		store.PutBackupSummary(fleet.BackupSummary{Host: "b", Repository: "main", FinishedAt: start}),
		store.PutRepositoryRecord("main", store.RepositoryRecord{KeyExportedAt: &check, LastCheck: &check, LastPrune: &start, Info: &info, InfoAt: &check}))
	view, err := h.Repository(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "busy", "backup of web1", view.Busy)
	same(t, "busy job", running.ID, view.BusyJob)
	same(t, "last backup", "a", view.LastBackup.Host)
	same(t, "last check", &check, view.LastCheck)
	same(t, "last prune", &start, view.LastPrune)
	same(t, "last compact", (*time.Time)(nil), view.LastCompact)
	same(t, "info", &info, view.Info)
	same(t, "key exported", &check, view.KeyExportedAt)
	_, err = h.Repository(t.Context(), "other")
	wantFailure(t, err, job.UnknownRepository, `"other"`)
}

func TestRemoveRepository(t *testing.T) {
	h := newHouse(t)
	h.mustAdd(t, newRepository())
	open := newJob(0, "web1", "main", job.Sent)
	h.apply(t, store.CreateJob(open))
	err := h.RemoveRepository(t.Context(), fleet.Actor{Name: "operator:bob"}, "main")
	wantFailure(t, err, job.Conflict, "repository main has jobs that are not over")
	h.wantPassphrase(t, "main", secret.FromString("correct horse"))

	over := newJob(0, "web1", "main", job.Failed)
	over.ID = open.ID
	h.apply(t, store.PutJob(over))
	h.updates(t)
	if err := h.RemoveRepository(t.Context(), fleet.Actor{Name: "operator:bob"}, "main"); err != nil {
		t.Fatal(err)
	}
	same(t, "updates", []string{"repository main"}, h.updates(t))
	if has, err := h.store.HasSecrets(); has || err != nil {
		t.Errorf("the passphrase is still stored: %v, %v", has, err)
	}
	wantFailure(t, h.RemoveRepository(t.Context(), fleet.Actor{Name: "operator:bob"}, "main"), job.UnknownRepository, "main")
	_, err = h.Passphrase(t.Context(), "main")
	wantFailure(t, err, job.UnknownRepository, "main")
	same(t, "audit", []string{"operator:bob repository.remove repository/main", "operator:alice repository.add repository/main"}, h.audit(t))
}

func TestMoveRepository(t *testing.T) {
	h := newHouse(t)
	h.mustAdd(t, newRepository())
	other := newRepository()
	other.Name, other.Location = "other", "ssh://x/other"
	h.mustAdd(t, other)
	open := newJob(0, "web1", "main", job.Running)
	h.apply(t, store.CreateJob(open))
	refused := func(name, location string, code job.Code, says string) {
		t.Helper()
		_, err := h.MoveRepository(t.Context(), bob, name, location)
		wantFailure(t, err, code, says)
	}
	refused("main", "/srv/new", job.Conflict, "repository main has jobs that are not over")
	refused("main", "relative", job.InvalidRequest, "location")
	refused("main", "ssh://x/other", job.Conflict, "belongs to repository other")
	refused("none", "/srv/new", job.UnknownRepository, "none")
	view, err := h.Repository(t.Context(), "main")
	if err != nil || view.Location != location {
		t.Errorf("what was refused changed something: %+v, %v", view, err)
	}

	over := newJob(0, "web1", "main", job.Failed)
	over.ID = open.ID
	h.apply(t, store.PutJob(over))
	h.updates(t)
	if view, err = h.MoveRepository(t.Context(), bob, "main", "/srv/new"); err != nil || view.Location != "/srv/new" || !view.HasPassphrase {
		t.Errorf("moved: %+v, %v", view, err)
	}
	h.wantPassphrase(t, "main", secret.FromString("correct horse"))
	same(t, "updates", []string{"repository main"}, h.updates(t))
	same(t, "newest audit entry", "operator:bob repository.move repository/main", h.audit(t)[0])
}

func TestPassphraseWithoutItsKey(t *testing.T) {
	h := newHouse(t)
	h.mustAdd(t, newRepository())
	other, err := vault.Open(filepath.Join(t.TempDir(), "secrets.key"), true)
	if err != nil {
		t.Fatal(err)
	}
	_, err = registry.NewKeyring(h.store, other).Passphrase(t.Context(), "main")
	wantFailure(t, err, job.KeyMissing, "another key")

	h.apply(t, store.DeleteSecret("repository/main"))
	_, err = h.Passphrase(t.Context(), "main")
	wantFailure(t, err, job.Internal, "not stored")
}

package registry_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

func TestAddHost(t *testing.T) {
	h := newHouse(t)
	view, dir, err := h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, "web1", map[string]string{"rack": "7"})
	if err != nil {
		t.Fatal(err)
	}
	want := fleet.HostView{
		Host: fleet.Host{
			Name: "web1", Mode: fleet.ModeAgent, Labels: map[string]string{"rack": "7"}, PublicKey: "U1", CreatedAt: start,
		},
		Runs: []job.State{},
	}
	same(t, "view", want, view)
	same(t, "directory", filepath.Join(h.data, "agents", "web1"), dir)
	same(t, "credentials", "credentials 1 of web1", readFile(t, filepath.Join(dir, "agent.creds")))
	same(t, "signer", "USIGNER\n", readFile(t, filepath.Join(dir, "signer.pub")))
	for file, mode := range map[string]fs.FileMode{"agent.creds": 0o600, "signer.pub": 0o600, ".": fs.ModeDir | 0o700, "..": fs.ModeDir | 0o700} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		same(t, file, mode, info.Mode())
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("directory holds %v, %v", entries, err)
	}
	same(t, "updates", []string{"host web1"}, h.updates(t))
	same(t, "audit", []string{"operator:alice host.add host/web1"}, h.audit(t))

	again, err := h.Host(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "view again", want, again)
}

func TestAddHostRefuses(t *testing.T) {
	many := map[string]string{}
	for i := range 65 {
		many[fmt.Sprint(i)] = ""
	}
	tests := map[string]struct {
		name   string
		labels map[string]string
		code   job.Code
		says   string
	}{
		"taken name":      {"web1", nil, job.Conflict, "host web1 already exists"},
		"no name":         {"", nil, job.InvalidRequest, "name"},
		"upper case":      {"Web1", nil, job.InvalidRequest, "name"},
		"path":            {"../web1", nil, job.InvalidRequest, "name"},
		"wildcard":        {"*", nil, job.InvalidRequest, "name"},
		"too many labels": {"web2", many, job.InvalidRequest, "labels"},
		"empty label":     {"web2", map[string]string{" ": "x"}, job.InvalidRequest, "labels"},
		"control label":   {"web2", map[string]string{"a": "x\ny"}, job.InvalidRequest, "labels"},
		"long label":      {"web2", map[string]string{"a": strings.Repeat("x", 300)}, job.InvalidRequest, "labels"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			_, dir, err := h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, "web1", nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = h.AddHost(t.Context(), fleet.Actor{Name: "operator:bob"}, test.name, test.labels)
			wantFailure(t, err, test.code, test.says)
			same(t, "the first host's credentials", "credentials 1 of web1", readFile(t, filepath.Join(dir, "agent.creds")))
			same(t, "audit", []string{"operator:alice host.add host/web1"}, h.audit(t))
			hosts, err := h.Hosts(t.Context())
			if err != nil || len(hosts) != 1 {
				t.Errorf("Hosts = %v, %v", hosts, err)
			}
		})
	}
}

func TestAddHostThatFailsLeavesNoHost(t *testing.T) {
	h := newHouse(t)
	h.minter.err = job.Fail(job.Unavailable, "agents of an external bus are not made here")
	_, _, err := h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, "web1", nil)
	wantFailure(t, err, job.Unavailable, "external bus")

	h.minter.err = nil
	blocked := filepath.Join(h.data, "agents")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, "web1", nil)
	wantFailure(t, err, job.Unavailable, "credentials of host web1")
	_, err = h.Host(t.Context(), "web1")
	wantFailure(t, err, job.UnknownHost, "web1")

	if err := os.Remove(blocked); err != nil { // what was in the way is gone
		t.Fatal(err)
	}
	if _, _, err := h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, "web1", nil); err != nil {
		t.Error(err)
	}
}

func TestHostShowsItsPresentState(t *testing.T) {
	h := newHouse(t)
	for _, name := range []string{"web1", "db", "new"} {
		if _, _, err := h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	backup := func(host, repository string, hour int) fleet.BackupSummary {
		return fleet.BackupSummary{Host: host, Repository: repository, FinishedAt: start.Add(time.Duration(hour) * time.Hour)}
	}
	h.presence["web1"] = start.Add(time.Minute)
	h.apply(t,
		store.CreateJob(newJob(0, "web1", "main", job.Running)), store.CreateJob(newJob(1, "web1", "main", job.Sent)),
		store.CreateJob(newJob(2, "web1", "main", job.Queued)), store.CreateJob(newJob(3, "web1", "main", job.Failed)),
		store.PutBackupSummary(backup("web1", "main", 2)), store.PutBackupSummary(backup("web1", "abc", 3)),
		store.PutBackupSummary(backup("web1", "old", 1)), store.AppendRun("web1", job.Failed), store.AppendRun("web1", job.Succeeded),
		store.SetHostFacts("db", fleet.Facts{SeenAt: start.Add(-time.Hour)}, "X"))
	h.restart(t)

	hosts, err := h.Hosts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, v := range hosts {
		last := "never"
		if v.LastBackup != nil {
			last = v.LastBackup.Repository
		}
		texts = append(texts, fmt.Sprintf("%s online=%v since=%s running=%d last=%s runs=%v",
			v.Name, v.Online, v.Since.Format("15:04"), v.Running, last, v.Runs))
	}
	same(t, "hosts", []string{
		"db online=false since=01:00 running=0 last=never runs=[]",
		"new online=false since=00:00 running=0 last=never runs=[]",
		"web1 online=true since=02:01 running=2 last=abc runs=[failed succeeded]",
	}, texts)
}

func TestRemoveHost(t *testing.T) {
	h := newHouse(t)
	_, dir, err := h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, "web1", nil)
	if err != nil {
		t.Fatal(err)
	}
	open := newJob(0, "web1", "main", job.Queued)
	h.apply(t, store.CreateJob(open))
	err = h.RemoveHost(t.Context(), fleet.Actor{Name: "operator:bob"}, "web1")
	wantFailure(t, err, job.Conflict, "host web1 has jobs that are not over")
	if _, err := os.Stat(filepath.Join(dir, "agent.creds")); err != nil {
		t.Errorf("the credentials of a host that stays: %v", err)
	}
	same(t, "revoked of a host that stays", 0, len(h.revoker.revoked))

	over := newJob(0, "web1", "main", job.Cancelled)
	over.ID = open.ID
	h.apply(t, store.PutJob(over))
	h.updates(t)
	h.presence["web1"] = start
	if err := h.RemoveHost(t.Context(), fleet.Actor{Name: "operator:bob"}, "web1"); err != nil {
		t.Fatal(err)
	}
	same(t, "revoked", []string{"U1"}, h.revoker.revoked)
	if online, _ := h.presence.Online("web1"); online {
		t.Error("a host that is no more is online")
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("credentials are still there: %v", err)
	}
	same(t, "updates", []string{"host web1"}, h.updates(t))
	same(t, "audit", []string{"operator:bob host.remove host/web1", "operator:alice host.add host/web1"}, h.audit(t))
	wantFailure(t, h.RemoveHost(t.Context(), fleet.Actor{Name: "operator:bob"}, "web1"), job.UnknownHost, `"web1"`)
	if _, ok, err := h.store.Job(open.ID); !ok || err != nil {
		t.Errorf("the job is gone from the history: %v, %v", ok, err)
	}
	if _, _, err := h.AddHost(t.Context(), fleet.Actor{Name: "operator:bob"}, "web1", nil); err != nil {
		t.Errorf("the name cannot be used again: %v", err)
	}
	same(t, "new credentials", "credentials 2 of web1", readFile(t, filepath.Join(dir, "agent.creds")))
}

// TestCredentialsThatCannotBeRevoked has a removal whose second half fails, and
// then a host of the same name.
func TestCredentialsThatCannotBeRevoked(t *testing.T) {
	h := newHouse(t)
	_, dir, err := h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, "web1", nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := jwt.DecorateSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "agent.creds"), credentials, 0o600); err != nil {
		t.Fatal(err)
	}
	h.revoker.err = job.Fail(job.Unavailable, "an external bus").WithHint("use nsc")
	err = h.RemoveHost(t.Context(), fleet.Actor{Name: "operator:alice"}, "web1")
	wantFailure(t, err, job.Unavailable, "host web1 was removed, but its credentials still work: an external bus")
	same(t, "hint", "use nsc", job.AsFailure(err).Hint)
	_, err = h.Host(t.Context(), "web1")
	wantFailure(t, err, job.UnknownHost, "web1")

	h.revoker.err = nil
	if _, _, err := h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, "web1", nil); err != nil {
		t.Fatal(err)
	}
	same(t, "revoked", []string{key}, h.revoker.revoked)
}

func BenchmarkHosts(b *testing.B) {
	h := newHouse(b)
	var changes []store.Change
	for i := range 1000 {
		name := fmt.Sprint("host", i)
		changes = append(changes, store.CreateHost(fleet.Host{Name: name, Facts: &fleet.Facts{BorgVersion: "1.2.4"}}),
			store.AppendRun(name, job.Succeeded), store.PutBackupSummary(fleet.BackupSummary{Host: name, Repository: "main", FinishedAt: start}))
	}
	for i := range 50 {
		changes = append(changes, store.CreateJob(newJob(i, fmt.Sprint("host", i), "main", job.Running)))
	}
	h.apply(b, changes...)
	h.restart(b)
	for b.Loop() {
		if _, err := h.Hosts(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

package registry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestAddHost(t *testing.T) {
	h := newHouse(t)
	view, err := h.AddHost(t.Context(), alice, "web1", map[string]string{"rack": "7"})
	if err != nil {
		t.Fatal(err)
	}
	want := fleet.HostView{
		Host: fleet.Host{Name: "web1", Mode: fleet.ModeAgent, Labels: map[string]string{"rack": "7"}, CreatedAt: start},
		Runs: []job.State{},
	}
	same(t, "view", want, view)
	same(t, "updates", []string{"host web1"}, h.updates(t))
	same(t, "audit", []string{"operator:alice host.add host/web1"}, h.audit(t))

	h.restart(t)
	again, err := h.Host(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "view after a restart", want, again)
	if _, known := h.HostByKey(""); known {
		t.Error("a host without an identity is known by none")
	}
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
			h.mustHost(t, "web1")
			_, err := h.AddHost(t.Context(), bob, test.name, test.labels)
			wantFailure(t, err, test.code, test.says)
			same(t, "audit", []string{"operator:alice host.add host/web1"}, h.audit(t))
			hosts, err := h.Hosts(t.Context())
			if err != nil || len(hosts) != 1 {
				t.Errorf("Hosts = %v, %v", hosts, err)
			}
		})
	}
}

func TestHostShowsItsPresentState(t *testing.T) {
	h := newHouse(t)
	for _, name := range []string{"web1", "db", "new"} {
		h.mustHost(t, name)
	}
	backup := func(host, repository string, hour int) fleet.BackupSummary {
		return fleet.BackupSummary{Host: host, Repository: repository, FinishedAt: start.Add(time.Duration(hour) * time.Hour)}
	}
	h.presence.come("web1", start.Add(time.Minute))
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
	keys := h.mustEnrol(t, "web1")
	staged := newKeys(t)
	if err := h.StageKey(t.Context(), "web1", staged.renewal()); err != nil {
		t.Fatal(err)
	}
	open := newJob(0, "web1", "main", job.Running)
	h.apply(t, store.CreateJob(open))
	h.updates(t)
	h.presence.come("web1", start)
	if err := h.RemoveHost(t.Context(), bob, "web1"); err != nil {
		t.Fatal(err)
	}
	same(t, "revoked", []string{keys.PublicKey, staged.PublicKey}, h.revoker.revoked)
	same(t, "left to be revoked", []string(nil), h.pending(t))
	same(t, "whose jobs end", []string{"web1"}, h.removed)
	if online, _ := h.presence.Online("web1"); online {
		t.Error("a host that is no more is online")
	}
	for _, key := range []string{keys.PublicKey, staged.PublicKey} {
		if host, known := h.HostByKey(key); known {
			t.Errorf("%s still speaks for host %s", key, host)
		}
	}
	same(t, "updates", []string{"host web1"}, h.updates(t))
	same(t, "newest audit entry", "operator:bob host.remove host/web1", h.audit(t)[0])
	wantFailure(t, h.RemoveHost(t.Context(), bob, "web1"), job.UnknownHost, `"web1"`)
	if _, ok, err := h.store.Job(open.ID); !ok || err != nil {
		t.Errorf("the job is gone from the history: %v, %v", ok, err)
	}
	h.mustEnrol(t, "web1") // another one of the same name
}

func TestRevocationThatFailsIsFinishedLater(t *testing.T) {
	h := newHouse(t)
	keys := h.mustEnrol(t, "web1")
	h.revoker.err = job.Fail(job.Unavailable, "the bus is away").WithHint("wait")
	err := h.RemoveHost(t.Context(), alice, "web1")
	wantFailure(t, err, job.Unavailable, "host web1 was removed, but its credentials still work: the bus is away")
	same(t, "hint", "wait", job.AsFailure(err).Hint)
	_, err = h.Host(t.Context(), "web1")
	wantFailure(t, err, job.UnknownHost, "web1")
	same(t, "whose jobs end", []string{"web1"}, h.removed)
	same(t, "left to be revoked", []string{keys.PublicKey}, h.pending(t))

	h.restart(t)
	if err := h.FinishRevocations(); err != nil {
		t.Fatal(err)
	}
	same(t, "left after one more failure", []string{keys.PublicKey}, h.pending(t))
	h.apply(t, store.PutRevocation(store.Revocation{PublicKey: "~", Operator: true}))
	h.revoker.err = nil
	if err := h.FinishRevocations(); err != nil {
		t.Fatal(err)
	}
	same(t, "revoked", []string{keys.PublicKey}, h.revoker.revoked)
	same(t, "left at the end, to others", []string{"~"}, h.pending(t))
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

package manifest_test

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// sample is the one that people are shown.
const sample = `
hosts:
  web1: {labels: {site: fra}}
  legacy:
    ssh: {address: root@legacy.example.net, borg: /usr/bin/borg}
repositories:
  web1-main:
    location: ssh://backup@store.example.net/srv/borg/web1
    encryption: repokey-blake2
    passphrase_file: /etc/borgfleet/web1.pass
  shared: {location: depot, quota: 500G, append_only: true, passphrase_file: /etc/borgfleet/shared.pass}
plans:
  web1-daily:
    hosts: [web1]
    repositories: [web1-main, shared]
    paths: [/etc, /var/www, /home]
    exclude: ["*.log", "*.tmp"]
    compression: zstd,3
    schedule: {cron: "0 2 * * *", timezone: Europe/Berlin, jitter: 15m, catch_up: 12h, window: "22:00-06:00"}
    retention: {keep_hourly: 24, keep_daily: 7}
    after: [prune, compact]
    check: {every: 7d, verify_data: 30d}
    retry: {attempts: 3, wait: 5m}
    max_age: 36h
    hooks:
      before: [dump-postgres]
notify:
  targets:
    ops: {kind: webhook, url_file: /etc/borgfleet/ops.url}
    chat: {url: "ntfy://ntfy.sh/backup"}
  rules:
    all: {severity: warning, targets: [ops, chat]}
`

func whole() fleet.Manifest {
	return fleet.Manifest{
		Text: sample, Secrets: secrets("/etc/borgfleet/web1.pass", "/etc/borgfleet/shared.pass", "/etc/borgfleet/ops.url"),
		HostKeys: map[string][]string{"root@legacy.example.net:22": {serverKey + " root@legacy"}},
	}
}

func objects(outcome fleet.ManifestOutcome) []string {
	list := []string{}
	for _, change := range outcome.Changes {
		list = append(list, change.Action+" "+change.Object)
	}
	return list
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestFirstLook(t *testing.T) {
	h := newHouse(t)
	outcome := h.apply(t, fleet.Manifest{Text: sample, DryRun: true})
	same(t, "changes", []string{
		"add host/legacy", "add host/web1", "add plan/web1-daily", "add repository/shared", "add repository/web1-main",
		"add target/chat", "add target/ops", "add rule/all",
	}, objects(outcome))
	same(t, "needs", []string{"/etc/borgfleet/ops.url", "/etc/borgfleet/shared.pass", "/etc/borgfleet/web1.pass"}, outcome.Needs)
	same(t, "unknown", []fleet.UnknownServer{{Host: "legacy", Address: "root@legacy.example.net:22", Jump: []fleet.SSHHop{}}}, outcome.Unknown)
	if hosts, err := h.store.Hosts(); err != nil || len(hosts) != 0 || outcome.Applied || len(h.plans.specs) != 0 {
		t.Errorf("a dry run has changed something: %v %v", hosts, err)
	}
	_, err := h.Apply(t.Context(), admin, fleet.Manifest{Text: sample})
	faults, ok := errors.AsType[*fleet.ManifestError](err)
	if !ok || !strings.Contains(err.Error(), "did not come with it") || job.AsFailure(err).Code != job.InvalidRequest {
		t.Fatalf("without what it needs: %v", err)
	}
	for _, fault := range faults.Faults {
		if strings.Contains(fault.Message, "prove themselves") && fault.Line != 5 {
			t.Errorf("in line %d: %s", fault.Line, fault)
		}
	}
}

func TestApplyAndAgain(t *testing.T) {
	h := newHouse(t)
	if outcome := h.apply(t, whole()); !outcome.Applied {
		t.Fatalf("not applied: %+v", outcome)
	}
	shared, err := h.registry.Repository(t.Context(), "shared")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "depot", &fleet.Depot{Quota: 500e9, AppendOnly: true, Hosts: []string{"web1"}}, shared.Depot)
	passphrase, err := h.keyring.Passphrase(t.Context(), "shared")
	if err != nil || !passphrase.Equal(secret.FromString("secret of /etc/borgfleet/shared.pass")) {
		t.Errorf("the passphrase is another one (%v)", err)
	}
	legacy, err := h.registry.Host(t.Context(), "legacy")
	if err != nil || legacy.Mode != fleet.ModeSSH || !legacy.Disabled || legacy.SSH.HostKeys[0] != serverKey || legacy.SSH.PublicKey == "" {
		t.Errorf("legacy is %+v (%v)", legacy, err)
	}
	again := h.apply(t, fleet.Manifest{Text: sample, Prune: true})
	same(t, "changes of a second time", fleet.ManifestOutcome{Changes: []fleet.ManifestChange{}, Needs: []string{}, Unknown: []fleet.UnknownServer{}}, again)
	if h.plans.calls != 1 {
		t.Errorf("plans were applied %d times", h.plans.calls)
	}
}

func TestDifference(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string
		object   string
		fields   []string
	}{
		"cron":         {`"0 2 * * *"`, `"0 3 * * *"`, "plan/web1-daily", []string{`schedule.cron: "0 2 * * *" → "0 3 * * *"`}},
		"list":         {"[prune, compact]", "[prune]", "plan/web1-daily", []string{`after: ["prune","compact"] → ["prune"]`}},
		"left out":     {"    max_age: 36h\n", "", "plan/web1-daily", []string{`max_age: "36h" → (none)`}},
		"label":        {"site: fra", "site: ams", "host/web1", []string{`labels.site: "fra" → "ams"`}},
		"borg":         {"/usr/bin/borg", "/opt/borg", "host/legacy", []string{`ssh.borg: "/usr/bin/borg" → "/opt/borg"`}},
		"quota":        {"500G", "600G", "repository/shared", []string{`quota: "500G" → "600G"`}},
		"same quota":   {"500G", "500000MB", "", nil},
		"same address": {"root@legacy.example.net,", "root@legacy.example.net:22,", "", nil},
		"rule":         {"severity: warning", "severity: critical", "rule/all", []string{`severity: "warning" → "critical"`}},
		"address":      {"ntfy.sh/backup", "ntfy.sh/other", "target/chat", []string{"address: another one"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.apply(t, whole())
			if !strings.Contains(sample, c.old) {
				t.Fatalf("%q is not in the sample", c.old)
			}
			text := strings.Replace(sample, c.old, c.new, 1)
			outcome := h.apply(t, fleet.Manifest{Text: text})
			if c.object == "" {
				same(t, "changes", []string{}, objects(outcome))
				return
			}
			same(t, "changes", []fleet.ManifestChange{{Action: "change", Object: c.object, Fields: c.fields}}, outcome.Changes)
			same(t, "changes of a second time", []string{}, objects(h.apply(t, fleet.Manifest{Text: text})))
		})
	}
}

func TestPrune(t *testing.T) {
	h := newHouse(t)
	h.apply(t, whole())
	const rest = "hosts: {web1: {labels: {site: fra}}}\nplans: {}\n"
	same(t, "changes without prune", []string{}, objects(h.apply(t, fleet.Manifest{Text: rest})))
	outcome := h.apply(t, fleet.Manifest{Text: rest, Prune: true})
	same(t, "changes", []string{"remove plan/web1-daily", "remove host/legacy"}, objects(outcome))
	if _, err := h.registry.Repository(t.Context(), "shared"); err != nil {
		t.Errorf("a section that is not in the text was pruned: %v", err)
	}
	if _, err := h.registry.Host(t.Context(), fleet.LocalHost); err != nil {
		t.Errorf("the coordinator's own machine was pruned: %v", err)
	}
	outcome = h.apply(t, fleet.Manifest{Text: "repositories: {}\n", Prune: true})
	same(t, "changes", []string{"remove repository/shared", "remove repository/web1-main"}, objects(outcome))
	if notes, err := h.store.ManifestNotes(); err != nil || len(notes) != 1 {
		t.Errorf("notes of what is gone: %v (%v)", notes, err)
	}
}

func TestExport(t *testing.T) {
	h := newHouse(t)
	h.apply(t, whole())
	text, err := h.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, leak := range []string{"secret of", "ntfy.sh"} {
		if strings.Contains(text, leak) {
			t.Errorf("%q is exported:\n%s", leak, text)
		}
	}
	same(t, "changes", []string{}, objects(h.apply(t, fleet.Manifest{Text: text, Prune: true})))
	other := newHouse(t)
	outcome, err := other.Apply(t.Context(), admin, fleet.Manifest{Text: strings.Replace(text, "chat: {}", "chat: {url: 'ntfy://ntfy.sh/backup'}", 1), Secrets: whole().Secrets})
	if err != nil || !outcome.Applied {
		t.Fatalf("elsewhere: %v in\n%s", err, text)
	}
	back, err := other.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "text of the second", text, back)
}

func TestSecretFilesAreAskedForOnce(t *testing.T) {
	h := newHouse(t)
	h.apply(t, whole())
	moved := strings.Replace(sample, "/etc/borgfleet/web1.pass", "/root/web1.pass", 1)
	outcome := h.apply(t, fleet.Manifest{Text: moved, DryRun: true})
	same(t, "needs", []string{"/root/web1.pass"}, outcome.Needs)
	h.apply(t, fleet.Manifest{Text: moved, Secrets: secrets("/root/web1.pass")})
	passphrase, err := h.keyring.Passphrase(t.Context(), "web1-main")
	if err != nil || !passphrase.Equal(secret.FromString("secret of /root/web1.pass")) {
		t.Errorf("the passphrase is the one before (%v)", err)
	}
}

func TestConcurrentApplies(t *testing.T) {
	h := newHouse(t)
	done := make(chan error)
	for i := range 4 {
		go func() {
			_, err := h.Apply(context.WithoutCancel(t.Context()), admin, fleet.Manifest{Text: fmt.Sprintf("hosts: {web%d: {}, shared: {}}", i)})
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if hosts, err := h.store.Hosts(); err != nil || len(hosts) != 5 {
		t.Errorf("%d hosts (%v)", len(hosts), err)
	}
}

// TestDocumentedSample holds that what people copy is taken.
func TestDocumentedSample(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "fleet.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\nhosts:")
	text, _, _ := strings.Cut("hosts:"+rest, "```")
	outcome := newHouse(t).apply(t, fleet.Manifest{Text: text, DryRun: true})
	if len(outcome.Changes) != 8 || len(outcome.Needs) != 6 {
		t.Errorf("changes %v, needs %v", objects(outcome), outcome.Needs)
	}
}

// TestIdentityFile gives a host a key of its own, once.
func TestIdentityFile(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t)
	text := "hosts: {legacy: {ssh: {address: root@legacy, identity_file: /id, host_keys: ['" + serverKey + " comment']}}}\n"
	outcome := h.apply(t, fleet.Manifest{Text: text, Secrets: map[string]secret.Value{"/id": secret.New(pem.EncodeToMemory(block))}})
	legacy, err := h.registry.Host(t.Context(), "legacy")
	if err != nil || !outcome.Applied || !legacy.SSH.OwnKey {
		t.Fatalf("%+v: %+v (%v)", outcome, legacy.SSH, err)
	}
	same(t, "changes of a second time", []string{}, objects(h.apply(t, fleet.Manifest{Text: text})))
	exported, err := h.Export(t.Context())
	if err != nil || !strings.Contains(exported, "identity_file: /id") {
		t.Errorf("exported %s (%v)", exported, err)
	}
	without := strings.Replace(text, "identity_file: /id, ", "", 1)
	same(t, "without", []fleet.ManifestChange{{Action: "change", Object: "host/legacy", Fields: []string{`ssh.identity_file: "/id" → (none)`}}}, h.apply(t, fleet.Manifest{Text: without}).Changes)
	if legacy, err = h.registry.Host(t.Context(), "legacy"); err != nil || legacy.SSH.OwnKey {
		t.Errorf("the key of its own stays: %+v (%v)", legacy.SSH, err)
	}
	same(t, "changes of a second time without", []string{}, objects(h.apply(t, fleet.Manifest{Text: without})))
	_, err = h.Apply(t.Context(), admin, fleet.Manifest{Text: text, Secrets: secrets("/id")})
	if err == nil || !strings.Contains(err.Error(), "hosts.legacy.ssh.identity_file") || strings.Contains(err.Error(), "secret of") {
		t.Errorf("a key that is none: %v", err)
	}
}

package sshhost_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// intruder acts with all that a host has: its key for the depot, and the
// passphrase, which it has read from borg's memory.
type intruder struct {
	t   *testing.T
	h   *host
	rsh string
	env []string
}

func (w *world) intruder(h *host) *intruder {
	w.t.Helper()
	dir := w.t.TempDir()
	for name, mode := range map[string]os.FileMode{"id_ed25519": 0o600, "known_hosts": 0o644} {
		text, err := os.ReadFile(filepath.Join(h.dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, mode)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	address, port, err := net.SplitHostPort(w.depot)
	if err != nil {
		w.t.Fatal(err)
	}
	i := &intruder{t: w.t, h: h}
	i.rsh = fmt.Sprintf("ssh -F none -i %[1]s/id_ed25519 -o IdentitiesOnly=yes -o UserKnownHostsFile=%[1]s/known_hosts "+
		"-o StrictHostKeyChecking=yes -o BatchMode=yes -o HostKeyAlias=borgfleet-depot -o HostName=%s -o Port=%s", dir, address, port)
	i.env = []string{
		"BORG_RSH=" + i.rsh, "BORG_BASE_DIR=" + dir, "BORG_PASSPHRASE=" + passphrase, "LC_ALL=C.UTF-8", "BORG_HOST_ID=intruder",
		"BORG_DELETE_I_KNOW_WHAT_I_AM_DOING=YES", "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING=YES", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes",
	}
	return i
}

const mine = "ssh://main@borgfleet-depot/./main"

// borg runs a borg on the host.
func (i *intruder) borg(args ...string) harness.Result {
	i.t.Helper()
	argv := append(slices.Clone(i.h.machine.Prefix()), append([]string{"borg"}, args...)...)
	return harness.Run(i.t, i.env, argv[0], argv[1:]...)
}

// ssh runs ssh on the host, for a login at the depot.
func (i *intruder) ssh(args ...string) harness.Result {
	i.t.Helper()
	argv := append(slices.Clone(i.h.machine.Prefix()), append(strings.Fields(i.rsh), args...)...)
	return harness.Run(i.t, nil, argv[0], argv[1:]...)
}

// TestHackedHost plays a host whose owner has lost it.
func TestHackedHost(t *testing.T) {
	w := newWorld(t)
	h, other := w.host("web1"), w.host("web2")
	w.repository("main", "depot", "--append-only", "--host", "web1")
	w.repository("other", "depot", "--append-only", "--host", "web2")
	harness.MakeTree(t, h.files, 4, 1<<20)
	harness.MakeTree(t, other.files, 1, 1<<10)
	first := w.c.Await(w.backup(h, "main", nil).ID, job.Succeeded).Result.Archive
	second := w.c.Await(w.backup(h, "main", nil).ID, job.Succeeded).Result.Archive
	w.c.Await(w.backup(other, "other", nil).ID, job.Succeeded)
	before := w.transactions("main")

	i := w.intruder(h)
	t.Run("another's", func(t *testing.T) { i.triesAnothers(t) })
	t.Run("own", func(t *testing.T) { i.triesOwn(t, first, second) })
	for _, kind := range []job.Kind{job.Compact, job.Prune} {
		spec := map[string]any{}
		if kind == job.Prune {
			spec = map[string]any{"keep_last": 1, "confirmed": true}
		}
		w.wantFrozen(kind, spec)
	}
	shown := strings.ToLower(w.c.MustCLI("repo", "show", "main"))
	for _, word := range []string{"frozen", strings.ToLower(first), "unfreeze", "rollback"} {
		if !strings.Contains(shown, word) {
			t.Errorf("repo show does not say %q:\n%s", word, shown)
		}
	}
	if status := w.c.MustCLI("status"); !strings.Contains(status, "main") || !strings.Contains(status, "frozen") {
		t.Errorf("status says nothing of it:\n%s", status)
	}
	w.wantRestored(h, before[len(before)-1], first, second)
}

// triesAnothers tries to read and to destroy what another host has.
func (i *intruder) triesAnothers(t *testing.T) {
	for name, location := range map[string]string{
		"by its name": "ssh://other@borgfleet-depot/./other", "by its path": "ssh://main@borgfleet-depot/./other",
		"by a way round": "ssh://main@borgfleet-depot/./main/../other", "by nobody's name": "ssh://root@borgfleet-depot/./other",
	} {
		for _, args := range [][]string{{"list", location}, {"delete", location}, {"break-lock", location}} {
			if r := i.borg(args...); r.Code == 0 {
				t.Errorf("%s: borg %v ended with 0: %s", name, args, r.Stdout)
			}
		}
	}
	for name, args := range map[string][]string{
		"shell": {"main@borgfleet-depot"}, "command": {"main@borgfleet-depot", "id; cat /etc/passwd"},
		"after serve": {"main@borgfleet-depot", "borg serve; id"}, "sftp": {"-s", "main@borgfleet-depot", "sftp"},
		"terminal": {"-tt", "main@borgfleet-depot", "sh"},
	} {
		if r := i.ssh(args...); strings.Contains(r.Stdout, "uid=") || strings.Contains(r.Stdout, "root:") || r.Code == 0 && name != "after serve" {
			t.Errorf("%s: exit code %d\n%s", name, r.Code, r.Stdout)
		}
	}
}

// triesOwn does to its own archives what its borg and its keys can do.
func (i *intruder) triesOwn(t *testing.T, first, second string) {
	refused := [][]string{{"delete", mine}, {"check", "--repair", mine}, {"create", mine + "::" + first, i.h.files}}
	for _, args := range refused {
		if r := i.borg(args...); r.Code == 0 {
			t.Errorf("borg %v ended with 0: %s%s", args, r.Stdout, r.Stderr)
		}
	}
	for _, args := range [][]string{ // these say that they have done it
		{"delete", mine + "::" + first}, {"rename", mine + "::" + second, first}, {"prune", "--keep-last", "1", "--glob-archives", "*", mine}, {"compact", "--threshold", "0", mine},
	} {
		t.Logf("borg %v: %d", args, i.borg(args...).Code)
	}
	i.env = append(i.env, "BORG_NEW_PASSPHRASE=the intruder's own")
	t.Logf("change-passphrase: %d", i.borg("key", "change-passphrase", mine).Code)
}

func (w *world) transactions(repository string) (numbers []int) {
	w.t.Helper()
	var list []struct{ Number int }
	if err := json.Unmarshal([]byte(w.c.MustCLI("repo", "transactions", repository, "--json")), &list); err != nil || len(list) == 0 {
		w.t.Fatalf("transactions %v: %v", list, err)
	}
	for _, one := range list {
		numbers = append(numbers, one.Number)
	}
	slices.Sort(numbers)
	return numbers
}

// wantFrozen expects that a job which would make what the intruder did final is
// not run.
func (w *world) wantFrozen(kind job.Kind, spec map[string]any) {
	w.t.Helper()
	text, err := json.Marshal(map[string]any{"host": "web1", "kind": kind, "repository": "main", "spec": spec})
	if err != nil {
		w.t.Fatal(err)
	}
	response, err := w.c.Request("POST", "/api/v1/jobs", string(text))
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	var said struct {
		Code job.Code `json:"code"`
		Job  struct{ ID job.ID }
		ID   job.ID
	}
	if err := json.NewDecoder(response.Body).Decode(&said); err != nil {
		w.t.Fatal(err)
	}
	if said.Code == job.RepositoryFrozen {
		return // it was known when it was asked for
	}
	id := said.ID
	if id == "" {
		id = said.Job.ID
	}
	if j := w.c.Await(id, job.Failed); j.Failure.Code != job.RepositoryFrozen || j.Attempt != 0 {
		w.t.Errorf("%s failed with %s at attempt %d: %s", kind, j.Failure.Code, j.Attempt, j.Failure.Message)
	}
}

// wantRestored puts the repository back to before, and expects all that was
// there then.
func (w *world) wantRestored(h *host, transaction int, archives ...string) {
	t := w.t
	t.Helper()
	w.c.MustCLI("repo", "rollback", "main", "--to", fmt.Sprint(transaction), "--reason", "web1 was broken into", "--yes")
	w.c.MustCLI("repo", "unfreeze", "main", "--reason", "rolled back to before the break-in")
	if found := harness.Archives(t, w.depotDir("main"), passphrase); !slices.Equal(found, archives) {
		t.Fatalf("there are %v; want %v", found, archives)
	}
	if r := harness.Borg(t, passphrase, "check", w.depotDir("main")); r.Code != 0 {
		t.Errorf("check: %s", r.Stderr)
	}
	want, err := os.ReadFile(filepath.Join(h.files, "d000", "f00000.bin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, archive := range archives {
		r := harness.Borg(t, passphrase, "extract", "--stdout", w.depotDir("main")+"::"+archive, strings.TrimPrefix(h.files, "/")+"/d000/f00000.bin")
		if r.Code != 0 || !bytes.Equal([]byte(r.Stdout), want) {
			t.Errorf("%s: %d bytes of %d, %s", archive, len(r.Stdout), len(want), r.Stderr)
		}
	}
	w.run("web1", job.Compact, "main", map[string]any{})
	w.c.Await(w.backup(h, "main", nil).ID, job.Succeeded)
}

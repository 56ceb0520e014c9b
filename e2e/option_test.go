package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/disk/disktest"
	"github.com/borgfleet/borgfleet/shared/job"
)

// desk is a host with a tree and scripts of its own, on which backups are made
// with one option each.
type desk struct {
	c                    *harness.Coordinator
	data, hooks          string
	location, passphrase string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{c: harness.StartCoordinator(t), data: t.TempDir(), hooks: t.TempDir()}
	d.c.AddAgent("web1", harness.AgentOptions{Config: fmt.Sprintf("policy: {hooks: %q, extra_options: true}\n", d.hooks)})
	d.location, d.passphrase = d.c.AddRepository("main")
	d.c.Init("web1", "main")
	for _, name := range []string{"keep/a.txt", "keep/b.log", "keep/sub/c.txt", "cache/blob", "tagged/.nobackup", "tagged/big", "other/x"} {
		write(t, filepath.Join(d.data, name), name)
	}
	write(t, filepath.Join(d.data, "cache", "CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n")
	disktest.Mount(t, filepath.Join(d.data, "other"), 1)
	write(t, filepath.Join(d.data, "other", "x"), "another file system")
	write(t, filepath.Join(d.data, "rules"), "- "+d.data+"/keep/sub\n")
	write(t, filepath.Join(d.data, "excludes"), "*.log\n")
	for name, script := range map[string]string{
		"dump": "echo 'create table t;'", "fail": "echo half; echo 'the database is down' >&2; exit 3", "paths": "printf '%s\\0' " + d.data + "/keep/a.txt",
	} {
		if err := os.WriteFile(filepath.Join(d.hooks, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// backup backs up the tree, unless the spec says what else.
func (d *desk) backup(t *testing.T, spec job.BackupSpec, state job.State) job.Job {
	t.Helper()
	if spec.ContentFrom == "" && spec.PathsFrom == "" && spec.Paths == nil {
		spec.Paths = []string{d.data}
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	j := d.c.Submit(fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","max_attempts":1,"spec":%s}`, text))
	return d.c.Await(j.ID, state)
}

// files are the names of what an archive has, apart from directories, below the
// tree.
func (d *desk) files(t *testing.T, archive string) (names []string) {
	t.Helper()
	r := harness.Borg(t, d.passphrase, "list", "--format", "{type} {path}{NL}", d.location+"::"+archive)
	if r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	for line := range strings.Lines(r.Stdout) {
		kind, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		if kind != "d" {
			names = append(names, strings.TrimPrefix(path, strings.TrimPrefix(d.data, "/")+"/"))
		}
	}
	slices.Sort(names)
	return names
}

// Each option of a backup does with a real borg what it says.
func TestBackupOptions(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	everything := []string{"cache/CACHEDIR.TAG", "cache/blob", "excludes", "keep/a.txt", "keep/b.log", "keep/sub/c.txt", "other/x", "rules", "tagged/.nobackup", "tagged/big"}
	in := func(name string) string { return filepath.Join(d.data, name) }
	without := func(names ...string) []string {
		return slices.DeleteFunc(slices.Clone(everything), func(n string) bool { return slices.Contains(names, n) })
	}
	for name, test := range map[string]struct {
		spec job.BackupSpec
		want []string
	}{
		"nothing":            {job.BackupSpec{}, everything},
		"exclude":            {job.BackupSpec{Exclude: []string{"*.log"}}, without("keep/b.log")},
		"exclude from":       {job.BackupSpec{ExcludeFrom: []string{in("excludes")}}, without("keep/b.log")},
		"patterns":           {job.BackupSpec{Patterns: []string{"+ " + in("keep/a.txt"), "- " + in("keep")}}, without("keep/b.log", "keep/sub/c.txt")},
		"patterns from":      {job.BackupSpec{PatternsFrom: []string{in("rules")}}, without("keep/sub/c.txt")},
		"caches":             {job.BackupSpec{ExcludeCaches: true}, without("cache/blob", "cache/CACHEDIR.TAG")},
		"if present":         {job.BackupSpec{ExcludeIfPresent: []string{".nobackup"}}, without("tagged/big", "tagged/.nobackup")},
		"but its tag":        {job.BackupSpec{ExcludeIfPresent: []string{".nobackup"}, KeepExcludeTags: true}, without("tagged/big")},
		"one file system":    {job.BackupSpec{OneFileSystem: true}, without("other/x")},
		"no names of owners": {job.BackupSpec{NumericIDs: true, NoXattrs: true, NoACLs: true, NoFlags: true, Sparse: true}, everything},
		"limits":             {job.BackupSpec{UploadLimit: 4096, CheckpointInterval: 60, FilesCache: job.CacheDisabled}, everything},
		"extra options":      {job.BackupSpec{ExtraOptions: []string{"--chunker-params=10,23,16,4095"}}, everything},
		"paths of a script":  {job.BackupSpec{PathsFrom: "paths"}, []string{"keep/a.txt"}},
	} {
		t.Run(name, func(t *testing.T) {
			done := d.backup(t, test.spec, job.Succeeded)
			if got := d.files(t, done.Result.Archive); !slices.Equal(got, test.want) {
				t.Errorf("the archive has %q, want %q", got, test.want)
			}
		})
	}
	for _, compression := range []string{"none", "lz4", "zstd", "zstd,22", "zlib,0", "lzma,9", "auto,zstd,3"} {
		d.backup(t, job.BackupSpec{Compression: compression, Paths: []string{in("keep")}}, job.Succeeded)
	}
	t.Run("name and comment", d.names)
	t.Run("special files", d.special)
	t.Run("content", d.content)
	t.Run("switches", d.switches)
}

// names fills in a template on the host.
func (d *desk) names(t *testing.T) {
	done := d.backup(t, job.BackupSpec{Archive: "of-{user}-{now:%Y}", Comment: "ünï, {braces} and 'quotes'"}, job.Succeeded)
	var info struct {
		Archives []struct{ Name, Comment string }
	}
	harness.BorgJSON(t, &info, d.passphrase, "info", "--json", d.location+"::"+done.Result.Archive)
	a := info.Archives[0]
	if !strings.HasPrefix(a.Name, "of-") || strings.ContainsAny(a.Name, "{}") || a.Comment != "ünï, {braces} and 'quotes'" {
		t.Errorf("made %+v", a)
	}
}

// special reads what is in a pipe.
func (d *desk) special(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(pipe, []byte("from a pipe"), 0) }() // waits for borg
	done := d.backup(t, job.BackupSpec{ReadSpecial: true, Paths: []string{pipe}}, job.Succeeded)
	got := harness.Borg(t, d.passphrase, "extract", "--stdout", d.location+"::"+done.Result.Archive)
	if err := <-written; err != nil || got.Stdout != "from a pipe" {
		t.Errorf("the archive has %q, %v", got.Stdout, err)
	}
}

// content stores what a script prints, and nothing when it fails.
func (d *desk) content(t *testing.T) {
	done := d.backup(t, job.BackupSpec{ContentFrom: "dump", StdinName: "dump.sql"}, job.Succeeded)
	got := harness.Borg(t, d.passphrase, "extract", "--stdout", d.location+"::"+done.Result.Archive, "dump.sql")
	if got.Stdout != "create table t;\n" {
		t.Errorf("the archive has %q, %s", got.Stdout, got.Stderr)
	}
	before := harness.Archives(t, d.location, d.passphrase)
	failed := d.backup(t, job.BackupSpec{ContentFrom: "fail"}, job.Failed)
	if f := failed.Failure; f.Code != job.HookFailed || f.Hint == "" || !strings.Contains(f.Message, "fail") {
		t.Errorf("%+v", f)
	}
	if log := d.c.MustCLI("job", "log", string(failed.ID)); !strings.Contains(log, "the database is down") {
		t.Errorf("the log does not have the script's words:\n%s", log)
	}
	if after := harness.Archives(t, d.location, d.passphrase); !slices.Equal(before, after) {
		t.Errorf("a script that failed left %q, before it were %q", after, before)
	}
	missing := d.backup(t, job.BackupSpec{ContentFrom: "none"}, job.Failed)
	if f := missing.Failure; f.Code != job.RefusedByHost || f.Hint == "" {
		t.Errorf("%+v", f)
	}
}

// switches need an admin and the host.
func (d *desk) switches(t *testing.T) {
	request := `{"host":"web1","kind":"backup","repository":"main","spec":{"paths":["/etc/hostname"],"extra_options":["--noatime"]}}`
	token := strings.TrimSpace(d.c.MustCLI("token", "add", "some", "--role", "operator"))
	refused := harness.Run(t, []string{"BORGFLEET_URL=" + d.c.HTTP, "BORGFLEET_TOKEN=" + token}, harness.Binary(t, "borgfleet"), "job", "submit", request)
	if refused.Code != 5 || !strings.Contains(refused.Stderr, "extra options") {
		t.Errorf("an operator: exit code %d, %s", refused.Code, refused.Stderr)
	}
	bad := d.backup(t, job.BackupSpec{ExtraOptions: []string{"--rsh=sh"}}, job.Failed)
	if f := bad.Failure; f.Code != job.RefusedByHost || f.Hint == "" {
		t.Errorf("an option that runs something: %+v", f)
	}
	d.c.AddAgent("strict", harness.AgentOptions{})
	j := d.c.Submit(strings.Replace(request, "web1", "strict", 1))
	if f := d.c.Await(j.ID, job.Failed).Failure; f.Code != job.RefusedByHost || !strings.Contains(errors.Join(f).Error(), "extra_options") {
		t.Errorf("a host without the switch: %+v", f)
	}
}

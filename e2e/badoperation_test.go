package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/disk/disktest"
	"github.com/borgfleet/borgfleet/shared/job"
)

// asks sends a request that must be refused, and returns how.
func (s *shelf) asks(t *testing.T, method, path, body string) problem {
	t.Helper()
	response, err := s.c.Request(method, "/api/v1"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var p problem
	if err := json.NewDecoder(response.Body).Decode(&p); err != nil || response.StatusCode != p.Code.HTTPStatus() {
		t.Errorf("%s %s: %s, %+v, %v", method, path, response.Status, p, err)
	}
	return p
}

// fails runs a job that must be refused, or must fail, and returns why.
func (s *shelf) fails(t *testing.T, kind, spec string) problem {
	t.Helper()
	body := fmt.Sprintf(`{"host":"web1","kind":%q,"repository":"main","max_attempts":1,"spec":%s}`, kind, spec)
	response, err := s.c.Request(http.MethodPost, "/api/v1/jobs", body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		problem
		ID job.ID
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.ID == "" {
		return answer.problem
	}
	failure := s.c.Await(answer.ID, job.Failed).Failure
	return problem{Code: failure.Code, Message: failure.Message, Hint: failure.Hint}
}

// standing is what a refusal must not change: archives, repositories, and what
// lies where restores go to.
func (s *shelf) standing(t *testing.T) (all []string) {
	t.Helper()
	var page struct{ Archives []struct{ Name string } }
	s.get(t, "archives", &page)
	for _, a := range page.Archives {
		all = append(all, "archive "+a.Name)
	}
	var known struct{ Repositories []struct{ Name string } }
	if err := s.c.Get("/api/v1/repositories", &known); err != nil {
		t.Fatal(err)
	}
	for _, r := range known.Repositories {
		all = append(all, "repository "+r.Name)
	}
	for _, root := range []string{s.restore, s.data} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && path == filepath.Join(s.restore, "mnt") {
				return filepath.SkipDir // an archive is mounted there
			}
			if err == nil && !d.IsDir() {
				all = append(all, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	return all
}

// A bad operation has a code and a hint of its own, and changes nothing.
func TestBadOperationsChangeNothing(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	in := func(parts ...string) string { return filepath.Join(append([]string{s.restore}, parts...)...) }
	write(t, in("taken", "file"), "mine\n")
	small := in("small")
	if err := errors.Join(os.MkdirAll(small, 0o755), os.Symlink(s.data, in("link"))); err != nil {
		t.Fatal(err)
	}
	disktest.Mount(t, small, 4)
	s.c.AddRepository("second")
	s.c.Init("web1", "second")
	s.allRefused(t, s.badOperations(in))
	t.Cleanup(func() { _ = unix.Unmount(in("mnt"), unix.MNT_DETACH) })
	s.mount(t, in("mnt"))
	busy, err := os.Open(in("mnt")) // stays in use until the test ends
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	s.allRefused(t, s.badOnMount(in))
}

func (s *shelf) allRefused(t *testing.T, operations map[string]badOperation) {
	before := s.standing(t)
	for name, c := range operations {
		t.Run(name, func(t *testing.T) {
			got := c.run(t)
			if got.Code != c.code || got.Hint == "" || got.Message+got.Detail == "" || !strings.Contains(got.Message, c.fills) {
				t.Errorf("%+v, want %s with a hint", got, c.code)
			}
			if c.fills != "" {
				_ = os.RemoveAll(c.fills)
			}
			if diff := cmp.Diff(before, s.standing(t)); diff != "" {
				t.Errorf("something has changed (-before +after):\n%s", diff)
			}
		})
	}
}

type badOperation struct {
	code  job.Code
	run   func(*testing.T) problem
	fills string // a directory that is written to all the same, and named
}

// badAsk is a call that must be refused with a code.
func (s *shelf) badAsk(code job.Code, method, path, body string) badOperation {
	return badOperation{code: code, run: func(t *testing.T) problem { return s.asks(t, method, path, body) }}
}

// badJob is a job that must be refused, or fail, with a code.
func (s *shelf) badJob(code job.Code, kind, format string, args ...any) badOperation {
	return badOperation{code: code, run: func(t *testing.T) problem { return s.fails(t, kind, fmt.Sprintf(format, args...)) }}
}

// badOnMount are those that need something mounted.
func (s *shelf) badOnMount(in func(...string) string) map[string]badOperation {
	return map[string]badOperation{
		"nothing mounted":           s.badAsk(job.NotMounted, "POST", "/backups/borg/umount?host=web1&mount_point="+in("nothing"), ""),
		"in use":                    s.badAsk(job.MountPointBusy, "POST", "/backups/borg/umount?mount_point="+in("mnt"), ""),
		"mount point not empty":     s.badJob(job.TargetNotEmpty, "mount", `{"archive":%q,"mount_point":%q}`, s.old, in("taken")),
		"already mounted":           s.badJob(job.MountPointBusy, "mount", `{"archive":%q,"mount_point":%q}`, s.old, in("mnt")),
		"delete of what is mounted": s.badJob(job.Conflict, "delete", `{"archives":[%q]}`, s.young),
	}
}

func (s *shelf) badOperations(in func(...string) string) map[string]badOperation {
	var main struct{ Location string }
	_ = s.c.Get("/api/v1/repositories/main", &main)
	at := url.QueryEscape(main.Location)
	all := map[string]badOperation{
		"wrong passphrase":         s.badAsk(job.PassphraseWrong, "GET", "/backups/borg/archives?passphrase=wrong&repository_path="+at, ""),
		"missing repository":       s.badAsk(job.RepositoryMissing, "GET", "/backups/borg/archives?passphrase=x&repository_path=/srv/none", ""),
		"missing archive":          s.badAsk(job.ArchiveMissing, "POST", "/backups/borg/extract/none", fmt.Sprintf(`{"archive_name":"none","repository_path":"main","target_path":%q}`, in("new"))),
		"invalid compression":      s.badAsk(job.InvalidSpec, "POST", "/backups/borg/create", fmt.Sprintf(`{"archive_name":"x","repository_path":"main","source_paths":[%q],"compression":"zstd,99"}`, s.data)),
		"invalid encryption mode":  s.badAsk(job.InvalidSpec, "POST", "/backups/borg/init", `{"repository_path":"/srv/new","passphrase":"x","encryption_mode":"rot13"}`),
		"diff across repositories": s.badAsk(job.ArchiveMissing, "GET", "/repositories/main/archives/"+s.old+"/diff/of-second", ""),
		"no UTF-8":                 s.badAsk(job.InvalidRequest, "POST", "/jobs", "{\"host\":\"web1\",\"kind\":\"backup\",\"repository\":\"main\",\"spec\":{\"paths\":[\"/\xff\"]}}"),

		"leading dash in a name":  s.badJob(job.InvalidSpec, "backup", `{"archive":"-x","paths":[%q]}`, s.data),
		"line end in a name":      s.badJob(job.InvalidSpec, "backup", `{"archive":"a\nb","paths":[%q]}`, s.data),
		"line end in a target":    s.badJob(job.InvalidSpec, "restore", `{"archive":%q,"target":%q}`, s.old, in("a\nb")),
		"no such path":            s.badJob(job.PathMissing, "restore", `{"archive":%q,"target":%q,"paths":["a'b\"c"]}`, s.old, in("quoted")),
		"relative path":           s.badJob(job.InvalidSpec, "backup", `{"paths":["-x"]}`),
		"invalid pattern":         s.badJob(job.InvalidSpec, "backup", `{"paths":[%q],"patterns":["? x"]}`, s.data),
		"invalid exclude":         s.badJob(job.InvalidSpec, "backup", `{"paths":[%q],"exclude":["re:("]}`, s.data),
		"no keep rule":            s.badJob(job.InvalidSpec, "prune", `{}`),
		"invalid keep rule":       s.badJob(job.InvalidSpec, "prune", `{"keep_daily":-2}`),
		"invalid interval":        s.badJob(job.InvalidSpec, "prune", `{"keep_within":"2 days"}`),
		"over an existing file":   s.badJob(job.TargetNotEmpty, "restore", `{"archive":%q,"target":%q}`, s.old, in("taken")),
		"into the root":           s.badJob(job.InvalidSpec, "restore", `{"archive":%q,"target":"/"}`, s.old),
		"through a symbolic link": s.badJob(job.RefusedByHost, "restore", `{"archive":%q,"target":%q}`, s.old, in("link", "x")),
		"above the allowed root":  s.badJob(job.RefusedByHost, "restore", `{"archive":%q,"target":%q}`, s.old, filepath.Dir(s.restore)),
		"out of the allowed root": s.badJob(job.InvalidSpec, "restore", `{"archive":%q,"target":%q}`, s.old, s.restore+"/../x"),
		"an unknown option":       s.badJob(job.RefusedByHost, "backup", `{"paths":[%q],"extra_options":["--noatime"]}`, s.data),
	}
	full := s.badJob(job.DiskFull, "restore", `{"archive":%q,"target":%q}`, s.old, in("small", "x"))
	full.fills = in("small", "x")
	all["into a full disk"] = full
	return all
}

// An archive that is there already stays as it is.
func TestAnArchiveIsNotReplaced(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	got := s.fails(t, "backup", fmt.Sprintf(`{"archive":%q,"paths":[%q]}`, s.old, s.data))
	if got.Code != job.ArchiveExists || got.Hint == "" {
		t.Errorf("name taken: %+v", got)
	}
	if got := s.asks(t, "DELETE", "/backups/borg/archives/none?repository_path=main", ""); got.Code != job.ArchiveMissing || got.Hint == "" {
		t.Errorf("delete of nothing: %+v", got)
	}
	var page struct{ Archives []struct{ Name string } }
	if s.get(t, "archives", &page); len(page.Archives) != 2 {
		t.Errorf("archives: %+v", page)
	}
}

// A borg that this version cannot drive is refused by name, wherever it lies.
func TestAnotherBorg(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	dir := t.TempDir()
	for name, script := range map[string]string{
		"borg2": "#!/bin/sh\necho borg 2.0.0b14\n", "borg1": "#!/bin/sh\nexec borg \"$@\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.AddAgent("other", harness.AgentOptions{Config: fmt.Sprintf("borg: {binary: %s/borg1}\n", dir)})
	c.AddAgent("newer", harness.AgentOptions{Config: fmt.Sprintf("borg: {binary: %s/borg2}\n", dir)})
	c.AddRepository("main")
	c.Init("other", "main")
	result := c.CLI("backup", "--host", "newer", "--repo", "main", "/etc/hostname")
	if result.Code != 4 || !strings.Contains(result.Stdout+result.Stderr, "2.0.0b14") || !strings.Contains(result.Stdout+result.Stderr, "borg.binary") {
		t.Errorf("exit code %d\n%s%s", result.Code, result.Stdout, result.Stderr)
	}
	if out := c.CLI("host", "verify", "newer"); out.Code == 0 || !strings.Contains(out.Stdout+out.Stderr, "2.0.0b14") {
		t.Errorf("verified: exit code %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
	if out := c.MustCLI("host", "verify", "other", "--repo", "main"); !strings.Contains(out, dir+"/borg1") {
		t.Errorf("verified:\n%s", out)
	}
}

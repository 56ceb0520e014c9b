package e2e_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// shelf is a host with a repository that holds two archives of one tree, between
// which something has changed.
type shelf struct {
	c             *harness.Coordinator
	a             *harness.Agent
	data, restore string
	old, young    string // archives
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{c: harness.StartCoordinator(t), data: t.TempDir(), restore: t.TempDir()}
	s.a = s.c.AddAgent("web1", harness.AgentOptions{Config: fmt.Sprintf("policy: {restore: [%q]}\n", s.restore)})
	s.c.AddRepository("main")
	s.c.Init("web1", "main")
	write(t, filepath.Join(s.data, "notes", "to do.txt"), "one\n")
	write(t, filepath.Join(s.data, "notes", "gone.txt"), "gone\n")
	write(t, filepath.Join(s.data, "large"), string(noise(20<<20, 3)))
	s.old = s.backup(t)
	write(t, filepath.Join(s.data, "notes", "to do.txt"), "one\ntwo\n")
	write(t, filepath.Join(s.data, "notes", "New.txt"), "new\n")
	if err := os.Remove(filepath.Join(s.data, "notes", "gone.txt")); err != nil {
		t.Fatal(err)
	}
	s.young = s.backup(t)
	return s
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func (s *shelf) backup(t *testing.T) string {
	t.Helper()
	j := s.c.Submit(fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q]}}`, s.data))
	return s.c.Await(j.ID, job.Succeeded).Result.Archive
}

// stored is a path as archives have it.
func (s *shelf) stored(parts ...string) string {
	return strings.TrimPrefix(filepath.Join(append([]string{s.data}, parts...)...), "/")
}

// get reads a JSON document below the repository.
func (s *shelf) get(t *testing.T, path string, into any) {
	t.Helper()
	if err := s.c.Get("/api/v1/repositories/main/"+path, into); err != nil {
		t.Fatal(err)
	}
}

type file struct {
	Path, Name, Type string
	Size             int64
}

func names(files []file) []string {
	list := []string{}
	for _, f := range files {
		list = append(list, f.Name)
	}
	return list
}

// What is in archives is listed once, and then browsed, searched and compared
// without borg.
func TestBrowse(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	var page struct {
		Archives []struct{ Name, Host string }
		Total    int
	}
	if s.get(t, "archives", &page); page.Total != 2 || page.Archives[0].Name != s.young || page.Archives[0].Host != "web1" {
		t.Errorf("archives: %+v", page)
	}
	files := "archives/" + s.old + "/files?path=" + url.QueryEscape(s.stored("notes"))
	response, err := s.c.Request(http.MethodGet, "/api/v1/repositories/main/"+files, "")
	if err != nil || response.StatusCode != http.StatusConflict {
		t.Fatalf("files of an archive that is not listed: %v, %v", response, err)
	}
	response.Body.Close()

	for _, archive := range []string{s.old, s.young} { // this lists it first
		if out := s.c.MustCLI("archive", "files", "main", archive, s.stored("notes")); !strings.Contains(out, "to do.txt") {
			t.Errorf("archive files printed:\n%s", out)
		}
	}
	var dir struct{ Files []file }
	if s.get(t, files, &dir); !slices.Equal(names(dir.Files), []string{"gone.txt", "to do.txt"}) || dir.Files[1].Size != 4 {
		t.Errorf("files: %+v", dir)
	}
	var found struct {
		Matches []struct {
			Archive string
			File    file
		}
	}
	if err := s.c.Get("/api/v1/find?name=TO+DO", &found); err != nil || len(found.Matches) != 2 || found.Matches[0].Archive != s.young {
		t.Errorf("found %+v, %v", found, err)
	}
	var history struct {
		Versions []struct {
			Archive string
			File    *file
			Changed bool
		}
	}
	s.get(t, "history?path="+url.QueryEscape(s.stored("notes", "to do.txt")), &history)
	if v := history.Versions; len(v) != 2 || v[0].Archive != s.old || v[0].File == nil || !v[1].Changed || v[1].File.Size != 8 {
		t.Errorf("history: %+v", history)
	}
	s.compares(t)
	if _, err := s.c.NATS().Request("borgfleet.v1.archives.files", fmt.Appendf(nil, `{"repository":"main","archive":%q}`, s.old), harness.Patience); err != nil {
		t.Error(err)
	}

	s.c.MustCLI("archive", "delete", "main", s.old, "--host", "web1", "--yes")
	if s.get(t, "archives", &page); page.Total != 1 {
		t.Errorf("after a deletion: %+v", page)
	}
	harness.Eventually(t, "the listing of a deleted archive to go", func() error {
		var v struct{ Versions []any }
		s.get(t, "history?path="+url.QueryEscape(s.stored("notes", "to do.txt")), &v)
		if len(v.Versions) != 1 {
			return fmt.Errorf("%d versions", len(v.Versions))
		}
		return nil
	})
}

func (s *shelf) compares(t *testing.T) {
	t.Helper()
	response, err := s.c.Request(http.MethodGet, "/api/v1/repositories/main/archives/"+s.old+"/diff/"+s.young, "")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var done job.Job
	if err := json.NewDecoder(response.Body).Decode(&done); err != nil || done.Result == nil || done.Result.Diff == nil {
		t.Fatalf("diff: %s, %v, %+v", response.Status, err, done)
	}
	kinds := map[string]string{}
	for _, change := range done.Result.Diff.Changes {
		if change.Type != "directory" {
			kinds[filepath.Base(change.Path)] = change.Kind
		}
	}
	if kinds["New.txt"] != "added" || kinds["gone.txt"] != "removed" || kinds["to do.txt"] != "modified" || kinds["large"] != "" {
		t.Errorf("diff: %+v", done.Result.Diff)
	}
}

// A file and a directory come from the host through the bus, and can be asked
// for again from where they broke off.
func TestDownload(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	want, err := os.ReadFile(filepath.Join(s.data, "large"))
	if err != nil {
		t.Fatal(err)
	}
	url := "/api/v1/repositories/main/archives/" + s.young + "/download?path=" + url.QueryEscape(s.stored("large")) + "&format=file"
	if got := s.fetch(t, url); !bytes.Equal(got, want) {
		t.Errorf("downloaded %d bytes of %d", len(got), len(want))
	}
	if got := s.fetch(t, url+"&offset=19000000"); !bytes.Equal(got, want[19000000:]) {
		t.Errorf("downloaded %d bytes from 19000000", len(got))
	}
	out := filepath.Join(t.TempDir(), "got")
	s.c.MustCLI("archive", "download", "main", s.young, s.stored("large"), "--format", "file", "-o", out)
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the command line got %d bytes, %v", len(got), err)
	}
	files := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(s.fetch(t, "/api/v1/repositories/main/archives/"+s.young+"/download?format=tar&path="+s.stored("notes")))); ; {
		header, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(header.Name)] = string(content)
	}
	if files["to do.txt"] != "one\ntwo\n" || files["New.txt"] != "new\n" {
		t.Errorf("the tar holds %q", files)
	}
	s.downloadsNothing(t)
	s.leavesADownload(t)
}

func (s *shelf) fetch(t *testing.T, path string) []byte {
	t.Helper()
	response, err := s.c.Request(http.MethodGet, path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %d bytes, %v", path, response.Status, len(got), err)
	}
	return got
}

// downloadsNothing asks for what is not there.
func (s *shelf) downloadsNothing(t *testing.T) {
	t.Helper()
	for path, code := range map[string]job.Code{
		s.young + "/download?format=file&path=etc/none": job.PathMissing,
		s.young + "/download?format=tar&path=etc/none":  job.PathMissing,
		"none/download?format=tar&host=web1":            job.ArchiveMissing,
	} {
		response, err := s.c.Request(http.MethodGet, "/api/v1/repositories/main/archives/"+path, "")
		if err != nil {
			t.Fatal(err)
		}
		var p problem
		if err := json.NewDecoder(response.Body).Decode(&p); err != nil || p.Code != code || response.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s, %+v, %v", path, response.Status, p, err)
		}
		response.Body.Close()
	}
}

// leavesADownload goes away in the middle: the job ends, and so does borg.
func (s *shelf) leavesADownload(t *testing.T) {
	t.Helper()
	response, err := s.c.Request(http.MethodGet, "/api/v1/repositories/main/archives/"+s.young+"/download?format=tar", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, response.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	harness.Eventually(t, "the download that nobody reads to end", func() error {
		var page job.Page
		if err := s.c.Get("/api/v1/jobs?kind=download&limit=1", &page); err != nil {
			return err
		}
		if j := page.Jobs[0]; j.State != job.Cancelled && j.State != job.Failed {
			return fmt.Errorf("it is %s", j.State)
		}
		return nil
	})
	s.c.MustCLI("archive", "list", "main", "--host", "web1") // the lock is free
}

// A mount outlives the agent, is shown, and leaves nothing behind, however it
// ends.
func TestMountsAreCleanedUp(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	at := filepath.Join(s.restore, "mnt")
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	s.mount(t, at)
	s.a.Kill()
	s.a.Restart()
	s.c.AwaitOnline("web1")
	if content, err := os.ReadFile(filepath.Join(at, s.data, "notes", "to do.txt")); err != nil || string(content) != "one\ntwo\n" {
		t.Errorf("after the agent was killed: %q, %v", content, err)
	}
	s.c.MustCLI("archive", "umount", at, "--host", "web1")
	s.unmounted(t, at)

	id := s.mount(t, at)
	s.a.Kill()
	harness.KillAll(t, at) // borg, and whoever waits for it
	s.a.Restart()
	s.c.Await(id, job.Failed)
	s.unmounted(t, at)

	id = s.mount(t, at)
	waiting := s.c.Submit(fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q]}}`, s.data))
	harness.Eventually(t, "the backup to say that it waits for the mount", func() error {
		if reason := s.c.Job(waiting.ID).Reason; !strings.Contains(reason, at) {
			return errors.New(reason)
		}
		return nil
	})
	s.c.MustCLI("job", "cancel", string(id))
	s.c.Await(waiting.ID, job.Succeeded)
	s.unmounted(t, at)

	idle := s.c.Submit(fmt.Sprintf(`{"host":"web1","kind":"mount","repository":"main","spec":{"archive":%q,"mount_point":%q,"idle":2}}`, s.young, at))
	s.c.Await(idle.ID, job.Succeeded)
	s.unmounted(t, at)
}

func (s *shelf) mount(t *testing.T, at string) job.ID {
	t.Helper()
	s.c.MustCLI("archive", "mount", "main", s.young, at, "--host", "web1")
	if out := s.c.MustCLI("status"); !strings.Contains(out, "mount") {
		t.Errorf("the status does not show the mount:\n%s", out)
	}
	var page job.Page
	if err := s.c.Get("/api/v1/jobs?kind=mount&state=running", &page); err != nil || len(page.Jobs) != 1 {
		t.Fatalf("running mounts: %+v, %v", page.Jobs, err)
	}
	return page.Jobs[0].ID
}

func (s *shelf) unmounted(t *testing.T, at string) {
	t.Helper()
	harness.Eventually(t, at+" to be unmounted", func() error {
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err == nil && strings.Contains(string(mounts), at) {
			err = errors.New("it is mounted")
		}
		return err
	})
	if left, err := exec.Command("ls", "-A", at).CombinedOutput(); err != nil || len(left) > 0 {
		t.Errorf("%s after the unmount: %q, %v", at, left, err)
	}
}

package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/cli"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

const downloadPath = "GET /repositories/main/archives/web1-1/download"

// source is what a coordinator has to download, and where it breaks off.
type source struct {
	content string
	until   int    // 0: to the end
	job     job.ID // told in the header
	sized   bool   // the answer says how much there is
}

func (s source) serve(w http.ResponseWriter, r *http.Request) {
	offset, _ := strconv.Atoi(r.URL.Query().Get("offset"))
	if s.job != "" {
		w.Header().Set("Borgfleet-Job", string(s.job))
	}
	if s.sized {
		w.Header().Set("Content-Length", fmt.Sprint(len(s.content)-offset))
	}
	if s.until == 0 {
		_, _ = w.Write([]byte(s.content[offset:]))
		return
	}
	_, _ = w.Write([]byte(s.content[offset:s.until]))
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// downloading is a coordinator with something to download, and an empty
// directory in which it is done.
func downloading(t *testing.T, s source) *coordinator {
	t.Helper()
	c := full(t)
	c.answers[downloadPath] = http.HandlerFunc(s.serve)
	c.answers["GET /repositories/main/archives/web1-1"] = known("web1-1", "web1", 1)
	c.answers["GET "+filesPath] = fleet.NotListed("main", "web1-1")
	t.Chdir(t.TempDir())
	return c
}

// here are the files of the working directory, parts without their keys.
func here(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, entry := range entries {
		content, err := os.ReadFile(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		name := entry.Name()
		if stem, ok := strings.CutSuffix(name, ".part"); ok {
			name = strings.TrimSuffix(stem, filepath.Ext(stem)) + ".part"
		}
		found[name] = string(content)
	}
	return found
}

func TestDownload(t *testing.T) {
	listed := fleet.FilePage{Entry: &fleet.File{Path: "etc/a b", Name: "a b", Type: fleet.RegularFile, Size: 5}}
	for name, test := range map[string]struct {
		args   string
		listed *fleet.FilePage
		query  string
		file   string
	}{
		"everything":            {"", nil, "format=tar", "web1-1.tar"},
		"a directory":           {"/var/www/", nil, "format=tar&path=var%2Fwww", "www.tar"},
		"compressed":            {"var/www --format tar.zst --host db1", nil, "format=tar.zst&host=db1&path=var%2Fwww", "www.tar.zst"},
		"a file that is known":  {"etc/ab", &listed, "format=file&path=etc%2Fab", "ab"},
		"it as a tar":           {"etc/ab --format tar", &listed, "format=tar&path=etc%2Fab", "ab.tar"},
		"a file that is not":    {"etc/ab --format file", nil, "format=file&path=etc%2Fab", "ab"},
		"by another name":       {"etc/ab -o x", nil, "format=tar&path=etc%2Fab", "x"},
		"into a directory":      {"etc/ab -o .", nil, "format=tar&path=etc%2Fab", "ab.tar"},
		"over another by force": {"etc/ab --force -o old", nil, "format=tar&path=etc%2Fab", "old"},
	} {
		t.Run(name, func(t *testing.T) {
			c := downloading(t, source{content: "hello", sized: true})
			if test.listed != nil {
				c.answers["GET "+filesPath] = *test.listed
			}
			want := map[string]string{"old": "old"}
			if err := os.WriteFile("old", []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			want[test.file] = "hello"
			r := c.run(t, "", append(strings.Fields("archive download main web1-1"), strings.Fields(test.args)...)...)
			if diff := cmp.Diff(want, here(t)); diff != "" || r.code != 0 || r.err != "" || !strings.HasPrefix(r.out, test.file+": 5 B in ") {
				t.Errorf("exit code %d (-want +got):\n%s\n%s%s", r.code, diff, r.out, r.err)
			}
			if got := c.asked[len(c.asked)-1]; got != downloadPath+"?"+test.query {
				t.Errorf("asked %s", got)
			}
		})
	}
}

// Standard output gets the download only.
func TestDownloadToStandardOutput(t *testing.T) {
	c := downloading(t, source{content: "hello"})
	if r := c.run(t, "", "archive", "download", "main", "web1-1", "-o", "-"); r.code != 0 || r.out != "hello" || r.err != "" || len(here(t)) > 0 {
		t.Errorf("exit code %d, %q, %q", r.code, r.out, r.err)
	}
	c = downloading(t, source{content: "hello", until: 2})
	if r := c.run(t, "", "archive", "download", "main", "web1-1", "-o", "-"); r.code != console.ExitUnreachable || r.out != "he" || !strings.Contains(r.err, "ended after 2 B: the connection broke off") || strings.Contains(r.err, "--continue") {
		t.Errorf("broken off: exit code %d, %q, %q", r.code, r.out, r.err)
	}
}

// A download that breaks off says how to go on with it, and that is what does.
func TestDownloadGoesOn(t *testing.T) {
	for name, sized := range map[string]bool{"size is known": true, "size is not known": false} {
		t.Run(name, func(t *testing.T) {
			c := downloading(t, source{content: "hello, world", until: 5, sized: sized})
			r := c.run(t, "", "archive", "download", "main", "web1-1", "it's/here")
			again := `borgfleet archive download main web1-1 'it'\''s/here' --format tar -o here.tar --continue`
			if diff := cmp.Diff(map[string]string{"here.tar.part": "hello"}, here(t)); diff != "" || r.code != console.ExitUnreachable || !strings.Contains(r.err, "after 5 B: the connection broke off: unexpected EOF (go on with: "+again+")\n") {
				t.Fatalf("exit code %d (-want +got):\n%s\n%s", r.code, diff, r.err)
			}
			c.answers[downloadPath] = http.HandlerFunc(source{content: "hello, world", sized: sized}.serve)
			goOn := []string{"archive", "download", "main", "web1-1", "it's/here", "--format", "tar", "-o", "here.tar", "--continue", "--json"}
			for _, other := range []string{"web1-2", "web1-1"} { // the first is another download
				goOn[3] = other
				r = c.run(t, "", goOn...)
			}
			var done struct{ Bytes, Continued int64 }
			if diff := cmp.Diff(map[string]string{"here.tar": "hello, world"}, here(t)); diff != "" || r.code != 0 || json.Unmarshal([]byte(r.out), &done) != nil || done.Bytes != 12 || done.Continued != 5 {
				t.Errorf("exit code %d, %+v (-want +got):\n%s\n%s", r.code, done, diff, r.err)
			}
			if got := c.asked[len(c.asked)-1]; got != downloadPath+"?format=tar&offset=5&path=it%27s%2Fhere" {
				t.Errorf("asked %s", got)
			}
		})
	}
}

// What is there is not touched without being told to.
func TestDownloadRefusals(t *testing.T) {
	c := downloading(t, source{content: "hello", until: 2})
	c.run(t, "", "archive", "download", "main", "web1-1", "etc") // leaves a part
	if err := os.WriteFile("there", []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("there", "link"); err != nil {
		t.Fatal(err)
	}
	c.answers["GET /repositories/main/archives/web1-1/files"] = fleet.FilePage{Entry: &fleet.File{Type: fleet.RegularFile, Size: 1}}
	before := here(t)
	for args, says := range map[string]string{
		"etc -o there":                      "add --force to replace a file",
		"etc -o link --force":               "is there already",
		"etc -o no/where":                   "there is no directory no",
		"etc --format tar":                  "add --continue to go on with it, or --force to begin anew",
		"srv --format tar --continue":       "there is nothing to go on with",
		"etc --format zip":                  "not one of file, tar, tar.zst",
		"etc --format tar.zst --continue":   "cannot be continued",
		"etc --continue --force":            "exclude each other",
		"etc -o - --continue":               "standard output can have the download only",
		"etc -o - --json":                   "standard output can have the download only",
		"--format file":                     "path: is empty",
		"etc/../../passwd --format tar -ox": "path",
	} {
		r := c.run(t, "", append(strings.Fields("archive download main web1-1"), strings.Fields(args)...)...)
		if r.code != console.ExitUsage || !strings.Contains(r.err, says) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: exit code %d, want %q:\n%s%s", args, r.code, says, r.out, r.err)
		}
	}
	if diff := cmp.Diff(before, here(t)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
	c.answers[downloadPath] = http.HandlerFunc(source{content: "hello"}.serve)
	if r := c.run(t, "", "archive", "download", "main", "web1-1", "etc", "--format", "tar", "--force"); r.code != 0 || here(t)["etc.tar"] != "hello" {
		t.Errorf("anew: exit code %d, %v\n%s", r.code, here(t), r.err)
	}
}

// A job that fails says why: before its first byte as the answer, later when it
// is asked for.
func TestDownloadFails(t *testing.T) {
	c := downloading(t, source{})
	c.answers[downloadPath] = job.Fail(job.PathMissing, "there is no etc in it")
	if r := c.run(t, "", "archive", "download", "main", "web1-1", "etc"); r.code != console.ExitFailed || !strings.Contains(r.err, "there is no etc in it") || len(here(t)) > 0 {
		t.Errorf("at once: exit code %d, %v\n%s", r.code, here(t), r.err)
	}
	failed := finished(job.Failed, job.DownloadSpec{Archive: "web1-1"}, job.Result{})
	failed.Failure = job.Fail(job.IntegrityError, "a chunk is damaged").WithHint("check it")
	c = downloading(t, source{content: "hello", until: 3, job: backupID})
	c.answers["GET /jobs/"+string(backupID)] = failed
	r := c.run(t, "", "archive", "download", "main", "web1-1", "etc")
	if r.code != console.ExitJobFailed || !strings.Contains(r.err, "after 3 B: a chunk is damaged (check it) (go on with: ") || here(t)["etc.tar.part"] != "hel" {
		t.Errorf("later: exit code %d, %v\n%s", r.code, here(t), r.err)
	}
	c = downloading(t, source{content: "hello", until: 3})
	r = c.run(t, "", "archive", "download", "main", "web1-1", "etc", "--format", "tar.zst")
	if r.code != console.ExitUnreachable || !strings.Contains(r.err, "(begin anew with: borgfleet archive download main web1-1 etc --format tar.zst -o etc.tar.zst --force)") {
		t.Errorf("compressed: exit code %d\n%s", r.code, r.err)
	}
}

// Two downloads of the same do not write into one part.
func TestDownloadTwice(t *testing.T) {
	c := downloading(t, source{content: "hello", until: 2})
	c.run(t, "", "archive", "download", "main", "web1-1")
	var second result
	c.answers[downloadPath] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.answers[downloadPath] = nil
		second = c.run(t, "", "archive", "download", "main", "web1-1", "--continue")
		source{content: "hello"}.serve(w, r)
	})
	if r := c.run(t, "", "archive", "download", "main", "web1-1", "--continue"); r.code != 0 || here(t)["web1-1.tar"] != "hello" {
		t.Errorf("exit code %d, %v\n%s", r.code, here(t), r.err)
	}
	if second.code != console.ExitFailed || !strings.Contains(second.err, "by another process") {
		t.Errorf("the second: exit code %d\n%s", second.code, second.err)
	}
}

// A part that is whole needs its name only.
func TestDownloadOnlyItsName(t *testing.T) {
	c := downloading(t, source{content: "hello", until: 5})
	c.answers["GET "+filesPath] = fleet.FilePage{Entry: &fleet.File{Type: fleet.RegularFile, Size: 5}}
	c.run(t, "", "archive", "download", "main", "web1-1", "etc")
	c.answers[downloadPath] = job.Fail(job.Internal, "nobody needs this")
	if r := c.run(t, "", "archive", "download", "main", "web1-1", "etc", "--continue"); r.code != 0 || here(t)["etc"] != "hello" {
		t.Errorf("exit code %d, %v\n%s", r.code, here(t), r.err)
	}
	c = downloading(t, source{content: "hello", until: 5})
	page := fleet.FilePage{Entry: &fleet.File{Type: fleet.RegularFile, Size: 5}}
	c.answers["GET "+filesPath] = page
	c.run(t, "", "archive", "download", "main", "web1-1", "etc")
	page.Entry.Size = 3
	if r := c.run(t, "", "archive", "download", "main", "web1-1", "etc", "--continue"); r.code != console.ExitFailed || !strings.Contains(r.err, "begin anew with --force") {
		t.Errorf("too much: exit code %d, %v\n%s", r.code, here(t), r.err)
	}
}

// At a terminal the line says how much has come.
func TestTransferText(t *testing.T) {
	for want, text := range map[string]string{
		"12.0 MB of 48.0 MB": cli.TransferText(10_000_000, 48_000_000, 2_000_000), "2.0 MB": cli.TransferText(0, -1, 2_000_000),
	} {
		if text != want {
			t.Errorf("got %q, want %q", text, want)
		}
	}
}

// Nothing of a download may write to a terminal by mistake.
func TestDownloadToATerminal(t *testing.T) {
	c := downloading(t, source{content: "hello"})
	person, program := terminal(t)
	t.Setenv("BORGFLEET_URL", c.url)
	var errs bytes.Buffer
	code := cli.Main(t.Context(), []string{"archive", "download", "main", "web1-1", "-o", "-"}, console.Streams{In: person, Out: program, Err: &errs})
	if code != console.ExitUsage || !strings.Contains(errs.String(), "write to your terminal") {
		t.Errorf("exit code %d: %s", code, &errs)
	}
}

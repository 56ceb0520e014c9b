package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// target is a repository as somebody names it: where it is and what opens it.
type target struct {
	location, passphrase string
	name                 string // under which it is known; bus and command line need one
}

// did is what an operation brought, in the words that all ways in have.
type did struct {
	code     job.Code // why it failed; empty: it did not
	hint     string
	archive  string
	archives []string // list
	original int64
	nfiles   int64
	ratios   [2]float64 // compression, deduplication
	size     int64      // info: what the repository's disk holds, as borg counts it
	mode     job.Encryption
}

// way is one way in. All do the same; a test fails when a way itself does.
type way interface {
	initialise(t *testing.T, r target, mode string) did
	create(t *testing.T, r target, archive, compression string, paths ...string) did
	list(t *testing.T, r target) did
	info(t *testing.T, r target) did
	extract(t *testing.T, r target, archive, into string, paths ...string) did
	remove(t *testing.T, r target, archive string) did
	prune(t *testing.T, r target, daily int) did
	compact(t *testing.T, r target) did
	check(t *testing.T, r target, verifyData bool) did
	mount(t *testing.T, r target, archive, at string) did
	umount(t *testing.T, at string) did
}

// curl goes through the Borg operations API, as an operations centre does.
type curl struct{ c *harness.Coordinator }

const operations = "/api/v1/backups/borg"

func (w curl) call(t *testing.T, method, path string, body map[string]any, secret string) (status int, answer map[string]any) {
	t.Helper()
	args := []string{"-sS", "-X", method, "-H", "Authorization: Bearer " + w.c.Token(), "-w", "\n%{http_code}"}
	if secret != "" {
		args = append(args, "-H", "X-Borg-Passphrase: "+secret)
	}
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args, "-H", "Content-Type: application/json", "-d", string(data))
	}
	result := harness.Run(t, nil, "curl", append(args, w.c.HTTP+operations+path)...)
	text, code, _ := cutLast(result.Stdout, "\n")
	if _, err := fmt.Sscan(code, &status); err != nil || result.Code != 0 {
		t.Fatalf("curl %s %s: exit code %d, %q %s", method, path, result.Code, result.Stdout, result.Stderr)
	}
	if strings.HasPrefix(text, "[") {
		text = `{"list":` + text + `}`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("%s %s answered %d, %q: %v", method, path, status, text, err)
	}
	return status, answer
}

// cutLast is strings.Cut at the last separator.
func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

// did reads an answer; every one is either a success or a problem with a code.
func (w curl) did(t *testing.T, status int, answer map[string]any) did {
	t.Helper()
	text := func(name string) string { s, _ := answer[name].(string); return s }
	number := func(name string) float64 { n, _ := answer[name].(float64); return n }
	if status >= 300 {
		if text("code") == "" || text("hint") == "" {
			t.Fatalf("answered %d with %v", status, answer)
		}
		return did{code: job.Code(text("code")), hint: text("hint")}
	}
	if success, told := answer["success"].(bool); told && !success {
		t.Fatalf("answered %d with %v", status, answer)
	}
	return did{
		archive: text("archive_name"), original: int64(number("original_size")), nfiles: int64(number("nfiles")),
		ratios: [2]float64{number("compression_ratio"), number("deduplication_ratio")},
		size:   int64(number("unique_size")), mode: job.Encryption(text("encryption_mode")),
	}
}

func (w curl) post(t *testing.T, path string, r target, body map[string]any) did {
	t.Helper()
	body["repository_path"], body["passphrase"] = r.location, r.passphrase
	status, answer := w.call(t, "POST", path, body, "")
	return w.did(t, status, answer)
}

func (w curl) query(r target, more ...string) string {
	values := url.Values{"repository_path": {r.location}}
	for i := 0; i < len(more); i += 2 {
		values.Set(more[i], more[i+1])
	}
	return "?" + values.Encode()
}

func (w curl) initialise(t *testing.T, r target, mode string) did {
	t.Helper()
	return w.post(t, "/init", r, map[string]any{"encryption_mode": mode})
}

func (w curl) create(t *testing.T, r target, archive, compression string, paths ...string) did {
	t.Helper()
	return w.post(t, "/create", r, map[string]any{"archive_name": archive, "source_paths": paths, "compression": compression, "exclude_patterns": []string{"*.skip"}})
}

func (w curl) list(t *testing.T, r target) did {
	t.Helper()
	status, answer := w.call(t, "GET", "/archives"+w.query(r), nil, r.passphrase)
	done := w.did(t, status, answer)
	entries, _ := answer["list"].([]any)
	for _, entry := range entries {
		fields, _ := entry.(map[string]any)
		name, _ := fields["name"].(string)
		if _, err := time.Parse(time.RFC3339, fmt.Sprint(fields["time"])); err != nil || fields["archive"] == nil || fields["hostname"] == nil || fields["username"] == nil || fields["id"] == nil {
			t.Errorf("listed %v", fields)
		}
		done.archives = append(done.archives, name)
	}
	return done
}

func (w curl) info(t *testing.T, r target) did {
	t.Helper()
	status, answer := w.call(t, "GET", "/info"+w.query(r), nil, r.passphrase)
	return w.did(t, status, answer)
}

func (w curl) extract(t *testing.T, r target, archive, into string, paths ...string) did {
	t.Helper()
	body := map[string]any{"archive_name": archive, "target_path": into}
	if len(paths) > 0 {
		body["paths"] = paths
	}
	return w.post(t, "/extract/"+url.PathEscape(archive), r, body)
}

func (w curl) remove(t *testing.T, r target, archive string) did {
	t.Helper()
	status, answer := w.call(t, "DELETE", "/archives/"+url.PathEscape(archive)+w.query(r), nil, r.passphrase)
	return w.did(t, status, answer)
}

func (w curl) prune(t *testing.T, r target, daily int) did {
	t.Helper()
	return w.post(t, "/prune", r, map[string]any{"keep_daily": daily, "keep_weekly": 0, "keep_monthly": 0, "keep_yearly": 0})
}

func (w curl) compact(t *testing.T, r target) did {
	t.Helper()
	status, answer := w.call(t, "POST", "/compact"+w.query(r), nil, r.passphrase)
	return w.did(t, status, answer)
}

func (w curl) check(t *testing.T, r target, verifyData bool) did {
	t.Helper()
	status, answer := w.call(t, "POST", "/check"+w.query(r, "verify_data", fmt.Sprint(verifyData)), nil, r.passphrase)
	return w.did(t, status, answer)
}

func (w curl) mount(t *testing.T, r target, archive, at string) did {
	t.Helper()
	return w.post(t, "/mount", r, map[string]any{"archive_name": archive, "mount_point": at})
}

func (w curl) umount(t *testing.T, at string) did {
	t.Helper()
	status, answer := w.call(t, "POST", "/umount?"+url.Values{"mount_point": {at}}.Encode(), nil, "")
	return w.did(t, status, answer)
}

// ofJob is what a job that has ended brought.
func ofJob(j job.Job) did {
	done := did{}
	if j.Failure != nil {
		return did{code: j.Failure.Code, hint: j.Failure.Hint}
	}
	if r := j.Result; r != nil {
		done = did{archive: r.Archive, original: r.OriginalSize, nfiles: r.NFiles, ratios: [2]float64{r.CompressionRatio, r.DeduplicationRatio}}
		for _, a := range r.Archives {
			done.archives = append(done.archives, a.Name)
		}
		if r.Repository != nil {
			done.size, done.mode = r.Repository.UniqueCSize, r.Repository.Encryption
		}
	}
	return done
}

// known makes a repository known under its name.
func known(t *testing.T, c *harness.Coordinator, r target, mode string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte(r.passphrase), 0o600); err != nil {
		t.Fatal(err)
	}
	c.MustCLI("repo", "add", r.name, "--location", r.location, "--passphrase-file", file, "--encryption", mode)
}

// archiveName is a name as the operations API makes it of a given one.
func archiveName(name string) string { return name + time.Now().UTC().Format("_20060102_150405") }

// overBus goes over the bus, as the stock client does.
type overBus struct {
	c    *harness.Coordinator
	host string
}

// submit submits a job; a mount is done when it is mounted, all else at its end.
func (w overBus) submit(t *testing.T, r target, spec job.Spec) did {
	t.Helper()
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	request, err := json.Marshal(job.Request{Host: w.host, Kind: spec.Kind(), Repository: r.name, Spec: data, MaxAttempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	connection := w.c.NATS()
	defer connection.Close()
	ask := func(subject, body string, into any) {
		reply, err := connection.Request("borgfleet.v1."+subject, []byte(body), 20*time.Second)
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		if err := json.Unmarshal(reply.Data, into); err != nil {
			t.Fatalf("%s answered %q: %v", subject, reply.Data, err)
		}
	}
	var answer struct {
		problem
		Job job.Job `json:"job"`
	}
	if ask("jobs.submit", string(request), &answer); answer.Code != "" {
		return did{code: answer.Code, hint: answer.Hint}
	}
	id := answer.Job.ID
	harness.Eventually(t, string(spec.Kind())+" to end", func() error {
		ask("jobs.get", fmt.Sprintf(`{"id":%q}`, id), &answer)
		j := answer.Job
		if j.State.Terminal() || j.Kind == job.Mount && j.Progress != nil && j.Progress.Phase == job.PhaseMounted {
			return nil
		}
		return fmt.Errorf("%s %s", j.State, j.Reason)
	})
	return ofJob(answer.Job)
}

func (w overBus) initialise(t *testing.T, r target, mode string) did {
	t.Helper()
	known(t, w.c, r, mode)
	return w.submit(t, r, job.InitSpec{})
}

func (w overBus) create(t *testing.T, r target, archive, compression string, paths ...string) did {
	t.Helper()
	return w.submit(t, r, job.BackupSpec{Paths: paths, Archive: archiveName(archive), Compression: compression, Exclude: []string{"*.skip"}})
}

func (w overBus) list(t *testing.T, r target) did { t.Helper(); return w.submit(t, r, job.ListSpec{}) }
func (w overBus) info(t *testing.T, r target) did { t.Helper(); return w.submit(t, r, job.InfoSpec{}) }

func (w overBus) extract(t *testing.T, r target, archive, into string, paths ...string) did {
	t.Helper()
	return w.submit(t, r, job.RestoreSpec{Archive: archive, Target: into, Paths: paths})
}

func (w overBus) remove(t *testing.T, r target, archive string) did {
	t.Helper()
	return w.submit(t, r, job.DeleteSpec{Archives: []string{archive}})
}

func (w overBus) prune(t *testing.T, r target, daily int) did {
	t.Helper()
	return w.submit(t, r, job.PruneSpec{KeepDaily: daily, All: true, Confirmed: true})
}

func (w overBus) compact(t *testing.T, r target) did {
	t.Helper()
	return w.submit(t, r, job.CompactSpec{})
}

func (w overBus) check(t *testing.T, r target, verifyData bool) did {
	t.Helper()
	return w.submit(t, r, job.CheckSpec{VerifyData: verifyData})
}

func (w overBus) mount(t *testing.T, r target, archive, at string) did {
	t.Helper()
	return w.submit(t, r, job.MountSpec{Archive: archive, MountPoint: at})
}

func (w overBus) umount(t *testing.T, at string) did {
	t.Helper()
	return w.submit(t, target{}, job.UmountSpec{MountPoint: at})
}

// typed goes through the command line.
type typed struct {
	c    *harness.Coordinator
	host string
}

// run runs a command that ends with a job. What is refused before there is one
// is told on standard error, with a hint in brackets.
func (w typed) run(t *testing.T, args ...string) did {
	t.Helper()
	result := w.c.CLI(append(args, "--json")...)
	var j job.Job
	if err := json.Unmarshal([]byte(result.Stdout), &j); err == nil && j.ID != "" {
		if done := ofJob(j); done.code != "" && result.Code != 4 || done.code == "" && result.Code != 0 {
			t.Errorf("%v: exit code %d, %+v\n%s", args, result.Code, done, result.Stderr)
		} else {
			return done
		}
	}
	_, hint, ok := strings.Cut(strings.TrimSpace(result.Stderr), "(")
	if result.Code == 0 || !ok || strings.Count(result.Stderr, "\n") != 1 {
		t.Fatalf("%v: exit code %d\n%s%s", args, result.Code, result.Stdout, result.Stderr)
	}
	code := job.InvalidSpec
	if result.Code != 2 && !strings.Contains(result.Stderr, "spec") {
		code = job.Code("refused")
	}
	return did{code: code, hint: hint}
}

func (w typed) initialise(t *testing.T, r target, mode string) did {
	t.Helper()
	if !slices.Contains(job.Encryptions(), job.Encryption(mode)) {
		return w.run(t, "repo", "add", r.name, "--location", r.location, "--generate-passphrase", "--encryption", mode)
	}
	known(t, w.c, r, mode)
	return w.run(t, "repo", "init", r.name, "--host", w.host)
}

func (w typed) create(t *testing.T, r target, archive, compression string, paths ...string) did {
	t.Helper()
	return w.run(t, append([]string{"backup", "--host", w.host, "--repo", r.name, "--archive", archiveName(archive), "--compression", compression, "--exclude", "*.skip"}, paths...)...)
}

func (w typed) list(t *testing.T, r target) did {
	t.Helper()
	return w.run(t, "archive", "list", r.name, "--host", w.host)
}

func (w typed) info(t *testing.T, r target) did {
	t.Helper()
	return w.run(t, "repo", "info", r.name, "--host", w.host)
}

func (w typed) extract(t *testing.T, r target, archive, into string, paths ...string) did {
	t.Helper()
	return w.run(t, append([]string{"archive", "restore", r.name, archive, "--host", w.host, "--target", into}, paths...)...)
}

func (w typed) remove(t *testing.T, r target, archive string) did {
	t.Helper()
	return w.run(t, "archive", "delete", r.name, archive, "--host", w.host, "--yes")
}

func (w typed) prune(t *testing.T, r target, daily int) did {
	t.Helper()
	return w.run(t, "repo", "prune", r.name, "--host", w.host, "--all", "--confirm", "--keep-daily", fmt.Sprint(daily))
}

func (w typed) compact(t *testing.T, r target) did {
	t.Helper()
	return w.run(t, "repo", "compact", r.name, "--host", w.host)
}

func (w typed) check(t *testing.T, r target, verifyData bool) did {
	t.Helper()
	return w.run(t, "repo", "check", r.name, "--host", w.host, fmt.Sprintf("--verify-data=%v", verifyData))
}

func (w typed) mount(t *testing.T, r target, archive, at string) did {
	t.Helper()
	return w.run(t, "archive", "mount", r.name, archive, "--host", w.host, at)
}

func (w typed) umount(t *testing.T, at string) did {
	t.Helper()
	return w.run(t, "archive", "umount", at, "--host", w.host)
}

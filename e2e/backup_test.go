package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// A backup is submitted with the stock client's request of the contract, is
// seen live on the bus, and borg itself agrees with the result.
func TestBackupOverTheBus(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	c.AddAgent("web1", harness.AgentOptions{})
	location, passphrase := c.AddRepository("web1-main")
	c.Init("web1", "web1-main")
	files := t.TempDir()
	harness.MakeTree(t, files, 30, 256<<10)

	connection := c.NATS()
	seen := subscribe(t, connection, "borgfleet.v1.>")
	request := fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"web1-main","spec":{"paths":[%q],"compression":"lzma,9"}}`, files)
	reply, err := connection.Request("borgfleet.v1.jobs.submit", []byte(request), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var submitted struct{ Job job.Job }
	if err := json.Unmarshal(reply.Data, &submitted); err != nil {
		t.Fatalf("reply %q: %v", reply.Data, err)
	}
	done := c.Await(submitted.Job.ID, job.Succeeded)

	if done.Result == nil || done.Result.NFiles != 30 || !strings.HasPrefix(done.Result.Archive, "web1-") {
		t.Fatalf("result %+v", done.Result)
	}
	compareWithBorg(t, *done.Result, location, passphrase)

	suffix := ".web1." + string(done.ID)
	harness.Eventually(t, "every step and some progress on the bus", func() error {
		events := strings.Join(seen.events("borgfleet.v1.event"+suffix), " ")
		for _, want := range []string{"queued", "sent", "accepted", "started", "log", "finished"} {
			if !strings.Contains(events, want) {
				return fmt.Errorf("no %s in: %s", want, events)
			}
		}
		if seen.count("borgfleet.v1.progress"+suffix) == 0 {
			return errors.New("no progress")
		}
		return nil
	})
	if private := seen.matching("borgfleet.v1.agent."); len(private) > 0 {
		t.Errorf("subjects of agents are visible to operators: %v", private)
	}
}

func compareWithBorg(t *testing.T, got job.Result, location, passphrase string) {
	t.Helper()
	var info struct {
		Archives []struct {
			Name, ID string
			Stats    struct {
				OriginalSize   int64 `json:"original_size"`
				CompressedSize int64 `json:"compressed_size"`
				NFiles         int64 `json:"nfiles"`
			}
		}
	}
	harness.BorgJSON(t, &info, passphrase, "info", "--json", "-a", "*", location)
	if len(info.Archives) != 1 {
		t.Fatalf("borg sees %d archives", len(info.Archives))
	}
	a := info.Archives[0]
	// borg create counts the archive's own metadata in its sizes, borg info only the files.
	const metadata = 64 << 10
	more := func(result, info int64) bool { return result < info || result > info+metadata }
	if a.Name != got.Archive || a.ID != got.ArchiveID || a.Stats.NFiles != got.NFiles ||
		more(got.OriginalSize, a.Stats.OriginalSize) || more(got.CompressedSize, a.Stats.CompressedSize) {
		t.Errorf("borg says %+v\nthe result %+v", a, got)
	}
}

// recording is what a subscription has seen.
type recording struct {
	mu       sync.Mutex
	messages []*nats.Msg
}

func subscribe(t *testing.T, connection *nats.Conn, subject string) *recording {
	t.Helper()
	r := &recording{}
	if _, err := connection.Subscribe(subject, func(m *nats.Msg) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.messages = append(r.messages, m)
	}); err != nil {
		t.Fatal(err)
	}
	if err := connection.Flush(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *recording) matching(prefix string) (subjects []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.messages {
		if strings.HasPrefix(m.Subject, prefix) {
			subjects = append(subjects, m.Subject)
		}
	}
	return subjects
}

func (r *recording) count(subject string) int { return len(r.matching(subject)) }

func (r *recording) events(subject string) (types []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.messages {
		var e job.Event
		if m.Subject == subject && json.Unmarshal(m.Data, &e) == nil {
			types = append(types, string(e.Type))
		}
	}
	return types
}

// The second of two jobs for one repository says which job it waits for.
func TestTheSecondJobWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	c.AddAgent("web1", harness.AgentOptions{})
	c.AddAgent("web2", harness.AgentOptions{})
	location, passphrase := c.AddRepository("shared")
	c.Init("web1", "shared")
	files := t.TempDir()
	harness.MakeTree(t, files, 10, 1<<20)

	spec := fmt.Sprintf(`"kind":"backup","repository":"shared","spec":{"paths":[%q],"compression":"lzma,9"}`, files)
	first := c.Submit(`{"host":"web1",` + spec + `}`)
	c.Await(first.ID, job.Running)
	second := c.Submit(`{"host":"web2",` + spec + `}`)
	harness.Eventually(t, "the second job to say what it waits for", func() error {
		j := c.Job(second.ID)
		if j.State != job.Queued || !strings.Contains(j.Reason, "shared is busy") || !strings.Contains(j.Reason, first.ID.Short()) {
			return fmt.Errorf("it is %s: %q", j.State, j.Reason)
		}
		return nil
	})
	ended := c.Await(first.ID, job.Succeeded)
	after := c.Await(second.ID, job.Succeeded)
	if after.StartedAt.Before(*ended.FinishedAt) {
		t.Errorf("the second started at %s, before the first ended at %s", after.StartedAt, ended.FinishedAt)
	}
	if archives := harness.Archives(t, location, passphrase); len(archives) != 2 {
		t.Errorf("archives: %v", archives)
	}
}

// Every kind of this version runs through the command line, with the exit
// codes of the contract, on a repository behind a real sshd.
func TestEveryKindOverSSH(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	server := harness.StartSSHD(t)
	c.AddAgent("web1", harness.AgentOptions{Config: "borg: {rsh: " + fmt.Sprintf("%q", server.RSH()) + "}\n"})
	passphrase := filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(passphrase, []byte("over ssh"), 0o600); err != nil {
		t.Fatal(err)
	}
	location := server.URL(filepath.Join(t.TempDir(), "repository"))
	c.MustCLI("repo", "add", "far", "--location", location, "--passphrase-file", passphrase)
	c.MustCLI("repo", "init", "far", "--host", "web1")

	files := t.TempDir()
	harness.MakeTree(t, files, 20, 64<<10)
	backup := []string{"backup", "--host", "web1", "--repo", "far", "--json", files}
	var first, second job.Job
	decode(t, c.MustCLI(backup...), &first)
	decode(t, c.MustCLI(backup...), &second)
	if second.Result.OriginalSize != first.Result.OriginalSize || second.Result.DeduplicatedSize*10 > first.Result.DeduplicatedSize {
		t.Errorf("no deduplication: first %+v, second %+v", first.Result, second.Result)
	}
	if first.Result.Archive == second.Result.Archive {
		t.Errorf("both archives are %s", first.Result.Archive)
	}
	for _, step := range []struct{ args, want string }{
		{"archive list far --host web1", second.Result.Archive},
		{"archive show far --host web1 " + first.Result.Archive, first.Result.Archive},
		{"repo info far --host web1", "repokey"},
		{"repo prune far --host web1 --keep-last 1", first.Result.Archive},
		{"repo compact far --host web1", "succeeded"},
		{"repo check far --host web1", "succeeded"},
		{"repo check far --host web1 --verify-data", "succeeded"},
		{"repo show far", location},
		{"host show web1", "online"},
		{"job list", "succeeded"},
		{"status", "web1"},
	} {
		if out := c.MustCLI(strings.Fields(step.args)...); !strings.Contains(out, step.want) {
			t.Errorf("borgfleet %s does not say %q:\n%s", step.args, step.want, out)
		}
	}
	var list job.Job
	decode(t, c.MustCLI("archive", "list", "far", "--host", "web1", "--json"), &list)
	if len(list.Result.Archives) != 1 || list.Result.Archives[0].Name != second.Result.Archive {
		t.Errorf("after prune: %+v", list.Result.Archives)
	}
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
}

// A file that cannot be read is a warning: exit code 3, listed by name.
func TestWarningsAreListed(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	c.AddAgent("web1", harness.AgentOptions{})
	c.AddRepository("main")
	c.Init("web1", "main")
	files := t.TempDir()
	harness.MakeTree(t, files, 3, 1024)
	result := c.CLI("backup", "--host", "web1", "--repo", "main", "--json", files, "/does/not/exist")
	if result.Code != 3 {
		t.Fatalf("exit code %d: %s%s", result.Code, result.Stdout, result.Stderr)
	}
	var j job.Job
	decode(t, result.Stdout, &j)
	if j.State != job.Warning || !strings.Contains(strings.Join(j.Result.Warnings, "\n"), "/does/not/exist") {
		t.Errorf("%s: %v", j.State, j.Result.Warnings)
	}
}

package bench_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// report prints one line of the table.
func report(what, measured, baseline, ratio, goal string) {
	fmt.Printf("| %-44s | %-26s | %-22s | %-10s | %-24s |\n", what, measured, baseline, ratio, goal)
}

// quantile returns the q-quantile of samples (nearest rank).
func quantile[T cmp.Ordered](samples []T, q float64) T {
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func ms(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 1, 64) + " ms"
}

// BenchmarkAll measures everything in one run.
func BenchmarkAll(b *testing.B) {
	fmt.Println()
	report("what", "borgfleet", "baseline", "ratio", "must reach")
	report("---", "---", "---", "---", "---")
	b.Run("start", benchmarkStart)
	b.Run("backup", benchmarkBackup)
	b.Run("progress", benchmarkProgress)
	b.Run("rest", benchmarkRest)
	b.Run("enrol", benchmarkEnrol)
	b.Run("revoke", benchmarkRevoke)
	b.Run("seal", benchmarkSeal)
	b.Run("cancel", benchmarkCancel)
	b.Run("cancel-backup", benchmarkCancelBackup)
	b.Run("adopt", benchmarkAdopt)
	b.Run("return", benchmarkReturn)
	b.Run("operations", benchmarkOperations)
	b.Run("browse", benchmarkBrowse)
	b.Run("download", benchmarkDownload)
	b.Run("ssh-job", benchmarkSSHJob)
	b.Run("ssh-fleet", benchmarkSSHFleet)
	b.Run("depot", benchmarkDepot)
	b.Run("plans", benchmarkPlans)
	b.Run("apply", benchmarkApply)
}

// stampedBorg builds a borg that notes the moment at which its process begins,
// and becomes the real one. Both ways of starting it pay for that alike.
func stampedBorg(b *testing.B) (program, stamps string) {
	b.Helper()
	borg, err := exec.LookPath("borg")
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	program, stamps = filepath.Join(dir, "borg"), filepath.Join(dir, "stamps")
	build := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-X main.stamps="+stamps+" -X main.program="+borg, "-o", program, "./stamp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build stamp: %v\n%s", err, out)
	}
	return program, stamps
}

// lastStamp returns the newest moment in the file, and how many there are.
func lastStamp(b *testing.B, path string) (at time.Time, count int) {
	b.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	lines := strings.Fields(string(data))
	nanoseconds, err := strconv.ParseInt(lines[len(lines)-1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Unix(0, nanoseconds), len(lines)
}

const (
	startJobs   = 200
	startPushes = 50
)

// benchmarkStart: from the request on the bus to borg's process, beside the
// same command pushed with ssh.
func benchmarkStart(b *testing.B) {
	program, stamps := stampedBorg(b)
	c := harness.StartCoordinator(b)
	c.AddAgent("web1", harness.AgentOptions{Config: fmt.Sprintf("borg: {binary: %q}\n", program)})
	location, passphrase := c.AddRepository("main")
	c.Init("web1", "main")
	watcher := watchFinished(b, c)

	var starts []time.Duration
	for range startJobs {
		asked := time.Now()
		id := watcher.submit(b, `{"host":"web1","kind":"list","repository":"main"}`)
		watcher.await(b, id)
		at, _ := lastStamp(b, stamps)
		starts = append(starts, at.Sub(asked))
	}

	server := harness.StartSSHD(b)
	command := strings.Fields(server.RSH())
	remote := fmt.Sprintf("BORG_PASSPHRASE='%s' %s list --json --log-json %s", passphrase, program, location)
	target := strings.TrimSuffix(strings.TrimPrefix(server.URL(""), "ssh://"), ":"+strconv.Itoa(server.Port))
	var pushes []time.Duration
	for range startPushes {
		asked := time.Now()
		result := harness.Run(b, nil, command[0], append(command[1:], "-p", strconv.Itoa(server.Port), target, remote)...)
		if result.Code != 0 {
			b.Fatal(result.Stderr)
		}
		at, _ := lastStamp(b, stamps)
		pushes = append(pushes, at.Sub(asked))
	}
	for _, q := range []struct {
		name string
		q    float64
		goal string
	}{{"p50", 0.5, "<= 10 ms, >= 20 x faster"}, {"p99", 0.99, "<= 40 ms"}} {
		own, pushed := quantile(starts, q.q), quantile(pushes, q.q)
		report(fmt.Sprintf("(a) submit to borg's process, %s of %d", q.name, startJobs), ms(own), "ssh push "+ms(pushed),
			fmt.Sprintf("1/%.0f", float64(pushed)/float64(own)), q.goal)
	}
}

// finishWatcher submits over the bus and waits for finished events there.
type finishWatcher struct {
	connection *nats.Conn
	finished   chan job.ID
}

func watchFinished(b *testing.B, c *harness.Coordinator) *finishWatcher {
	b.Helper()
	w := &finishWatcher{connection: c.NATS(), finished: make(chan job.ID, 1024)}
	_, err := w.connection.Subscribe("borgfleet.v1.event.>", func(m *nats.Msg) {
		var e job.Event
		if json.Unmarshal(m.Data, &e) == nil && e.Type == job.EventFinished {
			if e.State != job.Succeeded {
				b.Errorf("job %s: %s %+v", e.Job, e.State, e.Failure)
			}
			w.finished <- e.Job
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := w.connection.Flush(); err != nil {
		b.Fatal(err)
	}
	return w
}

func (w *finishWatcher) submit(b *testing.B, request string) job.ID {
	b.Helper()
	reply, err := w.connection.Request("borgfleet.v1.jobs.submit", []byte(request), 10*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	var answer struct{ Job job.Job }
	if err := json.Unmarshal(reply.Data, &answer); err != nil || answer.Job.ID == "" {
		b.Fatalf("%s (%v)", reply.Data, err)
	}
	return answer.Job.ID
}

func (w *finishWatcher) await(b *testing.B, id job.ID) {
	b.Helper()
	patience := time.After(harness.Patience)
	for {
		select {
		case done := <-w.finished:
			if done == id {
				return
			}
		case <-patience:
			b.Fatalf("job %s did not end", id)
		}
	}
}

const (
	backupFiles  = 20_000
	backupRounds = 10
)

// benchmarkBackup: 20,000 small files through borgfleet, from the request to
// the finished event, and with plain borg, interleaved.
func benchmarkBackup(b *testing.B) {
	c := harness.StartCoordinator(b)
	c.AddAgent("web1", harness.AgentOptions{Config: "borg: {nice: 0, ionice: \"\"}\n"})
	c.AddRepository("main")
	c.Init("web1", "main")
	files := filepath.Join(b.TempDir(), "files")
	harness.MakeTree(b, files, backupFiles, 512)
	watcher := watchFinished(b, c)
	request := fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q]}}`, files)
	plain := plainBorg(b, files)

	through := func() time.Duration {
		asked := time.Now()
		watcher.await(b, watcher.submit(b, request))
		return time.Since(asked)
	}
	through() // both caches are warm from here on
	plain()
	var ratios []float64
	var own, base []time.Duration
	for range backupRounds {
		own, base = append(own, through()), append(base, plain())
		ratios = append(ratios, float64(own[len(own)-1])/float64(base[len(base)-1]))
	}
	median := (quantile(ratios, 0.5) + quantile(ratios, 0.5+1.0/backupRounds)) / 2
	report(fmt.Sprintf("(b) backup of %d files, median of %d", backupFiles, backupRounds), ms(quantile(own, 0.5)),
		"plain borg "+ms(quantile(base, 0.5)), fmt.Sprintf("%.3f", median), "<= 1.02")
}

// plainBorg returns a function that runs borg create with the arguments that
// borgfleet gives it, on a repository of its own, with its output in files, and
// returns how long it took.
func plainBorg(b *testing.B, files string) func() time.Duration {
	b.Helper()
	repository := filepath.Join(b.TempDir(), "plain")
	env := []string{"BORG_PASSPHRASE=plain", "BORG_BASE_DIR=" + b.TempDir(), "LC_ALL=C.UTF-8", "BORG_SHOW_SYSINFO=no"}
	if r := harness.Run(b, env, "borg", "init", "--encryption", "repokey-blake2", repository); r.Code != 0 {
		b.Fatal(r.Stderr)
	}
	output, err := os.Create(filepath.Join(b.TempDir(), "output"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = output.Close() })
	round := 0
	return func() time.Duration {
		round++
		create := exec.Command("borg", "create", "--log-json", "--lock-wait=60", "--json", "--progress",
			"--checkpoint-interval=300", "--", fmt.Sprintf("%s::plain-%d", repository, round), files)
		create.Env, create.Stdout, create.Stderr = append(os.Environ(), env...), output, output
		began := time.Now()
		if err := create.Run(); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
}

// benchmarkProgress: the age of borg's progress lines as they reach a reader
// of the HTTP event stream.
func benchmarkProgress(b *testing.B) {
	c := harness.StartCoordinator(b)
	c.AddAgent("web1", harness.AgentOptions{})
	c.AddRepository("main")
	c.Init("web1", "main")
	files := b.TempDir()
	harness.MakeTree(b, files, 400, 256<<10)
	response, err := c.Request(http.MethodGet, "/api/v1/events", "")
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	ages := make(chan time.Duration, 1024)
	go readAges(response, ages)
	watcher := watchFinished(b, c)
	watcher.await(b, watcher.submit(b, fmt.Sprintf(
		`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q],"compression":"lzma,9"}}`, files)))
	var samples []time.Duration
	for len(ages) > 0 {
		samples = append(samples, <-ages)
	}
	if len(samples) < 20 {
		b.Fatalf("only %d progress messages", len(samples))
	}
	report(fmt.Sprintf("(c) borg's line to an HTTP reader, p95 of %d", len(samples)), ms(quantile(samples, 0.95)),
		"median "+ms(quantile(samples, 0.5)), "", "<= 250 ms")
}

// readAges reads server-sent progress events and notes how old each one is.
func readAges(response *http.Response, ages chan<- time.Duration) {
	scanner := bufio.NewScanner(response.Body)
	scanner.Buffer(make([]byte, 1<<20), 16<<20)
	event := ""
	for scanner.Scan() {
		line := scanner.Bytes()
		if name, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			event = string(name)
			continue
		}
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok || event != "progress" {
			continue
		}
		var message struct{ Progress job.Progress }
		if json.Unmarshal(data, &message) == nil && message.Progress.Phase == "create" {
			ages <- time.Since(message.Progress.At)
		}
	}
}

const restTime = 60 * time.Second

// benchmarkRest: what an agent costs while nothing runs.
func benchmarkRest(b *testing.B) {
	c := harness.StartCoordinator(b)
	agent := c.AddAgent("web1", harness.AgentOptions{Config: "log: {level: info}\n"})
	before := cpuTime(b, agent.PID())
	<-time.After(restTime)
	used := cpuTime(b, agent.PID()) - before
	report("(d) agent at rest: memory (RSS)", fmt.Sprintf("%.1f MB", rss(b, agent.PID())), "", "", "<= 25 MB")
	report("    processor, over 60 s", fmt.Sprintf("%.2f %%", 100*used.Seconds()/restTime.Seconds()), "", "", "<= 0.2 %")
	info, err := os.Stat(harness.Binary(b, "borgfleet-agent"))
	if err != nil {
		b.Fatal(err)
	}
	report("    size of the binary", fmt.Sprintf("%.1f MB", float64(info.Size())/1e6), "", "", "<= 20 MB")
}

// cpuTime reads utime and stime of a process (proc(5)), in ticks of 10 ms.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// rss reads the resident memory of a process in MB of 10^6 bytes.
func rss(b *testing.B, pid int) float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, _ := strconv.ParseFloat(fields[1], 64)
			return kib * 1024 / 1e6
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

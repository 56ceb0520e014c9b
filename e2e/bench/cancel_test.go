package bench_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	cancelRounds = 50
	backupCancel = 20 // cancels of a backup
	baseRounds   = 5  // of what is slow in itself
)

// live is what an operator sees of jobs over the bus.
type live struct {
	*finishWatcher
	started  chan job.Event
	ended    chan job.Event
	progress chan job.Progress
}

func watchLive(b *testing.B, c *harness.Coordinator) *live {
	b.Helper()
	l := &live{
		finishWatcher: &finishWatcher{connection: c.NATS()},
		started:       make(chan job.Event, 4096), ended: make(chan job.Event, 4096), progress: make(chan job.Progress, 1<<16),
	}
	for subject, take := range map[string]nats.MsgHandler{
		"borgfleet.v1.event.>": func(m *nats.Msg) {
			var e job.Event
			switch err := json.Unmarshal(m.Data, &e); {
			case err == nil && e.Type == job.EventStarted:
				l.started <- e
			case err == nil && e.Type == job.EventFinished:
				l.ended <- e
			}
		},
		"borgfleet.v1.progress.>": func(m *nats.Msg) {
			var p job.Progress
			if json.Unmarshal(m.Data, &p) == nil {
				l.progress <- p
			}
		},
	} {
		if _, err := l.connection.Subscribe(subject, take); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.connection.Flush(); err != nil {
		b.Fatal(err)
	}
	return l
}

// next takes what comes next that is wanted.
func next[T any](b *testing.B, from <-chan T, wanted func(T) bool) T {
	b.Helper()
	patience := time.After(harness.Patience)
	for {
		select {
		case one := <-from:
			if wanted(one) {
				return one
			}
		case <-patience:
			b.Fatalf("no such %T came", *new(T))
		}
	}
}

// cancel cancels a job and returns how long its process lived on.
func (l *live) cancel(b *testing.B, id job.ID, pid int) time.Duration {
	b.Helper()
	asked := time.Now()
	reply, err := l.connection.Request("borgfleet.v1.jobs.cancel", fmt.Appendf(nil, `{"id":%q}`, id), 10*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	if code := reply.Header.Get("Nats-Service-Error-Code"); code != "" {
		b.Fatalf("cancel: %s", reply.Data)
	}
	took := goneAfter(b, asked, pid)
	next(b, l.ended, func(e job.Event) bool {
		if e.Job == id && e.State != job.Cancelled {
			b.Errorf("job %s is %s, not cancelled: %+v", id, e.State, e.Failure)
		}
		return e.Job == id
	})
	return took
}

// goneAfter waits until a process is gone, and returns how long that took.
func goneAfter(b *testing.B, since time.Time, pid int) time.Duration {
	b.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for running(pid) {
		if time.Since(since) > harness.Patience {
			b.Fatalf("process %d does not end", pid)
		}
		<-look.C
	}
	return time.Since(since)
}

// running reports whether a process is there, and more than a zombie.
func running(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(data), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

// byHand runs plain borg, signals it once it has told progress, waits for the
// end, and returns how long that took from the first signal.
func byHand(b *testing.B, env []string, signals []syscall.Signal, args ...string) time.Duration {
	b.Helper()
	command := exec.Command("borg", args...)
	command.Env = append(append(os.Environ(), "LC_ALL=C.UTF-8"), env...)
	stderr, err := command.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if text := lines.Text(); strings.Contains(text, `"check.verify_data"`) || strings.Contains(text, `"nfiles"`) && !strings.Contains(text, `"original_size": 0,`) {
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	began, gone := time.Now(), make(chan struct{})
	go func() {
		defer close(gone)
		_ = command.Wait() // it was signalled
	}()
	for _, s := range signals {
		_ = command.Process.Signal(s)
		select {
		case <-gone:
		case <-time.After(time.Second):
		}
	}
	<-gone
	return time.Since(began)
}

// fill writes a file of random content.
func fill(b *testing.B, path string, megabytes int64) {
	b.Helper()
	source, err := os.Open("/dev/urandom")
	if err != nil {
		b.Fatal(err)
	}
	defer source.Close()
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyN(file, source, megabytes<<20); err != nil {
		b.Fatal(err)
	}
	if err := file.Close(); err != nil {
		b.Fatal(err)
	}
}

// benchmarkCancel: from the request to cancel a check in its middle until its
// process is gone, beside a signal that is sent by hand.
func benchmarkCancel(b *testing.B) {
	c := harness.StartCoordinator(b)
	c.AddAgent("web1", harness.AgentOptions{})
	location, passphrase := c.AddRepository("main")
	c.Init("web1", "main")
	files := b.TempDir()
	fill(b, filepath.Join(files, "large"), 1000)
	watcher := watchLive(b, c)
	stored := watcher.submit(b, fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q],"compression":"none"}}`, files))
	next(b, watcher.ended, func(e job.Event) bool { return e.Job == stored })

	var cancels, kills []time.Duration
	for range cancelRounds {
		for len(watcher.progress) > 0 {
			<-watcher.progress
		}
		id := watcher.submit(b, `{"host":"web1","kind":"check","repository":"main","spec":{"verify_data":true}}`)
		pid := next(b, watcher.started, func(e job.Event) bool { return e.Job == id }).PID
		next(b, watcher.progress, func(p job.Progress) bool { return p.Phase == "check.verify_data" })
		cancels = append(cancels, watcher.cancel(b, id, pid))
	}
	env := []string{"BORG_PASSPHRASE=" + passphrase, "BORG_BASE_DIR=" + b.TempDir()}
	for range cancelRounds {
		kills = append(kills, byHand(b, env, []syscall.Signal{syscall.SIGTERM}, "check", "--log-json", "--progress", "--verify-data", location))
	}
	own, hand := quantile(cancels, 0.95), quantile(kills, 0.95)
	report(fmt.Sprintf("(h) cancel a check to process gone, p95 of %d", cancelRounds), ms(own), "kill -TERM: "+ms(hand),
		fmt.Sprintf("%.1f", float64(own)/float64(hand)), "<= 500 ms")
}

// benchmarkCancelBackup: the same for a backup in the middle of a large file,
// over ssh. Each one goes on where the one before was cancelled.
func benchmarkCancelBackup(b *testing.B) {
	const sent, size, limit = 6 << 20, 500, 16 << 10 // bytes a round, MB, KiB/s
	server := harness.StartSSHD(b)
	c := harness.StartCoordinator(b)
	c.AddAgent("web1", harness.AgentOptions{Config: fmt.Sprintf("borg: {rsh: %q, nice: 0, ionice: \"\"}\n", server.RSH())})
	dir := b.TempDir()
	file, passphrase := filepath.Join(dir, "passphrase"), "correct horse"
	if err := os.WriteFile(file, []byte(passphrase), 0o600); err != nil {
		b.Fatal(err)
	}
	c.MustCLI("repo", "add", "main", "--location", server.URL(filepath.Join(dir, "repository")), "--passphrase-file", file)
	c.Init("web1", "main")
	files := b.TempDir()
	fill(b, filepath.Join(files, "large"), size)
	watcher := watchLive(b, c)

	var cancels, kills []time.Duration
	var told int64 // bytes that cancelled backups have told as sent
	for range backupCancel {
		for len(watcher.progress) > 0 {
			<-watcher.progress
		}
		id := watcher.submit(b, fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q],"compression":"none","upload_limit":%d}}`, files, limit))
		pid := next(b, watcher.started, func(e job.Event) bool { return e.Job == id }).PID
		told += next(b, watcher.progress, func(p job.Progress) bool { return p.DeduplicatedSize >= sent }).DeduplicatedSize
		cancels = append(cancels, watcher.cancel(b, id, pid))
	}
	last := watcher.submit(b, fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q],"compression":"none"}}`, files))
	end := next(b, watcher.ended, func(e job.Event) bool { return e.Job == last })
	if end.State != job.Succeeded || end.Result.DeduplicatedSize+told > (size+size/20)<<20 {
		b.Errorf("after %d bytes were sent, the backup %s sent %+v", told, end.State, end.Result)
	}

	env := []string{"BORG_PASSPHRASE=" + passphrase, "BORG_BASE_DIR=" + b.TempDir(), "BORG_RSH=" + server.RSH()}
	plain := server.URL(filepath.Join(dir, "plain"))
	if r := harness.Run(b, env, "borg", "init", "--encryption", "repokey-blake2", plain); r.Code != 0 {
		b.Fatal(r.Stderr)
	}
	for i := range baseRounds {
		kills = append(kills, byHand(b, env, []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, "create", "--log-json", "--progress",
			"--compression=none", fmt.Sprintf("--upload-ratelimit=%d", limit), fmt.Sprintf("%s::%d", plain, i), files))
	}
	own, hand := quantile(cancels, 0.95), quantile(kills, 0.95)
	report(fmt.Sprintf("(i) cancel within a large file, p95 of %d", backupCancel), ms(own), "kill -INT, twice: "+ms(hand),
		fmt.Sprintf("%.1f", float64(own)/float64(hand)), "<= 2500 ms")
	report("    sent by the backup after them", fmt.Sprintf("%d MB", end.Result.DeduplicatedSize>>20), fmt.Sprintf("all: %d MB", size),
		fmt.Sprintf("%.2f", float64(end.Result.DeduplicatedSize)/float64(size<<20)), fmt.Sprintf("<= all - %d MB", told>>20))
}

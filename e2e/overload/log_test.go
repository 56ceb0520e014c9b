package overload_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// flood is shell that prints megabytes as borg would, stops in the middle until
// the gate is there, and tells how far it is after each megabyte.
const flood = `
if [ "$1" = create ]; then
	i=0
	while [ $i -lt %[1]d ]; do
		cat %[2]s >&2
		i=$((i+1))
		printf '{"original_size": %%d, "compressed_size": 1, "deduplicated_size": 1, "nfiles": %%d, "path": "srv/f", "time": %%d.5, "type": "archive_progress", "finished": false}\n' ${i}000000 $i $((1795318707+i)) >&2
		while [ $i -eq %[3]d ] && ! [ -e %[4]s ]; do sleep 0.05; done
	done
fi`

// megabyte writes a file with about a megabyte of what borg prints.
func megabyte(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for i := 0; text.Len() < 1_000_000; i++ {
		fmt.Fprintf(&text, `{"type": "file_status", "status": "A", "path": "/srv/www/example.org/releases/f%06d.txt"}`+"\n", i)
		switch i % 10 {
		case 3:
			fmt.Fprintf(&text, `{"type": "log_message", "time": 1795318707.25, "message": "line %d", "levelname": "INFO", "name": "borg.archiver"}`+"\n", i)
		case 6:
			fmt.Fprintf(&text, "raw line %d, of a program that borg has started\n", i)
		case 9:
			fmt.Fprintf(&text, `{"type": "file_status", "status": "A", "path": "/srv/\u00fcn\u00efcode/f%06d.txt"}`+"\n", i)
		}
	}
	path := filepath.Join(t.TempDir(), "megabyte")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestEndlessLog has a backup that prints without end, and an agent that is
// killed in its middle.
func TestEndlessLog(t *testing.T) {
	t.Parallel()
	size := scale(t, "LOG", 20, 1000)
	half, gate := size/2, filepath.Join(t.TempDir(), "gate")
	binary := borgAfter(t, fmt.Sprintf(flood, size, megabyte(t), half, gate))
	c := harness.StartCoordinator(t)
	agent := c.AddAgent("web1", harness.AgentOptions{Config: fmt.Sprintf("borg: {binary: %q}\n", binary)})
	location, passphrase := c.AddRepository("main")
	c.Init("web1", "main")
	files := t.TempDir()
	harness.MakeTree(t, files, 3, 1000)
	progress := watchProgress(t, c.NATS())
	coordinator, before := watchMemory(t, c.Process), watchMemory(t, agent.Process)

	began := time.Now()
	id := c.Submit(fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q]}}`, files)).ID
	awaitProgress(t, progress, half)
	t.Logf("%d MB were printed and read within %s", half, time.Since(began))
	before.check(t)
	agent.Kill()
	drain(progress)
	began = time.Now()
	agent.Restart()
	awaitProgress(t, progress, half)
	t.Logf("%d MB were read again within %s of the agent's start", half, time.Since(began))
	after := memory{agent.Process, before.rest}

	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := c.Await(id, job.Succeeded)
	if done.Attempt != 1 || done.Result.NFiles != 3 {
		t.Errorf("attempt %d, result %+v", done.Attempt, done.Result)
	}
	if archives := harness.Archives(t, location, passphrase); len(archives) != 1 || archives[0] != done.Result.Archive {
		t.Errorf("borg sees %v, the result names %s", archives, done.Result.Archive)
	}
	checkLog(t, c, id)
	after.check(t)
	coordinator.check(t)
}

// TestLongList lists very many files.
func TestLongList(t *testing.T) {
	t.Parallel()
	n := scale(t, "FILES", 8_000, 300_000)
	files := t.TempDir()
	makeEmptyFiles(t, files, n)
	c := harness.StartCoordinator(t)
	agent := c.AddAgent("web1", harness.AgentOptions{})
	c.AddRepository("main")
	c.Init("web1", "main")
	coordinator, host := watchMemory(t, c.Process), watchMemory(t, agent.Process)

	request := fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q],"list_files":true}}`, files)
	id := c.Submit(request).ID
	if done := c.Await(id, job.Succeeded); int(done.Result.NFiles) != n {
		t.Errorf("%d files in the archive, %d in the directory", done.Result.NFiles, n)
	}
	log := checkLog(t, c, id)
	if listed := strings.Count(log, " A "+files+"/"); listed < job.LogHeadLines/2 || listed > job.LogHeadLines+job.LogTailLines {
		t.Errorf("the log names %d files", listed)
	}
	// Unchanged files are not listed, but for the newest, of which borg cannot
	// know.
	again := c.Submit(request).ID
	c.Await(again, job.Succeeded)
	if listed := strings.Count(c.MustCLI("job", "log", string(again)), " A "+files+"/"); listed > n/2 {
		t.Errorf("the log names %d files that have not changed", listed)
	}
	host.check(t)
	coordinator.check(t)
}

func makeEmptyFiles(t *testing.T, dir string, n int) {
	t.Helper()
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", i/1000))
		if i%1000 == 0 {
			if err := os.Mkdir(sub, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		file, err := os.Create(filepath.Join(sub, fmt.Sprintf("f%06d", i)))
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkLog checks that the log has its beginning, its end, and says that lines
// are left out between them.
func checkLog(t *testing.T, c *harness.Coordinator, id job.ID) string {
	t.Helper()
	log := c.MustCLI("job", "log", string(id))
	const others = 20 // the command, what is left out, beginning and end
	if n := strings.Count(log, "\n"); n < job.LogHeadLines || n > job.LogHeadLines+job.LogTailLines+others {
		t.Errorf("the log has %d lines", n)
	}
	if strings.Count(log, "lines left out here") != 1 || strings.Count(log, "borg create") > 1 {
		t.Errorf("the log does not say once that lines are left out:\n%.2000s", log)
	}
	return log
}

// watchProgress delivers the number of files in each progress message.
func watchProgress(t *testing.T, connection *nats.Conn) <-chan int {
	t.Helper()
	progress := make(chan int, 10_000)
	_, err := connection.Subscribe("borgfleet.v1.progress.>", func(m *nats.Msg) {
		var now job.Progress
		if json.Unmarshal(m.Data, &now) == nil {
			progress <- int(now.NFiles)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := connection.Flush(); err != nil {
		t.Fatal(err)
	}
	return progress
}

func awaitProgress(t *testing.T, progress <-chan int, files int) {
	t.Helper()
	patience := time.After(harness.Patience)
	for seen := 0; seen < files; {
		select {
		case seen = <-progress:
		case <-patience:
			t.Fatalf("progress stands at %d of %d", seen, files)
		}
	}
}

func drain(progress <-chan int) {
	for len(progress) > 0 {
		<-progress
	}
}

package bench_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

// bare is plain borg on a repository of borgfleet's, with a warm cache of its
// own.
type bare struct {
	env []string
	out *os.File
}

func newBare(b *testing.B, passphrase string) bare {
	b.Helper()
	out, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = out.Close() })
	return bare{[]string{"BORG_PASSPHRASE=" + passphrase, "BORG_BASE_DIR=" + b.TempDir(), "LC_ALL=C.UTF-8", "BORG_SHOW_SYSINFO=no"}, out}
}

// run runs borg and returns how long that took.
func (p bare) run(b *testing.B, input io.Reader, args ...string) time.Duration {
	b.Helper()
	command := exec.Command("borg", args...)
	said := bytes.Buffer{}
	command.Env, command.Stdin, command.Stdout, command.Stderr = append(os.Environ(), p.env...), input, p.out, &said
	began := time.Now()
	if err := command.Run(); err != nil {
		b.Fatalf("borg %v: %v\n%s", args, err, said.Bytes())
	}
	return time.Since(began)
}

// request asks the API, reads the whole answer, and returns how long that took
// and how many bytes came.
func request(b *testing.B, c *harness.Coordinator, path string) (time.Duration, int64) {
	b.Helper()
	began := time.Now()
	response, err := c.Request(http.MethodGet, path, "")
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		b.Fatalf("GET %s: %s, %v", path, response.Status, err)
	}
	return time.Since(began), n
}

const agentAtOnce = "borg: {nice: 0, ionice: \"\"}\n"

const operationRounds = 30

// benchmarkOperations: a call of the Borg operations API, beside the same borg
// command by hand, interleaved.
func benchmarkOperations(b *testing.B) {
	c := harness.StartCoordinator(b)
	c.AddAgent("web1", harness.AgentOptions{Config: agentAtOnce})
	location, passphrase := c.AddRepository("main")
	c.Init("web1", "main")
	plain := newBare(b, passphrase)
	path := "/api/v1/backups/borg/info?" + url.Values{"repository_path": {location}}.Encode()
	var own, base, more []time.Duration
	for range operationRounds {
		through, _ := request(b, c, path)
		by := plain.run(b, nil, "info", "--log-json", "--lock-wait=60", "--json", "--", location)
		own, base, more = append(own, through), append(base, by), append(more, through-by)
	}
	report(fmt.Sprintf("(l) info by the operations API, median of %d", operationRounds), ms(quantile(own, 0.5)), "plain borg "+ms(quantile(base, 0.5)),
		fmt.Sprintf("+ %s", ms(quantile(more, 0.5))), "<= + 60 ms")
}

const (
	listedDirs  = 1000
	listedFiles = 1000 // in each
	listedSeeks = 200
)

// benchmarkBrowse: an archive of a million files, listed once, then browsed.
func benchmarkBrowse(b *testing.B) {
	c := harness.StartCoordinator(b)
	agent := c.AddAgent("web1", harness.AgentOptions{Config: agentAtOnce})
	location, passphrase := c.AddRepository("main")
	c.Init("web1", "main")
	plain := newBare(b, passphrase)
	plain.run(b, million(), "import-tar", location+"::million", "-")
	c.MustCLI("archive", "list", "main", "--host", "web1")

	before := [2]float64{rss(b, c.PID()), rss(b, agent.PID())}
	watch := watchMemory(b, c.PID(), agent.PID())
	began := time.Now()
	c.MustCLI("archive", "files", "main", "million", "--host", "web1")
	listing := time.Since(began)
	most := watch()
	byHand := plain.run(b, nil, "list", "--json-lines", location+"::million")
	report("(m) listing of 1,000,000 files", ms(listing), "plain borg "+ms(byHand), fmt.Sprintf("%.2f", listing.Seconds()/byHand.Seconds()), "")
	report("    memory beyond rest, coordinator + agent", fmt.Sprintf("%.0f + %.0f MB", most[0]-before[0], most[1]-before[1]), "", "", "<= 200 MB each")

	var dirs, finds []time.Duration
	for range listedSeeks {
		took, _ := request(b, c, fmt.Sprintf("/api/v1/repositories/main/archives/million/files?path=data/%04d", rand.N(listedDirs)))
		dirs = append(dirs, took)
	}
	oneDir := plain.run(b, nil, "list", "--json-lines", location+"::million", "data/0500")
	report(fmt.Sprintf("    one of its directories, p95 of %d", listedSeeks), ms(quantile(dirs, 0.95)), "plain borg "+ms(oneDir),
		fmt.Sprintf("1/%.0f", float64(oneDir)/float64(quantile(dirs, 0.95))), "<= 50 ms")
	for range listedSeeks / 10 {
		took, _ := request(b, c, fmt.Sprintf("/api/v1/find?repository=main&archive=million&name=INVOICE-%04d-%04d", rand.N(listedDirs), rand.N(listedFiles)))
		finds = append(finds, took)
	}
	oneName := plain.run(b, nil, "list", "--json-lines", location+"::million", "sh:**/*invoice-0500-0500*")
	report(fmt.Sprintf("    a name in it, p95 of %d", listedSeeks/10), ms(quantile(finds, 0.95)), "plain borg "+ms(oneName),
		fmt.Sprintf("1/%.0f", float64(oneName)/float64(quantile(finds, 0.95))), "<= 500 ms")
}

// million is a tar of a million empty files.
func million() io.Reader {
	reader, writer := io.Pipe()
	go func() {
		buffered := bufio.NewWriterSize(writer, 1<<20)
		archive := tar.NewWriter(buffered)
		var err error
		for d := 0; d < listedDirs && err == nil; d++ {
			err = archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("data/%04d/", d), Mode: 0o755})
			for f := 0; f < listedFiles && err == nil; f++ {
				err = archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("data/%04d/invoice-%04d-%04d.pdf", d, d, f), Mode: 0o644, Uid: 1000, Uname: "www-data"})
			}
		}
		writer.CloseWithError(errors.Join(err, archive.Close(), buffered.Flush()))
	}()
	return reader
}

// watchMemory looks at the memory of processes until the function that it
// returns is called, which returns the most that each had, in MB.
func watchMemory(b *testing.B, pids ...int) func() []float64 {
	b.Helper()
	most := make([]float64, len(pids))
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			for i, pid := range pids {
				most[i] = max(most[i], rss(b, pid))
			}
			select {
			case <-tick.C:
			case <-over:
				tick.Stop()
				return
			}
		}
	})
	return func() []float64 {
		close(over)
		watching.Wait()
		return most
	}
}

const downloadRounds = 5

// benchmarkDownload: a file of a gigabyte through host, bus and coordinator,
// beside borg's own output of it, interleaved.
func benchmarkDownload(b *testing.B) {
	c := harness.StartCoordinator(b)
	c.AddAgent("web1", harness.AgentOptions{Config: agentAtOnce})
	location, passphrase := c.AddRepository("main")
	c.Init("web1", "main")
	file := filepath.Join(b.TempDir(), "file")
	content := make([]byte, 1<<30)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(content) // never fails
	if err := os.WriteFile(file, content, 0o600); err != nil {
		b.Fatal(err)
	}
	c.MustCLI("backup", "--host", "web1", "--repo", "main", "--archive", "large", file)
	plain := newBare(b, passphrase)
	path := "/api/v1/repositories/main/archives/large/download?format=file&path=" + url.QueryEscape(file[1:])
	var own, base []time.Duration
	var ratios []float64
	for range downloadRounds {
		through, n := request(b, c, path)
		if n != 1<<30 {
			b.Fatalf("%d bytes came", n)
		}
		by := plain.run(b, nil, "extract", "--stdout", location+"::large", file[1:])
		own, base, ratios = append(own, through), append(base, by), append(ratios, by.Seconds()/through.Seconds())
	}
	rate := func(d time.Duration) string { return fmt.Sprintf("%.0f MB/s", (1<<30)/1e6/d.Seconds()) }
	report(fmt.Sprintf("(n) download of 1 GiB, median of %d", downloadRounds), rate(quantile(own, 0.5)), "borg extract "+rate(quantile(base, 0.5)),
		fmt.Sprintf("%.2f", quantile(ratios, 0.5)), ">= 0.60")
}

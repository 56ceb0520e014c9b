package catalog_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// manyLines prints the lines of an archive like a machine's: directories of a
// hundred files, and a large one.
type manyLines struct {
	at   int
	line []byte // what is left of it
}

// Read implements io.Reader.
func (m *manyLines) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(m.line) == 0 {
			if m.at == manyFiles {
				return n, io.EOF
			}
			m.line = lineOf(m.at)
			m.at++
		}
		copied := copy(p[n:], m.line)
		m.line = m.line[copied:]
		n += copied
	}
	return n, nil
}

func pathOf(i int) string {
	if i%10 == 0 {
		return fmt.Sprintf("srv/large/IMG_%08d.jpeg", i*7919%manyFiles)
	}
	return fmt.Sprintf("srv/data/tree-%d/dir-%04d/%s-%x.dat", i/100%3, i/100, []string{"report", "invoice", "photo", "log"}[i%4], uint32(i)*2654435761)
}

func lineOf(i int) []byte {
	at := time.UnixMicro(1_700_000_000_000_000 + int64(i)*37_007_919).UTC()
	return fmt.Appendf(nil, `{"type": "-", "mode": "-rw-r--r--", "user": "www-data", "group": "www-data", "uid": 33, "gid": 33, "path": %q, "healthy": true, "source": "", "linktarget": "", "flags": 0, "size": %d, "mtime": %q}`+"\n",
		pathOf(i), i*31%100_000, at.Format("2006-01-02T15:04:05.000000"))
}

// listMany lists them as the archive many.
func (w *world) listMany() (took time.Duration) {
	w.t.Helper()
	j := newList("main", "many")
	w.prints(j, &manyLines{})
	begin := time.Now()
	w.tell(j)
	w.over(j, job.Succeeded)
	w.within(3*time.Minute, "a million files are listed", func() bool { return len(w.ListedAt("main")) > 0 })
	return time.Since(begin)
}

// inChild says in which directory this program, started again by
// TestAMillionFiles, is to list them, so that its memory can be told.
const inChild = "CATALOG_TEST_DIRECTORY"

func TestAMillionFilesInAChild(t *testing.T) {
	dir := os.Getenv(inChild)
	if dir == "" {
		return // it is the child's
	}
	before := peak(t)
	w := newWorld(t, dir).start()
	took := w.listMany()
	fmt.Printf("\ntook %d ms, grew %d KiB\n", took.Milliseconds(), peak(t)-before)
}

// peak returns the most memory that this process has had, in KiB.
func peak(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	return number(t, regexp.MustCompile(`VmHWM:\s+(\d+) kB`), status)
}

func number(t *testing.T, pattern *regexp.Regexp, text []byte) int {
	t.Helper()
	found := pattern.FindSubmatch(text)
	if found == nil {
		t.Fatalf("no %s in:\n%s", pattern, text)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAMillionFiles lists a million files (fewer with the race detector, see
// manyFiles) in a process of its own, and browses them here. What it prints is compared with a scan of borg's lines; limits are
// wide, as the machine may be busy.
func TestAMillionFiles(t *testing.T) {
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAMillionFilesInAChild$", "-test.v")
	child.Env = append(os.Environ(), inChild+"="+dir)
	said, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, said)
	}
	wrote := time.Duration(number(t, regexp.MustCompile(`took (\d+) ms`), said)) * time.Millisecond
	grew := number(t, regexp.MustCompile(`grew (\d+) KiB`), said) << 10

	w := newWorld(t, dir).start()
	info, err := os.Stat(w.Path("main", "many"))
	if err != nil {
		t.Fatal(err)
	}
	scan, raw := scanLines(t)
	t.Logf("list: %s, %.1f times a scan of the lines (%s); memory grew by %d MiB; file %.1f MiB, %.1f %% of borg's %d MiB",
		wrote, wrote.Seconds()/scan.Seconds(), scan, grew>>20, float64(info.Size())/(1<<20), 100*float64(info.Size())/float64(raw), raw>>20)
	if grew > 200<<20 {
		t.Errorf("memory grew by %d MiB", grew>>20)
	}
	for name, check := range map[string]struct {
		limit time.Duration
		call  func(i int) error
	}{
		"a small directory": {500 * time.Millisecond, func(i int) error { return w.browse(filepath.Dir(pathOf((i*7917+1)%manyFiles)), 200) }},
		"a large directory": {500 * time.Millisecond, func(int) error { return w.browse("srv/large", fleet.MaxFiles) }},
		"a rare name":       {5 * time.Second, func(i int) error { return w.search(filepath.Base(pathOf((i*7919+1)%manyFiles)), 1) }},
		"no such name":      {5 * time.Second, func(int) error { return w.search("no such name", 0) }},
		"a rare path":       {5 * time.Second, func(i int) error { return w.search(pathOf((i*7919+1)%manyFiles), 1) }},
		"a glob over paths": {5 * time.Second, func(i int) error { return w.search(fmt.Sprintf("srv/*/dir-%04d/nothing*", i), 0) }},
		"a frequent name":   {5 * time.Second, func(int) error { return w.search("report", 200) }},
	} {
		p95, calls := percentile(t, check.call)
		t.Logf("%-18s p95 of %d calls %s, 1/%.0f of a scan of the lines", name+":", calls, p95, scan.Seconds()/p95.Seconds())
		if p95 > check.limit {
			t.Errorf("%s took %s", name, p95)
		}
	}
}

func (w *world) browse(dir string, want int) error {
	page, err := w.Files(w.t.Context(), fleet.FilesQuery{Repository: "main", Archive: "many", Path: dir, Limit: want})
	if err == nil && (len(page.Files) == 0 || page.Files[0].Name == "") {
		err = fmt.Errorf("nothing in %s", dir)
	}
	return err
}

func (w *world) search(name string, want int) error {
	page, err := w.Find(w.t.Context(), fleet.FindQuery{Repository: "main", Archive: "many", Name: name})
	if err == nil && len(page.Matches) != want {
		err = fmt.Errorf("%d matches for %s", len(page.Matches), name)
	}
	return err
}

// percentile returns the 95th percentile of forty calls, or of as many as fit
// into some seconds: with the race detector a search takes that long by itself.
func percentile(t *testing.T, call func(i int) error) (p95 time.Duration, calls int) {
	t.Helper()
	const enough, least, limit = 40, 3, 6 * time.Second
	var times []time.Duration
	for begun := time.Now(); len(times) < enough && (len(times) < least || time.Since(begun) < limit); {
		begin := time.Now()
		if err := call(len(times)); err != nil {
			t.Error(err)
		}
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	return times[len(times)*95/100], len(times)
}

// scanLines returns how long it takes to look for a text in what borg has
// printed, and how many bytes that is.
func scanLines(t *testing.T) (took time.Duration, size int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lines")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() // read only by then
	if size, err = io.Copy(file, &manyLines{}); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	lines := bufio.NewScanner(file)
	found := 0
	for lines.Scan() {
		if bytes.Contains(bytes.ToLower(lines.Bytes()), []byte("no such name")) {
			found++
		}
	}
	if lines.Err() != nil || found > 0 {
		t.Fatalf("%d, %v", found, lines.Err())
	}
	return time.Since(begin), size
}

// BenchmarkList writes a listing of a million files.
func BenchmarkList(b *testing.B) {
	for b.Loop() {
		w := newWorld(b, b.TempDir()).start()
		w.listMany()
		w.stop()
	}
}

// BenchmarkBrowse and the next ones read it.
func BenchmarkBrowse(b *testing.B) {
	w := newWorld(b, b.TempDir()).start()
	w.listMany()
	for name, call := range map[string]func(i int) error{
		"directory": func(i int) error { return w.browse(filepath.Dir(pathOf(i*7917%manyFiles+1)), 200) },
		"name":      func(int) error { return w.search("no such name", 0) },
		"path":      func(int) error { return w.search("no/such path", 0) },
	} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if err := call(i % 1000); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

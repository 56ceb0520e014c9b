package e2e_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestChecklist walks through everything that borg is used for, once through
// each way in, and compares what they say with each other, and with borg and the
// disk.
func TestChecklist(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	data := filepath.Join(root, "data")
	made := makeChecklistTree(t, data)
	ways := map[string]func(*harness.Coordinator) way{
		"curl":         func(c *harness.Coordinator) way { return curl{c} },
		"bus":          func(c *harness.Coordinator) way { return overBus{c, "web1"} },
		"command line": func(c *harness.Coordinator) way { return typed{c, "web1"} },
	}
	told := map[string][]string{}
	for name, make := range ways {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(root, strings.ReplaceAll(name, " ", "-"))
			c := harness.StartCoordinator(t)
			c.AddAgent("web1", harness.AgentOptions{Config: fmt.Sprintf("policy: {restore: [%q]}\n", dir)})
			w := walk{way: make(c), dir: dir, data: data, made: made,
				repository: target{location: filepath.Join(dir, "repository"), passphrase: "correct horse " + name, name: "main"}}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			w.whole(t)
			told[name] = w.told
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
	}
	for name, one := range told {
		if diff := cmp.Diff(told["curl"], one); diff != "" {
			t.Errorf("%s says otherwise than curl (-curl +%s):\n%s", name, name, diff)
		}
	}
}

// walk is the checklist on its way through one way in.
type walk struct {
	way
	dir, data  string
	made       map[string]entry
	repository target
	told       []string // the results, as far as they must be the same on every way
}

func (w *walk) tell(format string, args ...any) {
	w.told = append(w.told, fmt.Sprintf(format, args...))
}

// good fails the test unless an operation succeeded.
func (w *walk) good(t *testing.T, what string, done did) did {
	t.Helper()
	if done.code != "" {
		t.Fatalf("%s: %s (%s)", what, done.code, done.hint)
	}
	w.tell("%s: %d files, %d MiB", what, done.nfiles, done.original>>20) // borg counts what it stores of the command line, too
	return done
}

// bad fails the test unless an operation failed with a code and a hint.
func (w *walk) bad(t *testing.T, what string, code job.Code, done did) {
	t.Helper()
	if done.code != code || done.hint == "" {
		t.Errorf("%s: %q (%s), want %s", what, done.code, done.hint, code)
	}
	w.tell("%s: %s", what, done.code)
}

func (w *walk) whole(t *testing.T) {
	r := w.repository
	w.good(t, "init", w.initialise(t, r, "repokey-blake2"))
	first := w.good(t, "first archive", w.create(t, r, "first", "lz4", w.data))
	w.measures(t, first)
	second := w.good(t, "second archive", w.create(t, r, "second", "zstd,3", w.data))
	if second.ratios[1] > 0.01 {
		t.Errorf("the second archive of the same data has a deduplication ratio of %v", second.ratios[1])
	}
	if got := w.good(t, "list", w.list(t, r)).archives; !slices.Equal(got, []string{first.archive, second.archive}) {
		t.Errorf("listed %q, made %q and %q", got, first.archive, second.archive)
	}
	if info := w.good(t, "info", w.info(t, r)); info.mode != job.RepokeyBlake2 || info.size <= 0 {
		t.Errorf("info: %+v", info)
	}
	w.restores(t, second.archive)
	w.mounts(t, second.archive)
	w.errors(t, second.archive)
	w.shrinks(t, first.archive, second.archive)
	w.good(t, "check", w.check(t, r, false))
	w.good(t, "full check", w.check(t, r, true))
}

// measures compares the result of a backup with the tree, and with borg's word.
func (w *walk) measures(t *testing.T, got did) {
	t.Helper()
	if !strings.HasPrefix(got.archive, "first_") || len(got.archive) != len("first_20260101_000000") {
		t.Errorf("the archive is called %q", got.archive)
	}
	files := 0.0 // what has two names is one
	for _, e := range w.made {
		if e.Mode.IsRegular() {
			files += 1 / float64(e.Links)
		}
	}
	if got.nfiles != int64(files) || got.original < 1<<30 {
		t.Errorf("%d files of %d bytes, made %v", got.nfiles, got.original, files)
	}
	var said struct {
		Archives []struct {
			Stats struct {
				OriginalSize   int64 `json:"original_size"`
				CompressedSize int64 `json:"compressed_size"`
				Deduplicated   int64 `json:"deduplicated_size"`
			}
		}
	}
	harness.BorgJSON(t, &said, w.repository.passphrase, "info", "--json", w.repository.location+"::"+got.archive)
	s := said.Archives[0].Stats
	want := [2]float64{float64(s.CompressedSize) / float64(s.OriginalSize), float64(s.Deduplicated) / float64(s.OriginalSize)}
	// Borg counts its own bookkeeping a little differently afterwards. The
	// gigabyte repeats itself sixteen times.
	near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 0.001 })
	if diff := cmp.Diff(want, got.ratios, near); diff != "" || got.ratios[1] > 0.1 {
		t.Errorf("ratios (-borg +told):\n%s", diff)
	}
}

func (w *walk) restores(t *testing.T, archive string) {
	t.Helper()
	into := filepath.Join(w.dir, "restored")
	w.good(t, "extract", did{code: w.extract(t, w.repository, archive, into).code})
	if diff := cmp.Diff(w.made, snapshot(t, filepath.Join(into, w.data))); diff != "" {
		t.Errorf("restored (-data +restored):\n%s", diff)
	}
	if err := os.RemoveAll(into); err != nil {
		t.Fatal(err)
	}
	some := strings.TrimPrefix(filepath.Join(w.data, "small", "0007"), "/")
	w.good(t, "extract of a directory", did{code: w.extract(t, w.repository, archive, into, some).code})
	if diff := cmp.Diff(snapshot(t, filepath.Join(w.data, "small", "0007")), snapshot(t, filepath.Join(into, some))); diff != "" {
		t.Errorf("restored (-data +restored):\n%s", diff)
	}
	w.bad(t, "extract over what is there", job.TargetNotEmpty, w.extract(t, w.repository, archive, into))
	w.bad(t, "extract above what is allowed", job.RefusedByHost, w.extract(t, w.repository, archive, filepath.Dir(w.dir)))
	w.bad(t, "extract into /", job.InvalidSpec, w.extract(t, w.repository, archive, "/"))
	link := filepath.Join(w.dir, "link")
	if err := os.Symlink(filepath.Dir(w.dir), link); err != nil {
		t.Fatal(err)
	}
	w.bad(t, "extract through a link", job.RefusedByHost, w.extract(t, w.repository, archive, filepath.Join(link, "x")))
}

func (w *walk) mounts(t *testing.T, archive string) {
	t.Helper()
	at := filepath.Join(w.dir, "mnt")
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) }) // what a failed test leaves
	w.bad(t, "unmount of nothing", job.NotMounted, w.umount(t, filepath.Join(w.dir, "restored")))
	w.good(t, "mount", did{code: w.mount(t, w.repository, archive, at).code})
	const some = "small/0007/0003"
	want, err := os.ReadFile(filepath.Join(w.data, some))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(at, w.data, some)); err != nil || string(got) != string(want) {
		t.Errorf("read %d bytes of %d from the mount, %v", len(got), len(want), err)
	}
	w.bad(t, "mount over a mount", job.MountPointBusy, w.mount(t, w.repository, archive, at))
	w.bad(t, "mount over files", job.TargetNotEmpty, w.mount(t, w.repository, archive, filepath.Join(w.dir, "restored")))
	w.bad(t, "delete of a mounted archive", job.Conflict, w.conflicting(w.remove(t, w.repository, archive)))
	held, err := os.Open(filepath.Join(at, w.data))
	if err != nil {
		t.Fatal(err)
	}
	w.bad(t, "unmount while busy", job.MountPointBusy, w.umount(t, at))
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	w.good(t, "unmount", did{code: w.umount(t, at).code})
	if left, err := os.ReadDir(at); err != nil || len(left) > 0 {
		t.Errorf("after the unmount: %v, %v", left, err)
	}
}

// conflicting is a refusal whose code the command line does not print.
func (w *walk) conflicting(done did) did {
	if _, onCommandLine := w.way.(typed); onCommandLine && done.code == "refused" {
		done.code = job.Conflict
	}
	return done
}

// errors are the five error cases; none changes anything.
func (w *walk) errors(t *testing.T, archive string) {
	t.Helper()
	before := usage(t, w.repository.location)
	wrong, gone := w.repository, w.repository
	wrong.passphrase, wrong.name = "wrong", "wrong"
	gone.location, gone.name = filepath.Join(w.dir, "gone"), "gone"
	if _, overHTTP := w.way.(curl); !overHTTP { // one location has one name there
		wrong.location = filepath.Join(w.dir, "wrong")
		if err := os.Symlink(w.repository.location, wrong.location); err != nil {
			t.Fatal(err)
		}
		c := w.coordinator()
		known(t, c, wrong, "repokey-blake2")
		known(t, c, gone, "repokey-blake2")
	}
	w.bad(t, "wrong passphrase", job.PassphraseWrong, w.create(t, wrong, "x", "lz4", w.data))
	w.bad(t, "list with a wrong passphrase", job.PassphraseWrong, w.list(t, wrong))
	w.bad(t, "no repository", job.RepositoryMissing, w.list(t, gone))
	w.bad(t, "no archive", job.ArchiveMissing, w.extract(t, w.repository, "gone", filepath.Join(w.dir, "none")))
	w.bad(t, "delete of no archive", job.ArchiveMissing, w.remove(t, w.repository, "gone"))
	w.bad(t, "invalid compression", job.InvalidSpec, w.create(t, w.repository, "x", "zip,3", w.data))
	other := target{location: filepath.Join(w.dir, "other"), passphrase: "x", name: "other"}
	w.bad(t, "invalid encryption mode", job.InvalidSpec, w.initialiseBadly(t, other))
	again := w.good(t, "list after the errors", w.list(t, w.repository))
	if _, err := os.Stat(other.location); !errors.Is(err, fs.ErrNotExist) || len(again.archives) != 2 || !slices.Contains(again.archives, archive) {
		t.Errorf("after the errors: %q, %v", again.archives, err)
	}
	if after := usage(t, w.repository.location); after > before+1<<20 {
		t.Errorf("the errors added %d bytes", after-before)
	}
}

func (w *walk) coordinator() *harness.Coordinator {
	switch via := w.way.(type) {
	case overBus:
		return via.c
	case typed:
		return via.c
	default:
		return w.way.(curl).c
	}
}

// initialiseBadly asks for an encryption mode that there is not: over the bus in
// the job, as the repository cannot even be made known with it.
func (w *walk) initialiseBadly(t *testing.T, r target) did {
	t.Helper()
	if bus, ok := w.way.(overBus); ok {
		known(t, bus.c, r, "repokey-blake2")
		return bus.submit(t, r, job.InitSpec{Encryption: "rot13"})
	}
	return w.initialise(t, r, "rot13")
}

// shrinks deletes and prunes, and sees the disk get its space back.
func (w *walk) shrinks(t *testing.T, first, second string) {
	t.Helper()
	unique := filepath.Join(w.dir, "unique")
	if err := os.WriteFile(unique, noise(64<<20, 99), 0o600); err != nil {
		t.Fatal(err)
	}
	third := w.good(t, "third archive", w.create(t, w.repository, "third", "none", unique))
	full := usage(t, w.repository.location)
	w.good(t, "delete", did{code: w.remove(t, w.repository, third.archive).code})
	w.good(t, "compact", did{code: w.compact(t, w.repository).code})
	if freed := full - usage(t, w.repository.location); freed < 60<<20 {
		t.Errorf("deleting 64 MB and compacting freed %d bytes", freed)
	}
	if got := w.good(t, "list", w.list(t, w.repository)).archives; !slices.Equal(got, []string{first, second}) {
		t.Errorf("after the deletion: %q", got)
	}
	w.good(t, "prune", did{code: w.prune(t, w.repository, 1).code})
	if got := w.good(t, "list", w.list(t, w.repository)).archives; !slices.Equal(got, []string{second}) {
		t.Errorf("after the prune: %q", got)
	}
}

// usage is how many bytes of disk a directory takes.
func usage(t *testing.T, dir string) int64 {
	t.Helper()
	total := int64(0)
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

// entry is what must come back of a file.
type entry struct {
	Mode     fs.FileMode
	UID, GID uint32
	Links    uint64
	MTime    time.Time // not of directories that something was written to
	Target   string
	Sum      [sha256.Size]byte
	Holes    bool
	Xattr    string
}

// snapshot reads a tree, or one file, by paths below it.
func snapshot(t *testing.T, dir string) map[string]entry {
	t.Helper()
	entries := map[string]entry{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || strings.HasSuffix(name, ".skip") {
			return err
		}
		entries[name], err = look(path, d)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func look(path string, d fs.DirEntry) (entry, error) {
	info, err := d.Info()
	if err != nil {
		return entry{}, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	e := entry{Mode: info.Mode(), UID: stat.Uid, GID: stat.Gid, MTime: info.ModTime()}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		e.Target, err = os.Readlink(path)
	case info.Mode().IsRegular():
		e.Links, e.Holes = uint64(stat.Nlink), stat.Blocks*512 < stat.Size
		value := make([]byte, 64)
		if n, err := unix.Getxattr(path, "user.note", value); err == nil {
			e.Xattr = string(value[:n])
		}
		var file *os.File
		if file, err = os.Open(path); err != nil {
			return e, err
		}
		defer file.Close()
		sum := sha256.New()
		_, err = io.Copy(sum, file)
		e.Sum = [sha256.Size]byte(sum.Sum(nil))
	}
	return e, err
}

// noise is the same bytes for the same seed, and does not compress.
func noise(size int, seed byte) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return data
}

// makeChecklistTree makes a file of a gigabyte, 5,000 small ones, and one of
// everything that a file system has.
func makeChecklistTree(t *testing.T, dir string) map[string]entry {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	check(os.MkdirAll(in("empty"), 0o711))
	block := noise(64<<20, 1)
	big, err := os.Create(in("big"))
	check(err)
	for range 16 {
		_, err = big.Write(block)
		check(err)
	}
	check(big.Close())
	for i := range 50 {
		sub := in(fmt.Sprintf("small/%04d", i))
		check(os.MkdirAll(sub, 0o755))
		for k := range 100 {
			check(os.WriteFile(filepath.Join(sub, fmt.Sprintf("%04d", k)), fmt.Appendf(nil, "file %d of %d\n%x", k, i, noise(200, byte(k))), 0o644))
		}
	}
	for _, name := range []string{"ünï cödé", "quote'\"s", "line\nend", "-dash", "*star", "semi;colon $HOME `x`", "not\xffutf8", "left-out.skip"} {
		check(os.WriteFile(in(name), []byte(name), 0o640))
	}
	check(os.WriteFile(in("setuid"), []byte("#!/bin/sh\n"), 0o755))
	check(os.Symlink("../no/where", in("dangling")))
	check(os.Symlink("big", in("link")))
	check(os.Link(in("setuid"), in("same")))
	check(unix.Mkfifo(in("fifo"), 0o620))
	holes, err := os.Create(in("holes"))
	check(err)
	_, err = holes.WriteAt([]byte("end"), 32<<20)
	check(errors.Join(err, holes.Close()))
	check(unix.Setxattr(in("holes"), "user.note", []byte("kept"), 0))
	if os.Getuid() == 0 {
		check(os.Lchown(in("setuid"), 1234, 5678))
		check(os.Lchown(in("dangling"), 1234, 5678))
	}
	check(os.Chmod(in("setuid"), 0o755|fs.ModeSetuid))
	old := time.Date(2001, 2, 3, 4, 5, 6, 789000000, time.UTC)
	for _, name := range []string{"big", "setuid", "holes", "empty", "small/0007", "."} {
		check(os.Chtimes(in(name), old, old))
	}
	return snapshot(t, dir)
}

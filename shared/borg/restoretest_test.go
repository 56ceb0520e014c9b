package borg_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// oddNames are names that a shell, awk, JSON, borg's patterns or borg's list
// could spoil.
var oddNames = []string{
	"plain", "two words", " blank ", "new\nline", "ends so\n", "re\rturn", "tab\t", `quote"'back\slash`, "ünï", "😀", "no\xff\xfeutf8",
	"what?", "wh*t", "[a]b", "-n", "$HOME", "`id`", "re:.*", "{now}", "%s", `\n`, "~", "\x01\x7f", `a", "size": 9, "path": "x`,
}

// testLab is a lab with an archive of odd names, and how they are tested.
func testLab(t *testing.T) (*lab, func(edit func(*job.RestoreTestSpec)) job.Outcome) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	for i, name := range oddNames {
		l.write("data/odd/"+name, fmt.Appendf(nil, "file %d\n", i))
	}
	l.must(withCanary(l, "/data"))
	return l, func(edit func(*job.RestoreTestSpec)) job.Outcome {
		t.Helper()
		canary := testCanary
		spec := job.RestoreTestSpec{Archive: withCanary(l).Archive, Files: 100, Canary: &canary}
		edit(&spec)
		outcome := outcomeOfRun(l, baseTask(l.root, spec))
		l.clean()
		return outcome
	}
}

func asIs(*job.RestoreTestSpec) {}

// clean checks that no scratch directory is left.
func (l *lab) clean() {
	l.t.Helper()
	for _, pattern := range []string{"base/restore-test/*", "scratch/*"} {
		if left, err := filepath.Glob(filepath.Join(l.root, pattern)); err != nil || len(left) > 0 {
			l.t.Errorf("left: %q, %v", left, err)
		}
	}
}

func verdicts(evidence *job.Evidence) map[string]string {
	found := map[string]string{}
	for _, file := range evidence.Sample {
		found[filepath.Base(file.Path)] = file.Verdict
	}
	return found
}

func TestRestoreTestOfOddNames(t *testing.T) {
	_, test := testLab(t)
	end := test(asIs)
	if end.State != job.Succeeded {
		t.Fatalf("%s %v %+v", end.State, end.Failure, end.Result)
	}
	evidence := end.Result.Evidence
	files := len(oddNames) + 3
	if evidence.Same != files || evidence.Files != files+1 || evidence.FilesOf != int64(files)+1 || evidence.Canary == nil || !*evidence.Canary {
		t.Errorf("%+v", evidence)
	}
	if evidence.Seconds <= 0 || evidence.RestoredAt == "" || evidence.Bytes < 300_000 || evidence.Archive != end.Result.Archive {
		t.Errorf("%+v", evidence)
	}
	for _, file := range evidence.Sample {
		if len(file.SHA256) != 64 {
			t.Errorf("%+v", file)
		}
	}
}

// spoil changes a file's content, and nothing else that a look would tell.
func (l *lab) spoil(name string) {
	l.t.Helper()
	path := filepath.Join(l.root, name)
	info, err := os.Stat(path)
	if err == nil {
		err = os.WriteFile(path, make([]byte, info.Size()), 0o600)
	}
	if err == nil {
		err = os.Chtimes(path, info.ModTime(), info.ModTime())
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func TestRestoreTestCompares(t *testing.T) {
	l, test := testLab(t)
	odd := filepath.Join(l.root, "data/odd")
	l.write("data/odd/two words", []byte("other\n"))
	if err := os.Remove(filepath.Join(odd, "plain")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(odd, "new\nline")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(odd, "new\nline")); err != nil {
		t.Fatal(err)
	}
	touched := filepath.Join(odd, "-n")
	if err := os.Chtimes(touched, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	end := test(asIs)
	if end.State != job.Succeeded {
		t.Fatalf("%s %v %+v", end.State, end.Failure, end.Result)
	}
	got := verdicts(end.Result.Evidence)
	for name, want := range map[string]string{"two words": "changed", "plain": "gone", "new\nline": "changed", "-n": "changed", "wh*t": "same"} {
		if got[name] != want {
			t.Errorf("%q is %s, not %s", name, got[name], want)
		}
	}
	elsewhere := test(func(spec *job.RestoreTestSpec) { spec.NoSource = true })
	if e := elsewhere.Result.Evidence; elsewhere.State != job.Succeeded || e.Gone != len(oddNames)+3 || !*e.Canary {
		t.Errorf("on another host: %s %v %+v", elsewhere.State, elsewhere.Failure, e)
	}
}

// withoutInodes hides what tells when an inode has changed, as on a system that
// is not Linux.
func (l *lab) withoutInodes() {
	l.script("bin/stat", "exit 1")
	l.t.Setenv("PATH", filepath.Join(l.root, "bin")+":"+os.Getenv("PATH"))
}

func TestRestoreTestFindsDamage(t *testing.T) {
	l, test := testLab(t)
	l.withoutInodes()
	l.spoil("data/odd/ünï")
	l.spoil("data/etc/motd")
	end := test(asIs)
	checkFailure(t, end, job.RestoreMismatch)
	evidence := end.Result.Evidence
	if evidence.Different != 2 || evidence.Sample[0].Verdict != "different" || evidence.Sample[1].Verdict != "different" || evidence.Sample[2].Verdict != "canary" {
		t.Errorf("%+v", evidence)
	}
	if !strings.Contains(end.Failure.Message, " and 1 more of ") || end.Failure.Retryable {
		t.Errorf("%+v", end.Failure)
	}
}

func TestRestoreTestOfACanary(t *testing.T) {
	_, test := testLab(t)
	wrong := test(func(spec *job.RestoreTestSpec) { spec.Canary.Content = "does not sing" })
	checkFailure(t, wrong, job.RestoreMismatch)
	if e := wrong.Result.Evidence; e.Canary == nil || *e.Canary || e.Different != 0 || e.Sample[0].Verdict != "different" {
		t.Errorf("%+v", e)
	}
	none := test(func(spec *job.RestoreTestSpec) { spec.Canary.Name = "daily" })
	checkFailure(t, none, job.RestoreMismatch)
	if !strings.Contains(none.Failure.Message, "the canary is not in archive") {
		t.Errorf("%+v", none.Failure)
	}
	unasked := test(func(spec *job.RestoreTestSpec) { spec.Canary = nil })
	if e := unasked.Result.Evidence; unasked.State != job.Succeeded || e.Canary != nil || e.Same != len(oddNames)+4 {
		t.Errorf("%s %v %+v", unasked.State, unasked.Failure, e)
	}
}

func TestRestoreTestSamples(t *testing.T) {
	_, test := testLab(t)
	sample := func(seed, size int64, files int) []string {
		end := test(func(spec *job.RestoreTestSpec) {
			spec.Seed, spec.Files, spec.Bytes, spec.Canary = seed, files, size, nil
		})
		if end.State != job.Succeeded {
			t.Fatalf("%s %v %+v", end.State, end.Failure, end.Result)
		}
		var names []string
		for _, file := range end.Result.Evidence.Sample {
			names = append(names, file.Path)
		}
		return names
	}
	first := sample(7, 0, 3)
	if len(first) != 3 || strings.Join(first, "|") != strings.Join(sample(7, 0, 3), "|") {
		t.Errorf("the same seed chose %q first", first)
	}
	if other := sample(-8, 0, 3); strings.Join(first, "|") == strings.Join(other, "|") {
		t.Errorf("another seed chose the same: %q", other)
	}
	if small := sample(7, 20, 100); len(small) != 2 { // of 7 and 8 bytes
		t.Errorf("20 bytes are %q", small)
	}
	end := test(func(spec *job.RestoreTestSpec) { spec.Bytes, spec.Canary = 1, nil })
	if end.State != job.Warning || end.Result.Evidence.Files != 0 || !strings.Contains(end.Result.Warnings[0], "larger than the sample may be") {
		t.Errorf("%s %v %+v", end.State, end.Failure, end.Result)
	}
}

func TestRestoreTestElsewhere(t *testing.T) {
	l, test := testLab(t)
	scratch := filepath.Join(l.root, "scratch")
	end := test(func(spec *job.RestoreTestSpec) { spec.Target = scratch })
	if end.State != job.Succeeded || !strings.HasPrefix(end.Result.Evidence.RestoredAt, scratch+"/borgfleet-test.") {
		t.Errorf("%s %v %+v", end.State, end.Failure, end.Result)
	}
	if info, err := os.Stat(scratch); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	l.write("scratch/borgfleet-test.999999999.abcdef/out/file", []byte("of a test that is gone\n"))
	if end := test(func(spec *job.RestoreTestSpec) { spec.Target = scratch }); end.State != job.Succeeded {
		t.Errorf("%s %v", end.State, end.Failure)
	}
	if err := os.Symlink(scratch, filepath.Join(l.root, "link")); err != nil {
		t.Fatal(err)
	}
	checkFailure(t, test(func(spec *job.RestoreTestSpec) { spec.Target = filepath.Join(l.root, "link") }), job.RefusedByHost)
	l.write("file", nil)
	checkFailure(t, test(func(spec *job.RestoreTestSpec) { spec.Target = filepath.Join(l.root, "file/x") }), job.PermissionDenied)
	l.script("bin/df", "echo head; echo dev 100 90 10 90% /")
	t.Setenv("PATH", filepath.Join(l.root, "bin")+":"+os.Getenv("PATH"))
	full := test(asIs)
	checkFailure(t, full, job.DiskFull)
	if full.Failure.Retryable || !strings.Contains(full.Failure.Message, "10 KiB are free") {
		t.Errorf("%+v", full.Failure)
	}
}

func TestRestoreTestThatCannotBe(t *testing.T) {
	l, test := testLab(t)
	checkFailure(t, test(func(spec *job.RestoreTestSpec) { spec.Archive = "nope" }), job.ArchiveMissing)
	l.pass = "wrong"
	checkFailure(t, test(asIs), job.PassphraseWrong)
	l.pass = "correct horse"
	l.env.Binary = "/nope/borg"
	checkFailure(t, test(asIs), job.BorgMissing)
}

// TestRestoreTestOfADamagedRepository takes away the data of the archive.
func TestRestoreTestOfADamagedRepository(t *testing.T) {
	l, test := testLab(t)
	segments, err := filepath.Glob(l.root + "/repo/data/0/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, segment := range segments { // the one with the large file
		if info, err := os.Stat(segment); err == nil && info.Size() > 200_000 {
			l.flip(strings.TrimPrefix(segment, l.root+"/"))
		}
	}
	end := test(asIs)
	checkFailure(t, end, job.IntegrityError)
}

// TestRestoreTestIsEnded ends a test in the midst of things, once so that it can
// clean up itself, once so that it cannot.
func TestRestoreTestIsEnded(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"asked": syscall.SIGTERM, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			l, _ := testLab(t)
			l.env.Binary = l.script("bin/borg", `[ "$1" != extract ] || { mkdir -p data; echo secret >data/file; echo ready >&2; exec sleep 600; }; exec `+borgBinary+` "$@"`)
			task := baseTask(l.root, job.RestoreTestSpec{Archive: withCanary(l).Archive})
			r := l.run(task, func(process *os.Process, chunk []byte) {
				if strings.Contains(string(chunk), "ready") {
					if left, err := filepath.Glob(l.root + "/base/restore-test/*/out/data/file"); err != nil || len(left) != 1 {
						t.Errorf("it works in %q, %v", left, err)
					}
					if err := syscall.Kill(-process.Pid, signal); err != nil {
						t.Error(err)
					}
				}
			})
			r.exit.Cancelled = true
			if end, _ := parse(task, r, len(r.stderr)); end.State != job.Cancelled {
				t.Errorf("%s %v", end.State, end.Failure)
			}
			patience.Until(t, "the scratch directory is gone", func() bool {
				left, err := filepath.Glob(l.root + "/base/restore-test/*")
				return err == nil && len(left) == 0
			})
		})
	}
}

// TestRestoreTestInOtherShells runs the script by shells, and with programs, that
// are not this machine's own.
func TestRestoreTestInOtherShells(t *testing.T) {
	binaries := t.TempDir()
	for _, name := range []string{"awk", "cat", "chmod", "date", "df", "find", "mkdir", "mktemp", "printf", "rm", "sed", "setsid", "sha256sum", "sleep", "stat", "tail", "tr"} {
		if err := os.Symlink("/bin/busybox", filepath.Join(binaries, name)); err != nil {
			t.Fatal(err)
		}
	}
	l, _ := testLab(t)
	canary := testCanary
	task := baseTask(l.root, job.RestoreTestSpec{Archive: withCanary(l).Archive, Files: 100, Canary: &canary})
	for name, test := range map[string]struct {
		shell []string
		path  string
	}{
		"bash":    {[]string{"bash", "--posix"}, os.Getenv("PATH")},
		"mksh":    {[]string{"mksh"}, os.Getenv("PATH")},
		"busybox": {[]string{"busybox", "sh"}, binaries + ":/usr/bin/borg-is-named-by-its-path"},
	} {
		t.Run(name, func(t *testing.T) {
			shell, err := exec.LookPath(test.shell[0])
			if err != nil {
				t.Fatal(err)
			}
			command, passphrase := l.command(task)
			defer passphrase.Close()
			other := exec.Command(shell, append(slices.Clone(test.shell[1:]), command.Args[1:]...)...)
			other.Env, other.Dir, other.SysProcAttr, other.ExtraFiles = append(command.Env, "PATH="+test.path), command.Dir, command.SysProcAttr, command.ExtraFiles
			var out, errs bytes.Buffer
			other.Stdout, other.Stderr = &out, &errs
			if err := other.Start(); err != nil {
				t.Fatal(err)
			}
			exit := wait(t, other)
			r := recording{exit: exit, stdout: out.Bytes(), stderr: errs.Bytes()}
			end, _ := parse(task, r, len(r.stderr))
			if end.State != job.Succeeded || end.Result.Evidence.Same != len(oddNames)+3 || !*end.Result.Evidence.Canary {
				t.Errorf("%s %v\n%s\n%s", end.State, end.Failure, r.stdout, r.stderr)
			}
			l.clean()
		})
	}
}

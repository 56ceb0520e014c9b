package borg_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

func restoreScenarios() []scenario {
	onlyData := func(l *lab) {
		task := baseTask(l.root, resolve(backupOf("/data"), l.root))
		task.Archive = "web1-b"
		task.Repository.Location = "ssh://borg@store" + task.Repository.Location
		l.must(task)
	}
	return []scenario{
		{name: "restore", spec: restoreOf(), prepare: withArchives, state: job.Succeeded},
		{name: "restore-paths", spec: restoreOf("/data/etc", "/data/www/"), prepare: withArchives, state: job.Succeeded},
		{name: "restore-some-paths-missing", spec: restoreOf("/data/etc", "/nope: 'it'"), prepare: withArchives, state: job.Warning},
		{name: "restore-paths-missing", spec: restoreOf("/nope", "/data/e"), prepare: withArchives, state: job.Failed, code: job.PathMissing},
		{name: "restore-archive-missing", spec: restoreOf(), state: job.Failed, code: job.ArchiveMissing},
		{name: "restore-over-directory", spec: restoreOf(), state: job.Warning, prepare: func(l *lab) {
			withArchives(l)
			l.write(filepath.Join("restored", l.root, "data/etc/motd/mine"), nil)
		}},
		{name: "remote-restore", spec: restoreOf(), remote: true, prepare: onlyData, state: job.Succeeded},
	}
}

func keyScenarios() []scenario {
	export := job.KeyExportSpec{Recipient: recipient}
	in := func(mode job.Encryption) func(*borg.Task) {
		return func(task *borg.Task) { task.Repository.Encryption = mode }
	}
	made := func(mode job.Encryption) func(*lab) {
		return func(l *lab) {
			task := baseTask(l.root, job.InitSpec{})
			task.Repository.Encryption, task.Encrypted = mode, mode.NeedsPassphrase()
			l.must(task)
		}
	}
	return []scenario{
		{name: "key-export", spec: export, state: job.Succeeded},
		{name: "key-export-keyfile", spec: export, fresh: true, prepare: made(job.Keyfile), edit: in(job.Keyfile), state: job.Succeeded},
		{name: "key-export-authenticated", spec: export, fresh: true, prepare: made(job.AuthenticatedBlake2), edit: in(job.AuthenticatedBlake2), state: job.Succeeded},
		{name: "key-export-unencrypted", spec: export, fresh: true, prepare: made(job.Unencrypted), state: job.Failed, code: job.InvalidSpec},
		{name: "key-export-no-repository", spec: export, fresh: true, state: job.Failed, code: job.RepositoryMissing},
		{name: "key-export-keyfile-missing", spec: export, fresh: true, edit: in(job.KeyfileBlake2), state: job.Failed, code: job.KeyMissing,
			prepare: func(l *lab) {
				made(job.KeyfileBlake2)(l)
				if err := os.RemoveAll(l.env.BaseDir); err != nil {
					l.t.Fatal(err)
				}
			}},
		{name: "remote-key-export", spec: export, remote: true, state: job.Succeeded},
	}
}

// recipient is somebody whose identity is not kept.
const recipient = "age1lzyykr4vnega53j6z5w6lssd3tvgwae8h49apx0j4t4xvgzq3s2qtqzlvj"

// sealed encrypts what borg printed, as the executor does while borg runs.
func sealed(t *testing.T, clear []byte, recipient string) []byte {
	t.Helper()
	to, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	into, err := age.Encrypt(text, to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = into.Write(clear)
	if err := errors.Join(err, into.Close(), text.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func opened(t *testing.T, export string, who age.Identity) []byte {
	t.Helper()
	from, err := age.Decrypt(armor.NewReader(strings.NewReader(export)), who)
	if err != nil {
		t.Fatal(err)
	}
	clear, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	return clear
}

func TestRestoredFilesAreTheSame(t *testing.T) {
	l := newLab(t)
	l.write("data/www/re:.*", []byte("a name like a pattern\n"))
	l.must(baseTask(l.root, job.InitSpec{}))
	withArchives(l)
	r := l.must(baseTask(l.root, resolve(restoreOf("/data/www"), l.root))).Result
	if r.Archive != "web1-b" || r.Target != l.root+"/restored" || r.OriginalSize != 300_022 || r.Duration <= 0 {
		t.Errorf("result %+v", r)
	}
	for _, name := range []string{"data/www/random.bin", "data/www/re:.*"} {
		was, err := os.ReadFile(filepath.Join(l.root, name))
		if err != nil {
			t.Fatal(err)
		}
		is, err := os.ReadFile(filepath.Join(l.root, "restored", l.root, name))
		if err != nil || !bytes.Equal(was, is) {
			t.Errorf("%s is not what it was: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(l.root, "restored", l.root, "data/etc")); err == nil {
		t.Error("what was not asked for was restored, too")
	}
	one := restoreOf()
	one.Target, one.Paths = l.root+"/one", []string{"re:.*"} // as the archive would have it
	if end := outcomeOfRun(l, baseTask(l.root, one)); end.State != job.Failed || end.Failure.Code != job.PathMissing {
		t.Errorf("a path was taken for a pattern: %s, %+v", end.State, end.Result)
	}
}

func outcomeOfRun(l *lab, task borg.Task) job.Outcome {
	r := l.run(task, nil)
	outcome, _ := parse(task, r, len(r.stderr))
	return outcome
}

// A key that is exported opens the repository after the repository's own is
// gone.
func TestExportedKeyOpensTheRepository(t *testing.T) {
	for _, mode := range []job.Encryption{job.RepokeyBlake2, job.KeyfileBlake2, job.Authenticated} {
		t.Run(string(mode), func(t *testing.T) {
			l := newLab(t)
			task := func(spec job.Spec) borg.Task {
				task := baseTask(l.root, spec)
				task.Repository.Encryption = mode
				return task
			}
			l.must(task(job.InitSpec{}))
			identity, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			export := job.KeyExportSpec{Recipient: identity.Recipient().String()}
			key := opened(t, l.must(task(export)).Result.KeyExport, identity)
			if !bytes.HasPrefix(key, []byte("BORG_KEY ")) {
				t.Fatalf("the key is %d bytes that do not begin as one", len(key))
			}
			l.loseKey(mode)
			if end := outcomeOfRun(l, task(job.ListSpec{})); end.State != job.Failed || end.Failure.Code != job.KeyMissing {
				t.Fatalf("without the key: %s, %+v", end.State, end.Failure)
			}
			l.write("key", key)
			cmd, passphrase := l.command(task(job.ListSpec{}))
			defer passphrase.Close()
			cmd.Args = []string{borgBinary, "key", "import", l.root + "/repo", l.root + "/key"}
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("import: %v\n%s", err, said)
			}
			l.must(task(job.ListSpec{}))
		})
	}
}

// loseKey takes the key out of the repository, or off the host.
func (l *lab) loseKey(mode job.Encryption) {
	l.t.Helper()
	if mode == job.Keyfile || mode == job.KeyfileBlake2 {
		if err := os.RemoveAll(filepath.Join(l.env.BaseDir, ".config/borg/keys")); err != nil {
			l.t.Fatal(err)
		}
		return
	}
	config, err := os.ReadFile(l.root + "/repo/config")
	if err != nil {
		l.t.Fatal(err)
	}
	before, _, found := strings.Cut(string(config), "key = ")
	if !found {
		l.t.Fatal("there is no key in the repository")
	}
	l.write("repo/config", []byte(before+"key =\n"))
}

func TestOnlyAWholeEncryptedKeyIsTaken(t *testing.T) {
	task := baseTask(neutralRoot, job.KeyExportSpec{Recipient: recipient})
	whole := string(sealed(t, []byte("BORG_KEY secret"), recipient))
	for name, said := range map[string]string{
		"nothing":  "",
		"in clear": "BORG_KEY secret",
		"torn":     whole[:len(whole)-40],
		"endless":  whole[:len(whole)-40] + strings.Repeat("A", 1<<20) + whole,
	} {
		end, _ := parse(task, recording{stdout: []byte(said)}, 64)
		checkFailure(t, end, job.Internal)
		if strings.Contains(end.Failure.Error(), "BORG_KEY") {
			t.Errorf("%s: the key is in the failure: %v", name, end.Failure)
		}
	}
}

func TestRestoreJudgesWarnings(t *testing.T) {
	warning := func(text string) string { return logLine("WARNING", "borg.archiver", "", text) }
	written := percentLine(1, "extract", 1, 500, 1000, " 50.0% Extracting: etc/a")
	for name, test := range map[string]struct {
		spec  job.RestoreSpec
		said  string
		code  job.Code // empty: a warning
		bytes int64
	}{
		"disk full":            {restoreOf(), written + warning("etc/a: write: [Errno 28] No space left on device"), job.DiskFull, 500},
		"quota":                {restoreOf(), written + warning("etc/a: write: [Errno 122] Disk quota exceeded"), job.QuotaExceeded, 500},
		"read-only":            {restoreOf(), warning("etc: makedirs: [Errno 30] Read-only file system: '/x/etc'"), job.PermissionDenied, 0},
		"dying disk":           {restoreOf(), written + warning("etc/a: write: [Errno 5] Input/output error"), job.IntegrityError, 500},
		"repaired archive":     {restoreOf(), written + warning("etc/a: File has damaged (all-zero) chunks. Try running borg check --repair."), job.IntegrityError, 500},
		"nothing was allowed":  {restoreOf(), warning("etc/a: open: [Errno 13] Permission denied: '/x/etc/a'"), job.PermissionDenied, 0},
		"one was not allowed":  {restoreOf(), written + warning("etc/a: open: [Errno 13] Permission denied: '/x/etc/a'"), "", 500},
		"one of two is there":  {restoreOf("/a", "/b"), written + warning("Include pattern 'a' never matched."), "", 500},
		"none of two is there": {restoreOf("/a", "/b"), warning("Include pattern 'a' never matched.") + warning("Include pattern 'b\nc' never matched."), job.PathMissing, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, task := range []borg.Task{baseTask(neutralRoot, test.spec), modern(test.spec)} {
				end := outcomeOf(task, test.said, borg.Exit{Code: 1, Duration: time.Second})
				if test.code != "" {
					checkFailure(t, end, test.code)
				} else if end.State != job.Warning || end.Failure != nil {
					t.Errorf("%s, %+v", end.State, end.Failure)
				}
				if end.Result == nil || end.Result.OriginalSize != test.bytes || len(end.Result.Warnings) == 0 || end.Result.Target != "/restored" {
					t.Errorf("result %+v", end.Result)
				}
			}
		})
	}
}

func TestRestoreProgress(t *testing.T) {
	line := func(at float64, current int64, text string) string {
		return strings.Replace(percentLine(at, "extract", 1, current, 1000, text+" Extracting: etc/50%"), `"operation"`, `"info": ["etc/50%"], "operation"`, 1)
	}
	got := last(t, baseTask(neutralRoot, restoreOf()), line(0, 10, "  0.0%"), line(10, 215, " 20.0%"))
	got.At = time.Time{}
	want := job.Progress{Phase: "extract", Path: "etc/50%", OriginalSize: 215, Percent: new(20.0), Rate: new(int64(20)), ETASeconds: new(int64(40))}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

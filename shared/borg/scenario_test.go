package borg_test

import (
	"bufio"
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// scenario is one thing that happens to borg, and what we have to make of it.
// It is run with the real borg, and its recorded output is parsed as well.
type scenario struct {
	name      string
	spec      job.Spec
	remote    bool             // over a stand-in for ssh
	prepare   func(l *lab)     // after a repository was made, unless fresh
	fresh     bool             // make no repository
	edit      func(*borg.Task) // change the task before it runs
	signals   []os.Signal      // sent one by one, each as borg tells progress of files
	cancelled bool
	state     job.State
	code      job.Code
}

// neutralRoot stands for the lab's directory in fixtures.
const neutralRoot = "/srv/lab"

func (s scenario) task(root string) borg.Task {
	task := baseTask(root, resolve(s.spec, root))
	if s.remote {
		task.Repository.Location = "ssh://borg@store" + task.Repository.Location
	}
	if s.edit != nil {
		s.edit(&task)
	}
	return task
}

func baseTask(root string, spec job.Spec) borg.Task {
	return borg.Task{
		Kind: spec.Kind(), Spec: spec, Host: "web1", Archive: "web1-2026-11-22T02:00:00", Encrypted: true,
		Repository: job.Repository{Name: "web1-main", Location: root + "/repo", Encryption: job.RepokeyBlake2},
		Version:    borg.Version{Major: 1, Minor: 2, Patch: 4, Text: "1.2.4"},
		Baseline:   &job.Baseline{OriginalSize: 1_000_000, NFiles: 3},
	}
}

// resolve puts the lab's directory before the paths of a backup or a restore.
func resolve(spec job.Spec, root string) job.Spec {
	below := func(paths []string) []string {
		resolved := make([]string, len(paths))
		for i, path := range paths {
			resolved[i] = root + path
		}
		return resolved
	}
	switch spec := spec.(type) {
	case job.BackupSpec:
		spec.Paths = below(spec.Paths)
		return spec
	case job.RestoreSpec:
		spec.Target, spec.Paths = root+spec.Target, below(spec.Paths)
		return spec
	case job.DownloadSpec:
		spec.Path = strings.TrimPrefix(root, "/") + spec.Path
		return spec
	default:
		return spec
	}
}

func backupOf(paths ...string) job.BackupSpec { return job.BackupSpec{Paths: paths} }

func restoreOf(paths ...string) job.RestoreSpec {
	return job.RestoreSpec{Archive: "web1-b", Target: "/restored", Paths: paths}
}

// play makes the scenario happen and returns what borg did. What is made is a
// lab with a repository, reached as the scenario does.
func (s scenario) play(t *testing.T, made *lab) (*lab, borg.Task, recording) {
	t.Helper()
	var l *lab
	if s.fresh {
		l = newLab(t)
	} else {
		l = newLabWith(t, made)
	}
	if s.remote {
		l.reachRemotely()
	}
	task := s.task(l.root)
	if s.prepare != nil {
		s.prepare(l)
	}
	signals := slices.Clone(s.signals)
	r := l.run(task, func(process *os.Process, chunk []byte) {
		if bytes.Contains(chunk, []byte(`"nfiles": `)) && len(signals) > 0 {
			if err := process.Signal(signals[0]); err != nil {
				t.Error(err)
			}
			signals = signals[1:]
		}
	})
	r.exit.Cancelled = s.cancelled
	return l, task, r
}

// reachRemotely puts a stand-in for ssh into the lab.
func (l *lab) reachRemotely() {
	l.env.RSH = l.script("ssh", `while [ "$1" != borg@store ]; do shift; done; shift; exec "$@"`)
}

// labWithRepository returns a lab with a repository, which is not repeated for
// every scenario: making one takes borg half a second.
func labWithRepository(t *testing.T, remote bool) *lab {
	t.Helper()
	l := newLab(t)
	if remote {
		l.reachRemotely()
	}
	l.must(scenario{spec: job.InitSpec{}, remote: remote}.task(l.root))
	return l
}

func scenarios() []scenario {
	return slices.Concat(goodScenarios(), restoreScenarios(), moreRestoreScenarios(), streamScenarios(), archiveScenarios(), scriptScenarios(), checkScenarios(), keyScenarios(), faultScenarios(), connectionScenarios(), signalScenarios())
}

// withArchives makes three archives of data.
func withArchives(l *lab) {
	for _, name := range []string{"web1-a", "web1-b", "web2-a"} {
		task := baseTask(l.root, resolve(backupOf("/data"), l.root))
		task.Archive = name
		l.must(task)
	}
}

func goodScenarios() []scenario {
	return []scenario{
		{name: "init", spec: job.InitSpec{}, fresh: true, state: job.Succeeded},
		{name: "backup", spec: job.BackupSpec{Paths: []string{"/data"}, Comment: "before {the} move", Compression: "zstd,3",
			Exclude: []string{"-*.log"}, ExcludeCaches: true, OneFileSystem: true, NumericIDs: true}, state: job.Succeeded},
		{name: "backup-listed", spec: job.BackupSpec{Paths: []string{"/data"}, ListFiles: true}, state: job.Succeeded},
		{name: "backup-some-paths-missing", spec: backupOf("/data", "/nope"), state: job.Warning},
		{name: "list", spec: job.ListSpec{Prefix: "web1-"}, prepare: withArchives, state: job.Succeeded},
		{name: "list-empty", spec: job.ListSpec{}, state: job.Succeeded},
		{name: "info", spec: job.InfoSpec{}, prepare: withArchives, state: job.Succeeded},
		{name: "info-archive", spec: job.InfoSpec{Archive: "web1-b"}, prepare: withArchives, state: job.Succeeded},
		{name: "prune", spec: job.PruneSpec{KeepLast: 1, Prefix: "web1-"}, prepare: withArchives, state: job.Succeeded},
		{name: "prune-dry-run", spec: job.PruneSpec{KeepLast: 1, Prefix: "web1-", DryRun: true}, prepare: withArchives, state: job.Succeeded},
		{name: "compact", spec: job.CompactSpec{Threshold: 1}, state: job.Succeeded, prepare: func(l *lab) {
			withArchives(l)
			l.must(baseTask(l.root, job.PruneSpec{Prefix: "web1-b", KeepLast: 1}))
			l.must(baseTask(l.root, job.PruneSpec{Prefix: "web1-", KeepLast: 1}))
		}},
		{name: "check", spec: job.CheckSpec{}, prepare: withArchives, state: job.Succeeded},
		{name: "check-verify-data", spec: job.CheckSpec{VerifyData: true}, prepare: withArchives, state: job.Succeeded},
		{name: "check-partial", spec: job.CheckSpec{MaxDuration: 60}, prepare: withArchives, state: job.Succeeded},
		{name: "remote-backup", spec: backupOf("/data"), remote: true, state: job.Succeeded},
		{name: "remote-check", spec: job.CheckSpec{}, remote: true, state: job.Succeeded},
		{name: "remote-compact", spec: job.CompactSpec{}, remote: true, state: job.Succeeded},
	}
}

func faultScenarios() []scenario {
	return []scenario{
		{name: "passphrase-wrong", spec: job.ListSpec{}, state: job.Failed, code: job.PassphraseWrong,
			prepare: func(l *lab) { l.pass = "wrong" }},
		{name: "passphrase-absent", spec: job.ListSpec{}, state: job.Failed, code: job.PassphraseWrong,
			edit: func(task *borg.Task) { task.Encrypted = false }},
		{name: "repository-missing", spec: backupOf("/data"), fresh: true, state: job.Failed, code: job.RepositoryMissing},
		{name: "repository-exists", spec: job.InitSpec{}, state: job.Failed, code: job.RepositoryExists},
		{name: "repository-path-taken", spec: job.InitSpec{}, fresh: true, state: job.Failed, code: job.RepositoryExists,
			prepare: func(l *lab) { l.write("repo/file", nil) }},
		{name: "repository-parent-missing", spec: job.InitSpec{}, fresh: true, state: job.Failed, code: job.RepositoryMissing,
			edit: func(task *borg.Task) { task.Repository.Location += "/a/b" }},
		{name: "repository-invalid", spec: job.InfoSpec{}, fresh: true, state: job.Failed, code: job.RepositoryInvalid,
			prepare: func(l *lab) { l.write("repo/file", nil) }},
		{name: "repository-moved", spec: job.ListSpec{}, state: job.Failed, code: job.RefusedByHost,
			edit: func(task *borg.Task) {
				if task.Kind == job.List {
					task.Repository.Location += "-moved"
				}
			},
			prepare: moveRepository, fresh: true},
		{name: "archive-missing", spec: job.InfoSpec{Archive: "nope"}, state: job.Failed, code: job.ArchiveMissing},
		{name: "archive-exists", spec: backupOf("/data"), state: job.Failed, code: job.ArchiveExists,
			prepare: func(l *lab) { l.must(baseTask(l.root, resolve(backupOf("/data"), l.root))) }},
		{name: "archive-placeholder-unknown", spec: backupOf("/data"), state: job.Failed, code: job.InvalidSpec,
			edit: func(task *borg.Task) { task.Archive = "web1-{nonsense}" }},
		{name: "archive-name-invalid", spec: backupOf("/data"), state: job.Failed, code: job.InvalidSpec,
			edit: func(task *borg.Task) { task.Archive = "a/b" }},
		{name: "paths-missing", spec: backupOf("/nope", "/not: here/"), state: job.Failed, code: job.PathMissing},
		{name: "locked", spec: backupOf("/data"), state: job.Failed, code: job.RepositoryLocked, prepare: holdLock},
		{name: "damaged", spec: job.CheckSpec{}, state: job.Failed, code: job.IntegrityError, prepare: damage},
	}
}

func connectionScenarios() []scenario {
	ssh := func(body string) func(*lab) {
		return func(l *lab) { l.env.RSH = l.script("ssh", body) }
	}
	// Borg reads what ssh said only as long as the connection is open, hence
	// the sleep before the scripts end.
	list := func(name string, code job.Code, body string) scenario {
		return scenario{name: name, spec: job.ListSpec{}, remote: true, fresh: true, state: job.Failed, code: code, prepare: ssh(body)}
	}
	return []scenario{
		list("ssh-refused", job.HostUnreachable, `ssh -oBatchMode=yes -p 1 root@127.0.0.1 true; sleep 1; exit 255`),
		list("ssh-no-borg", job.BorgMissing, `echo "bash: line 1: borg: command not found" >&2; sleep 1; exit 127`),
		list("ssh-silent", job.ConnectionLost, `exit 255`),
		list("ssh-greeting", job.ConnectionLost, `echo "Welcome to the server"; cat`),
		list("ssh-path-not-allowed", job.PermissionDenied, `exec borg serve --restrict-to-path /nonexistent`),
		{name: "ssh-client-missing", spec: job.ListSpec{}, remote: true, fresh: true, state: job.Failed, code: job.HostUnreachable,
			prepare: func(l *lab) { l.env.RSH = "/nonexistent/ssh" }},
		{name: "ssh-repository-missing", spec: job.ListSpec{}, remote: true, fresh: true, state: job.Failed, code: job.RepositoryMissing},
		{name: "ssh-quota", spec: backupOf("/data"), remote: true, state: job.Failed, code: job.QuotaExceeded,
			prepare: func(l *lab) {
				l.write("data/www/large.bin", noise(12_000_000))
				ssh(`exec borg serve --storage-quota 10M`)(l)
			}},
		list("ssh-server-refuses-arguments", job.ConnectionLost, `exec borg serve --storage-quota 50K`),
		{name: "ssh-lost", spec: job.BackupSpec{Paths: []string{"/data"}, Compression: "lzma,9"}, remote: true, state: job.Failed, code: job.ConnectionLost,
			prepare: func(l *lab) {
				l.write("data/www/large.bin", noise(30_000_000))
				ssh(`exec 3<&0; borg serve <&3 & sleep 2.5; kill -9 $!`)(l)
			}},
	}
}

func signalScenarios() []scenario {
	slow := job.BackupSpec{Paths: []string{"/data"}, Compression: "lzma,9"}
	large := func(l *lab) { l.write("data/www/large.bin", noise(40_000_000)) }
	return []scenario{
		{name: "cancelled-backup", spec: slow, prepare: large, signals: []os.Signal{os.Interrupt, os.Interrupt}, cancelled: true, state: job.Cancelled, code: job.CodeCancelled},
		{name: "terminated-backup", spec: slow, prepare: large, signals: []os.Signal{syscall.SIGTERM}, state: job.Failed, code: job.Interrupted},
		{name: "killed-backup", spec: slow, prepare: large, signals: []os.Signal{os.Kill}, state: job.Failed, code: job.Interrupted},
	}
}

// holdLock keeps the repository locked until the test ends.
func holdLock(l *lab) {
	cmd, passphrase := l.command(baseTask(l.root, job.ListSpec{}))
	cmd.Args = []string{borgBinary, "with-lock", l.root + "/repo", "sh", "-c", "echo locked; cat"}
	cmd.Path = borgBinary
	stdin, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	if passphrase != nil {
		passphrase.Close()
	}
	l.t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait() // only waits for the end
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "locked\n" {
		l.t.Fatalf("with-lock said %q: %v", line, err)
	}
}

// damage removes the repository's largest segment.
func damage(l *lab) {
	l.must(baseTask(l.root, resolve(backupOf("/data"), l.root)))
	var largest string
	var size int64
	err := filepath.WalkDir(l.root+"/repo/data", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil || largest == "" {
		l.t.Fatalf("no segment found: %v", err)
	}
	if err := os.Remove(largest); err != nil {
		l.t.Fatal(err)
	}
}

func moveRepository(l *lab) {
	l.must(baseTask(l.root, job.InitSpec{}))
	l.must(baseTask(l.root, job.ListSpec{}))
	if err := os.Rename(l.root+"/repo", l.root+"/repo-moved"); err != nil {
		l.t.Fatal(err)
	}
}

// borgVersion asks the borg that is installed.
func borgVersion(t *testing.T) string {
	t.Helper()
	output, err := exec.Command(borgBinary, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(output))
}

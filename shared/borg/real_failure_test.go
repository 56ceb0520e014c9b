package borg_test

import (
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
	"github.com/borgfleet/borgfleet/shared/disk/disktest"
	"github.com/borgfleet/borgfleet/shared/job"
)

// fault is one way in which borg fails. The scenarios have the frequent ones,
// and record them; these are the others that can be provoked here.
type fault struct {
	name    string
	says    string // in borg's output: its message id, mostly
	spec    job.Spec
	remote  bool // over a stand-in for ssh
	prepare func(l *lab)
	edit    func(l *lab, task *borg.Task)
	code    job.Code
}

func repositoryFaults() []fault {
	list, backup := job.ListSpec{}, backupOf("/data")
	return []fault{
		{name: "no repository, over ssh", says: "Repository.DoesNotExist", spec: list, remote: true, prepare: func(l *lab) { l.remove("repo") }, code: job.RepositoryMissing},
		{name: "not a repository, over ssh", says: `"InvalidRepository"`, spec: list, remote: true, prepare: func(l *lab) { l.remove("repo/config") }, code: job.RepositoryInvalid},
		{name: "config that is none", says: "Repository.InvalidRepository", spec: list, prepare: func(l *lab) { l.write("repo/config", []byte("[nonsense]\n")) }, code: job.RepositoryInvalid},
		{name: "config without an id", says: "configparser.NoOptionError", spec: list, prepare: func(l *lab) { l.edit("repo/config", "\nid = ", "\nno = ") }, code: job.RepositoryInvalid},
		{name: "a repository of borg 2", says: "Repository.InvalidRepositoryConfig", spec: list, prepare: func(l *lab) { l.edit("repo/config", "version = 1", "version = 3") }, code: job.RepositoryInvalid},
		{name: "no rights to write", says: "LockFailed", spec: list, prepare: asSomebodyElse, code: job.PermissionDenied},
		{name: "reserve not free", says: "Repository.InsufficientFreeSpaceError", spec: backup, prepare: configured("additional_free_space", "900T"), code: job.DiskFull},
		{name: "reserve not free, over ssh", says: `"InsufficientFreeSpaceError"`, spec: backup, remote: true, prepare: configured("additional_free_space", "900T"), code: job.DiskFull},
		{name: "quota", says: "Repository.StorageQuotaExceeded", spec: backup, prepare: configured("storage_quota", "10M"), code: job.QuotaExceeded},
		{name: "disk full", says: "No space left on device", spec: backup, prepare: onSmallDisk, code: job.DiskFull},
		{name: "disk full, over ssh", says: "No space left on device", spec: backup, remote: true, prepare: onSmallDisk, code: job.DiskFull},
		{name: "segments gone", says: "Repository.CheckNeeded", spec: backup, prepare: func(l *lab) { l.remove("repo/data/0") }, code: job.IntegrityError},
		{name: "newest segments gone", says: "Cache.RepositoryReplay", spec: backup, prepare: loseCommits, code: job.RefusedByHost},
		{name: "a segment gone, restored", says: "FileNotFoundError", spec: restoreOf(), prepare: func(l *lab) { withArchives(l); l.remove(largestSegment(l)) }, code: job.IntegrityError},
		{name: "a segment gone, over ssh", says: "FileNotFoundError", spec: backup, remote: true, prepare: func(l *lab) {
			l.must(overSSH(baseTask(l.root, resolve(backup, l.root))))
			l.write("data/more", nil)
			l.remove("base/.cache")
			l.remove(largestSegment(l))
		}, code: job.IntegrityError},
		{name: "damaged segment, restored", says: `"IntegrityError"`, spec: restoreOf(), prepare: func(l *lab) { withArchives(l); flipLargestSegment(l) }, code: job.IntegrityError},
	}
}

func keyFaults() []fault {
	list := job.ListSpec{}
	in := func(mode job.Encryption) func(*lab, *borg.Task) {
		return func(_ *lab, task *borg.Task) { task.Repository.Encryption = mode }
	}
	return []fault{
		{name: "passphrase command fails", says: "PasscommandFailure", spec: list, code: job.PassphraseWrong,
			prepare: func(l *lab) {
				l.env.Binary = l.script("borg", `unset BORG_PASSPHRASE_FD; BORG_PASSCOMMAND=false exec `+borgBinary+` "$@"`)
			}},
		{name: "passphrase descriptor closed", says: `"Exception"`, spec: list, code: job.Internal,
			prepare: func(l *lab) { l.env.Binary = l.script("borg", `BORG_PASSPHRASE_FD=99 exec `+borgBinary+` "$@"`) }},
		{name: "no key file", says: "KeyfileNotFoundError", spec: list, code: job.KeyMissing, edit: in(job.KeyfileBlake2),
			prepare: func(l *lab) { l.initAgain(job.KeyfileBlake2); l.loseKey(job.KeyfileBlake2) }},
		{name: "no key in the repository", says: "RepoKeyNotFoundError", spec: list, code: job.KeyMissing, prepare: func(l *lab) { l.loseKey(job.Repokey) }},
		{name: "unencrypted, and unknown", says: "Cache.CacheInitAbortedError", spec: list, code: job.RefusedByHost,
			prepare: func(l *lab) { l.initAgain(job.Unencrypted); l.remove("base") }},
		{name: "encryption changed", says: "Cache.EncryptionMethodMismatch", spec: list, code: job.RefusedByHost, edit: in(job.Unencrypted),
			prepare: func(l *lab) {
				id := l.id()
				l.initAgain(job.Unencrypted)
				l.edit("repo/config", "\nid = "+l.id(), "\nid = "+id)
			}},
	}
}

// TestRealFaults provokes each fault with the installed borg.
func TestRealFaults(t *testing.T) {
	local, remote := labWithRepository(t, false), labWithRepository(t, true)
	for _, f := range slices.Concat(repositoryFaults(), keyFaults()) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			made := local
			if f.remote {
				made = remote
			}
			l := newLabWith(t, made)
			if f.remote {
				l.reachRemotely()
			}
			if f.prepare != nil {
				f.prepare(l)
			}
			task := baseTask(l.root, resolve(f.spec, l.root))
			if f.remote {
				task = overSSH(task)
			}
			if f.edit != nil {
				f.edit(l, &task)
			}
			r := l.run(task, nil)
			end, _ := parse(task, r, 100)
			t.Logf("exit %d: %v", r.exit.Code, end.Failure)
			if !bytes.Contains(r.stderr, []byte(f.says)) {
				t.Errorf("borg does not say %s", f.says)
			}
			checkFailure(t, end, f.code)
			if t.Failed() {
				t.Logf("standard error:\n%s", r.stderr)
			}
		})
	}
}

// TestHangUp: borg tells the loss of its session as an exit code.
func TestHangUp(t *testing.T) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	l.write("data/www/large.bin", noise(40_000_000))
	task := baseTask(l.root, resolve(job.BackupSpec{Paths: []string{"/data"}, Compression: "lzma,9"}, l.root))
	r := l.run(task, func(process *os.Process, chunk []byte) {
		if bytes.Contains(chunk, []byte(`"nfiles": `)) {
			if err := process.Signal(syscall.SIGHUP); err != nil {
				t.Error(err)
			}
		}
	})
	if r.exit.Code != 129 || !bytes.Contains(r.stderr, []byte("Signal.SIGHUP")) {
		t.Errorf("exit %+v\n%s", r.exit, r.stderr)
	}
	end, _ := parse(task, r, 100)
	checkFailure(t, end, job.Interrupted)
}

func overSSH(task borg.Task) borg.Task {
	task.Repository.Location = "ssh://borg@store" + task.Repository.Location
	return task
}

// edit replaces text in a file.
func (l *lab) edit(name, from, to string) {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.root, name))
	if err != nil || !strings.Contains(string(text), from) {
		l.t.Fatalf("%q is not in %s (%v)", from, name, err)
	}
	l.write(name, []byte(strings.ReplaceAll(string(text), from, to)))
}

// id is the repository's.
func (l *lab) id() string {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.root, "repo/config"))
	_, rest, found := strings.Cut(string(text), "\nid = ")
	if err != nil || !found {
		l.t.Fatalf("no id in %q (%v)", text, err)
	}
	id, _, _ := strings.Cut(rest, "\n")
	return id
}

// initAgain replaces the repository by an empty one in another mode.
func (l *lab) initAgain(mode job.Encryption) {
	l.t.Helper()
	l.remove("repo")
	task := baseTask(l.root, job.InitSpec{})
	task.Repository.Encryption, task.Encrypted = mode, mode.NeedsPassphrase()
	l.must(task)
}

func configured(key, value string) func(*lab) {
	return func(l *lab) {
		l.write("data/www/large.bin", noise(12_000_000))
		l.edit("repo/config", "\n"+key+" = 0", "\n"+key+" = "+value)
	}
}

// asSomebodyElse lets borg run as a user who may read the repository, but not
// write to it.
func asSomebodyElse(l *lab) {
	const nobody = "65534"
	for _, command := range [][]string{
		{"chmod", "-R", "a+rX", l.root}, {"chown", "-R", nobody, l.root + "/base"}, {"chmod", "a+rx", filepath.Dir(l.root)},
	} {
		if said, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			l.t.Fatalf("%v: %s", err, said)
		}
	}
	l.env.Binary = l.script("borg", "exec setpriv --reuid="+nobody+" --clear-groups "+borgBinary+` "$@"`)
}

// onSmallDisk puts the repository on a disk that has no room for a backup.
func onSmallDisk(l *lab) {
	l.write("data/www/large.bin", noise(12_000_000))
	l.rename("repo", "was")
	if err := os.Mkdir(l.root+"/repo", 0o700); err != nil {
		l.t.Fatal(err)
	}
	disktest.Mount(l.t, l.root+"/repo", 6)
	l.copyDir("was", "repo")
}

// segments returns the repository's segments, oldest first.
func (l *lab) segments() []string {
	l.t.Helper()
	var all []string
	err := filepath.WalkDir(l.root+"/repo/data", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil || len(all) == 0 {
		l.t.Fatalf("segments: %v", err)
	}
	slices.SortFunc(all, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return all
}

// loseCommits removes the newest segments, with the repository's commits.
func loseCommits(l *lab) {
	withArchives(l)
	all := l.segments()
	for _, path := range all[2:] {
		if err := os.Remove(path); err != nil {
			l.t.Fatal(err)
		}
	}
}

// largestSegment returns the largest segment's name in the lab.
func largestSegment(l *lab) string {
	return strings.TrimPrefix(slices.MaxFunc(l.segments(), func(a, b string) int {
		size := func(path string) int64 {
			info, err := os.Stat(path)
			if err != nil {
				l.t.Fatal(err)
			}
			return info.Size()
		}
		return int(size(a) - size(b))
	}), l.root)
}

// flipLargestSegment turns bytes over in the middle of the largest segment.
func flipLargestSegment(l *lab) { l.flip(largestSegment(l)) }

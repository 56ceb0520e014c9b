package borg_test

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// withChanges makes two archives that differ in every way that files can.
func withChanges(l *lab) {
	do := func(err error) {
		l.t.Helper()
		if err != nil {
			l.t.Fatal(err)
		}
	}
	etc := l.root + "/data/etc"
	for _, name := range []string{"gone", "touched", "turned", "odd \"name\"\n\t\\"} {
		l.write("data/etc/"+name, []byte("data\n"))
	}
	do(os.Symlink("motd", etc+"/link"))
	backup := func(name string) {
		task := baseTask(l.root, resolve(backupOf("/data"), l.root))
		task.Archive = name
		l.must(task)
	}
	backup("web1-a")
	l.write("data/etc/new", []byte("new\n"))
	l.write("data/etc/dir/file", nil)
	l.write("data/etc/motd", []byte("welcome, you\n"))
	l.write("data/etc/odd \"name\"\n\t\\", []byte("longer data\n"))
	l.write("data/etc/touched", []byte("data\n"))
	do(os.Chmod(etc+"/hosts", 0o644))
	do(os.Remove(etc + "/gone"))
	do(os.Remove(etc + "/turned"))
	do(os.Mkdir(etc+"/turned", 0o700))
	do(os.Remove(etc + "/link"))
	do(os.Symlink("hosts", etc+"/link"))
	backup("web1-b")
}

func archiveScenarios() []scenario {
	named := func(names ...string) job.DeleteSpec { return job.DeleteSpec{Archives: names} }
	return []scenario{
		{name: "delete", spec: named("web1-a", "web2-a"), prepare: withArchives, state: job.Succeeded},
		{name: "delete-glob", spec: job.DeleteSpec{Glob: "web1-*"}, prepare: withArchives, state: job.Succeeded},
		{name: "delete-dry-run", spec: job.DeleteSpec{Glob: "web[12]-a", DryRun: true}, prepare: withArchives, state: job.Succeeded},
		{name: "delete-some-missing", spec: named("nope", "web1-b"), prepare: withArchives, state: job.Warning},
		{name: "delete-missing", spec: named("nope", "neither"), prepare: withArchives, state: job.Failed, code: job.ArchiveMissing},
		{name: "delete-glob-of-none", spec: job.DeleteSpec{Glob: "nope*"}, prepare: withArchives, state: job.Failed, code: job.ArchiveMissing},
		{name: "diff", spec: job.DiffSpec{Archive: "web1-a", Other: "web1-b"}, prepare: withChanges, state: job.Succeeded},
		{name: "diff-archive-missing", spec: job.DiffSpec{Archive: "web1-a", Other: "nope"}, prepare: withArchives, state: job.Failed, code: job.ArchiveMissing},
		{name: "diff-paths-missing", spec: job.DiffSpec{Archive: "web1-a", Other: "web1-b", Paths: []string{"nope"}}, prepare: withArchives, state: job.Failed, code: job.PathMissing},
		{name: "prune-all", spec: job.PruneSpec{All: true, KeepDaily: 1}, prepare: withArchives, state: job.Succeeded},
	}
}

func streamScenarios() []scenario {
	file := func(path string) job.DownloadSpec {
		return job.DownloadSpec{Archive: "web1-b", Path: path, Format: job.DownloadFile}
	}
	tar := func(path string) job.DownloadSpec { return job.DownloadSpec{Archive: "web1-b", Path: path} }
	return []scenario{
		{name: "list-files", spec: job.ListSpec{Archive: "web1-b"}, prepare: withChanges, state: job.Succeeded},
		{name: "list-files-archive-missing", spec: job.ListSpec{Archive: "nope"}, state: job.Failed, code: job.ArchiveMissing},
		{name: "download-file", spec: file("/data/etc/motd"), prepare: withChanges, state: job.Succeeded},
		{name: "download-file-empty", spec: file("/data/etc/dir/file"), prepare: withChanges, state: job.Warning},
		{name: "download-file-of-a-directory", spec: file("/data/etc"), prepare: withArchives, state: job.Warning},
		{name: "download-file-missing", spec: file("/data/e"), prepare: withArchives, state: job.Failed, code: job.PathMissing},
		{name: "download-tar", spec: tar("/data/etc"), prepare: withArchives, state: job.Succeeded},
		{name: "download-tar-missing", spec: tar("/data/e"), prepare: withArchives, state: job.Failed, code: job.PathMissing},
		{name: "download-archive-missing", spec: tar("/data/etc"), state: job.Failed, code: job.ArchiveMissing},
	}
}

func moreRestoreScenarios() []scenario {
	with := func(edit func(*job.RestoreSpec)) job.RestoreSpec {
		spec := restoreOf()
		edit(&spec)
		return spec
	}
	keep := with(func(spec *job.RestoreSpec) { spec.KeepExisting = true })
	holding := func(name string) func(*lab) {
		return func(l *lab) {
			withArchives(l)
			l.write(filepath.Join("restored", name), []byte("mine\n"))
		}
	}
	return []scenario{
		{name: "restore-dry-run", spec: with(func(spec *job.RestoreSpec) { spec.DryRun = true }), prepare: withArchives, state: job.Succeeded},
		{name: "restore-listed", spec: with(func(spec *job.RestoreSpec) {
			spec.ListFiles, spec.NumericIDs, spec.StripComponents, spec.Exclude = true, true, 2, []string{"*.bin"}
		}), prepare: withArchives, state: job.Succeeded},
		{name: "restore-keeping", spec: keep, prepare: holding("x/mine"), state: job.Succeeded},
		{name: "restore-keeping-line-ends", spec: keep, prepare: holding("a\nb"), state: job.Failed, code: job.InvalidSpec},
		{name: "restore-keeping-no-utf8", spec: keep, prepare: holding("a\xffb"), state: job.Failed, code: job.InvalidSpec},
	}
}

// hooked is the path of the script that withScript makes.
func hooked(task *borg.Task) {
	task.Hook = strings.TrimSuffix(task.Repository.Location, "/repo") + "/hooks/dump"
}

func withScript(body string) func(*lab) {
	return func(l *lab) { l.script("hooks/dump", strings.ReplaceAll(body, "ROOT", l.root)) }
}

func scriptScenarios() []scenario {
	content, paths := job.BackupSpec{ContentFrom: "dump", StdinName: "db/main.sql"}, job.BackupSpec{PathsFrom: "dump"}
	return []scenario{
		{name: "content", spec: content, edit: hooked, prepare: withScript("echo data"), state: job.Succeeded},
		{name: "content-fails", spec: content, edit: hooked, prepare: withScript("echo data; echo no such database >&2; exit 3"), state: job.Failed, code: job.HookFailed},
		{name: "content-cannot-run", spec: content, edit: hooked, state: job.Failed, code: job.HookFailed},
		{name: "paths", spec: paths, edit: hooked, prepare: withScript(`printf '%s\0' ROOT/data/etc/motd ROOT/data/etc/hosts`), state: job.Succeeded},
		{name: "paths-fail", spec: paths, edit: hooked, prepare: withScript(`printf '%s\0' ROOT/data/etc/motd; exit 1`), state: job.Failed, code: job.HookFailed},
		{name: "paths-some-missing", spec: paths, edit: hooked, prepare: withScript(`printf '%s\0' ROOT/data/etc/motd /nope`), state: job.Warning},
		{name: "paths-all-missing", spec: paths, edit: hooked, prepare: withScript(`printf '%s\0' /nope '/not: here'`), state: job.Failed, code: job.PathMissing},
		{name: "paths-none", spec: paths, edit: hooked, prepare: withScript("true"), state: job.Warning},
		{name: "backup-all-excluded", spec: job.BackupSpec{Paths: []string{"/data"}, Patterns: []string{"- **"}}, state: job.Warning},
		{name: "backup-template", spec: job.BackupSpec{Paths: []string{"/data"}, Archive: "{user}-x"}, state: job.Succeeded,
			edit: func(task *borg.Task) { task.Archive = "{user}-x" }},
	}
}

// withFlippedBytes damages the repository's largest segment, in the data of a
// file.
func withFlippedBytes(l *lab) {
	l.must(baseTask(l.root, resolve(backupOf("/data/www"), l.root)))
	segments, err := filepath.Glob(l.root + "/repo/data/0/*")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, segment := range segments {
		info, err := os.Stat(segment)
		if err != nil || info.Size() < 200_000 {
			continue
		}
		file, err := os.OpenFile(segment, os.O_WRONLY, 0)
		if err != nil {
			l.t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteAt([]byte("\x00\x00\x00\x00flipped\x00"), 100_000); err != nil {
			l.t.Fatal(err)
		}
		return
	}
	l.t.Fatalf("no segment is large enough: %q", segments)
}

// repair mends what withFlippedBytes has damaged.
func repair(l *lab) {
	withFlippedBytes(l)
	if end := outcomeOfRun(l, baseTask(l.root, job.CheckSpec{Repair: true})); end.State != job.Warning || len(end.Result.Damaged) == 0 {
		l.t.Fatalf("repair: %s, %+v, %v", end.State, end.Result, end.Failure)
	}
}

func checkScenarios() []scenario {
	return []scenario{
		{name: "check-flipped", spec: job.CheckSpec{}, prepare: withFlippedBytes, state: job.Failed, code: job.IntegrityError},
		{name: "check-repair", spec: job.CheckSpec{Repair: true}, prepare: withFlippedBytes, state: job.Warning},
		{name: "check-repair-of-nothing", spec: job.CheckSpec{Repair: true}, prepare: withArchives, state: job.Succeeded},
		{name: "check-after-repair", spec: job.CheckSpec{}, prepare: repair, state: job.Warning},
		{name: "check-some", spec: job.CheckSpec{Last: 1, Prefix: "web1-"}, prepare: withArchives, state: job.Succeeded},
	}
}

package borg_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestOptions is about what the specs of all kinds become; TestCommand has the
// rest.
func TestOptions(t *testing.T) {
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	const backup, archive = "--json --progress --checkpoint-interval=300 ", "/srv/lab/repo::web1-2026-11-22T02:00:00"
	tests := map[string]struct {
		spec job.Spec
		want string // without the options that every command gets
	}{
		"content of a script":       {job.BackupSpec{ContentFrom: "dump"}, "borg create " + backup + "--content-from-command --stdin-name=dump -- " + archive + " /hooks/dump"},
		"content with a name":       {job.BackupSpec{ContentFrom: "dump", StdinName: "db/{now}.sql"}, "borg create " + backup + "--content-from-command '--stdin-name=db/{now}.sql' -- " + archive + " /hooks/dump"},
		"paths of a script":         {job.BackupSpec{PathsFrom: "dump"}, "borg create " + backup + `--paths-from-command '--paths-delimiter=\0' -- ` + archive + " /hooks/dump"},
		"list by glob":              {job.ListSpec{Glob: "web*-{x}", Last: 2}, "borg list --json '--format={hostname}{username}{comment}' '--glob-archives=web*-{{x}}' --last=2 -- /srv/lab/repo"},
		"list by time":              {job.ListSpec{After: at, Last: 2}, "borg list --json '--format={hostname}{username}{comment}' -- /srv/lab/repo"},
		"list an archive":           {job.ListSpec{Archive: "a{b}"}, "borg list --json-lines '--format={type}{mode}{uid}{gid}{user}{group}{size}{mtime}{path}{linktarget}{healthy}{health}' -- '/srv/lab/repo::a{{b}}'"},
		"prune all":                 {job.PruneSpec{All: true, KeepLast: 1}, "borg prune --list --progress --keep-last=1 -- /srv/lab/repo"},
		"prune a prefix":            {job.PruneSpec{Prefix: "db-", KeepLast: 1}, "borg prune --list --progress '--glob-archives=db-*' --keep-last=1 -- /srv/lab/repo"},
		"prune a series":            {job.PruneSpec{Series: "w*{x}-", KeepLast: 1}, "borg prune --list --progress '--glob-archives=w[*]{{x}}-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]*' --keep-last=1 -- /srv/lab/repo"},
		"check and repair":          {job.CheckSpec{Repair: true, VerifyData: true}, "borg check --progress --verbose --verify-data --repair -- /srv/lab/repo"},
		"check some":                {job.CheckSpec{Last: 3, Prefix: "web1-"}, "borg check --progress --verbose '--glob-archives=web1-*' --last=3 -- /srv/lab/repo"},
		"delete one":                {job.DeleteSpec{Archives: []string{"a{b}"}}, "borg delete --list --progress -- '/srv/lab/repo::a{{b}}'"},
		"delete some":               {job.DeleteSpec{Archives: []string{"a", "b{c}"}, DryRun: true}, "borg delete --list --progress --dry-run -- /srv/lab/repo::a 'b{c}'"},
		"delete by glob":            {job.DeleteSpec{Glob: "a*{b}"}, "borg delete --list --progress '--glob-archives=a*{{b}}' -- /srv/lab/repo"},
		"diff":                      {job.DiffSpec{Archive: "a{b}", Other: "c{d}", Paths: []string{"-x"}}, "borg diff --json-lines -- '/srv/lab/repo::a{{b}}' 'c{{d}}' pp:-x"},
		"download a file":           {job.DownloadSpec{Archive: "a", Path: "-x", Format: job.DownloadFile}, "borg extract --progress --list --stdout -- /srv/lab/repo::a pf:-x"},
		"download a directory":      {job.DownloadSpec{Archive: "a{b}", Path: "etc"}, "borg export-tar --progress -- '/srv/lab/repo::a{{b}}' - pp:etc"},
		"download everything":       {job.DownloadSpec{Archive: "a", Format: job.DownloadTar}, "borg export-tar --progress -- /srv/lab/repo::a -"},
		"restore with everything":   {job.RestoreSpec{Archive: "a", Target: "/t", Exclude: []string{"-x"}, StripComponents: 2, NumericIDs: true, ListFiles: true}, "borg extract --progress --sparse --list --numeric-ids --strip-components=2 --exclude=-x -- /srv/lab/repo::a"},
		"restore nothing":           {job.RestoreSpec{Archive: "a", Target: "/t", DryRun: true}, "borg extract --progress --sparse --dry-run --list -- /srv/lab/repo::a"},
		"restore beside":            {job.RestoreSpec{Archive: "a", Target: "/t", KeepExisting: true}, "/bin/sh -c ... restore restore /t borg extract --progress --sparse --exclude-from=/dev/stdin -- /srv/lab/repo::a"},
		"restore beside, only look": {job.RestoreSpec{Archive: "a", Target: "/t", KeepExisting: true, DryRun: true}, "/bin/sh -c ... restore look /t borg extract --progress --sparse --dry-run --list --exclude-from=/dev/stdin -- /srv/lab/repo::a"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := test.spec.Validate(); err != nil {
				t.Fatal(err)
			}
			task := baseTask(neutralRoot, test.spec)
			task.Hook = "/hooks/dump"
			argv, _, err := borg.Command(task, borg.Environment{})
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Replace(borg.Redact(argv), " --log-json --lock-wait=60", "", 1)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What would make borg take the repository for an archive, or a name for
// another, never becomes a command.
func TestOptionsRefuse(t *testing.T) {
	for name, spec := range map[string]job.Spec{
		"delete of nothing":               job.DeleteSpec{},
		"delete of a nameless archive":    job.DeleteSpec{Archives: []string{"a", ""}},
		"delete by names and glob":        job.DeleteSpec{Archives: []string{"a"}, Glob: "b"},
		"diff with nothing":               job.DiffSpec{Archive: "a"},
		"download of no archive":          job.DownloadSpec{Path: "a"},
		"download of no file":             job.DownloadSpec{Archive: "a", Format: job.DownloadFile},
		"script that is not known":        job.BackupSpec{ContentFrom: "dump"},
		"paths and a script":              job.BackupSpec{Paths: []string{"/a"}, PathsFrom: "dump"},
		"options that may not be added":   job.BackupSpec{Paths: []string{"/a"}, ExtraOptions: []string{"--rsh=x"}},
		"files kept, components left out": job.RestoreSpec{Archive: "a", Target: "/t", KeepExisting: true, StripComponents: 1},
	} {
		t.Run(name, func(t *testing.T) {
			task := baseTask(neutralRoot, spec)
			if spec, ok := spec.(job.BackupSpec); ok && len(spec.Paths) > 0 {
				task.Hook = "/hooks/dump"
			}
			if argv, _, err := borg.Command(task, borg.Environment{}); err == nil {
				t.Errorf("no error, but %q", argv)
			}
		})
	}
}

func TestCheckExtra(t *testing.T) {
	for _, options := range [][]string{nil, {"--noatime"}, {"--chunker-params=19,23,21,4095", "--timestamp=2026-01-01T00:00:00", "--exclude="}} {
		if err := borg.CheckExtra(options); err != nil {
			t.Errorf("%q: %v", options, err)
		}
	}
	for _, option := range []string{
		"--rsh=sh", "--rs=sh", "--remote-path=/x", "--debug-profile=/x", "--log-json", "--no-log-json", "--progress", "--json", "--dry-run", "-n",
		"--lock-wait=1", "--bypass-lock", "--content-from-command", "--paths-from-stdin", "--patterns-from=/x", "--exclude-from=/x", "--pattern=R /",
		"--noatime=1", "--chunker-params", "--noatim", "--umask=0", "--repo=/x", "--", "--debug", "--consider-part-files", "",
	} {
		failure, ok := errors.AsType[*job.Failure](borg.CheckExtra([]string{"--noatime", option}))
		if !ok || failure.Code != job.RefusedByHost || failure.Hint == "" {
			t.Errorf("%q: %+v", option, failure)
		}
	}
}

func TestEnvironmentOfRepair(t *testing.T) {
	for answer, spec := range map[string]job.Spec{
		"BORG_CHECK_I_KNOW_WHAT_I_AM_DOING=YES": job.CheckSpec{Repair: true},
		"TZ=UTC":                                job.DiffSpec{Archive: "a", Other: "b"},
	} {
		_, environ, err := borg.Command(baseTask(neutralRoot, spec), borg.Environment{})
		if err != nil || !strings.Contains(strings.Join(environ, " "), answer) {
			t.Errorf("%s is not among %q (%v)", answer, environ, err)
		}
	}
}

package borg_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestCommand(t *testing.T) {
	tests := map[string]struct {
		spec job.Spec
		edit func(*borg.Task, *borg.Environment)
		want string
	}{
		"init":               {spec: job.InitSpec{}, want: "borg init --log-json --lock-wait=60 --encryption=repokey-blake2 -- /srv/lab/repo"},
		"init in other mode": {spec: job.InitSpec{Encryption: job.Keyfile}, want: "borg init --log-json --lock-wait=60 --encryption=keyfile -- /srv/lab/repo"},
		"backup": {spec: backupOf("/etc", "/-n"),
			want: "borg create --log-json --lock-wait=60 --json --progress --checkpoint-interval=300 -- /srv/lab/repo::web1-2026-11-22T02:00:00 /etc /-n"},
		"backup with everything": {
			spec: job.BackupSpec{Paths: []string{"/a b"}, Exclude: []string{"-x", "*.log"}, Compression: "zstd,3", Comment: "{now}",
				ExcludeCaches: true, OneFileSystem: true, NumericIDs: true, UploadLimit: 10, ListFiles: true,
				Patterns: []string{"+ /a b/x", "- /a b"}, PatternsFrom: []string{"/etc/patterns"}, ExcludeFrom: []string{"/etc/excluded"},
				ExcludeIfPresent: []string{".nobackup"}, KeepExcludeTags: true, ExcludeNoDump: true, CheckpointInterval: 60, FilesCache: job.CacheMtimeSize,
				ReadSpecial: true, Sparse: true, NoXattrs: true, NoACLs: true, NoFlags: true, ExtraOptions: []string{"--noatime"}},
			edit: func(_ *borg.Task, env *borg.Environment) {
				*env = borg.Environment{Binary: "/opt/borg", LockWait: 1500 * time.Millisecond, UploadLimit: 100, RemotePath: "/opt/borg"}
			},
			want: "/opt/borg create --log-json --lock-wait=2 --remote-path=/opt/borg --upload-ratelimit=10 --json --progress --checkpoint-interval=60 " +
				"--compression=zstd,3 '--comment={{now}}' --files-cache=mtime,size --list --filter=AMCE " +
				"--exclude-caches --exclude-nodump --keep-exclude-tags --one-file-system --numeric-ids --read-special --sparse --noxattrs --noacls --noflags " +
				"'--pattern=+ /a b/x' '--pattern=- /a b' --patterns-from=/etc/patterns --exclude=-x '--exclude=*.log' --exclude-from=/etc/excluded --exclude-if-present=.nobackup " +
				"--noatime -- /srv/lab/repo::web1-2026-11-22T02:00:00 '/a b'"},
		"backup below the host's limit": {spec: job.BackupSpec{Paths: []string{"/a"}, UploadLimit: 500},
			edit: func(_ *borg.Task, env *borg.Environment) { env.UploadLimit = 100 },
			want: "borg create --log-json --lock-wait=60 --upload-ratelimit=100 --json --progress --checkpoint-interval=300 -- /srv/lab/repo::web1-2026-11-22T02:00:00 /a"},
		"list":          {spec: job.ListSpec{}, want: "borg list --log-json --lock-wait=60 --json '--format={hostname}{username}{comment}' -- /srv/lab/repo"},
		"list by name":  {spec: job.ListSpec{Prefix: "a[*]?{x}", Last: 7}, want: "borg list --log-json --lock-wait=60 --json '--format={hostname}{username}{comment}' '--glob-archives=a[[][*]][?]{{x}}*' --last=7 -- /srv/lab/repo"},
		"info":          {spec: job.InfoSpec{}, want: "borg info --log-json --lock-wait=60 --json -- /srv/lab/repo"},
		"info archive":  {spec: job.InfoSpec{Archive: "a{b}"}, want: "borg info --log-json --lock-wait=60 --json -- '/srv/lab/repo::a{{b}}'"},
		"restore":       {spec: job.RestoreSpec{Archive: "a{b}", Target: "/t"}, want: "borg extract --log-json --lock-wait=60 --progress --sparse -- '/srv/lab/repo::a{{b}}'"},
		"restore paths": {spec: job.RestoreSpec{Archive: "a", Target: "/t", Paths: []string{"-x", "re:{y}"}}, want: "borg extract --log-json --lock-wait=60 --progress --sparse -- /srv/lab/repo::a pp:-x 'pp:re:{y}'"},
		"lock seen":     {spec: job.BreakLockSpec{DryRun: true}, want: "/bin/sh -c ... break-lock look /srv/lab/repo borg break-lock --log-json --lock-wait=60 -- /srv/lab/repo"},
		"lock broken":   {spec: job.BreakLockSpec{}, want: "/bin/sh -c ... break-lock break /srv/lab/repo borg break-lock --log-json --lock-wait=60 -- /srv/lab/repo"},
		"lock forced":   {spec: job.BreakLockSpec{Force: true}, want: "/bin/sh -c ... break-lock force /srv/lab/repo borg break-lock --log-json --lock-wait=60 -- /srv/lab/repo"},
		"key export":    {spec: job.KeyExportSpec{Recipient: recipient}, want: "borg key export --log-json --lock-wait=60 -- /srv/lab/repo"},
		"prune":         {spec: job.PruneSpec{KeepDaily: 7}, want: "borg prune --log-json --lock-wait=60 --list --progress '--glob-archives=web1-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T*' --keep-daily=7 -- /srv/lab/repo"},
		"compact":       {spec: job.CompactSpec{}, want: "borg compact --log-json --lock-wait=60 --progress --verbose -- /srv/lab/repo"},
		"compact more":  {spec: job.CompactSpec{Threshold: 5}, want: "borg compact --log-json --lock-wait=60 --progress --verbose --threshold=5 -- /srv/lab/repo"},
		"check":         {spec: job.CheckSpec{}, want: "borg check --log-json --lock-wait=60 --progress --verbose -- /srv/lab/repo"},
		"check data":    {spec: job.CheckSpec{VerifyData: true}, want: "borg check --log-json --lock-wait=60 --progress --verbose --verify-data -- /srv/lab/repo"},
		"check partial": {spec: job.CheckSpec{MaxDuration: 600}, want: "borg check --log-json --lock-wait=60 --progress --verbose --repository-only --max-duration=600 -- /srv/lab/repo"},
		"prune with every rule": {
			spec: job.PruneSpec{KeepWithin: "2d", KeepLast: 1, KeepHourly: 2, KeepDaily: 3, KeepWeekly: 4, KeepMonthly: 5, KeepYearly: 6, Prefix: "db-", DryRun: true},
			want: "borg prune --log-json --lock-wait=60 --list --progress '--glob-archives=db-*' --dry-run --keep-within=2d --keep-last=1 --keep-hourly=2 --keep-daily=3 --keep-weekly=4 --keep-monthly=5 --keep-yearly=6 -- /srv/lab/repo"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			task, env := baseTask(neutralRoot, test.spec), borg.Environment{}
			if test.edit != nil {
				test.edit(&task, &env)
			}
			argv, _, err := borg.Command(task, env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, borg.Redact(argv)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestCommandRefusesWhatNoJobCanBe(t *testing.T) {
	tests := map[string]func(*borg.Task){
		"no spec":               func(task *borg.Task) { task.Spec = nil },
		"spec of another kind":  func(task *borg.Task) { task.Kind = job.Check },
		"no location":           func(task *borg.Task) { task.Repository.Location = "" },
		"location with braces":  func(task *borg.Task) { task.Repository.Location = "/srv/{hostname}" },
		"no archive name":       func(task *borg.Task) { task.Archive = "" },
		"no paths":              func(task *borg.Task) { task.Spec = job.BackupSpec{} },
		"prune without rules":   func(task *borg.Task) { task.Kind, task.Spec = job.Prune, job.PruneSpec{} },
		"prune of nobody":       func(task *borg.Task) { task.Kind, task.Spec, task.Host = job.Prune, job.PruneSpec{KeepLast: 1}, "" },
		"init in unknown mode":  func(task *borg.Task) { task.Kind, task.Spec = job.Init, job.InitSpec{Encryption: "rot13"} },
		"restore of no archive": func(task *borg.Task) { task.Kind, task.Spec = job.Restore, job.RestoreSpec{Target: "/t"} },
		"key of no encryption": func(task *borg.Task) {
			task.Kind, task.Spec, task.Repository.Encryption = job.KeyExport, job.KeyExportSpec{Recipient: recipient}, job.Unencrypted
		},
		"kind that is for later": func(task *borg.Task) { task.Kind = job.Mount },
	}
	for name, edit := range tests {
		t.Run(name, func(t *testing.T) {
			task := baseTask(neutralRoot, backupOf("/etc"))
			edit(&task)
			if argv, _, err := borg.Command(task, borg.Environment{}); err == nil {
				t.Errorf("no error, but %q", argv)
			}
		})
	}
}

// Every kind that the vocabulary can run has a command here.
func TestCommandForEveryRunnableKind(t *testing.T) {
	specs := []job.Spec{job.InitSpec{}, backupOf("/etc"), job.ListSpec{}, job.InfoSpec{}, restoreOf("/etc"),
		job.DeleteSpec{Archives: []string{"a"}}, job.PruneSpec{KeepLast: 1}, job.CompactSpec{}, job.CheckSpec{},
		job.MountSpec{MountPoint: "/m"}, job.UmountSpec{MountPoint: "/m"}, job.DiffSpec{Archive: "a", Other: "b"},
		job.BreakLockSpec{}, job.VerifySpec{}, job.KeyExportSpec{Recipient: recipient}, job.DownloadSpec{Archive: "a"}, job.RestoreTestSpec{Archive: "a"}}
	var kinds []job.Kind
	for _, spec := range specs {
		_, environ, err := borg.Command(baseTask(neutralRoot, spec), borg.Environment{HostID: "h@x"})
		if err != nil {
			t.Error(err)
		}
		if !slices.Contains(environ, "BORG_HOST_ID=h@x") { // else its lock could not be told from others
			t.Errorf("%s runs without the host id: %q", spec.Kind(), environ)
		}
		kinds = append(kinds, spec.Kind())
	}
	if diff := cmp.Diff(job.Kinds(), kinds); diff != "" {
		t.Errorf("kinds differ (-runnable +here):\n%s", diff)
	}
}

func TestEnvironment(t *testing.T) {
	always := []string{"LC_ALL=C.UTF-8", "BORG_RSH=" + borg.DefaultRSH, "BORG_SHOW_SYSINFO=no", "BORG_DISPLAY_PASSPHRASE=no"}
	tests := map[string]struct {
		spec job.Spec
		edit func(*borg.Task, *borg.Environment)
		want []string
	}{
		"backup":      {spec: backupOf("/etc"), want: always},
		"list in UTC": {spec: job.ListSpec{}, want: append(slices.Clone(always), "TZ=UTC")},
		"configured": {spec: job.CheckSpec{}, edit: func(_ *borg.Task, env *borg.Environment) {
			*env = borg.Environment{BaseDir: "/var/lib/x", HostID: "h", RSH: "ssh -4"}
		}, want: []string{"LC_ALL=C.UTF-8", "BORG_RSH=ssh -4", "BORG_SHOW_SYSINFO=no", "BORG_DISPLAY_PASSPHRASE=no", "BORG_BASE_DIR=/var/lib/x", "BORG_HOST_ID=h"}},
		"borg 1.4": {spec: job.CheckSpec{}, edit: func(task *borg.Task, _ *borg.Environment) {
			task.Version = borg.Version{Major: 1, Minor: 4, Text: "1.4.0"}
		}, want: append(slices.Clone(always), "BORG_EXIT_CODES=modern")},
		"unencrypted": {spec: job.CheckSpec{}, edit: func(task *borg.Task, _ *borg.Environment) {
			task.Repository.Encryption, task.Encrypted = job.Unencrypted, false
		}, want: append(slices.Clone(always), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes")},
		"unencrypted, but a passphrase is there": {spec: job.CheckSpec{}, edit: func(task *borg.Task, _ *borg.Environment) {
			task.Repository.Encryption = job.Unencrypted
		}, want: always},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			task, env := baseTask(neutralRoot, test.spec), borg.Environment{}
			if test.edit != nil {
				test.edit(&task, &env)
			}
			_, environ, err := borg.Command(task, env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, environ); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestInherit(t *testing.T) {
	got := borg.Inherit([]string{"PATH=/bin", "BORG_PASSPHRASE=x", "HOME=/root", "LC_ALL=de_DE", "LANG=de_DE", "LANGUAGE=de",
		"PYTHONPATH=/x", "SSH_AUTH_SOCK=/s", "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING=YES", "=odd"})
	if diff := cmp.Diff([]string{"PATH=/bin", "HOME=/root", "SSH_AUTH_SOCK=/s", "=odd"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRedact(t *testing.T) {
	tests := map[string]struct {
		argv []string
		want string
	}{
		"plain":    {[]string{"borg", "list", "--last=3"}, "borg list --last=3"},
		"quoted":   {[]string{"borg", "it's", "a b", ""}, `borg 'it'\''s' 'a b' ''`},
		"password": {[]string{"borg", "ssh://u:hunter2@h/p"}, "borg ssh://u:***@h/p"},
		"not text": {[]string{"borg", "/\xff\n\x1b[1m"}, "borg '/\uFFFD\n[1m'"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := borg.Redact(test.argv); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if got := borg.Redact([]string{strings.Repeat("ä", job.MaxLogLineBytes)}); len(got) > job.MaxLogLineBytes || !strings.HasSuffix(got, "...") {
		t.Errorf("%d bytes, ending in %q", len(got), got[len(got)-8:])
	}
}

func TestVersion(t *testing.T) {
	tests := map[string]struct {
		output string
		want   borg.Version
		fails  bool
		code   job.Code
	}{
		"1.2":        {output: "borg 1.2.4\n", want: borg.Version{Major: 1, Minor: 2, Patch: 4, Text: "1.2.4"}},
		"1.4":        {output: "borg 1.4.5", want: borg.Version{Major: 1, Minor: 4, Patch: 5, Text: "1.4.5"}},
		"candidate":  {output: "borg 1.4.0rc1\n", want: borg.Version{Major: 1, Minor: 4, Text: "1.4.0rc1"}},
		"warning":    {output: "/usr/x.py: UserWarning\nborg 1.2.8\r\n", want: borg.Version{Major: 1, Minor: 2, Patch: 8, Text: "1.2.8"}},
		"too old":    {output: "borg 1.1.18\n", want: borg.Version{Major: 1, Minor: 1, Patch: 18, Text: "1.1.18"}, code: job.BorgUnsupported},
		"odd series": {output: "borg 1.3.0a1\n", want: borg.Version{Major: 1, Minor: 3, Text: "1.3.0a1"}, code: job.BorgUnsupported},
		"2":          {output: "borg 2.0.0b5\n", want: borg.Version{Major: 2, Text: "2.0.0b5"}, code: job.BorgUnsupported},
		"not borg":   {output: "bash: borg: command not found", fails: true},
		"empty":      {output: "", fails: true},
		"huge":       {output: "borg 1.99999999999999999999.0", fails: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := borg.ParseVersion(test.output)
			if (err != nil) != test.fails {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if test.fails {
				return
			}
			switch failure := got.Check(); {
			case failure == nil && test.code != "":
				t.Error("no failure")
			case failure != nil && (failure.Code != test.code || failure.Hint == ""):
				t.Errorf("failure %+v", failure)
			}
		})
	}
}

func TestInstalledVersion(t *testing.T) {
	version, err := borg.ParseVersion(borgVersion(t))
	if err != nil {
		t.Fatal(err)
	}
	if failure := version.Check(); failure != nil {
		t.Error(failure)
	}
}

package borgmatic_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/borgmatic"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func lookup(name string) (string, bool) { return "from-env", name == "SET" }

func read(t *testing.T, o borgmatic.Options) *borgmatic.Import {
	t.Helper()
	for i, file := range o.Files {
		o.Files[i] = filepath.Join("testdata", file)
	}
	o.Host, o.Lookup = "web1", lookup
	got, err := borgmatic.Read(o)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func noted(got *borgmatic.Import) map[string]bool {
	keys := map[string]bool{}
	for _, note := range got.Notes {
		keys[note.Key] = true
	}
	return keys
}

func TestFlatLayout(t *testing.T) {
	got := read(t, borgmatic.Options{Files: []string{"flat.yaml"}, Schedule: "testdata/borgmatic.cron"})
	same(t, "plan", fleet.PlanSpec{
		Hosts: []string{"web1"}, Repositories: []string{"web1-offsite", "web1-usb-disk"},
		BackupSpec: job.BackupSpec{
			Paths: []string{"/home", "/etc", "/var/log"}, Exclude: []string{"*.pyc", "~/*/.cache"}, ExcludeCaches: true,
			ExcludeIfPresent: []string{".nobackup"}, OneFileSystem: true, Compression: "auto,zstd", UploadLimit: 100,
			Hooks: &job.Hooks{Before: []string{"web1-before"}, After: []string{"web1-after"}, OnFailure: []string{"web1-failure"}},
		},
		ArchivePrefix: "{host}-docs-", Dumps: []fleet.Dump{{Hook: "web1-postgresql-users"}},
		Schedule:  &fleet.Schedule{Cron: "0 3 * * *", Timezone: "Europe/Berlin"},
		Retention: &fleet.Retention{KeepHourly: 24, KeepDaily: 7, KeepMonthly: 6}, After: []job.Kind{job.Prune, job.Compact},
		Check: &fleet.CheckPolicy{Every: "14d", VerifyData: "90d"}, RestoreTest: &fleet.RestoreTest{Every: "180d"},
		Retry: &fleet.Retry{Attempts: 6, Wait: "30s"},
	}, got.Plans["web1"])
	offsite := got.Repositories["web1-offsite"]
	same(t, "location", "ssh://backup@store.example.net:2022/./sourcehostname.borg", offsite.Location)
	if !offsite.Passphrase.Equal(secret.FromString("correct horse")) || !got.Pings["web1"].Equal(secret.FromString("https://hc-ping.com/your-uuid-here")) {
		t.Error("the passphrase or the ping's address is another one")
	}
	keys := noted(got)
	for _, key := range []string{"ssh_command", "colour", "ntfy", "source_directories", "archive_name_format", "postgresql_databases", "hooks"} {
		if !keys[key] {
			t.Errorf("nothing is said of %s: %v", key, got.Notes)
		}
	}
	for _, leak := range []string{"correct horse", "trustsome1", "your-uuid-here"} {
		if strings.Contains(fmt.Sprintf("%v %v", got.Notes, got.Hooks), leak) {
			t.Errorf("%q is shown", leak)
		}
	}
	for _, hook := range got.Hooks {
		if hook.Name == "web1-postgresql-users" && !strings.Contains(hook.Content, "pg_dump --format=custom --no-password --host='db1' --username='me' 'users'") {
			t.Errorf("hook %s", hook.Content)
		}
	}
}

func TestSections(t *testing.T) {
	got := read(t, borgmatic.Options{Files: []string{"sections.yaml"}, Schedule: "testdata/borgmatic.timer", Timezone: "Europe/Berlin"})
	plan := got.Plans["web1"]
	same(t, "schedule", &fleet.Schedule{Cron: "0 0 * * *", Timezone: "Europe/Berlin", Jitter: "3h"}, plan.Schedule)
	same(t, "retention", &fleet.Retention{KeepDaily: 3, KeepWeekly: 4}, plan.Retention)
	same(t, "check", &fleet.CheckPolicy{Every: "1d"}, plan.Check)
	same(t, "repositories", map[string]borgmatic.Repository{"web1-sourcehostname": {
		Location: "ssh://root@backupserver/./sourcehostname.borg", Encryption: job.RepokeyBlake2, PassphraseFile: "/etc/borgfleet/web1.pass",
	}}, got.Repositories)
	if keys := noted(got); !keys["encryption_passcommand"] || !keys["check_last"] {
		t.Errorf("notes %v", got.Notes)
	}
}

func TestCommandsAndMerges(t *testing.T) {
	got := read(t, borgmatic.Options{Files: []string{"commands.yaml"}})
	plan := got.Plans["web1"]
	same(t, "paths", []string{"/etc", "/srv"}, plan.Paths)
	same(t, "after", []job.Kind{job.Prune}, plan.After)
	same(t, "hooks", &job.Hooks{Before: []string{"web1-before"}, After: []string{"web1-after"}, OnFailure: []string{"web1-failure"}}, plan.Hooks)
	same(t, "dumps", []fleet.Dump{{Hook: "web1-mariadb-all"}, {Hook: "web1-sqlite-app"}}, plan.Dumps)
	if plan.Check != nil || plan.Schedule != nil || got.Repositories["web1-a"].Encryption != job.Unencrypted {
		t.Errorf("%+v with %+v", plan, got.Repositories)
	}
	if keys := noted(got); !keys["schedule"] || !keys["commands"] {
		t.Errorf("notes %v", got.Notes)
	}
}

func TestSeveralFiles(t *testing.T) {
	got := read(t, borgmatic.Options{Files: []string{"flat.yaml", "commands.yaml"}})
	if len(got.Plans) != 2 || len(got.Plans["web1-flat"].Paths) != 3 || len(got.Plans["web1-commands"].Paths) != 2 {
		t.Errorf("plans %v", got.Plans)
	}
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct{ text, schedule, says string }{
		"cycle":             {"!include ../testdata/loop1.yaml", "", "includes itself"},
		"no environment":    {"encryption_passphrase: ${NOT_SET}", "", "the environment has no NOT_SET"},
		"no YAML":           {"a: [", "", "did not find expected"},
		"no file":           {"<<: !include nowhere.yaml", "", "nowhere.yaml"},
		"without an end":    {"<<: !include /dev/zero", "", "/dev/zero is larger than"},
		"many includes":     {"a:\n" + strings.Repeat("- !include ../testdata/commands.yaml\n", 1001), "", "more than 1000 files"},
		"no keys":           {"- a", "", "there are no keys"},
		"alias of itself":   {"a: &a [*a]", "", "repeats itself"},
		"no schedule in it": {"a: b", "# nothing", "does not say when borgmatic runs"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			here, err := filepath.Abs("testdata")
			if err != nil {
				t.Fatal(err)
			}
			file, schedule := filepath.Join(dir, "config.yaml"), ""
			text := strings.ReplaceAll(c.text, "../testdata", here)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.schedule != "" {
				schedule = filepath.Join(dir, "cron")
				if err := os.WriteFile(schedule, []byte(c.schedule), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err = borgmatic.Read(borgmatic.Options{Files: []string{file}, Host: "web1", Schedule: schedule, Lookup: lookup})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}

func TestSchedules(t *testing.T) {
	for text, want := range map[string]fleet.Schedule{
		"@daily root borgmatic":                                             {Cron: "@daily"},
		"*/15 * * * * borgmatic create":                                     {Cron: "*/15 * * * *"},
		"[Timer]\nOnCalendar=*-*-* 02:30:00\nPersistent=true":               {Cron: "30 2 * * *"},
		"[Timer]\nOnCalendar=Mon..Fri 18:00\nRandomizedDelaySec=15min":      {Cron: "0 18 * * mon-fri", CatchUp: "0s", Jitter: "15m"},
		"[Timer]\nOnCalendar=*-*-01 00:05:00 Europe/Berlin\nPersistent=yes": {Cron: "5 0 1 * *", Timezone: "Europe/Berlin"},
		"[Timer]\nOnCalendar=*-*-* 0/6:00\nPersistent=yes":                  {Cron: "0 */6 * * *"},
		"[Timer]\nOnCalendar=weekly\nPersistent=yes":                        {Cron: "0 0 * * 1"},
	} {
		file := filepath.Join(t.TempDir(), "when")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got := read(t, borgmatic.Options{Files: []string{"flat.yaml"}, Schedule: file})
		same(t, text, &want, got.Plans["web1"].Schedule)
	}
}

package cli_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// finished is a job that ended in a state with a result.
func finished(state job.State, spec job.Spec, result job.Result) job.Job {
	j := backup(state)
	j.Kind, j.Spec, j.Result = spec.Kind(), spec, &result
	if result.Duration == 0 {
		j.Result.Duration = 1
	}
	return j
}

// ending is a coordinator on which every job that is submitted ends as one does.
func ending(t *testing.T, j job.Job) *coordinator {
	t.Helper()
	c := full(t)
	c.answers["POST /jobs"] = j
	c.events = []client.Event{{Type: client.EventSnapshot, Job: &j}}
	return c
}

// specOf is what the last job was told that was submitted, and to whom.
func (c *coordinator) specOf(t *testing.T) (request job.Request) {
	t.Helper()
	for _, asked := range c.asked {
		if body, ok := strings.CutPrefix(asked, "POST /jobs "); ok {
			request = job.Request{}
			if err := json.Unmarshal([]byte(body), &request); err != nil {
				t.Fatal(err)
			}
		}
	}
	return request
}

func known(name, host string, second int) fleet.Archive {
	return fleet.Archive{
		Archive: job.Archive{Name: name, ID: strings.Repeat("0a", 32), Start: at(second)}, Repository: "main", Host: host, Job: backupID,
		OriginalSize: 31_400_000_000, CompressedSize: 20_000_000_000, DeduplicatedSize: 212_000_000, NFiles: 148_210, SeenAt: at(40),
	}
}

// Archives are shown oldest first, from all pages, without asking borg.
func TestKnownArchives(t *testing.T) {
	c := full(t)
	young := known("web1-2", "web1", 2)
	young.ListedAt = pointer(at(5))
	pages := map[string]fleet.ArchivePage{
		"":     {Archives: []fleet.Archive{young}, Total: 2, Cursor: "more", AsOf: pointer(at(30))},
		"more": {Archives: []fleet.Archive{{Archive: job.Archive{Name: "other-1", Start: at(1)}}}, Total: 2, AsOf: pointer(at(30))},
	}
	c.answers["GET /repositories/main/archives"] = asker(func(r *http.Request, _ string) any { return pages[r.URL.Query().Get("cursor")] })
	r := c.run(t, "", strings.Fields("archive list main --glob web* --after 2026-11-21T00:00:00Z")...)
	if r.code != 0 || strings.Index(r.out, "other-1") > strings.Index(r.out, "web1-2") || !strings.Contains(r.out, "148,210  31.4 GB  212 MB") || !strings.Contains(r.out, "--refresh asks again") {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	want := []string{
		"GET /repositories/main/archives?after=2026-11-21T00%3A00%3A00Z&glob=web%2A&limit=500",
		"GET /repositories/main/archives?after=2026-11-21T00%3A00%3A00Z&cursor=more&glob=web%2A&limit=500",
	}
	if diff := cmp.Diff(want, c.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	var page fleet.ArchivePage
	if r = c.run(t, "", "archive", "list", "main", "--last", "1", "--json"); json.Unmarshal([]byte(r.out), &page) != nil || len(page.Archives) != 1 {
		t.Errorf("the last one:\n%s%s", r.out, r.err)
	}
	c.answers["GET /repositories/main/archives"] = fleet.ArchivePage{}
	if r = c.run(t, "", "archive", "list", "main"); !strings.Contains(r.out, "No archives are known here") {
		t.Errorf("none:\n%s%s", r.out, r.err)
	}
}

// What is said of one archive, and of those that borg has.
func TestShowArchive(t *testing.T) {
	c := full(t)
	c.answers["GET /repositories/main/archives/web1-1"] = known("web1-1", "web1", 1)
	r := c.run(t, "", "archive", "show", "main", "web1-1")
	for _, want := range []string{"made by        web1", "original size  31.4 GB", "files listed   no; borgfleet archive files main web1-1 does it"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in:\n%s%s", want, r.out, r.err)
		}
	}
	c.answers["GET /repositories/main/archives/web1-9"] = fleet.UnknownArchive("main", "web1-9")
	if r = c.run(t, "", "archive", "show", "main", "web1-9"); r.code != console.ExitFailed || !strings.Contains(r.err, "borgfleet archive list main --host HOST") {
		t.Errorf("exit code %d:\n%s", r.code, r.err)
	}
	c = ending(t, finished(job.Succeeded, job.InfoSpec{Archive: "web1-1"}, job.Result{Archive: "web1-1"}))
	if r = c.run(t, "", "archive", "show", "main", "web1-1", "--host", "web1"); r.code != 0 || c.specs()[0] != `info {"archive":"web1-1"}` {
		t.Errorf("exit code %d, %q:\n%s%s", r.code, c.specs(), r.out, r.err)
	}
}

// Without --host it is the only host, or the one that made the archive.
func TestWhichHost(t *testing.T) {
	one, two := []string{"web1"}, []string{"db1", "web1"}
	restore := "archive restore main web1-1 --target /var/restore/a"
	for name, test := range map[string]struct {
		hosts []string
		maker string
		args  string
		host  string // empty: none
		says  string
	}{
		"named":              {two, "web1", restore + " --host db1", "db1", ""},
		"the only one":       {one, "", "repo info main", "web1", ""},
		"the maker":          {two, "web1", restore, "web1", ""},
		"of both archives":   {two, "web1", "archive diff main web1-1 web1-2", "web1", ""},
		"of different hosts": {two, "web1", "archive diff main web1-1 db1-1", "", "add --host with one of db1, web1"},
		"maker is gone":      {two, "old", restore, "", "add --host with one of db1, web1"},
		"maker not known":    {two, "", restore, "", "add --host with one of db1, web1"},
		"any of them":        {two, "web1", "repo info main", "", "add --host with one of db1, web1"},
		"a backup":           {two, "web1", "backup --repo main /etc", "", "add --host with one of db1, web1"},
		"no host at all":     {nil, "", "repo info main", "", "borgfleet host token NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			c := ending(t, finished(job.Succeeded, job.InfoSpec{}, job.Result{}))
			views := []fleet.HostView{}
			for _, host := range test.hosts {
				views = append(views, fleet.HostView{Host: fleet.Host{Name: host}})
			}
			c.answers["GET /hosts"] = map[string]any{"hosts": views}
			for archive, host := range map[string]string{"web1-1": test.maker, "web1-2": test.maker, "db1-1": "db1"} {
				c.answers["GET /repositories/main/archives/"+archive] = known(archive, host, 1)
			}
			r := c.run(t, "", strings.Fields(test.args)...)
			if got := c.specOf(t).Host; got != test.host || !strings.Contains(r.err, test.says) || (r.code == 0) != (test.host != "") {
				t.Errorf("exit code %d on %q, want %q and %q:\n%s%s", r.code, got, test.host, test.says, r.out, r.err)
			}
		})
	}
}

// What is submitted is what the flags say.
func TestSpecs(t *testing.T) {
	after := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		args []string
		want job.Spec
	}{
		"list": {strings.Fields("archive list main --refresh --prefix web1- --last 3 --after 2026-11-21T00:00:00Z"), job.ListSpec{Prefix: "web1-", Last: 3, After: after}},
		"diff": {strings.Fields("archive diff main a b /etc/ --host web1"), job.DiffSpec{Archive: "a", Other: "b", Paths: []string{"etc"}}},
		"restore": {
			strings.Fields("archive restore main a --target /t --strip-components 2 --numeric-ids --overwrite --dry-run --list --exclude *.log --host web1 /etc srv/"),
			job.RestoreSpec{Archive: "a", Target: "/t", Paths: []string{"etc", "srv"}, Overwrite: true, Exclude: []string{"*.log"}, StripComponents: 2, NumericIDs: true, DryRun: true, ListFiles: true},
		},
		"restore beside": {strings.Fields("archive restore main a --target /t --keep-existing"), job.RestoreSpec{Archive: "a", Target: "/t", KeepExisting: true}},
		"restore to a hook": {
			strings.Fields("archive restore main a --to-hook postgres-restore /db.dump"),
			job.RestoreSpec{Archive: "a", ContentTo: "postgres-restore", Paths: []string{"db.dump"}},
		},
		"check":  {strings.Fields("repo check main --verify-data --last 2"), job.CheckSpec{VerifyData: true, Last: 2}},
		"repair": {strings.Fields("repo check main --repair --yes"), job.CheckSpec{Repair: true}},
		"prune": {
			strings.Fields("repo prune main --keep-daily 7 --keep-within 2d --all --max-percent 70 --confirm"),
			job.PruneSpec{KeepDaily: 7, KeepWithin: "2d", All: true, MaxPercent: 70, Confirmed: true},
		},
		"preview":    {strings.Fields("repo prune main --keep-last 1 --preview --prefix web1-"), job.PruneSpec{KeepLast: 1, Prefix: "web1-", DryRun: true}},
		"its alias":  {strings.Fields("repo prune main --keep-last 1 --dry-run"), job.PruneSpec{KeepLast: 1, DryRun: true}},
		"delete":     {strings.Fields("archive delete main a b --yes --host web1"), job.DeleteSpec{Archives: []string{"a", "b"}}},
		"by a glob":  {strings.Fields("archive delete main --glob web1-* --dry-run"), job.DeleteSpec{Glob: "web1-*", DryRun: true}},
		"umount":     {strings.Fields("archive umount /mnt/a --force --host web1"), job.UmountSpec{MountPoint: "/mnt/a", Force: true}},
		"a database": {strings.Fields("backup --repo main --content-from dump-postgres --stdin-name p.sql"), job.BackupSpec{ContentFrom: "dump-postgres", StdinName: "p.sql"}},
		"a backup with everything": {
			append(strings.Fields(`backup --repo main --exclude *.a,b --exclude-from /etc/x --patterns-from /etc/y --exclude-caches --exclude-if-present .nobackup
				--keep-exclude-tags --exclude-nodump --one-file-system --archive {hostname}-{now} --compression zstd,3 --upload-ratelimit 100
				--checkpoint-interval 60 --list --files-cache mtime,size --numeric-ids --read-special --sparse --noxattrs --noacls --noflags --extra-option=--noatime`),
				"--pattern=+ home/*/Mail", "--pattern=- home", "--comment", "a, b", "/home"),
			job.BackupSpec{
				Paths: []string{"/home"}, Exclude: []string{"*.a,b"}, ExcludeFrom: []string{"/etc/x"}, PatternsFrom: []string{"/etc/y"},
				Patterns: []string{"+ home/*/Mail", "- home"}, ExcludeCaches: true, ExcludeIfPresent: []string{".nobackup"}, KeepExcludeTags: true,
				ExcludeNoDump: true, OneFileSystem: true, Archive: "{hostname}-{now}", Comment: "a, b", Compression: "zstd,3", UploadLimit: 100,
				CheckpointInterval: 60, ListFiles: true, FilesCache: job.CacheMtimeSize, NumericIDs: true, ReadSpecial: true, Sparse: true,
				NoXattrs: true, NoACLs: true, NoFlags: true, ExtraOptions: []string{"--noatime"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := ending(t, finished(job.Succeeded, test.want, job.Result{}))
			r := c.run(t, "", test.args...)
			got := c.specOf(t)
			want, err := json.Marshal(test.want)
			if diff := cmp.Diff(string(want), string(got.Spec)); err != nil || diff != "" || got.Kind != test.want.Kind() || got.Host != "web1" || r.code != 0 {
				t.Errorf("exit code %d, %s on %q (-want +got):\n%s\n%s", r.code, got.Kind, got.Host, diff, r.err)
			}
		})
	}
}

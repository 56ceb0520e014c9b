package web_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestFormsSubmit(t *testing.T) {
	tests := map[string]struct {
		address string
		form    url.Values
		want    job.Spec
		command string // that the page shows when these values are in its address
	}{
		"quick check": {base + "/check", url.Values{"depth": {"quick"}, "max_duration": {"2h"}}, job.CheckSpec{RepositoryOnly: true, MaxDuration: 7200},
			"repo check web1-main --host db1 --repository-only --max-duration 7200s"},
		"full check": {base + "/check", url.Values{"depth": {"full"}, "last": {"3"}, "prefix": {"web1-"}}, job.CheckSpec{Last: 3, Prefix: "web1-"},
			"repo check web1-main --host db1 --last 3 --prefix web1-"},
		"check of data": {base + "/check", url.Values{"depth": {"data"}}, job.CheckSpec{VerifyData: true}, "repo check web1-main --host db1 --verify-data"},
		"repair":        {base + "/repair", url.Values{"confirm": {"web1-main"}}, job.CheckSpec{Repair: true}, "repo check web1-main --host db1 --repair"},
		"compact":       {base + "/compact", url.Values{"threshold": {"5"}}, job.CompactSpec{Threshold: 5}, "repo compact web1-main --host db1 --threshold 5"},
		"prune": {base + "/prune", url.Values{"keep_daily": {"7"}, "keep_within": {"2d"}, "which": {"prefix"}, "prefix": {"web1-"}}, job.PruneSpec{KeepDaily: 7, KeepWithin: "2d", Prefix: "web1-", DryRun: true},
			"repo prune web1-main --host db1 --keep-within 2d --keep-daily 7 --prefix web1- --preview"},
		"prune of all":   {base + "/prune", url.Values{"keep_last": {"1"}, "which": {"all"}}, job.PruneSpec{KeepLast: 1, All: true, DryRun: true}, "--keep-last 1 --all --preview"},
		"verify":         {base + "/verify", url.Values{"accept_moved": {"1"}}, job.VerifySpec{AcceptMoved: true}, "host verify db1 --repo web1-main --accept-moved"},
		"verify of host": {"/hosts/db1/verify", url.Values{"repository": {"web1-main"}, "rebuild_cache": {"1"}}, job.VerifySpec{RebuildCache: true}, "host verify db1 --repo web1-main --rebuild-cache"},
		"mount of all":   {base + "/mount", url.Values{"mount_point": {mnt}, "idle": {"1d"}}, job.MountSpec{MountPoint: mnt, Idle: 86400}, "archive mount web1-main " + mnt + " --host db1 --idle 86400s"},
		"mount":          {oneURL + "/mount", url.Values{"mount_point": {mnt}}, job.MountSpec{Archive: newest, MountPoint: mnt}, "archive mount web1-main " + newest + " " + mnt},
		"restore": {oneURL + "/restore", url.Values{"target": {"/var/restore/x"}, "paths": {"/etc/hosts\r\n-rf\r\n"}, "existing": {"overwrite"}, "strip_components": {"1"}, "numeric_ids": {"1"}, "dry_run": {"1"}, "exclude": {"*.tmp"}},
			job.RestoreSpec{Archive: newest, Target: "/var/restore/x", Paths: []string{"etc/hosts", "-rf"}, Overwrite: true, StripComponents: 1, NumericIDs: true, DryRun: true, Exclude: []string{"*.tmp"}},
			"--strip-components 1 --numeric-ids --overwrite --dry-run &#39;--exclude=*.tmp&#39; -- etc/hosts -rf"},
		"restore beside": {oneURL + "/restore", url.Values{"target": {"/var/restore/x"}, "existing": {"keep"}}, job.RestoreSpec{Archive: newest, Target: "/var/restore/x", KeepExisting: true}, "--keep-existing"},
		"compare":        {oneURL + "/compare", url.Values{"other": {older}, "paths": {"etc"}}, job.DiffSpec{Archive: older, Other: newest, Paths: []string{"etc"}}, "archive diff web1-main " + older + " " + newest + " --host db1 etc"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := rich()
			test.form.Set("host", "db1")
			if name != "repair" {
				wantPage(t, "the page", w.get(t, test.address+"?"+test.form.Encode()), http.StatusOK, test.command, "curl --oauth2-bearer", `name="key" value="page-`)
			}
			test.form.Set("key", "page-1")
			got := w.post(t, test.address, test.form)
			spec, _ := json.Marshal(test.want)
			want := []job.Request{{Host: "db1", Kind: test.want.Kind(), Repository: "web1-main", Spec: spec, IdempotencyKey: "page-1"}}
			if diff := cmp.Diff(want, w.submitted); got.Code != http.StatusSeeOther || diff != "" {
				t.Errorf("status %d, submitted (-want +got):\n%s", got.Code, diff)
			}
		})
	}
}

func TestRefusedFormsKeepWhatWasTyped(t *testing.T) {
	for address, test := range map[string]struct {
		form url.Values
		want []string
	}{
		oneURL + "/restore": {url.Values{"target": {"relative/<b>"}, "paths": {"../x"}, "strip_components": {"many"}, "existing": {"keep"}, "exclude": {"*.tmp"}},
			[]string{"is not an absolute path", "is not a path in an archive", "is not a number", `value="relative/&lt;b&gt;"`, ">../x</textarea>", `value="many"`, `<option value="keep" selected>`, ">*.tmp</textarea>"}},
		oneURL + "/mount":   {url.Values{"mount_point": {"/"}, "idle": {"soon"}}, []string{"is the whole system", "is not a duration", `value="/"`, `value="soon"`}},
		oneURL + "/compare": {url.Values{"other": {newest}}, []string{"is the same archive", `value="` + newest + `"`}},
		base + "/check":     {url.Values{"depth": {"data"}, "max_duration": {"1h"}}, []string{"only the quick check", `<option value="data" selected>`}},
		base + "/prune":     {url.Values{"keep_daily": {""}}, []string{"no keep rule"}},
		base + "/repair":    {url.Values{"confirm": {"nas"}}, []string{"Type <code>web1-main</code> to confirm", `value="nas"`, "What it takes away", "replaced by zeros"}},
		"/hosts/db1/verify": {url.Values{"accept_older": {"1"}}, []string{"is not chosen"}},
	} {
		w := rich()
		test.form.Set("host", "db1")
		test.form.Set("key", "page-1")
		got := w.post(t, address, test.form)
		page := strings.ReplaceAll(got.Body.String(), "what it takes away", "What it takes away")
		checkMarkup(t, address, page)
		for _, want := range append(test.want, "Nothing was submitted.", `value="page-1"`) {
			if !strings.Contains(page, want) {
				t.Errorf("%s does not say %q", address, want)
			}
		}
		if got.Code < 400 || got.Code > 499 || len(w.submitted) > 0 {
			t.Errorf("%s: status %d, submitted %v", address, got.Code, w.submitted)
		}
	}
	w := rich()
	w.refuse = job.Invalid("host", "cannot reach it")
	got := w.post(t, base+"/compact", url.Values{"host": {"db1"}, "threshold": {"7"}})
	if page := got.Body.String(); got.Code != http.StatusBadRequest || strings.Count(page, `class="fault"`) != 1 || !strings.Contains(page, `value="7"`) {
		t.Errorf("refused by the service: status %d, want 400 with the fault at the host", got.Code)
	}
}

func TestFormsNeedTheirRole(t *testing.T) {
	for address, role := range map[string]bus.Role{base + "/repair": bus.Operator, base + "/check": bus.Viewer, oneURL + "/restore": bus.Viewer, "/hosts/web1/verify": bus.Viewer, oneURL + "/download": bus.Viewer,
		base + "/delete?archive=" + newest: bus.Operator, "/jobs/" + string(dryPruneJob) + "/prune": bus.Viewer, "/jobs/" + string(mountJob) + "/force-unmount": bus.Viewer} {
		w := rich().as(role)
		wantPage(t, address, w.get(t, address), http.StatusForbidden, "Not allowed", "needs the role")
		if !strings.Contains(address, "download") {
			wantPage(t, address, w.post(t, address, url.Values{"confirm": {"web1-main"}}), http.StatusForbidden, "Not allowed")
		}
		if len(w.submitted) > 0 {
			t.Errorf("%s: a %s has submitted %v", address, role, w.submitted)
		}
	}
	w := rich().as(bus.Operator)
	w.post(t, base+"/verify", url.Values{"host": {"db1"}, "accept_moved": {"1"}})
	if spec := string(w.submitted[0].Spec); spec != "{}" {
		t.Errorf("an operator accepts that a repository was moved: %s", spec)
	}
}

func TestDeleteIsConfirmed(t *testing.T) {
	address := base + "/delete?archive=" + newest + "&archive=" + escaped(nasty)
	w := rich()
	wantPage(t, "two", w.get(t, address), http.StatusOK, "Delete 2 archives of web1-main?", newest, "a%2Fb?c#d", "Type <code>web1-main</code>", "gone for ever", "archive delete web1-main --host web1 "+newest)
	wantPage(t, "not typed", w.post(t, address, url.Values{"host": {"db1"}}), http.StatusBadRequest, `<option value="db1" selected>`)
	got := w.post(t, address, url.Values{"confirm": {"web1-main"}, "host": {"db1"}})
	spec, _ := json.Marshal(job.DeleteSpec{Archives: []string{newest, nasty}})
	var sent, want job.DeleteSpec
	if len(w.submitted) != 1 || json.Unmarshal(w.submitted[0].Spec, &sent) != nil || json.Unmarshal(spec, &want) != nil || cmp.Diff(want, sent) != "" || w.submitted[0].Host != "db1" || got.Code != http.StatusSeeOther {
		t.Errorf("status %d, submitted %v", got.Code, w.submitted)
	}
	one := base + "/delete?archive=" + newest
	wantPage(t, "one", w.get(t, one), http.StatusOK, "Type <code>"+newest+"</code>")
	wantPage(t, "one, repository typed", w.post(t, one, url.Values{"confirm": {"web1-main"}}), http.StatusBadRequest)
	w.refuse = job.Fail(job.Conflict, "archive %s is mounted", newest).WithHint("unmount it first")
	wantPage(t, "mounted", w.post(t, one, url.Values{"confirm": {newest}}), http.StatusConflict, "is mounted", "Unmount it first")
	wantPage(t, "none", w.get(t, base+"/delete"), http.StatusBadRequest, "No archive is chosen")
	wantPage(t, "unknown", w.get(t, base+"/delete?archive=none"), http.StatusNotFound, "archive_missing")
}

func TestPruneAfterItsPreview(t *testing.T) {
	w := rich()
	page := "/jobs/" + string(dryPruneJob)
	wantPage(t, "preview", w.get(t, page), http.StatusOK, "What the rules do", "daily #1", "would go", `href="`+page+`/prune"`)
	wantPage(t, "confirmation", w.get(t, page+"/prune"), http.StatusOK, "mail-2026-08-02", "Delete 1 archive", "--keep-daily 7 --confirm")
	got := w.post(t, page+"/prune", nil)
	want := []job.Request{{Host: "mail", Kind: job.Prune, Repository: "web1-main", Spec: marshal(t, job.PruneSpec{KeepDaily: 7, Confirmed: true})}}
	if diff := cmp.Diff(want, w.submitted); got.Code != http.StatusSeeOther || diff != "" {
		t.Errorf("status %d, submitted (-want +got):\n%s", got.Code, diff)
	}
	wantPage(t, "no preview", w.get(t, "/jobs/"+string(prunedJob)+"/prune"), http.StatusConflict, "not a preview")
	wantPage(t, "no job", w.get(t, "/jobs/x/prune"), http.StatusNotFound)
	wantPage(t, "held back", w.get(t, "/jobs/"+string(heldPruneJob)), http.StatusOK, "needs_confirmation", "See what would go", "keep_last=1", "which=prefix")
}

func TestUnmount(t *testing.T) {
	w := rich()
	page := "/jobs/" + string(mountJob)
	wantPage(t, "mount", w.get(t, page), http.StatusOK, "can be read in <code>"+mnt, "Unmounted when unused for", "2 h", page+`/unmount"`, page+`/force-unmount"`)
	got := w.post(t, page+"/unmount", nil)
	wantPage(t, "force", w.get(t, page+"/force-unmount"), http.StatusOK, "is empty at once", "archive umount "+mnt+" --host web1 --force")
	w.post(t, page+"/force-unmount", nil)
	want := []job.Request{
		{Host: "web1", Kind: job.Umount, Spec: marshal(t, job.UmountSpec{MountPoint: mnt})},
		{Host: "web1", Kind: job.Umount, Spec: marshal(t, job.UmountSpec{MountPoint: mnt, Force: true})},
	}
	if diff := cmp.Diff(want, w.submitted); got.Code != http.StatusSeeOther || diff != "" {
		t.Errorf("status %d, submitted (-want +got):\n%s", got.Code, diff)
	}
	wantPage(t, "not mounted", w.post(t, "/jobs/"+string(goodBackup)+"/unmount", nil), http.StatusConflict, "keeps nothing mounted")
	wantPage(t, "not mounted, force", w.get(t, "/jobs/"+string(goodBackup)+"/force-unmount"), http.StatusConflict, "keeps nothing mounted")
	w = rich()
	for i := range w.jobs {
		if w.jobs[i].ID == mountJob {
			w.jobs[i].Progress = nil
		}
	}
	messages := w.listen(t, "/")
	first := until(t, messages, "the beginning", anything)
	if !strings.Contains(first.Fragments["mounts"], ">mounting</span>") {
		t.Error("the overview does not say that it is being mounted")
	}
}

func TestResultsOnTheirPages(t *testing.T) {
	for id, want := range map[job.ID][]string{
		verifyJob:    {"<b>fuse</b>: python3-pyfuse3 is missing", "<code>python3-pyfuse3</code>", "not good", `on <a href="/hosts/web1">`},
		diffJob:      {"new.sql", "+1.2 MB", "mode -rw-r--r-- to -rw-------", "17 more left out", `href="` + base + "/archives/" + older + `/files?path=etc%2Fold"`, "Older archive"},
		deleteJob:    {"<h2>Deleted", "web1-2020"},
		dryDeleteJob: {"<h2>Would be deleted", "/delete?archive=web1-2026-11-22T02%3A00%3A00&amp;archive=web1-2026-11-21", "web1-*"},
		damagedJob:   {"integrity_error", "chunk 41 is missing", "and 3 more", "/repair?host=web1"},
		umountJob:    {"Nothing is mounted there any more.", "also while it is in use", mnt},
		filesJob:     {"Browse the files", oneURL + "/files\""},
		downloadJob:  {"etc/hosts", `href="` + oneURL + `"`},
	} {
		page := rich().get(t, "/jobs/"+string(id))
		wantPage(t, string(id), page, http.StatusOK, want...)
		if strings.Contains(page.Body.String(), `href="/repositories/"`) {
			t.Errorf("%s: links a repository without a name", id)
		}
	}
	if strings.Contains(rich().get(t, "/jobs/"+string(deleteJob)).Body.String(), "/retry\"") {
		t.Error("one click deletes again")
	}
}

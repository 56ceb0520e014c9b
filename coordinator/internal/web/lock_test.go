package web_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/job"
)

func TestBreakLockIsConfirmed(t *testing.T) {
	const address = "/repositories/nas/break-lock?host=db1"
	w := rich()
	wantPage(t, "form", w.get(t, "/repositories/nas"), http.StatusOK, `action="/repositories/nas/break-lock"`, "Break its lock")
	wantPage(t, "page", w.get(t, address), http.StatusOK, "only if every borg that holds it ran on db1", "repo break-lock nas --host db1<", "/ break the lock")
	if len(w.submitted) != 0 {
		t.Fatalf("submitted %v before it was confirmed", w.submitted)
	}
	got := w.post(t, address, nil)
	want := job.Request{Host: "db1", Kind: job.BreakLock, Repository: "nas"}
	want.Spec, _ = json.Marshal(job.BreakLockSpec{})
	if diff := cmp.Diff([]job.Request{want}, w.submitted); got.Code != http.StatusSeeOther || diff != "" {
		t.Errorf("status %d, submitted (-want +got):\n%s", got.Code, diff)
	}
	w = rich()
	forced := address + "&force=1"
	wantPage(t, "force", w.get(t, forced), http.StatusOK, "whoever holds it", "Type <code>nas</code> to confirm", "--force")
	wantPage(t, "force, not typed", w.post(t, forced, url.Values{"confirm": {"web1-main"}}), http.StatusBadRequest, "Type <code>nas</code>")
	got = w.post(t, forced, url.Values{"confirm": {"nas"}})
	want.Spec, _ = json.Marshal(job.BreakLockSpec{Force: true})
	if diff := cmp.Diff([]job.Request{want}, w.submitted); got.Code != http.StatusSeeOther || diff != "" {
		t.Errorf("force: status %d, submitted (-want +got):\n%s", got.Code, diff)
	}
	w.refuse = job.Fail(job.Conflict, "not now")
	wantPage(t, "refused", w.post(t, address, nil), http.StatusConflict, "Not now")
	for _, nowhere := range []string{"/repositories/none/break-lock?host=db1", "/repositories/nas/break-lock?host=none", "/repositories/nas/break-lock"} {
		wantPage(t, nowhere, rich().get(t, nowhere), http.StatusNotFound)
	}
}

func TestHoldersOnTheirPage(t *testing.T) {
	page := "/jobs/" + string(goodBackup)
	w := withResult(job.BreakLock, job.BreakLockSpec{DryRun: true}, &job.Result{Locks: []job.Lock{
		{Holder: "web1@borgfleet-x.4711-0", PID: 4711, Exclusive: true, Process: job.Dead}, {Holder: "db2@<99>.12-0", PID: 12, Process: job.Unknown},
	}})
	wantPage(t, "look", w.get(t, page), http.StatusOK, "Who held the lock <small>2</small>", "web1@borgfleet-x.4711-0", "exclusive", "db2@&lt;99&gt;.12-0",
		"<td>unknown</td>", ">shared</td>", `<dt>Lock</dt><dd class="big">not broken</dd>`, "nothing is changed")
	w = withResult(job.BreakLock, job.BreakLockSpec{Force: true}, &job.Result{Broken: true})
	wantPage(t, "broken", w.get(t, page), http.StatusOK, `<dd class="big">broken</dd>`, "whoever holds the lock")
	w = withResult(job.BreakLock, job.BreakLockSpec{}, &job.Result{})
	wantPage(t, "free", w.get(t, page), http.StatusOK, `<dd class="big">free</dd>`)
}

package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
)

// withResult is a world in which one job ended well.
func withResult(kind job.Kind, spec job.Spec, result *job.Result) *world {
	w := rich()
	for i := range w.jobs {
		if w.jobs[i].ID == goodBackup {
			w.jobs[i].Kind, w.jobs[i].Spec, w.jobs[i].Result = kind, spec, result
		}
	}
	return w
}

func TestRestoreOnItsPage(t *testing.T) {
	page := "/jobs/" + string(goodBackup)
	result := &job.Result{Archive: "web1-2026", Target: "/srv/real/restore", Duration: 2}
	w := withResult(job.Restore, job.RestoreSpec{Archive: "web1-2026", Target: "/srv/restore"}, result)
	wantPage(t, "all", w.get(t, page), http.StatusOK, "from <a href=", "<dt>Archive</dt>", "<dt>Paths</dt><dd><span class=\"line\">all</span>",
		"<dt>Into</dt><dd><span class=\"line mono\">/srv/restore</span>", "<dt>Restored into</dt><dd class=\"mono\">/srv/real/restore</dd>")
	w = withResult(job.Restore, job.RestoreSpec{Archive: "web1-2026", Target: "/srv/restore", Paths: []string{"etc/fstab"}, Overwrite: true}, result)
	wantPage(t, "some", w.get(t, page), http.StatusOK, "etc/fstab", "<dt>Files of the same names</dt><dd><span class=\"line\">replaced</span>")
}

func TestExportedKeyIsFolded(t *testing.T) {
	page := "/jobs/" + string(goodBackup)
	key := "-----BEGIN AGE ENCRYPTED FILE-----\n" + strings.Repeat("YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSB\n", 20) + "-----END AGE ENCRYPTED FILE-----\n"
	w := withResult(job.KeyExport, job.KeyExportSpec{Recipient: "age1zzc07tyapdnclhlpsvruh5zgqhnsw9zckj43pa78sgx6acrhtdrsufqmqc"}, &job.Result{KeyExport: key, Duration: 1})
	got := w.get(t, page)
	wantPage(t, "export", got, http.StatusOK, `<details id="job-key">`, "END AGE ENCRYPTED FILE", "The key left the host encrypted.", "<dt>Encrypted to</dt>", "age1zzc07ty", "web1-main.key.age")
	if strings.Contains(got.Body.String(), `<details id="job-key" open`) {
		t.Error("the key floods the page")
	}
}

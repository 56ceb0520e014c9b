package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/web"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestHostsAreAllowedAndDenied(t *testing.T) {
	w := seaside()
	wantRedirect(t, "allow", w.post(t, "/repositories/vault/allow", url.Values{"host": {"db1"}}), "/repositories/vault#hosts")
	wantRedirect(t, "deny", w.post(t, "/repositories/yard/deny", url.Values{"host": {"*"}}), "/repositories/yard#hosts")
	if diff := cmp.Diff([]string{"allow vault db1", "deny yard *"}, w.did); diff != "" {
		t.Errorf("did (-want +got):\n%s", diff)
	}
	w.refuse = job.Fail(job.Conflict, "every host may use repository vault")
	refused := w.post(t, "/repositories/vault/deny", url.Values{"host": {"web1"}})
	wantPage(t, "refused", refused, http.StatusConflict, "Every host may use repository vault", "Hosts that may use it")
	checkMarkup(t, "refused", refused.Body.String())
	wantPage(t, "nothing", w.post(t, "/repositories/nothing/allow", nil), http.StatusConflict, "Every host may use")
	w.refuse = job.Fail(job.NotAllowed, "only an admin may do that")
	wantPage(t, "not allowed", w.post(t, "/repositories/vault/deny", url.Values{"host": {"web1"}}), http.StatusForbidden, "Not allowed")
	for _, role := range []bus.Role{bus.Viewer, bus.Operator} {
		if page := seaside().freeze(nil, nil).as(role).get(t, "/repositories/vault").Body.String(); strings.Contains(page, "/deny") || strings.Contains(page, "/allow") || strings.Contains(page, "/unfreeze") {
			t.Errorf("a %s is offered to say who may use the repository, or to unfreeze it", role)
		}
	}
}

func TestCreateRepositoryInDepot(t *testing.T) {
	w := seaside()
	handler := w.handler(t)
	page := w.get(t, "/new-repository")
	wantPage(t, "form", page, http.StatusOK, "Append only", "500G", "repo add NAME --location depot --generate-passphrase")
	form := url.Values{"key": {keyOf(t, page.Body.String(), "/new-repository")}, "name": {"attic"}, "quota": {"1.5 tb"}, "encryption": {"repokey"}, "hosts": {"web1\ncam1"}, "append_only": {"1"}}
	wantShownOnce(t, "passphrase", send(handler, "/new-repository", form), passphrase, "/repositories/attic")
	wantRedirect(t, "again", send(handler, "/new-repository", form), "/repositories/attic")
	want := []fleet.NewRepository{{Name: "attic", Location: "depot", Encryption: job.Repokey, Generate: true, Depot: &fleet.Depot{Quota: 1_500_000_000_000, AppendOnly: true, Hosts: []string{"web1", "cam1"}}}}
	if diff := cmp.Diff(want, w.made); diff != "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	if len(w.submitted) != 1 || w.submitted[0].Kind != job.Init || w.submitted[0].Host != fleet.LocalHost || w.submitted[0].Repository != "attic" {
		t.Errorf("submitted %v", w.submitted)
	}
	plain := seaside()
	got := plain.post(t, "/new-repository", url.Values{"name": {"open"}, "encryption": {"none"}})
	wantPage(t, "no encryption", got, http.StatusOK, "open is in the depot", "Borg creates it now")
	if plain.made[0].Generate || strings.Contains(got.Body.String(), "passphrase") {
		t.Error("a passphrase is made for a repository without encryption")
	}
	wantPage(t, "operator", seaside().as(bus.Operator).get(t, "/new-repository"), http.StatusForbidden, "needs the role admin")
}

func TestRefusedRepositoryKeepsWhatWasTyped(t *testing.T) {
	for name, test := range map[string]struct {
		form url.Values
		want []string
	}{
		"quota": {url.Values{"name": {"attic"}, "quota": {"much"}, "hosts": {"web1"}}, []string{"is not a size", "500G or 2T", `value="much"`, ">web1</textarea>", `value="attic"`}},
		"taken": {url.Values{"name": {"nas"}, "append_only": {"1"}}, []string{"nas is taken", `class="fault"`, " checked"}},
	} {
		w := seaside()
		got := w.post(t, "/new-repository", test.form)
		wantPage(t, name, got, http.StatusBadRequest, append(test.want, "Nothing was submitted.")...)
		checkMarkup(t, name, got.Body.String())
		if len(w.made) > 0 || len(w.submitted) > 0 {
			t.Errorf("%s: made %v, submitted %v", name, w.made, w.submitted)
		}
	}
}

func TestUnfreezeAndRollback(t *testing.T) {
	tests := []struct{ address, says, ask, did string }{
		{"/repositories/vault/unfreeze", "web1-2026-11-20", "", "unfreeze vault all is well"},
		{"/repositories/vault/rollback?to=495", "The 2 changes after it, of 22 Nov 2026 12:07 UTC to 22 Nov 2026 13:07 UTC, are undone", "vault", "rollback vault 495 all is well"},
	}
	for _, test := range tests {
		w := seaside().freeze([]string{"web1-2026-11-20"}, nil)
		wantPage(t, test.address, w.get(t, test.address), http.StatusOK, test.says, `name="reason"`, "borgfleet --data /srv/borgfleet repo", "--reason")
		wantPage(t, "no reason", w.post(t, test.address, url.Values{"confirm": {test.ask}}), http.StatusBadRequest, "reason")
		if test.ask != "" {
			wantPage(t, "not confirmed", w.post(t, test.address, url.Values{"confirm": {"x"}, "reason": {"all is well"}}), http.StatusBadRequest, "Type <code>vault</code>", `value="all is well"`)
		}
		if len(w.did) > 0 {
			t.Errorf("%s: did %v before it was confirmed", test.address, w.did)
		}
		wantRedirect(t, test.address, w.post(t, test.address, url.Values{"confirm": {test.ask}, "reason": {" all is well "}}), "/repositories/vault")
		if diff := cmp.Diff([]string{test.did}, w.did); diff != "" {
			t.Errorf("%s: did (-want +got):\n%s", test.address, diff)
		}
		wantPage(t, "operator", w.as(bus.Operator).get(t, test.address), http.StatusForbidden, "needs the role admin")
		wantPage(t, "not frozen", seaside().get(t, test.address), http.StatusConflict, "is not frozen")
	}
	frozen := seaside().freeze(nil, nil)
	wantPage(t, "unknown", frozen.get(t, "/repositories/vault/rollback?to=2"), http.StatusNotFound, "has no transaction 2")
	wantPage(t, "no number", frozen.get(t, "/repositories/vault/rollback?to=x"), http.StatusBadRequest, "is not the number")
	wantPage(t, "elsewhere", frozen.get(t, "/repositories/nas/unfreeze"), http.StatusConflict, "is not in the depot")
	wantPage(t, "newest", frozen.get(t, "/repositories/vault/rollback?to=499"), http.StatusOK, "Nothing came after it")
	wantPage(t, "one", frozen.get(t, "/repositories/vault/rollback?to=497"), http.StatusOK, "The one change after it")
	wantPage(t, "bad page", frozen.get(t, "/repositories/vault/transactions?before=x"), http.StatusBadRequest, "is not the number")
}

// What a host asked for is asked for again, though the coordinator did it.
func TestPreviewOfAPruneInTheDepotIsForItsHost(t *testing.T) {
	w := seaside()
	address := "/jobs/" + string(id(61)) + "/prune"
	wantPage(t, "page", w.get(t, address), http.StatusOK, "repo prune vault --host cam1")
	w.post(t, address, nil)
	if len(w.submitted) != 1 || w.submitted[0].Host != "cam1" {
		t.Errorf("submitted %v", w.submitted)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "0": 0, "12": 12, "500G": 500e9, "1.5T": 1.5e12, "2 tb": 2e12, "10kB": 10_000, "1B": 1, "3P": 3e15} {
		if got, ok := web.Size(text); !ok || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"G", "much", "-1G", "1e30", "NaN", "Inf", "5X", "1GG"} {
		if got, ok := web.Size(text); ok {
			t.Errorf("%q: got %d, want a refusal", text, got)
		}
	}
}

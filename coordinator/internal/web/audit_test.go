package web_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
)

func TestAudit(t *testing.T) {
	w := rich()
	wantPage(t, "audit", w.get(t, "/audit"), http.StatusOK, `id="entry-6"`, "refused", "requested", "3 times: needs the role admin", `href="/hosts/web1"`, `href="/people/users/carol"`,
		`href="/audit?by=operator%3Aalice"`, "a1a1a1a1a1a1", `href="/audit?verify=1"`)
	page := w.get(t, "/audit?by=operator:bob&action=borg.&object=repository/nas").Body.String()
	if strings.Count(page, `id="entry-`) != 1 || !strings.Contains(page, `value="borg."`) || !strings.Contains(page, `id="entry-5"`) {
		t.Error("the filter does not choose the one check")
	}
	wantPage(t, "none", w.get(t, "/audit?by=nobody"), http.StatusOK, "No entry matches.")
	wantPage(t, "bad page", w.get(t, "/audit?before=x"), http.StatusBadRequest, "not the number of an entry")
	wantPage(t, "proof", w.get(t, "/audit?verify=1"), http.StatusOK, "intact", "4,711", strings.Repeat("5e", 32))
	w.proof = fleet.AuditProof{Entries: 9, BrokenAt: 7, Message: "entry 7 does not follow from entry 6"}
	wantPage(t, "broken", w.get(t, "/audit?verify=1"), http.StatusOK, "broken", "Entry 7 does not follow from entry 6.")
	w.entries = nil
	for n := range 120 {
		w.entries = append(w.entries, fleet.AuditEntry{Number: uint64(120 - n), At: noon, By: "operator:bob", Action: "login", Outcome: "done"})
	}
	seen := map[string]bool{}
	for address := "/audit?by=operator:bob"; address != ""; {
		page := w.get(t, address).Body.String()
		for _, match := range regexp.MustCompile(`id="entry-(\d+)"`).FindAllStringSubmatch(page, -1) {
			seen[match[1]] = true
		}
		if address = nextPage(page); address != "" && !strings.Contains(address, "by=operator") {
			t.Fatalf("the next page %s has lost the filter", address)
		}
	}
	if len(seen) != 120 {
		t.Errorf("saw %d entries, want 120", len(seen))
	}
}

// What a row has to say is on it at every width, and leads on.
func TestAuditRow(t *testing.T) {
	w := rich()
	w.entries = []fleet.AuditEntry{
		{Number: 2, At: noon.AddDate(0, 0, -1), By: "operator:bob", From: "bus, token re2wfmbiqfwh of operator:local", Action: "borg.archive.extract", Object: "repository/nas",
			Outcome: "failed", Detail: "host <web1>, job " + string(goodBackup) + ", refused_by_host"},
		{Number: 1, At: noon.AddDate(-1, 0, 0), Action: "login.failed", Object: "unknown user", Outcome: "refused"},
	}
	about := `host &lt;web1&gt;, <a href="/jobs/` + string(goodBackup) + `">job ` + string(goodBackup) + `</a>, refused_by_host`
	got := w.get(t, "/audit")
	wantPage(t, "rows", got, http.StatusOK, `<td class="about wide muted">`+about, `<div class="narrow-only muted">`+about, "bus, token re2wfmbiqfwh of operator:local</div>",
		noon.AddDate(0, 0, -1).Format(">2 Jan 15:04:05<"), noon.AddDate(-1, 0, 0).Format(">2 Jan 2006 15:04:05<"), `<td class="by mid"><span class="muted">–</span></td>`)
	if strings.Contains(got.Body.String(), `href="/audit?"`) || strings.Contains(got.Body.String(), "</div>· ") {
		t.Error("a row that nobody is named on leads to nobody")
	}
}

func TestPagesTellOfKeys(t *testing.T) {
	w := rich()
	w.status.KeysNotExported = []string{"db-main", "nas"}
	w.status.Attention = []fleet.Attention{
		{Kind: "clock", Host: "web1", Message: "the clock of web1 is 61 min ahead", Since: noon},
		{Kind: "certificate", Message: "the server's certificate ends in 3 d", Since: noon},
	}
	w.repositories[0].HasKey, w.repositories[0].Custody, w.repositories[0].SealedFor = true, fleet.CustodyHosts, []string{"web1", "db1"}
	w.repositories[2].HasKey, w.repositories[2].KeyExportedAt = true, pointer(noon.Add(-2*time.Hour))
	w.hosts[3].PublicKey, w.hosts[3].SealKey = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4", "XBDOTTU4FTVOLRZNEYAGBGC4TSNNHLKPVQW2JXQ3VXE5Z5PAYHR5QRZM"
	w.hosts[3].SSHKey, w.hosts[3].EnrolledAt = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl web1", pointer(noon)
	wantPage(t, "overview", w.get(t, "/"), http.StatusOK, "key was never exported", `href="/repositories/nas"`, "clock</span>", "certificate</span>", "The server&#39;s certificate ends")
	wantPage(t, "sealed", w.get(t, "/repositories/db-main"), http.StatusOK, "only hosts can read it", `href="/hosts/db1"`, "never</span>", "repo key-export db-main --host web1")
	wantPage(t, "exported", w.get(t, "/repositories/web1-main"), http.StatusOK, "kept here, encrypted", "2 h ago")
	w.hosts[3].Staged = &fleet.HostKeys{PublicKey: "UAEXTHOSTKEYXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXSTAGED"}
	wantPage(t, "staged", w.get(t, "/hosts/web1"), http.StatusOK, "Next bus identity", "UAEXTH…STAGED")
	wantPage(t, "keys", w.get(t, "/hosts/web1"), http.StatusOK, "Enrolled", "UDXU4R…NLCNF4", "XBDOTT…R5QRZM", "DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU")
	page := w.as(bus.Operator).get(t, "/repositories/db-main").Body.String()
	if !strings.Contains(page, "An admin can export it.") || strings.Contains(page, "key-export db-main") {
		t.Error("an operator is shown a command that would be refused")
	}
	if strings.Contains(rich().get(t, "/").Body.String(), "never exported") {
		t.Error("the overview warns of keys although all were exported")
	}
}

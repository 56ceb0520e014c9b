package web_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/web"
	"github.com/borgfleet/borgfleet/shared/job"
)

// addresses are all pages of the rich world.
func addresses() []string {
	list := []string{
		"/", "/hosts", "/hosts?show=offline&q=lap", "/hosts/web1", "/hosts/laptop-anna", "/repositories", "/repositories/web1-main",
		"/repositories/nas", "/repositories/nas/break-lock?host=db1&force=1", "/enrol", "/enrol?wait=web7&since=1795355000000", "/hosts/web1/remove", "/people", "/people/users/bob",
		"/people/users/bob/remove", "/people/tokens/T1/remove", "/people/credentials/eve/revoke", "/audit", "/audit?by=operator:alice&verify=1", "/account", "/jobs", "/jobs?host=web1&kind=backup&state=running&within=7d", "/jobs?state=nonsense", "/nowhere",
	}
	list = append(list, archiveAddresses()...)
	list = append(list, planAddresses...)
	for _, j := range rich().jobs {
		list = append(list, "/jobs/"+string(j.ID))
	}
	return list
}

func TestPagesAreWhole(t *testing.T) {
	for _, world := range map[string]*world{"rich": rich(), "hostile": hostile(), "crowded": crowded(600)} {
		for _, address := range addresses() {
			recorder := world.get(t, address)
			page := recorder.Body.String()
			checkMarkup(t, address, page)
			for _, part := range []string{`<html lang="en">`, `<nav aria-label="Main">`, `<main id="main"`, "<h1", "</footer>", "<link rel=\"icon\"", `name="viewport"`} {
				if strings.Count(page, part) != 1 {
					t.Errorf("%s: %s stands there %d times, want once", address, part, strings.Count(page, part))
				}
			}
		}
	}
}

// What a reader must find on each page without any script.
func TestPagesTell(t *testing.T) {
	tests := []struct {
		address string
		want    []string
	}{
		{"/", []string{
			"<h1>2 of 4 hosts need attention</h1>", "<b>3</b> of 4 hosts connected", "<b>4</b> jobs running, <b>1</b> waiting",
			`<b>db2</b> → db-main: no space left in the repository`, "Prune or compact <code>db-main</code>", `action="/jobs/01JD9X7Q2M4T0000000000000X/retry"`,
			`aria-valuenow="72"`, `width="72.0%"`, "148,210", "31.4 GB", "212 MB", "118 MB/s", "1 min 40 s", "var/www/shop/media/2026/11/hero-large.webp",
			"segment 41207 of 132650", "repository web1-main is busy with job 0000A8", "1 d 11 h ago", "4.1 GB new",
			`aria-label="11 succeeded, 1 warning, 2 failed"`, `aria-label="14 of 14 runs succeeded"`, "2 warnings", `href="/hosts/laptop-anna"`, "Open host",
		}},
		{"/hosts/web1", []string{
			"connected since", "site <b>berlin</b>", "Debian GNU/Linux 12", "41.3 GB", "web1-2026-11-22T02:00:00", "Back up now", ">/etc\n/srv</textarea>",
			`<option value="web1-main" selected>`, "borgfleet backup --host web1 --repo web1-main /etc /srv", "http://backup.example.net:8440/api/v1/jobs --json",
		}},
		{"/hosts/laptop-anna", []string{"offline since", "the job waits until it is"}},
		{"/hosts?q=lap", []string{"laptop-anna", `value="lap"`}},
		{"/repositories", []string{"3 repositories", "212 GB", "ssh://backup@store.example.net/srv/borg/db", "backup of web1", "never"}},
		{"/repositories/web1-main", []string{"in use", "held by", "kept here, encrypted", "812,331", "4.1 TB", "Run on this repository", "repokey-blake2"}},
		{"/repositories/nas", []string{"free", "no good backup yet", `value="init" selected`}},
		{"/jobs/" + string(runningBackup), []string{
			"backup of web1", "attempt 2 of 3", "/cancel\"", "<title>72 % · backup of web1 · borgfleet</title>", "12.9 GB", "connection to store.example.net closed",
			"connection_lost", "attempt 2</span>", "14:06:01.720", "file changed while we backed it up", "/home/anna&#39;s files", "zstd,3", "borgfleet job watch " + string(runningBackup),
		}},
		{"/jobs/" + string(waitingBackup), []string{"Waiting: repository web1-main is busy", "expires at ", "time limit 1 h 30 min", "/cancel\""}},
		{"/jobs/" + string(sentJob), []string{"has not answered yet"}},
		{"/jobs/" + string(failedBackup), []string{"No space left in the repository", "disk_full", "Prune or compact <code>db-main</code>", ">Retry</button>"}},
		{"/jobs/" + string(goodBackup), []string{"31.4 GB", "0.7 %", "41 %", "2 min 11 s", "mail-2026-11-22T13:27:22", "9f0c3a", ">Run again</button>", "left out"}},
		{"/jobs/" + string(warnedBackup), []string{"Borg did the work, and warned", "stat: [Errno 13] Permission denied"}},
		{"/jobs/" + string(cancelledJob), []string{"Cancelled by operator:anna", ">Run again</button>"}},
		{"/jobs/" + string(expiredJob), []string{"Expired.", ">Retry</button>"}},
		{"/jobs/" + string(prunedJob), []string{"<dt>Pruned</dt>", "mail-2026-08-02", "mail-2026-11-21", "Keep daily"}},
		{"/jobs/" + string(dryPruneJob), []string{"Would be pruned", "nothing is deleted", "0.4 s"}},
		{"/jobs/" + string(listJob), []string{"web1-2026-11-21", "<dt>Archives</dt>"}},
		{"/jobs/" + string(infoJob), []string{"812,331"}},
		{"/jobs/" + string(checkedJob), []string{"No problems found.", "1 h"}},
		{"/jobs/" + string(compactedJob), []string{"12.3 GB", "Threshold in percent"}},
		{"/jobs/" + string(initJob), []string{"The repository is ready."}},
	}
	for _, test := range tests {
		recorder := rich().get(t, test.address)
		if recorder.Code != http.StatusOK {
			t.Errorf("%s: status %d", test.address, recorder.Code)
		}
		for _, want := range test.want {
			if !strings.Contains(recorder.Body.String(), want) {
				t.Errorf("%s does not tell %q", test.address, want)
			}
		}
	}
}

func TestEmptyPagesSayWhatToDo(t *testing.T) {
	for address, want := range map[string][]string{
		"/":             {"No hosts yet", "borgfleet --data /srv/borgfleet host token web1", `href="/enrol"`, "borgfleet --data /srv/borgfleet repo add main", "borgfleet backup --host web1 --repo main /etc"},
		"/hosts":        {"No hosts yet", "borgfleet --data /srv/borgfleet host token web1", `href="/enrol"`},
		"/repositories": {"No repositories yet", "borgfleet repo add"},
		"/jobs":         {"No job yet", "borgfleet backup --host"},
	} {
		page := empty().get(t, address).Body.String()
		checkMarkup(t, address, page)
		for _, text := range want {
			if !strings.Contains(page, text) {
				t.Errorf("%s does not say %q", address, text)
			}
		}
	}
}

func TestFirstStepsAreTickedOff(t *testing.T) {
	w := empty()
	w.hosts = []fleet.HostView{{Host: fleet.Host{Name: "mail"}}}
	page := w.get(t, "/").Body.String()
	if strings.Count(page, ">done</span>") != 0 || !strings.Contains(page, "--repo main") || !strings.Contains(page, "--host mail") || !strings.Contains(page, `href="/enrol?host=mail"`) {
		t.Error("one host that is not enrolled: want its name in all steps, and none done")
	}
	if page := w.get(t, "/hosts/mail").Body.String(); !strings.Contains(page, "never seen") || !strings.Contains(page, "host token mail") || !strings.Contains(page, `href="/enrol?host=mail"`) {
		t.Error("the page of a host that was never seen must say how it is let in")
	}
	w.hosts[0].Online = true
	if page := w.get(t, "/").Body.String(); strings.Count(page, ">done</span>") != 1 {
		t.Error("a host that is connected: want the first step done")
	}
	if strings.Contains(rich().get(t, "/").Body.String(), `class="card steps"`) {
		t.Error("first steps are shown although there are backups")
	}
}

func TestHostileTextStaysText(t *testing.T) {
	list := append(addresses(), "/jobs?host=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "/%22%3E%3Cscript%3Ealert(1)", "/hosts?q=%22%3E%3Cimg&after=%22%3E%3Cimg")
	for _, address := range list {
		page := hostile().get(t, address).Body.String()
		for _, bad := range []string{"<script>alert", "<img", "onerror=alert(2)>\""} {
			if strings.Contains(page, bad) {
				t.Errorf("%s lets %s through", address, bad)
			}
		}
		checkMarkup(t, address, page)
	}
}

// crowded is a world with many hosts, half of them gone.
func crowded(n int) *world {
	w := rich()
	w.hosts = nil
	for i := range n {
		h := host(fmt.Sprintf("host-%04d", i), "ss", time.Duration(i)*time.Hour)
		h.Online = i%2 == 0
		w.hosts = append(w.hosts, h)
	}
	return w
}

func TestManyHostsArePaged(t *testing.T) {
	w := crowded(250)
	if page := w.get(t, "/").Body.String(); !strings.Contains(page, "230 more hosts") || strings.Count(page, `id="host-`) != 20 {
		t.Error("the overview must show 20 of 250 hosts, and say how many more there are")
	}
	seen := map[string]bool{}
	pages := 0
	for address := "/hosts?show=offline"; address != ""; pages++ {
		page := w.get(t, address).Body.String()
		for _, match := range regexp.MustCompile(`id="host-(host-\d+)"`).FindAllStringSubmatch(page, -1) {
			seen[match[1]] = true
		}
		address = nextPage(page)
	}
	if len(seen) != 125 || pages != 2 {
		t.Errorf("saw %d hosts on %d pages, want 125 on 2", len(seen), pages)
	}
}

func nextPage(page string) string {
	match := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(page)
	if match == nil {
		return ""
	}
	return strings.ReplaceAll(match[1], "&amp;", "&")
}

func TestJobsArePaged(t *testing.T) {
	w := rich()
	w.jobs = nil
	for i := range 120 {
		w.jobs = append(w.jobs, ended(id(2000-i), job.Backup, "web1", job.Succeeded, job.BackupSpec{Paths: []string{"/etc"}}))
	}
	seen := map[string]bool{}
	for address := "/jobs?host=web1"; address != ""; {
		page := w.get(t, address).Body.String()
		for _, match := range regexp.MustCompile(`id="job-(01\w+)"`).FindAllStringSubmatch(page, -1) {
			seen[match[1]] = true
		}
		if address = nextPage(page); address != "" && !strings.Contains(address, "host=web1") {
			t.Fatalf("the next page %s has lost the filter", address)
		}
	}
	if len(seen) != 120 {
		t.Errorf("saw %d jobs, want 120", len(seen))
	}
}

func TestFaults(t *testing.T) {
	broken := rich()
	broken.broken = errors.New("store: disk on fire")
	tests := []struct {
		name    string
		world   *world
		address string
		status  int
		want    string
	}{
		{"no such page", rich(), "/planes", http.StatusNotFound, "There is no page at /planes."},
		{"no such page, deep", rich(), "/jobs/" + string(goodBackup) + "/more", http.StatusNotFound, "There is no page"},
		{"unknown host", rich(), "/hosts/nobody", http.StatusNotFound, "unknown_host"},
		{"unknown repository", rich(), "/repositories/nothing", http.StatusNotFound, "unknown_repository"},
		{"unknown job", rich(), "/jobs/" + string(id(7)), http.StatusNotFound, "unknown_job"},
		{"not a job id", rich(), "/jobs/17", http.StatusNotFound, "is not a job id"},
		{"bad state", rich(), "/jobs?state=done&host=web1", http.StatusBadRequest, "is not a job state"},
		{"bad cursor", rich(), "/jobs?cursor=7", http.StatusBadRequest, "did not come from a list"},
		{"bad span", rich(), "/jobs?within=1y", http.StatusBadRequest, "One of 24h, 7d, 30d"},
		{"broken store", broken, "/", http.StatusInternalServerError, "disk on fire"},
		{"broken store, jobs", broken, "/jobs", http.StatusInternalServerError, "disk on fire"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			recorder := test.world.get(t, test.address)
			page := recorder.Body.String()
			if recorder.Code != test.status || !strings.Contains(page, test.want) {
				t.Errorf("got status %d, want %d with %q", recorder.Code, test.status, test.want)
			}
			checkMarkup(t, test.address, page)
		})
	}
	if page := rich().get(t, "/jobs?state=done&host=web1").Body.String(); !strings.Contains(page, `<option value="done" selected>`) || !strings.Contains(page, `<option value="web1" selected>`) {
		t.Error("a filter that was refused must keep what was chosen")
	}
}

func TestHeadersAndAssets(t *testing.T) {
	w := rich()
	recorder := w.get(t, "/")
	policy := recorder.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'self'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("the policy %q allows something unsafe", policy)
	}
	assets := regexp.MustCompile(`"(/static/[a-z]+\.[0-9a-f]{12}\.(css|js|svg))"`).FindAllStringSubmatch(recorder.Body.String(), -1)
	if len(assets) != 3 {
		t.Fatalf("the page links %d files, want style sheet, script and icon", len(assets))
	}
	for _, asset := range assets {
		got := w.get(t, asset[1])
		if got.Code != http.StatusOK || !strings.Contains(got.Header().Get("Cache-Control"), "immutable") || got.Body.Len() == 0 {
			t.Errorf("%s: status %d, %v", asset[1], got.Code, got.Header())
		}
		if got.Header().Get("X-Content-Type-Options") != "nosniff" || strings.HasPrefix(got.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("%s: headers %v", asset[1], got.Header())
		}
	}
	if got := w.get(t, "/static/page.000000000000.css"); got.Code != http.StatusNotFound || strings.Contains(got.Header().Get("Cache-Control"), "immutable") {
		t.Errorf("a file that is not there: status %d, %v", got.Code, got.Header())
	}
	if got := w.get(t, "/favicon.ico"); got.Code != http.StatusFound {
		t.Errorf("/favicon.ico: status %d", got.Code)
	}
}

func TestNewRefusesHalfAWorld(t *testing.T) {
	w := rich()
	whole := w.options()
	for name, change := range map[string]func(*web.Options){
		"status": func(o *web.Options) { o.Status = nil }, "jobs": func(o *web.Options) { o.Jobs = nil }, "actions": func(o *web.Options) { o.Actions = nil },
		"archives": func(o *web.Options) { o.Archives = nil }, "catalog": func(o *web.Options) { o.Catalog = nil },
		"hosts": func(o *web.Options) { o.Hosts = nil }, "feed": func(o *web.Options) { o.Feed = nil }, "logger": func(o *web.Options) { o.Logger = nil },
		"enroller": func(o *web.Options) { o.Enroller = nil }, "sessions": func(o *web.Options) { o.Sessions = nil }, "passwords": func(o *web.Options) { o.Passwords = nil }, "audit": func(o *web.Options) { o.Audit = nil },
	} {
		options := whole
		change(&options)
		if _, err := web.New(options); err == nil {
			t.Errorf("New without %s: want an error", name)
		}
	}
	handler, err := web.New(whole)
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	w.authenticated(handler).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	if recorder.Code != http.StatusOK {
		t.Errorf("with defaults: status %d", recorder.Code)
	}
}

var (
	anyTag  = regexp.MustCompile(`<(/?)([a-zA-Z][a-zA-Z0-9]*)((?:"[^"]*"|[^">])*)>`)
	anyID   = regexp.MustCompile(` id="([^"]*)"`)
	voids   = []string{"meta", "link", "input", "br"}
	inlined = regexp.MustCompile(`(?i)<[^>]* (style|on[a-z]+)="|<style|<script(?: defer)?>|javascript:`)
)

// checkMarkup checks that elements close in order, ids are single, labels have
// their fields, and nothing is inline that the policy would refuse.
func checkMarkup(t *testing.T, where, page string) {
	t.Helper()
	var open []string
	for _, tag := range anyTag.FindAllStringSubmatch(page, -1) {
		name, closes := strings.ToLower(tag[2]), tag[1] == "/"
		switch {
		case slices.Contains(voids, name) || strings.HasSuffix(tag[3], "/"):
		case !closes:
			open = append(open, name)
		case len(open) == 0 || open[len(open)-1] != name:
			t.Errorf("%s: </%s> closes nothing; open are %v", where, name, open)
			return
		default:
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Errorf("%s: left open: %v", where, open)
	}
	seen := map[string]bool{}
	for _, match := range anyID.FindAllStringSubmatch(page, -1) {
		if seen[match[1]] {
			t.Errorf("%s: the id %q is there twice", where, match[1])
		}
		seen[match[1]] = true
	}
	for _, match := range regexp.MustCompile(` (?:for|aria-describedby|aria-labelledby)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !seen[match[1]] {
			t.Errorf("%s: nothing has the id %q", where, match[1])
		}
	}
	if bad := inlined.FindString(page); bad != "" {
		t.Errorf("%s: inline: %s", where, bad)
	}
	for _, bad := range []string{"<no value>", "%!", "ZgotmplZ", "&lt;nil&gt;", "0001-01-01"} {
		if strings.Contains(page, bad) {
			t.Errorf("%s: contains %s", where, bad)
		}
	}
}

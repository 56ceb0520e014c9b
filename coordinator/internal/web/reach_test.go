package web_test

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/web"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// seasideAddresses are the pages that are about hosts over SSH and the depot.
var seasideAddresses = []string{
	"/", "/hosts", "/hosts/cam1", "/hosts/cam2", "/hosts/coordinator", "/hosts/cam1/access", "/hosts/cam1/access?anew=1", "/enrol", "/enrol/ssh",
	"/repositories", "/repositories/vault", "/repositories/yard", "/repositories/vault/transactions", "/repositories/vault/transactions?before=201",
	"/repositories/vault/rollback?to=101", "/repositories/vault/unfreeze", "/new-repository", "/repositories/vault/check", "/repositories/vault/prune",
	"/repositories/vault/mount", "/jobs", "/jobs/" + string(id(61)), "/jobs/" + string(id(60)),
}

// evilSeaside is a world whose hosts and depot try to break out of their place.
func evilSeaside() *world {
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>'` + "\x1b[31m`"
	w := seaside()
	for i := range w.hosts {
		if at := w.hosts[i].SSH; at != nil {
			w.hosts[i].SSH = &fleet.SSHAccess{Address: evil, HostKeys: []string{evil, serverKey + " " + evil}, Jump: []fleet.SSHHop{{Address: evil, HostKeys: []string{evil}}}, PublicKey: evil, Borg: evil, Dir: evil, Hooks: evil}
			w.hosts[i].Problem = job.Fail(job.PermissionDenied, "%s", evil).WithHint("%s", evil)
		}
	}
	w.freeze([]string{evil}, []string{evil})
	for i := range w.repositories {
		if depot := w.repositories[i].Depot; depot != nil {
			changed := *depot
			changed.Hosts = []string{evil}
			w.repositories[i].Depot = &changed
		}
	}
	w.depot.Address, w.depot.Fingerprint = evil, evil
	for i := range w.jobs {
		if w.jobs[i].For != "" {
			w.jobs[i].For = evil
		}
	}
	return w
}

func TestSeasidePagesAreWhole(t *testing.T) {
	for name, world := range map[string]func() *world{
		"as it is": seaside, "hostile": evilSeaside,
		"frozen": func() *world { return seaside().freeze([]string{"a"}, nil) },
		"poor":   func() *world { w := seaside(); w.absent = true; return w },
	} {
		for _, address := range seasideAddresses {
			for _, role := range []bus.Role{bus.Viewer, bus.Operator, bus.Admin} {
				page := world().as(role).get(t, address).Body.String()
				checkMarkup(t, name+" "+address, page)
				if strings.Contains(page, "<script>alert") || strings.Contains(page, "<img") {
					t.Errorf("%s %s lets markup through", name, address)
				}
			}
		}
	}
}

func TestSeasidePagesTell(t *testing.T) {
	frozen := seaside().freeze([]string{"web1-2026-11-20", "web1-2026-11-21"}, []string{"pwned"})
	nobody := seaside()
	nobody.repositories[3].Depot, nobody.repositories[4].Depot = &fleet.Depot{}, &fleet.Depot{}
	changed := seaside()
	changed.hosts[4].Problem = job.Fail(job.HostKeyChanged, "cam1 shows another host key")
	tests := []struct {
		name, address string
		world         *world
		want, not     []string
	}{
		{"host", "/hosts/cam1", seaside(), []string{"backup@cam1.example.net:22", "hop@gate.example.net:2222", "root, by <code>sudo -n</code>", "through a tunnel", "/var/lib/fleet",
			"ED25519 SHA256:", sharedKey, "as all hosts are", "host convert cam1", `href="/hosts/cam1/access"`, "Switch backups off", "812 MB are free", "not good", "depot, tunnel", `href="/repositories/vault"`},
			[]string{"Agent started", "Events not yet stored", "db-main</a></th>"}},
		{"new host", "/hosts/cam2", seaside(), []string{"not reached", "backups off", "cam2 does not let", "of root there", "Switch backups on", "not yet", "Backups of cam2 are switched off"}, []string{"journalctl", "/enrol?host", `name="paths"`}},
		{"changed key", "/hosts/cam1", changed, []string{`href="/hosts/cam1/access?anew=1"`, "host_key_changed"}, []string{"that lets it in"}},
		{"coordinator", "/hosts/coordinator", seaside(), []string{"own machine", "on this machine"}, []string{`/remove"`, `/disable"`, `name="paths"`, "/access"}},
		{"hosts", "/hosts", seaside(), []string{"over SSH", "the coordinator</td>", `href="/enrol/ssh"`, "host add web1 --ssh USER@HOST"}, nil},
		{"agent's host", "/hosts/web1", seaside(), []string{"Agent", "in the depot, to which the host connects", `<option value="vault"`, `<option value="yard"`}, []string{"Reached over SSH", "/access"}},
		{"not admitted", "/hosts/db1", seaside(), []string{`<option value="yard"`}, []string{`<option value="vault"`}},
		{"repositories", "/repositories", frozen, []string{"in the depot", "backup.example.net:8022", depotPrint, `href="/new-repository"`, "frozen</span>"}, nil},
		{"repository", "/repositories/vault", seaside(), []string{"500 GB · 42 % used", "add, and never delete", "2 now, 1,310 in all", "41.3 GB", `aria-label="Deny cam1"`, `<option value="db1"`, `<option value="coordinator"`, "the coordinator does it itself"},
			[]string{"Three ways on", `<option value="cam1"`, "/unfreeze"}},
		{"for everybody", "/repositories/yard", seaside(), []string{"every host, and those to come", `aria-label="Deny *"`, "<dd>none</dd>"}, []string{"/allow"}},
		{"frozen", "/repositories/vault", frozen, []string{"Frozen ", "2 archives are missing", "web1-2026-11-21", "pwned", "Backups go on", "Three ways on", `href="/repositories/vault/unfreeze"`}, nil},
		{"transactions", "/repositories/vault/transactions", frozen, []string{"250 transactions", `rollback?to=497"`, "newest", `rel="next" href="/repositories/vault/transactions?before=301"`, "repo transactions vault"}, []string{`to=499"`, `to=299"`}},
		{"more", "/repositories/vault/transactions?before=101", frozen, []string{`rollback?to=1"`, "First page"}, []string{`to=101"`, `rel="next"`}},
		{"not frozen", "/repositories/vault/transactions", seaside(), []string{"250 transactions"}, []string{"rollback?to"}},
		{"attention", "/", frozen, []string{`<a href="/repositories/vault">Repository vault is frozen`, "frozen</span>", "unreachable</span>", "not good</span>", ">Open host</a>", ">Open</a>"}, nil},
		{"job", "/jobs/" + string(id(61)), seaside(), []string{"prune for cam1", "on <a href=\"/hosts/coordinator\">", "for <a href=\"/hosts/cam1\">cam1</a>", "&#34;host&#34;:&#34;cam1&#34;"}, nil},
		{"jobs", "/jobs", seaside(), []string{`coordinator · prune</a> <span class="muted">for cam1</span>`}, nil},
		{"check", "/repositories/vault/check", seaside(), []string{`<option value="coordinator" selected>`, "in the depot"}, []string{`<option value="web1"`}},
		{"prune", "/repositories/vault/prune", seaside(), []string{"Of host", `<option value="db1"`}, []string{`<option value="coordinator"`}},
		{"mount", "/repositories/vault/mount", seaside(), []string{`<option value="web1"`}, []string{`<option value="db1"`, `<option value="coordinator"`}},
		{"verify", "/repositories/vault/verify", seaside(), []string{`<option value="web1"`, `<option value="coordinator"`}, []string{`<option value="db1"`}},
		{"closed", "/repositories/vault/mount", nobody, []string{"None of the hosts may use vault", `href="/repositories/vault#hosts"`}, []string{"<form class=\"card"}},
		{"removal", "/hosts/cam1/remove", seaside(), []string{"how it is reached is forgotten"}, []string{"agent"}},
		{"elsewhere", "/repositories/nas/check", seaside(), []string{`<option value="cam1"`}, []string{`<option value="coordinator"`}},
	}
	for _, test := range tests {
		recorder := test.world.get(t, test.address)
		page := recorder.Body.String()
		for _, want := range test.want {
			if recorder.Code != http.StatusOK || !strings.Contains(page, want) {
				t.Errorf("%s (status %d) does not tell %q", test.name, recorder.Code, want)
			}
		}
		for _, not := range test.not {
			if strings.Contains(page, not) {
				t.Errorf("%s tells %q", test.name, not)
			}
		}
	}
}

func TestWithoutDepotAndSSH(t *testing.T) {
	w := seaside()
	w.absent = true
	for _, address := range []string{"/new-repository", "/enrol/ssh", "/repositories/vault/transactions", "/hosts/cam1/access"} {
		wantPage(t, address, w.get(t, address), http.StatusNotFound, "There is no page")
	}
	for _, address := range []string{"/hosts", "/repositories", "/enrol", "/hosts/web1", "/hosts/cam1"} {
		if page := w.get(t, address).Body.String(); regexp.MustCompile(`(action|href)="[^"]*(/enrol/ssh|new-repository|/access|/enable|/disable)`).MatchString(page) {
			t.Errorf("%s offers what is not there", address)
		}
	}
	closed := seaside()
	closed.closed = true
	page := closed.get(t, "/repositories")
	wantPage(t, "closed", page, http.StatusOK, "in the depot")
	if strings.Contains(page.Body.String(), "/new-repository") {
		t.Error("a repository can be created in a depot that is not there")
	}
	wantPage(t, "closed", closed.get(t, "/repositories/vault"), http.StatusOK, "in the depot")
	for name, change := range map[string]func(*web.Options){"depot": func(o *web.Options) { o.Keeper = nil }, "SSH": func(o *web.Options) { o.Connections = nil }} {
		options := rich().options()
		change(&options)
		if _, err := web.New(options); err == nil {
			t.Errorf("New with half of what knows the %s: want an error", name)
		}
	}
}

// pins are the keys that a form carries, ticked or to be ticked.
func pins(page string) []string {
	var list []string
	for _, match := range regexp.MustCompile(`name="pin" value="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		list = append(list, match[1])
	}
	return list
}

func TestAddHostOverSSH(t *testing.T) {
	w := seaside()
	wantPage(t, "form", w.get(t, "/enrol/ssh"), http.StatusOK, sharedKey, `name="jump"`, ">Look at its keys<", "host add NAME --ssh USER@HOST")
	form := url.Values{"name": {"cam3"}, "address": {" root@cam3 "}, "jump": {"hop@gate\n"}, "sudo": {"1"}, "own_key": {"1"}, "dir": {"/srv/a b"}, "slots": {"3"}, "reach": {"tunnel"}, "labels": {"site=berlin"}}
	first := w.post(t, "/enrol/ssh", form)
	wantPage(t, "gate", first, http.StatusOK, "<b>hop@gate</b> shows this key", "NISTP256 SHA256:gateGATE", `value="hop@gate `+gateKey+`"`, `value="root@cam3"`, ">Go on<", "<details open>", "ssh-keygen -lf")
	form.Set("shown", "hop@gate")
	wantPage(t, "nothing is ticked", w.post(t, "/enrol/ssh", form), http.StatusBadRequest, "no key of hop@gate is ticked", "Compare them first")
	form["pin"] = pins(first.Body.String())
	second := w.post(t, "/enrol/ssh", form)
	wantPage(t, "host", second, http.StatusOK, "<b>root@cam3</b> shows this key", serverPrint, ">Add the host<", "--own-key --sudo --dir &#39;/srv/a b&#39; --slots 3 --label site=berlin --reach tunnel")
	if len(w.added) > 0 {
		t.Fatalf("added before the keys were confirmed: %v", w.added)
	}
	form["pin"] = pins(second.Body.String())
	wantRedirect(t, "added", w.post(t, "/enrol/ssh", form), "/hosts/cam3")
	want := []fleet.NewSSHHost{{Name: "cam3", Labels: map[string]string{"site": "berlin"}, Reach: fleet.ReachTunnel, SSHAccess: fleet.SSHAccess{
		Address: "root@cam3", HostKeys: []string{serverKey}, Jump: []fleet.SSHHop{{Address: "hop@gate", HostKeys: []string{gateKey}}}, OwnKey: true, Sudo: true, Dir: "/srv/a b", Slots: 3,
	}}}
	if diff := cmp.Diff(want, w.added); diff != "" {
		t.Errorf("added (-want +got):\n%s", diff)
	}
	scans := []string{"scan hop@gate through []", "scan hop@gate through []", "scan root@cam3 through [hop@gate " + gateKey + "]", "add host cam3"}
	if diff := cmp.Diff(scans, w.did); diff != "" {
		t.Errorf("did (-want +got):\n%s", diff)
	}
}

// A key that was confirmed for one address says nothing of another one.
func TestConfirmedKeysBelongToTheirAddress(t *testing.T) {
	w := seaside()
	form := url.Values{"name": {"cam3"}, "address": {"root@cam4"}, "pin": {"root@cam3 " + serverKey}}
	wantPage(t, "other address", w.post(t, "/enrol/ssh", form), http.StatusOK, "<b>root@cam4</b> shows this key")
	if len(w.added) > 0 {
		t.Errorf("added %v", w.added)
	}
}

func TestRefusedHostOverSSHKeepsWhatWasTyped(t *testing.T) {
	for name, test := range map[string]struct {
		form   url.Values
		refuse error
		status int
		want   []string
	}{
		"nothing":     {url.Values{}, nil, http.StatusBadRequest, []string{"The name is empty", "The address is empty"}},
		"bad":         {url.Values{"name": {"x"}, "address": {"a@b"}, "slots": {"many"}, "labels": {"alone"}}, nil, http.StatusUnprocessableEntity, []string{"is not a number", "has no value", ">alone</textarea>", `value="many"`}},
		"away":        {url.Values{"name": {"x"}, "address": {"root@gone"}, "sudo": {"1"}}, nil, http.StatusServiceUnavailable, []string{"root@gone does not answer", "is sshd running there?", `value="root@gone"`, ` checked`}},
		"bad address": {url.Values{"name": {"x"}, "address": {"b"}}, job.Invalid("address", "%q does not say which user logs in", "b"), http.StatusBadRequest, []string{`class="fault"`, "does not say which user"}},
		"taken":       {url.Values{"name": {"db1"}, "address": {"a@b"}, "pin": {"a@b " + serverKey}}, nil, http.StatusConflict, []string{"there is a host db1 already", `value="a@b ` + serverKey + `"`}},
	} {
		w := seaside()
		w.refuse = test.refuse
		got := w.post(t, "/enrol/ssh", test.form)
		wantPage(t, name, got, test.status, append(test.want, "Nothing was submitted.")...)
		checkMarkup(t, name, got.Body.String())
		if len(w.added) > 0 {
			t.Errorf("%s: added %v", name, w.added)
		}
	}
	w := seaside()
	w.refuse = job.Fail(job.NotAllowed, "only an admin may do that")
	wantPage(t, "not allowed", w.post(t, "/enrol/ssh", url.Values{"name": {"x"}, "address": {"a@b"}}), http.StatusForbidden, "Only an admin may do that")
	w = seaside()
	w.broken = errors.New("store: disk on fire")
	wantPage(t, "broken", w.get(t, "/enrol/ssh"), http.StatusInternalServerError, "disk on fire")
}

func TestChangeHowAHostIsReached(t *testing.T) {
	w := seaside()
	page := w.get(t, "/hosts/cam1/access")
	wantPage(t, "present", page, http.StatusOK, "How cam1 is reached", `value="backup@cam1.example.net:22"`, ">hop@gate.example.net:2222</textarea>", `<option value="tunnel" selected>`, `value="/var/lib/fleet"`, ">Change<", "host set cam1 --ssh")
	known := pins(page.Body.String())
	form := url.Values{"address": {"backup@cam1.example.net:22"}, "jump": {"hop@gate.example.net:2222"}, "reach": {"depot"}, "borg": {"/opt/borg"}, "pin": known}
	wantRedirect(t, "change", w.post(t, "/hosts/cam1/access", form), "/hosts/cam1")
	reach := fleet.ReachDepot
	want := []fleet.HostChange{{Reach: &reach, SSH: &fleet.SSHAccess{
		Address: "backup@cam1.example.net:22", HostKeys: []string{serverKey}, Jump: []fleet.SSHHop{{Address: "hop@gate.example.net:2222", HostKeys: []string{gateKey}}}, Borg: "/opt/borg", PublicKey: sharedKey,
	}}}
	if diff := cmp.Diff(want, w.changed); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	form.Set("address", "backup@cam9")
	wantPage(t, "another address", w.post(t, "/hosts/cam1/access", form), http.StatusOK, "<b>backup@cam9</b> shows this key")
	if left := pins(w.get(t, "/hosts/cam1/access?anew=1").Body.String()); len(left) != 1 || !strings.HasPrefix(left[0], "hop@gate") {
		t.Errorf("looked at anew: the form has the keys %q, want only those of the servers on the way", left)
	}
	wantPage(t, "agent", w.get(t, "/hosts/web1/access"), http.StatusConflict, "not reached over SSH")
	wantPage(t, "nobody", w.get(t, "/hosts/nobody/access"), http.StatusNotFound, "unknown_host")
	if w.as(bus.Operator); w.get(t, "/hosts/cam1/access").Code != http.StatusForbidden || w.get(t, "/enrol/ssh").Code != http.StatusForbidden {
		t.Error("an operator is shown a form for admins")
	}
}

func TestBackupsAreSwitched(t *testing.T) {
	w := seaside()
	wantRedirect(t, "off", w.post(t, "/hosts/cam1/disable", nil), "/hosts/cam1")
	wantRedirect(t, "on", w.post(t, "/hosts/cam1/enable", nil), "/hosts/cam1")
	if diff := cmp.Diff([]string{"change host cam1", "try cam1", "change host cam1"}, w.did); diff != "" || !*w.changed[0].Disabled || *w.changed[1].Disabled {
		t.Errorf("did (-want +got):\n%s", diff)
	}
	refused := w.post(t, "/hosts/cam2/enable", nil)
	wantPage(t, "refused", refused, http.StatusForbidden, "cam2 does not let", "permission_denied", `<h1 class="title">cam2`)
	checkMarkup(t, "refused", refused.Body.String())
	wantRedirect(t, "read", w.get(t, "/hosts/cam1/enable"), "/hosts/cam1")
	wantPage(t, "nobody", seaside().as("").post(t, "/hosts/cam1/enable", nil), http.StatusUnauthorized)
}

func TestVerifyTriesTheConnection(t *testing.T) {
	w := seaside()
	got := w.post(t, "/hosts/cam2/verify", url.Values{"key": {"page-1"}})
	wantPage(t, "refused", got, http.StatusForbidden, "cam2 does not let", "Nothing was submitted.")
	if len(w.submitted) > 0 {
		t.Errorf("submitted %v", w.submitted)
	}
	if w.post(t, "/hosts/cam1/verify", url.Values{"key": {"page-1"}}); len(w.submitted) != 1 || w.did[0] != "try cam1" {
		t.Errorf("did %v, submitted %v", w.did, w.submitted)
	}
}

func TestHostOverSSHIsLive(t *testing.T) {
	w := seaside()
	messages := w.listen(t, "/hosts/cam2")
	until(t, messages, "the beginning", anything)
	w.change(feed.Update{Type: feed.HostChanged, Host: "cam2"}, func() { w.hosts[5].Online, w.hosts[5].Problem = true, nil })
	m := until(t, messages, "the connection", func(m message) bool { return m.Fragments["host-head"] != "" })
	if !strings.Contains(m.Fragments["host-head"], ">connected</span>") {
		t.Errorf("got %s", m.raw)
	}
}

package dispatch_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// depot is a depot without repositories, which notes what is asked of it.
type depot struct {
	address string

	mu      sync.Mutex
	busy    func(string) bool
	evicted []string // repositories; in capitals: while others could have come in
	kept    []string
	changed bool
	broken  error
}

// Dir implements dispatch.Depot.
func (d *depot) Dir(repository string) string { return "/var/depot/" + repository }

// HostKey implements dispatch.Depot.
func (d *depot) HostKey() string { return "ssh-ed25519 DEPOT" }

// Evict implements dispatch.Depot.
func (d *depot) Evict(repository string) {
	if !d.busy(repository) {
		repository = strings.ToUpper(repository)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.evicted = append(d.evicted, repository)
}

// ConfigChanged implements dispatch.Depot.
func (d *depot) ConfigChanged(string) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed, d.broken
}

// KeepConfig implements dispatch.Depot.
func (d *depot) KeepConfig(repository string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept, d.changed = append(d.kept, repository), false
	return d.broken
}

func (d *depot) evictions() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.evicted
}

func (d *depot) set(changed bool, broken error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed, d.broken = changed, broken
}

// keeping runs a test with a depot: "shared" is append-only and web1's, "own" is
// everybody's. The host old1 is reached over SSH, and the depot from there through
// the same connection.
func keeping(t *testing.T, test func(t *testing.T, w *world)) {
	scenario(t, func(t *testing.T, w *world) {
		w.halt()
		w.openStore()
		w.keepDepot(map[string]fleet.Depot{"shared": {AppendOnly: true, Hosts: []string{"web1", "old1"}}, "own": {Hosts: []string{"*"}}})
		w.addHost(fleet.Host{Name: "old1", Mode: fleet.ModeSSH, Reach: fleet.ReachTunnel})
		w.start()
		for host := range w.agents {
			w.hello(host)
		}
		test(t, w)
	})
}

// keepDepot adds a depot, and the machine that it is on.
func (w *world) keepDepot(repositories map[string]fleet.Depot) {
	w.depot = &depot{address: "backup.example.net:2222", busy: func(name string) bool { return w.dispatch().Busy(name) }}
	w.addHost(fleet.Host{Name: fleet.LocalHost, Mode: fleet.ModeLocal})
	for name, agreed := range repositories {
		w.apply(store.CreateRepository(fleet.Repository{
			Repository: job.Repository{Name: name, Location: job.DepotLocation, Encryption: job.RepokeyBlake2}, HasPassphrase: true, Depot: &agreed,
		}))
	}
}

func (w *world) addHost(host fleet.Host) {
	host.CreatedAt = time.Now()
	w.apply(store.CreateHost(host))
	w.registry.views[host.Name] = fleet.HostView{Host: host}
	w.agents[host.Name] = newAgent(host.Name, w.publish)
	w.link.agents[host.Name] = w.agents[host.Name]
}

func (w *world) apply(changes ...store.Change) {
	w.t.Helper()
	if _, err := w.store.Apply(changes...); err != nil {
		w.t.Fatal(err)
	}
}

func of(host string, kind job.Kind, repository, spec string) job.Request {
	return job.Request{Host: host, Kind: kind, Repository: repository, Spec: json.RawMessage(spec)}
}

func TestWhereJobsOfTheDepotRun(t *testing.T) {
	const restore, download = `{"archive":"a","target":"/var/restore"}`, `{"archive":"a","format":"tar"}`
	for name, test := range map[string]struct {
		request   job.Request
		host, For string
		code      job.Code
		words     string
	}{
		"its care, for nobody":                {of("", job.Compact, "shared", ""), fleet.LocalHost, "", "", ""},
		"its care, for its own machine":       {of(fleet.LocalHost, job.List, "shared", ""), fleet.LocalHost, "", "", ""},
		"its care, for a host":                {of("web1", job.Prune, "shared", daily), fleet.LocalHost, "web1", "", ""},
		"its care, for who may not use it":    {of("web2", job.Prune, "shared", daily), fleet.LocalHost, "web2", "", ""},
		"its care, for nobody that there is":  {of("web9", job.Prune, "shared", daily), "", "", job.UnknownHost, "web9"},
		"a prune of whom?":                    {of("", job.Prune, "shared", daily), "", "", job.InvalidRequest, "whose archives"},
		"a prune of some names":               {of("", job.Prune, "shared", `{"keep_daily":7,"prefix":"db-"}`), fleet.LocalHost, "", "", ""},
		"a backup":                            {backup("web1", "shared"), "web1", "", "", ""},
		"a backup of who may not":             {backup("web2", "shared"), "", "", job.NotAllowed, "borgfleet repo allow shared web2"},
		"a backup of anybody":                 {backup("web2", "own"), "web2", "", "", ""},
		"a backup of nobody":                  {backup("", "own"), "", "", job.InvalidRequest, "missing"},
		"a backup of the depot's machine":     {backup(fleet.LocalHost, "own"), "", "", job.InvalidRequest, "install an agent"},
		"a restore of who may not":            {of("web2", job.Restore, "shared", restore), "", "", job.NotAllowed, "repo allow"},
		"a restore on the depot's machine":    {of(fleet.LocalHost, job.Restore, "shared", restore), "", "", job.InvalidRequest, "own machine"},
		"a download":                          {of("", job.Download, "shared", download), fleet.LocalHost, "", "", ""},
		"a download by a host":                {of("web1", job.Download, "shared", download), "web1", "", "", ""},
		"a backup there, kept elsewhere":      {backup(fleet.LocalHost, "web"), "", "", job.InvalidRequest, "own machine"},
		"a look at the depot's machine":       {of(fleet.LocalHost, job.Verify, "", ""), "", "", job.InvalidRequest, "own machine"},
		"of a repository that is not there":   {of("web1", job.List, "gone", ""), "", "", job.UnknownRepository, "gone"},
		"of a repository elsewhere, for none": {of("", job.List, "web", ""), "", "", job.InvalidRequest, "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			keeping(t, func(t *testing.T, w *world) {
				j, err := w.dispatch().Submit(context.Background(), fleet.Actor{Name: "operator:alice"}, test.request)
				if test.code != "" {
					if f := job.AsFailure(err); err == nil || f.Code != test.code || !strings.Contains(f.Error(), test.words) {
						t.Errorf("answer is %+v, %v; want %s with %q", j, err, test.code, test.words)
					}
					return
				}
				if err != nil || j.Host != test.host || j.For != test.For {
					t.Errorf("job is on %q for %q, %v; want %q for %q", j.Host, j.For, err, test.host, test.For)
				}
			})
		})
	}
}

// The coordinator's own machine is shown with the hosts, and is none of those that
// somebody wants to be backed up; its jobs go by what they are about.
func TestTheDepotsMachineIsNoHost(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		s, err := w.dispatch().Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		own := slices.IndexFunc(s.Hosts, func(h fleet.HostView) bool { return h.Mode == fleet.ModeLocal })
		if own < 0 || s.HostsTotal != len(s.Hosts)-1 || s.HostsOnline >= len(s.Hosts) {
			t.Errorf("%d of %d online, of %d shown", s.HostsOnline, s.HostsTotal, len(s.Hosts))
		}
		for want, request := range map[string]job.Request{
			"compact of shared":        of("", job.Compact, "shared", ""),
			"prune of shared for web1": of("web1", job.Prune, "shared", daily),
			"backup of web1 to shared": backup("web1", "shared"),
		} {
			if _, err := w.dispatch().Cancel(context.Background(), fleet.Actor{Name: "operator:alice"}, w.submit(request).ID); err != nil {
				t.Fatal(err)
			}
			if page, err := w.store.Audit(fleet.AuditFilter{Action: "job.cancel", Limit: 1}); err != nil || page.Entries[0].Detail != want {
				t.Errorf("%s: %+v, %v", want, page.Entries, err)
			}
		}
	})
}

func TestOrdersSayTheWayToTheDepot(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		order := func(request job.Request) bus.Order {
			t.Helper()
			j := w.submit(request)
			synctest.Wait()
			orders := w.agents[j.Host].orders
			if len(orders) == 0 || orders[len(orders)-1].Job != j.ID {
				t.Fatalf("job was not ordered: %+v", w.job(j.ID))
			}
			w.ends(j, succeeded())
			return orders[len(orders)-1]
		}
		const url = "ssh://own@borgfleet-depot/./own"
		key := w.depot.HostKey()
		if got, want := order(backup("web1", "own")), (&bus.Depot{Address: w.depot.address, HostKey: key}); got.Repository.Location != url || cmp.Diff(want, got.Depot) != "" {
			t.Errorf("agent is sent to %s by %+v", got.Repository.Location, got.Depot)
		}
		if got, want := order(backup("old1", "own")), (&bus.Depot{HostKey: key}); got.Repository.Location != url || cmp.Diff(want, got.Depot) != "" {
			t.Errorf("host with a tunnel is sent to %s by %+v", got.Repository.Location, got.Depot)
		}
		if got := order(of("web1", job.Info, "own", "")); got.Repository.Location != "/var/depot/own" || got.Depot != nil || got.For != "web1" {
			t.Errorf("the depot's machine is sent to %s by %+v, for %q", got.Repository.Location, got.Depot, got.For)
		}
		if got := order(backup("web1", "web")); got.Repository.Location != "/srv/web" || got.Depot != nil || got.For != "" {
			t.Errorf("an order of another repository is %+v", got)
		}
	})
}

func TestOrdersWithoutAWayToTheDepot(t *testing.T) {
	for name, test := range map[string]struct {
		depot *depot
		words string
	}{
		"there is none":     {nil, "does not run"},
		"it has no address": {&depot{}, "under which address"},
	} {
		t.Run(name, func(t *testing.T) {
			keeping(t, func(t *testing.T, w *world) {
				w.depot = test.depot
				w.restart()
				for host := range w.agents {
					w.hello(host)
				}
				w.over(w.submit(backup("web1", "own")).ID, job.Failed, job.Unavailable, test.words)
			})
		})
	}
}

func TestHostsThatAreNotFitForAJob(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.apply(store.CreateRepository(fleet.Repository{
			Repository: job.Repository{Name: "theirs", Location: "/srv/theirs", Encryption: job.RepokeyBlake2}, HasPassphrase: true, Custody: fleet.CustodyHosts,
		}))
		w.refuses(backup("old1", "theirs"), job.Conflict, "has no agent", "host convert old1")
		w.refuses(of("old1", job.List, "theirs", ""), job.Conflict, "has no agent")
		off := fleet.Host{Name: "old1", Mode: fleet.ModeSSH, Disabled: true}
		w.apply(store.PutHost(off))
		w.refuses(backup("old1", "own"), job.BorgMissing, "switched off", "borgfleet host enable old1")
		off.Facts = &fleet.Facts{BorgFailure: job.Fail(job.BorgUnsupported, "borg 1.0 is too old").WithHint("apt install borgbackup")}
		w.apply(store.PutHost(off))
		w.refuses(backup("old1", "own"), job.BorgUnsupported, "switched off", "too old", "apt install borgbackup; then: borgfleet host enable old1")
		w.submit(of("old1", job.List, "web", ""))
	})
}

// refuses checks that a request is refused.
func (w *world) refuses(request job.Request, code job.Code, words ...string) {
	w.t.Helper()
	_, err := w.dispatch().Submit(context.Background(), fleet.Actor{Name: "operator:alice"}, request)
	f := job.AsFailure(err)
	if err == nil || f.Code != code {
		w.t.Fatalf("answer is %v, want %s", err, code)
	}
	for _, word := range words {
		if !strings.Contains(f.Error(), word) {
			w.t.Errorf("answer is %v, and says nothing of %q", f, word)
		}
	}
}

// What a host finds locked in the depot is held by a process of the depot.
func TestLockInTheDepotIsLookedAtThere(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "own"))
		w.expect(j.ID, job.Running, 1, "")
		w.agents["web1"].tell(first(j), failed(job.RepositoryLocked))
		w.mustDeliver()
		looks := w.lockJobs()
		if len(looks) != 1 || looks[0].Host != fleet.LocalHost || looks[0].For != "web1" {
			t.Errorf("looks are %+v", looks)
		}
	})
}

// A retry by a person, and the dry run of a prune, are for the same host.
func TestJobsOfTheDepotStayForTheirHost(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.apply(store.PutArchives("own",
			fleet.Archive{Archive: job.Archive{Name: "web1-2026-11-22T02:00:00", Start: time.Now()}, Host: "web1"},
			fleet.Archive{Archive: job.Archive{Name: "web2-2026-11-22T02:00:00", Start: time.Now()}, Host: "web2"}))
		prune := w.submit(of("web1", job.Prune, "own", daily))
		dry := w.dryRun(prune)
		if dry.For != "web1" {
			t.Errorf("dry run is for %q", dry.For)
		}
		w.ends(dry, failed(job.PassphraseWrong))
		w.over(prune.ID, job.Failed, job.PassphraseWrong)
		again, err := w.dispatch().Retry(context.Background(), fleet.Actor{Name: "operator:alice"}, prune.ID)
		if err != nil || again.Host != fleet.LocalHost || again.For != "web1" {
			t.Errorf("retry is %+v, %v", again, err)
		}
		w.refuses(of("web1", job.Prune, "own", `{"keep_daily":7,"all":true}`), job.Conflict, "web2-2026")
	})
}

// How much a host without an agent does at once is set here, for it alone: what is
// said for all hosts bounds neither it nor the depot's machine.
func TestHostsWithoutAnAgentHaveTheirOwnSlots(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.limits.PerHost = 1
		w.restart()
		for host := range w.agents {
			w.hello(host)
		}
		for _, name := range []string{"own", "shared"} {
			w.expect(w.submit(of("", job.Check, name, "")).ID, job.Running, 1, "")
		}
		for range 2 {
			w.expect(w.submit(of("old1", job.Verify, "", "")).ID, job.Running, 1, "")
		}
		third := w.submit(of("old1", job.Verify, "", ""))
		w.expect(third.ID, job.Queued, 0, "waiting for a free slot on old1")
	})
}

func TestEventsThatDoNotComeByTheStream(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		j := w.submit(backup("old1", "own"))
		w.expect(j.ID, job.Running, 1, "")
		w.mustDeliver()
		at := w.dispatch().StreamPosition()
		w.agents["old1"].tell(first(j), succeeded())
		w.mu.Lock()
		told := w.stream[len(w.stream)-1]
		w.mu.Unlock()
		if err := w.dispatch().HandleEvents(context.Background(), []bus.StreamEvent{{Event: told}}); err != nil {
			t.Fatal(err)
		}
		w.expect(j.ID, job.Succeeded, 1, "")
		stored, err := w.store.StreamPosition()
		if err != nil || stored != at || w.dispatch().StreamPosition() != at {
			t.Errorf("position is %d, stored %d, %v; want %d", w.dispatch().StreamPosition(), stored, err, at)
		}
	})
}

var errDisk = errors.New("disk full")

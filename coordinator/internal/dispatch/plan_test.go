package dispatch

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/job"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// at returns a waiting job in short: kind, host, repository; its id ends in n.
func at(n int, kind job.Kind, host, repository string) waiting {
	return waiting{ticket: ticket{ID: numbered(n), Kind: kind, Host: host, Repository: repository}}
}

// on puts a job's repository on a server.
func on(server string, w waiting) waiting {
	w.Server = server
	return w
}

// of puts a job into a group.
func of(group string, w waiting) waiting {
	w.Group = group
	return w
}

func ranked(priority int, w waiting) waiting {
	w.Priority = priority
	return w
}

// mounted returns a mount that is there.
func mounted(n int, host, repository string) ticket {
	t := at(n, job.Mount, host, repository).ticket
	t.MountPoint = "/mnt"
	return t
}

func numbered(n int) job.ID { return job.ID(fmt.Sprintf("01JD9X7Q2M4T6W8Y0ABC%06d", n)) }

func ready(string) hostState { return hostState{Slots: 8, SealKey: "XKEY"} }

func TestPlan(t *testing.T) {
	wide := Limits{Running: 50, PerHost: 8}
	tests := map[string]struct {
		queue   []waiting
		held    []ticket
		hosts   func(string) hostState
		limits  Limits
		want    []job.ID
		reasons map[job.ID]string
		next    time.Time
	}{
		"an idle fleet lets everything go": {
			queue: []waiting{at(1, job.Backup, "web1", "a"), at(2, job.Backup, "web2", "b")},
			want:  []job.ID{numbered(1), numbered(2)},
		},
		"a second writer waits and says for whom": {
			queue:   []waiting{at(2, job.Prune, "web1", "a")},
			held:    []ticket{at(1, job.Backup, "web1", "a").ticket},
			reasons: map[job.ID]string{numbered(2): "repository a is busy with job …000001 (backup of web1)"},
		},
		"two of one batch do not both go": {
			queue:   []waiting{at(1, job.Backup, "web1", "a"), at(2, job.Backup, "web2", "a")},
			want:    []job.ID{numbered(1)},
			reasons: map[job.ID]string{numbered(2): "repository a is busy with job …000001 (backup of web1)"},
		},
		"readers share": {
			queue: []waiting{at(2, job.List, "web1", "a"), at(3, job.Info, "web2", "a")},
			held:  []ticket{at(1, job.List, "web3", "a").ticket},
			want:  []job.ID{numbered(2), numbered(3)},
		},
		"a reader waits for a writer": {
			queue:   []waiting{at(2, job.List, "web2", "a")},
			held:    []ticket{at(1, job.Backup, "web1", "a").ticket},
			reasons: map[job.ID]string{numbered(2): "repository a is busy with job …000001 (backup of web1)"},
		},
		"a writer waits for all readers, and later readers wait for it": {
			queue: []waiting{at(3, job.Prune, "web1", "a"), at(4, job.List, "web2", "a"), at(5, job.List, "web2", "b")},
			held:  []ticket{at(1, job.List, "web3", "a").ticket, at(2, job.List, "web4", "a").ticket},
			want:  []job.ID{numbered(5)},
			reasons: map[job.ID]string{
				numbered(3): "repository a is busy with job …000001 (list of web3) and 1 more",
				numbered(4): "repository a is next for job …000003 (prune of web1)",
			},
		},
		"a writer whose host is away does not block the repository": {
			queue: []waiting{at(1, job.Backup, "gone", "a"), at(2, job.List, "web2", "a")},
			held:  []ticket{at(9, job.List, "web3", "a").ticket},
			hosts: func(name string) hostState {
				if name == "gone" {
					return hostState{Away: "host gone offline since 11:00:00 UTC"}
				}
				return ready(name)
			},
			want:    []job.ID{numbered(2)},
			reasons: map[job.ID]string{numbered(1): "host gone offline since 11:00:00 UTC"},
		},
		"the host's slots bound it": {
			queue:   []waiting{at(2, job.Backup, "web1", "b")},
			held:    []ticket{at(1, job.Backup, "web1", "a").ticket},
			hosts:   func(string) hostState { return hostState{Slots: 1} },
			reasons: map[job.ID]string{numbered(2): "waiting for a free slot on web1"},
		},
		"the coordinator's limit bounds a host with more slots": {
			queue:   []waiting{at(2, job.Backup, "web1", "b"), at(3, job.Backup, "web1", "c")},
			limits:  Limits{PerHost: 1},
			hosts:   func(string) hostState { return hostState{Slots: 2} },
			want:    []job.ID{numbered(2)},
			reasons: map[job.ID]string{numbered(3): "waiting for a free slot on web1 (limits.per_host is 1)"},
		},
		"the fleet's limit bounds all": {
			queue:   []waiting{at(1, job.Backup, "web1", "a"), at(2, job.Backup, "web2", "b"), at(3, job.Backup, "web3", "c")},
			limits:  Limits{Running: 2},
			want:    []job.ID{numbered(1), numbered(2)},
			reasons: map[job.ID]string{numbered(3): "waiting for a free slot (2 jobs run)"},
		},
		"a job that waits for a slot does not reserve its repository": {
			queue: []waiting{at(3, job.Prune, "web1", "a"), at(4, job.List, "web2", "a")},
			held:  []ticket{at(1, job.Backup, "web1", "b").ticket, at(2, job.List, "web3", "a").ticket},
			hosts: func(string) hostState { return hostState{Slots: 1} },
			want:  []job.ID{numbered(4)},
			reasons: map[job.ID]string{
				numbered(3): "repository a is busy with job …000002 (list of web3)",
			},
		},
		"a server's limit bounds its repositories, whichever host uses them": {
			queue:  []waiting{on("store", at(3, job.Backup, "web3", "c")), on("other", at(4, job.Backup, "web4", "d")), on("store", at(5, job.Mount, "web5", "e"))},
			held:   []ticket{on("store", at(1, job.Backup, "web1", "a")).ticket, on("store", at(2, job.List, "web2", "b")).ticket},
			limits: Limits{PerHost: 8, PerStore: 2},
			want:   []job.ID{numbered(4), numbered(5)},
			reasons: map[job.ID]string{
				numbered(3): "waiting for a free slot on store (limits.per_store is 2)",
			},
		},
		"a job that waits for a server does not reserve its repository": {
			queue:  []waiting{on("store", at(3, job.Prune, "web1", "a")), at(4, job.List, "web2", "a")},
			held:   []ticket{on("store", at(1, job.Backup, "web3", "b")).ticket, at(2, job.List, "web4", "a").ticket},
			limits: Limits{PerHost: 8, PerStore: 1},
			want:   []job.ID{numbered(4)},
			reasons: map[job.ID]string{
				numbered(3): "repository a is busy with job …000002 (list of web4)",
			},
		},
		"a closed window is said, and when it opens": {
			queue: []waiting{
				{ticket: at(1, job.Backup, "web1", "a").ticket, Opens: noon.Add(10 * time.Hour), Window: "22:00-06:00 (Europe/Berlin)"},
				at(2, job.Backup, "web1", "b"),
			},
			want:    []job.ID{numbered(2)},
			reasons: map[job.ID]string{numbered(1): "outside the window 22:00-06:00 (Europe/Berlin)"},
			next:    noon.Add(10 * time.Hour),
		},
		"who has nothing running goes before who has": {
			queue:  []waiting{of("big", at(3, job.Backup, "web3", "c")), of("big", at(4, job.Backup, "web4", "d")), of("small", at(5, job.Backup, "web5", "e"))},
			held:   []ticket{of("big", at(1, job.Backup, "web1", "a")).ticket},
			limits: Limits{PerHost: 8, Running: 3},
			want:   []job.ID{numbered(5), numbered(3)},
			reasons: map[job.ID]string{
				numbered(4): "waiting for a free slot (3 jobs run)",
			},
		},
		"priority goes before turns": {
			queue:  []waiting{ranked(10, of("big", at(3, job.Backup, "web3", "c"))), of("small", at(5, job.Backup, "web5", "e"))},
			held:   []ticket{of("big", at(1, job.Backup, "web1", "a")).ticket},
			limits: Limits{PerHost: 8, Running: 2},
			want:   []job.ID{numbered(3)},
			reasons: map[job.ID]string{
				numbered(5): "waiting for a free slot (2 jobs run)",
			},
		},
		"a retry waits for its time and tells when to look again": {
			queue: []waiting{
				{ticket: at(1, job.Backup, "web1", "a").ticket, NotBefore: noon.Add(65 * time.Second), Pause: "retry 2 of 3"},
				{ticket: at(2, job.Backup, "web2", "b").ticket, NotBefore: noon.Add(5 * time.Second), Pause: "retry 3 of 3"},
			},
			reasons: map[job.ID]string{numbered(1): "retry 2 of 3 at 12:01:05 UTC", numbered(2): "retry 3 of 3 at 12:00:05 UTC"},
			next:    noon.Add(5 * time.Second),
		},
		"a retry whose time has come goes": {
			queue: []waiting{{ticket: at(1, job.Backup, "web1", "a").ticket, NotBefore: noon, Pause: "retry 2 of 3"}},
			want:  []job.ID{numbered(1)},
		},
		"a passphrase needs a key to seal it to": {
			queue:   []waiting{{ticket: at(1, job.Backup, "web1", "a").ticket, Encrypted: true}, at(2, job.Backup, "web1", "b")},
			hosts:   func(string) hostState { return hostState{Slots: 4} },
			want:    []job.ID{numbered(2)},
			reasons: map[job.ID]string{numbered(1): "host web1 has not told the key that passphrases are sealed to"},
		},
		"mounts and unmounting need no slot": {
			queue:  []waiting{at(3, job.Umount, "web1", ""), at(4, job.Mount, "web1", "b"), at(5, job.List, "web1", "b")},
			held:   []ticket{at(1, job.Backup, "web1", "c").ticket},
			limits: Limits{Running: 1, PerHost: 1},
			want:   []job.ID{numbered(3), numbered(4)},
			reasons: map[job.ID]string{
				numbered(5): "waiting for a free slot on web1 (limits.per_host is 1)",
			},
		},
		"a mount takes no slot from others": {
			queue:  []waiting{at(3, job.List, "web1", "a")},
			held:   []ticket{mounted(1, "web1", "a"), mounted(2, "web1", "b")},
			limits: Limits{Running: 1, PerHost: 1},
			want:   []job.ID{numbered(3)},
		},
		"a writer waits for a mount, readers do not wait behind it, and mounts do": {
			queue: []waiting{at(3, job.Backup, "web1", "a"), at(4, job.List, "web2", "a"), at(5, job.Mount, "web2", "a")},
			held:  []ticket{at(1, job.List, "web3", "a").ticket, mounted(2, "web2", "a")},
			want:  []job.ID{numbered(4)},
			reasons: map[job.ID]string{
				numbered(3): "repository a is mounted at /mnt by job …000002: borgfleet archive umount /mnt --host web2",
				numbered(5): "repository a is next for job …000003 (backup of web1)",
			},
		},
		"to unmount waits for nobody": {
			queue: []waiting{at(3, job.Backup, "web1", "a"), at(4, job.Umount, "web2", "a")},
			held:  []ticket{mounted(2, "web2", "a")},
			want:  []job.ID{numbered(4)},
			reasons: map[job.ID]string{
				numbered(3): "repository a is mounted at /mnt by job …000002: borgfleet archive umount /mnt --host web2",
			},
		},
		"jobs without a repository have nothing to share": {
			queue: []waiting{at(2, job.Verify, "web2", ""), at(3, job.Umount, "web1", "")},
			held:  []ticket{at(1, job.Verify, "web1", "").ticket},
			want:  []job.ID{numbered(2), numbered(3)},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.hosts == nil {
				test.hosts = ready
			}
			if test.limits == (Limits{}) {
				test.limits = wide
			}
			if test.reasons == nil {
				test.reasons = map[job.ID]string{}
			}
			got := makePlan(test.queue, test.held, test.hosts, test.limits, noon)
			want := plan{Go: test.want, Reasons: test.reasons, Next: test.next}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPlanNeverOverlaps plans random queues and checks what leases promise.
func TestPlanNeverOverlaps(t *testing.T) {
	kinds := []job.Kind{job.Backup, job.List, job.Prune, job.Info, job.Check}
	for seed := range 200 {
		var queue []waiting
		for n := range 30 {
			x := seed*31 + n*17 + n*n*seed
			queue = append(queue, at(n, kinds[x%5], fmt.Sprintf("web%d", x%7), fmt.Sprintf("r%d", x%3)))
		}
		got := makePlan(queue, nil, ready, Limits{Running: 6, PerHost: 2}, noon)
		writers, readers, hosts := map[string]int{}, map[string]int{}, map[string]int{}
		for _, id := range got.Go {
			for _, w := range queue {
				if w.ID != id {
					continue
				}
				hosts[w.Host]++
				if w.Kind.Exclusive() {
					writers[w.Repository]++
				} else {
					readers[w.Repository]++
				}
			}
		}
		for repository, n := range writers {
			if n > 1 || readers[repository] > 0 {
				t.Fatalf("seed %d: repository %s has %d writers and %d readers", seed, repository, n, readers[repository])
			}
		}
		for host, n := range hosts {
			if n > 2 {
				t.Fatalf("seed %d: host %s has %d jobs", seed, host, n)
			}
		}
		if len(got.Go) > 6 || len(got.Go)+len(got.Reasons) != len(queue) {
			t.Fatalf("seed %d: %d go and %d wait, of %d", seed, len(got.Go), len(got.Reasons), len(queue))
		}
	}
}

func TestBackoff(t *testing.T) {
	tests := map[string]struct {
		attempts int
		jitter   func(time.Duration) time.Duration
		want     time.Duration
	}{
		"first, no jitter":   {1, func(time.Duration) time.Duration { return 0 }, 10 * time.Second},
		"first, all jitter":  {1, func(d time.Duration) time.Duration { return d }, 8 * time.Second},
		"second":             {2, func(time.Duration) time.Duration { return 0 }, 20 * time.Second},
		"fifth":              {5, func(time.Duration) time.Duration { return 0 }, 160 * time.Second},
		"capped":             {6, func(time.Duration) time.Duration { return 0 }, 5 * time.Minute},
		"capped, far beyond": {1000, func(time.Duration) time.Duration { return 0 }, 5 * time.Minute},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := (Backoff{Jitter: test.jitter}).withDefaults().Delay(test.attempts); got != test.want {
				t.Errorf("Delay(%d) = %s, want %s", test.attempts, got, test.want)
			}
		})
	}
	for range 1000 {
		if d := (Backoff{}).withDefaults().Delay(3); d < 32*time.Second || d > 40*time.Second {
			t.Fatalf("Delay(3) = %s, out of its range", d)
		}
	}
}

func TestClock(t *testing.T) {
	tests := map[string]struct {
		at   time.Time
		want string
	}{
		"today":              {noon.Add(-2 * time.Hour), "10:00:00 UTC"},
		"yesterday":          {noon.Add(-24 * time.Hour), "2026-11-21 12:00:00 UTC"},
		"a year ago, by day": {noon.AddDate(-1, 0, 0), "2025-11-22 12:00:00 UTC"},
		"from another zone":  {noon.In(time.FixedZone("CET", 3600)), "12:00:00 UTC"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := clock(test.at, noon); got != test.want {
				t.Errorf("clock = %q, want %q", got, test.want)
			}
		})
	}
}

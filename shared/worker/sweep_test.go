package worker_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// of returns an order for a spec; one that needs none has no repository.
func (f *fixture) of(spec job.Spec) bus.Order {
	f.t.Helper()
	encoded, err := json.Marshal(spec)
	if err != nil {
		f.t.Fatal(err)
	}
	order := f.order()
	order.Kind, order.Spec, order.Archive = spec.Kind(), encoded, ""
	if !order.Kind.NeedsRepository() {
		order.Repository, order.Passphrase = job.Repository{}, nil
	}
	return order
}

func (f *fixture) accepted(order bus.Order) attempt.Key {
	f.t.Helper()
	if reply := f.send(order); !reply.Accepted {
		f.t.Fatalf("%s: answer %+v", order.Kind, reply)
	}
	return attempt.KeyOf(order)
}

// mounting is what a mount job runs.
func mounting(t *testing.T, point string) []string {
	t.Helper()
	argv, _, err := borg.Command(borg.Task{
		Kind: job.Mount, Spec: job.MountSpec{MountPoint: point}, Host: host,
		Repository: job.Repository{Name: "main", Location: "/srv/main", Encryption: job.Repokey},
	}, borg.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	return argv
}

// The one slot is taken: a mount goes on beside it, and can be ended.
func TestMountsTakeNoSlot(t *testing.T) {
	f := newFixture(t)
	f.rules.Restore = []string{"/srv"}
	f.start()
	backup := f.order()
	busy := f.accepted(backup)
	patience.Until(t, "it has the slot", func() bool { return len(f.engine.ids()) == 1 })
	mount := f.accepted(f.of(job.MountSpec{MountPoint: "/srv/mnt"}))
	waits := f.accepted(f.order())
	umount := f.accepted(f.of(job.UmountSpec{MountPoint: "/srv/mnt"}))
	f.engine.finish(t, umount, job.Succeeded)
	f.awaitEnd(umount, "accepted", "started", "succeeded")
	if told := f.told(waits); len(told) != 1 {
		t.Errorf("what waits for the slot told %v", told)
	}
	f.stop() // and after a restart

	f.runs.ids = []string{busy.String(), mount.String()}
	f.start()
	f.engine.finish(t, busy, job.Succeeded)
	f.awaitEnd(busy, "accepted", "started", "succeeded")
	f.engine.finish(t, waits, job.Succeeded) // the mount has not taken its place
	f.awaitEnd(waits, "accepted", "started", "succeeded")
	f.engine.finish(t, mount, job.Succeeded)
	f.awaitEnd(mount, "accepted", "started", "succeeded")
}

// What a mount leaves behind is gone before its end is told; what belongs to
// others stays.
func TestMountsAreSwept(t *testing.T) {
	f := newFixture(t)
	f.slots, f.rules.Restore = 3, []string{"/srv"}
	f.mounts.points = []string{"/srv/mnt", "/srv/lost", "/srv/others", "/srv/again"}
	lost, again, live := job.NewID(time.Now()).AttemptID(1), job.NewID(time.Now()).AttemptID(1), job.NewID(time.Now()).AttemptID(1)
	umount, _, err := borg.Command(borg.Task{Kind: job.Umount, Spec: job.UmountSpec{MountPoint: "/srv/others"}, Host: host}, borg.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	f.runs.ids = []string{lost, again, live, "x.1"}
	f.runs.over = []string{lost, again, "x.1"}
	f.runs.argv = map[string][]string{
		lost: mounting(t, "/srv/lost"), again: mounting(t, "/srv/again"), live: mounting(t, "/srv/again"), "x.1": umount,
	}
	f.engine.ended = make(chan struct{}) // the live one is an orphan
	f.start()
	close(f.engine.ended)
	key := f.accepted(f.of(job.MountSpec{MountPoint: "/srv/mnt"}))
	patience.Until(t, "it runs", func() bool { return slices.Contains(f.engine.ids(), key.String()) })
	left := func(want ...string) {
		t.Helper()
		got, err := f.mounts.List()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("mounted (-want +got):\n%s", diff)
		}
	}
	left("/srv/mnt", "/srv/others", "/srv/again")
	f.runs.mu.Lock()
	f.runs.ids, f.runs.over = append(f.runs.ids, key.String()), append(f.runs.over, key.String())
	f.runs.argv[key.String()] = mounting(t, "/srv/mnt")
	f.runs.mu.Unlock()
	f.engine.finish(t, key, job.Failed)
	f.awaitEnd(key, "accepted", "started", "failed")
	left("/srv/others", "/srv/again")
}

func TestVerifyTellsWhatWasFound(t *testing.T) {
	found := []job.Finding{{Name: "borg", Good: true, Detail: "1.2.4"}, {Name: "fuse", Detail: "none", Hint: "install it"}}
	missing := job.Fail(job.BorgMissing, "there is no borg").WithHint("install it")
	for name, failure := range map[string]*job.Failure{"with borg": nil, "without": missing} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.borg.failure = failure
			f.checks = func(context.Context) []job.Finding { return found }
			f.start()
			key := f.accepted(f.of(job.VerifySpec{}))
			if failure == nil {
				f.engine.finish(t, key, job.Succeeded)
				f.awaitEnd(key, "accepted", "started", "succeeded")
				f.engine.mu.Lock()
				defer f.engine.mu.Unlock()
				if diff := cmp.Diff(found, f.engine.tasks[0].Checks); diff != "" {
					t.Errorf("the engine was given (-want +got):\n%s", diff)
				}
				return
			}
			f.awaitEnd(key, "accepted", "failed")
			events, err := f.journal.Events(key, 1, 10)
			if err != nil || len(events) != 1 || events[0].Result == nil || events[0].Failure.Code != job.BorgMissing {
				t.Fatalf("events %+v, %v", events, err)
			}
			if diff := cmp.Diff(found, events[0].Result.Checks); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}

// To unmount takes no borg; anything else does.
func TestUmountWithoutBorg(t *testing.T) {
	f := newFixture(t)
	f.rules.Restore = []string{"/srv"}
	f.borg.failure = job.Fail(job.BorgMissing, "there is no borg")
	f.start()
	key := f.accepted(f.of(job.UmountSpec{MountPoint: "/srv/mnt"}))
	f.engine.finish(t, key, job.Succeeded)
	f.awaitEnd(key, "accepted", "started", "succeeded")
	f.awaitEnd(f.accepted(f.of(job.MountSpec{MountPoint: "/srv/mnt"})), "accepted", "failed")
}

func TestOrderThatNeedsARepository(t *testing.T) {
	f := newFixture(t).start()
	order := f.of(job.ListSpec{})
	order.Repository, order.Passphrase = job.Repository{}, nil
	if reply := f.send(order); reply.Accepted || reply.Failure == nil {
		t.Errorf("answer %+v", reply)
	}
}

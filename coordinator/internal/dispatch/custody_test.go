package dispatch_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// keepByHosts adds a repository whose passphrase only hosts can read, and seals
// it to the given ones.
func (w *world) keepByHosts(name string, hosts ...string) {
	w.t.Helper()
	changes := []store.Change{store.CreateRepository(fleet.Repository{
		Repository:    job.Repository{Name: name, Location: "/srv/" + name, Encryption: job.RepokeyBlake2},
		HasPassphrase: true, Custody: fleet.CustodyHosts,
	})}
	for _, host := range hosts {
		key := w.agents[host].hello().SealKey
		sealed, err := secret.Seal(secret.FromString("typed in"), secret.Purpose{Host: host, Repository: name}, key)
		if err != nil {
			w.t.Fatal(err)
		}
		changes = append(changes, store.PutSealed(name, host, fleet.SealedPassphrase{Sealed: sealed, SealKey: key}))
	}
	if _, err := w.store.Apply(changes...); err != nil {
		w.t.Fatal(err)
	}
	w.registry.setBroken(errors.New("the coordinator must not look for it"))
}

func TestPassphraseThatOnlyTheHostCanRead(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.keepByHosts("own", "web1")
		j := w.submit(backup("web1", "own"))
		w.expect(j.ID, job.Running, 1, "")
		a := w.agents["web1"]
		got, err := secret.Open(*a.of(first(j)).order.Passphrase, secret.Purpose{Host: "web1", Repository: "own"}, a.seal)
		if err != nil || !got.Equal(secret.FromString("typed in")) {
			t.Errorf("the host reads another passphrase: %v", err)
		}
	})
}

func TestPassphraseThatIsNotSealed(t *testing.T) {
	check := func(t *testing.T, j job.Job) {
		t.Helper()
		if j.State != job.Failed || j.Attempt != 1 || j.Failure.Code != job.KeyMissing ||
			!strings.Contains(j.Failure.Hint, "borgfleet repo seal own --host web1") {
			t.Errorf("job is %+v, %+v", j, j.Failure)
		}
	}
	t.Run("never was", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.keepByHosts("own", "web2")
			check(t, w.job(w.submit(backup("web1", "own")).ID))
			w.expect(w.submit(backup("web2", "own")).ID, job.Running, 1, "") // the repository is free
		})
	})
	t.Run("no more, when the order goes out again", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.keepByHosts("own", "web1")
			w.link.setFault(func(string) (error, error) { return errLost, nil })
			j := w.submit(backup("web1", "own"))
			w.job(j.ID)
			if _, err := w.store.Apply(store.DeleteSealed("own", "web1")); err != nil { // enrolled anew
				t.Fatal(err)
			}
			w.link.setFault(nil)
			w.hello("web1")
			synctest.Wait()
			check(t, w.job(j.ID))
		})
	})
}

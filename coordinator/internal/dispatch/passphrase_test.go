package dispatch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// submitWith submits with a passphrase of the job's own.
func (w *world) submitWith(request job.Request, passphrase string) (job.Job, error) {
	return w.dispatch().SubmitWith(context.Background(), fleet.Actor{Name: "operator:alice"}, request, secret.FromString(passphrase))
}

// opened returns the passphrase that came with an order.
func (w *world) opened(j job.Job, attempt int) string {
	w.t.Helper()
	a := w.agents[j.Host]
	sealed := a.of(key{j.ID, attempt}).order.Passphrase
	if sealed == nil {
		w.t.Fatalf("the order of attempt %d has no passphrase", attempt)
	}
	value, err := secret.Open(*sealed, secret.Purpose{Host: j.Host, Repository: j.Repository}, a.seal)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(value.Reveal())
}

func TestPassphraseOfAJob(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.registry.setBroken(errors.New("the coordinator must not look for it"))
		j, err := w.submitWith(backup("web1", "web"), "correct horse")
		if err != nil {
			t.Fatal(err)
		}
		w.expect(j.ID, job.Running, 1, "")
		if got := w.opened(j, 1); got != "correct horse" {
			t.Errorf("the host reads %q", got)
		}
		w.agents["web1"].tell(first(j), failed(job.ConnectionLost))
		w.mustDeliver()
		w.restart() // the retry has it too, in another life
		w.hello("web1")
		time.Sleep(time.Minute)
		w.hello("web1")
		w.expect(j.ID, job.Running, 2, "")
		if got := w.opened(j, 2); got != "correct horse" {
			t.Errorf("the host reads %q in the second attempt", got)
		}
		w.agents["web1"].tell(key{j.ID, 2}, failed(job.PassphraseWrong))
		w.mustDeliver()
		w.over(j.ID, job.Failed, job.PassphraseWrong)
		aside, err := w.store.Aside(j.ID)
		if err != nil || aside.Passphrase != nil || !aside.Given {
			t.Errorf("beside the job that is over is %+v, %v", aside, err)
		}
		_, err = w.dispatch().Retry(context.Background(), fleet.Actor{Name: "operator:alice"}, j.ID)
		if f := job.AsFailure(err); f == nil || f.Code != job.Conflict || !strings.Contains(f.Hint, "passphrase") {
			t.Errorf("retry: %v", err)
		}
		checkUnwritten(t, w, "correct horse")
	})
}

// checkUnwritten looks for a secret in every file.
func checkUnwritten(t *testing.T, w *world, text string) {
	t.Helper()
	if err := w.store.Check(); err != nil {
		t.Error(err)
	}
	data, err := os.ReadFile(filepath.Join(w.dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(text)) || bytes.Contains(data, encoded) {
		t.Error("the passphrase is in the database")
	}
}

func TestPassphraseThatCannotBeGiven(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.add("web9")
		for name, test := range map[string]struct {
			request job.Request
			code    job.Code
		}{
			"to a host without a key": {backup("web9", "web"), job.HostUnreachable},
			"for no repository":       {job.Request{Kind: job.Verify, Host: "web1"}, job.InvalidRequest},
		} {
			_, err := w.submitWith(test.request, "correct horse")
			if f := job.AsFailure(err); f == nil || f.Code != test.code || f.Hint == "" {
				t.Errorf("%s: %v", name, err)
			}
		}
		request := backup("web1", "web")
		request.IdempotencyKey = "once"
		j, err := w.submitWith(request, "correct horse")
		if err != nil {
			t.Fatal(err)
		}
		if again, err := w.submitWith(request, "correct horse"); err != nil || again.ID != j.ID {
			t.Errorf("the same key made job %s, %v", again.ID, err)
		}
		_, err = w.dispatch().Submit(context.Background(), fleet.Actor{}, request)
		if f := job.AsFailure(err); f == nil || f.Code != job.Conflict {
			t.Errorf("the same key without the passphrase: %v", err)
		}
	})
}

package dispatch_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestSubmitRefuses(t *testing.T) {
	big := `{"paths":["/` + strings.Repeat("x", job.MaxSpecBytes) + `"]}`
	tests := map[string]struct {
		change func(r *job.Request)
		code   job.Code
		word   string
	}{
		"a plan":             {func(r *job.Request) { r.Plan = "web1-daily" }, job.InvalidRequest, "plan"},
		"no kind":            {func(r *job.Request) { r.Kind = "" }, job.InvalidRequest, "kind"},
		"an unknown kind":    {func(r *job.Request) { r.Kind = "defrag" }, job.UnknownKind, "defrag"},
		"no host":            {func(r *job.Request) { r.Host = "" }, job.InvalidRequest, "host"},
		"an unknown host":    {func(r *job.Request) { r.Host = "web9" }, job.UnknownHost, "web9"},
		"no repository":      {func(r *job.Request) { r.Repository = "" }, job.InvalidRequest, "repository"},
		"unknown repository": {func(r *job.Request) { r.Repository = "nope" }, job.UnknownRepository, "nope"},
		"an empty spec":      {func(r *job.Request) { r.Spec = nil }, job.InvalidSpec, "paths"},
		"two bad fields":     {func(r *job.Request) { r.Spec = json.RawMessage(`{"paths":["etc"],"compression":"rar"}`) }, job.InvalidSpec, "rar"},
		"an unknown field":   {func(r *job.Request) { r.Spec = json.RawMessage(`{"path":["/etc"]}`) }, job.InvalidSpec, "path"},
		"a huge spec":        {func(r *job.Request) { r.Spec = json.RawMessage(big) }, job.TooLarge, "spec"},
		"too many attempts":  {func(r *job.Request) { r.MaxAttempts = 11 }, job.InvalidRequest, "max_attempts"},
		"negative attempts":  {func(r *job.Request) { r.MaxAttempts = -1 }, job.InvalidRequest, "max_attempts"},
		"an absurd priority": {func(r *job.Request) { r.Priority = 101 }, job.InvalidRequest, "priority"},
		"a negative timeout": {func(r *job.Request) { r.Timeout = -1 }, job.InvalidRequest, "timeout"},
		"a timeout of years": {func(r *job.Request) { r.Timeout = 30*86400 + 1 }, job.InvalidRequest, "30 d"},
		"a negative expiry":  {func(r *job.Request) { r.ExpiresIn = -1 }, job.InvalidRequest, "expires_in"},
		"an expiry of years": {func(r *job.Request) { r.ExpiresIn = 366 * 86400 }, job.InvalidRequest, "365 d"},
		"a long key":         {func(r *job.Request) { r.IdempotencyKey = strings.Repeat("k", 201) }, job.InvalidRequest, "idempotency_key"},
	}
	scenario(t, func(t *testing.T, w *world) {
		for name, test := range tests {
			request := backup("web1", "web")
			test.change(&request)
			_, err := w.dispatch().Submit(context.Background(), fleet.Actor{Name: "operator:alice"}, request)
			var f *job.Failure
			if !errors.As(err, &f) || f.Code != test.code || !strings.Contains(f.Message, test.word) {
				t.Errorf("%s: got %v, want code %s and the word %q", name, err, test.code, test.word)
			}
		}
		if page, err := w.dispatch().Jobs(context.Background(), job.Filter{}); err != nil || len(page.Jobs) != 0 {
			t.Errorf("refused requests left %d jobs, %v", len(page.Jobs), err)
		}
	})
}

func TestIdempotencyKey(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		request := backup("web1", "web")
		request.IdempotencyKey = "nightly-1"
		one, two := w.submit(request), w.submit(request)
		if one.ID != two.ID {
			t.Errorf("the same key made jobs %s and %s", one.ID, two.ID)
		}
		w.restart()
		if three := w.submit(request); three.ID != one.ID {
			t.Errorf("after a restart the same key made job %s", three.ID)
		}
		request.Host = "web2"
		_, err := w.dispatch().Submit(context.Background(), fleet.Actor{Name: "operator:alice"}, request)
		if f := job.AsFailure(err); f == nil || f.Code != job.Conflict {
			t.Errorf("the same key with another request: %v", err)
		}
	})
}

func TestTooManyOpenJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, []string{"web1"}, []string{"web"})
		w.halt()
		w.limits.Open = 2
		w.openStore()
		w.start()
		w.submit(backup("web1", "web"))
		w.submit(backup("web1", "web"))
		_, err := w.dispatch().Submit(context.Background(), fleet.Actor{Name: "operator:alice"}, backup("web1", "web"))
		if f := job.AsFailure(err); f == nil || f.Code != job.Unavailable || f.Hint == "" {
			t.Errorf("third job: %v", err)
		}
	})
}

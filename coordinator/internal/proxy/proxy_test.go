package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/linktest"
	"github.com/borgfleet/borgfleet/coordinator/internal/proxy"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// borgless plays a borg that ends at once.
func borgless(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "borg")
	script := "#!/bin/sh\n[ \"$1\" != --version ] || echo borg 1.2.4\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func verifyOrder() bus.Order {
	now := time.Now()
	return bus.Order{
		Host: host, Job: job.NewID(now), Attempt: 1, IssuedAt: now, ExpiresAt: now.Add(bus.OrderLifetime),
		Kind: job.Verify, Spec: json.RawMessage(`{}`),
	}
}

func TestJobsFailAtOnceWhileAPersonMustAct(t *testing.T) {
	runner := local(t, t.TempDir(), borgless(t))
	runner.Problem = func() *job.Failure { return job.Fail(job.HostKeyChanged, "another key") }
	h := newHouse(t, linktest.NewCoordinator(t), func() proxy.Runner { return runner })
	h.begin()
	reply, err := h.service.Order(t.Context(), host, verifyOrder())
	if err != nil || reply.Accepted || reply.Failure.Code != job.HostKeyChanged {
		t.Errorf("answered with %+v, %v", reply, err)
	}
}

func TestOrderForAnotherHostIsNotTaken(t *testing.T) {
	runner := local(t, t.TempDir(), borgless(t))
	h := newHouse(t, linktest.NewCoordinator(t), func() proxy.Runner { return runner })
	h.begin()
	order := verifyOrder()
	order.Host = "web2"
	if reply, err := h.service.Order(t.Context(), host, order); !errors.Is(err, fleet.ErrHostAway) {
		t.Errorf("answered with %+v, %v", reply, err)
	}
}

func TestJobDirectoriesGoWhenTheHostIsBack(t *testing.T) {
	dir := t.TempDir()
	runner := local(t, dir, borgless(t))
	h := newHouse(t, linktest.NewCoordinator(t), func() proxy.Runner { return runner })
	h.begin()
	order := verifyOrder()
	order.Instance = "" // any
	if reply, err := h.service.Order(t.Context(), host, order); err != nil || !reply.Accepted {
		t.Fatalf("answered with %+v, %v", reply, err)
	}
	runs := func() int {
		entries, err := os.ReadDir(filepath.Join(dir, "jobs"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return len(entries)
	}
	patience.Until(t, "the job directory goes", func() bool {
		reply, err := h.service.Order(t.Context(), host, order)
		return err == nil && reply.Over != nil && runs() == 0
	})
}

func TestDetachedHostIsAway(t *testing.T) {
	runner := local(t, t.TempDir(), borgless(t))
	h := newHouse(t, linktest.NewCoordinator(t), func() proxy.Runner { return runner })
	h.begin()
	for _, forget := range []bool{false, true} {
		h.service.Detach(host, forget)
		if h.service.Has(host) {
			t.Error("it is still attached")
		}
		if _, err := h.service.Order(t.Context(), host, verifyOrder()); !errors.Is(err, fleet.ErrHostAway) {
			t.Errorf("order: %v", err)
		}
		if err := h.service.Greet(t.Context(), host); !errors.Is(err, fleet.ErrHostAway) {
			t.Errorf("greet: %v", err)
		}
		_, err := os.Stat(filepath.Join(h.options.Dir, host, "journal.db"))
		if kept := err == nil; kept == forget {
			t.Errorf("with forget %v the journal is kept: %v", forget, kept)
		}
	}
}

func TestGreetTellsWhatIsNew(t *testing.T) {
	core := linktest.NewCoordinator(t)
	runner := local(t, t.TempDir(), borgless(t))
	facts := bus.Hello{OS: "first"}
	runner.Facts = func(context.Context) bus.Hello { return facts }
	h := newHouse(t, core, func() proxy.Runner { return runner })
	h.begin()
	if err := h.service.Greet(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	if got := core.Newest().OS; got != "first" {
		t.Errorf("it said %q", got)
	}
}

func TestNothingIsAttachedAfterTheEnd(t *testing.T) {
	runner := local(t, t.TempDir(), borgless(t))
	h := newHouse(t, linktest.NewCoordinator(t), func() proxy.Runner { return runner })
	h.begin()
	h.end()
	if err := h.service.Attach(runner); err == nil {
		t.Error("a host was attached")
	}
	if h.service.Has(host) {
		t.Error("it is there")
	}
}

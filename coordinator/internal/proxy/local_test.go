package proxy_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/linktest"
	"github.com/borgfleet/borgfleet/coordinator/internal/proxy"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/policy"
	"github.com/borgfleet/borgfleet/shared/probe"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

const host = "web1"

// TestMain lets the test's own binary be the supervisor of what it runs.
func TestMain(m *testing.M) { enginetest.Main(m) }

func logger() hclog.Logger {
	if os.Getenv("PROXY_LOG") != "" {
		return hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: os.Stderr})
	}
	return hclog.NewNullLogger()
}

func newRing(t *testing.T) *secret.Ring {
	t.Helper()
	pair, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := secret.ParseRing(seed)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// noMounts is a host where nothing is mounted.
type noMounts struct{}

func (noMounts) List() ([]string, error)              { return nil, nil }
func (noMounts) Remove(context.Context, string) error { return nil }

// rules let everything through but what the suite has refused.
func rules() policy.Rules {
	return policy.Rules{Kinds: job.Kinds(), Read: []string{"/"}, Repositories: []string{"*"}}
}

// local makes a runner of this machine, with its job directories in dir.
func local(t *testing.T, dir, program string) proxy.Runner {
	t.Helper()
	runs := process.NewLocal(process.Options{
		Root: filepath.Join(dir, "jobs"), Supervisor: enginetest.Supervisor(), Logger: logger(),
	})
	t.Cleanup(runs.Close)
	environment := borg.Environment{Binary: program, BaseDir: filepath.Join(dir, "borg")}
	return proxy.Runner{
		Host: host, Executor: runs, Runs: runs, Mounts: noMounts{}, Policy: rules(), Borg: probe.NewBorg(program),
		Environment: func(context.Context) (borg.Environment, *job.Failure) { return environment, nil },
		Facts:       func(context.Context) bus.Hello { return bus.Hello{OS: "of the test"} },
	}
}

// house is a service that can be ended and made anew.
type house struct {
	t       *testing.T
	options proxy.Options
	runner  func() proxy.Runner
	service *proxy.Service
	end     func()
}

func newHouse(t *testing.T, core *linktest.Coordinator, runner func() proxy.Runner) *house {
	t.Helper()
	h := &house{t: t, runner: runner, end: func() {}, options: proxy.Options{
		Dir: filepath.Join(t.TempDir(), "hosts"), Ring: newRing(t), Sessions: core, Ingest: core, Logger: logger(),
	}}
	t.Cleanup(func() { h.end() })
	return h
}

// begin runs a service, with the host attached and online.
func (h *house) begin() {
	h.t.Helper()
	h.end()
	h.service = proxy.New(h.options)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func(s *proxy.Service) { done <- s.Run(ctx) }(h.service)
	h.end = func() {
		h.end = func() {}
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("run: %v", err)
		}
	}
	if err := h.service.Attach(h.runner()); err != nil {
		h.t.Fatal(err)
	}
	h.service.SetOnline(host, true)
}

func (h *house) subject() linktest.Subject {
	return linktest.Subject{
		Host: host, Link: func() linktest.Link { return h.service }, RestartHost: h.begin,
		Cut:  func() { h.service.SetOnline(host, false) },
		Mend: func() { h.service.SetOnline(host, true) },
	}
}

func TestLinkToThisMachine(t *testing.T) {
	linktest.Run(t, func(t *testing.T, core *linktest.Coordinator, program string) linktest.Subject {
		runner := local(t, t.TempDir(), program)
		h := newHouse(t, core, func() proxy.Runner { return runner })
		h.begin()
		return h.subject()
	})
}

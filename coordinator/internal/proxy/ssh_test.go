package proxy_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/linktest"
	"github.com/borgfleet/borgfleet/coordinator/internal/proxy"
	"github.com/borgfleet/borgfleet/coordinator/internal/remote"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestLinkOverSSH runs the suite against a real sshd.
func TestLinkOverSSH(t *testing.T) {
	linktest.Run(t, func(t *testing.T, core *linktest.Coordinator, program string) linktest.Subject {
		server := sshtest.Start(t, sshtest.Options{})
		dir := filepath.Join(t.TempDir(), "it's $(here)")
		var h *house
		client := sshlink.New(
			sshlink.Config{Host: host, Address: server.Address, HostKeys: []string{server.HostKey}, Signer: server.Signer},
			sshlink.Options{Logger: logger(), Changed: func(s sshlink.State) { h.service.SetOnline(host, s.Connected) }},
		)
		runner := func() proxy.Runner {
			r := remote.New(remote.Options{Shell: client, Host: host, Dir: dir, Borg: program, Logger: logger()})
			return proxy.Runner{
				Host: host, Executor: r.Executor(), Runs: r, Mounts: r.Mounts(), Policy: r.Policy(), Borg: r,
				Environment: func(context.Context) (borg.Environment, *job.Failure) {
					return borg.Environment{Binary: program}, nil
				},
			}
		}
		h = newHouse(t, core, runner)
		h.begin()
		h.service.SetOnline(host, false)
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error)
		go func() { over <- client.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			<-over
		})
		subject := h.subject()
		subject.Cut = server.Stop
		subject.Mend = func() {
			server.Restart()
			client.Poke()
		}
		return subject
	})
}

package agentlink_test

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/agentlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/linktest"
)

// TestLinkToAnAgent runs the suite that every link passes over a real bus.
func TestLinkToAnAgent(t *testing.T) {
	linktest.Run(t, func(t *testing.T, core *linktest.Coordinator, borg string) linktest.Subject {
		b := startBroker(t, t.TempDir())
		p := newPeer(t, b, borg)
		var link *agentlink.Link
		stop := func() {}
		begin := func() { // the coordinator's side
			stop()
			link = agentlink.New(b.Agents(), b.Signer())
			link.HurryStreams(time.Second, linktest.Patience, linktest.Patience)
			receiver := agentlink.NewReceiver(agentlink.Options{
				Agents: b.Agents(), System: b.System(), Account: b.AgentsAccount(), Stream: b, Sessions: core, Ingest: core,
				HostByKey: func(key string) (string, bool) { return "web1", key == p.key }, Logger: hclog.NewNullLogger(),
			})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() { done <- receiver.Run(ctx) }()
			stop = func() {
				stop = func() {}
				cancel()
				if err := <-done; err != nil {
					t.Errorf("receiver: %v", err)
				}
			}
		}
		t.Cleanup(func() { stop() })
		begin()
		p.begin()
		return linktest.Subject{
			Host: "web1", Link: func() linktest.Link { return link }, RestartHost: p.begin, RestartCoordinator: begin,
			Cut: p.cut, Mend: p.mend,
		}
	})
}

package agentlink_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// TestAHostThatFloodsKeepsNoOtherWaiting: whatever one host sends, and however
// long the answer takes, other hosts are answered.
func TestAHostThatFloodsKeepsNoOtherWaiting(t *testing.T) {
	b, s := startBroker(t, t.TempDir()), newService()
	s.stuck = "rogue"
	receive(t, b, s)
	rogue, web1 := connect(t, b, "rogue"), connect(t, b, "web1")
	hello(t, web1, "web1") // both of it and the receiver are there
	for range 1000 {
		if err := rogue.PublishRequest(bus.HelloSubject("rogue"), rogue.NewInbox(), encode(t, bus.Hello{Host: "rogue"})); err != nil {
			t.Fatal(err)
		}
	}
	if err := rogue.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	if _, err := web1.Request(bus.HelloSubject("web1"), encode(t, bus.Hello{Host: "web1"}), bus.RequestTimeout/2); err != nil {
		t.Errorf("web1 within %s: %v", bus.RequestTimeout/2, err)
	}
	s.look(func() {
		if len(s.hellos) > 20 {
			t.Errorf("%d hellos were looked into", len(s.hellos))
		}
	})
}

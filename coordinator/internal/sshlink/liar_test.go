package sshlink_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// A server that leaves all sessions open costs goroutines and memory: it is left.
func TestAServerThatClosesNoSessionsIsLeft(t *testing.T) {
	t.Parallel()
	c := connect(t, config(sshtest.Start(t, sshtest.Options{})), sshlink.Options{})
	c.connected(t)
	for range sshlink.MaxUnclosed - 1 { // a script of ours needs one, too
		t.Cleanup(sshlink.LeaveOpen(c.Client))
	}
	answer(t, c.Client, "echo still here", "")
	for _, state := range c.told() {
		if state.Failure != nil {
			t.Errorf("left too early: %v", state.Failure)
		}
	}
	for range 2 {
		t.Cleanup(sshlink.LeaveOpen(c.Client))
	}
	patience.Until(t, "the connection to be ended", func() bool {
		for _, state := range c.told() {
			if state.Failure != nil {
				return true
			}
		}
		return false
	})
}

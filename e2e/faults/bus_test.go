package faults_test

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// externalBus is a NATS server of its own, on a machine of its own.
type externalBus struct {
	*harness.Process
	machine *lab.Machine
	argv    []string
	t       testing.TB
}

// startBus takes the embedded bus of a coordinator out of it, as its users do,
// and tells start where it is.
func startBus(w *world, start *harness.CoordinatorOptions, dir string) *externalBus {
	w.t.Helper()
	if start.Data == "" {
		start.Data = filepath.Join(w.t.TempDir(), "coordinator")
	}
	if dir == "" {
		dir = w.t.TempDir()
	}
	first := harness.StartCoordinatorWith(w.t, *start)
	first.Terminate(w.t)
	b := &externalBus{machine: w.lab.Machine("bus"), t: w.t}
	address := net.JoinHostPort(b.machine.Address, strconv.Itoa(harness.FreePort(w.t)))
	start.Config = first.MustCLI("bus", "export", filepath.Join(dir, "bus"), "--listen", address, "--tls-names", b.machine.Address)
	b.argv = append(b.machine.Prefix(), harness.NATSServer(w.t), "-c", filepath.Join(dir, "bus", "nats-server.conf"))
	b.Restart()
	return b
}

// Restart starts the server, for the first time or again.
func (b *externalBus) Restart() {
	b.t.Helper()
	b.Process = harness.Start(b.t, "nats-server", nil, b.argv...)
}

// Faults of the bus and of the coordinator's link to it.
var (
	killBus    = breakage{"kill", func(s *scene) { s.bus.Kill() }, 2 * time.Second, func(s *scene) { s.bus.Restart() }}
	stopBus    = breakage{"stop", func(s *scene) { s.bus.Stop() }, stopTime, func(s *scene) { s.bus.Continue() }}
	restartBus = breakage{"restart", func(s *scene) { s.bus.Terminate(s.t) }, 0, func(s *scene) { s.bus.Restart() }}
	cutBus     = breakage{"cut", func(s *scene) { s.bus.machine.Link.Cut() }, cutTime, func(s *scene) { s.bus.machine.Link.Heal() }}
)

func busCases() []scenario {
	cases := []scenario{
		broken("bus", queued, killBus),
		broken("bus", coordinatorAt(fault.OrderStored), killBus),
		broken("bus", agentAt(fault.OrderJournaled), killBus),
		quick(broken("bus", middle, killBus)),
		broken("bus", agentAt(fault.FinishedJournaled), killBus),
		broken("bus", agentAt(fault.FinishedPublished), killBus),
		broken("bus", coordinatorAt(fault.EventStored), killBus),
		ends(broken("bus", cancelling, killBus), job.Cancelled),
		broken("bus", middle, stopBus),
		broken("bus", agentAt(fault.FinishedJournaled), stopBus),
		broken("bus", middle, restartBus),
		broken("bus", middle, cutBus),
		ends(broken("bus", cancelling, cutBus), job.Cancelled),
		broken("bus, coordinator", middle, killCoordinator),
	}
	for i := range cases {
		cases[i].name = fmt.Sprintf("external %s", cases[i].name)
		cases[i].options = func(testing.TB) options { return options{external: true} }
	}
	// A nats-server whose disk was full takes nothing more before it is started again.
	fill := breakage{"disk full", func(s *scene) { s.disk.Fill() }, fullTime, func(s *scene) {
		s.disk.Free()
		s.bus.Terminate(s.t)
		s.bus.Restart()
	}}
	ofBus := func(o *options, d *lab.Disk) { o.external, o.busDisk = true, d }
	return append(cases, onDisk(broken("external bus", agentAt(fault.FinishedJournaled), fill), 64, ofBus))
}

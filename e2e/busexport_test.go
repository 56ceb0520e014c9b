package e2e_test

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// ownBus is a fleet whose embedded bus was exported to a nats-server that has
// taken its place.
type ownBus struct {
	c       *harness.Coordinator
	agent   *harness.Agent
	alice   string // a person's credentials from before
	dir     string // of the export
	address string // of the bus
	config  string // of the coordinator
	server  *harness.Process
}

func exportBus(t *testing.T) *ownBus {
	t.Helper()
	before := harness.StartCoordinator(t)
	o := &ownBus{agent: before.AddAgent("web1", harness.AgentOptions{}), dir: filepath.Join(t.TempDir(), "bus")}
	o.alice = filepath.Join(t.TempDir(), "alice.creds")
	if err := os.WriteFile(o.alice, []byte(before.MustCLI("nats-creds", "alice", "--role", "operator")), 0o600); err != nil {
		t.Fatal(err)
	}
	parsed, err := url.Parse(before.Bus)
	if err != nil {
		t.Fatal(err)
	}
	o.address = parsed.Host
	before.Terminate(t)
	config := before.MustCLI("bus", "export", "--config", os.DevNull, "--listen", o.address, o.dir)
	o.config = filepath.Join(t.TempDir(), "coordinator.yaml")
	if err := os.WriteFile(o.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	o.start(t)
	o.c = harness.StartCoordinatorWith(t, harness.CoordinatorOptions{Data: before.Data, Config: config, HTTPListen: before.HTTP[len("http://"):]})
	return o
}

// start starts the server and waits until it listens.
func (o *ownBus) start(t *testing.T) {
	t.Helper()
	o.server = harness.Start(t, "nats-server", nil, harness.NATSServer(t), "-c", filepath.Join(o.dir, "nats-server.conf"))
	harness.Eventually(t, "the nats-server to listen", func() error {
		if !o.server.Alive() {
			t.Fatalf("it ended:\n%s", o.server.Output())
		}
		connection, err := net.Dial("tcp", o.address)
		if err != nil {
			return err
		}
		return connection.Close()
	})
}

func ready(c *harness.Coordinator) error {
	response, err := http.Get(c.HTTP + "/readyz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New("readyz says " + response.Status)
	}
	return nil
}

func notReady(c *harness.Coordinator) error {
	if ready(c) == nil {
		return errors.New("it is ready")
	}
	return nil
}

// TestTheEmbeddedBusOutgrown: hosts and people go on with what they have, new
// ones come as before, and the bus may die and stand still.
func TestTheEmbeddedBusOutgrown(t *testing.T) {
	t.Parallel()
	o := exportBus(t)
	o.c.AwaitOnline("web1")
	r := addRepository(o.c, "main", "web1")
	o.c.AddAgent("web2", harness.AgentOptions{}) // its credentials end within a day
	alice := o.c.Dial(o.alice)
	answer, err := alice.Request(bus.StatusSubject, nil, harness.Patience)
	if err != nil || !json.Valid(answer.Data) || answer.Header.Get("Nats-Service-Error") != "" {
		t.Errorf("alice is answered %v (%v)", answer, err)
	}
	bob := filepath.Join(t.TempDir(), "bob.creds")
	if err := os.WriteFile(bob, []byte(o.c.MustCLI("nats-creds", "bob", "--role", "viewer")), 0o600); err != nil {
		t.Fatal(err)
	}
	o.c.Dial(bob)

	for _, fault := range o.faults(t) {
		j, borg := hold(t, o.c, "web1", r)
		fault.happen()
		began := time.Now()
		harness.Eventually(t, "the coordinator to be ready again", func() error { return ready(o.c) })
		t.Logf("%s: ready again after %s", fault.name, time.Since(began))
		signal(t, borg, syscall.SIGCONT)
		if done := o.c.Await(j.ID, job.Succeeded); done.Attempt != 1 {
			t.Errorf("%s: %d attempts", fault.name, done.Attempt)
		}
	}
}

// fault is what happens to a bus.
type fault struct {
	name   string
	happen func()
}

func (o *ownBus) faults(t *testing.T) []fault {
	missed := func() {
		harness.Eventually(t, "the coordinator to miss the bus", func() error { return notReady(o.c) })
	}
	return []fault{
		{"killed", func() {
			o.server.Kill()
			missed()
			o.start(t)
		}},
		{"stopped for a while", func() {
			signal(t, o.server.PID(), syscall.SIGSTOP)
			missed()
			signal(t, o.server.PID(), syscall.SIGCONT)
		}},
		{"killed, and its disk lost", func() {
			o.server.Kill()
			if err := os.RemoveAll(filepath.Join(o.dir, "store")); err != nil {
				t.Fatal(err)
			}
			o.start(t)
		}},
	}
}

// TestACoordinatorWaitsForItsBus rather than to end.
func TestACoordinatorWaitsForItsBus(t *testing.T) {
	t.Parallel()
	o := exportBus(t)
	o.c.AwaitOnline("web1")
	o.c.Terminate(t)
	o.server.Kill()
	process := harness.Start(t, "coordinator without a bus", nil, harness.Binary(t, "borgfleet"), "serve",
		"--config", o.config, "--data", o.c.Data, "--http", o.c.HTTP[len("http://"):], "--depot", o.c.Depot)
	harness.Eventually(t, "the coordinator to say that it waits", func() error {
		if !process.Alive() {
			t.Fatal("it ended")
		}
		response, err := http.Get(o.c.HTTP + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable {
			return errors.New("readyz says " + response.Status)
		}
		return nil
	})
	o.start(t)
	harness.Eventually(t, "the coordinator to be ready", func() error { return ready(o.c) })
	o.c.AwaitOnline("web1")
}

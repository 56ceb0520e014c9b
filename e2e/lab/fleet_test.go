package lab_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestFleetOnMachinesAroundTheHub has all verbs of the harness in one scene: a coordinator
// on the hub, an agent and an sshd on machines, links and points between.
func TestFleetOnMachinesAroundTheHub(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	host, store, points := l.Machine("web1"), l.Machine("store"), l.Points("coordinator")
	c := harness.StartCoordinatorWith(t, harness.CoordinatorOptions{
		Env: points.Env(), BusListen: net.JoinHostPort(l.Hub(), "0"), // its page stays on loopback: only the test reads it
	})
	bus, err := url.Parse(c.Bus)
	if err != nil {
		t.Fatal(err)
	}
	sshd := harness.StartSSHDWith(t, harness.SSHDOptions{Prefix: store.Prefix(), Listen: store.Address})
	relay := host.Link.Relay(bus.Host)
	agent := c.AddAgent("web1", harness.AgentOptions{
		Prefix: host.Prefix(), Data: filepath.Join(t.TempDir(), "agent"), BusURLs: []string{"tls://" + relay},
		Config: fmt.Sprintf("borg:\n  rsh: %q\n", sshd.RSH()),
	})
	c.MustCLI("repo", "add", "main", "--location", sshd.URLAt(host.Link.Reach(sshd.HostPort()), t.TempDir()+"/r"),
		"--passphrase-file", passphrase(t))

	points.Arm(fault.OrderStored)
	init := c.Submit(`{"host":"web1","kind":"init","repository":"main"}`)
	points.AwaitReached(fault.OrderStored)
	host.Link.Cut()
	points.Release(fault.OrderStored)
	c.Stop()
	c.Continue()
	host.Link.Heal()
	c.Await(init.ID, job.Succeeded)
	c.Kill()
	agent.Kill()
	c.Restart()
	agent.Restart()
	c.AwaitOnline("web1")
	if !strings.Contains(agent.Output(), relay) {
		t.Errorf("the agent did not come over its link, %s:\n%s", relay, agent.Output())
	}
}

func passphrase(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(path, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

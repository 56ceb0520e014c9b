package daemon_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/coordinator/internal/daemon"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

const patience = time.Minute

// TestMain lets the test's own binary be the supervisor of what it runs.
func TestMain(m *testing.M) { enginetest.Main(m) }

// coordinator is a whole one in this process.
type coordinator struct {
	t      *testing.T
	config config.Config
	client *client.Client
	end    func()
}

func newCoordinator(t *testing.T) *coordinator {
	t.Helper()
	c := &coordinator{t: t, config: config.Default(), end: func() {}}
	c.config.Data = filepath.Join(t.TempDir(), "data")
	c.config.HTTP.Listen, c.config.Bus.Listen, c.config.Depot.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.config.Limits.PerHost = 4
	t.Cleanup(func() { c.end() })
	c.begin()
	return c
}

// begin starts it, after it was ended.
func (c *coordinator) begin() {
	c.t.Helper()
	c.end()
	output := &hclog.LoggerOptions{Level: hclog.Info, Output: c.t.Output()}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() {
		over <- daemon.Run(ctx, daemon.Options{
			Config: c.config, Supervisor: enginetest.Supervisor(), Out: c.t.Output(), Logger: hclog.New(output),
		})
	}()
	c.end = func() {
		c.end = func() {}
		cancel()
		if err := <-over; err != nil {
			c.t.Errorf("the coordinator ended: %v", err)
		}
	}
	var endpoints daemon.Endpoints
	c.until("the coordinator listens", func() bool {
		data, err := os.ReadFile(filepath.Join(c.config.Data, daemon.EndpointsFile))
		return err == nil && json.Unmarshal(data, &endpoints) == nil
	})
	token, err := secret.ReadFile(filepath.Join(c.config.Data, daemon.LocalTokenFile))
	if err != nil {
		c.t.Fatal(err)
	}
	if c.client, err = client.New(client.Options{URL: endpoints.HTTP, Token: string(token.Reveal())}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *coordinator) until(what string, done func() bool) {
	c.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !done(); <-tick.C {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// add adds a host that is reached at a server.
func (c *coordinator) add(name string, server *sshtest.Server, reach fleet.Reach) {
	c.t.Helper()
	key, err := os.ReadFile(server.Identity)
	if err != nil {
		c.t.Fatal(err)
	}
	_, err = c.client.AddSSHHost(c.t.Context(), fleet.NewSSHHost{
		Name: name, Reach: reach, Key: secret.New(key), Labels: map[string]string{},
		SSHAccess: fleet.SSHAccess{
			Address: server.Address, HostKeys: []string{server.HostKey}, Dir: filepath.Join(c.t.TempDir(), "on "+name), Slots: 2,
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.until(name+" is there", func() bool {
		view := c.host(name)
		return view.Online && !view.Disabled && view.SSHKey != ""
	})
}

func (c *coordinator) host(name string) fleet.HostView {
	c.t.Helper()
	view, err := c.client.Host(c.t.Context(), name)
	if err != nil {
		c.t.Fatal(err)
	}
	return view
}

func (c *coordinator) submit(request job.Request) job.ID {
	c.t.Helper()
	submitted, err := c.client.SubmitJob(c.t.Context(), request)
	if err != nil {
		c.t.Fatal(err)
	}
	return submitted.ID
}

// ends waits for a job's end.
func (c *coordinator) ends(id job.ID) job.Job {
	c.t.Helper()
	var j job.Job
	c.until("job "+string(id)+" ends", func() bool {
		var err error
		j, err = c.client.Job(c.t.Context(), id)
		return err == nil && j.State.Terminal()
	})
	return j
}

func (c *coordinator) succeeds(request job.Request) job.Job {
	c.t.Helper()
	j := c.ends(c.submit(request))
	if j.State != job.Succeeded {
		c.t.Fatalf("%s of %s ended as %s: %v %s", j.Kind, j.Repository, j.State, j.Failure, j.Reason)
	}
	return j
}

// depotRepository adds a repository in the depot, and makes it.
func (c *coordinator) depotRepository(name string) {
	c.t.Helper()
	_, err := c.client.AddRepository(c.t.Context(), fleet.NewRepository{
		Name: name, Location: job.DepotLocation, Generate: true, Depot: &fleet.Depot{AppendOnly: true, Hosts: []string{"*"}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.until("the coordinator's own machine is there", func() bool { return c.host(fleet.LocalHost).Online })
	c.succeeds(job.Request{Kind: job.Init, Repository: name, Spec: json.RawMessage(`{}`)})
}

func backupOf(host, repository, path string) job.Request {
	return job.Request{Kind: job.Backup, Host: host, Repository: repository, Spec: json.RawMessage(fmt.Sprintf(`{"paths": [%q]}`, path))}
}

func TestHostOverSSHReachesTheDepotEitherWay(t *testing.T) {
	c, server := newCoordinator(t), sshtest.Start(t, sshtest.Options{})
	c.depotRepository("shared")
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, reach := range map[string]fleet.Reach{"direct": fleet.ReachDepot, "tunnelled": fleet.ReachTunnel} {
		c.add(name, server, reach)
		c.succeeds(backupOf(name, "shared", source))
	}
	c.begin() // everything is found again
	c.until("both hosts are back", func() bool { return c.host("direct").Online && c.host("tunnelled").Online })
	c.succeeds(backupOf("tunnelled", "shared", source))
	listed := c.succeeds(job.Request{Kind: job.List, Repository: "shared", Spec: json.RawMessage(`{}`)})
	if got := len(listed.Result.Archives); got != 3 {
		t.Errorf("%d archives, want 3", got)
	}
}

func TestHostWithAnotherKeyIsNotUsed(t *testing.T) {
	c, server := newCoordinator(t), sshtest.Start(t, sshtest.Options{})
	c.add("web1", server, fleet.ReachDepot)
	server.NewHostKey()
	server.Restart()
	c.until("it is noticed", func() bool {
		view := c.host("web1")
		return view.Problem != nil && view.Problem.Code == job.HostKeyChanged
	})
	j := c.ends(c.submit(job.Request{Kind: job.Verify, Host: "web1", Spec: json.RawMessage(`{}`)}))
	if j.State != job.Failed || j.Failure.Code != job.HostKeyChanged {
		t.Errorf("a job ended as %s: %v", j.State, j.Failure)
	}
}

func TestHostThatIsAwayKeepsItsJobs(t *testing.T) {
	c, server := newCoordinator(t), sshtest.Start(t, sshtest.Options{})
	c.add("web1", server, fleet.ReachDepot)
	server.Stop()
	c.until("it is away", func() bool { return !c.host("web1").Online })
	id := c.submit(job.Request{Kind: job.Verify, Host: "web1", Spec: json.RawMessage(`{}`)})
	server.Restart()
	if j := c.ends(id); j.State != job.Succeeded && j.State != job.Warning {
		t.Errorf("it ended as %s: %v", j.State, j.Failure)
	}
	if err := c.client.RemoveHost(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	c.until("its journal is gone", func() bool {
		_, err := os.Stat(filepath.Join(c.config.Data, "hosts", "web1"))
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestDepotPortInUse(t *testing.T) {
	c := newCoordinator(t)
	depot, err := c.client.Depot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := c.config
	second.Data, second.Depot.Listen = filepath.Join(t.TempDir(), "data"), depot.Address
	err = daemon.Run(t.Context(), daemon.Options{Config: second, Out: t.Output(), Logger: hclog.NewNullLogger()})
	if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Hint == "" {
		t.Errorf("it ended with %v", err)
	}
}

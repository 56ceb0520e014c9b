package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// From nothing: three commands on the coordinator's host (serve, host token,
// backup --create) and one on the new host to a finished first backup.
func TestFourCommandsToAFirstBackup(t *testing.T) {
	t.Parallel()
	began := time.Now()
	c := harness.StartCoordinator(t) // borgfleet serve
	said := c.MustCLI("host", "token", "web1")
	command := regexp.MustCompile(`borgfleet-agent enroll --token (\S+)`).FindStringSubmatch(said)
	if command == nil {
		t.Fatalf("host token does not print the command to run on the host:\n%s", said)
	}
	dir := t.TempDir()
	enrolling := time.Now()
	agent := harness.Start(t, "agent web1", nil, harness.Binary(t, "borgfleet-agent"), "enroll", "--token", command[1],
		"--config", filepath.Join(dir, "agent.yaml"), "--data", filepath.Join(dir, "agent"), "--run")
	t.Cleanup(func() { harness.KillAll(t, dir) })
	c.AwaitOnline("web1")
	t.Logf("from the enrol command to connected: %s", time.Since(enrolling))

	files := t.TempDir()
	harness.MakeTree(t, files, 50, 10_000)
	location := filepath.Join(t.TempDir(), "repository")
	out := c.MustCLI("backup", "--host", "web1", "--repo", "web1-main", "--create", location, "--generate-passphrase", files)
	if !strings.Contains(out, "backup of web1 into web1-main: succeeded") {
		t.Errorf("backup says:\n%s", out)
	}
	passphrase := regexp.MustCompile(`(?m)^[A-Z2-7]{52}$`).FindString(out)
	if names := harness.Archives(t, location, passphrase); len(names) != 1 {
		t.Errorf("archives %v", names)
	}
	t.Logf("from nothing to the first backup: %s", time.Since(began))
	if code := agent.Terminate(t); code != 0 {
		t.Errorf("the agent ended with %d", code)
	}
	for _, name := range []string{"agent.yaml", "agent.creds"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v (%v)", name, info, err)
		}
	}
}

// enroll runs the command on a fresh host.
func enroll(t *testing.T, token string, flags ...string) (harness.Result, string) {
	t.Helper()
	dir := t.TempDir()
	args := append([]string{"enroll", "--token", token, "--config", filepath.Join(dir, "agent.yaml"), "--data", filepath.Join(dir, "agent"), "--no-service"}, flags...)
	return harness.Run(t, nil, harness.Binary(t, "borgfleet-agent"), args...), dir
}

// What is wrong with a token is said in one line, and leaves neither a
// configuration on the host nor a host at the coordinator.
func TestBadEnrolmentTokens(t *testing.T) {
	t.Parallel()
	c, other := harness.StartCoordinator(t), harness.StartCoordinator(t)
	good := c.EnrolmentToken("web1")
	spent := c.EnrolmentToken("web2")
	r, home := enroll(t, spent)
	if r.Code != 0 {
		t.Fatalf("enroll: %s%s", r.Stdout, r.Stderr)
	}
	var removed struct{ ID, Token string }
	if err := json.Unmarshal([]byte(c.MustCLI("host", "token", "web4", "--json")), &removed); err != nil {
		t.Fatal(err)
	}
	if response, err := c.Request("DELETE", "/api/v1/enrolment-tokens/"+removed.ID, ""); err != nil || response.StatusCode != 204 {
		t.Fatalf("remove token: %v (%v)", response, err)
	}
	for name, test := range map[string]struct {
		token, says string
		flags       []string
	}{
		"truncated":       {good[:len(good)-7], "whole enrolment token", nil},
		"no token":        {"hello", "whole enrolment token", nil},
		"spent":           {spent, "used", nil},
		"removed":         {removed.Token, "does not know", nil},
		"another CA":      {good, "another authority", []string{"--url", other.Bus}},
		"nobody there":    {good, "nothing usable answers", []string{"--url", fmt.Sprintf("tls://127.0.0.1:%d", harness.FreePort(t))}},
		"not a server's":  {good, "url", []string{"--url", "gopher://x"}},
		"on another host": {good, "is of host web2", []string{"--config", filepath.Join(home, "other.yaml")}},
	} {
		t.Run(name, func(t *testing.T) {
			r, dir := enroll(t, test.token, test.flags...)
			if r.Code == 0 || strings.Count(r.Stderr, "\n") != 1 || !strings.Contains(r.Stderr, test.says) {
				t.Errorf("exit code %d, says %q, want %q", r.Code, r.Stderr, test.says)
			}
			if strings.Contains(r.Stdout+r.Stderr, good) {
				t.Error("the token is repeated")
			}
			if _, err := os.Stat(filepath.Join(dir, "agent.yaml")); err == nil {
				t.Error("a configuration was written")
			}
		})
	}
	if r := c.CLI("host", "token", "web2"); r.Code == 0 || !strings.Contains(r.Stderr, "--replace") {
		t.Errorf("a token for a host that has an identity: exit code %d, %s", r.Code, r.Stderr)
	}
	if r, _ := enroll(t, good); r.Code != 0 {
		t.Errorf("after all that the good token does not work: %s", r.Stderr)
	}
}

// A host that is enrolled again with --replace takes the place of the old one,
// which is cut off.
func TestReplacingAHost(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	old := c.AddAgent("web1", harness.AgentOptions{})
	r, dir := enroll(t, c.EnrolmentToken("web1", "--replace"))
	if r.Code != 0 {
		t.Fatalf("enroll: %s%s", r.Stdout, r.Stderr)
	}
	harness.Eventually(t, "the old agent to be refused", func() error {
		status := harness.Run(t, nil, harness.Binary(t, "borgfleet-agent"), "status", "--data", old.Data, "--json")
		if !strings.Contains(status.Stdout, "does not accept the credentials") {
			return fmt.Errorf("status: %s%s", status.Stdout, status.Stderr)
		}
		return nil
	})
	old.Kill()
	harness.Start(t, "new agent", nil, harness.Binary(t, "borgfleet-agent"), "run", "--config", filepath.Join(dir, "agent.yaml"), "--data", filepath.Join(dir, "agent"))
	t.Cleanup(func() { harness.KillAll(t, dir) })
	c.AwaitOnline("web1")
	c.AddRepository("main")
	c.Init("web1", "main")
}

// A removed host is cut off at once and for good, its queued jobs are dropped,
// and what it ran does not hold the repository any more.
func TestRemovingAHostCutsItOff(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	agent := c.AddAgent("web1", harness.AgentOptions{})
	c.AddAgent("web2", harness.AgentOptions{})
	c.AddRepository("main")
	c.Init("web1", "main")
	files := t.TempDir()
	harness.MakeTree(t, files, 16, 1<<20)
	submit := func(host string) job.Job {
		return c.Submit(fmt.Sprintf(`{"host":%q,"kind":"backup","repository":"main","spec":{"paths":[%q],"compression":"lzma,9"}}`, host, files))
	}
	running := submit("web1")
	c.Await(running.ID, job.Running)
	queued := submit("web1")

	began := time.Now()
	c.MustCLI("host", "remove", "web1", "--yes")
	harness.Eventually(t, "the agent to be cut off", func() error {
		if !strings.Contains(agent.Output(), "disconnected from the bus") {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	t.Logf("from the remove command to cut off: %s", time.Since(began))
	c.Await(queued.ID, job.Cancelled)
	if j := c.Await(running.ID, job.Failed); j.Failure == nil || j.Failure.Code != job.Interrupted {
		t.Errorf("the running job: %+v", j.Failure)
	}
	harness.Eventually(t, "the agent to be refused", func() error {
		status := harness.Run(t, nil, harness.Binary(t, "borgfleet-agent"), "status", "--data", agent.Data, "--json")
		if !strings.Contains(status.Stdout, "does not accept the credentials") {
			return fmt.Errorf("status: %s%s", status.Stdout, status.Stderr)
		}
		return nil
	})
	c.Terminate(t)
	c.Restart()
	if response, err := c.Request("GET", "/api/v1/hosts/web1", ""); err != nil || response.StatusCode != 404 {
		t.Errorf("after a restart: %v (%v)", response.Status, err)
	}
	c.AwaitOnline("web2")
	list := c.Submit(`{"host":"web2","kind":"list","repository":"main"}`)
	c.Await(list.ID, job.Running, job.Succeeded) // the repository is free here, also while borg's own lock is not
}

// Keys can be rotated while a job runs: the job is not touched, and the agent
// goes on with the new keys.
func TestRotatingKeysWhileAJobRuns(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	agent := c.AddAgent("web1", harness.AgentOptions{})
	location, passphrase := c.AddRepository("main")
	c.Init("web1", "main")
	files := t.TempDir()
	harness.MakeTree(t, files, 30, 1<<20)
	running := c.Submit(fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q],"compression":"lzma,6"}}`, files))
	c.Await(running.ID, job.Running)
	identity := func() (key, seal string) {
		var host struct {
			PublicKey string `json:"public_key"`
			SealKey   string `json:"seal_key"`
		}
		if err := c.Get("/api/v1/hosts/web1", &host); err != nil {
			t.Fatal(err)
		}
		return host.PublicKey, host.SealKey
	}
	key, seal := identity()
	stolen, err := os.ReadFile(filepath.Join(agent.Dir, "agent.creds"))
	if err != nil {
		t.Fatal(err)
	}
	r := harness.Run(t, nil, harness.Binary(t, "borgfleet-agent"), "rotate", "--config", filepath.Join(agent.Dir, "agent.yaml"), "--data", agent.Data)
	if r.Code != 0 {
		t.Fatalf("rotate: %s%s", r.Stdout, r.Stderr)
	}
	if done := c.Await(running.ID, job.Succeeded); done.Attempt != 1 {
		t.Errorf("the running job took %d attempts", done.Attempt)
	}
	harness.Eventually(t, "the new keys to count", func() error {
		if k, s := identity(); k == key || s == seal {
			return fmt.Errorf("identity %s, seal key %s", k, s)
		}
		return nil
	})
	again := c.Submit(fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q]}}`, files))
	c.Await(again.ID, job.Succeeded)
	if names := harness.Archives(t, location, passphrase); len(names) != 2 {
		t.Errorf("archives %v", names)
	}
	old := filepath.Join(t.TempDir(), "old.creds")
	if err := os.WriteFile(old, stolen, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tryDial(c, old); err == nil {
		t.Error("the old credentials still work")
	}
}

// An agent behind a proxy for HTTP only enrols, and works, over a websocket.
func TestEnrolmentOverAWebsocket(t *testing.T) {
	t.Parallel()
	port := harness.FreePort(t)
	c := harness.StartCoordinator(t, "--config", settings(t, fmt.Sprintf("bus: {websocket: \"127.0.0.1:%d\"}\n", port)))
	dir := t.TempDir()
	harness.Start(t, "agent web1", nil, harness.Binary(t, "borgfleet-agent"), "enroll", "--token", c.EnrolmentToken("web1"),
		"--url", fmt.Sprintf("wss://127.0.0.1:%d", port), "--config", filepath.Join(dir, "agent.yaml"), "--data", filepath.Join(dir, "agent"), "--run")
	t.Cleanup(func() { harness.KillAll(t, dir) })
	c.AwaitOnline("web1")
	if config, err := os.ReadFile(filepath.Join(dir, "agent.yaml")); err != nil || !strings.Contains(string(config), "wss://") {
		t.Errorf("agent.yaml does not name the websocket: %s (%v)", config, err)
	}
	c.AddRepository("main")
	c.Init("web1", "main")
}

// With a certificate of somebody else's authority, hosts trust that one.
func TestGivenCertificate(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t, "--config", certificate(t, time.Hour))
	c.AddAgent("web1", harness.AgentOptions{})
	c.AddRepository("main")
	c.Init("web1", "main")
	if _, err := os.Stat(filepath.Join(c.Data, "tls")); err == nil {
		t.Error("an authority was made that nobody needs")
	}
	if !strings.Contains(c.MustCLI("status"), "certificate") {
		t.Error("the status does not say that the certificate ends soon")
	}
}

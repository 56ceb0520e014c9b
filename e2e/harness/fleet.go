package harness

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Coordinator is a running `borgfleet serve` with its own data directory.
type Coordinator struct {
	*Process
	Data    string // its state
	HTTP    string // http://127.0.0.1:…
	Bus     string // tls://127.0.0.1:…
	Depot   string // host:port
	t       testing.TB
	options CoordinatorOptions
}

// CoordinatorOptions are what tests choose about a coordinator. The zero value
// is one on free ports of loopback with a fresh data directory.
type CoordinatorOptions struct {
	Flags  []string // further ones of serve
	Env    []string // besides the test's own
	Data   string   // its state
	Config string   // the configuration file's text
	// Where it listens, as host:port; port 0 is a free one.
	HTTPListen, BusListen, DepotListen string
}

// Endpoints is what the coordinator writes into its data directory once it
// listens, for the command line on the same machine.
type Endpoints struct {
	HTTP  string `json:"http"`
	Bus   string `json:"bus"`
	Depot string `json:"depot"`
}

// StartCoordinator starts a coordinator in a fresh data directory, on free
// ports, and waits until it is ready. Flags are further ones of serve.
func StartCoordinator(t testing.TB, flags ...string) *Coordinator {
	t.Helper()
	return StartCoordinatorWith(t, CoordinatorOptions{Flags: flags})
}

// StartCoordinatorWith is StartCoordinator for tests that choose more.
func StartCoordinatorWith(t testing.TB, o CoordinatorOptions) *Coordinator {
	t.Helper()
	dir := t.TempDir()
	config := os.DevNull
	if o.Config != "" {
		config = filepath.Join(dir, "coordinator.yaml")
		if err := os.WriteFile(config, []byte(o.Config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o.Config = config
	o.Data = cmp.Or(o.Data, filepath.Join(dir, "coordinator"))
	c := &Coordinator{Data: o.Data, t: t, options: o}
	const free = "127.0.0.1:0"
	c.start(cmp.Or(o.HTTPListen, free), cmp.Or(o.BusListen, free), cmp.Or(o.DepotListen, free))
	return c
}

func (c *Coordinator) start(httpListen, busListen, depotListen string) {
	c.t.Helper()
	endpoints := filepath.Join(c.Data, "endpoints.json")
	_ = os.Remove(endpoints)
	argv := append([]string{
		Binary(c.t, "borgfleet"), "serve", "--config", c.options.Config, "--data", c.Data, "--http", httpListen, "--bus", busListen, "--depot", depotListen,
	}, c.options.Flags...)
	c.Process = Start(c.t, "coordinator", c.options.Env, argv...)
	Eventually(c.t, "the coordinator to be ready", func() error {
		if !c.Alive() {
			c.t.Fatalf("the coordinator ended:\n%s", c.Output())
		}
		var e Endpoints
		data, err := os.ReadFile(endpoints)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return err
		}
		c.HTTP, c.Bus, c.Depot = e.HTTP, e.Bus, e.Depot
		response, err := http.Get(c.HTTP + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz says %s", response.Status)
		}
		return nil
	})
}

// Restart starts the coordinator again, after Kill or Terminate, on the same
// data and the same addresses.
func (c *Coordinator) Restart() {
	c.t.Helper()
	c.start(hostPort(c.t, c.HTTP), hostPort(c.t, c.Bus), c.Depot)
}

func hostPort(t testing.TB, address string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Host
}

// CLI runs the operator's command line against this coordinator.
func (c *Coordinator) CLI(args ...string) Result {
	c.t.Helper()
	return Run(c.t, []string{"BORGFLEET_URL=", "BORGFLEET_TOKEN=", "BORGFLEET_DATA=" + c.Data}, Binary(c.t, "borgfleet"), args...)
}

// MustCLI is CLI for a command that has to end with exit code 0.
func (c *Coordinator) MustCLI(args ...string) string {
	c.t.Helper()
	result := c.CLI(args...)
	if result.Code != 0 {
		c.t.Fatalf("borgfleet %v: exit code %d\n%s%s", args, result.Code, result.Stdout, result.Stderr)
	}
	return result.Stdout
}

// Token returns what lets the owner of the data directory in. It is another one
// after every start.
func (c *Coordinator) Token() string {
	c.t.Helper()
	token, err := os.ReadFile(filepath.Join(c.Data, "local.token"))
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// Request sends one request to the API, as the owner of the data directory. A
// body is JSON. The answer's body is the caller's to close.
func (c *Coordinator) Request(method, path, body string) (*http.Response, error) {
	request, err := http.NewRequest(method, c.HTTP+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.Token())
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	return http.DefaultClient.Do(request)
}

// Get reads one JSON document from the API.
func (c *Coordinator) Get(path string, into any) error {
	response, err := c.Request(http.MethodGet, path, "")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// Job reads a job.
func (c *Coordinator) Job(id job.ID) job.Job {
	c.t.Helper()
	var j job.Job
	if err := c.Get("/api/v1/jobs/"+string(id), &j); err != nil {
		c.t.Fatal(err)
	}
	return j
}

// Await waits until the job is in one of the given states.
func (c *Coordinator) Await(id job.ID, states ...job.State) job.Job {
	c.t.Helper()
	var j job.Job
	Eventually(c.t, fmt.Sprintf("job %s to be %v", id, states), func() error {
		if err := c.Get("/api/v1/jobs/"+string(id), &j); err != nil {
			return err
		}
		for _, s := range states {
			if j.State == s {
				return nil
			}
		}
		if j.State.Terminal() {
			c.t.Fatalf("job %s is %s, not %v: %+v", id, j.State, states, j.Failure)
		}
		return fmt.Errorf("it is %s (%s)", j.State, j.Reason)
	})
	return j
}

// Submit submits a job and returns it as it was stored.
func (c *Coordinator) Submit(request string) job.Job {
	c.t.Helper()
	var j job.Job
	out := c.MustCLI("job", "submit", "--json", request)
	if err := json.Unmarshal([]byte(out), &j); err != nil {
		c.t.Fatalf("job submit printed %q: %v", out, err)
	}
	return j
}

// CAFile is the certificate of the coordinator's own authority.
func (c *Coordinator) CAFile() string { return filepath.Join(c.Data, "ca.pem") }

// NATS connects with the operator's credentials, as the stock client would.
func (c *Coordinator) NATS() *nats.Conn {
	c.t.Helper()
	return c.Dial(filepath.Join(c.Data, "operator.creds"))
}

// Dial connects to the bus with a credentials file.
func (c *Coordinator) Dial(credentials string, options ...nats.Option) *nats.Conn {
	c.t.Helper()
	options = append(options, nats.UserCredentials(credentials), nats.RootCAs(c.CAFile()))
	connection, err := nats.Connect(c.Bus, options...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(connection.Close)
	return connection
}

// Agent is a running `borgfleet-agent run`.
type Agent struct {
	*Process
	Host string
	Dir  string // configuration and credentials
	Data string
	argv []string
	env  []string
	t    testing.TB
}

// AgentOptions are what tests choose about an agent.
type AgentOptions struct {
	Config  string   // agent.yaml's text; empty means none
	Env     []string // of the agent, besides the test's own
	Data    string   // its state directory; empty means a fresh one
	Prefix  []string // goes before its command lines, to run them elsewhere
	BusURLs []string // where it looks for the bus, once it is enrolled; empty means where it enrolled
}

// EnrolmentToken is a one-time token for a host.
func (c *Coordinator) EnrolmentToken(host string, flags ...string) string {
	c.t.Helper()
	var made struct{ Token string }
	out := c.MustCLI(append([]string{"host", "token", host, "--json"}, flags...)...)
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Token == "" {
		c.t.Fatalf("host token printed %q: %v", out, err)
	}
	return made.Token
}

// AddAgent enrols a host, starts its agent, and waits until it is online.
func (c *Coordinator) AddAgent(host string, options AgentOptions) *Agent {
	c.t.Helper()
	dir := c.t.TempDir()
	config := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(config, []byte(options.Config), 0o600); err != nil {
		c.t.Fatal(err)
	}
	a := &Agent{Host: host, Dir: dir, Data: cmp.Or(options.Data, filepath.Join(dir, "agent")), env: options.Env, t: c.t}
	argv := append(slices.Clone(options.Prefix), Binary(c.t, "borgfleet-agent"))
	a.argv = append(argv[:len(argv):len(argv)], "run", "--config", config, "--data", a.Data)
	enroll := append(argv, "enroll", "--token", c.EnrolmentToken(host), "--config", config, "--data", a.Data, "--no-service")
	if result := Run(c.t, options.Env, enroll[0], enroll[1:]...); result.Code != 0 {
		c.t.Fatalf("enroll %s: exit code %d\n%s%s", host, result.Code, result.Stdout, result.Stderr)
	}
	if len(options.BusURLs) > 0 {
		a.setBusURLs(options.BusURLs)
	}
	c.t.Cleanup(func() { KillAll(c.t, a.Data) })
	a.Restart()
	c.AwaitOnline(host)
	return a
}

// urls is a list of addresses in agent.yaml, as enrolment writes it.
var urls = regexp.MustCompile(`(?m)^  urls:\n(  +- .*\n)+`)

// setBusURLs puts others in place of the addresses that enrolment found.
func (a *Agent) setBusURLs(list []string) {
	a.t.Helper()
	path := filepath.Join(a.Dir, "agent.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		a.t.Fatal(err)
	}
	if n := len(urls.FindAll(text, -1)); n != 1 {
		a.t.Fatalf("%d lists of addresses in:\n%s", n, text)
	}
	text = urls.ReplaceAllLiteral(text, []byte("  urls:\n  - "+strings.Join(list, "\n  - ")+"\n"))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// Restart starts the agent again, after Kill or Terminate, on the same data.
func (a *Agent) Restart() {
	a.t.Helper()
	a.Process = Start(a.t, "agent "+a.Host, a.env, a.argv...)
}

// AwaitOnline waits until the coordinator has heard the host's hello.
func (c *Coordinator) AwaitOnline(host string) {
	c.t.Helper()
	var view struct {
		Online bool `json:"online"`
		Facts  *struct {
			BorgVersion string `json:"borg_version"`
		} `json:"facts"`
	}
	Eventually(c.t, "host "+host+" to be online", func() error {
		if err := c.Get("/api/v1/hosts/"+host, &view); err != nil {
			return err
		}
		if !view.Online || view.Facts == nil {
			return errors.New("it is not")
		}
		return nil
	})
}

// AddRepository makes a repository below a temporary directory known under
// name, with a passphrase from a file, and returns its location and passphrase.
func (c *Coordinator) AddRepository(name string) (location, passphrase string) {
	c.t.Helper()
	dir := c.t.TempDir()
	location, passphrase = filepath.Join(dir, "repository"), "pass-"+name+"-correct horse"
	file := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(file, []byte(passphrase+"\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.MustCLI("repo", "add", name, "--location", location, "--passphrase-file", file)
	return location, passphrase
}

// Init runs an init job to its end.
func (c *Coordinator) Init(host, repository string) {
	c.t.Helper()
	j := c.Submit(fmt.Sprintf(`{"host":%q,"kind":"init","repository":%q}`, host, repository))
	c.Await(j.ID, job.Succeeded)
}

// Borg runs plain borg on a repository, apart from borgfleet, with a cache of
// its own.
func Borg(t testing.TB, passphrase string, args ...string) Result {
	t.Helper()
	return Run(t, []string{
		"BORG_PASSPHRASE=" + passphrase, "BORG_BASE_DIR=" + t.TempDir(), "LC_ALL=C.UTF-8",
		"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes",
	}, "borg", args...)
}

// BorgJSON is Borg for a command that prints JSON.
func BorgJSON(t testing.TB, into any, passphrase string, args ...string) {
	t.Helper()
	result := Borg(t, passphrase, args...)
	if result.Code != 0 {
		t.Fatalf("borg %v: exit code %d\n%s", args, result.Code, result.Stderr)
	}
	if err := json.Unmarshal([]byte(result.Stdout), into); err != nil {
		t.Fatalf("borg %v printed %q: %v", args, result.Stdout, err)
	}
}

// Archives returns the names of the archives that borg sees in a repository.
func Archives(t testing.TB, location, passphrase string) []string {
	t.Helper()
	var list struct{ Archives []struct{ Name string } }
	BorgJSON(t, &list, passphrase, "list", "--json", location)
	names := make([]string, len(list.Archives))
	for i, a := range list.Archives {
		names[i] = a.Name
	}
	return names
}

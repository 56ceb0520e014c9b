package overload_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// answer is what came of one submission.
type answer struct {
	id   job.ID
	took time.Duration
	err  error
}

// TestManyJobsAtOnce submits very many jobs in one moment, each of them twice
// with the same key, as a client does that did not wait for the answer.
func TestManyJobsAtOnce(t *testing.T) {
	t.Parallel()
	agents, jobs := scale(t, "AGENTS", 4, 50), scale(t, "JOBS", 24, 1000)
	runs := filepath.Join(t.TempDir(), "runs")
	// Without its self-test a borg that lists costs a third less: here the
	// fleet is tested, not borg.
	binary := borgAfter(t, fmt.Sprintf("if [ \"$1\" = list ]; then echo \"$@\" >>%s; fi\nexport BORG_SELFTEST=disabled", runs))
	c := harness.StartCoordinator(t)
	for i := range agents {
		c.AddAgent(hostName(i), harness.AgentOptions{Config: fmt.Sprintf("borg: {binary: %q}\n", binary)})
	}
	giveRepositories(t, c, agents)
	connection := c.NATS()
	finished := watchFinished(t, connection)
	coordinator := watchMemory(t, c.Process)

	answers := submitTwice(connection, agents, jobs)
	var took []time.Duration
	for i := range jobs {
		first, second := answers[2*i], answers[2*i+1]
		if first.err != nil || second.err != nil || first.id == "" || first.id != second.id {
			t.Fatalf("submission %d: %+v, and again: %+v", i, first, second)
		}
		took = append(took, first.took, second.took)
	}
	slices.Sort(took)
	t.Logf("%d submissions answered: median %s, p95 %s, slowest %s", len(took), took[len(took)/2], took[len(took)*95/100], took[len(took)-1])

	began := time.Now()
	awaitFinished(t, c, finished, jobs)
	t.Logf("%d jobs on %d agents ended %s after they were submitted", jobs, agents, time.Since(began))
	checkJobs(t, c, jobs)
	checkRuns(t, runs, jobs)
	coordinator.check(t)
}

func hostName(i int) string { return fmt.Sprintf("web%02d", i) }

// giveRepositories makes a repository for every host: copies of one, as making
// them one by one would take longer than the test.
func giveRepositories(t *testing.T, c *harness.Coordinator, hosts int) {
	t.Helper()
	location, passphrase := c.AddRepository(hostName(0))
	c.Init(hostName(0), hostName(0))
	file := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte(passphrase), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < hosts; i++ {
		another := filepath.Join(t.TempDir(), "repository")
		if err := os.CopyFS(another, os.DirFS(location)); err != nil {
			t.Fatal(err)
		}
		c.MustCLI("repo", "add", hostName(i), "--location", another, "--passphrase-file", file)
	}
}

// submitTwice submits all jobs at once, and all of them again. The answers to
// submission i are at 2i and 2i+1.
func submitTwice(connection *nats.Conn, agents, jobs int) []answer {
	answers := make([]answer, 2*jobs)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			host := hostName(i / 2 % agents)
			answers[i] = submit(connection, fmt.Sprintf(`{"host":%q,"repository":%q,"kind":"list","spec":{"prefix":"n%05d-"},"idempotency_key":"n%05d"}`, host, host, i/2, i/2))
		})
	}
	all.Wait()
	return answers
}

func submit(connection *nats.Conn, request string) answer {
	began := time.Now()
	reply, err := connection.Request("borgfleet.v1.jobs.submit", []byte(request), harness.Patience)
	if err != nil {
		return answer{err: err}
	}
	var got struct{ Job job.Job }
	if err := json.Unmarshal(reply.Data, &got); err != nil {
		return answer{err: fmt.Errorf("%s: %w", reply.Data, err)}
	}
	return answer{id: got.Job.ID, took: time.Since(began)}
}

// watchFinished delivers the jobs that end, as the coordinator tells operators.
func watchFinished(t *testing.T, connection *nats.Conn) <-chan job.ID {
	t.Helper()
	finished := make(chan job.ID, 10_000)
	_, err := connection.Subscribe("borgfleet.v1.event.>", func(m *nats.Msg) {
		var e job.Event
		if json.Unmarshal(m.Data, &e) == nil && e.Type == job.EventFinished {
			finished <- e.Job
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := connection.Flush(); err != nil {
		t.Fatal(err)
	}
	return finished
}

// awaitFinished waits until so many jobs have ended, each once, and looks all
// the while whether every host is still there.
func awaitFinished(t *testing.T, c *harness.Coordinator, finished <-chan job.ID, jobs int) {
	t.Helper()
	ended := make(map[job.ID]bool, jobs)
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for last := time.Now(); len(ended) < jobs; {
		select {
		case id := <-finished:
			if ended[id] {
				t.Errorf("the end of job %s is told twice", id)
			}
			ended[id], last = true, time.Now()
		case <-look.C:
			everyHostIsOnline(t, c)
			if time.Since(last) > harness.Patience {
				t.Fatalf("%d of %d jobs ended, and no other one within %s", len(ended), jobs, harness.Patience)
			}
		}
	}
	everyHostIsOnline(t, c)
}

func everyHostIsOnline(t *testing.T, c *harness.Coordinator) {
	t.Helper()
	var page struct {
		Hosts []struct {
			Name   string `json:"name"`
			Online bool   `json:"online"`
		} `json:"hosts"`
	}
	if err := c.Get("/api/v1/hosts", &page); err != nil {
		t.Error(err)
	}
	for _, host := range page.Hosts {
		if !host.Online {
			t.Errorf("%s counts as offline", host.Name)
		}
	}
}

// checkJobs checks that all jobs are stored as succeeded in their first attempt.
func checkJobs(t *testing.T, c *harness.Coordinator, jobs int) {
	t.Helper()
	found, cursor := 0, ""
	for {
		var page job.Page
		if err := c.Get("/api/v1/jobs?kind=list&limit=500&cursor="+url.QueryEscape(cursor), &page); err != nil {
			t.Fatal(err)
		}
		for _, j := range page.Jobs {
			if j.State != job.Succeeded || j.Attempt != 1 || len(j.Attempts) != 1 {
				t.Errorf("job %s is %s after %d attempts: %+v", j.ID, j.State, len(j.Attempts), j.Failure)
			}
		}
		found += len(page.Jobs)
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if found != jobs {
		t.Errorf("%d jobs are known, %d were submitted", found, jobs)
	}
}

// checkRuns checks that borg was run once for each job.
func checkRuns(t *testing.T, runs string, jobs int) {
	t.Helper()
	data, err := os.ReadFile(runs)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), "\n"); n != jobs {
		t.Errorf("borg was run %d times for %d jobs", n, jobs)
	}
	for i := range jobs {
		if n := strings.Count(string(data), fmt.Sprintf("--glob-archives=n%05d-", i)); n != 1 {
			t.Errorf("borg was run %d times for submission %d", n, i)
		}
	}
}

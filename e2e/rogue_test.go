package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// rogue is a client that holds the credentials of one host's agent.
type rogue struct {
	*nats.Conn
	faults chan error
}

func newRogue(t *testing.T, c *harness.Coordinator, credentials, inbox string) *rogue {
	t.Helper()
	r := &rogue{faults: make(chan error, 256)}
	r.Conn = c.Dial(credentials, nats.CustomInboxPrefix(inbox), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		r.faults <- err
	}))
	return r
}

// refused fails the test unless the server refuses what attempt does.
func (r *rogue) refused(t *testing.T, what string, attempt func() error) {
	t.Helper()
	if err := attempt(); err != nil && !errors.Is(err, nats.ErrPermissionViolation) {
		t.Fatalf("%s: %v", what, err)
	}
	if err := r.FlushTimeout(harness.Patience); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	select {
	case err := <-r.faults:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(harness.Patience):
		t.Errorf("%s was not refused", what)
	}
}

// Who holds the credentials of host A's agent can do nothing to host B, to the
// stream, or to those who enrol; the server itself refuses, and it is logged
// and counted.
func TestARogueAgentIsRefusedByTheServer(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	a := c.AddAgent("a", harness.AgentOptions{})
	c.AddAgent("b", harness.AgentOptions{})
	if code := a.Terminate(t); code != 0 {
		t.Fatalf("agent a ended with %d", code)
	}
	before := metric(t, c, "borgfleet_bus_refusals_total")
	r := newRogue(t, c, filepath.Join(a.Dir, "agent.creds"), "_INBOX.a")

	attempts := 0
	for _, subject := range []string{
		"borgfleet.v1.cmd.b.order", "borgfleet.v1.cmd.b.>", "borgfleet.v1.cmd.*.order", "borgfleet.v1.cmd.>", ">",
		"borgfleet.v1.agent.b.>", "borgfleet.v1.agent.*.hello", "borgfleet.v1.enroll", "_ENROLL.>", "_INBOX.>", "_INBOX.b.>",
		"_COORDINATOR.>", "_R_.>", "$SYS.>", "$JS.>", "borgfleet.ingest.>", "borgfleet.v1.event.>", "borgfleet.v1.jobs.*",
	} {
		attempts++
		r.refused(t, "subscribe to "+subject, func() error { _, err := r.SubscribeSync(subject); return err })
	}
	id := string(job.NewID(time.Now()))
	for _, subject := range []string{
		"borgfleet.v1.agent.b.hello", "borgfleet.v1.agent.b.event." + id, "borgfleet.v1.agent.b.progress." + id, "borgfleet.v1.agent.b.renew",
		"borgfleet.ingest.v1.b." + id, "borgfleet.v1.cmd.b.order", "borgfleet.v1.cmd.b.cancel", "borgfleet.v1.cmd.a.order",
		"$JS.API.STREAM.DELETE.EVENTS", "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.CONSUMER.NAMES.EVENTS", "$JS.API.CONSUMER.LIST.EVENTS",
		"$JS.API.CONSUMER.DELETE.EVENTS.coordinator", "$JS.API.INFO", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ",
		"borgfleet.v1.enroll", "borgfleet.v1.jobs.submit", "borgfleet.v1.event.b." + id, "_INBOX.b.x", "_ENROLL.x", "_COORDINATOR.agents.x",
	} {
		attempts++
		r.refused(t, "publish to "+subject, func() error { return r.PublishRequest(subject, "_INBOX.a.x", []byte(`{}`)) })
	}

	harness.Eventually(t, "every refusal to be counted", func() error {
		if counted := metric(t, c, "borgfleet_bus_refusals_total") - before; counted < float64(attempts) {
			return fmt.Errorf("%v of %d", counted, attempts)
		}
		return nil
	})
	if log := c.Output(); !strings.Contains(log, "refused") || !strings.Contains(log, "borgfleet.v1.cmd.b.order") {
		t.Errorf("the coordinator's log does not tell of the refusals:\n%s", log)
	}

	// Claims to be b in what it may publish change nothing: the subject counts.
	hello, _ := json.Marshal(map[string]any{"host": "b", "seal_key": "XA", "attempts": []any{}})
	if _, err := r.Request("borgfleet.v1.agent.a.hello", hello, 2*time.Second); err == nil {
		t.Error("a hello in the name of another host was answered")
	}
	var b struct {
		SealKey string `json:"seal_key"`
	}
	if err := c.Get("/api/v1/hosts/b", &b); err != nil || b.SealKey == "XA" || b.SealKey == "" {
		t.Errorf("b's key is %q now (%v)", b.SealKey, err)
	}
}

// metric sums a metric over its labels.
func metric(t *testing.T, c *harness.Coordinator, name string) (sum float64) {
	t.Helper()
	response, err := c.Request("GET", "/metrics", "")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == '{' || rest[0] == ' ') {
			var value float64
			if _, err := fmt.Sscan(rest[strings.LastIndex(rest, " "):], &value); err != nil {
				t.Fatalf("metric %q: %v", line, err)
			}
			sum += value
		}
	}
	return sum
}

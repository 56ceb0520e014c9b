package busapi_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const submitBackup = `{"host":"web1","kind":"backup","repository":"main","spec":{"paths":["/etc"]}}`

func TestWhoAsksIsKnownByCredentials(t *testing.T) {
	c := &coordinator{}
	_, _, b := serveOn(t, c)
	for _, role := range []bus.Role{bus.Operator, bus.Admin} {
		connection := connect(t, b, "Bob_"+string(role), role)
		if failure := request(t, connection, bus.JobsSubmit, submitBackup, new(json.RawMessage)); failure != nil {
			t.Fatal(failure)
		}
		want := fleet.Actor{Name: "operator:Bob_" + string(role), Role: role, From: "bus 127.0.0.1"}
		c.mu.Lock()
		if c.by != want {
			t.Errorf("submitted by %+v, want %+v", c.by, want)
		}
		c.mu.Unlock()
	}
}

// TestWhatProvesAnIdentityIsSeenByNoOtherOperator: whoever had the JWT of
// another could ask in his name.
func TestWhatProvesAnIdentityIsSeenByNoOtherOperator(t *testing.T) {
	operator, _, b := serveOn(t, &coordinator{})
	watcher := connect(t, b, "eve", bus.Admin)
	all := make(chan *nats.Msg, 64)
	for _, subject := range []string{"borgfleet.v1.>", "_INBOX.>"} {
		if _, err := watcher.ChanSubscribe(subject, all); err != nil {
			t.Fatal(err)
		}
	}
	if err := watcher.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	request(t, operator, bus.JobsSubmit, submitBackup, new(json.RawMessage))
	request(t, operator, "$SRV.INFO.borgfleet", "", new(json.RawMessage))
	for _, what := range []string{"the request", "its answer", "the service's description"} {
		select {
		case message := <-all:
			if text := fmt.Sprint(message.Header) + string(message.Data); strings.Contains(text, "Request-Info") || strings.Contains(text, "eyJ") {
				t.Errorf("%s on %s: %s", what, message.Subject, text)
			}
		case <-time.After(patience):
			t.Fatalf("%s was not seen", what)
		}
	}
}

func TestAClaimToBeSomebodyElseIsIgnored(t *testing.T) {
	c := &coordinator{}
	operator, _, _ := serveOn(t, c)
	message := nats.NewMsg(bus.JobsSubmit)
	message.Data = []byte(submitBackup)
	message.Header["Nats-Request-Info"] = []string{`{"name_tag":"eve","host":"10.9.9.9"}`, `{}`}
	if _, err := operator.RequestMsg(message, patience); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if want := (fleet.Actor{Name: "operator:alice", Role: bus.Operator, From: "bus 127.0.0.1"}); c.by != want {
		t.Errorf("submitted by %+v, want %+v", c.by, want)
	}
}

// TestHeadersThatTheServerReadsDifferently has a client that ends its headers
// with a bare line feed. The server then adds its own after what looks like the
// end to the coordinator, which reads the client's.
func TestHeadersThatTheServerReadsDifferently(t *testing.T) {
	c := &coordinator{}
	_, _, b := serveOn(t, c)
	raw := dialRaw(t, b, "mallory", bus.Operator)
	const (
		forged = `Nats-Request-Info: {"name_tag":"alice","issuer_key":"A","jwt":"x.y.z","host":"10.9.9.9"}`
		start  = "NATS/1.0\r\nA: b\r\n"
	)
	for name, test := range map[string]struct{ headers, want string }{
		"hides the server's": {"NATS/1.0\r\nA: b\n" + forged + "\n\n\r\n", string(job.NotAuthenticated)},
		"stays beside it":    {"NATS/1.0\r\nA: b\n" + forged + "\r\n\r\n", string(job.NotAuthenticated)},
		"is replaced":        {start + forged + "\r\n\r\n", `"job":`},
	} {
		if answer := raw.request(t, bus.JobsSubmit, test.headers, submitBackup); !strings.Contains(answer, test.want) {
			t.Errorf("%s: answered %q, want %s", name, answer, test.want)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by.Name != "operator:mallory" || len(c.submitted) != 1 {
		t.Errorf("submitted %v, last by %+v", c.submitted, c.by)
	}
}

// rawClient speaks the protocol without a library.
type rawClient struct {
	connection net.Conn
	reader     *bufio.Reader
}

func dialRaw(t *testing.T, b *broker.Broker, name string, role bus.Role) *rawClient {
	t.Helper()
	credentials, _, err := b.MintOperator(name, role)
	if err != nil {
		t.Fatal(err)
	}
	token, err := nkeys.ParseDecoratedJWT(credentials)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.ParseDecoratedUserNKey(credentials)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := net.Dial("tcp", strings.TrimPrefix(b.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	raw := &rawClient{connection, bufio.NewReader(connection)}
	var info struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(raw.line(t), "INFO ")), &info); err != nil {
		t.Fatal(err)
	}
	signature, err := pair.Sign([]byte(info.Nonce))
	if err != nil {
		t.Fatal(err)
	}
	hello, err := json.Marshal(map[string]any{
		"jwt": token, "sig": base64.RawURLEncoding.EncodeToString(signature), "headers": true, "protocol": 1, "verbose": false,
	})
	if err != nil {
		t.Fatal(err)
	}
	raw.send(t, "CONNECT "+string(hello)+"\r\nSUB _INBOX.raw.* 1\r\nPING\r\n")
	for raw.line(t) != "PONG" {
	}
	return raw
}

func (r *rawClient) send(t *testing.T, text string) {
	t.Helper()
	if _, err := r.connection.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func (r *rawClient) line(t *testing.T) string {
	t.Helper()
	line, err := r.reader.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// request sends a request with the given bytes as its headers and returns the
// answer with its headers.
func (r *rawClient) request(t *testing.T, subject, headers, body string) string {
	t.Helper()
	r.send(t, fmt.Sprintf("HPUB %s _INBOX.raw.x %d %d\r\n%s%s\r\n", subject, len(headers), len(headers)+len(body), headers, body))
	for {
		fields := strings.Fields(r.line(t))
		if !strings.HasSuffix(fields[0], "MSG") { // INFO, PONG, PING
			continue
		}
		size, err := strconv.Atoi(fields[len(fields)-1])
		if err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(r.reader, answer); err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
}

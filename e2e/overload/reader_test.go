package overload_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// fatLines is shell that prints a log as large as one may be.
const fatLines = `
if [ "$1" = list ]; then
	cat %s >&2
fi
export BORG_SELFTEST=disabled`

// TestReadersThatDoNotRead has an operator's client on the bus that asks for
// everything and reads nothing, and such a reader of the event stream. All else
// goes on as if they were not there.
func TestReadersThatDoNotRead(t *testing.T) {
	t.Parallel()
	jobs := scale(t, "READ", 5, 80)
	log := filepath.Join(t.TempDir(), "log")
	line := strings.Repeat("x", job.MaxLogLineBytes-1) + "\n"
	if err := os.WriteFile(log, []byte(strings.Repeat(line, job.LogHeadLines+job.LogTailLines)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := harness.StartCoordinator(t)
	c.AddAgent("web00", harness.AgentOptions{Config: fmt.Sprintf("borg: {binary: %q}\n", borgAfter(t, fmt.Sprintf(fatLines, log)))})
	c.AddRepository("web00")
	c.Init("web00", "web00")
	coordinator := watchMemory(t, c.Process)
	muteSubscriber(t, c)
	muteStream(t, c)

	connection := c.NATS()
	finished := watchFinished(t, connection)
	for i := range jobs {
		request := fmt.Sprintf(`{"host":"web00","repository":"web00","kind":"list","spec":{"prefix":"n%05d-"}}`, i)
		if got := submit(connection, request); got.err != nil || got.id == "" {
			t.Fatalf("submission %d: %+v", i, got)
		}
	}
	awaitFinished(t, c, finished, jobs)
	checkJobs(t, c, jobs)
	coordinator.check(t)
}

// narrow makes a connection take as little as can be.
func narrow(t *testing.T, connection net.Conn) {
	t.Helper()
	if err := connection.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
}

// muteStream opens the event stream and reads nothing but the answer's head.
func muteStream(t *testing.T, c *harness.Coordinator) {
	t.Helper()
	address, err := url.Parse(c.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := net.Dial("tcp", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	narrow(t, connection)
	if _, err := fmt.Fprintf(connection, "GET /api/v1/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", address.Host, c.Token()); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("event stream: %+v, %v", response, err)
	}
}

// muteSubscriber subscribes to all that operators may watch, without a library,
// as every library reads, and reads no more once the server has taken it.
func muteSubscriber(t *testing.T, c *harness.Coordinator) {
	t.Helper()
	plain, err := net.Dial("tcp", strings.TrimPrefix(c.Bus, "tls://"))
	if err != nil {
		t.Fatal(err)
	}
	narrow(t, plain)
	info, err := bufio.NewReader(plain).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var server struct{ Nonce string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(info, "INFO ")), &server); err != nil {
		t.Fatalf("%q: %v", info, err)
	}
	authority, err := os.ReadFile(c.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	connection := tls.Client(plain, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
	if _, err := fmt.Fprintf(connection, "CONNECT %s\r\nSUB borgfleet.v1.> 1\r\nPING\r\n", introduction(t, c, server.Nonce)); err != nil {
		t.Fatal(err)
	}
	for reader := bufio.NewReader(connection); ; {
		line, err := reader.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "-ERR") {
			t.Fatalf("the bus does not take the subscriber: %q, %v", line, err)
		}
		if line == "PONG\r\n" {
			return
		}
	}
}

// introduction is what a client says of itself when it connects.
func introduction(t *testing.T, c *harness.Coordinator, nonce string) []byte {
	t.Helper()
	credentials, err := os.ReadFile(filepath.Join(c.Data, "operator.creds"))
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
	signature, err := pair.Sign([]byte(nonce))
	if err != nil {
		t.Fatal(err)
	}
	hello, err := json.Marshal(map[string]any{
		"jwt": token, "sig": base64.RawURLEncoding.EncodeToString(signature), "headers": true, "protocol": 1, "verbose": false,
	})
	if err != nil {
		t.Fatal(err)
	}
	return hello
}

package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

func TestOnlyOwnHostNamesAreAnswered(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) { o.Names = []string{"Backup.example.net"} })
	for host, allowed := range map[string]bool{
		"127.0.0.1:8440": true, "127.0.0.1": true, "127.8.9.10:1": true, "[::1]:8440": true, "[::1]": true, "localhost": true,
		"LOCALHOST:8440": true, "localhost.:8440": true, "[::ffff:127.0.0.1]:8440": true,
		"backup.example.net:8440": true, "backup.example.net": true,
		"evil.example": false, "evil.example:8440": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false,
		"192.168.1.5:8440": true, "[2001:db8::1]:8440": true, "": false, "backup.example.net.evil.example": false, "127.0.0.1:8440:9": false,
	} {
		for _, path := range []string{"/api/v1/status", "/healthz", "/metrics", "/"} {
			r := request("GET", path, "")
			r.Host = host
			answer := s.do(r)
			if refused := answer.Code == http.StatusForbidden; refused == allowed {
				t.Errorf("Host %q, %s: status %d", host, path, answer.Code)
			}
			if !allowed {
				checkProblem(t, answer, http.StatusForbidden, job.NotAllowed)
			}
		}
	}
}

func TestForeignPagesCannotChangeAnything(t *testing.T) {
	s := serve(t, nil)
	for name, test := range map[string]struct {
		method  string
		headers map[string]string
		refused bool
	}{
		"a program":                {"POST", nil, false},
		"our own page":             {"POST", map[string]string{"Origin": "http://127.0.0.1:8440", "Sec-Fetch-Site": "same-origin"}, false},
		"a foreign page":           {"POST", map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, true},
		"a foreign page, old":      {"POST", map[string]string{"Origin": "https://evil.example"}, true},
		"a page of another port":   {"POST", map[string]string{"Origin": "http://127.0.0.1:9999", "Sec-Fetch-Site": "same-site"}, true},
		"a sandboxed page":         {"POST", map[string]string{"Origin": "null"}, true},
		"a foreign page's delete":  {"DELETE", map[string]string{"Sec-Fetch-Site": "cross-site"}, true},
		"a link on a foreign page": {"GET", map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			body := ""
			if test.method == "POST" {
				body = `{"name":"new"}`
			}
			path := map[string]string{"POST": "/api/v1/hosts", "GET": "/api/v1/hosts", "DELETE": "/api/v1/hosts/new"}[test.method]
			r := request(test.method, path, body)
			for key, value := range test.headers {
				r.Header.Set(key, value)
			}
			delete(s.hosts, "new")
			answer := s.do(r)
			if test.refused {
				checkProblem(t, answer, http.StatusForbidden, job.NotAllowed)
			} else if answer.Code >= 300 {
				t.Errorf("status %d: %s", answer.Code, answer.Body)
			}
			if _, added := s.hosts["new"]; added && test.refused {
				t.Error("the host was added all the same")
			}
			if got := answer.Header().Get("Access-Control-Allow-Origin"); got != "" {
				t.Errorf("Access-Control-Allow-Origin %q", got)
			}
		})
	}
}

func TestSecurityHeaders(t *testing.T) {
	s := serve(t, nil)
	for _, path := range []string{"/api/v1/status", "/api/v1/docs", "/api/v1/nothing", "/healthz", "/metrics"} {
		header := s.do(request("GET", path, "")).Header()
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"} {
			if got := header.Get(name); got != want {
				t.Errorf("%s: %s %q", path, name, got)
			}
		}
		if policy := header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
			t.Errorf("%s: policy %q", path, policy)
		}
	}
}

func TestPanicBecomesAProblemAndALogLine(t *testing.T) {
	var log bytes.Buffer
	s := serve(t, func(o *httpapi.Options) { o.Logger = hclog.New(&hclog.LoggerOptions{Output: &log}) })
	s.panics = "a fault of ours"
	checkProblem(t, s.do(request("GET", "/api/v1/status", "")), http.StatusInternalServerError, job.Internal)
	if text := log.String(); !strings.Contains(text, "a fault of ours") || !strings.Contains(text, "fake_test.go") {
		t.Errorf("log without fault or stack: %s", text)
	}
}

func TestPanicAfterTheHeadBreaksTheConnection(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) {
		o.Mux.HandleFunc("GET /half", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "the first half")
			panic("in the middle")
		})
	})
	response, err := get(s.url + "/half")
	if err == nil {
		_, err = io.ReadAll(response.Body)
		_ = response.Body.Close()
	}
	if err == nil {
		t.Error("half an answer was taken for a whole one")
	}
}

func TestAccessLogHasNoQuery(t *testing.T) {
	var log bytes.Buffer
	s := serve(t, func(o *httpapi.Options) {
		o.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Debug})
	})
	s.do(request("GET", "/api/v1/jobs?host=web1", ""))
	if text := log.String(); !strings.Contains(text, "path=/api/v1/jobs status=200") || strings.Contains(text, "host=web1") {
		t.Errorf("access log: %s", text)
	}
}

func TestPagesShareTheGuard(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) {
		o.Mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Security-Policy", "default-src 'self'")
			_, _ = io.WriteString(w, "page")
		})
	})
	answer := s.do(request("GET", "/hosts/web1", ""))
	if answer.Body.String() != "page" || answer.Header().Get("Content-Security-Policy") != "default-src 'self'" || answer.Header().Get("X-Frame-Options") != "DENY" {
		t.Errorf("page: %q, %v", answer.Body, answer.Header())
	}
	checkProblem(t, s.do(request("GET", "/api/v1/nothing", "")), http.StatusNotFound, job.InvalidRequest)
}

// TestStreamOutlivesTheTimeForReading: the server's limit for reading a request
// must not count while a stream is answered.
func TestStreamOutlivesTheTimeForReading(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) { o.Keepalive = 10 * time.Millisecond })
	server := httptest.NewUnstartedServer(s.api)
	server.Config.ReadHeaderTimeout = patience.Most // else it is the next one, and a busy machine's request comes later
	server.Config.ReadTimeout = 20 * time.Millisecond
	server.Start()
	defer server.Close()
	defer server.CloseClientConnections()
	stream := openStream(t, server.URL+"/api/v1/events")
	for comments := 0; comments < 20; { // ten times the limit
		line, ok := stream.line(t)
		if !ok {
			t.Fatal("the stream was cut")
		}
		if strings.HasPrefix(line, ":") {
			comments++
		}
	}
}

func TestBodyThatDoesNotComeIsGivenUp(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) { o.BodyTimeout = 20 * time.Millisecond })
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close() // only read from
	_, _ = fmt.Fprint(connection, "POST /api/v1/hosts HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+adminToken+"\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
	buffer := make([]byte, 12)
	if _, err := io.ReadFull(connection, buffer); err != nil || string(buffer) != "HTTP/1.1 408" {
		t.Errorf("answer %q, %v", buffer, err)
	}
}

func TestShutdownEndsStreamsButNotRequests(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := serve(t, func(o *httpapi.Options) {
		o.Mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-release
			_, _ = fmt.Fprint(w, r.Context().Err())
		})
	})
	stream := openStream(t, s.url+"/api/v1/events")
	stream.next(t)
	slow := make(chan string, 1)
	go func() {
		response, err := get(s.url + "/slow")
		if err != nil {
			slow <- err.Error()
			return
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		slow <- string(body)
	}()
	<-entered
	down := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	go func() { down <- s.server.Shutdown(ctx) }()
	stream.ended(t)
	close(release)
	if got := <-slow; got != "<nil>" {
		t.Errorf("the slow request got %q", got)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestHealth(t *testing.T) {
	var broker error
	s := serve(t, func(o *httpapi.Options) {
		o.Ready = []httpapi.Check{
			{Name: "broker", Trouble: "the bus is away", Check: func(context.Context) error { return broker }},
			{Name: "store", Check: func(context.Context) error { return nil }},
		}
	})
	read := func(path string) (int, httpapi.Health) {
		answer := s.do(request("GET", path, ""))
		return answer.Code, decode[httpapi.Health](t, answer.Body.Bytes())
	}
	if code, health := read("/readyz"); code != 200 || health.Status != "ok" || len(health.Checks) != 2 {
		t.Errorf("ready: %d %+v", code, health)
	}
	for said, err := range map[string]error{
		"the disk is full": job.Fail(job.DiskFull, "the disk is full"),
		"the bus is away":  errors.New("dial tcp 10.0.0.7:4222: connection refused"), // nobody's business
	} {
		broker = err
		want := httpapi.Health{Status: "unavailable", Checks: []httpapi.CheckResult{{Name: "broker", Error: said}, {Name: "store", OK: true}}}
		code, health := read("/readyz")
		if diff := cmp.Diff(want, health, cmpopts.IgnoreUnexported(httpapi.CheckResult{})); code != 503 || diff != "" {
			t.Errorf("not ready: %d (-want +got):\n%s", code, diff)
		}
	}
	if code, health := read("/healthz"); code != 200 || health.Status != "ok" {
		t.Errorf("alive: %d %+v", code, health)
	}
}

func TestReadinessAnswersWhenACheckHangs(t *testing.T) {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	s := serve(t, func(o *httpapi.Options) {
		o.Ready = []httpapi.Check{{Name: "store", Check: func(context.Context) error { <-release; return nil }}}
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	answer := s.do(request("GET", "/readyz", "").WithContext(ctx))
	if answer.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d", answer.Code)
	}
}

func TestHugeBodyOverARealConnection(t *testing.T) {
	s := serve(t, nil)
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close() // only read from
	_, _ = fmt.Fprintf(connection, "POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+adminToken+"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", 10<<20)
	go func() { // the server may close before all is sent
		_, _ = io.CopyN(connection, zeros{}, 10<<20)
	}()
	buffer := make([]byte, 12)
	if _, err := io.ReadFull(connection, buffer); err != nil || string(buffer) != "HTTP/1.1 413" {
		t.Errorf("answer %q, %v", buffer, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestMissingOptionIsAnError(t *testing.T) {
	if _, err := httpapi.New(httpapi.Options{}); err == nil {
		t.Error("no error")
	}
}

func TestBodyOfTheLimitIsRead(t *testing.T) {
	s := serve(t, nil)
	body := `{"name":"web1"}`
	body += strings.Repeat(" ", httpapi.MaxBodyBytes-len(body))
	if answer := s.do(request("POST", "/api/v1/hosts", body)); answer.Code != http.StatusCreated {
		t.Errorf("a body of the limit: status %d", answer.Code)
	}
	var recorder *httptest.ResponseRecorder
	if recorder = s.do(request("POST", "/api/v1/hosts", body+" ")); recorder.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a byte more: status %d", recorder.Code)
	}
}

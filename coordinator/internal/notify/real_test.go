package notify_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/notify"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// These tests send to real servers on loopback.

// request is what a server got.
type request struct {
	method, path string
	header       http.Header
	body         string
}

// serve returns a server that takes everything, and what it gets.
func serve(t *testing.T) (*httptest.Server, <-chan request) {
	got := make(chan request, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- request{r.Method, r.URL.RequestURI(), r.Header, string(body)}
		_, _ = io.WriteString(w, `{}`) // some services want JSON
	}))
	t.Cleanup(server.Close)
	return server, got
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience.Most):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func (r *rig) test(name string) fleet.Delivery {
	r.t.Helper()
	d, err := r.TestTarget(r.t.Context(), alice, name)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func TestAWebhookIsSigned(t *testing.T) {
	server, got := serve(t)
	r := start(t, t.TempDir(), nil)
	defer r.stop()
	r.target(fleet.NewTarget{Name: "ops", Kind: "webhook", URL: secretOf(server.URL + "/hook?x=1"), Secret: secretOf("the key")})
	r.rule(fleet.Rule{Name: "all", Targets: []string{"ops"}, Group: "0s"})
	r.raise(fleet.Condition{Plan: "daily", Host: "web1"})
	is := receive(t, got)
	if is.method != http.MethodPost || is.path != "/hook?x=1" || is.header.Get("Content-Type") != "application/json" || !strings.HasPrefix(is.header.Get("User-Agent"), "borgfleet/") {
		t.Errorf("%+v", is)
	}
	stamp, signature, _ := strings.Cut(strings.TrimPrefix(is.header.Get("Borgfleet-Signature"), "t="), ",v1=")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Hour {
		t.Errorf("signed at %q", stamp)
	}
	mac := hmac.New(sha256.New, []byte("the key"))
	fmt.Fprintf(mac, "%s.%s", stamp, is.body)
	if want := hex.EncodeToString(mac.Sum(nil)); want != signature {
		t.Errorf("signature %s, want %s", signature, want)
	}
	var body struct {
		Version int
		ID      string
		Target  string
		Rule    string
		Event   string
		Alerts  []struct{ Status, Kind, Plan, Host, Severity string }
	}
	if err := json.Unmarshal([]byte(is.body), &body); err != nil {
		t.Fatal(err)
	}
	if body.Version != 1 || body.ID != is.header.Get("Borgfleet-Delivery") || body.Target != "ops" || body.Rule != "all" || body.Event != "alerts" || len(body.Alerts) != 1 || body.Alerts[0].Status != "raised" || body.Alerts[0].Plan != "daily" {
		t.Errorf("%s", is.body)
	}
}

func TestServicesOfTheLibraryAreReached(t *testing.T) {
	for name, test := range map[string]struct{ url, path, inBody string }{
		"ntfy":       {"ntfy://%s/topic?scheme=http", "/topic", "This is a test"},
		"gotify":     {"gotify://%s/AzyoeNS.D4iJLVa?disabletls=yes", "/message?token=", "This is a test"},
		"generic":    {"generic://%s/some/path?disabletls=yes&template=json", "/some/path", "This is a test"},
		"mattermost": {"mattermost://%s/token?disabletls=yes", "/hooks/token", "This is a test"},
	} {
		t.Run(name, func(t *testing.T) {
			server, got := serve(t)
			r := start(t, t.TempDir(), nil)
			defer r.stop()
			r.target(fleet.NewTarget{Name: "x", URL: secretOf(fmt.Sprintf(test.url, server.Listener.Addr()))})
			if d := r.test("x"); d.SentAt == nil {
				t.Fatalf("%+v", d)
			}
			if is := receive(t, got); !strings.HasPrefix(is.path, test.path) || !strings.Contains(is.body, test.inBody) {
				t.Errorf("%+v", is)
			}
		})
	}
}

// mail is a server that takes mail, and hands it out as it was written.
func mail(t *testing.T) (address string, mails <-chan string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	var sessions sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); sessions.Wait() })
	sessions.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() { takeMail(conn, got) })
		}
	})
	return listener.Addr().String(), got
}

// takeMail is one session with a mail server.
func takeMail(conn net.Conn, got chan<- string) {
	defer conn.Close()
	lines := textproto.NewReader(bufio.NewReader(conn))
	say := func(text string) { _, _ = io.WriteString(conn, text+"\r\n") }
	say("220 sink")
	for {
		line, err := lines.ReadLine()
		if err != nil {
			return
		}
		switch word, _, _ := strings.Cut(strings.ToUpper(line), " "); word {
		case "EHLO", "HELO", "MAIL", "RCPT", "RSET":
			say("250 good")
		case "DATA":
			say("354 go on")
			text, err := lines.ReadDotLines()
			if err != nil {
				return
			}
			got <- strings.Join(text, "\n")
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 what?")
		}
	}
}

func TestMail(t *testing.T) {
	address, mails := mail(t)
	r := start(t, t.TempDir(), nil)
	defer r.stop()
	r.target(fleet.NewTarget{Name: "mail", URL: secretOf("smtp://" + address + "/?from=backup@example.net&to=alice@example.net&starttls=no")})
	r.rule(fleet.Rule{Name: "all", Targets: []string{"mail"}, Group: "0s"})
	id := r.raise(fleet.Condition{Plan: "daily", Host: "web1", Message: "no good backup of web1 for 37 h", Hint: "look there"})
	text := receive(t, mails)
	for _, want := range []string{"To: alice@example.net", "critical: no good backup of web1 for 37 h", "look there", "https://backup.example.net/alerts"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	r.resolve(id)
	if text := receive(t, mails); !strings.Contains(text, "resolved: no good backup") {
		t.Error(text)
	}
}

func TestAServiceThatHangsHoldsNobodyUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // connections are taken, and nobody speaks
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, t.TempDir(), nil)
	defer r.stop()
	defer listener.Close()
	r.target(fleet.NewTarget{Name: "mail", URL: secretOf("smtp://" + listener.Addr().String() + "/?from=a@example.net&to=b@example.net")})
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := r.TestTarget(ctx, alice, "mail")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v", err)
		}
	}
	if d := r.test("mail"); !strings.Contains(d.Error, "4 earlier tries have not ended yet") {
		t.Errorf("%+v", d)
	}
}

func TestNobodyIsLedElsewhere(t *testing.T) {
	server, got := serve(t)
	astray := httptest.NewServer(http.RedirectHandler(server.URL, http.StatusTemporaryRedirect))
	defer astray.Close()
	r := start(t, t.TempDir(), nil)
	defer r.stop()
	r.target(fleet.NewTarget{Name: "ops", Kind: "webhook", URL: secretOf(astray.URL)})
	if d := r.test("ops"); !strings.Contains(d.Error, "307") || len(got) > 0 {
		t.Errorf("%+v", d)
	}
}

func TestADeadManIsPingedWhileAllIsWell(t *testing.T) {
	server, got := serve(t)
	var ill atomic.Bool
	looked := make(chan struct{}, 1000)
	deadman := notify.NewDeadman(notify.DeadmanOptions{
		URL: secretOf(server.URL + "/hush"), Every: time.Millisecond, Logger: hclog.NewNullLogger(),
		Healthy: func() error {
			looked <- struct{}{}
			if ill.Load() {
				return errors.New("the disk is full")
			}
			return nil
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- deadman.Run(ctx) }()
	if is := receive(t, got); is.path != "/hush" {
		t.Errorf("%+v", is)
	}
	receive(t, got)
	ill.Store(true)
	receive(t, looked)
	receive(t, looked)
	for len(looked) > 0 {
		receive(t, looked)
	}
	for range 2 {
		receive(t, looked)
	}
	for len(got) > 0 {
		receive(t, got)
	}
	for range 10 {
		receive(t, looked)
	}
	if len(got) > 0 {
		t.Error("pinged though it is ill")
	}
	ill.Store(false)
	receive(t, got)
	cancel()
	if err := receive(t, done); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

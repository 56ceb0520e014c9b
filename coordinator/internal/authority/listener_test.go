package authority_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/authority"
)

// patience is how long a test waits for what must happen at once.
const patience = 30 * time.Second

// site is an HTTP server on one port for TLS and plain, and what it takes to
// reach it.
type site struct {
	address  string
	listener net.Listener
	roots    *x509.CertPool
	events   chan string // what the event stream sends
}

func serve(t *testing.T) *site {
	t.Helper()
	o := options(t.TempDir())
	o.Now = nil
	a := open(t, o)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{address: inner.Addr().String(), listener: authority.Listener(inner, a.ServerConfig()), roots: x509.NewCertPool(), events: make(chan string)}
	s.roots.AppendCertsFromPEM(a.CA())
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s tls=%v %s", r.Proto, r.TLS != nil, r.RemoteAddr)
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case event := <-s.events:
				_, _ = fmt.Fprintln(w, event)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: patience, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan error)
	go func() { ended <- server.Serve(s.listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

// client returns a client of the site. Every request is a connection of its own
// unless it is HTTP/2.
func (s *site) client(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}, ForceAttemptHTTP2: http2, DisableKeepAlives: !http2}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestOnePortServesBoth(t *testing.T) {
	s := serve(t)
	for name, test := range map[string]struct {
		scheme string
		http2  bool
		want   string
	}{
		"plain":  {"http", false, "HTTP/1.1 tls=false"},
		"TLS":    {"https", false, "HTTP/1.1 tls=true"},
		"HTTP/2": {"https", true, "HTTP/2.0 tls=true"},
	} {
		t.Run(name, func(t *testing.T) {
			text := get(t, s.client(t, test.http2), test.scheme+"://"+s.address+"/")
			if text[:len(test.want)] != test.want {
				t.Errorf("got %q, want %q", text, test.want)
			}
		})
	}
}

func TestEventStreams(t *testing.T) {
	for name, test := range map[string]struct {
		scheme string
		http2  bool
	}{"plain": {"http", false}, "TLS": {"https", false}, "HTTP/2": {"https", true}} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, test.scheme+"://"+s.address+"/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			go func() { s.events <- "first" }()
			response, err := s.client(t, test.http2).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			lines := bufio.NewScanner(response.Body)
			for _, want := range []string{"first", "second", "third"} {
				if !lines.Scan() || lines.Text() != want {
					t.Fatalf("got %q, %v, want %q", lines.Text(), lines.Err(), want)
				}
				if want != "third" { // nothing more is sent before it was read
					s.events <- map[string]string{"first": "second", "second": "third"}[want]
				}
			}
		})
	}
}

// TestSilentClientsHoldUpNobody opens connections that say nothing, and one
// that begins as TLS and says nothing more.
func TestSilentClientsHoldUpNobody(t *testing.T) {
	s := serve(t)
	var silent []net.Conn
	for i := range 50 {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if i%2 == 0 {
			if _, err := conn.Write([]byte{0x16}); err != nil {
				t.Fatal(err)
			}
		} else {
			silent = append(silent, conn)
		}
	}
	get(t, s.client(t, true), "https://"+s.address+"/")
	get(t, s.client(t, false), "http://"+s.address+"/")
	if err := s.listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, conn := range silent { // closed with the listener
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read = %v", err)
		}
	}
	if _, err := s.listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v", err)
	}
	if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Close again = %v", err)
	}
}

// pipes is a listener whose clients are pipes.
type pipes struct {
	conns  chan net.Conn
	errs   chan error
	closed chan struct{}
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), errs: make(chan error), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case err := <-p.errs:
		return nil, err
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

func TestSilentClientIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipes()
		listener := authority.Listener(inner, &tls.Config{})
		client := inner.dial()
		begin := time.Now()
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(begin) != 10*time.Second {
			t.Errorf("Read = %v after %s", err, time.Since(begin))
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestSlowTalkerKeepsItsConnection checks that the time for the first byte does
// not bound what follows, and that no byte is lost.
func TestSlowTalkerKeepsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipes()
		listener := authority.Listener(inner, &tls.Config{})
		client := inner.dial()
		go func() {
			time.Sleep(9 * time.Second)
			_, _ = client.Write([]byte("GE"))
			time.Sleep(time.Hour)
			_, _ = client.Write([]byte("T"))
			_ = client.Close()
		}()
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(conn); string(text) != "GET" || err != nil {
			t.Errorf("read %q, %v", text, err)
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseDropsWhatNobodyAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipes()
		listener := authority.Listener(inner, &tls.Config{})
		silent, spoke := inner.dial(), inner.dial()
		if _, err := spoke.Write([]byte("G")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		for _, conn := range []net.Conn{silent, spoke} {
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("Read = %v", err)
			}
		}
	})
}

func TestErrorsReachWhoAccepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPipes()
		listener := authority.Listener(inner, &tls.Config{})
		full := errors.New("too many open files")
		go func() { inner.errs <- full }()
		if _, err := listener.Accept(); !errors.Is(err, full) {
			t.Errorf("Accept = %v", err)
		}
		client := inner.dial() // it goes on
		go func() { _, _ = client.Write([]byte("G")) }()
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(conn.Close(), listener.Close()); err != nil {
			t.Error(err)
		}
	})
}

package httpapi_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
)

// TestOneListenerForTLSAndPlain serves both on one port, as the coordinator
// does, and shuts down while streams are open on either.
func TestOneListenerForTLSAndPlain(t *testing.T) {
	s := serve(t, nil)
	certified := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer certified.Close()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := &mixed{Listener: inner, config: &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}}
	server := httpapi.NewServer(s.api, hclog.NewNullLogger())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	secure := certified.Client().Transport.(*http.Transport).Clone()
	secure.ForceAttemptHTTP2 = true
	defer secure.CloseIdleConnections()
	plain := &http.Transport{}
	defer plain.CloseIdleConnections()
	for _, test := range []struct {
		scheme    string
		transport *http.Transport
		major     int
		tls       bool
	}{{"https", secure, 2, true}, {"http", plain, 1, false}} {
		listener.next(test.tls)
		url := test.scheme + "://" + inner.Addr().String()
		response := roundTrip(t, test.transport, url+"/api/v1/whoami")
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusOK || response.ProtoMajor != test.major || response.Header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: %s %s: %s", url, response.Proto, response.Status, body)
		}
		stream := roundTrip(t, test.transport, url+"/api/v1/events")
		if _, err := io.ReadFull(stream.Body, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.Copy(io.Discard, stream.Body) // until the server ends it
		}()
		defer func() { <-ended }()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-served; err != http.ErrServerClosed {
		t.Errorf("Serve: %v", err)
	}
}

func roundTrip(t *testing.T, transport *http.Transport, url string) *http.Response {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// mixed yields TLS or plain connections, as it was told.
type mixed struct {
	net.Listener
	config *tls.Config
	mu     sync.Mutex
	tls    bool
}

func (m *mixed) next(tls bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tls = tls
}

func (m *mixed) Accept() (net.Conn, error) {
	connection, err := m.Listener.Accept()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil || !m.tls {
		return connection, err
	}
	return tls.Server(connection, m.config), nil
}

package httpapi_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
)

// served is a running server over a backend.
type served struct {
	*backend
	door    *door
	planner *planner
	watch   *watchman
	url     string
	api     *httpapi.API
	metrics *httpapi.Metrics
	server  *http.Server
}

// serve starts the real handler on a real listener. change may adjust the
// options.
func serve(t *testing.T, change func(*httpapi.Options)) *served {
	t.Helper()
	b, d, p, w := newBackend(), newDoor(), newPlanner(), &watchman{}
	logger := hclog.NewNullLogger()
	metrics := httpapi.NewMetrics(httpapi.MetricsOptions{Snapshot: b, Feed: b.feed, Logger: logger})
	options := httpapi.Options{
		Mux: http.NewServeMux(), Jobs: b, Logs: b, Statuses: b, Hosts: b, Repositories: b, Operations: b, Archives: b, Catalog: b, Downloads: b,
		Connections: b, Depot: b, Plans: p, Alerts: w, Notifications: w, Manifests: &manifests{},
		Authenticator: d, Logins: d, People: d, Tokens: d, Credentials: d, Enrolment: d, Audit: d, State: d,
		Feed: b.feed, Metrics: metrics, URL: "https://backup.example.net:8440", Logger: logger,
	}
	if change != nil {
		change(&options)
	}
	api, err := httpapi.New(options)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httpapi.NewServer(api, logger)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with ErrServerClosed
	}()
	t.Cleanup(func() {
		_ = server.Close() // the listener is all there is
		<-done
	})
	return &served{backend: b, door: d, planner: p, watch: w, url: "http://" + listener.Addr().String(), api: api, metrics: metrics, server: server}
}

// do sends a request straight to the handler.
func (s *served) do(request *http.Request) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	s.api.ServeHTTP(recorder, request)
	return recorder
}

// get is http.Get as an admin.
func get(url string) (*http.Response, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	return http.DefaultClient.Do(request)
}

package httpapi

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// guard is what every request to this server passes, outermost first: recovery
// from panics, accounting, security headers, the Host header, encryption, the
// origin, and who asks.
func (a *API) guard(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := a.begin(w, r)
		defer call.end()
		setSecurityHeaders(call.Header(), r.URL.Path)
		switch {
		case !a.addressed(r.Host):
			writeProblem(call, newProblem(http.StatusForbidden, job.Fail(job.NotAllowed, "borgfleet does not answer under this host name").
				WithHint("use its IP address, or set http.url in coordinator.yaml to the name that you use")))
		case r.TLS == nil && !remoteAddress(r).IsLoopback():
			toHTTPS(call, r)
		case origin.Check(r) != nil:
			writeProblem(call, newProblem(http.StatusForbidden, job.Fail(job.NotAllowed, "the request was sent by a page of another site").
				WithHint("open borgfleet's own page, or use a program that is not a browser")))
		case a.authenticate(call):
			next.ServeHTTP(call, call.request)
		}
	})
}

// remoteAddress is where a request came from; not valid when that is no IP
// address.
func remoteAddress(r *http.Request) netip.Addr {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return remote.Addr().Unmap()
}

// toHTTPS answers what came from another machine without encryption. The same
// port serves both, so only the scheme changes.
func toHTTPS(w http.ResponseWriter, r *http.Request) {
	secure := "https://" + r.Host
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		http.Redirect(w, r, secure+r.URL.RequestURI(), http.StatusPermanentRedirect)
		return
	}
	writeProblem(w, newProblem(http.StatusForbidden, job.Fail(job.NotAllowed, "this request came without encryption from another machine").
		WithHint("use %s; what it carried should be considered known to others", secure)))
}

// addressed reports whether the Host header names this coordinator. A page of
// another site whose own name resolves to our address (DNS rebinding) does not;
// that trick needs a name, so every IP address is fine.
func (a *API) addressed(host string) bool {
	name := host
	if without, _, err := net.SplitHostPort(host); err == nil {
		name = without
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	if name == "localhost" {
		return true
	}
	for _, own := range a.options.Names {
		if name == strings.ToLower(own) {
			return true
		}
	}
	return false
}

// setSecurityHeaders sets what a handler may loosen for its own pages.
func setSecurityHeaders(header http.Header, path string) {
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	if strings.HasPrefix(path, "/api/") {
		header.Set("Cache-Control", "no-store")
	}
}

// call is one request on its way through: its response writer, and what is
// told of it in log and metrics.
type call struct {
	http.ResponseWriter
	api     *API
	request *http.Request
	began   time.Time
	status  int
	bytes   int64
	failed  error // a write that did not go through
	known   bool  // who asks is known
	stream  bool  // an event stream
	cancel  context.CancelFunc
	undrain func() bool    // of a stream
	watch   sync.WaitGroup // of a stream: the one that looks whether its reader is still known
}

// begin notes where the request came from: all that is known of who asks, as
// long as nobody has been authenticated.
func (a *API) begin(w http.ResponseWriter, r *http.Request) *call {
	c := &call{ResponseWriter: w, api: a, began: time.Now()}
	ctx, cancel := context.WithCancel(fleet.WithActor(r.Context(), fleet.Actor{From: "http " + remoteAddress(r).String()}))
	c.cancel, c.request = cancel, r.WithContext(ctx)
	return c
}

// Unwrap is for http.ResponseController.
func (c *call) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Flush implements http.Flusher.
func (c *call) Flush() { _ = http.NewResponseController(c.ResponseWriter).Flush() } // a lost client shows at the next write

// WriteHeader implements http.ResponseWriter. A stream ends with the server.
func (c *call) WriteHeader(status int) {
	if c.status == 0 && status >= http.StatusOK {
		c.status = status
		if strings.HasPrefix(c.Header().Get("Content-Type"), "text/event-stream") {
			c.stream = true
			c.api.options.Metrics.streams.Inc()
			c.undrain = onDrain(c.request.Context(), c.cancel)
			if c.known {
				c.watch.Go(c.endWhenUnknown)
			}
		}
	}
	c.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (c *call) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	if err != nil {
		c.failed = err
	}
	return n, err
}

// end accounts for the call. It must be deferred: it recovers from a panic.
func (c *call) end() {
	reason, abort := recover(), false
	if reason != nil {
		abort = c.recovered(reason)
	}
	c.cancel()
	if c.stream {
		c.watch.Wait()
		c.undrain()
		c.api.options.Metrics.streams.Dec()
	}
	taken := time.Since(c.began)
	c.api.options.Metrics.request(c, taken)
	c.api.logger.Debug("request", "method", c.request.Method, "path", loggedPath(c.request), "status", c.status,
		"bytes", c.bytes, "duration", taken, "remote", c.request.RemoteAddr)
	if abort {
		panic(http.ErrAbortHandler) // the client must not take a cut answer for a whole one
	}
}

// recovered answers for a handler that panicked. It reports whether the answer
// had begun, so that all that is left is to break the connection.
func (c *call) recovered(reason any) (abort bool) {
	if reason == http.ErrAbortHandler || c.failed != nil || c.request.Context().Err() != nil {
		return true // the client is gone; huma panics when it cannot write
	}
	c.api.logger.Error("request panicked", "method", c.request.Method, "path", loggedPath(c.request),
		"err", fmt.Sprint(reason), "stack", string(debug.Stack()))
	if c.status != 0 {
		return true
	}
	writeProblem(c, newProblem(http.StatusInternalServerError, job.Fail(job.Internal, "the coordinator has a fault").
		WithHint("its log has the details; please report it")))
	return false
}

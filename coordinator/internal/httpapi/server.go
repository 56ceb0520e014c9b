package httpapi

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Limits of the HTTP server. There is none for writing: event streams are open
// for days, and bound each write themselves. The one for reading ends with the
// request's body, so it does not cut them.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 60 * time.Second
	idleTimeout       = 120 * time.Second
	maxHeaderBytes    = 64 << 10
)

// drainKey finds, in a request's context, the context that ends when the
// server is shut down.
type drainKey struct{}

// NewServer returns a server for the handler with its limits set. Its listener
// may yield plain connections and *[tls.Conn]; on the latter it also speaks
// HTTP/2, if the listener's configuration offers "h2". When it is shut down,
// open event streams end, so that Shutdown need not wait for them; other
// requests are finished.
func NewServer(handler http.Handler, logger hclog.Logger) *http.Server {
	draining, drain := context.WithCancel(context.Background())
	base := context.WithValue(context.Background(), drainKey{}, draining)
	server := &http.Server{
		Handler:           handler,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          logger.Named("http").StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	server.RegisterOnShutdown(drain)
	return server
}

// onDrain calls stop once the server of this request is shut down. The returned
// function undoes that.
func onDrain(ctx context.Context, stop func()) (undo func() bool) {
	draining, ok := ctx.Value(drainKey{}).(context.Context)
	if !ok {
		return func() bool { return true }
	}
	return context.AfterFunc(draining, stop)
}

package httpapi

import (
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/redirect"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Places of the pages that this guard must know.
const (
	loginPath   = "/login"
	setupPrefix = "/setup/" // what follows is a secret
)

// authenticate finds out who asks, and puts that into the request's context.
// When it reports false, it has answered.
func (a *API) authenticate(c *call) bool {
	r := c.request
	if public(r) {
		return true
	}
	ctx := r.Context()
	actor, known, err := a.options.Authenticator.Authenticate(r)
	if err == nil && !known {
		err = unknownActor(r)
	}
	if err != nil {
		problem := a.problem(ctx, err)
		if problem.Code == job.NotAuthenticated && wantsPage(r) {
			c.Header().Set("Cache-Control", "no-store")
			http.Redirect(c, r, loginFor(r), http.StatusSeeOther)
			return false
		}
		writeProblem(c, problem)
		return false
	}
	actor.From = fleet.ActorOf(ctx).From
	c.known, c.request = true, r.WithContext(fleet.WithActor(ctx, actor))
	return true
}

// public reports whether a request is answered without knowing who asks. A path
// that the mux would rewrite never is.
func public(r *http.Request) bool {
	at := r.URL.Path
	if at != path.Clean(at) {
		return false
	}
	switch at {
	case "/healthz", "/readyz", "/favicon.ico", loginPath, Prefix + "/openapi.json", Prefix + "/docs", Prefix + "/docs.css":
		return true
	case Prefix + loginPath:
		return r.Method == http.MethodPost
	}
	for _, prefix := range []string{"/static/", loginPath + "/", setupPrefix} {
		if strings.HasPrefix(at, prefix) {
			return true
		}
	}
	return false
}

// isPage reports whether a path belongs to the pages rather than the API.
func isPage(r *http.Request) bool {
	return !strings.HasPrefix(r.URL.Path, "/api/") && r.URL.Path != "/metrics"
}

// wantsPage reports whether a person waits for a page.
func wantsPage(r *http.Request) bool {
	return isPage(r) && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// loginFor is the login page that leads back to what was to be read, which must
// lie on this server. What was to be changed is not repeated.
func loginFor(r *http.Request) string {
	next := redirect.Local(r.URL.RequestURI())
	if r.Method != http.MethodGet && r.Method != http.MethodHead || next == "/" {
		return loginPath
	}
	return loginPath + "?next=" + url.QueryEscape(next)
}

func unknownActor(r *http.Request) error {
	failure := job.Fail(job.NotAuthenticated, "it is not known who asks")
	if isPage(r) {
		return failure.WithHint("sign in at %s", loginPath)
	}
	return failure.WithHint("send a token in the header Authorization: Bearer TOKEN; `borgfleet token add` makes one, POST %s/login too", Prefix)
}

// endWhenUnknown ends an open stream when its reader's token or session has
// ended.
func (c *call) endWhenUnknown() {
	authenticator := c.api.options.Authenticator
	ticker := time.NewTicker(c.api.options.Keepalive)
	defer ticker.Stop()
	for {
		changed := authenticator.Changed() // before looking, so that no change falls in between
		_, known, err := authenticator.Authenticate(c.request)
		if (err == nil && !known) || (err != nil && job.AsFailure(err).Code == job.NotAuthenticated) {
			c.cancel()
			return
		}
		select {
		case <-c.request.Context().Done():
			return
		case <-changed:
		case <-ticker.C: // tokens and sessions also expire
		}
	}
}

// loggedPath is a request's path as it may stand in a log.
func loggedPath(r *http.Request) string {
	if strings.HasPrefix(r.URL.Path, setupPrefix) {
		return setupPrefix + "[redacted]"
	}
	return r.URL.Path
}

package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/redirect"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// reader is who looks at a page. Pages hide what this person would be refused;
// whether it is refused, the services decide.
type reader struct{ actor fleet.Actor }

func readerOf(ctx context.Context) reader { return reader{fleet.ActorOf(ctx)} }

// Reads reports whether the reader may see anything at all.
func (r reader) Reads() bool { return r.actor.Role.Includes(bus.Viewer) }

// Operates reports whether the reader may act on jobs.
func (r reader) Operates() bool { return r.actor.Role.Includes(bus.Operator) }

// Administers reports whether the reader may change everything else.
func (r reader) Administers() bool { return r.actor.Role.Includes(bus.Admin) }

// Who is what the reader is called.
func (r reader) Who() string {
	if user, ok := fleet.UserOf(r.actor.Name); ok {
		return user
	}
	return r.actor.Name
}

// Rank is what the reader may do, in a word.
func (r reader) Rank() bus.Role { return r.actor.Role }

// HasPassword reports whether the reader is a person, rather than a program or
// whoever owns the data directory.
func (r reader) HasPassword() bool {
	_, person := fleet.UserOf(r.actor.Name)
	return person && r.actor.Name != fleet.Local
}

// mayRun reports whether the reader may submit jobs of a kind. The services
// hold to the same rule; here it only keeps buttons away.
func (r reader) mayRun(kind job.Kind) bool { return r.actor.Role.Includes(fleet.StartRole(kind, nil)) }

// needAdmin refuses readers who are not admins the pages that are for them.
func needAdmin(ctx context.Context) error {
	return needRole(ctx, bus.Admin)
}

// needRole refuses readers the pages of forms that they may not send.
func needRole(ctx context.Context, role bus.Role) error {
	if readerOf(ctx).actor.Role.Includes(role) {
		return nil
	}
	return job.Fail(job.NotAllowed, "this page needs the role %s", role).WithHint("ask an admin to do it, or to give you that role")
}

// admit lets only those in who may read. The server around this handler has
// asked for credentials before; a request that comes here without has slipped
// past it, or is from somebody who was signed out.
func (s *site) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case readerOf(r.Context()).Reads():
			next.ServeHTTP(w, r)
		case r.URL.Path == "/live":
			http.Error(w, "not signed in", http.StatusUnauthorized)
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			http.Redirect(w, r, loginURL(r.URL.RequestURI()), http.StatusSeeOther)
		default:
			s.fault(w, r, http.StatusUnauthorized, job.Fail(job.NotAuthenticated, "You are not signed in.").
				WithHint("Sign in, then do it again: nothing was changed."))
		}
	})
}

func loginURL(next string) string {
	if next = localPath(next); next == "/" {
		next = ""
	}
	return withQuery("/login", "next", next)
}

// localPath is where to go after signing in: a page here, or else the overview.
func localPath(next string) string {
	next = redirect.Local(next)
	u, err := url.Parse(next)
	if err != nil {
		return "/"
	}
	for _, outside := range []string{"/login", "/logout", "/setup", "/live", "/static"} {
		if u.Path == outside || strings.HasPrefix(u.Path, outside+"/") {
			return "/"
		}
	}
	return next
}

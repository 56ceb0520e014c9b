package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// StatusReader tells the whole in short. Safe for concurrent use.
type StatusReader interface {
	Status(ctx context.Context) (fleet.Status, error)
}

// JobReader reads jobs, with the live progress of those that run. Faults are
// *job.Failure. Safe for concurrent use.
type JobReader interface {
	Job(ctx context.Context, id job.ID) (job.Job, error)
	Jobs(ctx context.Context, filter job.Filter) (job.Page, error)
	Log(ctx context.Context, id job.ID, after int) (fleet.JobLog, error)
}

// JobWriter acts on jobs in the name of by. Submit is idempotent by the
// request's key; Retry makes a new job. Faults are *job.Failure. Safe for
// concurrent use.
type JobWriter interface {
	Submit(ctx context.Context, by fleet.Actor, request job.Request) (job.Job, error)
	Cancel(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error)
	Retry(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error)
}

// HostReader reads hosts. Faults are *job.Failure. Safe for concurrent use.
type HostReader interface {
	Host(ctx context.Context, name string) (fleet.HostView, error)
	Hosts(ctx context.Context) ([]fleet.HostView, error)
}

// RepositoryReader reads repositories. Faults are *job.Failure. Safe for
// concurrent use.
type RepositoryReader interface {
	Repository(ctx context.Context, name string) (fleet.RepositoryView, error)
	Repositories(ctx context.Context) ([]fleet.RepositoryView, error)
}

// Options is what the pages need. What stands below the empty line is optional,
// everything else is required.
type Options struct {
	Status       StatusReader
	Jobs         JobReader
	Actions      JobWriter
	Hosts        HostReader
	Repositories RepositoryReader
	Archives     ArchiveReader
	Catalog      Catalog
	Enroller     Enroller
	Remover      HostRemover
	Sessions     Sessions
	Passwords    PasswordChanger
	Users        UserAdmin
	Tokens       TokenAdmin
	Credentials  CredentialAdmin
	Audit        Auditor
	Feed         *feed.Feed
	Logger       hclog.Logger

	Now        func() time.Time // nil means time.Now
	Version    string           // shown at the foot of each page
	DataDir    string           // of the coordinator; default /var/lib/borgfleet
	CountLogin func(error)      // told how each attempt to sign in ended; nil: nobody counts
	OIDCName   string           // what the other way to sign in is called; it begins at /login/oidc

	SSH         SSHHosts // nil, as Connections is then: hosts over SSH can neither be added nor changed
	Connections Connections
	Depot       Depot // nil, as Keeper is then: the coordinator keeps no repositories itself
	Keeper      RepositoryAdmin
	Plans       Plans         // nil: there are no pages of plans
	Alerts      Alerts        // nil: there is no page of alerts
	Notify      Notifications // nil: there is no page of notifications
}

// defaultDataDir is the data directory that the command line looks into by
// itself.
const defaultDataDir = "/var/lib/borgfleet"

// site is the handler's state. Only once changes after New.
type site struct {
	Options
	logger    hclog.Logger
	templates *template.Template
	assets    assets
	once      *once
}

// New returns the handler of all pages, to be mounted at "/".
//
// GET changes nothing; the handler relies on the server around it to refuse
// POST from other origins (http.CrossOriginProtection). The live stream ends
// with its request's context, so a server that shuts down must end those
// contexts first (http.Server.BaseContext).
func New(options Options) (http.Handler, error) {
	if err := options.complete(); err != nil {
		return nil, err
	}
	assets, err := loadAssets()
	if err != nil {
		return nil, err
	}
	templates, err := loadTemplates()
	if err != nil {
		return nil, err
	}
	s := &site{Options: options, logger: options.Logger.Named("web"), templates: templates, assets: assets, once: newOnce()}
	mux := http.NewServeMux() // for everybody
	mux.HandleFunc("GET /static/{file}", s.static)
	mux.HandleFunc("GET /favicon.ico", s.favicon)
	mux.HandleFunc("GET /login", s.loginForm)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("GET /setup/{token}", s.setupForm)
	mux.HandleFunc("POST /setup/{token}", s.setup)
	mux.Handle("/", s.admit(s.inside()))
	return secure(mux), nil
}

// inside serves those who are signed in.
func (s *site) inside() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", s.live)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("POST /account/password", s.changePassword)
	mux.HandleFunc("POST /jobs/{id}/cancel", s.cancel)
	mux.HandleFunc("POST /jobs/{id}/retry", s.retry)
	mux.HandleFunc("POST /enrol", s.submitEnrol)
	mux.HandleFunc("POST /hosts/{host}/backup", s.submitBackup)
	mux.HandleFunc("POST /repositories/{repository}/run", s.submitCare)
	mux.HandleFunc("POST /people/users", s.addUser)
	mux.HandleFunc("POST /people/users/{user}/role", s.setRole)
	mux.HandleFunc("POST /people/users/{user}/link", s.newLink)
	mux.HandleFunc("POST /people/tokens", s.addToken)
	mux.HandleFunc("POST /people/credentials", s.mintCredentials)
	for address, build := range map[string]confirmer{
		"/hosts/{host}/remove":                  s.confirmHost,
		"/people/users/{user}/remove":           s.confirmUser,
		"/repositories/{repository}/break-lock": s.confirmBreakLock,
		"/repositories/{repository}/delete":     s.confirmDelete,
		"/people/tokens/{id}/remove":            s.confirmToken,
		"/people/credentials/{name}/revoke":     s.confirmCredentials,
	} {
		mux.Handle("GET "+address, s.confirm(bus.Admin, build))
		mux.Handle("POST "+address, s.confirm(bus.Admin, build))
	}
	s.addArchives(mux)
	s.addReach(mux)
	s.addPlanning(mux)
	mux.HandleFunc("/", s.page)
	return mux
}

func (o *Options) complete() error {
	if o.Status == nil || o.Jobs == nil || o.Actions == nil || o.Hosts == nil || o.Repositories == nil || o.Archives == nil || o.Catalog == nil {
		return errors.New("web: a reader or writer is missing in the options")
	}
	if o.Enroller == nil || o.Remover == nil || o.Sessions == nil || o.Passwords == nil || o.Users == nil || o.Tokens == nil || o.Credentials == nil || o.Audit == nil {
		return errors.New("web: a part that knows identities is missing in the options")
	}
	if (o.Depot == nil) != (o.Keeper == nil) || (o.SSH == nil) != (o.Connections == nil) {
		return errors.New("web: half of the depot, or of what knows hosts over SSH, is missing in the options")
	}
	if o.Feed == nil || o.Logger == nil {
		return errors.New("web: the feed or the logger is missing in the options")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.DataDir == "" {
		o.DataDir = defaultDataDir
	}
	return nil
}

// policy lets a page load what this handler serves and nothing else: no
// foreign origin, nothing inline, no frame around it.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "same-origin")
		header.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

// page serves every page that is read, and the pages that say that there is none.
func (s *site) page(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		s.fault(w, r, http.StatusMethodNotAllowed, job.Fail(job.InvalidRequest, "This address does not take %s.", r.Method))
		return
	}
	if parent, ok := actionParent(r.URL.Path); ok { // a reload of a form that was refused
		http.Redirect(w, r, parent, http.StatusSeeOther)
		return
	}
	build, ok := s.route(r.URL, s.commandsFor(r))
	if !ok {
		s.fault(w, r, http.StatusNotFound, job.Fail(job.InvalidRequest, "There is no page at %s.", r.URL.Path).
			WithHint("Start at the overview."))
		return
	}
	v, err := build(r.Context())
	if err != nil {
		s.faultOf(w, r, err)
		return
	}
	s.render(w, r, v)
}

// faultOf serves the page that tells err.
func (s *site) faultOf(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody is there to read it
	}
	failure := job.AsFailure(err)
	status := failure.Code.HTTPStatus()
	if status >= http.StatusInternalServerError {
		s.logger.Error("cannot show page", "path", r.URL.Path, "err", err)
	}
	s.fault(w, r, status, failure)
}

func (s *site) fault(w http.ResponseWriter, r *http.Request, status int, failure *job.Failure) {
	heading := "This page cannot be shown now"
	switch status {
	case http.StatusNotFound:
		heading = "Not found"
	case http.StatusForbidden:
		heading = "Not allowed"
	case http.StatusUnauthorized:
		heading = "Signed out"
	case http.StatusTooManyRequests:
		heading = "Too many requests"
	case http.StatusMethodNotAllowed, http.StatusBadRequest:
		heading = "Not understood"
	}
	s.render(w, r, &view{
		Title: heading, Body: "fault", Status: status,
		Data: struct {
			Heading string
			Failure *job.Failure
			Inside  bool
		}{heading, failure, readerOf(r.Context()).Reads()},
	})
}

// moment is the clock of one rendering.
func (s *site) moment() clock { return clock{now: s.Now().UTC()} }

// wrap says which page was being read when err came; failures stay as they are
// for the reader.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("reading %s: %w", what, err)
}

package web

import (
	"context"
	"net"
	"net/http"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Sessions lets people in and out. from says where a request came from, for
// the limits on guessing. Faults are *job.Failure: NotAuthenticated for a wrong
// name or password, TooMany for who tries too often, NotFound for a link that
// is spent or has expired. Safe for concurrent use.
type Sessions interface {
	Login(ctx context.Context, from, name string, password secret.Value) (fleet.Actor, error)
	StartSession(w http.ResponseWriter, r *http.Request, user string) error
	EndSession(w http.ResponseWriter, r *http.Request) error
	// LinkUser says whom a one-time link is for; no name: whoever sets up first.
	LinkUser(ctx context.Context, token string) (user string, role bus.Role, err error)
	// UseLink spends the link and sets the password. The name only counts when
	// the link is for nobody yet.
	UseLink(ctx context.Context, from, token, name string, password secret.Value) (fleet.User, error)
}

// fromOf is where a request came from, as the audit names it.
func fromOf(r *http.Request) string {
	if from := fleet.ActorOf(r.Context()).From; from != "" {
		return from
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "http " + host
}

// loginPage is the data of the page to sign in.
type loginPage struct {
	Name    string
	Next    string
	OIDC    string // what the other way to sign in is called
	OIDCURL string
	Failure *job.Failure
}

func (s *site) loginForm(w http.ResponseWriter, r *http.Request) {
	next := localPath(r.URL.Query().Get("next"))
	if readerOf(r.Context()).Reads() {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	s.renderLogin(w, r, &loginPage{Next: next})
}

// renderLogin serves the form; its page says why it was refused before.
func (s *site) renderLogin(w http.ResponseWriter, r *http.Request, page *loginPage) {
	v := &view{Title: "Sign in", Body: "login", Data: page, Secret: true}
	if page.Failure != nil {
		v.Status = page.Failure.Code.HTTPStatus()
	}
	if s.OIDCName != "" {
		page.OIDC, page.OIDCURL = s.OIDCName, strings.Replace(loginURL(page.Next), "/login", "/login/oidc", 1)
	}
	s.render(w, r, v)
}

func (s *site) login(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	page := &loginPage{Name: strings.TrimSpace(r.PostForm.Get("name")), Next: localPath(r.PostForm.Get("next"))}
	actor, err := s.Sessions.Login(r.Context(), fromOf(r), page.Name, secret.FromString(r.PostForm.Get("password")))
	if s.CountLogin != nil {
		s.CountLogin(err)
	}
	if err == nil {
		user, _ := fleet.UserOf(actor.Name)
		err = s.Sessions.StartSession(w, r, user)
	}
	if err == nil {
		http.Redirect(w, r, page.Next, http.StatusSeeOther)
		return
	}
	page.Failure = job.AsFailure(err)
	if page.Failure.Code.HTTPStatus() >= http.StatusInternalServerError {
		s.faultOf(w, r, err)
		return
	}
	s.renderLogin(w, r, page)
}

func (s *site) logout(w http.ResponseWriter, r *http.Request) {
	if err := s.Sessions.EndSession(w, r); err != nil {
		s.faultOf(w, r, err)
		return
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// setupPage is the data of the page behind a one-time link.
type setupPage struct {
	User   string // whom it is for; empty: whoever sets up first
	Name   string // as typed
	Role   bus.Role
	Faults []*job.Failure
}

// Fault is what was wrong with a field.
func (p *setupPage) Fault(field string) *job.Failure { return faultOf(p.Faults, field) }

// readLink reads whom the link in the address is for. It answers itself when
// the link is for nobody any more.
func (s *site) readLink(w http.ResponseWriter, r *http.Request) (*setupPage, bool) {
	user, role, err := s.Sessions.LinkUser(r.Context(), r.PathValue("token"))
	switch {
	case err == nil:
		return &setupPage{User: user, Name: user, Role: role}, true
	case job.AsFailure(err).Code == job.NotFound:
		s.render(w, r, &view{Title: "This link no longer works", Body: "setup-gone", Status: http.StatusNotFound, Secret: true})
	default:
		s.faultOf(w, r, err)
	}
	return nil, false
}

func (s *site) setupForm(w http.ResponseWriter, r *http.Request) {
	if page, ok := s.readLink(w, r); ok {
		s.renderSetup(w, r, page)
	}
}

func (s *site) renderSetup(w http.ResponseWriter, r *http.Request, page *setupPage) {
	v := &view{Title: "Choose a password", Body: "setup", Data: page, Secret: true}
	if page.User == "" {
		v.Title = "Set up borgfleet"
	}
	if len(page.Faults) > 0 {
		v.Status = page.Faults[0].Code.HTTPStatus()
	}
	s.render(w, r, v)
}

func (s *site) setup(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	page, ok := s.readLink(w, r)
	if !ok {
		return
	}
	if page.User == "" {
		page.Name = strings.TrimSpace(r.PostForm.Get("name"))
	}
	user, err := s.useLink(r, page)
	if err == nil {
		err = s.Sessions.StartSession(w, r, user.Name)
	}
	switch failure := job.AsFailure(err); {
	case err == nil:
		http.Redirect(w, r, "/", http.StatusSeeOther)
	case failure.Code == job.NotFound: // spent by somebody else just now
		s.setupForm(w, r)
	case failure.Code.HTTPStatus() >= http.StatusInternalServerError:
		s.faultOf(w, r, err)
	default:
		page.Faults = failures(err)
		s.renderSetup(w, r, page)
	}
}

// useLink sets the password that was typed twice.
func (s *site) useLink(r *http.Request, page *setupPage) (fleet.User, error) {
	password, again := secret.FromString(r.PostForm.Get("password")), secret.FromString(r.PostForm.Get("again"))
	if !password.Equal(again) {
		return fleet.User{}, passwordsDiffer()
	}
	return s.Sessions.UseLink(r.Context(), fromOf(r), r.PathValue("token"), page.Name, password)
}

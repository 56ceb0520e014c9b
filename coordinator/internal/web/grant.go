package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// grant serves one of the forms of the people page: make does what it asks
// for, and returns the secret that is shown this once.
func (s *site) grant(w http.ResponseWriter, r *http.Request, form func(*peopleForms, *grantForm), make func(*grantForm) (*shown, error)) {
	if !s.parse(w, r) || !s.firstTime(w, r, "/people") {
		return
	}
	sent := &grantForm{Name: strings.TrimSpace(r.PostForm.Get("name")), Role: bus.Role(r.PostForm.Get("role")), Days: r.PostForm.Get("days")}
	secret, refused := make(sent)
	forms := peopleForms{Shown: secret}
	if refused != nil {
		sent.Faults = failures(refused)
		form(&forms, sent)
	}
	v, err := s.people(r.Context(), s.commandsFor(r), forms)
	switch {
	case err != nil:
		s.faultOf(w, r, err)
	case refused != nil:
		s.refuse(w, r, refused, v)
	default:
		s.render(w, r, v)
	}
}

func (s *site) addUser(w http.ResponseWriter, r *http.Request) {
	s.grant(w, r, func(f *peopleForms, sent *grantForm) { f.User = sent }, func(sent *grantForm) (*shown, error) {
		user, link, expires, err := s.Users.AddUser(r.Context(), fleet.ActorOf(r.Context()), sent.Name, sent.Role)
		if err != nil {
			return nil, err
		}
		return s.shownLink(r, user.Name, link, expires), nil
	})
}

// shownLink shows the link with which a person chooses a password.
func (s *site) shownLink(r *http.Request, name string, link secret.Value, expires time.Time) *shown {
	return &shown{
		Heading: "A link for " + name,
		About:   "Give it to " + name + ", who chooses a password there. It works once, for " + s.lasts(expires) + ".",
		Value:   s.commandsFor(r).origin + "/setup/" + string(link.Reveal()),
	}
}

// lasts is how long something works that was made now.
func (s *site) lasts(until time.Time) string {
	return human.Duration(until.Sub(s.Now()).Round(time.Minute))
}

func (s *site) addToken(w http.ResponseWriter, r *http.Request) {
	s.grant(w, r, func(f *peopleForms, sent *grantForm) { f.Token = sent }, func(sent *grantForm) (*shown, error) {
		days, err := strconv.ParseUint(sent.Days, 10, 16)
		if err != nil || days == 0 {
			return nil, job.Invalid("days", "%q is not a number of days", sent.Days)
		}
		token, value, err := s.Tokens.AddToken(r.Context(), fleet.ActorOf(r.Context()),
			fleet.NewAPIToken{Name: sent.Name, Role: sent.Role, Lifetime: time.Duration(days) * 24 * time.Hour})
		if err != nil {
			return nil, err
		}
		return &shown{
			Heading: "The token " + token.Name,
			About:   "A program sends it as `Authorization: Bearer …`. It works for " + s.lasts(token.ExpiresAt) + ".",
			Value:   string(value.Reveal()),
		}, nil
	})
}

func (s *site) mintCredentials(w http.ResponseWriter, r *http.Request) {
	s.grant(w, r, func(f *peopleForms, sent *grantForm) { f.Credential = sent }, func(sent *grantForm) (*shown, error) {
		made, value, err := s.Credentials.MintCredentials(r.Context(), fleet.ActorOf(r.Context()), sent.Name, sent.Role)
		if err != nil {
			return nil, err
		}
		file := made.Name + ".creds"
		return &shown{
			Heading: "Credentials for " + made.Name,
			About:   "Save them as `" + file + "`, readable by one user only, then: `nats --creds " + file + " sub 'borgfleet.v1.>'`",
			Value:   string(value.Reveal()),
		}, nil
	})
}

// setRole serves the menu of roles on a person's page.
func (s *site) setRole(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	name := r.PathValue("user")
	_, err := s.Users.SetRole(r.Context(), fleet.ActorOf(r.Context()), name, bus.Role(r.PostForm.Get("role")))
	if err == nil {
		http.Redirect(w, r, userURL(name), http.StatusSeeOther)
		return
	}
	s.refuseUser(w, r, err)
}

// newLink makes a link for a person who has lost the password, or the link.
func (s *site) newLink(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("user")
	if !s.parse(w, r) || !s.firstTime(w, r, userURL(name)) {
		return
	}
	link, expires, err := s.Users.NewLink(r.Context(), fleet.ActorOf(r.Context()), name)
	if err != nil {
		s.refuseUser(w, r, err)
		return
	}
	v, err := s.user(r.Context(), name, s.commandsFor(r), userSent{Shown: s.shownLink(r, name, link, expires)})
	if err != nil {
		s.faultOf(w, r, err)
		return
	}
	s.render(w, r, v)
}

// refuseUser says on a person's page why something was not done.
func (s *site) refuseUser(w http.ResponseWriter, r *http.Request, refused error) {
	v, err := s.user(r.Context(), r.PathValue("user"), s.commandsFor(r), userSent{Fault: job.AsFailure(refused)})
	if err != nil {
		s.faultOf(w, r, refused)
		return
	}
	s.refuse(w, r, refused, v)
}

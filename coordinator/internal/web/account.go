package web

import (
	"context"
	"net/http"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// PasswordChanger changes the password of who asks, and ends what the old one
// has let in: every session, also the one that asks. Faults are *job.Failure,
// of the fields old_password and password, or TooMany. Safe for concurrent use.
type PasswordChanger interface {
	ChangePassword(ctx context.Context, by fleet.Actor, old, fresh secret.Value) error
}

// accountURL is the reader's own page.
const accountURL = "/account"

// accountPage is the data of the reader's own page.
type accountPage struct {
	reader
	Changed bool // the password was, just now
	Faults  []*job.Failure
}

// Fault is what was wrong with a field.
func (p *accountPage) Fault(field string) *job.Failure { return faultOf(p.Faults, field) }

// account builds the page of who reads it.
func (s *site) account(ctx context.Context, changed bool, faults []*job.Failure) *view {
	v := &view{
		Title: "Your account", Nav: accountURL, Body: "account", Secret: true,
		Data: &accountPage{reader: readerOf(ctx), Changed: changed, Faults: faults},
	}
	if len(faults) > 0 {
		v.Status = faults[0].Code.HTTPStatus()
	}
	return v
}

// changePassword serves the form on the reader's own page. The change has ended
// the session that asked for it, so another takes its place.
func (s *site) changePassword(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	reader := readerOf(r.Context())
	old, fresh := secret.FromString(r.PostForm.Get("old_password")), secret.FromString(r.PostForm.Get("password"))
	var err error
	if fresh.Equal(secret.FromString(r.PostForm.Get("again"))) {
		err = s.Passwords.ChangePassword(r.Context(), reader.actor, old, fresh)
	} else {
		err = passwordsDiffer()
	}
	if err != nil {
		s.refuse(w, r, err, s.account(r.Context(), false, failures(err)))
		return
	}
	if err := s.Sessions.StartSession(w, r, reader.Who()); err != nil {
		s.faultOf(w, r, err)
		return
	}
	http.Redirect(w, r, accountURL+"?changed=1", http.StatusSeeOther)
}

func passwordsDiffer() error {
	return job.Fail(job.InvalidRequest, "the two passwords differ").WithHint("type the same one twice")
}

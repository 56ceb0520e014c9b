package web

import (
	"context"
	"net/http"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// confirmation is the page before something that cannot be undone: it says
// what will happen, and does nothing.
type confirmation struct {
	Title   string
	Action  string   // in a few words, for the path to this page; empty: remove
	Nav     string   // address of the menu entry
	Back    string   // where the reader came from
	BackTo  string   // what that is called
	Happens []string // a sentence each
	Ask     string   // has to be typed; empty: nothing
	Typed   string
	Button  string
	Command string // the same from a terminal
	Post    string // the same over HTTP; empty: not told
	Fault   *job.Failure

	Archives []archiveRow // that will go
	Names    []string     // likewise, if no more is known of them
	More     int          // likewise, not named
	Fields   []field      // what else there is to choose
	Mild     bool         // it can be undone

	after string // where to go when it is done
	do    func(ctx context.Context, by fleet.Actor) error
}

// confirmer builds the page for a request.
type confirmer func(r *http.Request) (*confirmation, error)

// confirm serves the page to those with a role, and on POST does what it says.
func (s *site) confirm(role bus.Role, build confirmer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && !s.parse(w, r) {
			return
		}
		page, err := s.confirmation(r, role, build)
		if err != nil {
			s.faultOf(w, r, err)
			return
		}
		if r.Method == http.MethodPost {
			page.Typed = r.PostForm.Get("confirm")
			if page.Fault = page.act(r); page.Fault == nil {
				http.Redirect(w, r, page.after, http.StatusSeeOther)
				return
			}
		}
		v := &view{Title: page.Title, Nav: page.Nav, Body: "confirm", Data: page}
		if page.Fault == nil {
			s.render(w, r, v)
			return
		}
		v.Status = page.Fault.Code.HTTPStatus()
		s.refuse(w, r, page.Fault, v)
	}
}

func (s *site) confirmation(r *http.Request, role bus.Role, build confirmer) (*confirmation, error) {
	if err := needRole(r.Context(), role); err != nil {
		return nil, err
	}
	return build(r)
}

// act does it, or says why not.
func (p *confirmation) act(r *http.Request) *job.Failure {
	if p.Ask != "" && p.Typed != p.Ask {
		return job.Fail(job.InvalidRequest, "type `%s` to confirm", p.Ask)
	}
	return job.AsFailure(p.do(r.Context(), fleet.ActorOf(r.Context())))
}

func (s *site) confirmHost(r *http.Request) (*confirmation, error) {
	h, err := s.Hosts.Host(r.Context(), r.PathValue("host"))
	if err != nil {
		return nil, err
	}
	jobs := "Its queued jobs are dropped."
	if h.Running > 0 {
		jobs += " " + human.Count(h.Running) + " running " + human.Noun(h.Running, "job") + " will be recorded as interrupted."
	}
	end := "Its agent's connection is cut at once, and its identity never works again. To let it in once more, add it anew."
	if h.Mode == fleet.ModeSSH {
		end = "The coordinator's connection ends, and how it is reached is forgotten, with the key of its own. What lies in its working directory stays there."
	}
	return &confirmation{
		Title: "Remove " + h.Name, Nav: "/hosts", Back: hostURL(h.Name), BackTo: h.Name, Ask: h.Name, Button: "Remove " + h.Name,
		Happens: []string{
			end,
			jobs,
			"Its archives stay in their repositories, and its past jobs in the history.",
		},
		Command: s.commandsFor(r).RemoveHost(h.Name), after: "/hosts",
		do: func(ctx context.Context, by fleet.Actor) error { return s.Remover.RemoveHost(ctx, by, h.Name) },
	}, nil
}

func (s *site) confirmUser(r *http.Request) (*confirmation, error) {
	u, err := s.findUser(r.Context(), r.PathValue("user"))
	if err != nil {
		return nil, err
	}
	return &confirmation{
		Title: "Remove " + u.Name, Nav: "/people", Back: userURL(u.Name), BackTo: u.Name, Button: "Remove " + u.Name,
		Happens: []string{
			u.Name + " is signed out everywhere at once, and cannot sign in again.",
			"What " + u.Name + " has done stays in the audit. API tokens that stand for themselves, and NATS credentials, stay too: see People.",
		},
		Command: s.commandsFor(r).borgfleet("user", "remove", u.Name), after: "/people",
		do: func(ctx context.Context, by fleet.Actor) error { return s.Users.RemoveUser(ctx, by, u.Name) },
	}, nil
}

func (s *site) confirmToken(r *http.Request) (*confirmation, error) {
	tokens, err := s.Tokens.Tokens(r.Context())
	if err != nil {
		return nil, wrap("tokens", err)
	}
	for _, t := range tokens {
		if t.ID != r.PathValue("id") {
			continue
		}
		return &confirmation{
			Title: "Remove the token " + t.Name, Nav: "/people", Back: "/people", BackTo: "People", Button: "Remove the token",
			Happens: []string{"Whatever program uses it is refused from now on."},
			Command: s.commandsFor(r).borgfleet("token", "remove", t.ID), after: "/people",
			do: func(ctx context.Context, by fleet.Actor) error { return s.Tokens.RemoveToken(ctx, by, t.ID) },
		}, nil
	}
	return nil, job.Fail(job.NotFound, "there is no token %q", r.PathValue("id")).WithHint("See People.")
}

func (s *site) confirmCredentials(r *http.Request) (*confirmation, error) {
	list, err := s.Credentials.Credentials(r.Context())
	if err != nil {
		return nil, wrap("credentials", err)
	}
	for _, c := range list {
		if c.Name != r.PathValue("name") || c.RevokedAt != nil {
			continue
		}
		return &confirmation{
			Title: "Revoke the credentials of " + c.Name, Nav: "/people", Back: "/people", BackTo: "People", Button: "Revoke",
			Happens: []string{"All NATS credentials that were made for " + c.Name + " end. Open connections are cut at once."},
			Command: s.commandsFor(r).borgfleet("nats-creds", c.Name, "--revoke"), after: "/people",
			do: func(ctx context.Context, by fleet.Actor) error {
				return s.Credentials.RevokeCredentials(ctx, by, c.Name)
			},
		}, nil
	}
	return nil, job.Fail(job.NotFound, "no working credentials have the name %q", r.PathValue("name")).WithHint("See People.")
}

// Package gate enforces roles, once for every edge: it wraps the services that
// change something, or tell what only admins may know, in ones of the same
// methods that first look at who asks. rules is the table.
package gate

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Recorder notes refusals in the audit. It is safe for concurrent use, and must
// not let whoever is refused fill the audit.
type Recorder interface {
	Refused(by fleet.Actor, action, object string)
}

// Gate wraps services. It is safe for concurrent use, as they are.
type Gate struct{ recorder Recorder }

// New returns a gate that notes its refusals.
func New(recorder Recorder) *Gate { return &Gate{recorder: recorder} }

// pass returns nil if the actor may do an action on an object, else a
// *job.Failure with the code NotAllowed, after it was noted.
func (g *Gate) pass(by fleet.Actor, action, object string) error {
	return g.check(by, action, object, rules[action])
}

// passReader is pass for who asks by the context alone.
func (g *Gate) passReader(ctx context.Context, action, object string) error {
	return g.pass(fleet.ActorOf(ctx), action, object)
}

// passRequest is pass for who asks for a new job. A spec that is not valid says
// nothing of what is wanted, and is refused by whoever is asked.
func (g *Gate) passRequest(by fleet.Actor, request job.Request) error {
	object := string(request.Kind) + " of " + request.Host
	if request.Repository != "" {
		object += " to " + request.Repository
	}
	spec, err := job.ParseSpec(request.Kind, request.Spec)
	if err != nil {
		spec = nil
	}
	return g.passJob(by, "job.submit", object, request.Kind, spec)
}

// passJob is pass for an action that starts a job of a kind, to do what its spec
// says.
func (g *Gate) passJob(by fleet.Actor, action, object string, kind job.Kind, spec job.Spec) error {
	return g.check(by, action, object, starting(action, kind, spec))
}

func (g *Gate) check(by fleet.Actor, action, object string, needed rule) error {
	if by.Role.Includes(needed.role) { // never, for an action without a rule
		return nil
	}
	g.recorder.Refused(by, action, object)
	return job.Fail(job.NotAllowed, "%s may not %s", anybody(by.Role), needed.words).
		WithHint("this needs the role %s; borgfleet user role changes a user's", needed.role)
}

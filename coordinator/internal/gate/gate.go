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

// passJob is pass for an action that starts a job of a kind.
func (g *Gate) passJob(by fleet.Actor, action, object string, kind job.Kind) error {
	return g.check(by, action, object, starting(action, kind))
}

func (g *Gate) check(by fleet.Actor, action, object string, needed rule) error {
	if by.Role.Includes(needed.role) { // never, for an action without a rule
		return nil
	}
	g.recorder.Refused(by, action, object)
	return job.Fail(job.NotAllowed, "%s may not %s", anybody(by.Role), needed.words).
		WithHint("this needs the role %s; borgfleet user role changes a user's", needed.role)
}

package fleet

import (
	"context"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// Actor is who asks for something: a person, a program with a token, or the
// coordinator itself. The edge that took the request has authenticated it.
type Actor struct {
	Name string   // "operator:alice", "token:ci"; in the audit, and who submitted a job
	Role bus.Role // what it may do; empty: nothing
	From string   // where the request came from: "http 10.0.0.7", "bus 10.0.0.7"; empty: the coordinator itself
}

// Local is who has proved to own the coordinator's data directory.
const Local = "operator:local"

// Itself is the coordinator, in the audit and where it has submitted a job.
const Itself = "coordinator"

// actorKey finds the actor in a context.
type actorKey struct{}

// WithActor returns a context that says who asks.
func WithActor(ctx context.Context, actor Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// ActorOf returns who asks; the zero Actor, who may do nothing, when the
// context does not say.
func ActorOf(ctx context.Context) Actor {
	actor, _ := ctx.Value(actorKey{}).(Actor)
	return actor
}

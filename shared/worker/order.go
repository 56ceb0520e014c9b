package worker

import (
	"context"
	"errors"
	"time"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Order takes an order in: it is checked, journaled with its first event, and
// handed to Run. The same order again gets the same answer. What is not signed
// by the coordinator, not for this host, or expired leaves no trace. An error
// means that nothing was recorded.
func (w *Worker) Order(ctx context.Context, envelope bus.Envelope) (bus.OrderReply, error) {
	order, err := bus.OpenOrder(envelope, w.options.Signer, w.options.Host, time.Time{}) // its age is looked at below
	if err == nil {
		err = attempt.KeyOf(order).Check()
	}
	if err != nil {
		return w.turnAway(err)
	}
	return w.Take(ctx, order)
}

// Take takes in an order that is known to be the coordinator's, as Order does.
func (w *Worker) Take(ctx context.Context, order bus.Order) (bus.OrderReply, error) {
	if order.Instance != "" && order.Instance != w.options.Instance { // whom it is for answers; empty: a coordinator of 0.2
		return bus.OrderReply{}, bus.ErrInstance
	}
	key := attempt.KeyOf(order)
	if w.now().After(order.ExpiresAt) {
		if reply, known, err := w.options.Journal.Answer(key); known || err != nil {
			return reply, err
		}
		return w.turnAway(bus.ErrStale)
	}
	fault.Point(fault.OrderRead)
	refusal := w.check(order)
	reply, fresh, err := w.options.Journal.Accept(order, refusal, w.first(order, refusal))
	if err != nil || !fresh {
		return reply, err
	}
	fault.Point(fault.OrderJournaled)
	w.changed()
	if refusal == nil {
		w.stream(order, false) // it may be asked for at once, and waits for its slot perhaps
	}
	if refusal != nil {
		w.logger.Warn("refused an order", "job", key, "kind", order.Kind, "err", refusal)
		return reply, nil
	}
	select {
	case w.starts <- attempt.Record{Key: key, Order: &order, LastSeq: 1}:
	case <-ctx.Done(): // it is journaled: the next Run goes on with it
	}
	return reply, nil
}

// turnAway answers an order that is not to be trusted, without recording it.
func (w *Worker) turnAway(cause error) (bus.OrderReply, error) {
	w.logger.Error("turned an order away", "err", cause)
	snapshot, err := w.options.Journal.Snapshot()
	if err != nil {
		return bus.OrderReply{}, err
	}
	failure := job.Fail(job.RefusedByHost, "host %s: %s", w.options.Host, cause)
	switch {
	case errors.Is(cause, bus.ErrSignature):
		_ = failure.WithHint("the agent's signer.pub must be this coordinator's; enrol the host again")
	case errors.Is(cause, bus.ErrStale):
		_ = failure.WithHint("set the clocks of host and coordinator; borgfleet-agent doctor shows the difference")
	}
	return bus.OrderReply{Stamp: snapshot.Stamp, Failure: failure}, nil
}

// check returns why an order will never run here, or nil.
func (w *Worker) check(order bus.Order) *job.Failure {
	if order.Kind.NeedsRepository() || order.Repository != (job.Repository{}) {
		if err := order.Repository.Validate(); err != nil {
			return job.AsFailure(err)
		}
	}
	if _, err := job.ParseSpec(order.Kind, order.Spec); err != nil {
		return job.AsFailure(err)
	}
	if failure := w.options.Policy.Check(order); failure != nil {
		return failure
	}
	_, failure := w.passphrase(order)
	return failure
}

func (w *Worker) passphrase(order bus.Order) (secret.Value, *job.Failure) {
	if order.Passphrase == nil {
		return secret.Value{}, nil
	}
	purpose := secret.Purpose{Host: w.options.Host, Repository: order.Repository.Name}
	value, err := w.options.Secrets.Open(*order.Passphrase, purpose)
	if err != nil {
		return secret.Value{}, job.Fail(job.RefusedByHost, "passphrase of repository %s: %s", order.Repository.Name, err).
			WithHint("the host's seal key may have been replaced: submit the job again, or enter a passphrase in the hosts' custody anew")
	}
	return value, nil
}

// first is the event with which an order enters the journal.
func (w *Worker) first(order bus.Order, refusal *job.Failure) job.Event {
	if refusal != nil {
		return w.event(job.Event{Type: job.EventFinished, State: job.Failed, Failure: refusal})
	}
	return w.event(job.Event{Type: job.EventAccepted, State: job.Running})
}

func (w *Worker) event(e job.Event) job.Event {
	e.Host, e.At = w.options.Host, w.now().UTC()
	return e
}

func (w *Worker) cancelled() job.Event {
	return w.event(job.Event{
		Type: job.EventFinished, State: job.Cancelled,
		Failure: job.Fail(job.CodeCancelled, "the job was cancelled before borg was started"),
	})
}

// Cancel ends an attempt, or remembers that it is never to begin. An error
// means that nothing was recorded.
func (w *Worker) Cancel(_ context.Context, c bus.Cancel) (bus.CancelReply, error) {
	key := attempt.Key{Job: c.Job, Number: c.Attempt}
	if err := key.Check(); err != nil {
		return bus.CancelReply{}, err
	}
	stamp, open, err := w.options.Journal.Cancel(key, w.cancelled())
	if err != nil {
		return bus.CancelReply{}, err
	}
	w.changed()
	if open {
		w.wish(key).end()
	}
	return bus.CancelReply{Stamp: stamp}, nil
}

// Settle applies the coordinator's verdicts: events that are stored leave the
// journal, cancelled attempts are ended, forgotten ones are cleaned up.
func (w *Worker) Settle(ctx context.Context, verdicts []bus.Verdict) error {
	settled, err := w.options.Journal.Settle(verdicts)
	if err != nil {
		return err
	}
	for _, key := range settled.Cancelled {
		w.wish(key).end()
	}
	for _, v := range verdicts {
		if v.Action == bus.Keep {
			w.keep(attempt.Key{Job: v.Job, Number: v.Attempt})
		}
	}
	for _, key := range settled.Forgotten {
		w.drop(key)
		if err := w.options.Engine.Remove(ctx, key.String()); err != nil {
			w.logger.Warn("remove job directory; it is removed at a later start", "job", key, "err", err)
		}
	}
	return nil
}

// build turns an order into what the engine runs. The passphrase is left out of
// an attempt that borg was started for already, should it not open any more.
func (w *Worker) build(order bus.Order, version borg.Version) (engine.Attempt, *job.Failure) {
	spec, err := job.ParseSpec(order.Kind, order.Spec)
	if err != nil {
		return engine.Attempt{}, job.AsFailure(err)
	}
	passphrase, failure := w.passphrase(order)
	var scripts scripts
	if failure == nil {
		spec, scripts, failure = w.resolve(spec)
	}
	return engine.Attempt{
		Job: order.Job, Number: order.Attempt, Host: w.options.Host, Passphrase: passphrase,
		Timeout: time.Duration(order.Timeout) * time.Second,
		Task: borg.Task{
			Kind: order.Kind, Spec: spec, Repository: order.Repository, Host: w.options.Host, For: order.For, Archive: order.Archive, Hook: scripts.hook, Hooks: scripts.around,
			Job: order.Job, Plan: order.Plan, Run: order.Run,
			Encrypted: order.Passphrase != nil, Baseline: order.Baseline, Version: version,
		},
	}, failure
}

// resolve replaces what a spec names on this host by where it is now: links may
// have changed since the order came, and whoever uses it follows none.
func (w *Worker) resolve(spec job.Spec) (resolved job.Spec, found scripts, failure *job.Failure) {
	switch s := spec.(type) {
	case job.RestoreSpec:
		if s.ContentTo != "" {
			found.hook, failure = w.options.Policy.Hook(s.ContentTo)
			return s, found, failure
		}
		s.Target, failure = w.options.Policy.Target(s.Target)
		return s, found, failure
	case job.RestoreTestSpec:
		if s.Target != "" {
			s.Target, failure = w.options.Policy.Target(s.Target)
		}
		return s, found, failure
	case job.MountSpec:
		s.MountPoint, failure = w.options.Policy.MountPoint(s.MountPoint)
		return s, found, failure
	case job.UmountSpec:
		s.MountPoint, failure = w.options.Policy.MountPoint(s.MountPoint)
		return s, found, failure
	case job.BackupSpec:
		found, failure = w.scripts(s)
		return s, found, failure
	default:
		return spec, found, nil
	}
}

package httpapi

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// run submits the job of a call, sees to it that the call's repository is kept
// or abandoned in the end, and waits.
func (a *API) run(ctx context.Context, call borgCall, w waiting) (*waitedOutput, error) {
	if w.until == nil {
		w.until = isOver
	}
	submitted, err := a.submitBorg(ctx, call)
	if err != nil {
		if call.repository.Pending {
			a.note("abandon", call, a.options.Operations.Abandon(ctx, call.by, call.repository.Name))
		}
		return nil, a.problem(ctx, err)
	}
	if call.settles() {
		w.settled = a.settle(ctx, call, submitted.ID, w.until)
	}
	return a.answer(ctx, submitted, call.prefer, w)
}

func (a *API) submitBorg(ctx context.Context, call borgCall) (job.Job, error) {
	spec, err := json.Marshal(call.spec)
	if err != nil {
		return job.Job{}, fmt.Errorf("encode spec: %w", err)
	}
	return a.options.Operations.SubmitWith(ctx, call.by, job.Request{
		Host: call.host, Kind: call.spec.Kind(), Repository: call.repository.Name, Spec: spec,
	}, call.passphrase)
}

// also runs one more job for a call, whose own job does not tell everything.
func (a *API) also(ctx context.Context, call borgCall, spec job.Spec) (job.Job, error) {
	call.spec = spec
	submitted, err := a.submitBorg(ctx, call)
	if err != nil {
		return job.Job{}, err
	}
	done, err := a.await(ctx, submitted.ID, isOver)
	if err != nil {
		return done, err
	}
	return done, failureOf(done)
}

// settles reports whether the job's outcome says what becomes of the
// repository's record: of one that is pending, or whose passphrase is not known
// yet or made with it.
func (c borgCall) settles() bool {
	mayKeep := !c.passphrase.Empty() && c.repository.Custody != fleet.CustodyHosts && c.repository.Encryption.NeedsPassphrase()
	return c.repository.Pending || mayKeep && (!c.repository.HasPassphrase || c.spec.Kind() == job.Init)
}

// settle keeps a call's repository once its job has reached it, or abandons it.
// That must not depend on whether the caller is still there. After a shutdown
// before the job's end, the next call or the next start of the coordinator does
// it. The returned channel is closed when it is done.
func (a *API) settle(ctx context.Context, call borgCall, id job.ID, until func(job.Job) bool) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx := context.WithoutCancel(ctx)
		ended, err := a.await(ctx, id, until)
		switch {
		case err != nil:
			a.note("settle", call, err)
		case failureOf(ended) == nil:
			a.note("keep", call, a.options.Operations.Keep(ctx, call.by, call.repository.Name, call.passphrase))
		case call.repository.Pending:
			a.note("abandon", call, a.options.Operations.Abandon(ctx, call.by, call.repository.Name))
		}
	}()
	return done
}

// note logs what nobody waits for.
func (a *API) note(what string, call borgCall, err error) {
	if err != nil {
		a.logger.Warn(what+" the repository of an operation", "repo", call.repository.Name, "err", err)
	}
}

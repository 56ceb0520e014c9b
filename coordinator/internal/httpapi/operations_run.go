package httpapi

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
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

// survey lists the archives of a call's repository, if borg was never asked for
// all of them: a job that must not touch other hosts' archives is kept from that
// by what is known of them. Like any call it keeps the repository, or abandons it.
// The error is a *Problem.
func (a *API) survey(ctx context.Context, call borgCall) error {
	if !call.repository.Pending {
		page, err := a.options.Archives.Archives(ctx, fleet.ArchiveFilter{Repository: call.repository.Name, Limit: 1})
		switch {
		case err != nil:
			return a.problem(ctx, err)
		case page.AsOf != nil:
			return nil
		}
	}
	call.spec, call.prefer = job.ListSpec{}, Preference{}
	_, err := a.run(ctx, call, waiting{body: func(job.Job) (any, error) { return nil, nil }})
	return err
}

// settles reports whether the job's outcome says what becomes of the
// repository's record: of one that is pending, or whose passphrase is not known
// yet or made with it.
func (c borgCall) settles() bool {
	mayKeep := !c.proves().Empty() && c.repository.Custody != fleet.CustodyHosts && c.repository.Encryption.NeedsPassphrase()
	return c.repository.Pending || mayKeep && (!c.repository.HasPassphrase || c.spec.Kind() == job.Init)
}

// proves is the passphrase that the job cannot end well with unless it is right.
// Borg compacts without the key.
func (c borgCall) proves() secret.Value {
	if c.spec.Kind() == job.Compact {
		return secret.Value{}
	}
	return c.passphrase
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
			a.note("keep", call, a.options.Operations.Keep(ctx, call.by, call.repository.Name, call.proves()))
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

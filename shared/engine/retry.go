package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/process"
)

// Waits between tries double from the first to the longest.
const (
	retryFirst   = 100 * time.Millisecond
	retryLongest = 5 * time.Second // a disk that has room again is soon used
)

// retry tries until it works, ctx ends, or the error says that it never will.
// A try that lasted longer than the longest wait was good for a while, so the
// waits begin anew.
func retry(ctx context.Context, logger hclog.Logger, doing string, try func() error) error {
	for wait := retryFirst; ; wait = min(2*wait, retryLongest) {
		begun := time.Now()
		err := try()
		if err == nil || final(err) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(begun) > retryLongest {
			wait = retryFirst
		}
		logger.Warn("trying again", "doing", doing, "in", wait, "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
	}
}

func final(err error) bool {
	_, certain := errors.AsType[*process.StartError](err)
	return certain || errors.Is(err, process.ErrNotStarted)
}

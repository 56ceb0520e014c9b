package httpapi

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Check is one thing that must be well before the coordinator is ready.
type Check struct {
	Name string // "bus", "store", "disk"
	// Trouble is what anybody may read when it is not well. The error itself
	// goes to the log only, but for the sentence of a *job.Failure.
	Trouble string
	// Check returns nil when it is well. It is called concurrently and must
	// heed ctx.
	Check func(ctx context.Context) error
}

// checkTimeout bounds one check.
const checkTimeout = 3 * time.Second

// Health is the answer of the health checks.
type Health struct {
	Status string        `json:"status"` // ok, or unavailable
	Checks []CheckResult `json:"checks"`
}

// CheckResult is one check's outcome.
type CheckResult struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error"` // a sentence for anybody; empty when OK

	cause error
}

// registerHealth adds /healthz (the process is alive) and /readyz (it can do
// its work).
func (a *API) registerHealth() {
	mux := a.options.Mux
	log := readiness{logger: a.logger, said: map[string]string{}}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeHealth(w, http.StatusOK, Health{Status: "ok", Checks: []CheckResult{}})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		health := runChecks(r.Context(), a.options.Ready)
		if r.Context().Err() == nil { // else nobody has waited for the checks
			log.note(health.Checks)
		}
		status := http.StatusOK
		if health.Status != "ok" {
			status = http.StatusServiceUnavailable
		}
		writeHealth(w, status, health)
	})
	mux.HandleFunc("/healthz", a.unrouted)
	mux.HandleFunc("/readyz", a.unrouted)
}

func runChecks(ctx context.Context, checks []Check) Health {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	results := make([]CheckResult, len(checks))
	var wait sync.WaitGroup
	for i, check := range checks {
		wait.Go(func() { results[i] = runCheck(ctx, check) })
	}
	wait.Wait()
	health := Health{Status: "ok", Checks: results}
	for _, result := range results {
		if !result.OK {
			health.Status = "unavailable"
		}
	}
	return health
}

// runCheck gives up on a check that does not heed its context, so that the
// answer comes in time even then.
func runCheck(ctx context.Context, check Check) CheckResult {
	outcome := make(chan error, 1)
	go func() { outcome <- check.Check(ctx) }()
	var err error
	select {
	case err = <-outcome:
	case <-ctx.Done():
		err = ctx.Err()
	}
	result := CheckResult{Name: check.Name, OK: err == nil, cause: err}
	if failure, ok := errors.AsType[*job.Failure](err); ok {
		result.Error = failure.Message
	} else if err != nil {
		result.Error = check.Trouble
	}
	return result
}

// readiness remembers what was logged, so that a monitor that asks every second
// does not fill the log.
type readiness struct {
	logger hclog.Logger

	mu   sync.Mutex
	said map[string]string // by check
}

// note logs what has changed.
func (r *readiness) note(results []CheckResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, result := range results {
		before, failed := r.said[result.Name]
		switch {
		case result.OK && failed:
			delete(r.said, result.Name)
			r.logger.Info("ready again", "check", result.Name)
		case !result.OK && result.cause.Error() != before:
			r.said[result.Name] = result.cause.Error()
			r.logger.Warn("not ready", "check", result.Name, "err", result.cause)
		}
	}
}

func writeHealth(w http.ResponseWriter, status int, health Health) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = encodeJSON(w, health) // nobody is left to tell
}

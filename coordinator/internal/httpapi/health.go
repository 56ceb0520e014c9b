package httpapi

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// Check is one thing that must be well before the coordinator is ready.
type Check struct {
	Name string // "broker", "store"
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
	Error string `json:"error"` // empty when OK
}

// registerHealth adds /healthz (the process is alive) and /readyz (it can do
// its work).
func (a *API) registerHealth() {
	mux := a.options.Mux
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeHealth(w, http.StatusOK, Health{Status: "ok", Checks: []CheckResult{}})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		health := runChecks(r.Context(), a.options.Ready)
		status := http.StatusOK
		if health.Status != "ok" {
			status = http.StatusServiceUnavailable
			a.logger.Debug("not ready", "checks", health.Checks)
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
	result := CheckResult{Name: check.Name, OK: err == nil}
	if err != nil {
		result.Error = err.Error()
	}
	return result
}

func writeHealth(w http.ResponseWriter, status int, health Health) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = encodeJSON(w, health) // nobody is left to tell
}

package fleet

import "github.com/borgfleet/borgfleet/shared/job"

// RunsPlan reports whether a submission asks for a run of a plan, {"plan":"x"}, and
// returns the request for it: it names a plan and nothing else, but for the key
// that makes it repeatable.
func RunsPlan(r job.Request) (asked RunRequest, ok bool) {
	alone := r.Plan != "" && r.Host == "" && r.Kind == "" && r.Repository == "" && len(r.Spec) == 0 &&
		r.Timeout == 0 && r.ExpiresIn == 0 && r.MaxAttempts == 0 && r.Priority == 0
	return RunRequest{IdempotencyKey: r.IdempotencyKey}, alone
}

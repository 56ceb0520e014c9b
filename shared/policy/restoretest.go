package policy

import "github.com/borgfleet/borgfleet/shared/job"

// checkRestoreTest checks where a restore test writes to. A directory of our own
// needs nobody's leave: nothing is left there, and nobody else can look into it.
func (r Rules) checkRestoreTest(spec job.RestoreTestSpec) *job.Failure {
	if spec.Target == "" {
		return nil
	}
	return second(r.Target(spec.Target))
}

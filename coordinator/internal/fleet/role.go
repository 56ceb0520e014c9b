package fleet

import (
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// StartRole returns the role that it takes to start jobs of a kind: admin for
// those that make or destroy a repository's data, its key or its locks.
func StartRole(kind job.Kind) bus.Role {
	switch kind {
	case job.Init, job.Delete, job.KeyExport, job.BreakLock:
		return bus.Admin
	default:
		return bus.Operator
	}
}

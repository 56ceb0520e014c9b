package fleet

import (
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// StartRole returns the role that it takes to start a job of a kind: admin for
// those that make or destroy a repository's data, its key or its locks, that
// repair a repository, accept it though it was moved or rolled back, or hand raw
// options to borg. Without a spec it is the role that any job of the kind takes.
func StartRole(kind job.Kind, spec job.Spec) bus.Role {
	switch kind {
	case job.Init, job.Delete, job.KeyExport, job.BreakLock:
		return bus.Admin
	}
	switch s := spec.(type) {
	case job.CheckSpec:
		if s.Repair {
			return bus.Admin
		}
	case job.VerifySpec:
		if s.AcceptMoved || s.AcceptOlder {
			return bus.Admin
		}
	case job.BackupSpec:
		if len(s.ExtraOptions) > 0 {
			return bus.Admin
		}
	}
	return bus.Operator
}

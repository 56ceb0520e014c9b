package fleet

import "github.com/borgfleet/borgfleet/shared/job"

// UnknownHost is the failure of whoever names a host that is not there.
func UnknownHost(name string) *job.Failure {
	return job.Fail(job.UnknownHost, "there is no host %q", name).
		WithHint("borgfleet host list shows all; borgfleet host token lets a new one in")
}

// UnknownRepository is the failure of whoever names a repository that is not
// there.
func UnknownRepository(name string) *job.Failure {
	return job.Fail(job.UnknownRepository, "there is no repository %q", name).
		WithHint("borgfleet repo list shows all; borgfleet repo add makes one")
}

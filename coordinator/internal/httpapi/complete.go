package httpapi

import (
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// The functions here make lists that are nil empty ones: in JSON a list is
// always a list. They copy what they change, since the values are shared.

func completeJob(j job.Job) job.Job {
	j.Attempts = list(j.Attempts)
	if j.Result != nil && j.Result.Warnings == nil {
		result := *j.Result
		result.Warnings = []string{}
		j.Result = &result
	}
	return j
}

func completeJobs(jobs []job.Job) []job.Job {
	complete := make([]job.Job, len(jobs))
	for i, j := range jobs {
		complete[i] = completeJob(j)
	}
	return complete
}

func completeHost(host fleet.HostView) fleet.HostView {
	host.Runs = list(host.Runs)
	if host.Labels == nil {
		host.Labels = map[string]string{}
	}
	if host.SSH != nil {
		access := *host.SSH
		access.HostKeys, access.Jump = list(access.HostKeys), list(access.Jump)
		host.SSH = &access
	}
	return host
}

func completeHosts(hosts []fleet.HostView) []fleet.HostView {
	complete := make([]fleet.HostView, len(hosts))
	for i, host := range hosts {
		complete[i] = completeHost(host)
	}
	return complete
}

func completeRepository(repository fleet.RepositoryView) fleet.RepositoryView {
	repository.SealedFor = list(repository.SealedFor)
	if repository.Depot != nil {
		depot := *repository.Depot
		depot.Hosts = list(depot.Hosts)
		if depot.Frozen != nil {
			frozen := *depot.Frozen
			frozen.Missing, frozen.Unknown = list(frozen.Missing), list(frozen.Unknown)
			depot.Frozen = &frozen
		}
		repository.Depot = &depot
	}
	return repository
}

func completeRepositories(repositories []fleet.RepositoryView) []fleet.RepositoryView {
	complete := make([]fleet.RepositoryView, len(repositories))
	for i, repository := range repositories {
		complete[i] = completeRepository(repository)
	}
	return complete
}

func completeStatus(status fleet.Status) fleet.Status {
	status.Hosts = completeHosts(status.Hosts)
	status.Running = completeJobs(status.Running)
	status.Queued = completeJobs(status.Queued)
	status.Recent = completeJobs(status.Recent)
	status.Attention = list(status.Attention)
	status.KeysNotExported = list(status.KeysNotExported)
	if status.Jobs == nil {
		status.Jobs = map[job.State]int{}
	}
	return status
}

// ofHost leaves in a status only what concerns one host. The counts stay those
// of the whole.
func ofHost(status fleet.Status, host string) fleet.Status {
	status.Hosts = keep(status.Hosts, func(h fleet.HostView) bool { return h.Name == host })
	status.Attention = keep(status.Attention, func(a fleet.Attention) bool { return a.Host == host })
	for _, jobs := range []*[]job.Job{&status.Running, &status.Queued, &status.Recent} {
		*jobs = keep(*jobs, func(j job.Job) bool { return j.Host == host || j.For == host })
	}
	return status
}

func keep[T any](items []T, wanted func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(items), func(item T) bool { return !wanted(item) })
}

func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

// pageOf cuts one page out of everything there is, by name. The cursor is the
// last name of the page before.
func pageOf[T any](all []T, name func(T) string, limit int, cursor string) (page []T, next string) {
	page = slices.Clone(list(all))
	slices.SortFunc(page, func(x, y T) int { return strings.Compare(name(x), name(y)) })
	page = slices.DeleteFunc(page, func(item T) bool { return cursor != "" && name(item) <= cursor })
	if len(page) > limit {
		page = page[:limit]
		next = name(page[limit-1])
	}
	return page, next
}

package busapi

import (
	"cmp"
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// handleTimeout bounds the work on one request.
const handleTimeout = 30 * time.Second

// endpoint is one request that is served.
type endpoint struct {
	name, subject, summary string
	request, reply         reflect.Type
	handle                 func(ctx context.Context, data []byte) (any, error)
}

// IDRequest names a job.
type IDRequest struct {
	ID job.ID `json:"id"`
}

// LogRequest asks for a part of a job's log.
type LogRequest struct {
	ID    job.ID `json:"id"`
	After int    `json:"after,omitempty"` // "next" of the part before; 0 for the beginning
}

// NameRequest names a host, a repository or a plan.
type NameRequest struct {
	Name string `json:"name"`
}

// PageRequest asks for a page of a list that is in order of names.
type PageRequest struct {
	Limit  int    `json:"limit,omitempty"`  // at most job.MaxPage, which 0 means too
	Cursor string `json:"cursor,omitempty"` // from the page before
}

// NoRequest has no fields.
type NoRequest struct{}

// JobReply carries one job.
type JobReply struct {
	Job job.Job `json:"job"`
}

// HostReply carries one host.
type HostReply struct {
	Host fleet.HostView `json:"host"`
}

// HostsReply is a page of hosts.
type HostsReply struct {
	Hosts  []fleet.HostView `json:"hosts"`
	Cursor string           `json:"cursor"` // give it back for the next page; empty on the last
}

// RepositoryReply carries one repository.
type RepositoryReply struct {
	Repository fleet.RepositoryView `json:"repository"`
}

// RepositoriesReply is a page of repositories.
type RepositoriesReply struct {
	Repositories []fleet.RepositoryView `json:"repositories"`
	Cursor       string                 `json:"cursor"` // give it back for the next page; empty on the last
}

// endpoints is all that is served.
func (s *Service) endpoints() []endpoint {
	return append([]endpoint{
		serve("jobs-submit", bus.JobsSubmit, "submit a job, or run a plan", s.submit),
		serve("jobs-get", bus.JobsGet, "one job", onJob(s.Jobs.Job)),
		serve("jobs-list", bus.JobsList, "jobs, newest first", s.listJobs),
		serve("jobs-cancel", bus.JobsCancel, "end a job", onJob(func(ctx context.Context, id job.ID) (job.Job, error) {
			return s.Jobs.Cancel(ctx, fleet.ActorOf(ctx), id)
		})),
		serve("jobs-retry", bus.JobsRetry, "submit a job that is over once more", onJob(func(ctx context.Context, id job.ID) (job.Job, error) {
			return s.Jobs.Retry(ctx, fleet.ActorOf(ctx), id)
		})),
		serve("jobs-log", bus.JobsLog, "a job's log", func(ctx context.Context, r LogRequest) (log fleet.JobLog, err error) {
			if _, err := job.ParseID(string(r.ID)); err != nil {
				return log, err
			}
			return s.Overview.Log(ctx, r.ID, r.After)
		}),
		serve("hosts-list", bus.HostsList, "hosts", s.listHosts),
		serve("hosts-get", bus.HostsGet, "one host", func(ctx context.Context, r NameRequest) (HostReply, error) {
			host, err := s.Inventory.Host(ctx, r.Name)
			return HostReply{host}, err
		}),
		serve("repositories-list", bus.RepositoriesList, "repositories", s.listRepositories),
		serve("repositories-get", bus.RepositoriesGet, "one repository", func(ctx context.Context, r NameRequest) (RepositoryReply, error) {
			repository, err := s.Inventory.Repository(ctx, r.Name)
			return RepositoryReply{repository}, err
		}),
		serve("status", bus.StatusSubject, "the whole in short", func(ctx context.Context, _ NoRequest) (fleet.Status, error) {
			return s.Overview.Status(ctx)
		}),
	}, append(s.archiveEndpoints(), s.planEndpoints()...)...)
}

// serve makes an endpoint of a typed function. An empty request is one without
// fields; unknown fields are errors.
func serve[Request, Reply any](name, subject, summary string, handle func(context.Context, Request) (Reply, error)) endpoint {
	return endpoint{
		name: name, subject: subject, summary: summary,
		request: reflect.TypeFor[Request](), reply: reflect.TypeFor[Reply](),
		handle: func(ctx context.Context, data []byte) (any, error) {
			var request Request
			if len(data) > 0 {
				if err := job.DecodeStrict(data, &request); err != nil {
					return nil, err
				}
			}
			return handle(ctx, request)
		},
	}
}

// onJob is the handler of what is asked of one job.
func onJob(do func(context.Context, job.ID) (job.Job, error)) func(context.Context, IDRequest) (JobReply, error) {
	return func(ctx context.Context, r IDRequest) (JobReply, error) {
		if _, err := job.ParseID(string(r.ID)); err != nil {
			return JobReply{}, err
		}
		return oneJob(do(ctx, r.ID))
	}
}

func oneJob(j job.Job, err error) (JobReply, error) { return JobReply{j}, err }

// listJobs returns a page of jobs.
func (s *Service) listJobs(ctx context.Context, filter job.Filter) (job.Page, error) {
	if err := filter.Validate(); err != nil {
		return job.Page{}, err
	}
	return fitting(s.maxReply(), cmp.Or(filter.Limit, job.DefaultPage), func(limit int) (job.Page, error) {
		filter.Limit = limit
		return s.Jobs.Jobs(ctx, filter)
	})
}

func (s *Service) listHosts(ctx context.Context, r PageRequest) (HostsReply, error) {
	hosts, err := s.Inventory.Hosts(ctx)
	if err != nil {
		return HostsReply{}, err
	}
	hosts, cursor, err := page(r, hosts, func(h fleet.HostView) string { return h.Name }, s.maxReply())
	return HostsReply{hosts, cursor}, err
}

func (s *Service) listRepositories(ctx context.Context, r PageRequest) (RepositoriesReply, error) {
	repositories, err := s.Inventory.Repositories(ctx)
	if err != nil {
		return RepositoriesReply{}, err
	}
	repositories, cursor, err := page(r, repositories, func(v fleet.RepositoryView) string { return v.Name }, s.maxReply())
	return RepositoriesReply{repositories, cursor}, err
}

// page cuts one page out of a whole list, as many as fit into a message.
func page[T any](r PageRequest, all []T, name func(T) string, maxBytes int) (items []T, cursor string, err error) {
	if r.Limit < 0 || r.Limit > job.MaxPage {
		return nil, "", job.Invalid("limit", "%d is not between 1 and %d", r.Limit, job.MaxPage)
	}
	limit := cmp.Or(r.Limit, job.MaxPage)
	all = slices.SortedFunc(slices.Values(all), func(a, b T) int { return cmp.Compare(name(a), name(b)) })
	items = []T{}
	bytes := len(`{"repositories":[],"cursor":""}`) + 2*len(r.Cursor) + 256
	for _, item := range all {
		if name(item) <= r.Cursor && r.Cursor != "" {
			continue
		}
		encoded, err := json.Marshal(item)
		if err != nil {
			return nil, "", err
		}
		bytes += len(encoded) + 1
		if len(items) > 0 && (len(items) == limit || bytes > maxBytes) {
			return items, name(items[len(items)-1]), nil
		}
		items = append(items, item)
	}
	return items, "", nil
}

package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Status returns the whole in short.
func (c *Client) Status(ctx context.Context) (fleet.Status, error) {
	var status fleet.Status
	return status, c.call(ctx, http.MethodGet, "/status", nil, &status)
}

// Hosts returns every host, by name.
func (c *Client) Hosts(ctx context.Context) ([]fleet.HostView, error) {
	return pages(func(query string) ([]fleet.HostView, string, error) {
		var page struct {
			Hosts  []fleet.HostView `json:"hosts"`
			Cursor string           `json:"cursor"`
		}
		err := c.call(ctx, http.MethodGet, "/hosts"+query, nil, &page)
		return page.Hosts, page.Cursor, err
	})
}

// Host returns one host.
func (c *Client) Host(ctx context.Context, name string) (fleet.HostView, error) {
	var host fleet.HostView
	return host, c.call(ctx, http.MethodGet, "/hosts/"+url.PathEscape(name), nil, &host)
}

// AddHost declares a host; an enrolment token lets its agent in.
func (c *Client) AddHost(ctx context.Context, name string, labels map[string]string) (fleet.HostView, error) {
	request := struct {
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels,omitempty"`
	}{name, labels}
	var added fleet.HostView
	return added, c.call(ctx, http.MethodPost, "/hosts", request, &added)
}

// RemoveHost removes a host; its agent is cut off.
func (c *Client) RemoveHost(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/hosts/"+url.PathEscape(name), nil, nil)
}

// AddedRepository is a new repository. Passphrase is set when the coordinator
// made it; it is told this once.
type AddedRepository struct {
	fleet.RepositoryView
	Passphrase secret.Value `json:"generated_passphrase"`
}

// Repositories returns every repository, by name.
func (c *Client) Repositories(ctx context.Context) ([]fleet.RepositoryView, error) {
	return pages(func(query string) ([]fleet.RepositoryView, string, error) {
		var page struct {
			Repositories []fleet.RepositoryView `json:"repositories"`
			Cursor       string                 `json:"cursor"`
		}
		err := c.call(ctx, http.MethodGet, "/repositories"+query, nil, &page)
		return page.Repositories, page.Cursor, err
	})
}

// Repository returns one repository.
func (c *Client) Repository(ctx context.Context, name string) (fleet.RepositoryView, error) {
	var repository fleet.RepositoryView
	return repository, c.call(ctx, http.MethodGet, "/repositories/"+url.PathEscape(name), nil, &repository)
}

// newDepot is what is agreed for a new repository in the depot, as the API takes
// it.
type newDepot struct {
	Quota      int64    `json:"quota,omitempty"`
	AppendOnly bool     `json:"append_only,omitempty"`
	Hosts      []string `json:"hosts,omitempty"`
}

// AddRepository adds a repository; it does not create it on disk, an init job
// does.
func (c *Client) AddRepository(ctx context.Context, repository fleet.NewRepository) (AddedRepository, error) {
	request := struct {
		Name       string         `json:"name"`
		Location   string         `json:"location"`
		Encryption job.Encryption `json:"encryption,omitempty"`
		Passphrase string         `json:"passphrase,omitempty"`
		Generate   bool           `json:"generate_passphrase,omitempty"`
		Custody    fleet.Custody  `json:"custody,omitempty"`

		Sealed map[string]fleet.SealedPassphrase `json:"sealed,omitempty"`
		Depot  *newDepot                         `json:"depot,omitempty"`
	}{
		Name: repository.Name, Location: repository.Location, Encryption: repository.Encryption,
		Passphrase: string(repository.Passphrase.Reveal()), Generate: repository.Generate,
		Custody: repository.Custody, Sealed: repository.Sealed,
	}
	if depot := repository.Depot; depot != nil {
		request.Depot = &newDepot{depot.Quota, depot.AppendOnly, depot.Hosts}
	}
	var added AddedRepository
	return added, c.call(ctx, http.MethodPost, "/repositories", request, &added)
}

// RemoveRepository forgets a repository without open jobs. What is on its disk
// stays.
func (c *Client) RemoveRepository(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/repositories/"+url.PathEscape(name), nil, nil)
}

// SubmitJob submits a job; when it returns, the job is stored.
func (c *Client) SubmitJob(ctx context.Context, request job.Request) (job.Job, error) {
	var submitted job.Job
	return submitted, c.call(ctx, http.MethodPost, "/jobs", request, &submitted)
}

// Job returns one job.
func (c *Client) Job(ctx context.Context, id job.ID) (job.Job, error) {
	var found job.Job
	return found, c.call(ctx, http.MethodGet, "/jobs/"+url.PathEscape(string(id)), nil, &found)
}

// Jobs returns one page of jobs, newest first. Give the page's cursor back in
// the filter for the next.
func (c *Client) Jobs(ctx context.Context, filter job.Filter) (job.Page, error) {
	query := url.Values{}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	set("host", filter.Host)
	set("repository", filter.Repository)
	set("plan", filter.Plan)
	set("state", string(filter.State))
	set("kind", string(filter.Kind))
	set("cursor", filter.Cursor)
	if !filter.Since.IsZero() {
		set("since", filter.Since.UTC().Format(time.RFC3339Nano))
	}
	if filter.Limit != 0 {
		set("limit", strconv.Itoa(filter.Limit))
	}
	var page job.Page
	return page, c.call(ctx, http.MethodGet, "/jobs?"+query.Encode(), nil, &page)
}

// Cancel asks to end a job; it is cancelled once its process is gone.
func (c *Client) Cancel(ctx context.Context, id job.ID) (job.Job, error) {
	return c.act(ctx, id, "cancel")
}

// Retry submits a finished job's request again, as a new job.
func (c *Client) Retry(ctx context.Context, id job.ID) (job.Job, error) {
	return c.act(ctx, id, "retry")
}

func (c *Client) act(ctx context.Context, id job.ID, action string) (job.Job, error) {
	var changed job.Job
	return changed, c.call(ctx, http.MethodPost, "/jobs/"+url.PathEscape(string(id))+"/"+action, nil, &changed)
}

// Log returns a job's log from a place on: 0 for the beginning, then what the
// answer before gave as Next.
func (c *Client) Log(ctx context.Context, id job.ID, after int) (fleet.JobLog, error) {
	var log fleet.JobLog
	path := "/jobs/" + url.PathEscape(string(id)) + "/log?after=" + strconv.Itoa(after)
	return log, c.call(ctx, http.MethodGet, path, nil, &log)
}

// pages reads a list to its end.
func pages[T any](page func(query string) ([]T, string, error)) ([]T, error) {
	all := []T{}
	query := url.Values{"limit": {strconv.Itoa(job.MaxPage)}}
	for {
		items, cursor, err := page("?" + query.Encode())
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if cursor == "" {
			return all, nil
		}
		query.Set("cursor", cursor)
	}
}

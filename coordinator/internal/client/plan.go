package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

func planOf(name string) string { return "/plans/" + url.PathEscape(name) }

// Plans returns every plan, by name.
func (c *Client) Plans(ctx context.Context) ([]fleet.PlanView, error) {
	return pages(func(query string) ([]fleet.PlanView, string, error) {
		var page struct {
			Plans  []fleet.PlanView `json:"plans"`
			Cursor string           `json:"cursor"`
		}
		err := c.call(ctx, http.MethodGet, "/plans"+query, nil, &page)
		return page.Plans, page.Cursor, err
	})
}

// Plan returns one plan.
func (c *Client) Plan(ctx context.Context, name string) (fleet.PlanView, error) {
	var plan fleet.PlanView
	return plan, c.call(ctx, http.MethodGet, planOf(name), nil, &plan)
}

// AddPlan adds a plan.
func (c *Client) AddPlan(ctx context.Context, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	request := struct {
		Name string `json:"name"`
		fleet.PlanSpec
	}{name, spec}
	var plan fleet.PlanView
	return plan, c.call(ctx, http.MethodPost, "/plans", request, &plan)
}

// ChangePlan gives a plan another spec, as a whole.
func (c *Client) ChangePlan(ctx context.Context, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	var plan fleet.PlanView
	return plan, c.call(ctx, http.MethodPut, planOf(name), spec, &plan)
}

// RemovePlan removes a plan. Its archives stay.
func (c *Client) RemovePlan(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, planOf(name), nil, nil)
}

// PausePlan keeps a plan from running by itself, until a time or, if that is
// zero, until it is resumed.
func (c *Client) PausePlan(ctx context.Context, name string, until time.Time, reason string) (fleet.PlanView, error) {
	request := struct {
		Until  time.Time `json:"until,omitzero"`
		Reason string    `json:"reason,omitempty"`
	}{until, reason}
	var plan fleet.PlanView
	return plan, c.call(ctx, http.MethodPost, planOf(name)+"/pause", request, &plan)
}

// ResumePlan lets a plan run by itself again.
func (c *Client) ResumePlan(ctx context.Context, name string) (fleet.PlanView, error) {
	var plan fleet.PlanView
	return plan, c.call(ctx, http.MethodPost, planOf(name)+"/resume", nil, &plan)
}

// PlanStart is a run that has begun, with the first of its jobs.
type PlanStart struct {
	Run  fleet.Run `json:"run"`
	Jobs []job.Job `json:"jobs"`
}

// RunPlan runs a plan now; when it returns, the run is stored.
func (c *Client) RunPlan(ctx context.Context, name string, asked fleet.RunRequest) (PlanStart, error) {
	var start PlanStart
	return start, c.call(ctx, http.MethodPost, planOf(name)+"/run", asked, &start)
}

// Runs returns one page of runs of plans, newest first. Give the page's cursor
// back in the filter for the next.
func (c *Client) Runs(ctx context.Context, filter fleet.RunFilter) (fleet.RunPage, error) {
	q := query{}
	q.text("plan", filter.Plan)
	q.text("state", string(filter.State))
	q.time("since", filter.Since)
	q.page(filter.Limit, filter.Cursor)
	var page fleet.RunPage
	return page, c.call(ctx, http.MethodGet, "/runs"+q.String(), nil, &page)
}

// Run returns one run of a plan.
func (c *Client) Run(ctx context.Context, id string) (fleet.Run, error) {
	var run fleet.Run
	return run, c.call(ctx, http.MethodGet, "/runs/"+url.PathEscape(id), nil, &run)
}

// CancelRun cancels the jobs of a run that are not over, and begins no others.
func (c *Client) CancelRun(ctx context.Context, id string) (fleet.Run, error) {
	var run fleet.Run
	return run, c.call(ctx, http.MethodPost, "/runs/"+url.PathEscape(id)+"/cancel", nil, &run)
}

// backupOf names the backups of a plan on one host and repository.
type backupOf struct {
	Host       string `json:"host"`
	Repository string `json:"repository"`
	Reason     string `json:"reason,omitempty"`
}

// AcceptBackup takes the newest backup of a plan on a host and repository as
// right, though it looks suspicious.
func (c *Client) AcceptBackup(ctx context.Context, plan, host, repository, reason string) (fleet.PlanView, error) {
	var changed fleet.PlanView
	return changed, c.call(ctx, http.MethodPost, planOf(plan)+"/accept", backupOf{host, repository, reason}, &changed)
}

// TestRestore submits a job that restores a sample of the newest backup of a plan
// on a host and repository.
func (c *Client) TestRestore(ctx context.Context, plan, host, repository string) (job.Job, error) {
	var submitted job.Job
	return submitted, c.call(ctx, http.MethodPost, planOf(plan)+"/restore-test", backupOf{Host: host, Repository: repository}, &submitted)
}

// FreshnessFilter chooses how plans stand. The zero value chooses all.
type FreshnessFilter struct {
	Plan, Host, Repository string
	State                  fleet.FreshState
}

// Freshness returns how plans stand on hosts and repositories, by their names.
func (c *Client) Freshness(ctx context.Context, filter FreshnessFilter) ([]fleet.Freshness, error) {
	all := []fleet.Freshness{}
	for cursor := ""; ; {
		q := query{}
		q.text("plan", filter.Plan)
		q.text("host", filter.Host)
		q.text("repository", filter.Repository)
		q.text("state", string(filter.State))
		q.page(job.MaxPage, cursor)
		var page struct {
			Freshness []fleet.Freshness `json:"freshness"`
			Cursor    string            `json:"cursor"`
		}
		if err := c.call(ctx, http.MethodGet, "/freshness"+q.String(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Freshness...)
		if cursor = page.Cursor; cursor == "" {
			return all, nil
		}
	}
}

// Calendar is the runs that are to come, the next first.
type Calendar struct {
	From        time.Time          `json:"from"`
	To          time.Time          `json:"to"`
	Occurrences []fleet.Occurrence `json:"occurrences"`
	Omitted     int                `json:"omitted"` // later ones, which were left out
}

// Calendar returns the runs that are to come from one time to another. Zero times
// are now, and a day later.
func (c *Client) Calendar(ctx context.Context, from, to time.Time) (Calendar, error) {
	q := query{}
	q.time("from", from)
	q.time("to", to)
	var calendar Calendar
	return calendar, c.call(ctx, http.MethodGet, "/calendar"+q.String(), nil, &calendar)
}

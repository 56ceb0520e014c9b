package web

import (
	"context"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// The overview shows this much of each list; the rest has pages of its own.
const (
	overviewHosts     = 20
	overviewAttention = 12
	overviewRunning   = 30
	overviewQueued    = 10
	overviewMounts    = 20
	overviewKeys      = 8
)

// overviewPage is the data of the overview.
type overviewPage struct {
	clock
	fleet.Status
	commands
	reader
	Attention     []attentionRow
	MoreAttention int
	Running       []jobRow
	MoreRunning   int
	Moving        int // jobs that run, without mounts
	Mounts        []mountRow
	Queued        []jobRow
	MoreQueued    int
	Recent        []jobRow
	Hosts         []hostRow
	MoreHosts     int
	Start         *firstSteps // nil once there is a backup, and for who may not take them
	KeysAtRisk    []string    // repositories whose key was never exported
	MoreKeys      int
	Plans         planSums // nil: there are no pages of plans
}

func (s *site) overview(ctx context.Context, c commands) (*view, error) {
	status, err := s.Status.Status(ctx)
	if err != nil {
		return nil, wrap("status", err)
	}
	page := &overviewPage{clock: s.moment(), Status: status, commands: c, reader: readerOf(ctx)}
	page.fill()
	if page.Administers() {
		if page.Start, err = s.firstSteps(ctx, status, c); err != nil {
			return nil, err
		}
	}
	if page.Plans, err = s.sumPlans(ctx); err != nil {
		return nil, err
	}
	return &view{
		Title: status.Summary, Nav: "/", Body: "overview", Data: page,
		Live:     []string{"summary", "attention", "keys", "first-steps", "running", "mounts", "overview-hosts", "waiting", "recent"},
		Cares:    caresForState,
		Progress: mountProgress(page.Mounts, runningProgress("running", page.clock, page.Running)),
	}, nil
}

// caresForState reports whether an update changes stored state.
func caresForState(u feed.Update) bool { return u.Type != feed.JobEvent && u.Type != feed.JobProgress }

// fill sorts what the status tells into the parts of the page.
func (p *overviewPage) fill() {
	now := p.clock
	for _, a := range cut(p.Status.Attention, overviewAttention, &p.MoreAttention) {
		p.Attention = append(p.Attention, attentionRow{now, a})
	}
	rows := now.jobs(p.Status.Running)
	moving := withoutMounts(rows)
	p.Moving, p.Running = len(moving), cut(moving, overviewRunning, &p.MoreRunning)
	for _, row := range rows {
		if isMount(row.Job) {
			p.Mounts = append(p.Mounts, now.mount(row.Job, p.reader))
		}
	}
	p.Mounts = p.Mounts[:min(len(p.Mounts), overviewMounts)]
	p.Queued = now.jobs(cut(p.Status.Queued, overviewQueued, &p.MoreQueued))
	p.Recent = now.jobs(p.Status.Recent)
	hosts := now.hosts(p.Status)
	if len(hosts) > overviewHosts { // too many to show: those first that have something to say
		slices.SortStableFunc(hosts, func(a, b hostRow) int { return a.rank() - b.rank() })
	}
	p.KeysAtRisk = cut(p.KeysNotExported, overviewKeys, &p.MoreKeys)
	p.Hosts = cut(hosts, overviewHosts, &p.MoreHosts)
}

// cut returns the first n of list and sets more to the number of the others.
func cut[T any](list []T, n int, more *int) []T {
	n = min(n, len(list))
	*more = len(list) - n
	return list[:n]
}

// Count is the number of jobs in a state.
func (p *overviewPage) Count(state string) int { return p.Status.Jobs[job.State(state)] }

// hosts makes rows, in the order of names, that know what runs on each host
// and what is wrong with it.
func (c clock) hosts(status fleet.Status) []hostRow {
	busy, trouble := map[string]*job.Job{}, map[string]*fleet.Attention{}
	for i, j := range status.Running {
		if j.Kind == job.Backup {
			busy[j.Host] = &status.Running[i]
		}
	}
	for i, a := range status.Attention {
		if trouble[a.Host] == nil && aboutBackups(a) {
			trouble[a.Host] = &status.Attention[i]
		}
	}
	rows := make([]hostRow, len(status.Hosts))
	for i, h := range status.Hosts {
		rows[i] = hostRow{c, h, busy[h.Name], trouble[h.Name]}
	}
	slices.SortFunc(rows, func(a, b hostRow) int { return strings.Compare(a.Name, b.Name) })
	return rows
}

// aboutBackups reports whether something says that a host's backups are not good,
// rather than that it is not there, or that its repository is frozen.
func aboutBackups(a fleet.Attention) bool {
	return a.Kind != "offline" && a.Kind != "unreachable" && a.Kind != "verify" && a.Kind != "frozen"
}

// rank puts what needs a look before what does not.
func (r hostRow) rank() int {
	switch {
	case r.Trouble != nil:
		return 0
	case !r.Reached():
		return 1
	case r.Busy != nil:
		return 2
	}
	return 3
}

// runningProgress updates rows of a table of running jobs in place.
func runningProgress(part string, now clock, rows []jobRow) func(job.ID, *job.Progress) []fragment {
	known := map[job.ID]job.Job{}
	for _, row := range rows {
		known[row.ID] = row.Job
	}
	return func(id job.ID, progress *job.Progress) []fragment {
		j, ok := known[id]
		if !ok {
			return nil
		}
		j.Progress = progress
		return []fragment{{ID: "run-" + string(id), Template: "running-row", Data: now.job(j), Part: part}}
	}
}

// firstSteps guides from an empty coordinator to the first backup.
type firstSteps struct {
	commands
	Host, Repository                 string // the first of each, or an example
	HasHost, HasAgent, HasRepository bool
}

// NewHost is the page that lets the host in.
func (f *firstSteps) NewHost() string {
	if f.HasHost {
		return withQuery("/enrol", "host", f.Host)
	}
	return "/enrol"
}

func (s *site) firstSteps(ctx context.Context, status fleet.Status, c commands) (*firstSteps, error) {
	steps := &firstSteps{commands: c, Host: "web1", Repository: "main"}
	for _, h := range status.Hosts {
		if h.Mode == fleet.ModeLocal {
			continue
		}
		if h.LastBackup != nil {
			return nil, nil
		}
		if !steps.HasHost || (h.Online && !steps.HasAgent) {
			steps.Host, steps.HasHost, steps.HasAgent = h.Name, true, h.Online
		}
	}
	repositories, err := s.Repositories.Repositories(ctx)
	if err != nil {
		return nil, wrap("repositories", err)
	}
	if len(repositories) > 0 {
		steps.Repository, steps.HasRepository = repositories[0].Name, true
	}
	return steps, nil
}

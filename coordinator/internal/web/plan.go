package web

import (
	"context"
	"net/http"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	runsPerPage = 20
	maxFresh    = 200 // rows of hosts and repositories on the page of a plan
)

// planPage is the data of one plan's page.
type planPage struct {
	planRow
	commands
	reader
	Fresh     []freshRow
	MoreFresh int
	Doubts    []freshRow // whose newest backup is suspicious
	History   []runRow
	Older     string // address of the next page of runs
	Newest    string // address of the first, when this is not it
	Refused   *job.Failure
}

// plan builds the page of a plan. refused says why an action was not done.
func (s *site) plan(ctx context.Context, name, cursor string, c commands, refused *job.Failure) (*view, error) {
	plan, err := s.Plans.Plan(ctx, name)
	if err != nil {
		return nil, err
	}
	found, err := s.Plans.PlanRuns(ctx, fleet.RunFilter{Plan: name, Limit: runsPerPage, Cursor: cursor})
	if err != nil {
		return nil, wrap("runs of "+name, err)
	}
	now := s.moment()
	page := &planPage{planRow: planRow{now, plan}, commands: c, reader: readerOf(ctx), Refused: refused}
	page.fill(found)
	if cursor != "" {
		page.Newest = planURL(name) + "#plan-runs"
	}
	v := &view{
		Title: string(page.Chip().Word) + " · " + name, Nav: "/plans", Body: "plan", Data: page,
		Live:  []string{"plan-head", "plan-fresh", "plan-runs", "plan-does"},
		Cares: func(u feed.Update) bool { return u.Type == feed.Missed || (caresForState(u) && u.Plan == name) },
	}
	if refused != nil {
		v.Status = refused.Code.HTTPStatus()
	}
	return v, nil
}

func (p *planPage) fill(found fleet.RunPage) {
	for _, state := range freshStates() { // the worst first, as they are what one looks for
		for _, f := range p.Freshness {
			if f.State == state {
				p.Fresh = append(p.Fresh, freshRow{p.clock, f})
			}
			if f.State == state && f.Suspicion != nil {
				p.Doubts = append(p.Doubts, freshRow{p.clock, f})
			}
		}
	}
	p.Fresh = cut(p.Fresh, maxFresh, &p.MoreFresh)
	for _, run := range found.Runs {
		p.History = append(p.History, runRow{p.clock, run})
	}
	if found.Cursor != "" {
		p.Older = withQuery(planURL(p.Name), "cursor", found.Cursor) + "#plan-runs"
	}
}

// Wishes is what the plan does, in words.
func (p *planPage) Wishes() []wish { return planWishes(p.PlanSpec) }

// HostChoices is the menu of hosts to run it on.
func (p *planPage) HostChoices() []choice { return choices("", "all its hosts", p.On) }

// Tested reports whether a restore can be tested there: there is a backup.
func (r freshRow) Tested() bool { return r.LastSuccess != nil }

// AboutPlan is a command of the plan family about one plan.
func (c commands) AboutPlan(verb, name string, more ...string) string {
	return c.borgfleet(append([]string{"plan", verb, name}, more...)...)
}

// PostPlan does an action on a plan over HTTP.
func (c commands) PostPlan(verb, name string) string {
	return curl("-X", "POST", c.url(planURL(name)+"/"+verb))
}

// runPlan runs a plan now, on all its hosts or one.
func (s *site) runPlan(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	name, asked := r.PathValue("plan"), fleet.RunRequest{IdempotencyKey: r.PostForm.Get("key")}
	if host := r.PostForm.Get("host"); host != "" {
		asked.Hosts = []string{host}
		asked.IdempotencyKey = given(asked.IdempotencyKey != "", asked.IdempotencyKey+"-"+rowID(host))
	}
	run, _, err := s.Plans.RunPlan(r.Context(), fleet.ActorOf(r.Context()), name, asked)
	s.planDone(w, r, runURL(run.ID), err)
}

func (s *site) resumePlan(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("plan")
	_, err := s.Plans.ResumePlan(r.Context(), fleet.ActorOf(r.Context()), name)
	s.planDone(w, r, planURL(name), err)
}

// acceptBackup takes a suspicious backup as right.
func (s *site) acceptBackup(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	name, v := r.PathValue("plan"), &typed{Values: r.PostForm, sent: true}
	err := s.Plans.AcceptBackup(r.Context(), fleet.ActorOf(r.Context()), name, v.Get("host"), v.Get("repository"), v.text("reason"))
	s.planDone(w, r, planURL(name), err)
}

// testRestore restores a sample now.
func (s *site) testRestore(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	j, err := s.Plans.TestRestore(r.Context(), fleet.ActorOf(r.Context()), r.PathValue("plan"), r.PostForm.Get("host"), r.PostForm.Get("repository"))
	s.planDone(w, r, jobURL(j.ID), err)
}

// planDone goes on to where an action leads, or says on the plan's page why it was
// not done.
func (s *site) planDone(w http.ResponseWriter, r *http.Request, after string, err error) {
	if err == nil {
		http.Redirect(w, r, after, http.StatusSeeOther)
		return
	}
	refused := failures(err)[0]
	if refused.Code == job.NotAllowed || refused.Code == job.UnknownPlan {
		s.faultOf(w, r, refused)
		return
	}
	v, err := s.plan(r.Context(), r.PathValue("plan"), "", s.commandsFor(r), refused)
	if err != nil {
		s.faultOf(w, r, err)
		return
	}
	s.render(w, r, v)
}

// confirmPause is the page that asks how long a plan shall pause.
func (s *site) confirmPause(r *http.Request) (*confirmation, error) {
	plan, err := s.Plans.Plan(r.Context(), r.PathValue("plan"))
	if err != nil {
		return nil, err
	}
	v := &typed{Values: r.Form, sent: r.Method == http.MethodPost}
	name, span, end := plan.Name, spanField(v, "until somebody resumes it"), untilField(v)
	words := []string{"plan", "pause", name}
	return &confirmation{
		Title: "Pause " + name, Action: "pause", Nav: "/plans", Back: planURL(name), BackTo: name, Button: "Pause", Mild: true,
		Happens: []string{
			"It does not run by itself meanwhile, and nobody is alarmed that its backups grow old. Runs that have begun go on.",
			"What was due in a pause is not made up.",
		},
		Fields:  []field{span, end, {Name: "reason", Label: "Why", Kind: "text", Value: v.text("reason"), Help: "Others see it, and the audit keeps it."}},
		Command: s.commandsFor(r).borgfleet(append(words, "--for", "7d", "--reason", "…")...), after: planURL(name),
		do: func(ctx context.Context, by fleet.Actor) error {
			until, err := v.until(s.Now())
			if err != nil {
				return err
			}
			_, err = s.Plans.PausePlan(ctx, by, name, until, v.text("reason"))
			return err
		},
	}, nil
}

func (s *site) confirmPlan(r *http.Request) (*confirmation, error) {
	plan, err := s.Plans.Plan(r.Context(), r.PathValue("plan"))
	if err != nil {
		return nil, err
	}
	name := plan.Name
	return &confirmation{
		Title: "Remove the plan " + name, Nav: "/plans", Back: planURL(name), BackTo: name, Ask: name, Button: "Remove " + name,
		Happens: []string{
			"Its hosts are no longer backed up by it: no more runs, no prune, no checks and no restore tests.",
			"Its history goes, and with it what its backups usually look like.",
			"Its archives stay in their repositories. Jobs that have begun go on.",
		},
		Command: s.commandsFor(r).AboutPlan("remove", name), after: "/plans",
		do: func(ctx context.Context, by fleet.Actor) error { return s.Plans.RemovePlan(ctx, by, name) },
	}, nil
}

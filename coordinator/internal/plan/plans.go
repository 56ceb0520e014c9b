package plan

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// AddPlan stores a new plan, whose schedule is followed from now on. The error is
// a *job.Failure with everything that is wrong.
func (s *Service) AddPlan(_ context.Context, by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	s.work.Lock()
	defer s.work.Unlock()
	if _, there := s.mem.plans[name]; there {
		return fleet.PlanView{}, job.Fail(job.Conflict, "there is a plan %q already", name).WithHint("borgfleet plan change changes it")
	}
	return s.putOne(by, name, spec)
}

// ChangePlan makes a plan as it is said. A schedule that changes is followed from
// now on.
func (s *Service) ChangePlan(_ context.Context, by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	s.work.Lock()
	defer s.work.Unlock()
	if _, there := s.mem.plans[name]; !there {
		return fleet.PlanView{}, fleet.UnknownPlan(name)
	}
	return s.putOne(by, name, spec)
}

// RemovePlan removes a plan with its history. Archives stay, and jobs that are open
// go on.
func (s *Service) RemovePlan(_ context.Context, by fleet.Actor, name string) error {
	s.work.Lock()
	defer s.work.Unlock()
	if _, there := s.mem.plans[name]; !there {
		return fleet.UnknownPlan(name)
	}
	return s.put(by, nil, []string{name})
}

// ApplyPlans puts and removes plans in one transaction. Those that are as they are
// said are left alone.
func (s *Service) ApplyPlans(_ context.Context, by fleet.Actor, put map[string]fleet.PlanSpec, remove []string) error {
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.checkPut(put, remove); err != nil {
		return err
	}
	return s.put(by, put, remove)
}

// CheckPlans checks plans as ApplyPlans does, and changes nothing. The world has
// hosts and repositories as they are going to be; plans that stay must find there
// what they name. The error is that of [CheckAll].
func (s *Service) CheckPlans(_ context.Context, put map[string]fleet.PlanSpec, remove []string, world fleet.World) error {
	s.mem.RLock()
	others := s.others(put, remove)
	s.mem.RUnlock()
	return errors.Join(CheckAll(put, others, world), checkStaying(others, world))
}

// Specs returns what people have said of each plan, by name.
func (s *Service) Specs(context.Context) (map[string]fleet.PlanSpec, error) {
	s.mem.RLock()
	defer s.mem.RUnlock()
	return s.others(nil, nil), nil
}

func (s *Service) putOne(by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	put := map[string]fleet.PlanSpec{name: spec}
	if err := s.checkPut(put, nil); err != nil {
		return fleet.PlanView{}, oneFailure(err)
	}
	if err := s.put(by, put, nil); err != nil {
		return fleet.PlanView{}, err
	}
	return s.view(name)
}

// maxTold bounds how many faults one failure names.
const maxTold = 10

// oneFailure makes one failure of several.
func oneFailure(err error) *job.Failure {
	all := failures(err)
	one := *all[0]
	var messages, hints []string
	for i, f := range all {
		if i == maxTold {
			messages = append(messages, "and more")
			break
		}
		messages = append(messages, f.Message)
		if f.Hint != "" && !slices.Contains(hints, f.Hint) {
			hints = append(hints, f.Hint)
		}
	}
	one.Message, one.Hint = strings.Join(messages, "; "), strings.Join(hints, "; ")
	return &one
}

// failures returns each of several that are joined.
func failures(err error) (all []*job.Failure) {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []*job.Failure{job.AsFailure(err)}
	}
	for _, one := range joined.Unwrap() {
		all = append(all, failures(one)...)
	}
	return all
}

// checkPut checks plans against what is stored.
func (s *Service) checkPut(put map[string]fleet.PlanSpec, remove []string) error {
	hosts, err := s.options.Store.Hosts()
	if err != nil {
		return s.failure("read hosts", err)
	}
	repositories, err := s.options.Store.Repositories()
	if err != nil {
		return s.failure("read repositories", err)
	}
	s.know(hosts)
	return CheckAll(put, s.others(put, remove), fleet.World{Hosts: hosts, Repositories: repositories})
}

// know takes in hosts that may have come or changed a moment ago, of which the feed
// has told, and nobody has looked.
func (s *Service) know(hosts []fleet.Host) {
	known := make(map[string]fleet.Host, len(hosts))
	changed := len(hosts) != len(s.mem.hosts)
	for _, host := range hosts {
		before, there := s.mem.hosts[host.Name]
		changed = changed || !there || !maps.Equal(before.Labels, host.Labels)
		known[host.Name] = host
	}
	if !changed {
		return
	}
	s.mem.Lock()
	s.mem.hosts = known
	s.mem.Unlock()
	s.resolveAll()
}

// others returns the plans that stay as they are.
func (s *Service) others(put map[string]fleet.PlanSpec, remove []string) map[string]fleet.PlanSpec {
	others := make(map[string]fleet.PlanSpec, len(s.mem.plans))
	for name, e := range s.mem.plans {
		others[name] = e.plan.PlanSpec
	}
	for name := range put {
		delete(others, name)
	}
	for _, name := range remove {
		delete(others, name)
	}
	return others
}

// put stores plans that were checked, and removes others.
func (s *Service) put(by fleet.Actor, put map[string]fleet.PlanSpec, remove []string) error {
	now := s.now()
	var changes []store.Change
	entries := map[string]*entry{}
	for _, name := range slices.Sorted(maps.Keys(put)) {
		e, more, err := s.putEntry(by, name, put[name], now)
		if err != nil {
			return err
		}
		if e != nil {
			entries[name] = e
			changes = append(changes, more...)
		}
	}
	for _, name := range remove {
		if s.mem.plans[name] != nil {
			changes = append(changes, store.DeletePlan(name), audit(by, now, "plan.remove", name, ""))
		}
	}
	if len(changes) == 0 {
		return nil
	}
	if _, err := s.apply(changes...); err != nil {
		s.stale = true
		s.stir()
		return s.failure("store plans", err)
	}
	s.installPlans(entries, remove)
	s.stir()
	return nil
}

// putEntry makes what is to be stored of a plan; nil if it is as it is said.
func (s *Service) putEntry(by fleet.Actor, name string, spec fleet.PlanSpec, now time.Time) (*entry, []store.Change, error) {
	known := s.mem.plans[name]
	p := fleet.Plan{Name: name, PlanSpec: spec, CreatedAt: now, ChangedAt: now, Canary: rand.Text()}
	cursor, action := now, "plan.add"
	if known != nil {
		if same(known.plan.PlanSpec, spec) {
			return nil, nil, nil
		}
		p.CreatedAt, p.Pause, p.ResumedAt, p.Canary = known.plan.CreatedAt, known.plan.Pause, known.plan.ResumedAt, known.plan.Canary
		action = "plan.change"
		if same(fleet.PlanSpec{Schedule: known.plan.Schedule}, fleet.PlanSpec{Schedule: spec.Schedule}) {
			cursor = known.cursor
		}
	}
	e, err := newEntry(p, cursor)
	if err != nil {
		return nil, nil, err
	}
	changes := []store.Change{store.CreatePlan(p, cursor)}
	if known != nil {
		changes = []store.Change{store.ChangePlan(p), store.SetPlanCursor(name, cursor)}
	}
	return e, append(changes, audit(by, now, action, name, "")), nil
}

// installPlans puts plans that were stored into memory.
func (s *Service) installPlans(entries map[string]*entry, remove []string) {
	s.mem.Lock()
	for name, e := range entries {
		e.hosts = resolve(e.plan.PlanSpec, s.mem.hosts)
		if known := s.mem.plans[name]; known != nil {
			e.runs, e.told = known.runs, known.told
		}
		s.mem.plans[name] = e
		e.stir()
	}
	for _, name := range remove {
		if e := s.mem.plans[name]; e != nil {
			for _, r := range e.runs {
				delete(s.mem.runs, r.run.ID)
			}
			delete(s.mem.plans, name)
		}
	}
	if len(remove) > 0 {
		maps.DeleteFunc(s.mem.tracks, func(id trackID, _ outline) bool { return s.mem.plans[id.plan] == nil })
	}
	s.mem.Unlock()
	for _, name := range slices.Concat(slices.Sorted(maps.Keys(entries)), remove) {
		s.publish(name)
	}
}

func audit(by fleet.Actor, at time.Time, action, plan, detail string) store.Change {
	return store.AppendAudit(fleet.AuditEntry{
		At: at, By: by.Name, From: by.From, Action: action, Object: "plan/" + plan, Outcome: "done", Detail: detail,
	})
}

// Plan returns a plan with its present state.
func (s *Service) Plan(_ context.Context, name string) (fleet.PlanView, error) { return s.view(name) }

// PlanNames returns the name of every plan, sorted.
func (s *Service) PlanNames(context.Context) ([]string, error) {
	s.mem.RLock()
	defer s.mem.RUnlock()
	return slices.Sorted(maps.Keys(s.mem.plans)), nil
}

// Plans returns every plan with its present state, by name. It reads the past of
// each; who shows some of them asks for their names.
func (s *Service) Plans(ctx context.Context) ([]fleet.PlanView, error) {
	names, err := s.PlanNames(ctx)
	if err != nil {
		return nil, err
	}
	views := make([]fleet.PlanView, 0, len(names))
	for _, name := range names {
		view, err := s.view(name)
		if f, ok := errors.AsType[*job.Failure](err); ok && f.Code == job.UnknownPlan {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		views = append(views, view)
	}
	return views, nil
}

// How much of a plan's past and future a view has.
const (
	shownRuns = 30
	shownNext = 3
)

func (s *Service) view(name string) (fleet.PlanView, error) {
	marks, err := s.options.Store.RunMarks(name, shownRuns)
	if err != nil {
		return fleet.PlanView{}, s.failure("read runs", err)
	}
	now := s.now()
	s.mem.RLock()
	defer s.mem.RUnlock()
	e := s.mem.plans[name]
	if e == nil {
		return fleet.PlanView{}, fleet.UnknownPlan(name)
	}
	rows := s.freshnessOf(e, now)
	view := fleet.PlanView{
		Plan: e.plan, On: slices.Clone(e.hosts), State: worstState(e, rows, now), Freshness: rows, Next: e.coming(now, shownNext), Runs: marks,
	}
	if n := len(e.runs); n > 0 {
		view.Open = e.runs[n-1].run.ID
	}
	return view, nil
}

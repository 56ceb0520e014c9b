package plan

import (
	"context"
	"slices"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// AcceptBackup takes the newest backup of a plan on a host and in a repository as
// right, though it looks suspicious: what it is like is normal from now on, and
// archives are pruned again. Host and repository may be left out where there is
// only one that is held.
func (s *Service) AcceptBackup(_ context.Context, by fleet.Actor, plan, host, repository, reason string) error {
	s.work.Lock()
	defer s.work.Unlock()
	e := s.mem.plans[plan]
	if e == nil {
		return fleet.UnknownPlan(plan)
	}
	var held []trackID
	for _, id := range e.rows() {
		if (host == "" || id.host == host) && (repository == "" || id.repository == repository) && s.mem.tracks[id].held != nil {
			held = append(held, id)
		}
	}
	switch {
	case len(held) == 0:
		return job.Fail(job.Conflict, "no backup of plan %s looks suspicious there", plan).WithHint("borgfleet plan show %s says which do", plan)
	case len(held) > 1:
		return job.Invalid("host", "several backups of plan %s look suspicious", plan).WithHint("name host and repository, for example %s and %s", held[0].host, held[0].repository)
	}
	id := held[0]
	detail := "host " + id.host + ", repository " + id.repository
	if reason != "" {
		detail += ": " + reason
	}
	if _, err := s.apply(store.AcceptBackup(plan, id.host, id.repository), audit(by, s.now(), "plan.accept", plan, detail)); err != nil {
		s.stale = true
		return s.failure("store what was accepted", err)
	}
	if err := s.refreshTracks(map[trackID]bool{id: true}); err != nil {
		s.stale = true
	}
	s.publish(plan)
	s.stir()
	return nil
}

// TestRestore tests now whether the newest good backup of a plan can be restored,
// as the plan says, or with a sample of the default size. Host and repository may
// be left out where the plan has only one.
func (s *Service) TestRestore(ctx context.Context, by fleet.Actor, plan, host, repository string) (job.Job, error) {
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.refresh(); err != nil {
		return job.Job{}, s.failure("read plans", err)
	}
	e := s.mem.plans[plan]
	if e == nil {
		return job.Job{}, fleet.UnknownPlan(plan)
	}
	id, err := e.only(host, repository)
	if err != nil {
		return job.Job{}, err
	}
	newest, err := s.newest(id)
	if err != nil {
		return job.Job{}, err
	}
	now := s.now()
	a := ask{
		plan: e.plan, now: now, archive: newest.Archive, canary: s.canaryIn(newest.Job),
		task: fleet.Task{Host: id.host, Repository: id.repository, Kind: job.TestRestore},
		run:  fleet.Run{ID: "test-" + string(job.NewID(now)), Plan: plan, Trigger: fleet.TriggerManual},
	}
	planned, err := a.planned()
	if err != nil {
		return job.Job{}, s.failure("make the test", err)
	}
	planned.Run = ""
	answers, err := s.options.Jobs.SubmitPlanned(ctx, by, []fleet.Planned{planned})
	switch {
	case err != nil:
		return job.Job{}, err
	case len(answers) != 1:
		return job.Job{}, job.Fail(job.Internal, "%d answers to one job", len(answers))
	}
	return answers[0].Job, answers[0].Err
}

// only returns the row that was named, or the only one.
func (e *entry) only(host, repository string) (trackID, error) {
	rows := slices.DeleteFunc(e.rows(), func(id trackID) bool {
		return host != "" && id.host != host || repository != "" && id.repository != repository
	})
	switch len(rows) {
	case 0:
		return trackID{}, job.Invalid("host", "plan %s does not back up host %q to repository %q", e.plan.Name, host, repository).
			WithHint("borgfleet plan show %s names those that it does", e.plan.Name)
	case 1:
		return rows[0], nil
	default:
		return trackID{}, job.Invalid("host", "plan %s has several hosts or repositories", e.plan.Name).
			WithHint("name both, for example %s and %s", rows[0].host, rows[0].repository)
	}
}

package dispatch

import (
	"cmp"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file knows how the newest jobs of each sort have ended.

// track is a line of jobs of which each settles what the one before left open.
type track struct {
	host, repository string
	kind             job.Kind
	plan, dump       string // of what belongs to a plan
}

// trackOf returns the track of a job; false: nobody needs to know how it ended. Care
// of a whole repository is the same whichever plan asks for it.
func trackOf(j job.Job) (track, bool) {
	t := track{host: j.Host, repository: j.Repository, kind: j.Kind}
	switch spec := j.Spec.(type) {
	case job.BackupSpec:
		t.plan, t.dump = j.Plan, spec.ContentFrom
	case job.PruneSpec, job.RestoreTestSpec:
		t.plan = j.Plan
	case job.CheckSpec, job.CompactSpec:
	case job.VerifySpec:
		return t, j.Repository == ""
	default:
		return t, false
	}
	return t, true
}

// noteLatest remembers how the newest job of a track ended. What a person
// stopped says nothing about the state of things.
func (s *Service) noteLatest(j job.Job) {
	key, watched := trackOf(j)
	if !watched || j.State == job.Cancelled || j.FinishedAt == nil {
		return
	}
	s.live.Lock()
	defer s.live.Unlock()
	if old, ok := s.live.latest[key]; !ok || !j.FinishedAt.Before(*old.FinishedAt) {
		s.live.latest[key] = j
	}
	if key.plan != "" && j.State == job.Succeeded { // what nobody planned, and failed, is made good by it
		key.plan = ""
		if old, ok := s.live.latest[key]; ok && !j.FinishedAt.Before(*old.FinishedAt) {
			delete(s.live.latest, key)
		}
	}
}

func (s *Service) loadLatest() error {
	recent, err := s.options.Store.Recent(latestJobs)
	if err != nil {
		return err
	}
	for _, j := range slices.Backward(recent) { // as they ended
		s.noteLatest(j)
	}
	return nil
}

// latestOf returns the newest job of each track whose host and repository
// still exist, oldest first. What a removed host of the same name did is not
// the present one's affair.
func (s *Service) latestOf(hosts []fleet.HostView, repositories []fleet.Repository) []job.Job {
	added, repoNames, modes := map[string]time.Time{}, map[string]bool{}, map[string]fleet.Mode{}
	for _, h := range hosts {
		added[h.Name], modes[h.Name] = h.CreatedAt, h.Mode
	}
	for _, r := range repositories {
		repoNames[r.Name] = true
	}
	s.live.Lock()
	defer s.live.Unlock()
	var latest []job.Job
	for _, j := range s.live.latest {
		since, known := added[j.Host]
		exists := repoNames[j.Repository] || j.Kind == job.Verify && modes[j.Host] == fleet.ModeSSH
		if known && !j.SubmittedAt.Before(since) && exists {
			latest = append(latest, j)
		}
	}
	slices.SortFunc(latest, func(a, b job.Job) int {
		return cmp.Or(a.FinishedAt.Compare(*b.FinishedAt), cmp.Compare(a.ID, b.ID))
	})
	return latest
}

// ofPlans leaves out the jobs of plans that were removed.
func (s *Service) ofPlans(latest []job.Job) ([]job.Job, error) {
	there := map[string]bool{"": true}
	var kept []job.Job
	for _, j := range latest {
		if _, known := there[j.Plan]; !known && j.State != job.Succeeded { // a good one is nobody's trouble
			_, found, err := s.options.Store.Plan(j.Plan)
			if err != nil {
				return nil, err
			}
			there[j.Plan] = found
		}
		if there[j.Plan] || j.State == job.Succeeded {
			kept = append(kept, j)
		}
	}
	return kept, nil
}

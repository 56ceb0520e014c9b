package dispatch

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file verifies once a day the hosts that the coordinator connects to, since
// nothing on them would tell that they have changed.

const (
	verifyEvery = 24 * time.Hour
	verifyLook  = 10 * time.Minute // how often it is looked for hosts whose time has come
	verifyWait  = 20 * time.Hour   // that a host may be away, so that the next one is not kept waiting
)

// verifyTime is the last moment at or before now at which a host was to be
// verified: its own time of the day, so that not all are verified at once.
func verifyTime(host string, now time.Time) time.Time {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(host)) // never fails
	at := now.Truncate(verifyEvery).Add(time.Duration(sum.Sum32()) * time.Second % verifyEvery)
	if at.After(now) {
		at = at.Add(-verifyEvery)
	}
	return at
}

// verifyHosts submits the daily jobs that are due, and returns when to look again.
func (s *Service) verifyHosts(now time.Time) (next time.Time, err error) {
	if wait := s.verifyAt.Sub(now); wait > 0 && wait <= verifyLook { // a longer one: the clock was set
		return s.verifyAt, nil
	}
	hosts, err := s.options.Store.Hosts()
	if err != nil {
		return next, err
	}
	b, err := s.begin()
	if err != nil {
		return next, err
	}
	for _, host := range hosts {
		due := verifyTime(host.Name, now)
		if host.Mode != fleet.ModeSSH || host.CreatedAt.After(due) || s.verified[host.Name].Equal(due) {
			continue
		}
		verified, err := s.wasVerified(host.Name, due)
		if err != nil {
			return next, fmt.Errorf("look when host %s was verified: %w", host.Name, err)
		}
		if !verified {
			b.enqueue(coordinator, s.verification(host.Name, now))
		}
	}
	if err := b.commit(); err != nil {
		return next, err
	}
	for _, host := range hosts {
		s.verified[host.Name] = verifyTime(host.Name, now)
	}
	s.verifyAt = now.Add(verifyLook)
	if len(b.order) > 0 {
		s.stir()
	}
	return s.verifyAt, nil
}

// wasVerified reports whether a host is being verified, or has been since it was
// due.
func (s *Service) wasVerified(host string, due time.Time) (bool, error) {
	page, err := s.options.Store.Jobs(job.Filter{Kind: job.Verify, Host: host, Limit: job.DefaultPage})
	if err != nil {
		return false, err
	}
	for _, j := range page.Jobs {
		if j.Repository == "" && (!j.State.Terminal() || !j.SubmittedAt.Before(due)) {
			return true, nil
		}
	}
	return false, nil
}

// verification is the daily job of a host.
func (s *Service) verification(host string, now time.Time) *entry {
	expires := now.Add(verifyWait)
	return &entry{job: job.Job{
		ID: job.NewID(now), Kind: job.Verify, Host: host, State: job.Queued,
		MaxAttempts: job.Verify.DefaultAttempts(), ExpiresAt: &expires, Timeout: s.timeout(job.Verify),
		SubmittedBy: coordinator.Name, SubmittedAt: now, Spec: job.VerifySpec{}, Attempts: []job.Attempt{},
	}}
}

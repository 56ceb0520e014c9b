package dispatch

import (
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// maxEnded bounds how many jobs of a removed host one transaction ends.
const maxEnded = 500

// HostRemoved ends the open jobs of a host that is no longer in the store:
// those that wait are cancelled, those that the host has are interrupted and
// not tried again. When that cannot be stored, Run tries again, and so does the
// next start: it looks for open jobs of hosts that are not there.
func (s *Service) HostRemoved(host string) {
	s.live.Lock()
	delete(s.live.hosts, host)
	s.live.Unlock()
	s.write.Lock()
	defer s.write.Unlock()
	s.removed[host] = s.now()
	if err := s.endRemoved(); err != nil {
		s.logger.Error("jobs of a removed host cannot be ended; trying again", "host", host, "err", err)
	}
	s.stir()
}

// endOrphans ends the open jobs whose host was removed in an earlier life.
func (s *Service) endOrphans() error {
	hosts, err := s.options.Store.Hosts()
	if err != nil {
		return err
	}
	orphaned := s.index.hostNames()
	for _, host := range hosts {
		delete(orphaned, host.Name)
	}
	s.write.Lock()
	defer s.write.Unlock()
	for host := range orphaned {
		s.removed[host] = s.now()
	}
	return s.endRemoved()
}

// endUnread ends the downloads that waited when an earlier life ended: whoever
// asked for them has gone with it, and nobody would read them.
func (s *Service) endUnread() error {
	s.write.Lock()
	defer s.write.Unlock()
	b, err := s.begin()
	if err != nil {
		return err
	}
	queue, _ := s.index.snapshot()
	for _, known := range queue {
		if known.job.Kind != job.Download {
			continue
		}
		e := b.get(known.job.ID)
		failure := job.Fail(job.Interrupted, "nobody reads this download any more: the coordinator was started again").
			WithHint("download it again, from where it ended")
		failure.Retryable = false
		s.endInPlace(b, e, job.Failed, failure)
	}
	return b.commit()
}

// endRemoved ends what is open of hosts that are known to be removed. Another
// host of the same name may be there already: its jobs are younger.
func (s *Service) endRemoved() error {
	for host, at := range s.removed {
		if err := s.endJobsOf(host, at); err != nil {
			return fmt.Errorf("end jobs of removed host %s: %w", host, err)
		}
		delete(s.removed, host)
	}
	return nil
}

func (s *Service) endJobsOf(host string, removedAt time.Time) error {
	for {
		b, err := s.begin()
		if err != nil {
			return err
		}
		for _, known := range s.index.openOf(host) {
			if len(b.order) < maxEnded && !known.job.SubmittedAt.After(removedAt) {
				s.endUnhosted(b, b.get(known.job.ID))
			}
		}
		if len(b.order) == 0 {
			return nil
		}
		if err := b.commit(); err != nil {
			return err
		}
		s.logger.Info("jobs of a removed host ended", "host", host, "jobs", len(b.order))
	}
}

// endUnhosted ends a job whose host is no more.
func (s *Service) endUnhosted(b *batch, e *entry) {
	if !e.held() {
		s.cancelQueued(b, e, job.Fail(job.CodeCancelled, "host %s was removed before the job ran", e.job.Host))
	} else {
		now := s.now()
		b.tell(e.concluded(unhosted(e.job.Host), s.own(e, now), now))
	}
	b.set(e, true)
}

// unhosted is the outcome of an attempt whose host was removed. Another attempt
// would have no host either.
func unhosted(host string) job.Outcome {
	failure := job.Fail(job.Interrupted, "host %s was removed while the job ran there", host).
		WithHint("its agent was cut off, so that nothing is known of how far the job came; look at the repository")
	failure.Retryable = false
	return job.Outcome{State: job.Failed, Failure: failure}
}

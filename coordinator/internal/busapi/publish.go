package busapi

import (
	"context"
	"encoding/json"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Progress is what operators see on a job's progress subject.
type Progress struct {
	Job     job.ID `json:"job"`
	Host    string `json:"host"`
	Attempt int    `json:"attempt"`
	job.Progress
}

// publish tells changes until ctx ends: a job's stored events, its progress, a
// host as it is now whenever that changed or it said hello, runs of plans, and
// alerts. Who was not
// connected has missed them.
func (s *Service) publish(ctx context.Context) {
	watcher := s.Feed.Watch()
	defer watcher.Close()
	for {
		updates, err := watcher.Next(ctx)
		if err != nil {
			return
		}
		for _, update := range updates {
			s.tell(ctx, update)
		}
	}
}

func (s *Service) tell(ctx context.Context, update feed.Update) {
	switch update.Type {
	case feed.JobEvent:
		s.send(bus.PublicEvent(update.Event.Host, update.Event.Job), update.Event)
	case feed.JobProgress:
		s.send(bus.PublicProgress(update.Host, update.Job.ID), Progress{
			Job: update.Job.ID, Host: update.Host, Attempt: update.Job.Attempt, Progress: *update.Progress,
		})
	case feed.HostChanged, feed.HostSeen:
		host, err := s.Inventory.Host(ctx, update.Host)
		if err != nil { // removed meanwhile
			s.logger.Debug("heartbeat not published", "host", update.Host, "err", err)
			return
		}
		s.send(bus.PublicHeartbeat(update.Host), host)
	case feed.PlanChanged:
		s.tellRuns(ctx, update.Plan)
	case feed.AlertChanged:
		s.tellAlert(*update.Alert)
	case feed.Missed:
		s.logger.Warn("events were not published: too many at once")
	case feed.JobChanged, feed.RepositoryChanged: // told as events
	}
}

// send publishes without knowing whether anybody listens.
func (s *Service) send(subject string, value any) {
	data, err := json.Marshal(value)
	if err == nil {
		err = s.Connection.Publish(subject, data)
	}
	if err != nil {
		s.logger.Debug("not published", "subject", subject, "err", err)
	}
}

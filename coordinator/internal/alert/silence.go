package alert

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// maxSilence bounds a silence: what is to be quiet for longer needs a rule.
const maxSilence = 366 * 24 * time.Hour

// Silences returns the silences that are not over, oldest first.
func (s *Service) Silences(context.Context) ([]fleet.Silence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.options.Now()
	return slices.DeleteFunc(slices.Clone(s.silences), func(silence fleet.Silence) bool { return !silence.Until.After(now) }), nil
}

// AddSilence keeps alerts quiet until a time. An empty field matches everything,
// but one must say something; * and ? stand for anything. Refusals are
// *job.Failure.
func (s *Service) AddSilence(_ context.Context, by fleet.Actor, silence fleet.Silence) (fleet.Silence, error) {
	now := s.options.Now().UTC()
	if err := checkSilence(silence, now); err != nil {
		return fleet.Silence{}, err
	}
	silence.ID, silence.By, silence.CreatedAt, silence.Until = string(job.NewID(now)), by.Name, now, silence.Until.UTC()
	err := s.changeSilence(store.PutSilence(silence), s.audit(by, "silence.add", silence, silence.Reason))
	if err != nil {
		return fleet.Silence{}, fmt.Errorf("store silence: %w", err)
	}
	s.logger.Info("alerts silenced", "silence", silence.ID, "until", silence.Until, "by", by.Name)
	return silence, nil
}

// RemoveSilence ends a silence. The error is a *job.Failure if it is not there.
func (s *Service) RemoveSilence(_ context.Context, by fleet.Actor, id string) error {
	err := s.changeSilence(store.DeleteSilence(id), s.audit(by, "silence.remove", fleet.Silence{ID: id}, ""))
	if errors.Is(err, store.ErrMissing) {
		return job.Fail(job.NotFound, "there is no silence %q", id).WithHint("borgfleet alert list shows all")
	}
	if err != nil {
		return fmt.Errorf("remove silence %s: %w", id, err)
	}
	s.logger.Info("silence removed", "silence", id, "by", by.Name)
	return nil
}

// changeSilence stores changes to silences with what follows for the alerts.
func (s *Service) changeSilence(changes ...store.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.apply(changes...); err != nil {
		return err
	}
	silences, err := s.store.Silences()
	if err != nil {
		return err
	}
	s.silences = silences
	d := difference{now: s.options.Now().UTC()}
	for key, alert := range s.open {
		s.compare(&d, key, alert.Condition)
	}
	if len(d.changes) == 0 {
		return nil
	}
	if err := s.apply(d.changes...); err != nil {
		return err
	}
	s.publish(d.alerts)
	return nil
}

func (s *Service) audit(by fleet.Actor, action string, silence fleet.Silence, detail string) store.Change {
	return store.AppendAudit(fleet.AuditEntry{
		At: s.options.Now().UTC(), By: by.Name, From: by.From, Action: action, Object: "silence/" + silence.ID, Outcome: "done", Detail: detail,
	})
}

func checkSilence(silence fleet.Silence, now time.Time) error {
	var faults []error
	named := false
	for _, pair := range [][2]string{
		{"kind", silence.Kind}, {"host", silence.Host}, {"repository", silence.Repository}, {"plan", silence.Plan},
	} {
		named = named || pair[1] != ""
		if _, err := path.Match(pair[1], ""); err != nil {
			faults = append(faults, job.Invalid(pair[0], "%q is not a name or a glob", pair[1]))
		}
	}
	if !named {
		faults = append(faults, job.Invalid("kind", "nothing says which alerts are to be quiet").
			WithHint("give kind, host, repository or plan; kind * is every alert"))
	}
	switch {
	case !silence.Until.After(now):
		faults = append(faults, job.Invalid("until", "%s is not in the future", silence.Until.Format(time.RFC3339)))
	case silence.Until.After(now.Add(maxSilence)):
		faults = append(faults, job.Invalid("until", "more than a year away").WithHint("a rule of notification leaves things out for good"))
	}
	return errors.Join(faults...)
}

// silencer returns the id of a silence that keeps a condition quiet; empty: none
// does. The caller holds mu.
func (s *Service) silencer(c fleet.Condition, now time.Time) string {
	for _, silence := range s.silences {
		if silence.Until.After(now) && covers(silence, c) {
			return silence.ID
		}
	}
	return ""
}

func covers(silence fleet.Silence, c fleet.Condition) bool {
	for _, pair := range [][2]string{
		{silence.Kind, c.Kind}, {silence.Host, c.Host}, {silence.Repository, c.Repository}, {silence.Plan, c.Plan},
	} {
		if pair[0] == "" {
			continue
		}
		if matches, err := path.Match(pair[0], pair[1]); err != nil || !matches {
			return false
		}
	}
	return true
}

// expire drops the silences that are over, and returns the others. The caller
// holds mu, and has compared the alerts.
func (s *Service) expire(d *difference) []fleet.Silence {
	var left []fleet.Silence
	for _, silence := range s.silences {
		if silence.Until.After(d.now) {
			left = append(left, silence)
		} else {
			d.changes = append(d.changes, store.DeleteSilence(silence.ID))
		}
	}
	return left
}

package dispatch

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	recentJobs   = 10
	latestJobs   = 5000 // of the history, looked at after a start
	statusWindow = 24 * time.Hour
	maxClockSkew = time.Minute // by which a host's clock may differ before a person should look
)

// Status returns the whole in short. The error is a *job.Failure.
func (s *Service) Status(ctx context.Context) (fleet.Status, error) {
	hosts, err := s.options.Registry.Hosts(ctx)
	if err != nil {
		return fleet.Status{}, s.failure("read hosts", err)
	}
	now := s.now()
	queue, held := s.index.snapshot()
	status := s.overview(hosts, queue, held)
	status.At, status.Version = now, s.options.Version
	recent, err := s.options.Store.Recent(recentJobs)
	if err != nil {
		return fleet.Status{}, s.failure("read recent jobs", err)
	}
	status.Recent = append(status.Recent, recent...)
	if status.Jobs, err = s.countByState(now, held, len(queue)); err != nil {
		return fleet.Status{}, s.failure("count jobs", err)
	}
	repositories, err := s.options.Store.Repositories()
	if err != nil {
		return fleet.Status{}, s.failure("read repositories", err)
	}
	if status.KeysNotExported, err = s.keysNotExported(repositories); err != nil {
		return fleet.Status{}, s.failure("read what is known of repositories", err)
	}
	latest, err := s.ofPlans(s.latestOf(hosts, repositories))
	if err != nil {
		return fleet.Status{}, s.failure("read plans", err)
	}
	status.Attention = slices.Concat(attention(hosts, latest, queue, held), frozenRepositories(repositories), longMounts(hosts, queue, held, now), s.otherAttention(now))
	for i := range status.Attention {
		if a := &status.Attention[i]; a.Severity == "" {
			a.Severity = severity(a.Kind)
		}
	}
	status.Summary = summary(hosts, latest, status.Attention)
	return status, nil
}

// overview is a status with the hosts and the open jobs. The coordinator's own
// machine is shown, and not counted.
func (s *Service) overview(hosts []fleet.HostView, queue, held []*entry) fleet.Status {
	status := fleet.Status{Hosts: hosts, Running: []job.Job{}, Queued: []job.Job{}, Recent: []job.Job{}}
	for _, h := range hosts {
		switch {
		case h.Mode == fleet.ModeLocal:
			continue // it has nothing to back up, and is always there
		case h.Online:
			status.HostsOnline++
		}
		status.HostsTotal++
	}
	for _, e := range held {
		status.Running = append(status.Running, s.withProgress(e.job))
	}
	for _, e := range queue {
		status.Queued = append(status.Queued, e.job)
	}
	return status
}

// otherAttention lists what needs a person besides jobs and hosts that are away.
func (s *Service) otherAttention(now time.Time) []fleet.Attention {
	items := s.presence.attention()
	if err := s.options.Store.Healthy(); err != nil {
		items = append(items, unwritable(err, now))
	}
	if s.options.Attention != nil {
		items = append(items, s.options.Attention()...)
	}
	return items
}

func (s *Service) countByState(now time.Time, held []*entry, queued int) (map[job.State]int, error) {
	counts, err := s.options.Store.FinishedSince(now.Add(-statusWindow))
	if err != nil {
		return nil, err
	}
	for _, state := range job.States() {
		if _, ok := counts[state]; !ok {
			counts[state] = 0
		}
	}
	counts[job.Queued] = queued
	for _, e := range held {
		counts[e.job.State]++
	}
	return counts, nil
}

// keysNotExported names the repositories of which borg keeps a key that nobody
// has a copy of.
func (s *Service) keysNotExported(repositories []fleet.Repository) ([]string, error) {
	names := []string{}
	for _, r := range repositories {
		if r.Encryption == job.Unencrypted {
			continue
		}
		record, err := s.options.Store.RepositoryRecord(r.Name)
		if err != nil {
			return nil, err
		}
		if record.KeyExportedAt == nil {
			names = append(names, r.Name)
		}
	}
	return names, nil
}

// attention lists what needs a person: failures first, then hosts, then
// warnings. Each item goes away when a later job of its kind ends well, or the
// host is back.
func attention(hosts []fleet.HostView, latest []job.Job, queue, held []*entry) []fleet.Attention {
	failed, warned, about := []fleet.Attention{}, []fleet.Attention{}, []fleet.Attention{}
	for _, j := range slices.Backward(latest) {
		switch good := j.State == job.Succeeded; {
		case j.Kind == job.Verify:
			if !good {
				about = append(about, unfit(j))
			}
		case missedByPlan(j): // which tells of it, as missed
		case j.State == job.Failed, j.State == job.Expired:
			failed = append(failed, failedJob(j))
		case j.State == job.Warning:
			warned = append(warned, warnedJob(j))
		}
	}
	open := map[string]int{}
	for _, e := range slices.Concat(queue, held) {
		open[e.job.Host]++
	}
	for _, h := range hosts {
		if h.Online && h.Facts != nil && math.Abs(h.Facts.ClockSkew) > maxClockSkew.Seconds() {
			about = append(about, wrongClock(h))
		}
		switch {
		case barred(h):
			about = append(about, barredHost(h))
		case !h.Online && open[h.Name] > 0:
			about = append(about, awayHost(h, open[h.Name]))
		case h.Online && h.Facts != nil && h.Facts.BorgFailure != nil:
			about = append(about, fleet.Attention{
				Kind: "no_borg", Host: h.Name, Since: h.Facts.SeenAt,
				Message: h.Facts.BorgFailure.Message, Hint: h.Facts.BorgFailure.Hint,
			})
		case h.Online && h.Facts != nil && h.Facts.BorgVersion == "":
			about = append(about, fleet.Attention{
				Kind: "no_borg", Host: h.Name, Since: h.Facts.SeenAt,
				Message: "borg was not found on host " + h.Name,
				Hint:    "install it there (Debian: apt install borgbackup), or set borg.binary in agent.yaml",
			})
		}
	}
	return slices.Concat(failed, about, warned)
}

// missedByPlan reports whether a job is a plan's backup that never began: to the
// plan it is one of the runs that were missed.
func missedByPlan(j job.Job) bool {
	spec, backup := j.Spec.(job.BackupSpec)
	return backup && j.State == job.Expired && j.Run != "" && spec.ContentFrom == ""
}

// told is what a job is about, with the plan that it is of.
func told(j job.Job) string {
	if j.Plan == "" {
		return purpose(j)
	}
	return purpose(j) + " by plan " + j.Plan
}

func failedJob(j job.Job) fleet.Attention {
	a := fleet.Attention{Kind: "failed", Host: j.Host, Repository: j.Repository, Plan: j.Plan, Job: j.ID, Since: *j.FinishedAt}
	a.Message = fmt.Sprintf("%s %s", told(j), j.State) // failed, expired
	if f := j.Failure; f != nil {
		a.Message, a.Hint = a.Message+": "+f.Message, f.Hint
	}
	if j.MaxAttempts > 1 && j.Attempt > 1 {
		a.Message += fmt.Sprintf(" (attempt %d of %d)", j.Attempt, j.MaxAttempts)
	}
	if a.Hint == "" {
		a.Hint = "see the log of the job; retry it when the cause is gone"
	}
	return a
}

func warnedJob(j job.Job) fleet.Attention {
	a := fleet.Attention{Kind: "warning", Host: j.Host, Repository: j.Repository, Plan: j.Plan, Job: j.ID, Since: *j.FinishedAt}
	a.Message = told(j) + " ended with warnings"
	a.Hint = "see the log of the job; what borg warns of was left out, or changed while it was read"
	switch r := j.Result; {
	case r == nil:
	case len(r.Damaged) > 0:
		a.Message += fmt.Sprintf(", and found damage: %s%s", r.Damaged[0], more(len(r.Damaged)+r.DamagedOmitted-1))
		a.Hint = "see the result of the job; what is damaged cannot be restored from this repository"
	case len(r.Warnings) > 0:
		a.Message += fmt.Sprintf(": %s%s", r.Warnings[0], more(len(r.Warnings)+r.WarningsOmitted-1))
	}
	return a
}

// unwritable says that the coordinator cannot store anything.
func unwritable(err error, now time.Time) fleet.Attention {
	return fleet.Attention{
		Kind: "store", Since: now, Message: "the coordinator cannot write its database: " + err.Error(),
		Hint: "see its disk and its log; running jobs go on, and it works again by itself",
	}
}

// wrongClock says that a host's clock is not the coordinator's.
func wrongClock(h fleet.HostView) fleet.Attention {
	a := fleet.Attention{Kind: "clock", Host: h.Name, Since: h.Facts.SeenAt, Hint: "set its clock, for example: timedatectl set-ntp true"}
	way := "behind"
	if h.Facts.ClockSkew > 0 {
		way = "ahead of"
		a.Hint += "; until then it refuses orders, as they seem to have expired"
	}
	a.Message = fmt.Sprintf("the clock of host %s is %s %s the coordinator's", h.Name, human.Seconds(math.Abs(h.Facts.ClockSkew)), way)
	return a
}

// summary is the state of the whole in one sentence: first how the backups are,
// then what else needs a person.
func summary(hosts []fleet.HostView, latest []job.Job, items []fleet.Attention) string {
	if !slices.ContainsFunc(hosts, func(h fleet.HostView) bool { return h.Mode != fleet.ModeLocal }) {
		return "No hosts yet"
	}
	backups, bad := 0, 0
	for _, j := range latest {
		if j.Kind != job.Backup {
			continue
		}
		backups++
		if j.State != job.Succeeded {
			bad++
		}
	}
	text := backupSummary(backups, bad)
	others := otherSummary(items, bad)
	switch {
	case len(others) == 0:
		return text
	case bad > 0 || backups == 0:
		return text + ", and " + strings.Join(others, ", and ")
	default:
		return text + ", but " + strings.Join(others, ", and ")
	}
}

func backupSummary(backups, bad int) string {
	switch {
	case backups == 0:
		return "No backups yet"
	case bad == 0 && backups == 1:
		return "The one backup is fine"
	case bad == 0:
		return fmt.Sprintf("All %d backups are fine", backups)
	case backups == 1:
		return "The one backup needs attention"
	case bad == backups:
		return fmt.Sprintf("All %d backups need attention", backups)
	default:
		return fmt.Sprintf("%d of %d backups %s attention", bad, backups, verb(bad))
	}
}

// otherSummary counts what needs attention besides the bad backups.
func otherSummary(items []fleet.Attention, bad int) []string {
	counts, jobs, rest := map[string]int{}, -bad, 0
	for _, a := range items {
		switch a.Kind {
		case "failed", "warning":
			jobs++
		case "offline", "no_borg", "clock":
			counts[a.Kind]++
		default:
			rest++
		}
	}
	var parts []string
	for _, part := range []struct {
		n         int
		one, many string
	}{
		{counts["offline"], "host is offline", "hosts are offline"},
		{counts["no_borg"], "host has no usable borg", "hosts have no usable borg"},
		{counts["clock"], "host has a wrong clock", "hosts have a wrong clock"},
		{jobs, "other job needs attention", "other jobs need attention"},
		{rest, "other thing needs attention", "other things need attention"},
	} {
		if part.n > 0 {
			parts = append(parts, plural(part.n, part.one, part.many))
		}
	}
	return parts
}

func verb(n int) string {
	if n == 1 {
		return "needs"
	}
	return "need"
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

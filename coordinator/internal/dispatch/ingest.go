package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// HandleEvents takes in events of hosts, in the order of the stream, as one
// transaction together with the stream position, unless that is 0: then they have
// not come by the stream. It returns nil when they are
// stored, and only then may they be acknowledged; after an error they must be
// given again. What is repeated, late or makes no sense is counted and dropped,
// and never keeps later events waiting. The host in each event must be the one
// that was allowed to publish it.
func (s *Service) HandleEvents(_ context.Context, events []bus.StreamEvent) error {
	if len(events) == 0 {
		return nil
	}
	s.write.Lock()
	defer s.write.Unlock()
	b, err := s.begin()
	if err != nil {
		return err
	}
	applied := 0
	for _, event := range events {
		why, err := s.take(b, event.Event)
		if err != nil {
			return err
		}
		if why != "" {
			s.drop(event, why)
			continue
		}
		applied++
	}
	last := events[len(events)-1]
	if last.Sequence > 0 { // 0: they have not come by the stream
		b.also(store.SetStreamPosition(last.Sequence))
	}
	if err := b.commit(); err != nil {
		return err
	}
	s.counters.applied.Add(uint64(applied))
	s.counters.dropped.Add(uint64(len(events) - applied))
	s.counters.position.Store(max(s.counters.position.Load(), last.Sequence))
	s.counters.lag.Store(int64(max(0, s.now().Sub(last.At))))
	s.stir()
	return nil
}

// take puts one event into the batch, or says why it changes nothing.
func (s *Service) take(b *batch, event bus.Event) (dropped, error) {
	e, err := s.subject(b, event)
	if err != nil {
		return "", err
	}
	if e == nil {
		return dropUnknown, nil
	}
	if why := e.judge(event.Event); why != "" {
		return why, nil
	}
	if event.Type == job.EventLog {
		if err := s.keepLines(event.Event); err != nil {
			return "", err
		}
	}
	if event.Seq > e.attempt.LastSeq+1 { // hosts publish in order, so the stream has lost some
		s.logger.Warn("events are missing in the stream", "job", event.Job, "host", event.Host,
			"after", e.attempt.LastSeq, "before", event.Seq)
	}
	now := s.now()
	changed := *e
	told := changed.follow(event, now, s.retryAt(e, now))
	if why := b.step(e, &changed, event); why != "" {
		return why, nil
	}
	b.tell(told)
	if told.Type == job.EventFinished || told.Type == job.EventRetried {
		s.logger.Info("attempt ended", "job", event.Job, "host", event.Host, "attempt", told.Attempt, "state", told.State, "err", told.Failure)
	}
	return "", nil
}

// step puts what an event makes of an entry into the batch. A step that the state
// table has not would keep all other events from being stored: its event is
// dropped, and must not come again. The next hello then ends the attempt.
func (b *batch) step(from, to *entry, event bus.Event) dropped {
	if next := to.job.State; next != from.job.State && !from.job.State.CanBecome(next) {
		from.attempt.LastSeq = event.Seq
		b.set(from, false)
		return dropIllegal
	}
	b.set(to, event.Type != job.EventLog || b.moves(to))
	return ""
}

// moves reports whether a job has another state, or attempt, than before the
// batch.
func (b *batch) moves(e *entry) bool {
	known := b.s.index.get(e.job.ID)
	return known == nil || known.job.State != e.job.State || known.job.Attempt != e.job.Attempt
}

// drop logs an event that changes nothing. Repeats are ordinary.
func (s *Service) drop(event bus.StreamEvent, why dropped) {
	level := s.logger.Warn
	if why == dropIllegal {
		level = s.logger.Error
	}
	if why == dropRepeat || why == dropFenced || (why == dropUnknown && s.isOver(event)) {
		level = s.logger.Debug
	}
	level("event dropped", "why", string(why), "job", event.Job, "host", event.Host, "attempt", event.Attempt,
		"seq", event.Seq, "type", event.Type, "stream", event.Sequence)
}

// isOver reports whether an event is a late word on a job of its host that is over.
func (s *Service) isOver(event bus.StreamEvent) bool {
	if _, err := job.ParseID(string(event.Job)); err != nil {
		return false
	}
	j, found, err := s.options.Store.Job(event.Job)
	return err == nil && found && j.Host == event.Host && j.State.Terminal()
}

// keepLines appends to the job's log before the event is stored: lines that
// come again are dropped by readers. A full disk stops the database as well, so
// that events wait for space. Any other log that cannot be written is a pity,
// but must not keep a job from ending.
func (s *Service) keepLines(event job.Event) error {
	err := s.logs.append(event)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		s.counters.logFaults.Add(1)
		s.logger.Error("log lines lost here; the host still has them", "job", event.Job, "host", event.Host, "err", err)
		return nil
	}
	return err
}

// consequences adds what the end of a job means for others: its entry in the
// audit, the base of the next progress, summaries, what is known of its
// repository.
func (b *batch) consequences(j job.Job) error {
	b.hosts[j.Host] = true
	if j.Repository != "" {
		b.repos[j.Repository] = true
	}
	b.also(auditEnd(j))
	good := j.State == job.Succeeded || j.State == job.Warning
	_, removed := b.s.removed[j.Host]
	if j.Kind == job.Backup && !removed && !skipped(j.Failure) && (j.State != job.Cancelled || j.StartedAt != nil) {
		b.also(store.AppendRun(j.Host, j.State))
	}
	if !good || j.Result == nil || j.Repository == "" {
		return nil
	}
	if err := b.inventory(j); err != nil {
		return err
	}
	if j.Kind == job.Backup {
		b.backedUp(j)
	}
	return errors.Join(b.restoreTested(j), b.note(j))
}

// backedUp takes in a backup that ended well.
func (b *batch) backedUp(j job.Job) {
	r := j.Result
	summary := fleet.BackupSummary{
		Job: j.ID, Host: j.Host, Repository: j.Repository, Archive: r.Archive, State: j.State, FinishedAt: *j.FinishedAt,
		OriginalSize: r.OriginalSize, DeduplicatedSize: r.DeduplicatedSize, NFiles: r.NFiles, Duration: r.Duration,
	}
	b.also(
		store.PutBaseline(baselineKey(j), job.Baseline{OriginalSize: r.OriginalSize, NFiles: r.NFiles}),
		store.PutBackupSummary(summary),
	)
	if spec, ok := j.Spec.(job.BackupSpec); ok && j.Plan != "" {
		b.also(store.NoteBackup(j.Plan, store.Sample{BackupSummary: summary, Dump: spec.ContentFrom}))
	}
}

// restoreTested takes in a restore test that ended well: it speaks for the host that
// has made the archive, wherever it was run.
func (b *batch) restoreTested(j job.Job) error {
	spec, ok := j.Spec.(job.RestoreTestSpec)
	if !ok || j.Plan == "" {
		return nil
	}
	archive, _, err := b.s.options.Store.Archive(j.Repository, spec.Archive)
	if err != nil {
		return fmt.Errorf("look who has made archive %s: %w", spec.Archive, err)
	}
	b.also(store.NoteRestoreTest(j.Plan, cmp.Or(archive.Host, subject(j)), j.Repository, j.ID, *j.FinishedAt))
	return nil
}

// note takes in what a job that ended well tells of its repository.
func (b *batch) note(j job.Job) error {
	record, err := b.record(j.Repository)
	if err != nil {
		return err
	}
	said := j.Result.Encryption
	if j.Result.Repository != nil {
		said = j.Result.Repository.Encryption
	}
	changed := said.Known() && said != record.Encryption
	if changed {
		record.Encryption = said
	}
	if !noted(&record, j) && !changed {
		return nil
	}
	b.records[j.Repository] = record
	return nil
}

// noted adds to a record what a job of its kind tells, and reports whether that
// is anything.
func noted(record *store.RepositoryRecord, j job.Job) bool {
	at := *j.FinishedAt
	switch j.Kind {
	case job.Init, job.Info:
		if j.Result.Repository == nil {
			return false
		}
		record.Info, record.InfoAt = j.Result.Repository, &at
		if j.Kind == job.Init {
			record.ArchivesAsOf = &at
		}
	case job.List:
		if !allListed(j) {
			return false
		}
		record.ArchivesAsOf = &at
	case job.Check:
		record.LastCheck = &at
		spec, ok := j.Spec.(job.CheckSpec)
		if ok && spec.VerifyData {
			record.LastVerify = &at
		}
		if ok && j.State == job.Succeeded && !spec.RepositoryOnly && spec.MaxDuration == 0 {
			record.Damage = ""
		}
	case job.Prune:
		if spec, ok := j.Spec.(job.PruneSpec); ok && spec.DryRun {
			return false
		}
		record.LastPrune = &at
	case job.Compact:
		record.LastCompact = &at
	case job.KeyExport:
		record.KeyExportedAt = &at
	default:
		return false
	}
	return true
}

// HandleProgress takes in live progress of a host. What does not belong to a
// running attempt of that host is dropped. Nothing is told of an attempt after
// its end was: see batch.install.
func (s *Service) HandleProgress(host string, p bus.Progress) {
	s.live.Lock()
	defer s.live.Unlock()
	e := s.index.get(p.Job)
	if e == nil || e.job.Host != host || e.job.Attempt != p.Attempt || !e.held() {
		return
	}
	s.live.progress[p.Job] = p.Progress
	j := e.job
	j.Progress = &p.Progress
	s.options.Feed.Publish(feed.Update{
		Type: feed.JobProgress, Job: &j, Progress: &p.Progress, Host: host, Repository: j.Repository, Plan: j.Plan,
	})
}

// withProgress returns a job with its live progress, if it runs.
func (s *Service) withProgress(j job.Job) job.Job {
	j.Progress = nil
	if j.State != job.Running && j.State != job.Sent {
		return j
	}
	s.live.Lock()
	defer s.live.Unlock()
	if p, ok := s.live.progress[j.ID]; ok {
		j.Progress = &p
	}
	return j
}

func (s *Service) forgetProgress(id job.ID) {
	s.live.Lock()
	defer s.live.Unlock()
	delete(s.live.progress, id)
}

// StreamPosition is the place in the events stream up to which events are
// stored.
func (s *Service) StreamPosition() uint64 { return s.counters.position.Load() }

// jobsOver does what has to be done in memory and on disk after jobs have
// ended.
func (s *Service) jobsOver(done []job.Job) {
	for _, j := range done {
		s.noteLatest(j)
		s.later(func(context.Context) { s.compress(j.ID) })
	}
}

func (s *Service) compress(id job.ID) {
	if err := s.logs.compress(id); err != nil {
		s.counters.logFaults.Add(1)
		s.logger.Error("log stays uncompressed until the next start", "job", id, "err", err)
	}
}

// compressLeftovers compresses logs of jobs that ended in an earlier life.
func (s *Service) compressLeftovers() {
	ids, err := s.logs.plain()
	if err != nil {
		s.logger.Error("look for uncompressed logs", "err", err)
	}
	for _, id := range ids {
		if s.index.get(id) == nil {
			s.compress(id)
		}
	}
}

// keptSince is before which jobs may be dropped, zero for never. It is counted
// from the last job that is over: a machine that starts with a clock years ahead
// must not drop all history at once.
func (s *Service) keptSince() (time.Time, error) {
	keep := s.options.History.Keep
	if keep <= 0 {
		return time.Time{}, nil
	}
	now := s.now()
	recent, err := s.options.Store.Recent(1)
	if err == nil && len(recent) > 0 && recent[0].FinishedAt.Before(now) {
		now = *recent[0].FinishedAt
	}
	return now.Add(-keep), err
}

// pruneHistory drops old jobs with their logs.
func (s *Service) pruneHistory() {
	if s.options.History == (History{}) {
		return
	}
	before, err := s.keptSince()
	if err != nil {
		s.logger.Error("look for old jobs", "err", err)
		return
	}
	removed, err := s.options.Store.Prune(before, s.options.History.Jobs)
	if err != nil {
		s.logger.Error("drop old jobs", "err", err)
	}
	for _, id := range removed {
		if err := s.logs.remove(id); err != nil {
			s.logger.Error("remove log", "job", id, "err", err)
		}
	}
	if len(removed) > 0 {
		s.logger.Info("old jobs dropped", "jobs", len(removed))
	}
}

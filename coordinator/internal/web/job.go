package web

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// jobPage is the data of one job's page.
type jobPage struct {
	jobRow
	commands
	reader
	Log     logPart
	Planned bool         // there are pages of plans
	Refused *job.Failure // why the last action was not done
}

// job builds the page of a job. refused says why an action was not done.
func (s *site) job(ctx context.Context, id job.ID, c commands, refused *job.Failure) (*view, error) {
	if _, err := job.ParseID(string(id)); err != nil {
		f := job.AsFailure(err)
		f.Code = job.UnknownJob
		return nil, f
	}
	j, err := s.Jobs.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	page := &jobPage{jobRow: s.moment().job(j), commands: c, reader: readerOf(ctx), Planned: s.Plans != nil, Refused: refused}
	v := &view{
		Title: page.title(), Nav: "/jobs", Body: "job", Data: page, Log: id,
		Live:     []string{"job-head", "job-state", "job-attempts", "job-log-live", "job-commands"},
		Cares:    func(u feed.Update) bool { return concerns(u, id) },
		Progress: page.progress,
		Fill: func(ctx context.Context) (err error) {
			page.Log, err = s.readLog(ctx, id, logPlace{})
			page.Log.clock = page.clock
			return wrap("log", err)
		},
	}
	if refused != nil {
		v.Status = refused.Code.HTTPStatus()
	}
	return v, nil
}

func concerns(u feed.Update, id job.ID) bool {
	switch u.Type {
	case feed.JobChanged:
		return u.Job != nil && u.Job.ID == id
	case feed.JobEvent:
		return u.Event != nil && u.Event.Job == id
	case feed.Missed:
		return true
	}
	return false
}

func (p *jobPage) title() string {
	if p.State == job.Running && p.Progress != nil && p.Progress.Percent != nil {
		return fmt.Sprintf("%d %% · %s", int(*p.Progress.Percent), p.Title())
	}
	return string(p.Chip().Word) + " · " + p.Title()
}

func (p *jobPage) progress(id job.ID, progress *job.Progress) []fragment {
	if id != p.ID || p.State != job.Running {
		return nil
	}
	moved := *p
	moved.Progress = progress
	if isMount(p.Job) {
		return []fragment{{ID: "job-state", Template: "job-state", Data: &moved, Part: "job-state"}}
	}
	return []fragment{{ID: "job-progress", Template: "job-progress", Data: &moved, Part: "job-state", Title: moved.title()}}
}

// maxLogLines bounds one page of log, whatever the job wrote.
const maxLogLines = 5000

// logPlace is how far a log has been shown.
type logPlace struct {
	After   int // what the log's reader gave as Next
	Attempt int // of the last line
}

// logPart is a stretch of a job's log.
type logPart struct {
	clock
	logPlace
	Lines    []logLine
	Complete bool
	Cut      bool // there are more lines than a page shows
}

// logLine is one line, or the line that says that an attempt begins.
type logLine struct {
	job.LogLine
	Begins int // the attempt that begins with this line, from the second on
}

// Class is how a line is coloured; borg's level is also in its words.
func (l logLine) Class() string {
	switch l.Level {
	case job.LevelWarning:
		return "w"
	case job.LevelError:
		return "e"
	}
	return ""
}

// readLog reads everything that is stored after a place.
func (s *site) readLog(ctx context.Context, id job.ID, from logPlace) (logPart, error) {
	part := logPart{logPlace: from, clock: s.moment()}
	for len(part.Lines) < maxLogLines {
		log, err := s.Jobs.Log(ctx, id, part.After)
		if err != nil {
			return part, err
		}
		part.take(log)
		if len(log.Lines) == 0 || part.Complete {
			return part, nil
		}
	}
	part.Cut = true
	return part, nil
}

func (p *logPart) take(log fleet.JobLog) {
	for _, entry := range log.Lines {
		line := logLine{LogLine: entry.LogLine}
		if entry.Attempt != p.Attempt {
			if p.Attempt != 0 || entry.Attempt > 1 {
				line.Begins = entry.Attempt
			}
			p.Attempt = entry.Attempt
		}
		p.Lines = append(p.Lines, line)
	}
	p.After, p.Complete = log.Next, log.Complete
}

// figure is one number of a result with its name.
type figure struct{ Label, Value string }

// Figures are the numbers of the result, by kind.
func (p *jobPage) Figures() []figure {
	r := p.Result
	if r == nil {
		return nil
	}
	var list []figure
	switch p.Kind {
	case job.Backup:
		list = []figure{
			{"Files", human.Count(r.NFiles)}, {"Original size", human.Bytes(r.OriginalSize)},
			{"Compressed", human.Bytes(r.CompressedSize)}, {"New in repository", human.Bytes(r.DeduplicatedSize)},
		}
		if r.OriginalSize > 0 {
			list = append(list, figure{"Compressed to", human.Share(r.CompressionRatio)}, figure{"Deduplicated to", human.Share(r.DeduplicationRatio)})
		}
		if r.Duration > 0 && r.OriginalSize > 0 {
			list = append(list, figure{"Rate", human.Rate(int64(math.Round(float64(r.OriginalSize) / r.Duration)))})
		}
	case job.Prune:
		list = []figure{{"Kept", human.Count(len(r.Kept) + r.KeptOmitted)}, {p.PrunedLabel(), human.Count(len(r.Pruned) + r.PrunedOmitted)}}
	case job.Compact:
		freed := human.None
		if r.FreedBytes != nil {
			freed = human.Bytes(*r.FreedBytes)
		}
		list = []figure{{"Freed", freed}}
	case job.BreakLock:
		list = lockFigures(r)
	case job.List:
		if p.BrowseURL() == "" {
			list = []figure{{"Archives", human.Count(len(r.Archives) + r.ArchivesOmitted)}}
		}
	}
	list = append(list, resultFigures(p.Job, r)...)
	list = append(list, repositoryFigures(r.Repository)...)
	return append(list, figure{"Took", human.Seconds(r.Duration)})
}

// TimeLimit is how long an attempt may run, while that matters; empty without a
// limit.
func (p *jobPage) TimeLimit() string {
	if p.Timeout == 0 || p.State.Terminal() {
		return ""
	}
	return human.Duration(time.Duration(p.Timeout) * time.Second)
}

// PrunedLabel says whether archives are gone or would be.
func (p *jobPage) PrunedLabel() string {
	if spec, ok := p.Spec.(job.PruneSpec); ok && spec.DryRun {
		return "Would be pruned"
	}
	return "Pruned"
}

// repositoryFigures are the numbers of borg info.
func repositoryFigures(info *job.RepositoryInfo) []figure {
	if info == nil {
		return nil
	}
	return []figure{
		{"On disk", human.Bytes(info.UniqueCSize)}, {"All archives together", human.Bytes(info.TotalSize)},
		{"Unique chunks", human.Count(info.UniqueChunks)}, {"Chunks", human.Count(info.TotalChunks)},
	}
}

// Headline says what came out, for kinds whose numbers do not.
func (p *jobPage) Headline() string {
	switch {
	case p.Result == nil || (p.State != job.Succeeded && p.State != job.Warning):
		return ""
	case p.Kind == job.Check && p.State == job.Succeeded && len(p.Result.Damaged) == 0:
		return "No problems found."
	case p.Kind == job.Init:
		return "The repository is ready."
	case p.Kind == job.KeyExport:
		return "The key left the host encrypted."
	case p.Kind == job.Verify && p.State == job.Succeeded:
		return "Everything is good."
	case p.Kind == job.Diff && p.Result.Diff != nil && p.Result.Diff.Added+p.Result.Diff.Removed+p.Result.Diff.Modified+p.Result.Diff.Metadata == 0:
		return "The archives do not differ there."
	case p.Kind == job.Umount, p.Kind == job.Mount:
		return "Nothing is mounted there any more."
	}
	return ""
}

// NewestArchives are the archives of a list, newest first, as people look for them.
func (p *jobPage) NewestArchives() []job.Archive {
	archives := p.Result.Archives
	list := make([]job.Archive, len(archives))
	for i, a := range archives {
		list[len(archives)-1-i] = a
	}
	return list
}

// NewestAttempts are the attempts, newest first.
func (p *jobPage) NewestAttempts() []attemptRow {
	list := make([]attemptRow, len(p.Attempts))
	for i, a := range p.Attempts {
		list[len(p.Attempts)-1-i] = attemptRow{p.clock, a}
	}
	return list
}

// MayRepeat reports whether the reader may run it once more.
func (p *jobPage) MayRepeat() bool {
	return p.State.Terminal() && repeatable(p.Spec) && p.actor.Role.Includes(fleet.StartRole(p.Kind, p.Spec))
}

// repeatable reports whether one click may do it again: not what asks for a name
// before, and not what somebody was waiting for.
func repeatable(spec job.Spec) bool {
	switch spec := spec.(type) {
	case job.DownloadSpec:
		return false
	case job.DeleteSpec:
		return spec.DryRun
	case job.CheckSpec:
		return !spec.Repair
	}
	return true
}

// Request is what would make this job again.
func (p *jobPage) Request() job.Request { return requestOf(p.Job) }

// cancel serves the form that ends a job.
func (s *site) cancel(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, s.Actions.Cancel)
}

// retry serves the form that runs a job once more: as a new job.
func (s *site) retry(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, s.Actions.Retry)
}

// act does an action and shows the job that it gave; when it was refused, the
// page of the job says why.
func (s *site) act(w http.ResponseWriter, r *http.Request, action func(context.Context, fleet.Actor, job.ID) (job.Job, error)) {
	id := job.ID(r.PathValue("id"))
	j, err := action(r.Context(), fleet.ActorOf(r.Context()), id)
	if err == nil {
		http.Redirect(w, r, jobURL(j.ID), http.StatusSeeOther)
		return
	}
	v, readErr := s.job(r.Context(), id, s.commandsFor(r), job.AsFailure(err))
	if readErr != nil {
		s.faultOf(w, r, err)
		return
	}
	s.render(w, r, v)
}

func (s *site) commandsFor(r *http.Request) commands {
	origin := "http://" + r.Host
	if r.TLS != nil {
		origin = "https://" + r.Host
	}
	return commands{dataDir: s.DataDir, origin: origin, ssh: s.SSH != nil}
}

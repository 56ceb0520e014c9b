package web

import (
	"cmp"
	"fmt"
	"html"
	"html/template"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// jobRow is a job as lists and its own page show it.
type jobRow struct {
	clock
	job.Job
}

func (c clock) job(j job.Job) jobRow { return jobRow{c, j} }

func (c clock) jobs(list []job.Job) []jobRow {
	rows := make([]jobRow, len(list))
	for i, j := range list {
		rows[i] = c.job(j)
	}
	return rows
}

// subject is the host whose archives a job is about.
func subject(j job.Job) string { return cmp.Or(j.For, j.Host) }

// Chip is the job's state; a cancelled job whose process is not gone yet says so.
func (r jobRow) Chip() chip {
	if r.CancelRequested && !r.State.Terminal() {
		return chip{"idle", "stop", "cancelling"}
	}
	return stateChip(r.State)
}

// Remark is the most telling half sentence about it.
func (r jobRow) Remark() string { return human.Remark(r.Job) }

// Ran is how long the job ran, or has run until now.
func (r jobRow) Ran() template.HTML {
	switch {
	case r.StartedAt == nil:
		return quietNone
	case r.FinishedAt == nil && !r.State.Terminal():
		return r.Span(*r.StartedAt)
	default:
		return template.HTML(human.Duration(r.Duration(r.now))) //nolint:gosec // digits and units
	}
}

// Ended is when the job was over.
func (r jobRow) Ended() template.HTML {
	if r.FinishedAt == nil {
		return quietNone
	}
	return r.When(*r.FinishedAt)
}

// Detail is what there is to say of a running job besides its kind and repository.
func (r jobRow) Detail() string {
	if check, ok := r.Spec.(job.CheckSpec); ok && check.VerifyData {
		return "verify data"
	}
	if umount, ok := r.Spec.(job.UmountSpec); ok {
		return umount.MountPoint
	}
	return r.Plan
}

// Again is what running the job once more is called; empty while it is open.
func (r jobRow) Again() string {
	switch r.State {
	case job.Failed, job.Expired:
		return "Retry"
	case job.Succeeded, job.Warning, job.Cancelled:
		return "Run again"
	}
	return ""
}

// Bar is the progress bar.
func (r jobRow) Bar() bar {
	b := bar{Label: r.Host + " " + string(r.Kind)}
	if p := r.Progress; p != nil && p.Percent != nil {
		b.Known, b.Percent = true, min(max(*p.Percent, 0), 100)
	}
	return b
}

// Files is how many files borg has read; like the other running figures it is
// a dash when borg has not said.
func (r jobRow) Files() template.HTML {
	return r.figure(func(p job.Progress) string { return given(p.NFiles > 0, human.Count(p.NFiles)) })
}

// FilesNoun is the word after Files.
func (r jobRow) FilesNoun() string {
	if r.Progress == nil {
		return "files"
	}
	return human.Noun(r.Progress.NFiles, "file")
}

// Read is how much original data borg has read.
func (r jobRow) Read() template.HTML {
	return r.figure(func(p job.Progress) string { return given(p.OriginalSize > 0, human.Bytes(p.OriginalSize)) })
}

// Compressed is its size after compression.
func (r jobRow) Compressed() template.HTML {
	return r.figure(func(p job.Progress) string { return given(p.CompressedSize > 0, human.Bytes(p.CompressedSize)) })
}

// New is what a backup has added to the repository. Zero is a figure here:
// nothing new.
func (r jobRow) New() template.HTML {
	return r.figure(func(p job.Progress) string {
		return given(r.Kind == job.Backup && p.OriginalSize > 0, human.Bytes(p.DeduplicatedSize))
	})
}

// Rate is the speed of reading.
func (r jobRow) Rate() template.HTML {
	return r.figure(func(p job.Progress) string {
		if p.Rate == nil {
			return ""
		}
		return human.Rate(*p.Rate)
	})
}

// Left is the time that the rest should take.
func (r jobRow) Left() template.HTML {
	return r.figure(func(p job.Progress) string {
		if p.ETASeconds == nil {
			return ""
		}
		return human.Seconds(*p.ETASeconds)
	})
}

// Where is the file that borg is at, or its words about what it does.
func (r jobRow) Where() string {
	if r.Progress == nil {
		return r.Reason
	}
	if r.Progress.Path == "" && r.Progress.Phase != string(r.Kind) && r.Progress.Phase != "create" {
		return r.Progress.Phase
	}
	return r.Progress.Path
}

func (r jobRow) figure(of func(job.Progress) string) template.HTML {
	if r.Progress != nil {
		if text := of(*r.Progress); text != "" {
			return template.HTML(text) //nolint:gosec // digits and units
		}
	}
	return quietNone
}

func given(known bool, text string) string {
	if known {
		return text
	}
	return ""
}

// bar is a progress bar; without a known percentage it only says that
// something moves.
type bar struct {
	Label   string
	Known   bool
	Percent float64
}

// Width is the filled part, with one decimal so that slow jobs move too.
func (b bar) Width() string { return fmt.Sprintf("%.1f%%", b.Percent) }

// Whole is the percentage as ARIA and titles tell it.
func (b bar) Whole() int { return int(b.Percent) }

// hostRow is a host as lists show it.
type hostRow struct {
	clock
	fleet.HostView
	Busy    *job.Job         // a backup of it that runs now
	Trouble *fleet.Attention // why its last backup is no good
}

// Presence is what the dot beside the name means.
func (r hostRow) Presence() string {
	switch {
	case r.Problem != nil:
		return "not reached"
	case r.Online:
		return "connected"
	case r.Since.IsZero() && r.Facts == nil:
		return "never seen"
	default:
		return "offline"
	}
}

// stripLength is how many runs the strip shows.
const stripLength = 14

// Strip is the outcome of the last runs, newest right, as class names.
func (r hostRow) Strip() []string {
	runs := r.Runs[max(0, len(r.Runs)-stripLength):]
	strip := make([]string, 0, stripLength)
	for range stripLength - len(runs) {
		strip = append(strip, "n")
	}
	for _, state := range runs {
		switch state {
		case job.Succeeded:
			strip = append(strip, "s")
		case job.Warning:
			strip = append(strip, "w")
		case job.Failed, job.Expired:
			strip = append(strip, "f")
		default:
			strip = append(strip, "c")
		}
	}
	return strip
}

// StripLabel says the strip in words.
func (r hostRow) StripLabel() string {
	if len(r.Runs) == 0 {
		return "no runs yet"
	}
	counts := map[job.State]int{}
	for _, state := range r.Runs {
		counts[state]++
	}
	if counts[job.Succeeded] == len(r.Runs) {
		return fmt.Sprintf("%d of %d runs succeeded", len(r.Runs), len(r.Runs))
	}
	var parts []string
	for _, state := range job.States() {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return strings.Join(parts, ", ")
}

// repositoryRow is a repository as lists show it.
type repositoryRow struct {
	clock
	fleet.RepositoryView
}

// attentionRow is one thing that needs a person, with the one action that helps.
type attentionRow struct {
	clock
	fleet.Attention
}

// Chip is its kind.
func (r attentionRow) Chip() chip {
	switch r.Kind {
	case "failed":
		return chip{"fail", "fail", "failed"}
	case "no_borg":
		return chip{"fail", "fail", "no borg"}
	case "store":
		return chip{"fail", "fail", "store"}
	case "overdue", "missed":
		return chip{"fail", "fail", r.Kind}
	case "frozen":
		return chip{"fail", "stop", "frozen"}
	case "verify":
		return chip{"warn", "warn", "not good"}
	default:
		return chip{"warn", "warn", strings.ReplaceAll(r.Kind, "_", " ")}
	}
}

// What is the message, which begins with whom it is about or has the host's
// name in it.
func (r attentionRow) What() template.HTML {
	if at := strings.Index(r.Message, r.Host); at >= 0 && r.Host != "" && strings.Count(r.Message[:at], "`")%2 == 0 {
		return sentence(r.Message[:at]) + bold(r.Host) + prose(r.Message[at+len(r.Host):])
	}
	who := bold(r.Host)
	if r.Host != "" && r.Repository != "" {
		who += " → "
	}
	who += template.HTML(html.EscapeString(r.Repository)) //nolint:gosec // escaped
	if who == "" || (r.Host == "" && strings.Contains(r.Message, r.Repository)) {
		return sentence(r.Message)
	}
	return who + ": " + prose(r.Message)
}

func bold(text string) template.HTML {
	if text == "" {
		return ""
	}
	return template.HTML("<b>" + html.EscapeString(text) + "</b>") //nolint:gosec // escaped
}

// Target is the page about it. What is frozen is looked at where it can be put
// right, whatever job found it.
func (r attentionRow) Target() string {
	switch {
	case r.Kind == "frozen" && r.Repository != "":
		return repositoryURL(r.Repository)
	case r.Plan != "" && aboutPlans(r.Attention):
		return planURL(r.Plan)
	case r.Job != "":
		return jobURL(r.Job)
	case r.Host != "":
		return hostURL(r.Host)
	case r.Repository != "":
		return repositoryURL(r.Repository)
	}
	return "" // about the coordinator itself
}

// aboutPlans reports whether something is about a plan rather than one job of it.
func aboutPlans(a fleet.Attention) bool {
	switch a.Kind {
	case "overdue", "missed", "suspicious", "check_old", "restore_test_old", "no_hosts":
		return true
	}
	return a.Job == ""
}

// Open is what a button to Target says.
func (r attentionRow) Open() string {
	switch target := r.Target(); {
	case strings.HasPrefix(target, "/jobs/"):
		return "Open job"
	case strings.HasPrefix(target, "/hosts/"):
		return "Open host"
	case strings.HasPrefix(target, "/plans/"):
		return "Open plan"
	}
	return "Open"
}

// CanRetry reports whether running the job again is what helps.
func (r attentionRow) CanRetry() bool { return r.Kind == "failed" && r.Job != "" }

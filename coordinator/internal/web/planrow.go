package web

import (
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

func planURL(name string) string { return "/plans/" + url.PathEscape(name) }
func runURL(id string) string    { return "/runs/" + url.PathEscape(id) }

// freshStates are the states of freshness, the worst first.
func freshStates() []fleet.FreshState {
	return []fleet.FreshState{fleet.Overdue, fleet.Stale, fleet.Suspicious, fleet.PlanPaused, fleet.NeverYet, fleet.Fresh}
}

func freshChip(state fleet.FreshState) chip {
	switch state {
	case fleet.Fresh:
		return chip{"ok", "ok", "fresh"}
	case fleet.Overdue:
		return chip{"fail", "fail", "overdue"}
	case fleet.Stale, fleet.Suspicious:
		return chip{"warn", "warn", string(state)}
	case fleet.PlanPaused:
		return chip{"idle", "wait", "paused"}
	}
	return chip{"idle", "plus", string(state)}
}

func runChip(state fleet.RunState) chip {
	switch state {
	case fleet.RunRunning:
		return chip{"run", "run", "running"}
	case fleet.RunSucceeded:
		return chip{"ok", "ok", "succeeded"}
	case fleet.RunWarning:
		return chip{"warn", "warn", "warning"}
	case fleet.RunFailed:
		return chip{"fail", "fail", "failed"}
	case fleet.RunMissed:
		return chip{"fail", "fail", "missed"}
	}
	return chip{"idle", "stop", string(state)}
}

// planRow is a plan as lists and its own page show it.
type planRow struct {
	clock
	fleet.PlanView
}

// Chip is how its backups stand.
func (r planRow) Chip() chip { return freshChip(r.State) }

// marksShown is how many runs the strip shows.
const marksShown = 30

// Strip is the outcome of the last runs, newest right, as class names.
func (r planRow) Strip() []string {
	runs := r.Runs[max(0, len(r.Runs)-marksShown):]
	strip := slices.Repeat([]string{"n"}, marksShown-len(runs))
	for _, run := range runs {
		class, known := map[fleet.RunState]string{
			fleet.RunSucceeded: "s", fleet.RunWarning: "w", fleet.RunFailed: "f", fleet.RunMissed: "f", fleet.RunRunning: "r",
		}[run.State]
		if !known {
			class = "c"
		}
		strip = append(strip, class)
	}
	return strip
}

// StripLabel says the strip in words.
func (r planRow) StripLabel() string {
	if len(r.Runs) == 0 {
		return "no runs yet"
	}
	counts := map[fleet.RunState]int{}
	for _, run := range r.Runs {
		counts[run.State]++
	}
	var parts []string
	for _, state := range []fleet.RunState{
		fleet.RunSucceeded, fleet.RunWarning, fleet.RunFailed, fleet.RunMissed, fleet.RunSkipped, fleet.RunCancelled, fleet.RunRunning,
	} {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return fmt.Sprintf("last %s: %s", human.Plural(len(r.Runs), "run"), strings.Join(parts, ", "))
}

// Oldest is when the newest good backup was made, where that is longest ago.
func (r planRow) Oldest() template.HTML {
	var oldest time.Time
	for _, f := range r.Freshness {
		if f.LastSuccess == nil {
			return `<span class="muted">never</span>`
		}
		if at := f.LastSuccess.FinishedAt; oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	if oldest.IsZero() {
		return quietNone
	}
	return r.Ago(oldest)
}

// Paused reports whether the plan does not run by itself now.
func (r planRow) Paused() bool {
	return r.Pause != nil && (r.Pause.Until == nil || r.Pause.Until.After(r.now))
}

// Coming is when it is due next.
func (r planRow) Coming() template.HTML {
	switch {
	case len(r.Next) > 0:
		return r.When(r.Next[0])
	case r.Paused():
		return `<span class="muted">paused</span>`
	}
	return `<span class="muted">by hand only</span>`
}

// Remark is why it is not fresh.
func (r planRow) Remark() string {
	for _, f := range r.Freshness {
		if f.State == r.State && f.Message != "" && f.State != fleet.PlanPaused {
			return f.Message
		}
	}
	if len(r.On) == 0 {
		return "no host has the labels that it asks for"
	}
	return ""
}

// Key names a run that somebody may start, so that a second click starts no
// second one. It is another one as soon as there is another run.
func (r planRow) Key() string {
	newest := ""
	if n := len(r.Runs); n > 0 {
		newest = r.Runs[n-1].ID
	}
	return "page-" + rowID(r.Name, newest, r.Open)
}

// freshRow is how a plan stands on one host and repository.
type freshRow struct {
	clock
	fleet.Freshness
}

// Chip is its state.
func (r freshRow) Chip() chip { return freshChip(r.State) }

// RowID is that of the row's element.
func (r freshRow) RowID() string { return rowID("fresh", r.Plan, r.Host, r.Repository) }

// Limit is how old the newest good backup may be.
func (r freshRow) Limit() string { return human.Seconds(r.MaxAge) }

// runRow is a run as lists and its own page show it.
type runRow struct {
	clock
	fleet.Run
}

// Chip is its state.
func (r runRow) Chip() chip { return runChip(r.State) }

// Took is how long it took, or has taken until now.
func (r runRow) Took() template.HTML {
	if r.FinishedAt == nil {
		return r.Span(r.StartedAt)
	}
	return template.HTML(human.Duration(r.Duration(r.now))) //nolint:gosec // digits and units
}

// Why says why it began.
func (r runRow) Why() template.HTML {
	switch r.Trigger {
	case fleet.TriggerSchedule:
		return "by its schedule"
	case fleet.TriggerCatchUp:
		return "to make up for the one of " + r.When(r.Due)
	}
	return "by " + prose(strings.ReplaceAll(r.By, "`", "'"))
}

// Jobs is how many jobs it has.
func (r runRow) Jobs() (count int) {
	for _, task := range r.Tasks {
		if task.Job != "" {
			count++
		}
	}
	return count
}

// Remark is the first reason of a task that did not do well.
func (r runRow) Remark() string {
	for _, task := range r.Tasks {
		if task.Reason != "" && task.State == r.State {
			return task.Host + ": " + task.Reason
		}
	}
	return ""
}

// taskRow is one step of a run.
type taskRow struct {
	clock
	fleet.Task
	Number int
	Order  *job.Job // its job, while that is open; nil: not read
}

// Chip is its state; what has no job yet waits.
func (r taskRow) Chip() chip {
	if r.Order != nil {
		return jobRow{r.clock, *r.Order}.Chip()
	}
	if r.State == fleet.RunRunning && r.Job == "" {
		return chip{"idle", "wait", "waiting"}
	}
	return runChip(r.State)
}

// What it does.
func (r taskRow) What() string {
	if r.Kind == job.Backup {
		if r.Dump != "" {
			return "dump " + r.Dump
		}
		return "backup"
	}
	return string(r.Kind)
}

// RowID is that of the row's element.
func (r taskRow) RowID() string { return "task-" + strconv.Itoa(r.Number) }

// Remark is why there is no job, or what its job waits for.
func (r taskRow) Remark() string {
	if r.Reason == "" && r.Order != nil {
		return r.Order.Reason
	}
	return r.Reason
}

// Later reports whether it must not begin yet.
func (r taskRow) Later() bool {
	return r.State == fleet.RunRunning && r.Job == "" && r.NotBefore.After(r.now)
}

// Ended is when it was over.
func (r taskRow) Ended() template.HTML {
	if r.FinishedAt == nil {
		return quietNone
	}
	return r.At(*r.FinishedAt)
}

package fleet

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Span is a length of time as people write it in a plan: 90s, 15m, 36h, 7d. Empty
// means that nothing was said.
type Span string

var spanDays = regexp.MustCompile(`^([0-9]{1,5})d$`)

// Length returns how long a span is; 0 when it is empty. The error says how to
// write one.
func (s Span) Length() (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	if match := spanDays.FindStringSubmatch(string(s)); match != nil {
		n, err := strconv.Atoi(match[1])
		return time.Duration(n) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(string(s))
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a length of time: write it like 90s, 15m, 36h or 7d", string(s))
	}
	return d, nil
}

// Duration returns how long a span is that is known to be valid; else 0.
func (s Span) Duration() time.Duration {
	d, err := s.Length()
	if err != nil {
		return 0
	}
	return d
}

// Size is a number of bytes as people write it in a plan: 500G, 1GiB, 20MB. Empty
// means that nothing was said.
type Size string

// PlanSpec is what people say of a plan: what to back up from which hosts into
// which repositories, when, and what belongs to it. The same keys are in
// fleet.yaml and in the API. What to back up, and how, are the keys of a
// [job.BackupSpec]; its hooks are the plan's, too.
type PlanSpec struct {
	Description    string            `json:"description,omitempty"`
	Hosts          []string          `json:"hosts,omitempty"`    // by name
	Selector       map[string]string `json:"selector,omitempty"` // or every host that has all these labels
	Repositories   []string          `json:"repositories"`       // by name, at least one
	job.BackupSpec `yaml:",inline"`
	// ArchivePrefix begins the names of the plan's archives, in which {host} and
	// {plan} are filled in; the time follows. Empty: {host}-{plan}-.
	ArchivePrefix string            `json:"archive_prefix,omitempty"`
	Dumps         []Dump            `json:"dumps,omitempty"`           // each becomes an archive of its own
	Order         Order             `json:"order,omitempty"`           // empty: parallel
	StopOnFailure bool              `json:"stop_on_failure,omitempty"` // sequential: hosts after one that failed are left out
	Schedule      *Schedule         `json:"schedule,omitempty"`        // null: only when somebody runs it
	Retention     *Retention        `json:"retention,omitempty"`
	After         []job.Kind        `json:"after,omitempty"` // of prune and compact, after each good backup
	Check         *CheckPolicy      `json:"check,omitempty"`
	RestoreTest   *RestoreTest      `json:"restore_test,omitempty"`
	Retry         *Retry            `json:"retry,omitempty"`
	MaxAge        Span              `json:"max_age,omitempty"` // of the newest good backup; empty: as long as two periods of the schedule and an hour
	Timeout       Span              `json:"timeout,omitempty"` // of an attempt of a backup
	Priority      int               `json:"priority,omitempty"`
	Suspicion     Suspect           `json:"suspicion,omitempty"` // empty: hold
	Labels        map[string]string `json:"labels,omitempty"`    // for rules of notification
}

// Dump is a hook whose output becomes an archive.
type Dump struct {
	Hook string `json:"hook"`           // among the host's own
	Name string `json:"name,omitempty"` // of the file in the archive, and part of the archive's name; empty: the hook's
}

// Order says whether the hosts of a plan wait for each other.
type Order string

// Orders of hosts. Repositories of one host always come one after the other.
const (
	Parallel   Order = "parallel"
	Sequential Order = "sequential"
)

// Schedule says when a plan runs: by a cron expression, or every so often.
type Schedule struct {
	Cron     string `json:"cron,omitempty"`     // five fields, or @daily and the like
	Every    Span   `json:"every,omitempty"`    // or so often, counted from midnight of 1970 UTC
	Timezone string `json:"timezone,omitempty"` // IANA name; empty: UTC
	Jitter   Span   `json:"jitter,omitempty"`   // each host begins later by a part of it that never changes
	CatchUp  Span   `json:"catch_up,omitempty"` // a missed run is made up within this; empty: until the next is due, at most 24h; 0s: never
	Window   string `json:"window,omitempty"`   // hours in which jobs may begin: 22:00-06:00
	// WindowEnds says that jobs must be over when the window closes: an attempt
	// gets no longer than until then.
	WindowEnds bool    `json:"window_ends,omitempty"`
	Overlap    Overlap `json:"overlap,omitempty"` // when the last run of a host is not over; empty: skip
}

// Overlap says what becomes of a host's run that is due while its last one is
// not over.
type Overlap string

// Rules of overlapping runs.
const (
	OverlapSkip    Overlap = "skip"    // it is left out, and that is said
	OverlapQueue   Overlap = "queue"   // it begins after the other; only one waits
	OverlapReplace Overlap = "replace" // the other is cancelled
)

// Retention says which archives of a plan a prune keeps. See [job.PruneSpec].
type Retention struct {
	KeepWithin  string `json:"keep_within,omitempty"`
	KeepLast    int    `json:"keep_last,omitempty"`
	KeepHourly  int    `json:"keep_hourly,omitempty"`
	KeepDaily   int    `json:"keep_daily,omitempty"`
	KeepWeekly  int    `json:"keep_weekly,omitempty"`
	KeepMonthly int    `json:"keep_monthly,omitempty"`
	KeepYearly  int    `json:"keep_yearly,omitempty"`
}

// CheckPolicy says how often the repositories of a plan are checked.
type CheckPolicy struct {
	Every       Span   `json:"every,omitempty"`        // borg check
	VerifyData  Span   `json:"verify_data,omitempty"`  // borg check --verify-data, which reads everything
	MaxDuration Span   `json:"max_duration,omitempty"` // of a check without verify_data: borg goes on there the next time
	Window      string `json:"window,omitempty"`       // hours in which checks may begin; empty: the schedule's
}

// RestoreTest says how often archives of a plan are restored to see that they
// can be.
type RestoreTest struct {
	Every  Span   `json:"every"`
	Files  int    `json:"files,omitempty"`  // sample at most so many; 0: 20
	Size   Size   `json:"size,omitempty"`   // and at most so much; empty: 1GiB
	Canary bool   `json:"canary,omitempty"` // each backup gets a small file whose content is known
	Host   string `json:"host,omitempty"`   // where; empty: the host that made the archive
	Target string `json:"target,omitempty"` // scratch directory there; empty: borgfleet's own
}

// Retry says how often, and how soon, a backup that failed is tried again.
type Retry struct {
	Attempts int  `json:"attempts,omitempty"` // in all; 0: the kind's default
	Wait     Span `json:"wait,omitempty"`     // before the second; it doubles from there
}

// Suspect says what becomes of a backup that looks unlike those before it.
type Suspect string

// What becomes of suspicious backups.
const (
	SuspectHold  Suspect = "hold"  // an alert, and nothing is pruned until somebody accepts it
	SuspectAlert Suspect = "alert" // an alert
	SuspectOff   Suspect = "off"   // nothing
)

// Plan is a plan as it is stored.
type Plan struct {
	Name string `json:"name"`
	PlanSpec
	CreatedAt time.Time `json:"created_at"`
	ChangedAt time.Time `json:"changed_at"`
	Pause     *Pause    `json:"pause"` // null: it is not paused
	Canary    string    `json:"-"`     // see CanaryOf; kept apart
	// ResumedAt is when the last pause ended, and with it the time in which nothing
	// was expected; zero: there was none. It is kept apart.
	ResumedAt time.Time `json:"-"`
}

// Pause keeps a plan from running by itself.
type Pause struct {
	Since  time.Time  `json:"since"`
	Until  *time.Time `json:"until"` // null: until somebody resumes it
	By     string     `json:"by"`
	Reason string     `json:"reason"`
}

// PlanView is a plan with its present state, as edges show it.
type PlanView struct {
	Plan
	On        []string    `json:"on"`        // hosts that it is for now, by name
	State     FreshState  `json:"state"`     // the worst of Freshness
	Freshness []Freshness `json:"freshness"` // by host, repository
	Next      []time.Time `json:"next"`      // when it is due, the next three times; jitter comes on top
	Runs      []RunMark   `json:"runs"`      // the last 30, oldest first
	Open      string      `json:"open"`      // the run that is not over; empty: none
}

// RunMark is a run in short.
type RunMark struct {
	ID      string    `json:"id"`
	State   RunState  `json:"state"`
	Due     time.Time `json:"due"`
	Seconds float64   `json:"seconds"` // how long it took; 0 while it runs
}

// FreshState says how a plan's backups stand.
type FreshState string

// States of freshness, the best first.
const (
	Fresh      FreshState = "fresh"
	NeverYet   FreshState = "new"        // nothing is due yet
	PlanPaused FreshState = "paused"     // and so nothing is expected
	Suspicious FreshState = "suspicious" // the newest looks unlike those before
	Stale      FreshState = "stale"      // a check or a restore test is too old
	Overdue    FreshState = "overdue"    // no good backup for longer than max_age
)

// Freshness is how one plan stands on one host and repository.
type Freshness struct {
	Plan            string         `json:"plan"`
	Host            string         `json:"host"`
	Repository      string         `json:"repository"`
	State           FreshState     `json:"state"`
	LastSuccess     *BackupSummary `json:"last_success"`
	Age             *float64       `json:"age"`      // seconds since; null: never
	MaxAge          float64        `json:"max_age"`  // seconds
	NextRun         *time.Time     `json:"next_run"` // with jitter; null: none
	LastRun         RunState       `json:"last_run"` // how the newest ended; empty: none did
	LastCheck       *time.Time     `json:"last_check"`
	LastVerify      *time.Time     `json:"last_verify"`
	LastRestoreTest *time.Time     `json:"last_restore_test"`
	RestoreTestJob  job.ID         `json:"restore_test_job"` // with the evidence; empty: none
	Suspicion       *Suspicion     `json:"suspicion"`        // of the newest backup; null: none, or accepted
	Message         string         `json:"message"`          // why it is not fresh, for a person
}

// Suspicion says in what a backup is unlike those before it.
type Suspicion struct {
	Job     job.ID    `json:"job"`
	At      time.Time `json:"at"`
	Message string    `json:"message"` // "3 files, usually 14,200 to 14,400"
	Holds   bool      `json:"holds"`   // nothing is pruned meanwhile
}

// RunState is where a run of a plan stands.
type RunState string

// States of runs. All but the first are terminal.
const (
	RunRunning   RunState = "running"
	RunSucceeded RunState = "succeeded"
	RunWarning   RunState = "warning"
	RunFailed    RunState = "failed"
	RunCancelled RunState = "cancelled"
	RunSkipped   RunState = "skipped" // as the one before was not over, or a hook said so
	RunMissed    RunState = "missed"  // nothing was there to run it in time
)

// Trigger says why a run began.
type Trigger string

// Why runs begin.
const (
	TriggerSchedule Trigger = "schedule"
	TriggerCatchUp  Trigger = "catch_up" // it was missed, and is made up
	TriggerManual   Trigger = "manual"
)

// Run is one run of a plan: the jobs on its hosts that belong together.
type Run struct {
	ID         string     `json:"id"` // ULID
	Plan       string     `json:"plan"`
	Trigger    Trigger    `json:"trigger"`
	By         string     `json:"by"`
	Due        time.Time  `json:"due"` // the moment of the schedule; when it was asked for
	StartedAt  time.Time  `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	State      RunState   `json:"state"`
	Tasks      []Task     `json:"tasks"` // in the order in which they were made
}

// Duration returns how long a run has taken, or takes so far.
func (r Run) Duration(now time.Time) time.Duration {
	if r.FinishedAt != nil {
		now = *r.FinishedAt
	}
	return now.Sub(r.StartedAt)
}

// Task is one step of a run: a job, or the reason why there is none.
type Task struct {
	Host       string     `json:"host"`
	Repository string     `json:"repository"`
	Kind       job.Kind   `json:"kind"`
	Dump       string     `json:"dump,omitempty"` // the hook, of a backup that is a dump
	NotBefore  time.Time  `json:"not_before"`
	Job        job.ID     `json:"job"`   // empty: none was submitted
	State      RunState   `json:"state"` // running: not over, submitted or not
	Reason     string     `json:"reason"`
	FinishedAt *time.Time `json:"finished_at"`
}

// RunFilter chooses runs.
type RunFilter struct {
	Plan   string
	State  RunState
	Since  time.Time
	Limit  int
	Cursor string
}

// RunPage is one page of runs, newest first.
type RunPage struct {
	Runs   []Run  `json:"runs"`
	Cursor string `json:"cursor"` // give it back for the next page; empty on the last
}

// RunRequest asks to run a plan now.
type RunRequest struct {
	Hosts          []string `json:"hosts,omitempty"` // of the plan's; empty: all
	IdempotencyKey string   `json:"idempotency_key,omitempty"`
}

// Occurrence is a run that is to come.
type Occurrence struct {
	Plan string    `json:"plan"`
	Host string    `json:"host"`
	At   time.Time `json:"at"`  // with jitter
	Due  time.Time `json:"due"` // without
	// Seconds is how long the last good ones took, the median; 0: not known.
	Seconds float64 `json:"seconds"`
}

// UnknownPlan is the failure of whoever names a plan that is not there.
func UnknownPlan(name string) *job.Failure {
	return job.Fail(job.UnknownPlan, "there is no plan %q", name).WithHint("borgfleet plan list shows all")
}

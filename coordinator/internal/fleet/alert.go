package fleet

import (
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Severity says how soon a person should look.
type Severity string

// Severities, the mildest first.
const (
	SeverityInfo     Severity = "info"
	SeverityWarning  Severity = "warning"
	SeverityCritical Severity = "critical"
)

// Severities returns all severities, the mildest first.
func Severities() []Severity { return []Severity{SeverityInfo, SeverityWarning, SeverityCritical} }

// AtLeast reports whether a severity is another one, or worse.
func (s Severity) AtLeast(other Severity) bool {
	return slices.Index(Severities(), s) >= slices.Index(Severities(), other)
}

// Condition is something that needs a person and holds now. The same condition,
// seen again, has the same Key.
type Condition struct {
	Kind       string            `json:"kind"` // overdue, missed, failed, warning, suspicious, offline, check_old, restore_test_old, key_not_exported, disk_low, agent_outdated, …
	Severity   Severity          `json:"severity"`
	Host       string            `json:"host"`
	Repository string            `json:"repository"`
	Plan       string            `json:"plan"`
	Target     string            `json:"target,omitempty"` // of notifications, where the condition is about one
	Job        job.ID            `json:"job"`
	Message    string            `json:"message"`
	Hint       string            `json:"hint"`
	Since      time.Time         `json:"since"`
	Labels     map[string]string `json:"labels"` // of the host and the plan
}

// Key names a condition among all.
func (c Condition) Key() string {
	return c.Kind + "|" + c.Host + "|" + c.Repository + "|" + c.Plan + "|" + c.Target
}

// Alert is a condition that was seen, as it is stored.
type Alert struct {
	ID string `json:"id"` // ULID
	Condition
	RaisedAt   time.Time  `json:"raised_at"`
	ResolvedAt *time.Time `json:"resolved_at"` // null: it still holds
	Silenced   string     `json:"silenced"`    // the silence that keeps it quiet; empty: none
	Told       []string   `json:"told"`        // targets that have been told of it
	ToldAt     *time.Time `json:"told_at"`     // when, the last time
}

// AlertFilter chooses alerts.
type AlertFilter struct {
	Kind, Host, Repository, Plan string
	Severity                     Severity
	Open                         bool // only those that hold
	Limit                        int
	Cursor                       string
}

// AlertPage is one page of alerts: those that hold first, then newest first.
type AlertPage struct {
	Alerts []Alert `json:"alerts"`
	Open   int     `json:"open"`   // how many hold, whatever was asked for
	Cursor string  `json:"cursor"` // give it back for the next page; empty on the last
}

// Target is where notifications go.
type Target struct {
	Name string `json:"name"`
	// Kind is webhook, healthchecks, or the scheme of a service's URL: smtp, ntfy, …
	Kind      string    `json:"kind"`
	Shown     string    `json:"shown"`    // the address without its secrets
	Disabled  bool      `json:"disabled"` // nothing is sent
	CreatedAt time.Time `json:"created_at"`
	// Trouble is why the newest delivery failed, and since when they fail; empty:
	// it went well.
	Trouble      string     `json:"trouble"`
	TroubleSince *time.Time `json:"trouble_since"`
}

// NewTarget asks for a target, or for another address of one.
type NewTarget struct {
	Name     string       `json:"name"`
	URL      secret.Value `json:"url"`    // ntfy://…, smtp://…, https://… with kind webhook or healthchecks; empty: as before
	Kind     string       `json:"kind"`   // webhook or healthchecks for an http URL; else empty
	Secret   secret.Value `json:"secret"` // webhook: key of the signature; empty: none, or as before
	Disabled bool         `json:"disabled"`
}

// Rule says which alerts go to which targets. An empty field matches everything.
type Rule struct {
	Name       string            `json:"name"`
	Kinds      []string          `json:"kinds,omitempty"`
	Severity   Severity          `json:"severity,omitempty"` // at least
	Hosts      []string          `json:"hosts,omitempty"`    // names or globs
	Plans      []string          `json:"plans,omitempty"`    // names or globs
	Labels     map[string]string `json:"labels,omitempty"`   // of host or plan, all of them
	Hours      string            `json:"hours,omitempty"`    // only then: 08:00-18:00; what is raised outside waits
	Days       []string          `json:"days,omitempty"`     // only then: mon, tue, …
	Timezone   string            `json:"timezone,omitempty"` // of hours and days; empty: UTC
	Targets    []string          `json:"targets"`
	Group      Span              `json:"group,omitempty"`  // wait so long for others that go into one message; empty: 30s
	Repeat     Span              `json:"repeat,omitempty"` // tell again while it holds; empty: 24h; 0s: never
	NoResolved bool              `json:"no_resolved,omitempty"`
	// Runs are outcomes of runs of plans that are told as well, and of Healthchecks
	// targets pinged: start, success, failure.
	Runs     []string `json:"runs,omitempty"`
	Disabled bool     `json:"disabled,omitempty"`
}

// Silence keeps alerts quiet for a time; they are shown all the same.
type Silence struct {
	ID         string    `json:"id"` // ULID
	Kind       string    `json:"kind"`
	Host       string    `json:"host"`
	Repository string    `json:"repository"`
	Plan       string    `json:"plan"`
	Reason     string    `json:"reason"`
	By         string    `json:"by"`
	CreatedAt  time.Time `json:"created_at"`
	Until      time.Time `json:"until"`
}

// Delivery is a message that was sent, or could not be.
type Delivery struct {
	ID      string     `json:"id"` // ULID
	At      time.Time  `json:"at"` // of the first try
	Target  string     `json:"target"`
	Rule    string     `json:"rule"`   // empty: a test
	Alerts  []string   `json:"alerts"` // their ids
	Subject string     `json:"subject"`
	Tries   int        `json:"tries"`
	SentAt  *time.Time `json:"sent_at"` // null: not yet
	Error   string     `json:"error"`   // of the newest try, without secrets; empty: it went well
	GivenUp bool       `json:"given_up"`
}

package fleet

import (
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// personPrefix begins the actor name of a person.
const personPrefix = "operator:"

// Person returns the name under which a user acts. A session, a token that
// login made and credentials for the bus act alike if their names are alike.
func Person(user string) string { return personPrefix + user }

// UserOf returns the user who acts under a name that [Person] made.
func UserOf(actor string) (user string, ok bool) { return strings.CutPrefix(actor, personPrefix) }

// User is a person who may sign in. A user without a password has been invited
// and has not chosen one yet.
type User struct {
	Name        string     `json:"name"`
	Role        bus.Role   `json:"role"`
	CreatedAt   time.Time  `json:"created_at"`
	CreatedBy   string     `json:"created_by"`
	HasPassword bool       `json:"has_password"`
	LastLogin   *time.Time `json:"last_login"` // null: never
}

// APIToken lets a program in. What it is worth is shown once, when it is made.
type APIToken struct {
	ID        string     `json:"id"` // not secret
	Name      string     `json:"name"`
	Role      bus.Role   `json:"role"`
	User      string     `json:"user"` // whose login made it; empty: it stands for itself
	CreatedAt time.Time  `json:"created_at"`
	CreatedBy string     `json:"created_by"`
	ExpiresAt time.Time  `json:"expires_at"`
	LastUsed  *time.Time `json:"last_used"` // to within an hour; null: never
}

// NATSCredentials is the record of credentials for the bus that were given out.
type NATSCredentials struct {
	Name      string     `json:"name"`
	Role      bus.Role   `json:"role"`
	PublicKey string     `json:"public_key"` // of the bus identity ("U…")
	CreatedAt time.Time  `json:"created_at"`
	CreatedBy string     `json:"created_by"`
	RevokedAt *time.Time `json:"revoked_at"` // null: they work
}

// EnrolmentToken is the record of a one-time token for a new agent.
type EnrolmentToken struct {
	ID        string     `json:"id"` // not secret
	Host      string     `json:"host"`
	Replace   bool       `json:"replace"` // may take the place of a host that is known
	CreatedAt time.Time  `json:"created_at"`
	CreatedBy string     `json:"created_by"`
	ExpiresAt time.Time  `json:"expires_at"`
	SpentAt   *time.Time `json:"spent_at"` // null: not yet
}

// AuditEntry says who did what to what, from where, and how it ended. Entries
// form a chain: each one's hash covers the one before.
type AuditEntry struct {
	Number  uint64    `json:"number"` // 1, 2, …; set by the store
	At      time.Time `json:"at"`
	By      string    `json:"by"`      // for example operator:alice
	From    string    `json:"from"`    // for example http 10.0.0.7; empty: the coordinator itself
	Action  string    `json:"action"`  // for example host.add, borg.archive.create
	Object  string    `json:"object"`  // for example host/web1, repository/web1-main
	Outcome string    `json:"outcome"` // done, refused, failed; of borg operations: requested, then the job's final state
	Detail  string    `json:"detail,omitempty"`
	Hash    string    `json:"hash"` // hex SHA-256 over the hash before and all other fields; set by the store
}

// AuditFilter chooses audit entries. Empty fields choose all.
type AuditFilter struct {
	By     string
	Action string // also a prefix that ends with a dot: "borg."
	Object string
	Before uint64 // entries with lower numbers; 0: from the newest
	Limit  int    // 0: 100
}

// AuditPage is one page of the audit, newest first.
type AuditPage struct {
	Entries []AuditEntry `json:"entries"`
	Before  uint64       `json:"before"` // give it back for the next page; 0 on the last
}

// AuditProof is the outcome of checking the chain.
type AuditProof struct {
	Entries  uint64 `json:"entries"`   // how many there are
	Head     string `json:"head"`      // hash of the newest
	Intact   bool   `json:"intact"`    // every entry follows from the one before
	BrokenAt uint64 `json:"broken_at"` // number of the first that does not; 0 when intact
	Message  string `json:"message"`
}

// NewAPIToken is a request for an API token.
type NewAPIToken struct {
	Name     string
	Role     bus.Role
	Lifetime time.Duration
}

// NewEnrolmentToken is a request for a one-time token for an agent.
type NewEnrolmentToken struct {
	Host     string
	Lifetime time.Duration
	Replace  bool // may take the place of a host that has an identity
}

// EnrolmentCommand is what a person needs to enrol a host.
type EnrolmentCommand struct {
	Token   secret.Value // one word; spent once
	URL     string       // of the bus
	Command string       // one line, to be run on the host; holds the token
}

// Enrolment is the identity of a host, as it was made there.
type Enrolment struct {
	Host      string
	PublicKey string // of the bus ("U…")
	SealKey   string // curve key that secrets are sealed to ("X…")
	SSHKey    string // for the depot, in authorized_keys form; may be empty
	Replace   bool   // take the place of the identity that the host has
}

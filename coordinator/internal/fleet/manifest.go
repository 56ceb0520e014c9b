package fleet

import (
	"fmt"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Manifest asks to make hosts, repositories, plans and notifications match a
// file, fleet.yaml.
type Manifest struct {
	Text    string
	Secrets map[string]secret.Value // content of files that the text names, by path
	// HostKeys are public keys that servers may show whose keys the text does not
	// say, by address: user@host:port.
	HostKeys map[string][]string
	DryRun   bool // only say what would be changed
	Prune    bool // remove what the text's sections do not name
}

// ManifestOutcome is what a manifest changes.
type ManifestOutcome struct {
	Changes []ManifestChange `json:"changes"`
	Needs   []string         `json:"needs"`   // files whose content has to come with the manifest
	Unknown []UnknownServer  `json:"unknown"` // servers whose host keys nobody has said yet
	Applied bool             `json:"applied"`
}

// ManifestChange is one thing that a manifest changes.
type ManifestChange struct {
	Action string   `json:"action"` // add, change, remove
	Object string   `json:"object"` // host/web1, repository/main, plan/daily, target/ops, rule/all
	Fields []string `json:"fields"` // of a change: what was, and what is to be
}

// UnknownServer is a host over SSH of whose servers the keys are not known: its
// own, or one on the way.
type UnknownServer struct {
	Host    string   `json:"host"`
	Address string   `json:"address"` // user@host:port
	Jump    []SSHHop `json:"jump"`    // on the way, the first one first; without keys where they are not known
}

// ManifestFault is one thing that is wrong with a manifest.
type ManifestFault struct {
	Line    int    `json:"line"`   // 0: nowhere in the text
	Column  int    `json:"column"` // from 1
	Field   string `json:"field"`  // plans.daily.schedule.cron
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// String returns the fault in one line.
func (f ManifestFault) String() string {
	text := f.Message
	if f.Field != "" {
		text = f.Field + ": " + text
	}
	if f.Line > 0 {
		text = fmt.Sprintf("line %d, column %d: %s", f.Line, f.Column, text)
	}
	if f.Hint != "" {
		text += " (" + f.Hint + ")"
	}
	return text
}

// ManifestError is everything that is wrong with a manifest, by line. Nothing was
// changed.
type ManifestError struct{ Faults []ManifestFault }

// Error implements error.
func (e *ManifestError) Error() string { return e.failure().Error() }

// Unwrap makes it a *job.Failure.
func (e *ManifestError) Unwrap() error { return e.failure() }

func (e *ManifestError) failure() *job.Failure {
	if len(e.Faults) == 1 {
		return job.Fail(job.InvalidRequest, "%s", e.Faults[0])
	}
	return job.Fail(job.InvalidRequest, "%d faults; the first: %s", len(e.Faults), e.Faults[0])
}

// World is hosts and repositories as they are, or are going to be.
type World struct {
	Hosts        []Host
	Repositories []Repository
}

// FleetChange is what is to change of hosts and repositories at once. What is put
// is added, or made to be as it is said.
type FleetChange struct {
	PutHosts           []PutHost
	RemoveHosts        []string
	PutRepositories    []PutRepository
	RemoveRepositories []string
}

// PutHost is a host as it is to be.
type PutHost struct {
	Name   string
	Labels map[string]string
	SSH    *SSHAccess   // null: it has an agent. OwnKey and PublicKey follow from Key
	Reach  Reach        // empty: depot
	Key    secret.Value // its own key, in PEM form; empty: as before, else the one for all
	// KeyComes says that a key will be there when this is not only looked at.
	KeyComes bool
}

// PutRepository is a repository as it is to be.
type PutRepository struct {
	job.Repository              // Encryption: never another one than it has
	Passphrase     secret.Value // empty: as before
	// PassphraseComes says that a passphrase will be there when this is not only
	// looked at.
	PassphraseComes bool
	Depot           *Depot // with the location "depot"; null: its defaults
}

// ObjectError says of which object a fault is.
type ObjectError struct {
	Object string // host/web1
	Cause  *job.Failure
}

// Error implements error.
func (e *ObjectError) Error() string { return e.Object + ": " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *ObjectError) Unwrap() error { return e.Cause }

package fleet

import (
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Reach is a host's way to the coordinator's depot.
type Reach string

// Ways to the depot. Empty means ReachDepot.
const (
	ReachDepot  Reach = "depot"  // it connects to the depot's address
	ReachTunnel Reach = "tunnel" // through the coordinator's own connection to it; mode ssh only
)

// SSHAccess is how the coordinator reaches a host, and what it uses there.
type SSHAccess struct {
	Address  string   `json:"address"`   // user@host:port
	HostKeys []string `json:"host_keys"` // public keys that the host may show, in authorized_keys form
	Jump     []SSHHop `json:"jump"`      // servers on the way, the first one first
	// OwnKey says that the coordinator shows a key of this host alone, and not the
	// one that it has for all.
	OwnKey    bool   `json:"own_key"`
	PublicKey string `json:"public_key"` // of the key that is shown, in authorized_keys form
	Sudo      bool   `json:"sudo"`       // work as root, by sudo -n
	Borg      string `json:"borg"`       // path of borg there; empty: as its PATH finds it
	Dir       string `json:"dir"`        // where job directories and borg's cache lie; empty: .borgfleet in the home directory
	Hooks     string `json:"hooks"`      // directory of the scripts that jobs may name; empty: /etc/borgfleet/hooks.d
	Slots     int    `json:"slots"`      // jobs at a time; 0: one
}

// SSHHop is a server on the way to a host.
type SSHHop struct {
	Address  string   `json:"address"`   // user@host:port
	HostKeys []string `json:"host_keys"` // that it may show
}

// DefaultHooks is where a host keeps the scripts that jobs may name.
const DefaultHooks = "/etc/borgfleet/hooks.d"

// NewSSHHost is a request to add a host that the coordinator connects to, or to
// change how an agent's host is reached.
type NewSSHHost struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	SSHAccess
	Reach Reach `json:"reach"`
	// Key is a private key of the host's own in PEM form; empty: with OwnKey one
	// is made, else the coordinator's is shown.
	Key secret.Value `json:"key"`
}

// HostChange is a request to change a host. Null fields stay as they are.
type HostChange struct {
	SSH      *SSHAccess        `json:"ssh"` // whole; OwnKey and PublicKey are not changed by it
	Key      secret.Value      `json:"key"` // a new private key of its own; empty: unchanged
	Reach    *Reach            `json:"reach"`
	Disabled *bool             `json:"disabled"`
	Labels   map[string]string `json:"labels"` // all of them; nil: unchanged
}

// ShownKey is a key with which an SSH server proves itself.
type ShownKey struct {
	Address     string `json:"address"`     // of the server: user@host:port
	Key         string `json:"key"`         // in authorized_keys form
	Fingerprint string `json:"fingerprint"` // "SHA256:…"
}

// Depot is what is agreed for a repository in the depot.
type Depot struct {
	Quota      int64    `json:"quota"`       // bytes; 0: none
	AppendOnly bool     `json:"append_only"` // hosts may add, and never delete
	Hosts      []string `json:"hosts"`       // who may use it; "*" is everybody
	Frozen     *Frozen  `json:"frozen"`      // null: all is as it should be
}

// Admits reports whether a host may use the repository.
func (d Depot) Admits(host string) bool {
	return slices.Contains(d.Hosts, "*") || slices.Contains(d.Hosts, host)
}

// Frozen says why nothing is deleted from a repository any more.
type Frozen struct {
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`  // in a sentence
	Missing []string  `json:"missing"` // archives that were recorded and are not there as they were, at most 100
	Unknown []string  `json:"unknown"` // archives that no job of ours has made, at most 100
}

// DepotGrant is what a host may do with one repository in the depot.
type DepotGrant struct {
	Host       string
	Repository string
	AppendOnly bool
	Quota      int64 // bytes; 0: none
}

// DepotUse is what went to and from one repository in the depot since the start.
type DepotUse struct {
	Repository  string `json:"repository"`
	Open        int    `json:"open"`        // connections now
	Connections uint64 `json:"connections"` // in all
	Refused     uint64 `json:"refused"`     // in all
	Received    uint64 `json:"received"`    // bytes from hosts
	Sent        uint64 `json:"sent"`        // bytes to hosts
}

// Transaction is one change of a repository, as borg notes it.
type Transaction struct {
	Number int       `json:"number"`
	At     time.Time `json:"at"`
}

// DepotView is the coordinator's depot as edges show it.
type DepotView struct {
	Address     string     `json:"address"`     // as hosts reach it: name:port
	HostKey     string     `json:"host_key"`    // in authorized_keys form
	Fingerprint string     `json:"fingerprint"` // of the host key: "SHA256:…"
	Uses        []DepotUse `json:"uses"`        // by repository
}

// OnDepot reports whether jobs of a kind that concern a repository in the depot
// run on the coordinator itself, whoever they are submitted for: what needs none
// of a host's files, and much of what a host must not be able to do.
func OnDepot(kind job.Kind) bool {
	switch kind {
	case job.Init, job.List, job.Info, job.Delete, job.Prune, job.Compact, job.Check, job.BreakLock, job.KeyExport:
		return true
	default:
		return false
	}
}

package manifest

import (
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Document is what a text says. A section that is nil is not in the text: nothing
// of its kind is changed.
type Document struct {
	Hosts        map[string]Host           `json:"hosts,omitempty"`
	Repositories map[string]Repository     `json:"repositories,omitempty"`
	Plans        map[string]fleet.PlanSpec `json:"plans,omitempty"`
	Notify       *Notify                   `json:"notify,omitempty"`
}

// Host is a machine with data.
type Host struct {
	Labels map[string]string `json:"labels,omitempty" doc:"for selectors of plans, and rules of notification"`
	SSH    *SSH              `json:"ssh,omitempty" doc:"how the coordinator connects to a host without an agent; left out: an agent enrols under this name"`
	Reach  fleet.Reach       `json:"reach,omitempty" enum:"depot,tunnel" doc:"its way to the depot: depot, it connects there; tunnel, through the coordinator's connection to it"`
}

// SSH is how a host without an agent is reached.
type SSH struct {
	Address      string   `json:"address" doc:"user@host:port; without a port, 22"`
	HostKeys     []string `json:"host_keys,omitempty" doc:"public keys that the host may show; left out: those that are known, else borgfleet apply shows them and asks"`
	IdentityFile string   `json:"identity_file,omitempty" doc:"file with a private key of this host alone, where borgfleet apply runs; left out: the coordinator's key for all hosts"`
	OwnKey       bool     `json:"own_key,omitempty" doc:"the coordinator makes a key of this host alone"`
	Jump         []Hop    `json:"jump,omitempty" doc:"servers on the way, the first one first"`
	Sudo         bool     `json:"sudo,omitempty" doc:"work as root, by sudo -n"`
	Borg         string   `json:"borg,omitempty" doc:"path of borg there; left out: as its PATH finds it"`
	Dir          string   `json:"dir,omitempty" doc:"where job directories and borg's cache lie; left out: .borgfleet in the home directory"`
	Hooks        string   `json:"hooks,omitempty" doc:"directory of the scripts that plans may name; left out: /etc/borgfleet/hooks.d"`
	Slots        int      `json:"slots,omitempty" doc:"jobs at a time; left out: one"`
}

// Hop is a server on the way to a host.
type Hop struct {
	Address  string   `json:"address" doc:"user@host:port; without a port, 22"`
	HostKeys []string `json:"host_keys,omitempty" doc:"public keys that it may show; left out: as for the host"`
}

// Repository is a borg repository.
type Repository struct {
	Location       string         `json:"location" doc:"ssh://user@host:port/path, an absolute path on the host that runs the job, or depot for one that the coordinator keeps"`
	Encryption     job.Encryption `json:"encryption,omitempty" enum:"repokey-blake2,repokey,keyfile-blake2,keyfile,authenticated-blake2,authenticated,none" doc:"left out: repokey-blake2, or what it is"`
	PassphraseFile string         `json:"passphrase_file,omitempty" doc:"file with its passphrase, where borgfleet apply runs"`
	Custody        fleet.Custody  `json:"custody,omitempty" enum:"coordinator,hosts" doc:"who can read the passphrase; hosts only of one that was added so by borgfleet repo add"`
	Quota          fleet.Size     `json:"quota,omitempty" doc:"of a repository in the depot: 500G"`
	AppendOnly     bool           `json:"append_only,omitempty" doc:"of a repository in the depot: hosts may add, and never delete"`
	Hosts          []string       `json:"hosts,omitempty" doc:"of a repository in the depot: who may use it, * for all; left out: those of the plans that name it, besides those that may already"`
}

// Notify is where alerts go.
type Notify struct {
	Targets map[string]Target     `json:"targets,omitempty"`
	Rules   map[string]fleet.Rule `json:"rules,omitempty"`
}

// Target is where notifications go.
type Target struct {
	Kind       string       `json:"kind,omitempty" doc:"webhook or healthchecks for an http address; left out: the scheme of the address says it"`
	URL        secret.Value `json:"url,omitempty" doc:"the address, if it holds no secret; else url_file"`
	URLFile    string       `json:"url_file,omitempty" doc:"file with the address, where borgfleet apply runs"`
	SecretFile string       `json:"secret_file,omitempty" doc:"file with the key of a webhook's signature, where borgfleet apply runs"`
	Disabled   bool         `json:"disabled,omitempty" doc:"nothing is sent"`
}

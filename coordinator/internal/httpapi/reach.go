package httpapi

import (
	"context"
	"maps"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// NewSSHHop is a server on the way to a host.
type NewSSHHop struct {
	Address  string   `json:"address" minLength:"1" maxLength:"400" doc:"user@host:port; without a port, 22"`
	HostKeys []string `json:"host_keys" minItems:"1" maxItems:"16" doc:"public keys that it may show, in authorized_keys form"`
}

// NewSSHAccess is how a host is to be reached over SSH.
type NewSSHAccess struct {
	NewSSHHop
	Jump  []NewSSHHop `json:"jump,omitempty" maxItems:"8" doc:"servers on the way, the first one first"`
	Sudo  bool        `json:"sudo,omitempty" doc:"work as root, by sudo -n"`
	Borg  string      `json:"borg,omitempty" maxLength:"4096" doc:"path of borg there; left out: as its PATH finds it"`
	Dir   string      `json:"dir,omitempty" maxLength:"4096" doc:"where job directories and borg's cache lie; left out: .borgfleet in the home directory"`
	Hooks string      `json:"hooks,omitempty" maxLength:"4096" doc:"directory of the scripts that jobs may name; left out: /etc/borgfleet/hooks.d"`
	Slots int         `json:"slots,omitempty" minimum:"0" maximum:"64" doc:"jobs at a time; left out: one"`
}

// NewSSHHost is how a new host is to be reached over SSH, and with which key.
type NewSSHHost struct {
	NewSSHAccess
	Reach  fleet.Reach `json:"reach,omitempty" enum:"depot,tunnel" doc:"its way to the depot: it connects to the depot's address, or goes through the coordinator's connection to it; left out: depot"`
	OwnKey bool        `json:"own_key,omitempty" doc:"show a key of this host alone; without key, one is made"`
	Key    *string     `json:"key,omitempty" maxLength:"4096" writeOnly:"true" doc:"a private key of this host alone, in PEM form; kept encrypted, and never shown again"`
}

// NewSSHScan asks for the keys of a server.
type NewSSHScan struct {
	Address string      `json:"address" minLength:"1" maxLength:"400" doc:"user@host:port; without a port, 22"`
	Jump    []NewSSHHop `json:"jump,omitempty" maxItems:"8" doc:"servers on the way, the first one first"`
}

// ChangeHost is what can be changed of a host. What is left out stays.
type ChangeHost struct {
	SSH      *NewSSHAccess      `json:"ssh,omitempty" doc:"how it is reached over SSH, as a whole"`
	Key      *string            `json:"key,omitempty" minLength:"1" maxLength:"4096" writeOnly:"true" doc:"another private key of this host alone, in PEM form"`
	Reach    *fleet.Reach       `json:"reach,omitempty" enum:"depot,tunnel" doc:"its way to the depot"`
	Disabled *bool              `json:"disabled,omitempty" doc:"whether nothing is backed up from it; it is switched on only when borg is there"`
	Labels   *map[string]string `json:"labels,omitempty" maxProperties:"64" doc:"free text by key, for people, filters and plans: all of them"`
}

type scanInput struct{ Body NewSSHScan }

type changeHostInput struct {
	Host string `path:"host" pattern:"^[a-z0-9-]{1,63}$" patternDescription:"a host name: 1 to 63 of a-z, 0-9 and -" example:"web1" doc:"the host's name"`
	Body ChangeHost
}

type scanOutput struct{ Body ShownKeys }

// ShownKeys is what a server proves itself with.
type ShownKeys struct {
	Keys []fleet.ShownKey `json:"keys"`
}

type sharedKeyOutput struct{ Body SharedSSHKey }

// SharedSSHKey is the key that hosts over SSH are shown.
type SharedSSHKey struct {
	PublicKey string `json:"public_key"`
}

type conversionOutput struct{ Body Conversion }

// Conversion is what was done to give a host an agent.
type Conversion struct {
	Steps   []fleet.ConvertStep `json:"steps"`
	Failure *job.Failure        `json:"failure"`
}

func hops(asked []NewSSHHop) []fleet.SSHHop {
	list := make([]fleet.SSHHop, len(asked))
	for i, hop := range asked {
		list[i] = fleet.SSHHop{Address: hop.Address, HostKeys: hop.HostKeys}
	}
	return list
}

func (n NewSSHAccess) access() fleet.SSHAccess {
	return fleet.SSHAccess{
		Address: n.Address, HostKeys: n.HostKeys, Jump: hops(n.Jump),
		Sudo: n.Sudo, Borg: n.Borg, Dir: n.Dir, Hooks: n.Hooks, Slots: n.Slots,
	}
}

func secretOf(text *string) secret.Value {
	if text == nil {
		return secret.Value{}
	}
	return secret.FromString(*text)
}

func unreachable() job.Failure {
	return job.Failure{Code: job.HostUnreachable, Message: "host legacy is not reached: connect to legacy.example.net:22: connection refused", Hint: "is sshd running there?"}
}

func (a *API) registerReach() {
	scan := operation{
		id: "scan-ssh", method: http.MethodPost, path: "/ssh/scan", tag: tagHosts, status: http.StatusOK,
		summary: "Ask an SSH server for its keys", needs: bus.Operator,
		description: "Connects from the coordinator, over servers on the way whose keys are given, and logs in nowhere at the end. Compare the fingerprint with what the machine itself says before you give the key to POST /hosts: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
		request:     NewSSHScan{Address: "root@legacy.example.net"},
		answer:      ShownKeys{Keys: []fleet.ShownKey{{Address: "root@legacy.example.net:22", Key: exampleHostKey, Fingerprint: exampleFingerprint}}},
		failures:    []job.Failure{unreachable()},
	}
	huma.Register(a.huma, scan.huma(a), a.scanSSH)
	key := operation{
		id: "get-ssh-key", method: http.MethodGet, path: "/ssh/key", tag: tagHosts, status: http.StatusOK,
		summary: "Show the public key for hosts over SSH", needs: bus.Admin,
		description: "Put it into ~/.ssh/authorized_keys of the user whom the coordinator logs in as, on each host without a key of its own. The pair is made at the first call.",
		answer:      SharedSSHKey{PublicKey: exampleUserKey},
	}
	huma.Register(a.huma, key.huma(a), a.getSSHKey)
	change := operation{
		id: "change-host", method: http.MethodPatch, path: "/hosts/{host}", tag: tagHosts, status: http.StatusOK,
		summary: "Change how a host is reached, or whether it is backed up", needs: bus.Admin,
		description: "ssh is given as a whole. A host that is to be switched on is looked at first.",
		request:     ChangeHost{SSH: &NewSSHAccess{NewSSHHop: NewSSHHop{Address: "root@legacy.example.net:2222", HostKeys: []string{exampleHostKey}}}},
		answer:      exampleHost(), failures: []job.Failure{unknownHost(), unreachable(), missingBorg()},
	}
	huma.Register(a.huma, change.huma(a), a.changeHost)
	convert := operation{
		id: "convert-host", method: http.MethodPost, path: "/hosts/{host}/convert", tag: tagHosts, status: http.StatusOK,
		summary: "Give a host over SSH an agent", needs: bus.Admin,
		description: "Copies the agent there, enrols it, and waits until it has said hello; its history stays. It takes up to five minutes. If failure is not null, the host is reached over SSH as before, and steps has what was done.",
		answer:      Conversion{Steps: []fleet.ConvertStep{{Name: "copy", Detail: "the agent is at /usr/local/bin/borgfleet-agent"}}},
		failures:    []job.Failure{unknownHost(), {Code: job.Conflict, Message: "host legacy has jobs that are not over", Hint: "cancel them, or wait until they are over"}},
	}
	huma.Register(a.huma, convert.huma(a), a.convertHost)
}

func missingBorg() job.Failure {
	return job.Failure{Code: job.BorgMissing, Message: "host legacy cannot be backed up: borg is not installed", Hint: "apt install borgbackup; then: borgfleet host enable legacy"}
}

func (a *API) scanSSH(ctx context.Context, in *scanInput) (*scanOutput, error) {
	keys, err := a.options.Connections.ScanSSH(ctx, fleet.ActorOf(ctx), in.Body.Address, hops(in.Body.Jump))
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &scanOutput{Body: ShownKeys{Keys: list(keys)}}, nil
}

func (a *API) getSSHKey(ctx context.Context, _ *struct{}) (*sharedKeyOutput, error) {
	key, err := a.options.Hosts.SharedSSHKey(ctx)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &sharedKeyOutput{Body: SharedSSHKey{PublicKey: key}}, nil
}

// addSSHHost adds a host that the coordinator connects to.
func (a *API) addSSHHost(ctx context.Context, asked NewHost) (fleet.HostView, error) {
	access := asked.SSH.access()
	access.OwnKey = asked.SSH.OwnKey
	return a.options.Hosts.AddSSHHost(ctx, fleet.ActorOf(ctx), fleet.NewSSHHost{
		Name: asked.Name, Labels: asked.Labels, SSHAccess: access, Reach: asked.SSH.Reach, Key: secretOf(asked.SSH.Key),
	})
}

func (a *API) changeHost(ctx context.Context, in *changeHostInput) (*hostOutput, error) {
	by := fleet.ActorOf(ctx)
	change := fleet.HostChange{Key: secretOf(in.Body.Key), Reach: in.Body.Reach, Disabled: in.Body.Disabled}
	if in.Body.Labels != nil {
		change.Labels = map[string]string{}
		maps.Copy(change.Labels, *in.Body.Labels)
	}
	if in.Body.SSH != nil {
		access := in.Body.SSH.access()
		change.SSH = &access
	}
	if in.Body.Disabled != nil && !*in.Body.Disabled && change.SSH == nil && change.Key.Empty() {
		if err := a.options.Connections.TryHost(ctx, by, in.Host); err != nil { // what is known of its borg may be old
			return nil, a.problem(ctx, err)
		}
	}
	host, err := a.options.Hosts.ChangeHost(ctx, by, in.Host, change)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return &hostOutput{Body: completeHost(host)}, nil
}

func (a *API) convertHost(ctx context.Context, in *hostInput) (*conversionOutput, error) {
	steps, err := a.options.Connections.ConvertHost(ctx, fleet.ActorOf(ctx), in.Host)
	if err != nil && len(steps) == 0 {
		return nil, a.problem(ctx, err)
	}
	answer := Conversion{Steps: list(steps)}
	if err != nil {
		answer.Failure = job.AsFailure(err)
	}
	return &conversionOutput{Body: answer}, nil
}

package registry

import (
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"golang.org/x/crypto/ssh"
)

// Bounds of an access over SSH.
const (
	maxHostKeys  = 16
	maxJumps     = 8
	maxSlots     = 64
	maxPathBytes = 4096
)

// checkNewName refuses names that a host cannot have.
func checkNewName(field, name string) error {
	if err := job.CheckHostName(field, name); err != nil {
		return err
	}
	if name == fleet.LocalHost {
		return job.Invalid(field, "%q is the coordinator's own machine", name).WithHint("choose another name")
	}
	return nil
}

// checkReach refuses ways to the depot that there are not.
func checkReach(mode fleet.Mode, reach fleet.Reach) error {
	switch {
	case reach == "" || reach == fleet.ReachDepot:
		return nil
	case reach != fleet.ReachTunnel:
		return job.Invalid("reach", "%q is no way to the depot", reach).WithHint("%q or %q", fleet.ReachDepot, fleet.ReachTunnel)
	case mode != fleet.ModeSSH:
		return job.Invalid("reach", "there is no tunnel to a host that the coordinator does not connect to").
			WithHint("an agent reaches the depot at its address: leave it %q", fleet.ReachDepot)
	}
	return nil
}

// checkAccess returns how a host is reached, in its usual form.
func checkAccess(asked fleet.SSHAccess) (fleet.SSHAccess, error) {
	hop, err := checkHop("address", "host_keys", fleet.SSHHop{Address: asked.Address, HostKeys: asked.HostKeys})
	if err != nil {
		return asked, err
	}
	access := fleet.SSHAccess{
		Address: hop.Address, HostKeys: hop.HostKeys, Jump: make([]fleet.SSHHop, len(asked.Jump)),
		Sudo: asked.Sudo, Borg: asked.Borg, Dir: asked.Dir, Hooks: asked.Hooks, Slots: asked.Slots,
	}
	if len(asked.Jump) > maxJumps {
		return asked, job.Invalid("jump", "%d servers on the way, more than %d", len(asked.Jump), maxJumps)
	}
	for i, jump := range asked.Jump {
		if access.Jump[i], err = checkHop("jump.address", "jump.host_keys", jump); err != nil {
			return asked, err
		}
	}
	for field, text := range map[string]string{"borg": asked.Borg, "dir": asked.Dir, "hooks": asked.Hooks} {
		if text != "" && (!path.IsAbs(text) || len(text) > maxPathBytes || strings.ContainsFunc(text, unicode.IsControl)) {
			return asked, job.Invalid(field, "%.100q is not an absolute path of at most %d bytes without control characters", text, maxPathBytes).WithHint("give it as it is on the host, or leave it out")
		}
	}
	if asked.Slots < 0 || asked.Slots > maxSlots {
		return asked, job.Invalid("slots", "%d is not between 1 and %d", asked.Slots, maxSlots).WithHint("0 means one")
	}
	return access, nil
}

// checkHop returns a server in its usual form: the address with its port, and
// the keys without comments.
func checkHop(address, keys string, hop fleet.SSHHop) (fleet.SSHHop, error) {
	parsed, err := fleet.ParseSSHAddress(address, hop.Address)
	if err != nil {
		return hop, err
	}
	if len(hop.HostKeys) == 0 {
		return hop, job.Invalid(keys, "it is not said by which key %s proves itself", parsed).
			WithHint("POST /ssh/scan shows the key; compare its fingerprint with what ssh-keygen -lf says on that machine")
	}
	if len(hop.HostKeys) > maxHostKeys {
		return hop, job.Invalid(keys, "%d, more than %d", len(hop.HostKeys), maxHostKeys)
	}
	checked := fleet.SSHHop{Address: parsed.String()}
	for _, text := range hop.HostKeys {
		key, err := readPublicKey(keys, text)
		if err != nil {
			return hop, err
		}
		if !slices.Contains(checked.HostKeys, key) {
			checked.HostKeys = append(checked.HostKeys, key)
		}
	}
	return checked, nil
}

// readPublicKey returns a public key in authorized_keys form, without comment
// and options.
func readPublicKey(field, text string) (string, error) {
	if len(text) > maxSSHKeyBytes {
		return "", job.Invalid(field, "longer than %d bytes", maxSSHKeyBytes)
	}
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || len(strings.TrimSpace(string(rest))) > 0 {
		return "", job.Invalid(field, "%q is not a public key", text).
			WithHint("one line as in /etc/ssh/ssh_host_ed25519_key.pub, such as ssh-ed25519 AAAA…")
	}
	return authorizedKey(key), nil
}

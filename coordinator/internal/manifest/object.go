package manifest

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Fields of notes.
const (
	identityFile   = "identity_file"
	passphraseFile = "passphrase_file"
	urlFile        = "url_file"
	secretFile     = "secret_file"
)

// hostOf returns what a text says of a host as it is.
func hostOf(host fleet.Host, note store.ManifestNote) Host {
	h := Host{Labels: host.Labels, Reach: host.Reach}
	if h.Reach == fleet.ReachDepot {
		h.Reach = ""
	}
	if len(h.Labels) == 0 {
		h.Labels = nil
	}
	access := host.SSH
	if host.Mode != fleet.ModeSSH || access == nil {
		return h
	}
	h.SSH = &SSH{
		Address: access.Address, HostKeys: access.HostKeys, OwnKey: access.OwnKey, Sudo: access.Sudo,
		Borg: access.Borg, Dir: access.Dir, Hooks: access.Hooks, Slots: access.Slots,
	}
	if file := note.Files[identityFile]; file != "" && access.OwnKey && note.Of == access.PublicKey {
		h.SSH.IdentityFile, h.SSH.OwnKey = file, false
	}
	for _, hop := range access.Jump {
		h.SSH.Jump = append(h.SSH.Jump, Hop(hop))
	}
	return h
}

// repositoryOf returns what a text says of a repository as it is.
func repositoryOf(repository fleet.Repository, note store.ManifestNote) Repository {
	r := Repository{Location: repository.Location, Encryption: repository.Encryption, PassphraseFile: note.Files[passphraseFile]}
	if repository.Custody == fleet.CustodyHosts {
		r.Custody = repository.Custody
	}
	if depot := repository.Depot; depot != nil {
		r.Quota, r.AppendOnly = fleet.SizeOf(depot.Quota), depot.AppendOnly
		r.Hosts = sorted(depot.Hosts)
	}
	return r
}

// targetOf returns what a text says of a target as it is.
func targetOf(target fleet.Target, note store.ManifestNote) Target {
	t := unsaid(Target{Kind: target.Kind, Disabled: target.Disabled})
	if note.Of == stamp(target) {
		t.URLFile, t.SecretFile = note.Files[urlFile], note.Files[secretFile]
	}
	return t
}

// stamp tells a target from another one of its name.
func stamp(target fleet.Target) string { return target.CreatedAt.UTC().String() }

// access returns how a host is to be reached.
func (s SSH) access() *fleet.SSHAccess {
	access := fleet.SSHAccess{
		Address: s.Address, HostKeys: s.HostKeys, Jump: []fleet.SSHHop{}, OwnKey: s.OwnKey || s.IdentityFile != "",
		Sudo: s.Sudo, Borg: s.Borg, Dir: s.Dir, Hooks: s.Hooks, Slots: s.Slots,
	}
	for _, hop := range s.Jump {
		access.Jump = append(access.Jump, fleet.SSHHop(hop))
	}
	return &access
}

// plainKeys writes public keys as they are stored, without comments. What is none
// is left for others to refuse.
func plainKeys(keys []string) []string {
	var plain []string
	for _, text := range keys {
		if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text)); err == nil {
			text = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
		}
		if !slices.Contains(plain, text) {
			plain = append(plain, text)
		}
	}
	return plain
}

// publicKey returns the public part of a private key, in authorized_keys form;
// empty if it is none.
func publicKey(key secret.Value) string {
	signer, err := ssh.ParsePrivateKey(key.Reveal())
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// sorted returns a set in order; nil if it is empty.
func sorted(set []string) []string {
	if len(set) == 0 {
		return nil
	}
	return slices.Compact(slices.Sorted(slices.Values(set)))
}

func keysOf[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

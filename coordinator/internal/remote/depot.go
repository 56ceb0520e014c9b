package remote

import (
	"context"
	"strings"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Files of ours on the host.
const (
	keyFile   = "/id_ed25519"  // the host's own key, made there; it never leaves
	knownFile = "/known_hosts" // the depot's
)

// EnsureKey returns the public part of the host's own key, in authorized_keys
// form without a comment. The key is made on the host when there is none.
func (h *Host) EnsureKey(ctx context.Context) (string, *job.Failure) {
	said, err := h.ask(ctx, h.script("", values{"ask": "key"}, host), nil)
	if err != nil {
		return "", h.failed(err)
	}
	return h.public(said)
}

// public reads what a script said of the host's key.
func (h *Host) public(said answers) (string, *job.Failure) {
	switch why := said.get("failed"); why {
	case "":
	case "keygen":
		return "", job.Fail(job.KeyMissing, "%s has no ssh-keygen to make a key with", h.options.Host).
			WithHint("install OpenSSH's client there (Debian: apt install openssh-client)")
	default:
		_, failure := h.unwritable(said.get("dir"), why)
		return "", failure
	}
	words := strings.Fields(said.get("public"))
	if len(words) < 2 || words[0] != "ssh-ed25519" {
		return "", job.Fail(job.KeyMissing, "%s on %s is not a key that can be used: %s", said.get("dir")+keyFile, h.options.Host, firstLine(said.get("public"))).
			WithHint("remove that file; another key is made, which is then the host's")
	}
	return words[0] + " " + words[1], nil
}

// identities prints the private keys that ssh would show by itself.
const identities = `for name in id_rsa id_ecdsa id_ecdsa_sk id_ed25519 id_ed25519_sk; do
	if [ -f "$HOME/.ssh/$name" ]; then put identity "$HOME/.ssh/$name"; fi
done`

// Identities returns the private keys that ssh on the host shows by itself, and
// the one that is ours to make there, which may not be there yet.
func (h *Host) Identities(ctx context.Context) ([]string, *job.Failure) {
	said, err := h.ask(ctx, h.script("", nil, `put own "$dir`+keyFile+`"
`+identities), nil)
	if err != nil {
		return nil, h.failed(err)
	}
	var files []string
	for _, answer := range said[:min(len(said), 16)] { // there are no more
		if answer.name == "identity" && strings.HasPrefix(answer.value, "/") && len(answer.value) <= maxPath {
			files = append(files, answer.value)
		}
	}
	if own := said.get("own"); len(own) <= maxPath {
		files = append(files, own)
	}
	return files, nil
}

// RSH returns how borg on the host reaches the depot at an address that is good
// there: BORG_RSH. The host's key is made, and the depot's written down, when
// that has not been done over this connection.
func (h *Host) RSH(ctx context.Context, d bus.Depot) (string, *job.Failure) {
	way := d.Address + "\n" + d.HostKey
	h.mu.Lock()
	known := h.ways[way]
	h.mu.Unlock()
	if known != "" {
		return known, nil
	}
	said, err := h.ask(ctx, h.script("", values{"ask": "way", "known": borg.DepotKnownHost(d.HostKey)}, host), nil)
	if err != nil {
		return "", h.failed(err)
	}
	if said.get("ssh") == "" {
		return "", job.Fail(job.ConnectionLost, "%s has no ssh to reach the depot with", h.options.Host).
			WithHint("install OpenSSH's client there (Debian: apt install openssh-client)")
	}
	if _, failure := h.public(said); failure != nil {
		return "", failure
	}
	rsh := borg.DepotRSH(borg.DepotAccess{
		Identity: said.get("dir") + keyFile, KnownHosts: said.get("dir") + knownFile, Address: d.Address,
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.ways) // there is one file
	h.ways[way] = rsh
	return rsh, nil
}

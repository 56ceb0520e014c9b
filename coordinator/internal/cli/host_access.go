package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// accessFlags say how a host is reached over SSH. What is nil was not given.
type accessFlags struct {
	HostKey      []string     `help:"The key by which the host, or a server on the way, proves itself: its fingerprint SHA256:…, or a file with the public key; may be repeated. Default: the key is shown, and you are asked." placeholder:"KEY" sep:"none"`
	Jump         []string     `help:"A server on the way, the first one first; may be repeated." placeholder:"USER@HOST[:PORT]" sep:"none"`
	IdentityFile string       `help:"Log in with this private key, which the coordinator keeps encrypted; - is standard input. Default: the coordinator's own key." placeholder:"FILE"`
	Sudo         *bool        `help:"Work as root there, by sudo without a password." negatable:""`
	Borg         *string      `help:"Path of borg there. Default: as its PATH finds it." placeholder:"PATH"`
	Dir          *string      `help:"Directory there for what the coordinator starts, and for borg's cache. Default: .borgfleet in the home directory." placeholder:"DIR"`
	Hooks        *string      `help:"Directory there of the scripts that jobs may name. Default: /etc/borgfleet/hooks.d." placeholder:"DIR"`
	Slots        *int         `help:"How many jobs it runs at a time. Default: one." placeholder:"COUNT"`
	Reach        *fleet.Reach `help:"Its way to the coordinator's depot: depot, it connects there; tunnel, through the coordinator's connection to it. Default: depot." placeholder:"WAY"`
}

// given reports whether any of the flags was given.
func (f accessFlags) given() bool {
	return len(f.HostKey) > 0 || len(f.Jump) > 0 || f.IdentityFile != "" || f.Reach != nil || f.works()
}

// works reports whether it was said how to work on the host.
func (f accessFlags) works() bool {
	return f.Sudo != nil || f.Borg != nil || f.Dir != nil || f.Hooks != nil || f.Slots != nil
}

// set puts into an access what was said of how to work on the host.
func (f accessFlags) set(access *fleet.SSHAccess) {
	put(&access.Sudo, f.Sudo)
	put(&access.Borg, f.Borg)
	put(&access.Dir, f.Dir)
	put(&access.Hooks, f.Hooks)
	put(&access.Slots, f.Slots)
}

func put[T any](into, given *T) {
	if given != nil {
		*into = *given
	}
}

// key reads the private key that was named.
func (f accessFlags) key(s *session) (secret.Value, error) {
	switch f.IdentityFile {
	case "":
		return secret.Value{}, nil
	case "-":
		key, err := secret.Read(s.In)
		if err != nil {
			return key, fmt.Errorf("read private key from standard input: %w", err)
		}
		return key, nil
	default:
		return secret.ReadFile(f.IdentityFile)
	}
}

// pinner finds out by which keys servers prove themselves, and makes sure of
// them.
type pinner struct {
	s     *session
	api   *client.Client
	given []string        // fingerprints
	keys  []ssh.PublicKey // those that were given in full
	yes   bool            // take what is shown
}

func (f accessFlags) pinner(s *session, api *client.Client, yes bool) (*pinner, error) {
	p := &pinner{s: s, api: api, yes: yes}
	for _, text := range f.HostKey {
		if strings.HasPrefix(text, "SHA256:") {
			p.given = append(p.given, text)
			continue
		}
		keys, err := readHostKeys(text)
		if err != nil {
			return nil, err
		}
		p.keys = append(p.keys, keys...)
		for _, key := range keys {
			p.given = append(p.given, ssh.FingerprintSHA256(key))
		}
	}
	return p, nil
}

// readHostKeys reads the public keys in a file, as they are in
// ssh_host_ed25519_key.pub or in known_hosts.
func readHostKeys(file string) ([]ssh.PublicKey, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, job.Invalid("host-key", "is neither a fingerprint SHA256:… nor a file that can be read: %v", errors.Unwrap(err))
	}
	var keys []ssh.PublicKey
	for line := range bytes.Lines(content) {
		if key, _, _, _, err := ssh.ParseAuthorizedKey(line); err == nil {
			keys = append(keys, key)
		} else if _, _, key, _, _, err := ssh.ParseKnownHosts(line); err == nil {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, job.Invalid("host-key", "there is no public key in %s", file).
			WithHint("give the host's /etc/ssh/ssh_host_ed25519_key.pub, or a fingerprint SHA256:…")
	}
	return keys, nil
}

// jumps returns the servers on the way with their keys.
func (p *pinner) jumps(addresses []string) ([]fleet.SSHHop, error) {
	hops := []fleet.SSHHop{}
	for _, address := range addresses {
		keys, err := p.scan(address, hops)
		if err != nil {
			return nil, err
		}
		hops = append(hops, fleet.SSHHop{Address: address, HostKeys: keys})
	}
	return hops, nil
}

// host returns the keys of the host behind the servers on the way. When they were
// given in full, it need not be there.
func (p *pinner) host(address string, jump []fleet.SSHHop) ([]string, error) {
	if len(jump) > 0 || len(p.keys) == 0 || len(p.keys) < len(p.given) {
		return p.scan(address, jump)
	}
	var keys []string
	for _, key := range p.keys {
		keys = append(keys, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
	}
	return keys, nil
}

// scan asks a server for its keys, and whoever sits here whether they are right.
func (p *pinner) scan(address string, jump []fleet.SSHHop) ([]string, error) {
	shown, err := p.api.ScanSSH(p.s.ctx, address, jump)
	if err != nil {
		return nil, err
	}
	var prints, keys, known []string
	for _, key := range shown {
		prints, keys = append(prints, key.Fingerprint), append(keys, key.Key)
		if slices.Contains(p.given, key.Fingerprint) {
			known = append(known, key.Key)
		}
	}
	list := strings.Join(prints, ", ")
	switch {
	case len(known) > 0:
		return known, nil
	case len(p.given) > 0:
		return nil, job.Fail(job.HostKeyChanged, "%s proves itself by %s, and not by a key that was given", address, list).
			WithHint("look on that machine: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; if it says something else, somebody is in between")
	case p.yes:
		fmt.Fprintf(p.s.Err, "%s proves itself by %s; believed, as --yes says\n", address, list)
		return keys, nil
	}
	_, _ = io.WriteString(p.s.Err, address+" proves itself by "+list+"\nThe same is said there by: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\n")
	err = p.s.confirm("Is it the same? [y/N] ", fmt.Sprintf("nobody is here to say whether that is right (add --host-key %s, or --yes to believe it)", prints[0]))
	return keys, err
}

// checkAddresses finds what cannot be one before anything is asked.
func checkAddresses(ssh string, jump []string) error {
	for _, address := range jump {
		if _, err := fleet.ParseSSHAddress("jump", address); err != nil {
			return err
		}
	}
	if ssh == "" {
		return nil
	}
	_, err := fleet.ParseSSHAddress("ssh", ssh)
	return err
}

// access returns how a host is reached, when nothing is left to ask.
func (p *pinner) access(address string, jump []string) (fleet.SSHAccess, error) {
	hops, err := p.jumps(jump)
	if err != nil {
		return fleet.SSHAccess{}, err
	}
	keys, err := p.host(address, hops)
	return fleet.SSHAccess{Address: address, HostKeys: keys, Jump: hops}, err
}

// errNoChange says that a command was given nothing to do.
func errNoChange() error {
	return console.Usage("nothing to change (give one of the flags; --help lists them)")
}

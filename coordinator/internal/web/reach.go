package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// SSHHosts adds and changes hosts that the coordinator connects to. Faults are
// *job.Failure. Safe for concurrent use.
type SSHHosts interface {
	AddSSHHost(ctx context.Context, by fleet.Actor, asked fleet.NewSSHHost) (fleet.HostView, error)
	ChangeHost(ctx context.Context, by fleet.Actor, name string, asked fleet.HostChange) (fleet.HostView, error)
	// SharedSSHKey returns the public key that is shown to hosts without one of
	// their own, in authorized_keys form.
	SharedSSHKey(ctx context.Context) (publicKey string, err error)
}

// Connections reaches hosts over SSH. Faults are *job.Failure. Safe for concurrent
// use.
type Connections interface {
	// ScanSSH asks a server for the keys with which it proves itself, over
	// servers whose keys are known. Nobody is logged in at that server.
	ScanSSH(ctx context.Context, by fleet.Actor, address string, jump []fleet.SSHHop) ([]fleet.ShownKey, error)
	// TryHost connects to a host of mode ssh and looks at it anew. An agent's host
	// is left as it is.
	TryHost(ctx context.Context, by fleet.Actor, host string) error
}

// OverSSH reports whether the coordinator connects to the host.
func (r hostRow) OverSSH() bool { return r.Mode == fleet.ModeSSH }

// Local reports whether the host is the coordinator's own machine.
func (r hostRow) Local() bool { return r.Mode == fleet.ModeLocal }

// HasAgent reports whether an agent runs the host's jobs, or will.
func (r hostRow) HasAgent() bool { return !r.OverSSH() && !r.Local() }

// Reached reports whether the host takes jobs now.
func (r hostRow) Reached() bool { return r.Online && r.Problem == nil }

// Runner is what runs borg there, for lists.
func (r hostRow) Runner() string {
	switch {
	case r.OverSSH():
		return "over SSH"
	case r.Local():
		return "the coordinator"
	case r.Facts == nil:
		return "never connected"
	}
	return r.Facts.AgentVersion
}

// PresenceChip is its presence as a chip.
func (r hostRow) PresenceChip() chip {
	switch word := r.Presence(); word {
	case "connected":
		return chip{"ok", "ok", word}
	case "never seen":
		return chip{"idle", "wait", word}
	default:
		return chip{"warn", "warn", word}
	}
}

// KeyRefused reports whether the host does not let the coordinator's key in.
func (r hostRow) KeyRefused() bool { return r.Problem != nil && r.Problem.Code == job.PermissionDenied }

// KeyChanged reports whether the host shows another key than it should.
func (r hostRow) KeyChanged() bool { return r.Problem != nil && r.Problem.Code == job.HostKeyChanged }

// User is whom the coordinator logs in as.
func (p *hostPage) User() string { return userAt(p.SSH.Address) }

// PinnedKeys are the fingerprints of the keys that the host may show.
func (p *hostPage) PinnedKeys() []hostKey { return fingerprints("", p.SSH.HostKeys) }

// Through are the servers on the way.
func (p *hostPage) Through() []string {
	var list []string
	for _, hop := range p.SSH.Jump {
		list = append(list, hop.Address)
	}
	return list
}

// Slotted is how many jobs an SSH host runs at once.
func (p *hostPage) Slotted() int { return max(p.SSH.Slots, 1) }

// WayToDepot is the host's way to the depot in words.
func (r hostRow) WayToDepot() string {
	if r.Reach == fleet.ReachTunnel {
		return "through a tunnel in the coordinator's connection"
	}
	return "it connects to the depot"
}

// ConvertHost makes an agent's host of one that is reached over SSH.
func (c commands) ConvertHost(name string) string { return c.borgfleet("host", "convert", name) }

// verified is what the newest verification of a host found.
type verified struct {
	jobRow
	Bad int
}

// Outcome says it in a few words.
func (v *verified) Outcome() chip {
	if v.Bad == 0 {
		return chip{"ok", "ok", "all good"}
	}
	return chip{"fail", "fail", human.Count(v.Bad) + " not good"}
}

// manyVerifications is how far back a result is looked for.
const manyVerifications = 5

// verified reads the newest verification of a host that found anything; nil when
// there is none.
func (s *site) verified(ctx context.Context, now clock, name string) (*verified, error) {
	found, err := s.Jobs.Jobs(ctx, job.Filter{Host: name, Kind: job.Verify, Limit: manyVerifications})
	if err != nil {
		return nil, wrap("verifications of "+name, err)
	}
	for _, j := range found.Jobs {
		if j.Result == nil || len(j.Result.Checks) == 0 {
			continue
		}
		v := &verified{jobRow: now.job(j)}
		for _, finding := range j.Result.Checks {
			if !finding.Good {
				v.Bad++
			}
		}
		return v, nil
	}
	return nil, nil
}

// way is how a host reaches one repository.
type way struct{ Repository, Label, How string }

// ways are the repositories that a host uses: those in the depot that admit it,
// and those that it has backed up into, or holds a passphrase of.
func (s *site) ways(ctx context.Context, h fleet.HostView) ([]way, error) {
	list, err := s.Repositories.Repositories(ctx)
	if err != nil {
		return nil, wrap("repositories", err)
	}
	var ways []way
	for _, r := range list {
		if usedBy(r, h) {
			ways = append(ways, wayTo(r, h))
		}
	}
	return ways, nil
}

func usedBy(r fleet.RepositoryView, h fleet.HostView) bool {
	if r.Depot != nil {
		return h.Mode == fleet.ModeLocal || r.Depot.Admits(h.Name)
	}
	if h.LastBackup != nil && h.LastBackup.Repository == r.Name {
		return true
	}
	return (r.LastBackup != nil && r.LastBackup.Host == h.Name) || slices.Contains(r.SealedFor, h.Name)
}

// wayTo names the way as `host show` does.
func wayTo(r fleet.RepositoryView, h fleet.HostView) way {
	switch {
	case r.Depot != nil && h.Mode == fleet.ModeLocal:
		return way{r.Name, "depot", "on this machine"}
	case r.Depot != nil && h.Reach == fleet.ReachTunnel:
		return way{r.Name, "depot, tunnel", "in the depot, through the coordinator's own connection to the host"}
	case r.Depot != nil:
		return way{r.Name, "depot", "in the depot, to which the host connects"}
	case strings.HasPrefix(r.Location, "/") || strings.HasPrefix(r.Location, "file:"):
		return way{r.Name, "path", "on the host itself: " + r.Location}
	}
	return way{r.Name, "SSH", "by the host's own key: " + r.Location}
}

// fingerprints are public keys in short.
func fingerprints(use string, keys []string) []hostKey {
	var list []hostKey
	for _, key := range keys {
		if whole := fingerprint(key); whole != "" {
			list = append(list, hostKey{Use: use, Fingerprint: keyType(key) + " " + whole, Whole: key})
		}
	}
	return list
}

// fingerprint is that of a key in authorized_keys form, as ssh-keygen -l says it.
func fingerprint(key string) string {
	fields := strings.Fields(key)
	if len(fields) < 2 {
		return ""
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// keyType is what people call a key's kind: ED25519 for ssh-ed25519.
func keyType(key string) string {
	kind, _, _ := strings.Cut(key, " ")
	return strings.ToUpper(strings.TrimPrefix(strings.TrimPrefix(kind, "ssh-"), "ecdsa-sha2-"))
}

// userAt is the user in user@host:port.
func userAt(address string) string {
	if at := strings.LastIndex(address, "@"); at > 0 {
		return address[:at]
	}
	return "its user"
}

// setDisabled says whether anything may be backed up from a host.
func (s *site) setDisabled(disabled bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.parse(w, r) {
			return
		}
		name, by, err := r.PathValue("host"), fleet.ActorOf(r.Context()), error(nil)
		if !disabled { // whether borg is there is looked at now
			err = s.Connections.TryHost(r.Context(), by, name)
		}
		if err == nil {
			_, err = s.SSH.ChangeHost(r.Context(), by, name, fleet.HostChange{Disabled: &disabled})
		}
		if err == nil {
			http.Redirect(w, r, hostURL(name), http.StatusSeeOther)
			return
		}
		refused := failures(err)[0]
		if refused.Code == job.NotAllowed {
			s.faultOf(w, r, refused)
			return
		}
		v, err := s.host(r.Context(), name, s.commandsFor(r), nil)
		if err != nil {
			s.faultOf(w, r, err)
			return
		}
		v.Data.(*hostPage).Refused, v.Status = refused, refused.Code.HTTPStatus()
		s.render(w, r, v)
	}
}

// connections reads how a host is reached, and what it reaches.
func (s *site) connections(ctx context.Context, page *hostPage) (err error) {
	if page.Verified, err = s.verified(ctx, page.clock, page.Name); err != nil {
		return err
	}
	page.Ways, err = s.ways(ctx, page.HostView)
	return err
}

// BacksUp reports whether the reader may start backups of the host.
func (p *hostPage) BacksUp() bool { return p.Operates() && !p.Local() }

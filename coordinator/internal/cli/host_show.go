package cli

import (
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

type hostShow struct {
	Name string `arg:"" help:"The host's name."`
}

// Run runs the command.
func (c hostShow) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	host, err := api.Host(s.ctx, c.Name)
	if err != nil {
		return err
	}
	if s.globals.JSON {
		return s.PrintJSON(host)
	}
	ways, err := s.ways(api, host)
	if err != nil {
		return err
	}
	looked, err := s.lastLook(api, host)
	if err != nil {
		return err
	}
	s.printHost(host, ways, looked)
	return nil
}

// lookedBack is how many verifications of a host are looked through for one that
// has found anything.
const lookedBack = 5

// lastLook returns the newest verification of a host that has found anything, nil
// if there is none.
func (s *session) lastLook(api *client.Client, host fleet.HostView) (*job.Job, error) {
	page, err := api.Jobs(s.ctx, job.Filter{Host: host.Name, Kind: job.Verify, Limit: lookedBack})
	if err != nil {
		return nil, err
	}
	for _, j := range page.Jobs {
		if j.FinishedAt != nil && j.Result != nil && len(j.Result.Checks) > 0 {
			return &j, nil
		}
	}
	return nil, nil
}

// looked says when a host was last verified, and what was not good, each with
// what mends it.
func (t *table) looked(j *job.Job, now time.Time) {
	if j == nil {
		return
	}
	bad := 0
	for _, found := range j.Result.Checks {
		if !found.Good {
			bad++
		}
	}
	if bad == 0 {
		t.row("verified", human.Ago(*j.FinishedAt, now)+": all is good")
		return
	}
	t.row("verified", fmt.Sprintf("%s: %d of %d findings are not good", human.Ago(*j.FinishedAt, now), bad, len(j.Result.Checks)))
	for _, found := range j.Result.Checks {
		if found.Good {
			continue
		}
		t.row("  "+found.Name, found.Detail)
		if found.Hint != "" {
			t.row("", "hint: "+found.Hint)
		}
	}
}

func (s *session) printHost(host fleet.HostView, ways []way, looked *job.Job) {
	now := time.Now()
	t := newFacts(s.Out)
	t.row("host", host.Name)
	t.row("presence", presence(host, now))
	t.reached(host)
	if host.EnrolledAt != nil {
		t.row("enrolled", human.Ago(*host.EnrolledAt, now))
	}
	t.row("running", human.Plural(host.Running, "job"))
	if f := host.Facts; f != nil {
		t.facts(host, *f, now)
	}
	if host.Disabled {
		t.row("switched off", "nothing is backed up from it; when it has borg: borgfleet host enable "+host.Name)
	}
	t.looked(looked, now)
	if b := host.LastBackup; b != nil {
		t.row("last backup", fmt.Sprintf("%s, %s (%s new)", human.Ago(b.FinishedAt, now), b.Archive, human.Bytes(b.DeduplicatedSize)))
	}
	if host.SSHKey != "" {
		t.row("its key", fingerprint(host.SSHKey)+", for the depot: borgfleet host key "+host.Name)
	}
	for i, w := range ways {
		t.row(first(i, "reaches"), w.repository+": "+w.how)
	}
	t.end()
}

// facts says what a host last said of itself.
func (t *table) facts(host fleet.HostView, f fleet.Facts, now time.Time) {
	t.row("system", f.OS)
	t.row("borg", orNone(f.BorgVersion))
	if f.BorgFailure != nil {
		t.row("", f.BorgFailure.Error())
		if f.BorgFailure.Hint != "" {
			t.row("", "hint: "+f.BorgFailure.Hint)
		}
	}
	if host.Mode != fleet.ModeSSH && host.Mode != fleet.ModeLocal {
		t.row("agent", f.AgentVersion+", started "+human.Ago(f.StartedAt, now))
	}
	t.row("free space", human.Bytes(int64(min(f.FreeBytes, 1<<62)))+" where borg keeps its cache")
	if skew := math.Round(f.ClockSkew); skew > 0 {
		t.row("clock", human.Seconds(skew)+" ahead of the coordinator's")
	} else if skew < 0 {
		t.row("clock", human.Seconds(-skew)+" behind the coordinator's")
	}
	t.row("journal", human.Plural(f.JournalDepth, "event")+" not yet stored here")
}

// reached says how a host is reached.
func (t *table) reached(host fleet.HostView) {
	if f := host.Problem; f != nil {
		t.row("", f.Message)
		if f.Hint != "" {
			t.row("", "hint: "+f.Hint)
		}
	}
	switch {
	case host.Mode == fleet.ModeLocal:
		t.row("mode", "local: the coordinator's own machine, for its depot")
		return
	case host.SSH == nil:
		t.row("mode", "agent: it connects to the coordinator")
		return
	}
	access := host.SSH
	t.row("mode", "ssh: the coordinator connects to it")
	t.row("address", access.Address)
	for i, hop := range access.Jump {
		t.row(first(i, "by way of"), hop.Address)
	}
	for i, key := range access.HostKeys {
		t.row(first(i, "proves itself by"), fingerprint(key))
	}
	whose := "the coordinator's key for all hosts, "
	if access.OwnKey {
		whose = "a key of its own, "
	}
	t.row("let in with", whose+fingerprint(access.PublicKey))
	if access.Sudo {
		t.row("works", "as root, by sudo")
	}
	for _, at := range [][2]string{{"borg at", access.Borg}, {"works in", access.Dir}, {"hooks in", access.Hooks}} {
		if at[1] != "" {
			t.row(at[0], at[1])
		}
	}
	t.row("at a time", human.Plural(max(access.Slots, 1), "job"))
}

// first is a name for the first of some rows.
func first(i int, name string) string {
	if i > 0 {
		return ""
	}
	return name
}

// fingerprint is what a public key in authorized_keys form is known by.
func fingerprint(key string) string {
	parsed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
	if err != nil {
		return orNone(key)
	}
	return ssh.FingerprintSHA256(parsed)
}

// way is how a host reaches a repository.
type way struct{ repository, how string }

// maxWays bounds the repositories on servers that are shown of a host: it may use
// all of them.
const maxWays = 20

// ways returns how a host reaches the repositories that it may use.
func (s *session) ways(api *client.Client, host fleet.HostView) ([]way, error) {
	repositories, err := api.Repositories(s.ctx)
	if err != nil {
		return nil, err
	}
	var ways []way
	servers := 0
	for _, r := range repositories {
		switch {
		case r.Depot != nil && (host.Mode == fleet.ModeLocal || r.Depot.Admits(host.Name)):
			ways = append(ways, way{r.Name, s.toDepot(api, host)})
		case strings.HasPrefix(r.Location, "ssh://") && host.Mode != fleet.ModeLocal:
			if servers++; servers <= maxWays {
				ways = append(ways, way{r.Name, "A, " + r.Location + " by the host's own key"})
			}
		}
	}
	if servers > maxWays {
		ways = append(ways, way{"…", fmt.Sprintf("and %d more at servers, by the host's own key", servers-maxWays)})
	}
	return ways, nil
}

// toDepot is how a host reaches what is in the depot.
func (s *session) toDepot(api *client.Client, host fleet.HostView) string {
	switch {
	case host.Mode == fleet.ModeLocal:
		return "in the depot, on this machine"
	case host.Mode == fleet.ModeSSH && host.Reach == fleet.ReachTunnel:
		return "C, the depot through a tunnel in the coordinator's connection"
	}
	depot, err := api.Depot(s.ctx)
	if err != nil {
		return "B, the depot, but " + job.AsFailure(err).Message
	}
	return "B, the depot at " + depot.Address
}

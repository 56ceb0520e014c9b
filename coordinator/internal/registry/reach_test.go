package registry_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// sshKey is a new public key in authorized_keys form.
func sshKey(t testing.TB) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// privateKey is a new private key, and its public part.
func privateKey(t testing.TB, passphrase string) (secret.Value, string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

// publicOf returns the public part of the key that a host is shown.
func (h *house) publicOf(t testing.TB, host string) string {
	t.Helper()
	key, err := h.SSHKey(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

func overSSH(t testing.TB, name string) fleet.NewSSHHost {
	t.Helper()
	return fleet.NewSSHHost{Name: name, SSHAccess: fleet.SSHAccess{Address: "root@" + name + ".example.net", HostKeys: []string{sshKey(t)}}}
}

func (h *house) mustSSH(t testing.TB, asked fleet.NewSSHHost) fleet.HostView {
	t.Helper()
	view, err := h.AddSSHHost(t.Context(), alice, asked)
	if err != nil {
		t.Fatal(err)
	}
	return view
}

func TestAddSSHHost(t *testing.T) {
	h := newHouse(t)
	asked := overSSH(t, "legacy")
	asked.Labels, asked.Reach = map[string]string{"rack": "7"}, fleet.ReachTunnel
	key := asked.HostKeys[0]
	asked.HostKeys = []string{key + " root@legacy\n", key}
	asked.Jump = []fleet.SSHHop{{Address: "me@[fe80::1]", HostKeys: []string{key}}}
	view := h.mustSSH(t, asked)
	shared, err := h.SharedSSHKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := fleet.HostView{
		Host: fleet.Host{
			Name: "legacy", Mode: fleet.ModeSSH, Labels: asked.Labels, CreatedAt: start, Reach: fleet.ReachTunnel, Disabled: true,
			SSH: &fleet.SSHAccess{
				Address: "root@legacy.example.net:22", HostKeys: []string{key}, PublicKey: shared,
				Jump: []fleet.SSHHop{{Address: "me@[fe80::1]:22", HostKeys: []string{key}}},
			},
		},
		Runs: []job.State{},
	}
	same(t, "view", want, view)
	same(t, "updates", []string{"host legacy"}, h.updates(t))
	same(t, "audit", []string{"operator:alice host.add host/legacy"}, h.audit(t))
	same(t, "its key", shared, h.publicOf(t, "legacy"))

	h.restart(t)
	again, err := h.Host(t.Context(), "legacy")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "view after a restart", want, again)
	same(t, "key after a restart", shared, h.publicOf(t, "legacy"))
}

func TestOwnKeys(t *testing.T) {
	h := newHouse(t)
	given, public := privateKey(t, "")
	one, two, three := overSSH(t, "one"), overSSH(t, "two"), overSSH(t, "three")
	one.OwnKey, two.Key = true, given
	made := h.mustSSH(t, one).SSH
	same(t, "made", h.publicOf(t, "one"), made.PublicKey)
	view := h.mustSSH(t, two)
	same(t, "given", public, view.SSH.PublicKey)
	same(t, "given is its own", true, view.SSH.OwnKey)
	shared := h.mustSSH(t, three).SSH.PublicKey
	if shared == made.PublicKey || shared == public {
		t.Error("the key for all is one of these")
	}
	next, public := privateKey(t, "")
	changed, err := h.ChangeHost(t.Context(), bob, "three", fleet.HostChange{Key: next})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "changed", []any{true, public}, []any{changed.SSH.OwnKey, changed.SSH.PublicKey})
	same(t, "and used", public, h.publicOf(t, "three"))
	if err := h.RemoveHost(t.Context(), alice, "three"); err != nil {
		t.Fatal(err)
	}
	if _, found, err := h.store.Secret("ssh/three"); found || err != nil {
		t.Errorf("the key of a host that is gone is kept: %v, %v", found, err)
	}
}

func TestAddSSHHostRefuses(t *testing.T) {
	locked, _ := privateKey(t, "swordfish")
	for name, test := range map[string]struct {
		spoil func(*fleet.NewSSHHost)
		code  job.Code
		says  string
	}{
		"a taken name":           {func(n *fleet.NewSSHHost) { n.Name = "web1" }, job.Conflict, "already exists"},
		"the coordinator's name": {func(n *fleet.NewSSHHost) { n.Name = fleet.LocalHost }, job.InvalidRequest, "the coordinator's own machine"},
		"no user":                {func(n *fleet.NewSSHHost) { n.Address = "legacy.example.net" }, job.InvalidRequest, "which user"},
		"a port of none":         {func(n *fleet.NewSSHHost) { n.Address = "me@legacy:65536" }, job.InvalidRequest, "is not a port"},
		"an option for a host":   {func(n *fleet.NewSSHHost) { n.Address = "me@-oProxyCommand=x" }, job.InvalidRequest, "neither a host's name"},
		"an option for a user":   {func(n *fleet.NewSSHHost) { n.Address = "-lroot@legacy" }, job.InvalidRequest, "name of a user"},
		"no host key":            {func(n *fleet.NewSSHHost) { n.HostKeys = nil }, job.InvalidRequest, "by which key root@legacy.example.net:22 proves itself"},
		"a broken host key":      {func(n *fleet.NewSSHHost) { n.HostKeys = []string{"ssh-ed25519 AAAA"} }, job.InvalidRequest, "is not a public key"},
		"two keys in one":        {func(n *fleet.NewSSHHost) { n.HostKeys[0] += "\n" + sshKey(t) }, job.InvalidRequest, "is not a public key"},
		"a jump without a key":   {func(n *fleet.NewSSHHost) { n.Jump = []fleet.SSHHop{{Address: "me@gate"}} }, job.InvalidRequest, "jump.host_keys"},
		"too many jumps":         {func(n *fleet.NewSSHHost) { n.Jump = make([]fleet.SSHHop, 9) }, job.InvalidRequest, "servers on the way"},
		"a relative path":        {func(n *fleet.NewSSHHost) { n.Borg = "bin/borg" }, job.InvalidRequest, "is not an absolute path"},
		"a path of two lines":    {func(n *fleet.NewSSHHost) { n.Dir = "/a\nb" }, job.InvalidRequest, "is not an absolute path"},
		"too many slots":         {func(n *fleet.NewSSHHost) { n.Slots = 65 }, job.InvalidRequest, "slots"},
		"no such way":            {func(n *fleet.NewSSHHost) { n.Reach = "boat" }, job.InvalidRequest, "no way to the depot"},
		"a key of no sort":       {func(n *fleet.NewSSHHost) { n.Key = secret.FromString("x") }, job.InvalidRequest, "is not a private key"},
		"a key with passphrase":  {func(n *fleet.NewSSHHost) { n.Key = locked }, job.InvalidRequest, "protected by a passphrase"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.mustHost(t, "web1")
			asked := overSSH(t, "legacy")
			test.spoil(&asked)
			_, err := h.AddSSHHost(t.Context(), alice, asked)
			wantFailure(t, err, test.code, test.says)
			if hosts, err := h.Hosts(t.Context()); err != nil || len(hosts) != 1 {
				t.Errorf("hosts %v, %v", hosts, err)
			}
		})
	}
}

func TestChangeHostAccess(t *testing.T) {
	h := newHouse(t)
	asked := overSSH(t, "legacy")
	asked.OwnKey = true
	before := h.mustSSH(t, asked)
	access := fleet.SSHAccess{Address: "me@other:2222", HostKeys: []string{sshKey(t)}, Sudo: true, Slots: 3, PublicKey: "not to be believed"}
	reach := fleet.ReachTunnel
	changed, err := h.ChangeHost(t.Context(), bob, "legacy", fleet.HostChange{SSH: &access, Reach: &reach})
	if err != nil {
		t.Fatal(err)
	}
	want := access
	want.Jump, want.OwnKey, want.PublicKey = []fleet.SSHHop{}, true, before.SSH.PublicKey
	same(t, "access", &want, changed.SSH)
	same(t, "reach", reach, changed.Reach)
	same(t, "newest audit entry", "operator:bob host.change host/legacy", h.audit(t)[0])
	h.restart(t)
	again, err := h.Host(t.Context(), "legacy")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "after a restart", changed, again)

	h.mustHost(t, "web1")
	_, err = h.ChangeHost(t.Context(), bob, "web1", fleet.HostChange{SSH: &access})
	wantFailure(t, err, job.InvalidRequest, "is not reached over SSH")
	_, err = h.ChangeHost(t.Context(), bob, "web1", fleet.HostChange{Reach: &reach})
	wantFailure(t, err, job.InvalidRequest, "no tunnel")
	_, err = h.ChangeHost(t.Context(), bob, "nope", fleet.HostChange{})
	wantFailure(t, err, job.UnknownHost, "nope")
}

// A host is switched on by the first look at it if there is borg, and later by a
// person, if there is borg by then.
func TestSwitchedOn(t *testing.T) {
	h := newHouse(t)
	on, off := false, true
	missing := job.Fail(job.BorgMissing, "borg is not installed").WithHint("apt install borgbackup")
	look := func(host string, failure *job.Failure) {
		t.Helper()
		h.now = h.now.Add(time.Second)
		if err := h.UpdateFacts(t.Context(), host, fleet.Facts{BorgFailure: failure, SeenAt: h.now}, sealKey(t)); err != nil {
			t.Fatal(err)
		}
		h.now = start
	}
	disabled := func(host string, want bool) {
		t.Helper()
		view, err := h.Host(t.Context(), host)
		if err != nil || view.Disabled != want {
			t.Errorf("%s: disabled %v, %v", host, view.Disabled, err)
		}
	}
	for _, name := range []string{"good", "bare"} {
		h.mustSSH(t, overSSH(t, name))
		_, err := h.ChangeHost(t.Context(), alice, name, fleet.HostChange{Disabled: &on})
		wantFailure(t, err, job.Conflict, "was never reached")
	}
	look("good", nil)
	disabled("good", false)
	look("bare", missing)
	disabled("bare", true)
	_, err := h.ChangeHost(t.Context(), alice, "bare", fleet.HostChange{Disabled: &on})
	wantFailure(t, err, job.BorgMissing, "host bare cannot be backed up: borg is not installed")
	same(t, "hint", "apt install borgbackup; then: borgfleet host enable bare", job.AsFailure(err).Hint)
	look("bare", nil)
	disabled("bare", true)
	for _, change := range []struct {
		host     string
		disabled bool
	}{{"bare", on}, {"good", off}} {
		if _, err := h.ChangeHost(t.Context(), alice, change.host, fleet.HostChange{Disabled: &change.disabled}); err != nil {
			t.Fatal(err)
		}
		disabled(change.host, change.disabled)
	}
	look("good", nil)
	disabled("good", true) // as a person wants it
	h.restart(t)
	disabled("good", true)
	disabled("bare", false)
}

// The first look and the host's key for the depot come at the same time; neither
// takes back what the other has stored.
func TestSwitchedOnBesideItsKey(t *testing.T) {
	h := newHouse(t)
	for i := range 50 {
		name := fmt.Sprintf("web%d", i)
		h.mustSSH(t, overSSH(t, name))
		key := sshKey(t)
		var group sync.WaitGroup
		group.Go(func() {
			if err := h.SetDepotKey(t.Context(), name, key); err != nil {
				t.Error(err)
			}
		})
		if err := h.UpdateFacts(t.Context(), name, fleet.Facts{BorgVersion: "1.2.4", SeenAt: h.now}, sealKey(t)); err != nil {
			t.Fatal(err)
		}
		group.Wait()
		stored, _, err := h.store.Host(name)
		if err != nil || stored.Disabled || stored.SSHKey == "" {
			t.Fatalf("%s is stored with disabled %v and the key %q, %v", name, stored.Disabled, stored.SSHKey, err)
		}
	}
}

func TestProblemIsShown(t *testing.T) {
	h := newHouse(t)
	h.problems = map[string]*job.Failure{"legacy": job.Fail(job.HostKeyChanged, "another key")}
	h.restart(t)
	h.mustSSH(t, overSSH(t, "legacy"))
	view, err := h.Host(t.Context(), "legacy")
	if err != nil || view.Problem == nil || view.Problem.Code != job.HostKeyChanged {
		t.Errorf("problem %v, %v", view.Problem, err)
	}
}

func TestConvertHost(t *testing.T) {
	h := newHouse(t)
	asked := overSSH(t, "legacy")
	asked.OwnKey, asked.Reach, asked.Labels = true, fleet.ReachTunnel, map[string]string{"rack": "7"}
	h.mustSSH(t, asked)
	wantFailure(t, h.ConvertHost(t.Context(), alice, "legacy"), job.Conflict, "has not enrolled")
	keys := newKeys(t)
	enrolment := keys.enrolment("legacy")
	wantFailure(t, h.EnrolHost(t.Context(), alice, enrolment), job.Conflict, "is reached over SSH")
	enrolment.Replace = true
	if err := h.EnrolHost(t.Context(), alice, enrolment); err != nil {
		t.Fatal(err)
	}
	open := newJob(1, "legacy", "main", job.Queued)
	h.apply(t, store.CreateJob(open))
	wantFailure(t, h.ConvertHost(t.Context(), alice, "legacy"), job.Conflict, "jobs that are not over")
	open.State, open.FinishedAt = job.Cancelled, &start
	h.apply(t, store.PutJob(open))
	if err := h.ConvertHost(t.Context(), alice, "legacy"); err != nil {
		t.Fatal(err)
	}
	view, err := h.Host(t.Context(), "legacy")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "host", []any{fleet.ModeAgent, (*fleet.SSHAccess)(nil), fleet.ReachDepot, "7", enrolment.PublicKey},
		[]any{view.Mode, view.SSH, view.Reach, view.Labels["rack"], view.PublicKey})
	if _, found, err := h.store.Secret("ssh/legacy"); found || err != nil {
		t.Errorf("its key is kept: %v, %v", found, err)
	}
	wantFailure(t, h.ConvertHost(t.Context(), alice, "legacy"), job.Conflict, "has the mode agent")
	wantFailure(t, h.ConvertHost(t.Context(), alice, "nope"), job.UnknownHost, "nope")
}

func TestChangeLabels(t *testing.T) {
	h := newHouse(t)
	h.mustHost(t, "web1")
	for _, labels := range []map[string]string{{"role": "web", "site": "fra"}, {}} {
		changed, err := h.ChangeHost(t.Context(), bob, "web1", fleet.HostChange{Labels: labels})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "labels", labels, changed.Labels)
	}
	if _, err := h.ChangeHost(t.Context(), bob, "web1", fleet.HostChange{Labels: map[string]string{"role": "db"}}); err != nil {
		t.Fatal(err)
	}
	_, err := h.ChangeHost(t.Context(), bob, "web1", fleet.HostChange{Labels: map[string]string{"": "nameless"}})
	wantFailure(t, err, job.InvalidRequest, "labels")
	host, err := h.Host(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "what was refused", map[string]string{"role": "db"}, host.Labels)
}

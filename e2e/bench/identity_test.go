package bench_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/secret"
)

const identities = 10

// benchmarkEnrol: from the command on a new host until the coordinator calls it
// online, beside what one host costs with ssh: a key, and a first login.
func benchmarkEnrol(b *testing.B) {
	c := harness.StartCoordinator(b)
	server := harness.StartSSHD(b)
	login := strings.Fields(server.RSH())
	target := strings.TrimSuffix(strings.TrimPrefix(server.URL(""), "ssh://"), ":"+strconv.Itoa(server.Port))
	var enrolments, keys []time.Duration
	for i := range identities {
		host, dir := fmt.Sprintf("web%d", i), b.TempDir()
		token := c.EnrolmentToken(host)
		began := time.Now()
		agent := harness.Start(b, host, nil, harness.Binary(b, "borgfleet-agent"), "enroll", "--token", token,
			"--config", filepath.Join(dir, "agent.yaml"), "--data", filepath.Join(dir, "agent"), "--run")
		c.AwaitOnline(host)
		enrolments = append(enrolments, time.Since(began))
		agent.Terminate(b)
		harness.KillAll(b, dir)

		began = time.Now()
		for _, command := range [][]string{
			{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "key")},
			append(login, "-p", strconv.Itoa(server.Port), target, "true"),
		} {
			if r := harness.Run(b, nil, command[0], command[1:]...); r.Code != 0 {
				b.Fatal(r.Stderr)
			}
		}
		keys = append(keys, time.Since(began))
	}
	enrolled, ssh := quantile(enrolments, 1), quantile(keys, 1)
	report(fmt.Sprintf("(e) enrol command to online, slowest of %d", identities), ms(enrolled), "ssh key + login: "+ms(ssh),
		fmt.Sprintf("%.1f", float64(enrolled)/float64(ssh)), "3000 ms")
}

// benchmarkRevoke: from the removal of a host until its agent's connection is
// cut, beside a command that only looks.
func benchmarkRevoke(b *testing.B) {
	c := harness.StartCoordinator(b)
	var cuts, looks []time.Duration
	for i := range identities {
		host := fmt.Sprintf("web%d", i)
		agent := c.AddAgent(host, harness.AgentOptions{})
		closed := make(chan struct{})
		c.Dial(filepath.Join(agent.Dir, "agent.creds"), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
		began := time.Now()
		c.MustCLI("host", "show", host)
		looks = append(looks, time.Since(began))

		began = time.Now()
		c.MustCLI("host", "remove", host, "--yes")
		<-closed
		cuts = append(cuts, time.Since(began))
	}
	cut, look := quantile(cuts, 1), quantile(looks, 1)
	report(fmt.Sprintf("(f) host remove to cut off, slowest of %d", identities), ms(cut), "host show: "+ms(look),
		fmt.Sprintf("%.1f", float64(cut)/float64(look)), "1000 ms")
}

// benchmarkSeal: sealing a passphrase to a host and opening it there, beside
// signing and verifying the same bytes.
func benchmarkSeal(b *testing.B) {
	const rounds = 2000
	host, err := nkeys.CreateCurveKeys()
	if err != nil {
		b.Fatal(err)
	}
	public, err := host.PublicKey()
	if err != nil {
		b.Fatal(err)
	}
	signer, err := nkeys.CreateServer()
	if err != nil {
		b.Fatal(err)
	}
	passphrase := secret.FromString("correct horse battery staple")
	purpose := secret.Purpose{Host: "web1", Repository: "web1-main"}
	each := func(f func() error) time.Duration {
		began := time.Now()
		for range rounds {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(began) / rounds
	}
	sealing := each(func() error {
		sealed, err := secret.Seal(passphrase, purpose, public)
		if err == nil {
			_, err = secret.Open(sealed, purpose, host)
		}
		return err
	})
	signing := each(func() error {
		signature, err := signer.Sign(passphrase.Reveal())
		if err == nil {
			err = signer.Verify(passphrase.Reveal(), signature)
		}
		return err
	})
	us := func(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) + " µs" }
	report("(g) seal a secret and open it", us(sealing), "sign and verify: "+us(signing),
		fmt.Sprintf("%.1f", float64(sealing)/float64(signing)), "1000 µs each")
}

package bench_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	overheadRounds = 20
	fleetHosts     = 50
	fleetJobs      = 10 // of each host
	depotRounds    = 3
	depotBytes     = 1 << 30
)

// sshServer is an sshd whose user has a home of its own: what start files do is not
// to be measured.
func sshServer(b *testing.B, config ...string) *harness.SSHD {
	b.Helper()
	return harness.StartSSHDWith(b, harness.SSHDOptions{Config: append(config, "SetEnv HOME="+b.TempDir()+" BORG_HOST_ID=server@test")})
}

// addSSHHost makes this machine a host without an agent, under a name.
func addSSHHost(b *testing.B, c *harness.Coordinator, server *harness.SSHD, name string, flags ...string) (dir string) {
	b.Helper()
	current, err := user.Current()
	if err != nil {
		b.Fatal(err)
	}
	dir = filepath.Join(b.TempDir(), name)
	c.MustCLI(append([]string{"host", "add", name, "--ssh", current.Username + "@" + server.HostPort(),
		"--host-key", server.HostKeyFile(), "--identity-file", server.ClientKeyFile(), "--dir", dir}, flags...)...)
	c.AwaitOnline(name)
	b.Cleanup(func() { harness.KillAll(b, dir) })
	return dir
}

// benchmarkSSHJob: a job on a host without an agent, from its submission until
// its result is there, beside the same borg by ssh: with a connection of its
// own, and with one that is open already.
func benchmarkSSHJob(b *testing.B) {
	c := harness.StartCoordinator(b)
	server := sshServer(b)
	dir := addSSHHost(b, c, server, "web1")
	location, passphrase := c.AddRepository("main")
	c.Init("web1", "main")
	master := filepath.Join(b.TempDir(), "master")
	ssh := append(strings.Fields(server.RSH()), "-p", strconv.Itoa(server.Port))
	target := strings.TrimSuffix(strings.TrimPrefix(server.URL(""), "ssh://"), ":"+strconv.Itoa(server.Port))
	shared := append(ssh, "-o", "ControlPath="+master)
	keeper := harness.Start(b, "ssh", nil, append(shared, "-N", "-o", "ControlMaster=yes", target)...)
	harness.Eventually(b, "the connection to be open", func() error { _, err := os.Stat(master); return err })
	command := fmt.Sprintf("BORG_PASSPHRASE='%s' BORG_BASE_DIR='%s' BORG_RELOCATED_REPO_ACCESS_IS_OK=yes borg list --log-json --lock-wait=60 --json -- '%s'", passphrase, dir+"/borg", location)
	var own, plain, open []time.Duration
	timed := func(argv ...string) time.Duration {
		began := time.Now()
		if r := harness.Run(b, nil, argv[0], argv[1:]...); r.Code != 0 {
			b.Fatal(r.Stderr)
		}
		return time.Since(began)
	}
	for range overheadRounds {
		began := time.Now()
		c.Await(c.Submit(`{"host":"web1","kind":"list","repository":"main"}`).ID, job.Succeeded)
		own = append(own, time.Since(began))
		plain = append(plain, timed(append(ssh, target, command)...))
		open = append(open, timed(append(shared, target, command)...))
	}
	keeper.Terminate(b)
	job, over := quantile(own, 0.5), quantile(plain, 0.5)
	report(fmt.Sprintf("(o) job over SSH, median of %d", overheadRounds), ms(job), "ssh host borg: "+ms(over),
		fmt.Sprintf("%+.0f ms", (job-over).Seconds()*1000), "+150 ms")
	over = quantile(open, 0.5)
	report("    the same, beside an open connection of ssh", ms(job), "ssh -o ControlPath: "+ms(over),
		fmt.Sprintf("%+.0f ms", (job-over).Seconds()*1000), "")
}

var accepted = regexp.MustCompile(`Accepted publickey`)

// benchmarkSSHFleet: many hosts without an agent with many jobs each, beside one
// connection for each host.
func benchmarkSSHFleet(b *testing.B) {
	c := harness.StartCoordinatorWith(b, harness.CoordinatorOptions{Config: "limits: {per_host: 10}\n"})
	var servers []*harness.SSHD
	var jobs []job.ID
	for i := range fleetHosts {
		servers = append(servers, sshServer(b))
		name := fmt.Sprintf("web%d", i)
		addSSHHost(b, c, servers[i], name, "--slots", strconv.Itoa(fleetJobs))
		c.AddRepository(name)
		jobs = append(jobs, c.Submit(fmt.Sprintf(`{"host":%q,"kind":"init","repository":%q,"spec":{}}`, name, name)).ID)
	}
	for _, id := range jobs {
		c.Await(id, job.Succeeded)
	}
	jobs = nil
	began := time.Now()
	for range fleetJobs {
		for i := range fleetHosts {
			name := fmt.Sprintf("web%d", i)
			jobs = append(jobs, c.Submit(fmt.Sprintf(`{"host":%q,"kind":"list","repository":%q}`, name, name)).ID)
		}
	}
	for _, id := range jobs {
		c.Await(id, job.Succeeded)
	}
	took, connections := time.Since(began), 0
	for i, server := range servers {
		n := len(accepted.FindAllString(server.Output(), -1))
		if n != 1 {
			b.Errorf("host web%d has had %d connections", i, n)
		}
		connections += n
	}
	report(fmt.Sprintf("(p) connections for %d jobs on %d SSH hosts", len(jobs), fleetHosts), fmt.Sprintf("%d, in %.0f s", connections, took.Seconds()),
		fmt.Sprintf("one a host: %d", fleetHosts), fmt.Sprintf("%.2f", float64(connections)/fleetHosts), "<= 1.00")
}

// benchmarkDepot: borg create to the depot, beside the same through OpenSSH's
// sshd with the same forced command.
func benchmarkDepot(b *testing.B) {
	c := harness.StartCoordinator(b)
	host := sshServer(b)
	dir := addSSHHost(b, c, host, "web1")
	c.MustCLI("repo", "add", "main", "--location", "depot", "--encryption", "none", "--host", "web1")
	harness.Eventually(b, "the host to have a key for the depot", func() error { _, err := os.Stat(dir + "/id_ed25519"); return err })
	plain := filepath.Join(b.TempDir(), "r")
	server := sshServer(b, "ForceCommand borg serve --restrict-to-repository "+plain+" --umask=077")

	file := filepath.Join(b.TempDir(), "file")
	content := make([]byte, depotBytes)
	_, _ = rand.NewChaCha8([32]byte{11}).Read(content) // never fails
	if err := os.WriteFile(file, content, 0o600); err != nil {
		b.Fatal(err)
	}
	var key struct {
		HostKey string `json:"host_key"`
	}
	if err := json.Unmarshal([]byte(c.MustCLI("depot", "show", "--json")), &key); err != nil {
		b.Fatal(err)
	}
	known := filepath.Join(b.TempDir(), "known_hosts")
	if err := os.WriteFile(known, []byte("borgfleet-depot "+key.HostKey+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	address, port, _ := net.SplitHostPort(c.Depot)
	toDepot := fmt.Sprintf("ssh -F none -i %s/id_ed25519 -o IdentitiesOnly=yes -o UserKnownHostsFile=%s -o StrictHostKeyChecking=yes -o BatchMode=yes "+
		"-o HostKeyAlias=borgfleet-depot -o HostName=%s -o Port=%s", dir, known, address, port)
	base := b.TempDir()
	borg := func(rsh string, args ...string) time.Duration {
		env := []string{"BORG_RSH=" + rsh, "BORG_BASE_DIR=" + base, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes"}
		began := time.Now()
		if r := harness.Run(b, env, "borg", args...); r.Code != 0 {
			b.Fatalf("borg %v: %s", args, r.Stderr)
		}
		return time.Since(began)
	}
	const ours = "ssh://main@borgfleet-depot/./main"
	theirs := server.URL(plain)
	borg(server.RSH(), "init", "--encryption=none", theirs)
	var ratios, own, others []float64
	for i := range depotRounds {
		archive := fmt.Sprintf("::round%d", i)
		// Each round has other data: what a repository holds already is not sent.
		rand.NewChaCha8([32]byte{byte(i), 13}).Read(content)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			b.Fatal(err)
		}
		by := borg(server.RSH(), "create", "--compression=none", "--files-cache=disabled", theirs+archive, file)
		through := borg(toDepot, "create", "--compression=none", "--files-cache=disabled", ours+archive, file)
		own, others = append(own, depotBytes/1e6/through.Seconds()), append(others, depotBytes/1e6/by.Seconds())
		ratios = append(ratios, by.Seconds()/through.Seconds())
	}
	report(fmt.Sprintf("(q) borg create of 1 GiB, depot, median of %d", depotRounds), fmt.Sprintf("%.0f MB/s", quantile(own, 0.5)),
		fmt.Sprintf("sshd: %.0f MB/s", quantile(others, 0.5)), fmt.Sprintf("%.2f", quantile(ratios, 0.5)), ">= 0.70")
}

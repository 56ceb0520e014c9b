package depot_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/depot"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const hostID = "coordinator@test"

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(template.dir)
	os.Exit(code)
}

// template is what [filled] copies, made by the first who needs it.
var template struct {
	made sync.Once
	at   time.Time // just before
	dir  string
}

// lab is a depot, what it lets hosts do, and hosts with a real ssh and borg.
type lab struct {
	*depot.Server
	t    testing.TB
	dir  string
	path string       // of the repositories
	end  func() error // of the server

	mu     sync.Mutex
	hosts  map[string]string // by public key
	grants map[string]fleet.DepotGrant
	busy   map[string]bool
}

// newLab starts a depot that ends with the test.
func newLab(t testing.TB) *lab {
	t.Helper()
	return newLabWith(t, func(*depot.Server) {})
}

// newLabWith lets a test prepare the server before it answers.
func newLabWith(t testing.TB, prepare func(*depot.Server)) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), hosts: map[string]string{}, grants: map[string]fleet.DepotGrant{}, busy: map[string]bool{}}
	l.path = filepath.Join(l.dir, "depot")
	server, err := depot.New(l.options())
	if err != nil {
		t.Fatal(err)
	}
	l.Server = server
	prepare(server)
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- server.Run(ctx) }()
	l.end = sync.OnceValue(func() error {
		stop()
		return <-over
	})
	t.Cleanup(func() {
		if err := l.end(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return l
}

func (l *lab) options() depot.Options {
	return depot.Options{
		Listen: "127.0.0.1:0", Path: l.path, KeyFile: filepath.Join(l.dir, "depot_key"),
		HostID: hostID, BaseDir: filepath.Join(l.dir, "serve"),
		Grant: l.grant,
		Busy: func(repository string) bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.busy[repository]
		},
	}
}

func (l *lab) grant(key, repository string) (fleet.DepotGrant, *job.Failure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	host, known := l.hosts[key]
	if !known {
		return fleet.DepotGrant{}, job.Fail(job.NotAllowed, "nobody has this key")
	}
	grant, ok := l.grants[host+" "+repository]
	if !ok {
		return fleet.DepotGrant{Host: host}, job.Fail(job.NotAllowed, "host %s may not use repository %s", host, repository).
			WithHint("borgfleet repo allow %s %s", repository, host)
	}
	return grant, nil
}

// allow lets a host use a repository.
func (l *lab) allow(grant fleet.DepotGrant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grants[grant.Host+" "+grant.Repository] = grant
}

func (l *lab) deny(host, repository string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.grants, host+" "+repository)
}

func (l *lab) work(repository string, busy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy[repository] = busy
}

// client is a host with a key of its own.
type client struct {
	lab  *lab
	name string
	dir  string
	rsh  string
}

// host makes a host that the depot knows.
func (l *lab) host(name string) *client {
	l.t.Helper()
	c := l.stranger(name)
	key, err := os.ReadFile(filepath.Join(c.dir, "key.pub"))
	l.check(err)
	l.mu.Lock()
	l.hosts[string(key)] = name
	l.mu.Unlock()
	return c
}

// stranger makes a host that the depot does not know.
func (l *lab) stranger(name string) *client {
	l.t.Helper()
	c := &client{lab: l, name: name, dir: filepath.Join(l.dir, "host "+name)}
	l.check(os.MkdirAll(c.dir, 0o700))
	public, private, err := ed25519.GenerateKey(nil)
	l.check(err)
	block, err := ssh.MarshalPrivateKey(private, "")
	l.check(err)
	sshKey, err := ssh.NewPublicKey(public)
	l.check(err)
	l.write(filepath.Join(c.dir, "key"), string(pem.EncodeToMemory(block)))
	l.write(filepath.Join(c.dir, "key.pub"), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshKey))))
	l.write(filepath.Join(c.dir, "known_hosts"), borg.DepotKnownHost(l.HostKey()))
	c.rsh = c.reach(l.Addr().String())
	return c
}

// reach is the ssh command that reaches the depot under an address.
func (c *client) reach(address string) string {
	return borg.DepotRSH(borg.DepotAccess{
		Identity: filepath.Join(c.dir, "key"), KnownHosts: filepath.Join(c.dir, "known_hosts"), Address: address,
	})
}

// dial logs in as the host, for no longer than the test.
func (c *client) dial(repository string) (*ssh.Client, error) {
	c.lab.t.Helper()
	key, err := os.ReadFile(filepath.Join(c.dir, "key"))
	c.lab.check(err)
	signer, err := ssh.ParsePrivateKey(key)
	c.lab.check(err)
	client, err := ssh.Dial("tcp", c.lab.Addr().String(), &ssh.ClientConfig{
		User: repository, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err == nil {
		c.lab.t.Cleanup(func() { client.Close() })
	}
	return client, err
}

func (l *lab) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) write(path, text string) {
	l.t.Helper()
	l.check(os.MkdirAll(filepath.Dir(path), 0o700))
	l.check(os.WriteFile(path, []byte(text), 0o600))
}

// said is how a command ended.
type said struct {
	code        int
	out, errors string
}

// run runs a command to its end.
func run(t testing.TB, cmd *exec.Cmd) said {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return said{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// borg returns a command of borg on the host; "REPO" in an argument stands for
// the repository's URL.
func (c *client) borg(repository string, args ...string) *exec.Cmd {
	for i, arg := range args {
		args[i] = strings.Replace(arg, "REPO", bus.DepotURL(repository), 1)
	}
	cmd := exec.Command("borg", args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "BORG_BASE_DIR="+filepath.Join(c.dir, "borg"), "BORG_HOST_ID="+c.name+"@test", "BORG_SELFTEST=disabled",
		"BORG_RSH="+c.rsh, "BORG_PASSPHRASE=secret", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes", "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING=YES",
		"BORG_CHECK_I_KNOW_WHAT_I_AM_DOING=YES", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes")
	return cmd
}

// do runs borg on the host, which must end well.
func (c *client) do(repository string, args ...string) string {
	c.lab.t.Helper()
	said := run(c.lab.t, c.borg(repository, args...))
	if said.code != 0 {
		c.lab.t.Fatalf("borg %s: %d: %s", args, said.code, said.errors)
	}
	return said.out
}

// ssh runs the host's ssh, with options before what it is to run.
func (c *client) ssh(user string, args ...string) *exec.Cmd {
	cmd := exec.Command("sh", append([]string{"-c", c.rsh + ` "$@"`, "ssh"}, append([]string{"-l", user}, args...)...)...)
	cmd.Dir = c.dir
	return cmd
}

// plain runs ssh or sftp without what borg's ssh is told.
func (c *client) plain(program string, args ...string) *exec.Cmd {
	host, port, _ := net.SplitHostPort(c.lab.Addr().String())
	return exec.Command(program, append([]string{
		"-F", "none", "-oBatchMode=yes", "-oHostName=" + host, "-oPort=" + port, "-oIdentitiesOnly=yes", "-oHostKeyAlias=" + borg.DepotAlias,
		`-oIdentityFile="` + filepath.Join(c.dir, "key") + `"`, `-oUserKnownHostsFile="` + filepath.Join(c.dir, "known_hosts") + `"`,
	}, args...)...)
}

// local runs borg as the coordinator does, which must end well.
func (l *lab) local(repository string, args ...string) string {
	l.t.Helper()
	for i, arg := range args {
		args[i] = strings.Replace(arg, "REPO", l.Dir(repository), 1)
	}
	cmd := exec.Command("borg", args...)
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "BORG_BASE_DIR="+filepath.Join(l.dir, "serve"), "BORG_HOST_ID="+hostID, "BORG_SELFTEST=disabled",
		"BORG_PASSPHRASE=secret", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes")
	said := run(l.t, cmd)
	if said.code != 0 {
		l.t.Fatalf("borg %s: %d: %s", args, said.code, said.errors)
	}
	return said.out
}

// serving are the processes that serve a repository.
func (l *lab) serving(repository string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if bytes.Contains(text, []byte("serve\x00")) && bytes.Contains(text, []byte("\x00"+l.Dir(repository)+"\x00")) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}

func (l *lab) use(repository string) fleet.DepotUse {
	for _, use := range l.Uses() {
		if use.Repository == repository {
			return use
		}
	}
	return fleet.DepotUse{Repository: repository}
}

func (l *lab) locked(repository string) bool {
	_, err := os.Stat(filepath.Join(l.Dir(repository), "lock.exclusive"))
	return err == nil
}

package convert_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/convert"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// agents is the directory with the agent's stand-in.
var agents string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "convert-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", filepath.Join(dir, "borgfleet-agent"), "testdata/agent/main.go")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if said, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the agent's stand-in: %v\n%s", err, said)
			return 1
		}
		agents = dir
		return m.Run()
	}())
}

const tokenWord = "bfe1_SECRETWORD"

var by = fleet.Actor{Name: "operator:alice"}

// site is a host of mode ssh, on this machine, and a coordinator that knows it.
type site struct {
	t     *testing.T
	root  string // of all that is there; its name is as awkward as a name may be
	place convert.Place
	host  fleet.HostView
	tools string                                   // directory that comes first in the PATH
	path  string                                   // what comes after it
	spoil func(script string, input []byte) []byte // changes what arrives
	shell convert.Shell                            // nil: the site's own

	mu       sync.Mutex
	open     map[job.State]bool
	removed  []string // tokens
	released []bool
	refuse   error // of ConvertHost
}

func newSite(t *testing.T) *site {
	t.Helper()
	root := filepath.Join(t.TempDir(), "it's $(a) \"site\"")
	s := &site{
		t: t, root: root, tools: filepath.Join(root, "tools"), path: os.Getenv("PATH"), open: map[job.State]bool{},
		place: convert.Place{Binary: root + "/bin/borgfleet-agent", Config: root + "/etc/agent.yaml", Data: root + "/data"},
		host: fleet.HostView{Host: fleet.Host{Name: "web1", Mode: fleet.ModeSSH, SSH: &fleet.SSHAccess{
			Address: "root@web1:22", PublicKey: "ssh-ed25519 AAAA", Slots: 2, Hooks: "/opt/it's hooks",
		}}},
	}
	s.write("old/borg/.config/borg/keys/web1", "a key")
	s.write("old/borg/.cache/borg/files", "a cache")
	s.tool("id", "echo 0")
	t.Cleanup(func() {
		if pid, alive := s.agent(); alive {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return s
}

func (s *site) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) read(name string) string {
	text, err := os.ReadFile(filepath.Join(s.root, name))
	if err != nil {
		return ""
	}
	return string(text)
}

// tool replaces a program on the host.
func (s *site) tool(name, script string) {
	s.t.Helper()
	s.write("tools/"+name, "#!/bin/sh\n"+script+"\n")
	if err := os.Chmod(filepath.Join(s.tools, name), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// only leaves the host these programs and no others.
func (s *site) only(names ...string) {
	s.t.Helper()
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, filepath.Join(s.tools, name))
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	s.path = ""
}

// agent returns the process of an agent that was started, and whether it lives.
func (s *site) agent() (pid int, alive bool) {
	pid, err := strconv.Atoi(s.read("etc/runs"))
	if err != nil {
		return 0, false
	}
	state, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return pid, err == nil && len(state) > 0 // a zombie has none
}

// Exec runs a script by /bin/sh, whose command line says nothing.
func (s *site) Exec(ctx context.Context, script string, input []byte, out, errs io.Writer) (int, error) {
	if s.spoil != nil {
		input = s.spoil(script, input)
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), out, errs
	cmd.Env = []string{"PATH=" + strings.TrimSuffix(s.tools+":"+s.path, ":"), "HOME=" + s.root}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// Host says that the host is online once its agent has said hello.
func (s *site) Host(_ context.Context, name string) (fleet.HostView, error) {
	if name != s.host.Name {
		return fleet.HostView{}, fleet.UnknownHost(name)
	}
	view := s.host
	if s.read("etc/hello") != "" {
		view.Online, view.Facts = true, &fleet.Facts{SeenAt: time.Now(), AgentVersion: "0.5.0"}
	}
	return view, nil
}

func (s *site) ConvertHost(context.Context, fleet.Actor, string) error { return s.refuse }

func (s *site) EnrolmentToken(_ context.Context, _ fleet.Actor, asked fleet.NewEnrolmentToken) (fleet.EnrolmentToken, fleet.EnrolmentCommand, error) {
	if asked.Host != s.host.Name || !asked.Replace {
		s.t.Errorf("a token for %+v", asked)
	}
	return fleet.EnrolmentToken{ID: "t1"}, fleet.EnrolmentCommand{Token: secret.FromString(tokenWord), URL: "tls://bus.example:4222"}, nil
}

func (s *site) RemoveEnrolmentToken(_ context.Context, _ fleet.Actor, id string) error {
	s.removed = append(s.removed, id)
	return nil
}

func (s *site) Jobs(_ context.Context, f job.Filter) (job.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[f.State] && f.Host == s.host.Name {
		return job.Page{Jobs: []job.Job{{ID: "01JD0000000000000000000000"}}}, nil
	}
	return job.Page{}, nil
}

func (s *site) take(context.Context, string) (convert.Access, error) {
	shell := s.shell
	if shell == nil {
		shell = s
	}
	return convert.Access{
		Shell: shell, BaseDir: filepath.Join(s.root, "old", "borg"), HostID: "web1@borgfleet-abcdefgh",
		Release: func(converted bool) { s.released = append(s.released, converted) },
	}, nil
}

func (s *site) convert(change ...func(*convert.Options)) ([]fleet.ConvertStep, error) {
	s.t.Helper()
	options := convert.Options{
		Hosts: s, Tokens: s, Jobs: s, Take: s.take, Agents: []string{agents}, Place: s.place,
		Wait: 30 * time.Second, Logger: hclog.NewNullLogger(),
	}
	for _, c := range change {
		c(&options)
	}
	return convert.New(options).Convert(s.t.Context(), by, "web1")
}

func names(steps []fleet.ConvertStep) string {
	words := make([]string, len(steps))
	for i, step := range steps {
		words[i] = step.Name
	}
	return strings.Join(words, " ")
}

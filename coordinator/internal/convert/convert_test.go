package convert_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/convert"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

const allSteps = "check copy settings memory enrol start hello switch"

func checkConverted(t *testing.T, s *site, steps []fleet.ConvertStep, err error) {
	t.Helper()
	if err != nil || names(steps) != allSteps {
		t.Fatalf("steps %q, error %v", names(steps), err)
	}
	for _, step := range steps {
		t.Logf("%s: %s", step.Name, step.Detail)
	}
	want, err := os.ReadFile(filepath.Join(agents, "borgfleet-agent"))
	info, statErr := os.Stat(s.place.Binary)
	if got := s.read("bin/borgfleet-agent"); err != nil || statErr != nil || got != string(want) || info.Mode().Perm() != 0o755 {
		t.Errorf("the agent has %d bytes and %v (%v)", len(got), info, errors.Join(err, statErr))
	}
	if _, alive := s.agent(); !alive {
		t.Error("no agent runs")
	}
	if len(s.released) != 1 || !s.released[0] {
		t.Errorf("released %v", s.released)
	}
}

func TestConvert(t *testing.T) {
	s := newSite(t)
	steps, err := s.convert()
	checkConverted(t, s, steps, err)
	command, token, _ := strings.Cut(s.read("etc/enrolled"), "\n")
	if token != tokenWord || strings.Contains(command, tokenWord) {
		t.Errorf("enrolled by %q, with %q as input", command, token)
	}
	for name, want := range map[string]string{
		"data/borg/.config/borg/keys/web1": "a key", "data/borg/.cache/borg/files": "a cache", "data/host-id": "web1@borgfleet-abcdefgh\n",
	} {
		if got := s.read(name); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	config := s.read("etc/agent.yaml")
	for _, want := range []string{"slots: 2\n", "policy:\n  hooks: \"/opt/it's hooks\"\n"} {
		if !strings.Contains(config, want) {
			t.Errorf("%q is not in\n%s", want, config)
		}
	}
	if info, err := os.Stat(s.place.Data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state directory %v (%v)", info, err)
	}
}

func TestSettingsThatAreThereStay(t *testing.T) {
	s := newSite(t)
	s.write("etc/agent.yaml", "slots: 7\n")
	steps, err := s.convert()
	checkConverted(t, s, steps, err)
	if got := s.read("etc/agent.yaml"); got != "slots: 7\n" {
		t.Errorf("the file became %q", got)
	}
}

// TestNothingToSumWith: the file is read back where nothing computes its sum.
func TestNothingToSumWith(t *testing.T) {
	tools := []string{"uname", "df", "tail", "mkdir", "cat", "chmod", "mv", "rm", "cp", "nohup"}
	s := newSite(t)
	s.only(tools...)
	steps, err := s.convert()
	checkConverted(t, s, steps, err)
	s = newSite(t)
	s.only(tools...)
	s.spoil = spoilAgent
	_, err = s.convert()
	checkFailure(t, err, job.RefusedByHost, "SHA-256")
}

// spoilAgent changes one byte on the way.
func spoilAgent(script string, input []byte) []byte {
	if len(input) < 1<<20 {
		return input
	}
	input = bytes.Clone(input)
	input[len(input)/2] ^= 1
	return input
}

func checkFailure(t *testing.T, err error, code job.Code, says string) {
	t.Helper()
	failure, ok := errors.AsType[*job.Failure](err)
	if !ok || failure.Code != code || !strings.Contains(failure.Error(), says) || failure.Hint == "" {
		t.Errorf("got %v, want %s that says %q, with a hint", err, code, says)
	}
}

// TestFailures: a host that cannot have an agent, or one that does not work,
// stays what it is, and no agent runs there.
func TestFailures(t *testing.T) {
	tests := map[string]struct {
		prepare func(*site)
		code    job.Code
		says    string
		steps   string
	}{
		"another system":     {func(s *site) { s.tool("uname", `echo FreeBSD`) }, job.RefusedByHost, "FreeBSD", ""},
		"another processor":  {func(s *site) { s.tool("uname", `[ "$1" = -s ] && echo Linux || echo sh4`) }, job.RefusedByHost, `"sh4"`, ""},
		"no agent for it":    {func(s *site) { s.tool("uname", `[ "$1" = -s ] && echo Linux || echo s390x`) }, job.Unavailable, "borgfleet-agent-linux-s390x", ""},
		"not root":           {func(s *site) { s.tool("id", "echo 1000") }, job.RefusedByHost, "--sudo", ""},
		"a full disk":        {func(s *site) { s.tool("df", "echo x; echo /dev/x 100 99 1024 99% /") }, job.DiskFull, "1 MiB", ""},
		"no room after all":  {func(s *site) { s.tool("cat", "echo no space left on device >&2; exit 1") }, job.RefusedByHost, "no space left", "check undo"},
		"changed on the way": {func(s *site) { s.spoil = spoilAgent }, job.RefusedByHost, "SHA-256", "check"},
		"does not run":       {func(s *site) { s.tool("chmod", "echo noexec >&2; exit 126") }, job.RefusedByHost, "noexec", "check"},
		"no bus": {func(s *site) { s.write("etc/behave", "no bus") }, job.HostUnreachable, "tls://bus.example:4222 does not answer",
			"check copy settings memory undo"},
		"silent": {func(s *site) { s.write("etc/behave", "silent") }, job.HostUnreachable, "the agent says why",
			"check copy settings memory enrol start undo"},
		"a job came": {func(s *site) {
			s.refuse = job.Fail(job.Conflict, "host web1 has jobs that are not over").WithHint("wait")
		},
			job.Conflict, "not over", "check copy settings memory enrol start hello undo"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			test.prepare(s)
			steps, err := s.convert(func(o *convert.Options) {
				if name == "silent" {
					o.Wait = time.Second
				}
			})
			checkFailure(t, err, test.code, test.says)
			if got := strings.TrimSuffix(names(steps), " undo"); got != strings.TrimSuffix(test.steps, " undo") {
				t.Errorf("steps %q, want %q", names(steps), test.steps)
			}
			if len(s.released) != 1 || s.released[0] {
				t.Errorf("released %v", s.released)
			}
			if enrolled := s.read("etc/enrolled") != ""; enrolled != (len(s.removed) == 1) {
				t.Errorf("enrolled is %v, and tokens %v were removed", enrolled, s.removed)
			}
			patience.Until(t, "no agent runs", func() bool { _, alive := s.agent(); return !alive })
			if left := s.read("bin/borgfleet-agent.new") + s.read("data/borg/.cache/borg/files"); left != "" {
				t.Errorf("%d bytes are left there", len(left))
			}
		})
	}
}

// TestRefusedBefore: what is refused before anything is touched.
func TestRefusedBefore(t *testing.T) {
	tests := map[string]struct {
		prepare func(*site)
		code    job.Code
	}{
		"has an agent":    {func(s *site) { s.host.Mode = fleet.ModeAgent }, job.Conflict},
		"the coordinator": {func(s *site) { s.host.Mode = fleet.ModeLocal }, job.Conflict},
		"a queued job":    {func(s *site) { s.open[job.Queued] = true }, job.Conflict},
		"a running job":   {func(s *site) { s.open[job.Running] = true }, job.Conflict},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			test.prepare(s)
			steps, err := s.convert()
			checkFailure(t, err, test.code, "web1")
			if len(steps)+len(s.released) > 0 {
				t.Errorf("steps %q, released %v", names(steps), s.released)
			}
		})
	}
}

// TestJobInTheLastMoment: a job that began before the host was taken out of
// service is seen after that.
func TestJobInTheLastMoment(t *testing.T) {
	s := newSite(t)
	_, err := s.convert(func(o *convert.Options) {
		o.Take = func(ctx context.Context, host string) (convert.Access, error) {
			s.mu.Lock()
			s.open[job.Sent] = true
			s.mu.Unlock()
			return s.take(ctx, host)
		}
	})
	checkFailure(t, err, job.Conflict, "not over")
	if len(s.released) != 1 || s.released[0] || s.read("bin/borgfleet-agent") != "" {
		t.Errorf("released %v", s.released)
	}
}

func TestNotTaken(t *testing.T) {
	s := newSite(t)
	_, err := s.convert(func(o *convert.Options) {
		o.Take = func(context.Context, string) (convert.Access, error) {
			return convert.Access{}, job.Fail(job.HostUnreachable, "host web1 is away").WithHint("wait")
		}
	})
	checkFailure(t, err, job.HostUnreachable, "away")
}

// TestTwiceAtOnce: the second one is refused.
func TestTwiceAtOnce(t *testing.T) {
	s := newSite(t)
	began, goOn := make(chan struct{}), make(chan struct{})
	var service *convert.Service
	ended := make(chan error)
	_, _ = s.convert(func(o *convert.Options) {
		take := o.Take
		o.Take = func(ctx context.Context, host string) (convert.Access, error) {
			close(began)
			<-goOn
			return take(ctx, host)
		}
		service = convert.New(*o)
		go func() {
			_, err := service.Convert(t.Context(), by, "web1")
			ended <- err
		}()
		<-began
		_, err := service.Convert(t.Context(), by, "web1")
		checkFailure(t, err, job.Conflict, "already")
		close(goOn)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		o.Take = func(context.Context, string) (convert.Access, error) { return convert.Access{}, errors.New("enough") }
	})
}

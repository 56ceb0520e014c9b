package convert

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// conversion is one try with one host.
type conversion struct {
	service *Service
	by      fleet.Actor
	host    fleet.HostView
	access  Access
	place   Place
	taken   time.Time // since then only its agent says that the host is there
	steps   []fleet.ConvertStep

	facts   map[string]string // what lookScript printed
	agent   []byte            // its binary
	token   string            // id of the one that was made
	cached  bool              // borg's cache was linked to
	began   bool              // the agent may run there
	pid     string            // of an agent that no service manager keeps
	settled bool              // the agent's binary is in its place
}

// convert goes through all steps. At the first fault it takes back what can be
// taken back.
func (c *conversion) convert(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"check", c.look}, {"copy", c.copy}, {"settings", c.settings}, {"memory", c.memory},
		{"enrol", c.enrol}, {"start", c.start}, {"hello", c.hello}, {"switch", c.change},
	} {
		detail, err := step.do(ctx)
		if err != nil {
			c.undo(context.WithoutCancel(ctx))
			return err
		}
		c.tell(step.name, detail)
	}
	return nil
}

func (c *conversion) tell(name, detail string) {
	c.steps = append(c.steps, fleet.ConvertStep{Name: name, Detail: detail})
	c.service.logger.Debug("step", "host", c.host.Name, "step", name, "detail", detail)
}

// run runs a script that must end with 0. What is being done completes the
// sentence "… on HOST".
func (c *conversion) run(ctx context.Context, doing, script string, input []byte, values ...string) (said, error) {
	values = append([]string{"binary", c.place.Binary, "config", c.place.Config, "data", c.place.Data}, values...)
	result, err := run(ctx, c.access.Shell, script, input, values...)
	if err == nil && result.code != 0 {
		err = job.Fail(job.RefusedByHost, "%s on %s went wrong: %s", doing, c.host.Name, result.last()).
			WithHint("mend that on %s, and convert it again; it stays a host without an agent until then", c.host.Name)
	}
	if _, ok := errors.AsType[*job.Failure](err); err != nil && !ok {
		err = fmt.Errorf("%s on %s: %w", doing, c.host.Name, err)
	}
	return result, err
}

// refused is a host that cannot have an agent as it is.
func (c *conversion) refused(format string, args ...any) *job.Failure {
	return job.Fail(job.RefusedByHost, "host %s cannot have an agent: %s", c.host.Name, fmt.Sprintf(format, args...))
}

// spare is how much more room than its binary an agent needs at first, in KiB.
const spare = 64 << 10

// look sees whether the host can have an agent, and finds the one for it.
func (c *conversion) look(ctx context.Context) (string, error) {
	if err := c.service.check(ctx, c.host); err != nil { // no order goes out any more: nothing new begins
		return "", err
	}
	found, err := c.run(ctx, "looking around", lookScript, nil, "borg", cmp.Or(c.reached().Borg, "borg"))
	if err != nil {
		return "", err
	}
	c.facts = map[string]string{}
	for line := range strings.Lines(found.out) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok {
			c.facts[name] = printable(value)
		}
	}
	switch {
	case c.facts["system"] != "Linux":
		return "", c.refused("it runs %s, and the agent is for Linux", cmp.Or(c.facts["system"], "an unknown system")).
			WithHint("leave it a host without an agent; it does the same jobs")
	case c.facts["uid"] != "0":
		return "", c.refused("we are not root there").
			WithHint("let the coordinator work as root: borgfleet host set %s --sudo, with sudo's leave to do so without a password", c.host.Name)
	case c.facts["running"] != "":
		return "", c.refused("an agent runs there already").
			WithHint("see whose it is (borgfleet-agent status); if it is not needed: systemctl disable --now borgfleet-agent")
	case c.facts["writable"] == "":
		return "", c.refused("%s cannot be written", filepath.Dir(c.place.Binary)).
			WithHint("its file system may be read-only; a host without an agent does the same jobs")
	}
	if err := c.find(); err != nil {
		return "", err
	}
	if free, err := strconv.ParseInt(c.facts["free"], 10, 64); err == nil && free < int64(len(c.agent)>>10)+spare {
		return "", job.Fail(job.DiskFull, "host %s has only %d MiB free for the agent", c.host.Name, free>>10).
			WithHint("make room for %d MiB below %s", len(c.agent)>>20+spare>>10, filepath.Dir(c.place.Binary))
	}
	return fmt.Sprintf("Linux on %s, as root, %s", c.facts["machine"], map[bool]string{true: "with systemd", false: "without systemd"}[c.systemd()]), nil
}

// reached is how the host is reached; never nil.
func (c *conversion) reached() fleet.SSHAccess {
	if c.host.SSH == nil {
		return fleet.SSHAccess{}
	}
	return *c.host.SSH
}

// systemd reports whether the agent becomes a service.
func (c *conversion) systemd() bool {
	return c.facts["systemd"] != "" && c.place.Config == usualPlace.Config
}

func (c *conversion) find() error {
	dirs := c.service.options.Agents
	if len(dirs) == 0 {
		own, err := ownDir()
		if err != nil {
			return fmt.Errorf("find the coordinator's own binary: %w", err)
		}
		dirs = own
	}
	path, err := findAgent(dirs, c.facts["machine"])
	if err != nil {
		return err
	}
	if c.agent, err = os.ReadFile(path); err != nil {
		return fmt.Errorf("read the agent's binary: %w", err)
	}
	return nil
}

var hexSum = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// copy brings the binary there. It is in its place only when it is known to be
// whole, and to run.
func (c *conversion) copy(ctx context.Context) (string, error) {
	want := sha256.Sum256(c.agent)
	result, err := c.run(ctx, "copying the agent", copyScript, c.agent)
	if err != nil {
		return "", err
	}
	got := hexSum.FindString(result.out)
	if got == "" { // nothing there computes it: read the file back
		sum := sha256.New()
		if _, err := c.access.Shell.Exec(ctx, "cat "+quote(c.place.Binary+".new"), nil, sum, new(tail)); err != nil {
			return "", err
		}
		got = hex.EncodeToString(sum.Sum(nil))
	}
	if got != hex.EncodeToString(want[:]) {
		return "", job.Fail(job.RefusedByHost, "the agent came to %s changed: its SHA-256 is %s there, and must be %x", c.host.Name, got, want).
			WithHint("look at the disk and the memory of %s, then try again; nothing was installed", c.host.Name)
	}
	result, err = c.run(ctx, "trying the agent", installScript, nil)
	if err != nil {
		return "", err
	}
	c.settled = true
	return fmt.Sprintf("%s is %s, SHA-256 %s", c.place.Binary, printable(strings.TrimSpace(result.out)), got), nil
}

// settings writes what an agent would else not know: it takes over how the
// coordinator has run borg there. A file that is there stays.
func (c *conversion) settings(ctx context.Context) (string, error) {
	if c.facts["config"] != "" {
		return c.place.Config + " was there already, and stays", nil
	}
	access := c.reached()
	var text bytes.Buffer
	text.WriteString("# What the borgfleet agent on this host does, and what it allows. Begun when the\n" +
		"# host got its agent over SSH; yours to change, above all the policy, which is\n" +
		"# what this host lets its coordinator ask for.\n")
	if borg := c.facts["borg"]; borg != "" && borg != "/usr/bin/borg" {
		fmt.Fprintf(&text, "borg:\n  binary: %s\n", inYAML(borg))
	}
	if access.Slots > 1 {
		fmt.Fprintf(&text, "slots: %d\n", access.Slots)
	}
	if access.Hooks != "" && access.Hooks != fleet.DefaultHooks {
		fmt.Fprintf(&text, "policy:\n  hooks: %s\n", inYAML(access.Hooks))
	}
	if _, err := c.run(ctx, "writing its settings", settingsScript, text.Bytes()); err != nil {
		return "", err
	}
	return c.place.Config + " says how borg is run, as the coordinator did", nil
}

// inYAML writes text as a quoted scalar: JSON is YAML.
func inYAML(text string) string {
	quoted, _ := json.Marshal(text) // a string can always be encoded
	return string(quoted)
}

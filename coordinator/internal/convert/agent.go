package convert

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	enrolTime = 2 * time.Minute
	lookEvery = 100 * time.Millisecond
	undoTime  = 20 * time.Second
	tokenTime = 10 * time.Minute
	maxCache  = 2 << 30 // bytes of borg's cache that are copied; a larger one is made anew sooner
)

// memory gives the agent what borg remembers.
func (c *conversion) memory(ctx context.Context) (string, error) {
	result, err := c.run(ctx, "copying what borg remembers", memoryScript, nil,
		"base", c.access.BaseDir, "id", c.access.HostID, "most", strconv.Itoa(maxCache>>10))
	if err != nil {
		return "", err
	}
	c.cached = strings.Contains(result.out, "cache")
	switch {
	case c.cached:
		return "borg has its keys, what it knows of repositories, and its cache", nil
	case strings.Contains(result.out, "keys"):
		return "borg has its keys, and what it knows of repositories; it makes its cache anew", nil
	default:
		return "borg had nothing to remember", nil
	}
}

// enrol makes the host known by its own keys. The token goes by standard input:
// it is in no command line.
func (c *conversion) enrol(ctx context.Context) (string, error) {
	token, command, err := c.service.options.Tokens.EnrolmentToken(ctx, c.by,
		fleet.NewEnrolmentToken{Host: c.host.Name, Lifetime: tokenTime, Replace: true})
	if err != nil {
		return "", err
	}
	c.token = token.ID
	state := ""
	if c.place.Data != usualPlace.Data {
		state = c.place.Data
	}
	ctx, cancel := context.WithTimeout(ctx, enrolTime)
	defer cancel()
	c.began = true
	result, err := run(ctx, c.access.Shell, enrolScript, command.Token.Reveal(),
		"binary", c.place.Binary, "config", c.place.Config, "state", state)
	if err != nil {
		return "", err
	}
	if result.code != 0 {
		return "", job.Fail(job.HostUnreachable, "the agent on %s could not enrol: %s", c.host.Name, result.last()).
			WithHint("its agent must reach the coordinator's bus at %s (bus.listen in coordinator.yaml); %s stays a host without an agent", command.URL, c.host.Name)
	}
	return "the host has keys of its own, and its agent is known by them", nil
}

// start starts the agent where enrolling has not made it a service.
func (c *conversion) start(ctx context.Context) (string, error) {
	if c.systemd() {
		return "the agent is a service of systemd, and starts with the host", nil
	}
	result, err := c.run(ctx, "starting the agent", startScript, nil)
	if err != nil {
		return "", err
	}
	if c.pid = strings.TrimSpace(result.out); c.pid == "" || strings.Trim(c.pid, "0123456789") != "" {
		said := result.last()
		c.pid = ""
		return "", job.Fail(job.RefusedByHost, "the agent on %s could not be started: %s", c.host.Name, said)
	}
	return fmt.Sprintf("the agent runs as process %s, and says what it does in %s; there is no systemd, so let the host start %q at boot",
		c.pid, filepath.Join(c.place.Data, "agent.log"), c.place.Binary+" run --config "+c.place.Config), nil
}

// hello waits until the agent has said so.
func (c *conversion) hello(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.service.options.Wait)
	defer cancel()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		view, err := c.service.options.Hosts.Host(ctx, c.host.Name)
		if err != nil {
			return "", err
		}
		if view.Online && view.Facts != nil && view.Facts.SeenAt.After(c.taken) {
			return fmt.Sprintf("the agent %s has said hello", printable(view.Facts.AgentVersion)), nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return "", c.silent(context.WithoutCancel(ctx))
		}
	}
}

// silent is an agent that does not say hello; its own words may say why.
func (c *conversion) silent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, undoTime)
	defer cancel()
	failure := job.Fail(job.HostUnreachable, "the agent on %s has not said hello within %s", c.host.Name, c.service.options.Wait).
		WithHint("look there with borgfleet-agent doctor; %s stays a host without an agent", c.host.Name)
	if result, err := c.run(ctx, "reading its log", wordsScript, nil, "pid", c.pid); err == nil && strings.TrimSpace(result.out) != "" {
		failure.Message += "; it said: " + printable(strings.Join(strings.Fields(result.out), " "))
	}
	return failure
}

// change makes it so.
func (c *conversion) change(ctx context.Context) (string, error) {
	if err := c.service.options.Hosts.ConvertHost(ctx, c.by, c.host.Name); err != nil {
		return "", err
	}
	detail := "the host has an agent now, with the same name, jobs and archives"
	if c.reached().PublicKey != "" {
		detail += "; remove the coordinator's key from authorized_keys of " + c.reached().Address
	}
	if c.access.BaseDir != "" {
		detail += "; what it had without an agent is still in " + filepath.Dir(c.access.BaseDir) + ", and is not needed any more"
	}
	return detail, nil
}

// undo takes back what would be in the way of a host without an agent, and says
// what stays. Errors change nothing: the conversion has failed.
func (c *conversion) undo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, undoTime)
	defer cancel()
	if c.token != "" { // spent or not, it is of no more use
		if err := c.service.options.Tokens.RemoveEnrolmentToken(ctx, c.by, c.token); err != nil {
			c.service.logger.Warn("remove enrolment token", "host", c.host.Name, "err", err)
		}
	}
	if c.facts == nil {
		return // nothing was changed there
	}
	flag := func(on bool) string { return map[bool]string{true: "yes"}[on] }
	_, err := c.run(ctx, "taking back", undoScript, nil,
		"cache", flag(c.cached), "pid", c.pid, "service", flag(c.began && c.systemd()))
	switch {
	case err != nil:
		c.tell("undo", fmt.Sprintf("could not be done: %s; if an agent runs on %s, stop it", err, c.host.Name))
	case c.began:
		c.tell("undo", fmt.Sprintf("%s and %s stay installed, and the agent does not run", c.place.Binary, c.place.Config))
	case c.settled:
		c.tell("undo", c.place.Binary+" stays installed; nothing runs")
	}
}

package cli

import (
	"errors"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type hostAdd struct {
	Name  string            `arg:"" help:"The new host's name: a-z, 0-9 and -."`
	Label map[string]string `help:"A label, as key=value; may be repeated." placeholder:"KEY=VALUE"`
	SSH   string            `name:"ssh" help:"The host has no agent: the coordinator connects to it, as this user." placeholder:"USER@HOST[:PORT]"`

	accessFlags `group:"For --ssh:"`
	OwnKey      bool `help:"Log in with a key of this host alone, which the coordinator makes." group:"For --ssh:"`
	Yes         bool `help:"Believe what key the host shows, without asking." short:"y" group:"For --ssh:"`
	Keep        bool `help:"Add it also if it cannot be reached now." group:"For --ssh:"`
}

// Help is the end of the command's help.
func (hostAdd) Help() string {
	return `Examples:

    borgfleet host add web1
    borgfleet host add legacy --ssh root@legacy.example.net
    borgfleet host add nas --ssh backup@nas:2222 --sudo --jump me@gate.example.net --reach tunnel

With --ssh the host needs nothing but sshd, a shell and borg. The key by which it proves itself is shown and asked for. Put the coordinator's public key (borgfleet host key) into ~/.ssh/authorized_keys of the user there, before or after. The host is then looked at; nothing is backed up from it before borg was found on it.`
}

// Run runs the command.
func (c hostAdd) Run(s *session) error {
	if err := job.CheckHostName("name", c.Name); err != nil {
		return err
	}
	if c.SSH != "" {
		return c.addSSH(s)
	}
	if c.given() || c.OwnKey || c.Yes || c.Keep {
		return console.Usage("how a host is reached is not said to one with an agent (add --ssh USER@HOST)")
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	added, err := api.AddHost(s.ctx, c.Name, c.Label)
	if err != nil {
		return err
	}
	return s.show(added, func() {
		s.printf("Added host %s. Let its agent in with: borgfleet host token %s\n", c.Name, c.Name)
	})
}

// addSSH adds a host that the coordinator connects to, and looks at it.
func (c hostAdd) addSSH(s *session) error {
	if err := checkAddresses(c.SSH, c.Jump); err != nil {
		return err
	}
	key, err := c.key(s)
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	pinner, err := c.pinner(s, api, c.Yes)
	if err != nil {
		return err
	}
	access, err := pinner.access(c.SSH, c.Jump)
	if err != nil {
		return err
	}
	c.set(&access)
	access.OwnKey = c.OwnKey || !key.Empty()
	asked := fleet.NewSSHHost{Name: c.Name, Labels: c.Label, SSHAccess: access, Key: key}
	put(&asked.Reach, c.Reach)
	added, err := api.AddSSHHost(s.ctx, asked)
	if err != nil {
		return err
	}
	return c.firstLook(s, api, added)
}

// unwanted reports whether a host that is new is not to stay because of a
// failure: a wrong address, or another server than was meant. One that does not
// let us in stays, as it may have to be told a key that was made just now.
func (c hostAdd) unwanted(failure *job.Failure) bool {
	return !c.Keep && (failure.Code == job.HostUnreachable || failure.Code == job.HostKeyChanged)
}

// firstLook looks at a host over SSH that is new, and says what is still to be
// done.
func (c hostAdd) firstLook(s *session, api *client.Client, added fleet.HostView) error {
	var checks []job.Finding
	submitted, err := api.VerifyHost(s.ctx, job.Request{Host: added.Name}, job.VerifySpec{})
	if err == nil {
		var done job.Job
		if done, err = s.await(api, submitted.ID); err == nil && done.Result != nil {
			checks = done.Result.Checks
		}
	}
	if failure, ok := errors.AsType[*job.Failure](err); ok && c.unwanted(failure) {
		failure.Message += "; host " + added.Name + " was not added"
		return errors.Join(failure, api.RemoveHost(s.ctx, added.Name))
	}
	if !s.globals.JSON {
		s.printf("Added host %s, which is reached over SSH at %s.\n", added.Name, added.SSH.Address)
	}
	host, readErr := api.Host(s.ctx, added.Name)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	if s.globals.JSON {
		return errors.Join(s.PrintJSON(host), err)
	}
	s.printChecks(checks)
	failure, refused := errors.AsType[*job.Failure](err)
	switch {
	case refused && failure.Code == job.PermissionDenied:
		s.printf("It does not let the coordinator in yet. Put this line into ~/.ssh/authorized_keys of the user there:\n\n%s\n\n", added.SSH.PublicKey)
		s.printf("Then: borgfleet host verify %s\n", added.Name)
	case err == nil && host.Disabled:
		s.printf("Nothing can be backed up from it yet: %s\n", missing(host))
		s.printf("Then: borgfleet host enable %s\n", added.Name)
	case err == nil:
		s.printf("It can be backed up: borgfleet backup --host %s --repo REPOSITORY PATH…\n", added.Name)
	}
	return err
}

// missing says why a host is switched off, and what to do about it.
func missing(host fleet.HostView) string {
	switch {
	case host.Facts == nil:
		return "it was never looked at"
	case host.Facts.BorgFailure == nil:
		return "it is switched off"
	case host.Facts.BorgFailure.Hint == "":
		return host.Facts.BorgFailure.Message
	default:
		return fmt.Sprintf("%s (%s)", host.Facts.BorgFailure.Message, host.Facts.BorgFailure.Hint)
	}
}

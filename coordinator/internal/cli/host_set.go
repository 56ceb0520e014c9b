package cli

import (
	"cmp"
	"maps"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type hostSet struct {
	Name string `arg:"" help:"The host's name."`
	SSH  string `name:"ssh" help:"Where it is reached over SSH now, and as which user." placeholder:"USER@HOST[:PORT]"`
	accessFlags
	Label  map[string]string `help:"Give it this label, as key=value; an empty value takes it away. May be repeated." placeholder:"KEY=VALUE"`
	Direct bool              `help:"There are no servers on the way any more."`
	Yes    bool              `help:"Believe what key the host shows, without asking." short:"y"`
}

// Help is the end of the command's help.
func (hostSet) Help() string {
	return `Examples:

    borgfleet host set legacy --host-key SHA256:…
    borgfleet host set legacy --ssh root@legacy2.example.net
    borgfleet host set nas --no-sudo --slots 2 --reach tunnel
    borgfleet host set web1 --label role=web --label old=

What is not given stays. With another address, or other servers on the way, the key by which the host proves itself is shown and asked for; with --host-key alone it is another one from now on. An empty value takes the default again: --borg=''.`
}

// Run runs the command.
func (c hostSet) Run(s *session) error {
	switch {
	case !c.given() && c.SSH == "" && !c.Direct && len(c.Label) == 0:
		return errNoChange()
	case c.Direct && len(c.Jump) > 0:
		return console.Usage("--direct and --jump exclude each other")
	}
	if err := checkAddresses(c.SSH, c.Jump); err != nil {
		return err
	}
	change := fleet.HostChange{Reach: c.Reach}
	var err error
	if change.Key, err = c.key(s); err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	host, err := api.Host(s.ctx, c.Name)
	if err != nil {
		return err
	}
	if moved := c.SSH != "" || len(c.Jump) > 0 || c.Direct || len(c.HostKey) > 0; moved || c.works() {
		if host.SSH == nil {
			return job.Fail(job.Conflict, "host %s is not reached over SSH", c.Name).WithHint("borgfleet host add NAME --ssh USER@HOST adds one that is")
		}
		pinner, err := c.pinner(s, api, c.Yes)
		if err != nil {
			return err
		}
		access, err := c.access(pinner, *host.SSH, moved)
		if err != nil {
			return err
		}
		change.SSH = &access
	}
	change.Labels = c.labels(host.Labels)
	changed, err := api.ChangeHost(s.ctx, c.Name, change)
	if err != nil {
		return err
	}
	return s.show(changed, func() {
		s.printf("Changed host %s. See whether all is well: borgfleet host verify %s\n", c.Name, c.Name)
	})
}

// labels are those of the host from now on; nil: as they are.
func (c hostSet) labels(known map[string]string) map[string]string {
	if len(c.Label) == 0 {
		return nil
	}
	labels := map[string]string{}
	maps.Copy(labels, known)
	for key, value := range c.Label {
		if labels[key] = value; value == "" {
			delete(labels, key)
		}
	}
	return labels
}

// access returns how the host is reached from now on; moved says that it has to
// prove itself again.
func (c hostSet) access(pinner *pinner, access fleet.SSHAccess, moved bool) (fleet.SSHAccess, error) {
	c.set(&access)
	access.Address = cmp.Or(c.SSH, access.Address)
	var err error
	if c.Direct {
		access.Jump = nil
	}
	if len(c.Jump) > 0 {
		if access.Jump, err = pinner.jumps(c.Jump); err != nil {
			return access, err
		}
	}
	if moved {
		access.HostKeys, err = pinner.host(access.Address, access.Jump)
	}
	return access, err
}

type hostEnable struct {
	Name string `arg:"" help:"The host's name."`
}

// Run runs the command.
func (c hostEnable) Run(s *session) error {
	return s.switchHost(c.Name, false, "Host %s is backed up again.\n")
}

type hostDisable struct {
	Name string `arg:"" help:"The host's name."`
}

// Run runs the command.
func (c hostDisable) Run(s *session) error {
	return s.switchHost(c.Name, true, "Nothing is backed up from host %s any more; all else still can be done.\n")
}

func (s *session) switchHost(name string, disabled bool, format string) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	changed, err := api.ChangeHost(s.ctx, name, fleet.HostChange{Disabled: &disabled})
	if err != nil {
		return err
	}
	return s.show(changed, func() { s.printf(format, name) })
}

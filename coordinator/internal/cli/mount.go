package cli

import (
	"path"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/config"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type archiveMount struct {
	Name      string          `arg:"" name:"repository" help:"The repository's name."`
	Archive   string          `arg:"" help:"The archive. Leave it out to mount all of them, each a directory."`
	Directory string          `arg:"" optional:"" help:"The directory on the host to mount it on: empty, or one to be made. Where the host allows it: by default below /var/restore/borgfleet."`
	Idle      config.Duration `help:"Unmount it when nobody has used it for this long, for example 2h. Default: ${default_idle}." placeholder:"TIME"`
	Watch     bool            `help:"Stay until it is unmounted; Ctrl-C leaves it mounted." short:"w"`
	byMaker
}

// Help is the end of the command's help.
func (archiveMount) Help() string {
	return `Examples:

    borgfleet archive mount main web1-2026-11-22T02:00:00 /var/restore/borgfleet/mnt
    borgfleet archive mount main /var/restore/borgfleet/mnt --host web1 --idle 2h
    borgfleet archive umount /var/restore/borgfleet/mnt

The command ends when the directory can be used, and leaves it mounted. While it is mounted, nothing can be written to the repository: backups wait.`
}

// Run runs the command.
func (c archiveMount) Run(s *session) error {
	at := place{host: c.Host, repository: c.Name, deadlines: c.deadlines}
	spec := job.MountSpec{Idle: int(time.Duration(c.Idle).Seconds())}
	if c.Directory == "" {
		spec.MountPoint = c.Archive
	} else {
		spec.Archive, spec.MountPoint, at.archives = c.Archive, c.Directory, []string{c.Archive}
	}
	api, request, err := s.prepare(at, spec)
	if err != nil {
		return err
	}
	submitted, err := api.SubmitJob(s.ctx, request)
	if err != nil {
		return err
	}
	mounted, err := s.awaitThat(api, submitted.ID, job.Job.Mounted)
	if err != nil {
		return err
	}
	if mounted.State.Terminal() {
		return s.finish(mounted)
	}
	if c.Watch {
		s.printMounted(mounted)
		return s.watch(api, submitted.ID)
	}
	return s.show(mounted, func() { s.printMounted(mounted) })
}

func (s *session) printMounted(j job.Job) {
	spec, _ := j.Spec.(job.MountSpec)
	what := j.Repository
	if spec.Archive != "" {
		what = spec.Archive + " of " + what
	}
	idle := job.DefaultIdle
	if spec.Idle > 0 {
		idle = time.Duration(spec.Idle) * time.Second
	}
	if s.globals.JSON {
		return
	}
	s.printf("%s is mounted on %s at %s\n", console.Printable(what), j.Host, console.Printable(spec.MountPoint))
	s.printf("  until nobody has used it for %s, or: %s\n", human.Duration(idle), umounting(j))
}

// umounting is the command that ends a mount.
func umounting(j job.Job) string {
	spec, _ := j.Spec.(job.MountSpec)
	return commandLine("borgfleet", "archive", "umount", spec.MountPoint, "--host", j.Host)
}

type archiveUmount struct {
	Directory string `arg:"" help:"The directory on the host that it is mounted on."`
	Host      string `help:"The host that it is mounted on. Default: the one whose mount is known here, or the only one there is." placeholder:"HOST"`
	Force     bool   `help:"Also while it is in use."`
	deadlines
}

// Help is the end of the command's help.
func (archiveUmount) Help() string {
	return `Examples:

    borgfleet archive umount /var/restore/borgfleet/mnt
    borgfleet archive umount /var/restore/borgfleet/mnt --host web1 --force

What is in use stays mounted, and the command fails, unless you add --force: programs that are in it then get errors. Only what borg has mounted is unmounted.`
}

// Run runs the command.
func (c archiveUmount) Run(s *session) error {
	at := place{host: c.Host, deadlines: c.deadlines}
	spec := job.UmountSpec{MountPoint: c.Directory, Force: c.Force}
	if err := spec.Validate(); err != nil {
		return err
	}
	if at.host == "" {
		api, err := s.connect()
		if err != nil {
			return err
		}
		if at.host, err = s.mountedOn(api, c.Directory); err != nil {
			return err
		}
	}
	return s.runAt(at, spec)
}

// mountedOn returns the one host that has something mounted on a directory;
// empty when none or several have.
func (s *session) mountedOn(api *client.Client, directory string) (host string, err error) {
	filter := job.Filter{Kind: job.Mount, State: job.Running, Limit: job.MaxPage}
	page, err := api.Jobs(s.ctx, filter)
	if err != nil {
		return "", err
	}
	for _, j := range page.Jobs {
		spec, ok := j.Spec.(job.MountSpec)
		if !ok || path.Clean(spec.MountPoint) != path.Clean(directory) {
			continue
		}
		if host != "" && host != j.Host {
			return "", nil
		}
		host = j.Host
	}
	return host, nil
}

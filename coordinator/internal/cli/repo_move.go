package cli

type repoMove struct {
	Name     string `arg:"" help:"The repository's name."`
	Location string `required:"" help:"Where it is now: absolute path on the host, or ssh://user@host:port/path." placeholder:"LOCATION"`
}

// Help is the end of the command's help.
func (repoMove) Help() string {
	return `Move the repository's directory first; this moves nothing on any disk. The passphrase, and what is known of the repository, stay. Each host's borg then asks whether that is right, since another repository could be in its place: look at it, and say so with borgfleet host verify HOST --repo NAME --accept-moved.`
}

// Run runs the command.
func (c repoMove) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	view, err := api.MoveRepository(s.ctx, c.Name, c.Location)
	if err != nil {
		return err
	}
	return s.show(view, func() {
		s.printf("Repository %s is at %s now. On each host that uses it: borgfleet host verify HOST --repo %s --accept-moved\n", c.Name, c.Location, c.Name)
	})
}

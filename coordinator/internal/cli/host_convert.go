package cli

import "fmt"

type hostConvert struct {
	Name string `arg:"" help:"The host's name."`
	Yes  bool   `help:"Do not ask whether you are sure." short:"y"`
}

// Help is the end of the command's help.
func (hostConvert) Help() string {
	return `Installs the agent on a host that is reached over SSH, over that connection, and enrols it. It takes up to five minutes, and root's rights there. The host's history, labels and repositories stay. If it does not work, the host is reached over SSH as before.`
}

// Run runs the command.
func (c hostConvert) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if !c.Yes {
		err := s.confirm(fmt.Sprintf("Install the agent on host %s, and forget how it is reached over SSH? [y/N] ", c.Name),
			"this installs the agent on the host, and forgets how it is reached over SSH (add --yes if you are sure)")
		if err != nil {
			return err
		}
	}
	done, err := api.ConvertHost(s.ctx, c.Name)
	if err != nil {
		return err
	}
	err = s.show(done, func() {
		t := newFacts(s.Out)
		for _, step := range done.Steps {
			t.row(step.Name, step.Detail)
		}
		t.end()
		if done.Failure == nil {
			s.printf("Host %s has an agent now.\n", c.Name)
		}
	})
	if err == nil && done.Failure != nil {
		return done.Failure
	}
	return err
}

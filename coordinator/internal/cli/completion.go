package cli

import "github.com/borgfleet/borgfleet/shared/console"

type completionCommand struct{ console.Completion }

// Help is the end of the command's help.
func (completionCommand) Help() string {
	return `Put it where your shell looks:

    borgfleet completion bash > /etc/bash_completion.d/borgfleet
    echo 'source <(borgfleet completion zsh)' >> ~/.zshrc
    borgfleet completion fish > ~/.config/fish/completions/borgfleet.fish`
}

// Run prints a script that completes commands and flags from the grammar.
func (c completionCommand) Run(s *session) error {
	s.printf("%s", c.Script(s.kong))
	return nil
}

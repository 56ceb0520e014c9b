package cli

import (
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/secret"
)

type passwdCommand struct {
	OldFile string `help:"Take the present password from this file. Default: ask." type:"path" placeholder:"FILE"`
	NewFile string `help:"Take the new password from this file. Default: ask." type:"path" placeholder:"FILE"`
}

// Help is the end of the command's help.
func (passwdCommand) Help() string {
	return `It ends every session and login of yours, everywhere; this one is made anew. A password that is lost is replaced with a link: borgfleet user link NAME.`
}

// Run runs the command.
func (c passwdCommand) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	me, err := api.WhoAmI(s.ctx)
	if err != nil {
		return err
	}
	name, person := fleet.UserOf(me.Name)
	if !person || me.Name == fleet.Local {
		return console.Usage("%s has no password (sign in as a person first: borgfleet login URL)", me.Name)
	}
	old, fresh, err := c.passwords(s, name)
	if err != nil {
		return err
	}
	if err := api.ChangePassword(s.ctx, old, fresh); err != nil {
		return err
	}
	if err := renewLogin(s, api, name, fresh); err != nil {
		return fmt.Errorf("the password is changed, but you are signed out: %w", err)
	}
	return s.show(map[string]string{"changed": name}, func() { s.printf("The password of %s is changed.\n", name) })
}

func (c passwdCommand) passwords(s *session, name string) (old, fresh secret.Value, err error) {
	if old, err = s.secret(c.OldFile, "Present password of "+name+": ", "old"); err != nil {
		return old, fresh, err
	}
	if c.NewFile != "" {
		fresh, err = secret.ReadFile(c.NewFile)
		return old, fresh, err
	}
	terminal, ok := s.terminal()
	if !ok {
		return old, fresh, console.Usage("a new password is needed (use --new-file FILE)")
	}
	fresh, err = s.twice(terminal, "New password: ")
	return old, fresh, err
}

// renewLogin replaces the login that ended with the old password, if it is what
// is stored.
func renewLogin(s *session, api *client.Client, name string, password secret.Value) error {
	stored, ok, err := readLogin()
	if err != nil || !ok || stored.URL != api.URL() {
		return err
	}
	answer, err := api.Login(s.ctx, name, password, "login from "+hostname())
	if err != nil {
		return err
	}
	stored.Token = string(answer.Token.Reveal())
	_, err = stored.write()
	return err
}

package cli

import (
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/console"
)

type userCommands struct {
	List   userList   `cmd:"" help:"List the people who may sign in."`
	Add    userAdd    `cmd:"" help:"Invite a person: prints a one-time link to choose a password."`
	Role   userRole   `cmd:"" help:"Give a person another role."`
	Link   userLink   `cmd:"" help:"Print a new one-time link, for a forgotten password."`
	Remove userRemove `cmd:"" help:"Remove a person, with all sessions and logins."`
}

type userList struct{}

// Run runs the command.
func (userList) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	users, err := api.Users(s.ctx)
	if err != nil {
		return err
	}
	return s.show(users, func() {
		if len(users) == 0 {
			s.printf("Nobody yet. Invite somebody with: borgfleet user add NAME --role admin\n")
			return
		}
		now := time.Now()
		t := newTable(s.Out, "NAME", "ROLE", "LAST LOGIN", "ADDED", "BY")
		for _, u := range users {
			t.row(u.Name, string(u.Role), lastLogin(u, now), human.Ago(u.CreatedAt, now), orNone(u.CreatedBy))
		}
		t.end()
	})
}

func lastLogin(u fleet.User, now time.Time) string {
	switch {
	case !u.HasPassword:
		return "invited"
	case u.LastLogin == nil:
		return "never"
	default:
		return human.Ago(*u.LastLogin, now)
	}
}

// named is a person, and what may be given to one.
type named struct {
	Name string `arg:"" help:"The person's name: a-z, 0-9 and . _ -, beginning with a letter."`
}

// given is a role.
type given struct {
	Role bus.Role `required:"" help:"viewer reads; operator also runs and cancels jobs; admin also changes hosts, repositories and people." enum:"viewer,operator,admin" placeholder:"ROLE"`
}

type userAdd struct {
	named
	given
}

// Run runs the command.
func (c userAdd) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	added, err := api.AddUser(s.ctx, c.Name, c.Role)
	if err != nil {
		return err
	}
	return s.show(added, func() { s.printLink(c.Name, added.SetupURL, added.SetupExpiresAt) })
}

func (s *session) printLink(name, link string, expires time.Time) {
	s.printf("With this link %s chooses a password, once, until %s:\n%s\n", name, expires.Local().Format(time.DateTime), link)
}

type userRole struct {
	named
	given
}

// Run runs the command.
func (c userRole) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	changed, err := api.SetRole(s.ctx, c.Name, c.Role)
	if err != nil {
		return err
	}
	return s.show(changed, func() { s.printf("%s is %s now.\n", c.Name, c.Role) })
}

type userLink struct{ named }

// Run runs the command.
func (c userLink) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	link, err := api.NewUserLink(s.ctx, c.Name)
	if err != nil {
		return err
	}
	return s.show(link, func() { s.printLink(c.Name, link.SetupURL, link.SetupExpiresAt) })
}

type userRemove struct{ named }

// Run runs the command.
func (c userRemove) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if err := api.RemoveUser(s.ctx, c.Name); err != nil {
		return err
	}
	return s.show(map[string]string{"removed": c.Name}, func() { s.printf("%s is removed, and signed out everywhere.\n", c.Name) })
}

type tokenCommands struct {
	List   tokenList   `cmd:"" help:"List API tokens."`
	Add    tokenAdd    `cmd:"" help:"Make a token for a program, and print it this once."`
	Remove tokenRemove `cmd:"" help:"End a token, named by its id."`
}

type tokenList struct{}

// Run runs the command.
func (tokenList) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	tokens, err := api.Tokens(s.ctx)
	if err != nil {
		return err
	}
	return s.show(tokens, func() {
		if len(tokens) == 0 {
			s.printf("No tokens. Make one with: borgfleet token add NAME --role viewer\n")
			return
		}
		now := time.Now()
		t := newTable(s.Out, "ID", "NAME", "ROLE", "EXPIRES", "LAST USED", "BY")
		for _, token := range tokens {
			used := "never"
			if token.LastUsed != nil {
				used = human.Ago(*token.LastUsed, now)
			}
			t.row(token.ID, token.Name, string(token.Role), date(token.ExpiresAt), used, orNone(token.CreatedBy))
		}
		t.end()
	})
}

func date(at time.Time) string { return at.Local().Format("2006-01-02 15:04") }

type tokenAdd struct {
	Name string `arg:"" help:"What it is for; it is shown in the audit."`
	given
	Expires days `help:"How long it lives, for example 12h or 90d; at most ${max_token_days}d. Default: ${default}." default:"90d" placeholder:"TIME"`
}

// Run runs the command. Only the token goes to standard output.
func (c tokenAdd) Run(s *session) error {
	if err := c.Expires.check(maxTokenDays); err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	added, err := api.AddToken(s.ctx, fleet.NewAPIToken{Name: c.Name, Role: c.Role, Lifetime: time.Duration(c.Expires)})
	if err != nil {
		return err
	}
	if s.globals.JSON {
		return s.PrintJSON(struct {
			fleet.APIToken
			Token string `json:"token"`
		}{added.APIToken, string(added.Token.Reveal())})
	}
	fmt.Fprintf(s.Err, "Token %s (%s) works until %s. It is shown this once; give it as BORGFLEET_TOKEN, or as a bearer token:\n", c.Name, c.Role, date(added.ExpiresAt))
	s.printf("%s\n", added.Token.Reveal())
	return nil
}

type tokenRemove struct {
	ID string `arg:"" help:"The token's id, as token list shows it."`
}

// Run runs the command.
func (c tokenRemove) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if err := api.RemoveToken(s.ctx, c.ID); err != nil {
		return err
	}
	return s.show(map[string]string{"removed": c.ID}, func() { s.printf("The token does not work any more.\n") })
}

type natsCreds struct {
	Name   string   `arg:"" optional:"" help:"Whose they are; left out: list all that were given out."`
	Role   bus.Role `help:"viewer, operator or admin." enum:",viewer,operator,admin" default:"" placeholder:"ROLE"`
	Output string   `help:"Write them to this new file (0600) instead of standard output." type:"path" placeholder:"FILE" short:"o"`
	Revoke bool     `help:"End all that were made under this name, at once."`
}

// Help is the end of the command's help.
func (natsCreds) Help() string {
	return `Prints a .creds file for the plain NATS client:

    borgfleet nats-creds alice --role operator -o alice.creds
    nats --creds alice.creds --tlsca ca.pem --server tls://backup.example.net:4222 sub 'borgfleet.v1.>'

ca.pem is a file in the coordinator's data directory; it is not needed where the coordinator has a certificate that everybody trusts.`
}

// Run runs the command.
func (c natsCreds) Run(s *session) error {
	if err := c.check(); err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	switch {
	case c.Name == "":
		credentials, err := api.NATSCredentials(s.ctx)
		if err != nil {
			return err
		}
		return s.show(credentials, func() { s.printCredentials(credentials) })
	case c.Revoke:
		if err := api.RevokeNATSCredentials(s.ctx, c.Name); err != nil {
			return err
		}
		return s.show(map[string]string{"revoked": c.Name}, func() { s.printf("The credentials of %s do not work any more.\n", c.Name) })
	case c.Output != "":
		return c.mintInto(s, api)
	}
	made, err := api.MintNATSCredentials(s.ctx, c.Name, c.Role)
	if err != nil {
		return err
	}
	text := string(made.Credentials.Reveal())
	return s.show(struct {
		fleet.NATSCredentials
		Credentials string `json:"credentials"`
	}{made.NATSCredentials, text}, func() { s.printf("%s", text) })
}

func (c natsCreds) check() error {
	switch {
	case c.Name == "" && (c.Role != "" || c.Output != "" || c.Revoke):
		return console.Usage("whose credentials? (give a NAME)")
	case c.Revoke && (c.Role != "" || c.Output != ""):
		return console.Usage("--revoke ends credentials, --role and --output make some: give one or the other")
	case c.Name != "" && !c.Revoke && c.Role == "":
		return console.Usage("--role viewer, operator or admin is needed")
	}
	return nil
}

func (c natsCreds) mintInto(s *session, api *client.Client) error {
	file, err := newFile(c.Output)
	if err != nil {
		return err
	}
	defer file.Cleanup() // of what was not finished
	made, err := api.MintNATSCredentials(s.ctx, c.Name, c.Role)
	if err != nil {
		return err
	}
	if err := finish(file, made.Credentials.Reveal()); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	return s.show(made.NATSCredentials, func() { s.printf("Credentials of %s (%s) are in %s.\n", c.Name, c.Role, c.Output) })
}

func (s *session) printCredentials(credentials []fleet.NATSCredentials) {
	if len(credentials) == 0 {
		s.printf("None were given out. Make some with: borgfleet nats-creds NAME --role viewer\n")
		return
	}
	now := time.Now()
	t := newTable(s.Out, "NAME", "ROLE", "MADE", "BY", "STATE")
	for _, c := range credentials {
		state := "works"
		if c.RevokedAt != nil {
			state = "revoked " + human.Ago(*c.RevokedAt, now)
		}
		t.row(c.Name, string(c.Role), human.Ago(c.CreatedAt, now), orNone(c.CreatedBy), state)
	}
	t.end()
}

package cli

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// login is what the login command stores: one coordinator, and a token for it.
type login struct {
	URL   string `json:"url"`
	Token string `json:"token"`
	CA    string `json:"ca,omitempty"` // PEM of its authority; empty: the system's
}

// loginFile is where it is stored, for this user of this machine.
func loginFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the place for logins: %w", err)
	}
	return filepath.Join(dir, "borgfleet", "login.json"), nil
}

// readLogin returns what is stored; false when nobody has logged in.
func readLogin() (stored login, ok bool, err error) {
	path, err := loginFile()
	if err != nil {
		return stored, false, nil // no home directory: nothing can be stored
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return stored, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &stored)
	}
	if err != nil {
		return stored, false, fmt.Errorf("read %s: %w (borgfleet login makes it anew)", path, err)
	}
	return stored, true, nil
}

func (l login) write() (path string, err error) {
	if path, err = loginFile(); err != nil {
		return "", err
	}
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode login: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("store login: %w", err)
	}
	file, err := privateFile(path)
	if err != nil {
		return "", fmt.Errorf("store login: %w", err)
	}
	defer file.Cleanup() // of what was not finished
	if err := finish(file, append(data, '\n')); err != nil {
		return "", fmt.Errorf("store login: %w", err)
	}
	return path, nil
}

func (l login) options() client.Options {
	return client.Options{URL: l.URL, Token: l.Token, CA: []byte(l.CA)}
}

type loginCommand struct {
	URL          string `arg:"" name:"coordinator" help:"The coordinator, for example https://backup.example.net:8440."`
	User         string `help:"Who you are there. Default: your name on this machine." placeholder:"NAME"`
	PasswordFile string `help:"Take the password from this file; - is standard input. Default: ask." placeholder:"FILE"`
	CA           string `help:"Trust this authority (PEM), for example a copy of the coordinator's ca.pem." name:"ca" type:"path" placeholder:"FILE"`
	Fingerprint  string `help:"Trust the coordinator's own authority if it has this SHA-256 fingerprint." placeholder:"HEX"`
}

// Help is the end of the command's help.
func (loginCommand) Help() string {
	return `The coordinator gives a token that stands for you; it is kept in your configuration directory, readable by you only. The password is not kept.

Scripts do not log in: they set BORGFLEET_URL and BORGFLEET_TOKEN (borgfleet token add makes one).`
}

// Run runs the command.
func (c loginCommand) Run(s *session) error {
	api, ca, err := c.meet(s)
	if err != nil {
		return err
	}
	name, err := c.user()
	if err != nil {
		return err
	}
	password, err := s.secret(c.PasswordFile, "Password of "+name+": ", "password")
	if err != nil {
		return err
	}
	answer, err := api.Login(s.ctx, name, password, "login from "+hostname())
	if err != nil {
		return err
	}
	path, err := login{URL: api.URL(), Token: string(answer.Token.Reveal()), CA: string(ca)}.write()
	if err != nil {
		return err
	}
	if s.globals.Data != "" {
		fmt.Fprintf(s.Err, "The data directory %s is named (--data, BORGFLEET_DATA): its coordinator goes before this login.\n", s.globals.Data)
	}
	shown := map[string]any{"name": answer.Name, "role": answer.Role, "url": api.URL(), "expires_at": answer.ExpiresAt, "file": path}
	return s.show(shown, func() {
		user, _ := fleet.UserOf(answer.Name)
		s.printf("You are %s (%s) at %s until %s.\n", user, answer.Role, api.URL(), date(answer.ExpiresAt))
	})
}

// meet makes sure, before there is talk of passwords, that a coordinator is
// there and that it is the right one. It also returns what to trust: nil means
// what this machine trusts anyhow.
func (c loginCommand) meet(s *session) (*client.Client, []byte, error) {
	ca, err := c.authority(s)
	if err != nil {
		return nil, nil, err
	}
	api, err := client.New(client.Options{URL: c.URL, CA: ca})
	if err != nil {
		return nil, nil, err
	}
	_, err = api.WhoAmI(s.ctx)
	if isStranger(err) { // as it should be
		err = nil
	}
	return api, ca, err
}

// isStranger reports whether the coordinator said that it does not know us.
func isStranger(err error) bool {
	failure, ok := errors.AsType[*job.Failure](err)
	return ok && failure.Code == job.NotAuthenticated
}

func (c loginCommand) authority(s *session) ([]byte, error) {
	switch {
	case c.CA != "" && c.Fingerprint != "":
		return nil, console.Usage("--ca and --fingerprint exclude each other")
	case c.CA != "":
		data, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("read --ca: %w", err)
		}
		return data, nil
	case c.Fingerprint != "":
		return c.pinned(s)
	}
	shown, err := shownAuthority(s.ctx, c.URL)
	if err != nil || shown.known {
		return nil, nil // trusted; faults are found, and told, by the client
	}
	if !shown.signs() {
		return nil, job.Fail(job.NotAllowed, "%s does not send the certificate of its authority, which this machine does not know", c.URL).
			WithHint("give the authority with --ca FILE")
	}
	return shown.pem(), s.confirm(
		fmt.Sprintf("The certificate of %s is from an authority that this machine does not know.\nIts SHA-256 fingerprint: %s\nThe coordinator logs the right one at its start, as ca_fingerprint. Trust it? [y/N] ", c.URL, shown.fingerprint()),
		"the certificate of "+c.URL+" is from an authority that this machine does not know (give --fingerprint, as the coordinator logs it at its start, or --ca FILE)")
}

// pinned returns the authority if it has the fingerprint that was given, be it
// one that this machine trusts anyhow or not.
func (c loginCommand) pinned(s *session) ([]byte, error) {
	wanted, err := hex.DecodeString(strings.ReplaceAll(c.Fingerprint, ":", ""))
	if err != nil || len(wanted) != sha256.Size {
		return nil, console.Usage("--fingerprint is not a SHA-256 fingerprint (64 of 0-9 and a-f, as the coordinator logs it at its start)")
	}
	if !strings.HasPrefix(c.URL, "https://") {
		return nil, console.Usage("--fingerprint is of a certificate, and %s is not https", c.URL)
	}
	shown, err := shownAuthority(s.ctx, c.URL)
	if err != nil {
		return nil, err
	}
	if shown.fingerprint() != hex.EncodeToString(wanted) {
		return nil, job.Fail(job.NotAllowed, "the authority of %s has another fingerprint: %s (nothing was sent to it)", c.URL, shown.fingerprint())
	}
	return shown.pem(), nil
}

func (c loginCommand) user() (string, error) {
	if c.User != "" {
		return c.User, nil
	}
	me, err := user.Current()
	if err != nil {
		return "", console.Usage("who are you? (give --user NAME)")
	}
	return me.Username, nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "somewhere"
	}
	return name
}

type logoutCommand struct{}

// Run runs the command: the token ends, there and here.
func (logoutCommand) Run(s *session) error {
	stored, ok, err := readLogin()
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("you are not logged in anywhere")
	}
	path, err := loginFile()
	if err != nil {
		return err
	}
	api, err := client.New(stored.options())
	if err != nil {
		return err
	}
	ended := api.Logout(s.ctx)
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("forget login: %w", err)
	}
	if ended != nil && !isStranger(ended) { // else it was over already
		return fmt.Errorf("the token is forgotten here, but may still work at %s: %w", stored.URL, ended)
	}
	return s.show(map[string]string{"logged_out": stored.URL}, func() { s.printf("Logged out of %s.\n", stored.URL) })
}

type whoamiCommand struct{}

// Run runs the command.
func (whoamiCommand) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	me, err := api.WhoAmI(s.ctx)
	if err != nil {
		return err
	}
	return s.show(me, func() { s.printf("%s (%s) at %s\n", me.Name, me.Role, api.URL()) })
}

// secret reads from a file, from standard input, or asks once at the terminal.
func (s *session) secret(file, question, what string) (secret.Value, error) {
	switch {
	case file == "-":
		value, err := secret.Read(s.In)
		if err != nil {
			return value, fmt.Errorf("read %s from standard input: %w", what, err)
		}
		return value, nil
	case file != "":
		return secret.ReadFile(file)
	}
	terminal, ok := s.terminal()
	if !ok {
		return secret.Value{}, console.Usage("a %s is needed (use --%s-file FILE, or --%s-file - for standard input)", what, what, what)
	}
	return s.prompt(terminal, cmp.Or(question, what+": "))
}

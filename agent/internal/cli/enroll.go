package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/borgfleet/borgfleet/agent/internal/config"
	"github.com/borgfleet/borgfleet/agent/internal/identity"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/probe"
)

type enrollCommand struct {
	URL        string `help:"Address of the bus. Default: the one in the token." name:"url" placeholder:"URL"`
	Token      string `help:"What \"borgfleet host token\" printed; - reads it from standard input." required:"" placeholder:"TOKEN"`
	Config     string `help:"Configuration file to make or change. Default: ${default_config}." type:"path" placeholder:"FILE"`
	Data       string `help:"State directory. Default: ${default_data}." type:"path" placeholder:"DIR"`
	Foreground bool   `help:"Go on as the agent, in the foreground." name:"run"`
	NoService  bool   `help:"Leave systemd alone."`
}

// Run enrols this host, says whether all is well, and starts the agent.
func (c enrollCommand) Run(s *session) error {
	token, err := c.token(s.In)
	if err != nil {
		return err
	}
	file := c.Config
	if file == "" {
		file = config.DefaultFile
	}
	present, text, err := c.present(file)
	if err != nil {
		return err
	}
	host, says := present.Host, file
	if host == "" { // the credentials beside it would be overwritten
		host, says = identity.Owner(filepath.Dir(file))
	}
	enrolled, err := identity.Enrol(s.ctx, identity.Enrolment{
		URL: c.URL, Token: token, Host: host, Data: present.Data, Dir: filepath.Dir(file),
		AgentVersion: build.Current().Version, OS: probe.OS(),
	})
	if err != nil {
		return anotherHost(err, host, says)
	}
	configuration, err := c.write(file, text, enrolled)
	if err != nil {
		return err
	}
	if err := enrolled.Finish(); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "This is now host %s of the coordinator at %s.\n\n", enrolled.Host, enrolled.URLs[0])
	connected := tryBus(configuration)
	checks := append(checkHost(s.ctx, configuration), connected...)
	if err := printChecks(s, append(checks, checkClock(enrolled.Skew))); err != nil {
		return err
	}
	if connected[0].State == "failed" {
		return console.Exit{Code: console.ExitUnreachable}
	}
	return c.begin(s, file)
}

func (c enrollCommand) token(in io.Reader) (bus.EnrolmentToken, error) {
	text := c.Token
	if text == "-" {
		data, err := io.ReadAll(io.LimitReader(in, 4096))
		if err != nil {
			return bus.EnrolmentToken{}, fmt.Errorf("read token: %w", err)
		}
		text = string(data)
	}
	return bus.ParseEnrolmentToken(text)
}

// present returns what the configuration file says already, and its text. It
// may be missing.
func (c enrollCommand) present(file string) (config.Config, []byte, error) {
	present := config.Default()
	text, err := os.ReadFile(file)
	if err == nil {
		present, err = config.Load(file)
		if err != nil {
			return present, nil, console.Usage("%w", err)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return present, nil, job.Fail(job.PermissionDenied, "read %s: %s", file, err).WithHint("run this as root")
	}
	if c.Data != "" {
		present.Data = c.Data
	}
	present.Data, err = filepath.Abs(present.Data)
	return present, text, err
}

// anotherHost adds what to do when the file belongs to another host than the
// token.
func anotherHost(err error, host, file string) error {
	failure, ok := errors.AsType[*job.Failure](err)
	if ok && failure.Code == job.Conflict && host != "" && failure.Hint == "" {
		return failure.WithHint("%s is of host %s: make a token for that, or enrol with --config in another directory; nothing was changed", file, host)
	}
	return err
}

// write puts the identity into the configuration file, and returns what it
// says then.
func (c enrollCommand) write(file string, text []byte, enrolled identity.Enrolled) (config.Config, error) {
	patch := config.Patch{Host: enrolled.Host, Bus: config.Bus{
		URLs: enrolled.URLs, CredentialsFile: enrolled.Files.Credentials, SignerFile: enrolled.Files.Signer, CAFile: enrolled.Files.CA,
	}}
	if c.Data != "" {
		patch.Data = c.Data
	}
	changed, err := patch.Apply(text)
	if err != nil {
		return config.Config{}, err
	}
	if !bytes.Equal(changed, text) {
		if err := identity.WriteFile(file, changed, 0o600); err != nil {
			return config.Config{}, err
		}
	}
	return settings{Config: file}.load()
}

// begin starts the agent: here, as a service, or by telling how.
func (c enrollCommand) begin(s *session, file string) error {
	if c.Foreground {
		return runCommand{settings{Config: file}}.Run(s)
	}
	if !c.NoService && file == config.DefaultFile && systemd.available() {
		fmt.Fprintln(s.Out)
		return systemd.start(s.ctx, s.Out)
	}
	command := "borgfleet-agent run"
	if file != config.DefaultFile {
		command += " --config " + file
	}
	_, err := fmt.Fprintf(s.Out, "\nStart the agent with:\n  %s\n", command)
	return err
}

package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/coordinator/internal/manifest"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/secret"
)

type applyCommand struct {
	File    string   `short:"f" required:"" help:"The file, fleet.yaml; - is standard input." placeholder:"FILE"`
	DryRun  bool     `help:"Only show what would be changed."`
	Prune   bool     `help:"Remove what the file's sections do not name. Data in repositories is never touched."`
	Yes     bool     `short:"y" help:"Do not ask whether to make the changes."`
	HostKey []string `help:"The key by which a host over SSH proves itself: its fingerprint SHA256:…, or a file with the public key; may be repeated. Default: the key is shown, and you are asked." placeholder:"KEY" sep:"none"`
	Believe bool     `name:"believe-host-keys" help:"Believe what keys such hosts show, without asking."`
}

// Help is the end of the command's help.
func (applyCommand) Help() string {
	return `Examples:

    borgfleet apply -f fleet.yaml --dry-run
    borgfleet apply -f fleet.yaml
    borgfleet export > fleet.yaml

The whole file is looked at first; what is wrong with it is told at once, and then nothing is changed. Files with secrets that it names (passphrase_file, identity_file, url_file, secret_file) are read here, where the command runs, and sent once; a path that is not absolute is looked for beside the file. They must be readable by nobody else.`
}

// Run runs the command.
func (c applyCommand) Run(s *session) error {
	text, err := c.read(s)
	if err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	asked := fleet.Manifest{Text: text, DryRun: true, Prune: c.Prune}
	outcome, err := api.Apply(s.ctx, asked)
	if err != nil {
		return c.faults(s, err)
	}
	if err := onlyNamed(text, outcome.Needs); err != nil {
		return err
	}
	if c.DryRun || len(outcome.Changes) == 0 {
		return s.show(outcome, func() { tellChanges(s.Out, outcome, c.DryRun) })
	}
	if !s.globals.JSON {
		tellChanges(s.Out, outcome, true)
	}
	if !c.Yes {
		if c.File == "-" {
			return console.Usage("the file came by standard input, where nobody can be asked (add --yes to make the changes)")
		}
		if err := s.confirm("Make these changes? [y/N] ", "nobody is here to say whether to make the changes (add --yes, or --dry-run to only see them)"); err != nil {
			return err
		}
	}
	if err := c.complete(s, api, &asked, outcome); err != nil {
		return err
	}
	asked.DryRun = false
	if outcome, err = api.Apply(s.ctx, asked); err != nil {
		return c.faults(s, err)
	}
	return s.show(outcome, func() { s.printf("Done.\n") })
}

func (c applyCommand) read(s *session) (string, error) {
	if c.File == "-" {
		text, err := io.ReadAll(s.In)
		return string(text), err
	}
	text, err := os.ReadFile(c.File)
	return string(text), err // it names the file
}

// onlyNamed refuses a coordinator that asks for files which the text does not name.
func onlyNamed(text string, needs []string) error {
	if len(needs) == 0 {
		return nil
	}
	files, err := manifest.Files(text)
	if err != nil {
		return err
	}
	for _, path := range needs {
		if !slices.Contains(files, path) {
			return fmt.Errorf("the coordinator asks for %q, which the file does not name: nothing was read or sent", path)
		}
	}
	return nil
}

// complete adds what the file asks for: secrets, and keys of servers.
func (c applyCommand) complete(s *session, api *client.Client, asked *fleet.Manifest, outcome fleet.ManifestOutcome) error {
	asked.Secrets, asked.HostKeys = map[string]secret.Value{}, map[string][]string{}
	var faults []error
	for _, path := range outcome.Needs {
		place := path
		if !filepath.IsAbs(path) && c.File != "-" {
			place = filepath.Join(filepath.Dir(c.File), path)
		}
		value, err := secret.ReadFile(place)
		asked.Secrets[path] = value
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	pinner, err := accessFlags{HostKey: c.HostKey}.pinner(s, api, c.Believe)
	if err != nil {
		return err
	}
	for _, server := range outcome.Unknown {
		keys, err := c.pin(pinner, server, asked.HostKeys)
		if err != nil {
			return fmt.Errorf("host %s: %w", server.Host, err)
		}
		maps.Copy(asked.HostKeys, keys)
	}
	return nil
}

// pin finds out by which keys a host's servers prove themselves.
func (c applyCommand) pin(p *pinner, server fleet.UnknownServer, known map[string][]string) (map[string][]string, error) {
	found := map[string][]string{}
	keysOf := func(address string, jump []fleet.SSHHop) ([]string, error) {
		if keys := known[address]; len(keys) > 0 {
			return keys, nil
		}
		keys, err := p.scan(address, jump)
		found[address] = keys
		return keys, err
	}
	jump := []fleet.SSHHop{}
	for _, hop := range server.Jump {
		if len(hop.HostKeys) == 0 {
			keys, err := keysOf(hop.Address, jump)
			if err != nil {
				return nil, err
			}
			hop.HostKeys = keys
		}
		jump = append(jump, hop)
	}
	_, err := keysOf(server.Address, jump)
	return found, err
}

// faults prints all that is wrong with the file, each with its place.
func (c applyCommand) faults(s *session, err error) error {
	faulty, ok := errors.AsType[*fleet.ManifestError](err)
	if !ok {
		return err
	}
	name := c.File
	if name == "-" {
		name = "standard input"
	}
	if s.globals.JSON {
		if err := s.PrintJSON(map[string]any{"errors": faulty.Faults, "applied": false}); err != nil {
			return err
		}
	}
	for _, fault := range faulty.Faults {
		place := name
		if fault.Line > 0 {
			place = fmt.Sprintf("%s:%d:%d", name, fault.Line, fault.Column)
		}
		fault.Line = 0
		fmt.Fprintf(s.Err, "%s: %s\n", place, console.Printable(fault.String()))
	}
	return fmt.Errorf("%s in %s: nothing was changed", human.Plural(len(faulty.Faults), "fault"), name)
}

// marks are how actions are shown.
var marks = map[string]string{"add": "+", "change": "~", "remove": "-"}

// tellChanges prints a difference. Would says that nothing was changed yet.
func tellChanges(to io.Writer, outcome fleet.ManifestOutcome, would bool) {
	if len(outcome.Changes) == 0 {
		fmt.Fprintln(to, "Nothing to change.")
		return
	}
	count, forgotten := map[string]int{}, false
	for _, change := range outcome.Changes {
		count[change.Action]++
		forgotten = forgotten || change.Action == "remove" && strings.HasPrefix(change.Object, "repository/")
		fmt.Fprintf(to, "%s %s\n", marks[change.Action], console.Printable(change.Object))
		for _, field := range change.Fields {
			fmt.Fprintf(to, "      %s\n", console.Printable(field))
		}
	}
	var parts []string
	for _, action := range []string{"add", "change", "remove"} {
		if count[action] > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", count[action], action))
		}
	}
	if would {
		fmt.Fprintf(to, "%s: %s.\n", human.Plural(len(outcome.Changes), "change"), strings.Join(parts, ", "))
	}
	if would && len(outcome.Needs) > 0 {
		fmt.Fprintln(to, "Files with secrets that are read here, and sent:")
		for _, path := range outcome.Needs {
			fmt.Fprintf(to, "      %s\n", console.Printable(path))
		}
	}
	if forgotten {
		fmt.Fprintln(to, "Repositories that are removed are only forgotten here: their data stays.")
	}
}

type exportCommand struct{}

// Help is the end of the command's help.
func (exportCommand) Help() string {
	return `Secrets are not in it, only the files that they came from: what was typed in elsewhere has to be named (passphrase_file, url_file) before the file is applied to another coordinator.`
}

// Run runs the command.
func (exportCommand) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	text, err := api.Export(s.ctx)
	if err != nil {
		return err
	}
	return s.show(map[string]string{"manifest": text}, func() { s.printf("%s", text) })
}

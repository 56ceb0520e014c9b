package cli

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/borgfleet/borgfleet/coordinator/internal/borgmatic"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/coordinator/internal/manifest"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

type importCommands struct {
	Borgmatic importBorgmatic `cmd:"" help:"Make a file for apply of configurations of borgmatic."`
}

type importBorgmatic struct {
	Files        []string `arg:"" name:"file" help:"Configurations of borgmatic, of its old layout or the flat one." type:"existingfile"`
	Host         string   `required:"" help:"The host whose configurations they are." placeholder:"HOST"`
	Out          string   `help:"The file to write. Default: standard output; other files go to the current directory." placeholder:"FILE"`
	ScheduleFrom string   `help:"When it runs: a crontab, or a systemd timer." placeholder:"FILE"`
	Timezone     string   `help:"Timezone of that, such as Europe/Berlin. Default: UTC." placeholder:"ZONE"`
}

// Help is the end of the command's help.
func (importBorgmatic) Help() string {
	return `Example:

    borgfleet import borgmatic /etc/borgmatic/config.yaml --host web1 --schedule-from /etc/cron.d/borgmatic --out fleet.yaml
    borgfleet apply -f fleet.yaml

Nothing is changed anywhere, and nothing is run. Beside the file that is written: passphrases and addresses, each in a file that only you can read; and hooks-HOST, with scripts to put into the host's directory of hooks. Every key that could not be mapped is told.`
}

// imported is what the command tells.
type imported struct {
	Manifest string           `json:"manifest"` // the text; empty: it is in File
	File     string           `json:"file"`
	Files    []string         `json:"files"` // written besides
	Notes    []borgmatic.Note `json:"notes"`
}

// Run runs the command.
func (c importBorgmatic) Run(s *session) error {
	if err := job.CheckHostName("host", c.Host); err != nil {
		return err
	}
	read, err := borgmatic.Read(borgmatic.Options{Files: c.Files, Host: c.Host, Schedule: c.ScheduleFrom, Timezone: c.Timezone, Lookup: os.LookupEnv})
	if err != nil {
		return err
	}
	directory, err := filepath.Abs(filepath.Dir(c.Out))
	if err != nil {
		return fmt.Errorf("find the directory of %s: %w", c.Out, err)
	}
	w := &importWriter{directory: directory, content: map[string][]byte{}, modes: map[string]os.FileMode{}}
	text, err := manifest.Write(w.document(c.Host, read))
	if err != nil {
		return err
	}
	told := imported{Manifest: text, Files: w.names(), Notes: append([]borgmatic.Note{}, read.Notes...)}
	if c.Out != "" {
		told.Manifest, told.File = "", c.Out
		w.add(filepath.Join(directory, filepath.Base(c.Out)), []byte(text), 0o644)
	}
	if err := w.write(); err != nil {
		return err
	}
	return s.show(told, func() { told.tell(s, text) })
}

// tell prints the text, unless it is in a file, and what there is to say.
func (i imported) tell(s *session, text string) {
	if i.File == "" {
		s.printf("%s", text)
	} else {
		s.printf("Wrote %s. Look through it, then: borgfleet apply -f %s\n", i.File, commandLine(i.File))
	}
	for _, file := range i.Files {
		fmt.Fprintf(s.Err, "Wrote %s\n", file)
	}
	if len(i.Notes) > 0 {
		fmt.Fprintf(s.Err, "%s to look at:\n", human.Plural(len(i.Notes), "thing"))
	}
	for _, note := range i.Notes {
		place := note.Key
		if note.File != "" {
			place = note.File + ": " + note.Key
		}
		fmt.Fprintf(s.Err, "  %s: %s\n", console.Printable(place), console.Printable(note.Message))
	}
}

// importWriter collects the files that are written, so that nothing is when one
// of them is there already.
type importWriter struct {
	directory string
	content   map[string][]byte
	modes     map[string]os.FileMode
}

func (w *importWriter) add(path string, content []byte, mode os.FileMode) string {
	w.content[path], w.modes[path] = content, mode
	return path
}

func (w *importWriter) names() []string { return slices.Sorted(maps.Keys(w.content)) }

// secret keeps a secret in a file of its own, and returns its path.
func (w *importWriter) secret(name string, value secret.Value) string {
	return w.add(filepath.Join(w.directory, name), append(value.Reveal(), '\n'), 0o600)
}

// document returns what was imported as the manifest says it.
func (w *importWriter) document(host string, read *borgmatic.Import) manifest.Document {
	d := manifest.Document{
		Hosts: map[string]manifest.Host{host: {}}, Repositories: map[string]manifest.Repository{}, Plans: read.Plans,
	}
	for name, r := range read.Repositories {
		repository := manifest.Repository{Location: r.Location, Encryption: r.Encryption, PassphraseFile: r.PassphraseFile}
		if !r.Passphrase.Empty() {
			repository.PassphraseFile = w.secret(name+".pass", r.Passphrase)
		}
		d.Repositories[name] = repository
	}
	for _, hook := range read.Hooks {
		w.add(filepath.Join(w.directory, "hooks-"+host, hook.Name), []byte(hook.Content), 0o700)
	}
	for plan, address := range read.Pings {
		if d.Notify == nil {
			d.Notify = &manifest.Notify{Targets: map[string]manifest.Target{}, Rules: map[string]fleet.Rule{}}
		}
		name := plan + "-ping"
		d.Notify.Targets[name] = manifest.Target{Kind: "healthchecks", URLFile: w.secret(plan+".url", address)}
		d.Notify.Rules[name] = fleet.Rule{Plans: []string{plan}, Targets: []string{name}, Runs: []string{"start", "success", "failure"}}
	}
	return d
}

func (w *importWriter) write() error {
	for _, path := range w.names() {
		if _, err := os.Lstat(path); err == nil {
			return console.Usage("%s is there already: nothing was written (choose another directory with --out)", path)
		}
	}
	for _, path := range w.names() {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err // it names the directory
		}
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, w.modes[path])
		if err != nil {
			return err // it names the file
		}
		_, err = file.Write(w.content[path])
		if closed := file.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}

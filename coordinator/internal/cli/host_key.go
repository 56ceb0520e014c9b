package cli

import (
	"net/url"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type hostKey struct {
	Name       string `arg:"" optional:"" help:"The host's name. Default: the key with which the coordinator logs in to hosts over SSH."`
	Repo       string `help:"Also the line with which the server of this repository lets the host use it, and do nothing else." placeholder:"REPOSITORY" aliases:"repository"`
	AppendOnly bool   `help:"With --repo: the host may add, and never delete."`
}

// Help is the end of the command's help.
func (hostKey) Help() string {
	return `Examples:

    borgfleet host key
    borgfleet host key web1
    borgfleet host key web1 --repo main --append-only

Without a name: the public key to put into ~/.ssh/authorized_keys of the user on each host over SSH. With a name: the public key that the host has made itself, for the coordinator's depot and for servers that you let it into.`
}

// Run runs the command.
func (c hostKey) Run(s *session) error {
	if c.Name == "" && c.Repo != "" || c.Repo == "" && c.AppendOnly {
		return console.Usage("--repo needs a host's name, and --append-only needs --repo")
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	if c.Name == "" {
		key, err := api.SSHKey(s.ctx)
		if err != nil {
			return err
		}
		return s.show(map[string]string{"public_key": key}, func() { s.printf("%s\n", key) })
	}
	host, err := api.Host(s.ctx, c.Name)
	if err != nil {
		return err
	}
	if host.SSHKey == "" {
		return job.Fail(job.Conflict, "host %s has no key of its own yet", c.Name).
			WithHint("it makes one when it is enrolled, or first reached over SSH: borgfleet host verify %s", c.Name)
	}
	if c.Repo == "" {
		return s.show(map[string]string{"host": c.Name, "public_key": host.SSHKey}, func() { s.printf("%s\n", host.SSHKey) })
	}
	line, user, err := c.line(s, api, host.SSHKey)
	if err != nil {
		return err
	}
	answer := map[string]string{"host": c.Name, "public_key": host.SSHKey, "repository": c.Repo, "authorized_key": line}
	return s.show(answer, func() {
		s.printf("Put this line into ~/.ssh/authorized_keys of %s:\n\n%s\n", console.Printable(user), console.Printable(line))
	})
}

// line returns what lets a key use the repository alone, and whom it is for.
func (c hostKey) line(s *session, api *client.Client, key string) (line, user string, err error) {
	repository, err := api.Repository(s.ctx, c.Repo)
	if err != nil {
		return "", "", err
	}
	if repository.InDepot() {
		return "", "", job.Invalid("repo", "%s is in the coordinator's depot, which knows the key already", c.Repo).
			WithHint("borgfleet repo allow %s %s", c.Repo, c.Name)
	}
	location, err := url.Parse(repository.Location)
	if err != nil || location.Scheme != "ssh" {
		return "", "", job.Invalid("repo", "%s is at %s: no server has to let anybody in", c.Repo, repository.Location)
	}
	path := location.Path
	for _, home := range []string{"/./", "/~/"} { // as borg reads it: from the user's home directory on
		if rest, found := strings.CutPrefix(path, home); found {
			path = rest
		}
	}
	words := []string{"borg", "serve", "--restrict-to-repository", path}
	if c.AppendOnly {
		words = append(words, "--append-only")
	}
	command := strings.ReplaceAll(commandLine(words...), `"`, `\"`)
	user = location.Host
	if location.User != nil {
		user = location.User.Username() + " on " + location.Host
	}
	return `command="` + command + `",restrict ` + key, user, nil
}

package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// fresh is what a new repository is made of, wherever one is made.
type fresh struct {
	Encryption         job.Encryption `help:"Borg's encryption mode: ${encryption_list}. Default: ${default}." default:"repokey-blake2" enum:"${encryptions}" placeholder:"MODE"`
	PassphraseFile     string         `help:"Take the passphrase from this file; - is standard input. Default: ask." placeholder:"FILE"`
	GeneratePassphrase bool           `help:"Make a strong passphrase, and print it this once."`
	Custody            fleet.Custody  `help:"Who can read the passphrase: coordinator, or only the hosts that it is sealed to here. Default: ${default}." default:"coordinator" enum:"coordinator,hosts" placeholder:"WHO"`
}

// repository returns the request for a new repository. With custody hosts, the
// passphrase is sealed here, to the given hosts, and made here if one is to be
// made: it is then returned, too.
func (f fresh) repository(s *session, name, location string) (fleet.NewRepository, error) {
	request := fleet.NewRepository{Name: name, Location: location, Encryption: f.Encryption, Custody: f.Custody}
	if err := (job.Repository{Name: name, Location: location, Encryption: f.Encryption}).Validate(); err != nil {
		return request, err
	}
	if f.GeneratePassphrase && f.PassphraseFile != "" {
		return request, console.Usage("--generate-passphrase and --passphrase-file exclude each other")
	}
	if !f.Encryption.NeedsPassphrase() {
		if f.GeneratePassphrase || f.PassphraseFile != "" || f.Custody == fleet.CustodyHosts {
			return request, console.Usage("encryption %s uses no passphrase (leave out --generate-passphrase, --passphrase-file and --custody)", f.Encryption)
		}
		return request, nil
	}
	if f.GeneratePassphrase {
		request.Generate = true
		return request, nil
	}
	passphrase, err := s.passphrase(f.PassphraseFile)
	request.Passphrase = passphrase
	return request, err
}

// add adds the repository, and returns the passphrase if one was made.
func (f fresh) add(s *session, api *client.Client, request fleet.NewRepository, hosts []string) (fleet.RepositoryView, secret.Value, error) {
	if f.Custody != fleet.CustodyHosts {
		added, err := api.AddRepository(s.ctx, request)
		return added.RepositoryView, added.Passphrase, err
	}
	made := secret.Value{}
	if request.Generate {
		made = secret.FromString(rand.Text() + rand.Text())
		request.Passphrase, request.Generate = made, false
	}
	sealed, err := s.seal(api, request.Passphrase, request.Name, hosts)
	if err != nil {
		return fleet.RepositoryView{}, secret.Value{}, err
	}
	request.Passphrase, request.Sealed = secret.Value{}, sealed
	added, err := api.AddRepository(s.ctx, request)
	return added.RepositoryView, made, err
}

// seal seals a passphrase to each host's own key, so that nobody between here
// and there can read it.
func (s *session) seal(api *client.Client, passphrase secret.Value, repository string, hosts []string) (map[string]fleet.SealedPassphrase, error) {
	if plain := string(passphrase.Reveal()); !utf8.ValidString(plain) || strings.ContainsFunc(plain, unicode.IsControl) {
		// Nobody can say so later.
		return nil, job.Invalid("passphrase", "is not text, or has a control character").WithHint("borg would not get it as it is")
	}
	sealed := map[string]fleet.SealedPassphrase{}
	for _, name := range hosts {
		host, err := api.Host(s.ctx, name)
		if err != nil {
			return nil, err
		}
		if host.Mode == fleet.ModeSSH || host.Mode == fleet.ModeLocal {
			return nil, job.Fail(job.Conflict, "host %s has no agent that could keep a passphrase", name).
				WithHint("let the coordinator keep it: leave --custody out; or install an agent there: borgfleet host convert %s", name)
		}
		if host.SealKey == "" {
			return nil, job.Fail(job.Conflict, "host %s has no key to seal to yet", name).WithHint("enrol it first: borgfleet host token %s", name)
		}
		box, err := secret.Seal(passphrase, secret.Purpose{Host: name, Repository: repository}, host.SealKey)
		if err != nil {
			return nil, fmt.Errorf("seal passphrase to host %s: %w", name, err)
		}
		sealed[name] = fleet.SealedPassphrase{Sealed: box, SealKey: host.SealKey}
	}
	return sealed, nil
}

type repoAdd struct {
	Name     string `arg:"" help:"The new repository's name."`
	Location string `required:"" help:"Absolute path on the host, ssh://user@host:port/path, or depot for one that the coordinator keeps itself." placeholder:"LOCATION"`
	fresh
	For        []string `help:"With custody hosts: seal the passphrase to these hosts." placeholder:"HOST"`
	Quota      size     `help:"What the repository may take, such as 500G. Default: no limit." placeholder:"SIZE" group:"For --location depot:"`
	AppendOnly bool     `help:"Hosts may add, and never delete." group:"For --location depot:"`
	Host       []string `help:"Let this host use it, or all with '*'; may be repeated." placeholder:"HOST" group:"For --location depot:"`
}

// Help is the end of the command's help.
func (repoAdd) Help() string {
	return `Examples:

    borgfleet repo add main --location ssh://backup@store.example.net/srv/borg/main --generate-passphrase
    borgfleet repo add shared --location depot --quota 500G --append-only --host web1 --host db1 --generate-passphrase

A repository in the depot is created at once. Hosts reach it without any set-up of their own.`
}

// Run implements repo add. The passphrase is never an argument.
func (c repoAdd) Run(s *session) error {
	if (c.Custody == fleet.CustodyHosts) != (len(c.For) > 0) {
		return console.Usage("--custody hosts and --for HOST,… belong together")
	}
	inDepot := c.Location == job.DepotLocation
	if !inDepot && (c.Quota > 0 || c.AppendOnly || len(c.Host) > 0) {
		return console.Usage("--quota, --append-only and --host are for the depot (add --location depot)")
	}
	if inDepot && c.Custody == fleet.CustodyHosts {
		return console.Usage("what is in the depot is cared for by the coordinator, which needs the passphrase (leave --custody out)")
	}
	request, err := c.repository(s, c.Name, c.Location)
	if err != nil {
		return err
	}
	if inDepot {
		request.Depot = &fleet.Depot{Quota: int64(c.Quota), AppendOnly: c.AppendOnly, Hosts: c.Host}
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	added, made, err := c.add(s, api, request, c.For)
	if err != nil {
		return err
	}
	var created error
	if inDepot {
		created = s.createInDepot(api, c.Name)
	}
	if s.globals.JSON {
		return errors.Join(s.PrintJSON(struct {
			fleet.RepositoryView
			Generated string `json:"generated_passphrase,omitempty"`
		}{added, string(made.Reveal())}), created)
	}
	switch {
	case !inDepot:
		s.printf("Added repository %s. Create it on disk with: borgfleet repo init %s --host HOST\n", c.Name, c.Name)
	case created == nil:
		s.printf("Created repository %s in the depot. It may be used by: %s\n", c.Name, users(added))
	default:
		s.printf("Added repository %s, but it may not be there on disk. To create it: borgfleet repo init %s\n", c.Name, c.Name)
	}
	s.printGenerated(made)
	return created
}

// createInDepot creates a repository in the depot on disk. An error says why that
// has not worked.
func (s *session) createInDepot(api *client.Client, name string) error {
	submitted, err := api.SubmitJob(s.ctx, job.Request{Kind: job.Init, Repository: name, Spec: []byte("{}")})
	if err != nil {
		return err
	}
	done, err := s.await(api, submitted.ID)
	switch {
	case err != nil:
		return err
	case done.State == job.Succeeded || done.State == job.Warning:
		return nil
	case done.Failure != nil:
		return console.Exit{Code: console.ExitJobFailed, Err: done.Failure}
	default:
		return console.Exit{Code: console.ExitJobFailed, Err: fmt.Errorf("job %s is %s", done.ID, done.State)}
	}
}

func (s *session) printGenerated(passphrase secret.Value) {
	if !passphrase.Empty() {
		s.printf("Its passphrase, shown this once; keep it where this machine's loss does not reach it:\n%s\n", passphrase.Reveal())
	}
}

type repoSeal struct {
	Name           string   `arg:"" help:"The repository's name."`
	Host           []string `required:"" help:"The hosts that shall be able to read it." placeholder:"HOST"`
	PassphraseFile string   `help:"Take the passphrase from this file; - is standard input. Default: ask." placeholder:"FILE"`
}

// Help is the end of the command's help.
func (repoSeal) Help() string {
	return `For repositories whose passphrase only hosts can read (repo add --custody hosts): the passphrase is typed in here, sealed here to each host's key, and stored so that the coordinator cannot read it. Nor can anybody but borg say whether it is the right one: run a job on the host afterwards, for example borgfleet repo info.`
}

// Run runs the command.
func (c repoSeal) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	passphrase, err := s.passphrase(c.PassphraseFile)
	if err != nil {
		return err
	}
	sealed, err := s.seal(api, passphrase, c.Name, c.Host)
	if err != nil {
		return err
	}
	view, err := api.SealPassphrase(s.ctx, c.Name, sealed)
	if err != nil {
		return err
	}
	return s.show(view, func() {
		slices.Sort(view.SealedFor)
		s.printf("The passphrase of %s can be read by: %s\n", c.Name, strings.Join(view.SealedFor, ", "))
	})
}

package web

import (
	"net/http"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// newRepositoryForm makes a repository in the depot.
type newRepositoryForm struct {
	commands
	Key     string
	Fields  []field
	Faults  []*job.Failure
	Command string

	asked fleet.NewRepository
}

// madeRepository is the one page that shows the passphrase that was made for a
// repository.
type madeRepository struct {
	Name  string
	Shown *shown
	Job   job.ID       // that creates it with borg
	Fault *job.Failure // why there is none
}

// newRepository serves the empty form.
func (s *site) newRepository(w http.ResponseWriter, r *http.Request) {
	if err := needAdmin(r.Context()); err != nil {
		s.faultOf(w, r, err)
		return
	}
	s.render(w, r, s.newRepositoryForm(r, &typed{Values: r.URL.Query()}).view())
}

// newRepositoryForm reads what was typed.
func (s *site) newRepositoryForm(r *http.Request, v *typed) *newRepositoryForm {
	f := &newRepositoryForm{commands: s.commandsFor(r), Key: v.Get("key")}
	if f.Key == "" {
		f.Key = newKey(s)
	}
	encryption := v.or("encryption", string(job.RepokeyBlake2))
	quota, ok := size(v.text("quota"))
	if !ok {
		v.wrong = append(v.wrong, job.Invalid("quota", "%.40q is not a size", v.text("quota")).WithHint("for example 500G or 2T"))
	}
	hosts := v.lines("hosts")
	f.asked = fleet.NewRepository{
		Name: v.text("name"), Location: job.DepotLocation, Encryption: job.Encryption(encryption),
		Generate: job.Encryption(encryption).NeedsPassphrase(),
		Depot:    &fleet.Depot{Quota: quota, AppendOnly: v.checked("append_only"), Hosts: hosts},
	}
	f.Fields = []field{
		{Name: "name", Label: "Name", Kind: "text", Value: f.asked.Name, Needed: true, Help: "As it will be called here: a-z, 0-9 and -."},
		{Name: "quota", Label: "Quota", Kind: "text", Value: v.text("quota"), Placeholder: "none", Also: []string{"depot.quota"}, Help: "Such as `500G` or `2T`: a backup that would go beyond it fails."},
		{Name: "encryption", Label: "Encryption", Kind: "select", Choices: choices(job.Encryption(encryption), "", job.Encryptions()), Help: "A strong passphrase is made for it, and kept here, encrypted."},
		{Name: "hosts", Label: "Hosts that may use it", Kind: "area", Value: strings.Join(hosts, "\n"), Placeholder: "none yet", Also: []string{"depot.hosts", "host"}, Help: "One a line; `*` is every host. Others can be let in later."},
		{Name: "append_only", Label: "Append only", Kind: "check", Checked: f.asked.Depot.AppendOnly, Wide: true, Help: "Hosts can add archives and delete nothing. Prune, delete and compact are for the coordinator alone, which first compares what is there with what was recorded."},
	}
	f.Command = f.borgfleet(f.words()...)
	return f
}

// words is the same on the command line.
func (f *newRepositoryForm) words() []string {
	name := f.asked.Name
	if name == "" {
		name = "NAME"
	}
	words := []string{"repo", "add", name, "--location", job.DepotLocation}
	if quota := f.Fields[1].Value; quota != "" {
		words = append(words, "--quota", quota)
	}
	if f.asked.Depot.AppendOnly {
		words = append(words, "--append-only")
	}
	for _, host := range f.asked.Depot.Hosts {
		words = append(words, "--host", host)
	}
	if f.asked.Encryption != job.RepokeyBlake2 {
		words = append(words, "--encryption", string(f.asked.Encryption))
	}
	if f.asked.Generate {
		words = append(words, "--generate-passphrase")
	}
	return words
}

// view puts each fault at its field, and shows the page.
func (f *newRepositoryForm) view() *view {
	placeFaults(f.Fields, f.Faults)
	v := &view{Title: "Create a repository in the depot", Nav: "/repositories", Body: "new-repository", Data: f}
	if len(f.Faults) > 0 {
		v.Status = f.Faults[0].Code.HTTPStatus()
	}
	return v
}

// addRepository takes the form: it names the repository, and has the coordinator
// create it.
func (s *site) addRepository(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	v := &typed{Values: r.PostForm, sent: true}
	f := s.newRepositoryForm(r, v)
	for _, err := range v.wrong {
		f.Faults = append(f.Faults, failures(err)...)
	}
	if len(f.Faults) > 0 {
		s.render(w, r, f.view())
		return
	}
	if !s.firstTime(w, r, repositoryURL(f.asked.Name)) {
		return
	}
	by := fleet.ActorOf(r.Context())
	made, passphrase, err := s.Keeper.AddRepository(r.Context(), by, f.asked)
	if err != nil {
		f.Faults, f.Key = failures(err), newKey(s)
		s.refuse(w, r, err, f.view())
		return
	}
	page := &madeRepository{Name: made.Name, Shown: shownPassphrase(made.Name, passphrase)}
	request := job.Request{Host: fleet.LocalHost, Kind: job.Init, Repository: made.Name, IdempotencyKey: "init-" + f.Key}
	if j, err := s.Actions.Submit(r.Context(), by, request); err == nil {
		page.Job = j.ID
	} else {
		page.Fault = failures(err)[0]
	}
	s.render(w, r, &view{
		Title: made.Name + " is in the depot", Nav: "/repositories", Body: "made-repository", Data: page,
		Address: repositoryURL(made.Name), Secret: true,
	})
}

// shownPassphrase shows what was made; nil when nothing was.
func shownPassphrase(name string, passphrase secret.Value) *shown {
	if passphrase.Empty() {
		return nil
	}
	return &shown{
		Heading: "The passphrase of " + name,
		About:   "Keep it somewhere else, too: without it nobody can read the archives when this machine is lost.",
		Value:   string(passphrase.Reveal()),
	}
}

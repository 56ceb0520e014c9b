package web

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Depot tells of the repositories that the coordinator keeps itself, and puts
// right what was done to them. Faults are *job.Failure. Safe for concurrent use.
type Depot interface {
	// Depot fails with the code "unavailable" when there is none.
	Depot(ctx context.Context) (fleet.DepotView, error)
	// Transactions are the changes of a repository, oldest first.
	Transactions(ctx context.Context, repository string) ([]fleet.Transaction, error)
	// Rollback undoes the changes of a frozen repository after the one with this
	// number.
	Rollback(ctx context.Context, by fleet.Actor, repository string, to int, reason string) error
	// Unfreeze takes what is in the repository now as what should be there.
	Unfreeze(ctx context.Context, by fleet.Actor, repository, reason string) (job.Job, error)
}

// RepositoryAdmin adds repositories, and decides who may use those in the depot.
// Faults are *job.Failure. Safe for concurrent use.
type RepositoryAdmin interface {
	AddRepository(ctx context.Context, by fleet.Actor, asked fleet.NewRepository) (fleet.RepositoryView, secret.Value, error)
	Allow(ctx context.Context, by fleet.Actor, name, host string) (fleet.RepositoryView, error)
	Deny(ctx context.Context, by fleet.Actor, name, host string) (fleet.RepositoryView, error)
}

// depotView tells of the depot; nil when there is none.
func (s *site) depotView(ctx context.Context) (*fleet.DepotView, error) {
	if s.Depot == nil {
		return nil, nil
	}
	told, err := s.Depot.Depot(ctx)
	if err != nil && job.AsFailure(err).Code == job.Unavailable {
		return nil, nil
	}
	return &told, wrap("the depot", err)
}

// depotPart is what the page of a repository in the depot tells besides.
type depotPart struct {
	fleet.DepotView
	Use   fleet.DepotUse
	Known []string // hosts that could be let in
}

// Kept reports whether the coordinator keeps the repository itself.
func (r repositoryRow) Kept() bool { return r.Depot != nil }

// Place is where the repository is, for people.
func (r repositoryRow) Place() string {
	if r.Kept() {
		return "in the depot"
	}
	return r.Location
}

// Everybody reports whether every host may use the repository.
func (r repositoryRow) Everybody() bool { return r.Depot.Admits("*") }

// Admitted are the hosts that may use it, by name.
func (r repositoryRow) Admitted() []string {
	list := slices.Clone(r.Depot.Hosts)
	slices.Sort(list)
	return slices.DeleteFunc(list, func(name string) bool { return name == "*" })
}

// Full is how much of its quota is used, as far as that is known.
func (r repositoryRow) Full() string {
	if r.Info == nil || r.Depot.Quota == 0 {
		return ""
	}
	return human.Share(float64(r.Info.UniqueCSize) / float64(r.Depot.Quota))
}

// StateChip is the repository's state.
func (r repositoryRow) StateChip() chip {
	switch {
	case r.Kept() && r.Depot.Frozen != nil:
		return chip{"fail", "stop", "frozen"}
	case r.Busy != "":
		return chip{"run", "run", "in use"}
	}
	return chip{"idle", "ok", "free"}
}

// depot reads what the depot knows of a repository; nil when it is not there.
func (s *site) depot(ctx context.Context, r fleet.RepositoryView) (*depotPart, error) {
	if r.Depot == nil {
		return nil, nil
	}
	told, err := s.depotView(ctx)
	if told == nil || err != nil {
		return nil, err
	}
	part := &depotPart{DepotView: *told}
	for _, use := range told.Uses {
		if use.Repository == r.Name {
			part.Use = use
		}
	}
	hosts, err := s.Hosts.Hosts(ctx)
	if err != nil {
		return nil, wrap("hosts", err)
	}
	for _, h := range hosts {
		if h.Mode != fleet.ModeLocal && !slices.Contains(r.Depot.Hosts, h.Name) {
			part.Known = append(part.Known, h.Name)
		}
	}
	return part, nil
}

// everyHost is the choice of all hosts, those to come among them.
const everyHost = "*"

// HostChoices is the menu of hosts to let in.
func (p *depotPart) HostChoices() []choice {
	return append(choices("", "", p.Known), choice{Value: everyHost, Label: "every host, and those to come"})
}

// admission serves the forms that let a host use a repository, or no longer.
func (s *site) admission(change func(ctx context.Context, by fleet.Actor, repository, host string) (fleet.RepositoryView, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.parse(w, r) {
			return
		}
		name := r.PathValue("repository")
		_, err := change(r.Context(), fleet.ActorOf(r.Context()), name, r.PostForm.Get("host"))
		if err == nil {
			http.Redirect(w, r, repositoryURL(name)+"#hosts", http.StatusSeeOther)
			return
		}
		refused := failures(err)[0]
		v, err := s.repository(r.Context(), name, s.commandsFor(r), nil)
		if err != nil || refused.Code == job.NotAllowed {
			s.faultOf(w, r, refused)
			return
		}
		v.Data.(*repositoryPage).Refused, v.Status = refused, refused.Code.HTTPStatus()
		s.render(w, r, v)
	}
}

// task is what a host is looked for.
type task struct {
	Repository string
	Kind       job.Kind
}

// able are the hosts that can be asked for a job, and whether the repository is in
// the depot.
func (s *site) able(ctx context.Context, work task) (hosts []fleet.HostView, kept bool, err error) {
	repository, err := s.Repositories.Repository(ctx, work.Repository)
	if err != nil {
		return nil, false, err
	}
	all, err := s.Hosts.Hosts(ctx)
	if err != nil {
		return nil, false, wrap("hosts", err)
	}
	for _, h := range all {
		if takes(h, repository, work.Kind) {
			hosts = append(hosts, h)
		}
	}
	return hosts, repository.Depot != nil, nil
}

// takes reports whether a host can be asked for a job of a kind on a repository.
func takes(h fleet.HostView, r fleet.RepositoryView, kind job.Kind) bool {
	local := h.Mode == fleet.ModeLocal
	switch {
	case r.Depot == nil:
		return !local
	case kind == job.Prune: // of which host's archives is asked for
		return !local
	case fleet.OnDepot(kind):
		return local
	case local:
		return kind == job.Download || kind == job.Diff || kind == job.Verify // which only read
	}
	return r.Depot.Admits(h.Name)
}

// sizeUnits are what a size may end with, in steps of a thousand.
const sizeUnits = "KMGTP"

// size reads a number of bytes as people write it: 500G, 1.5 TB; empty is 0.
func size(text string) (bytes int64, ok bool) {
	if text == "" {
		return 0, true
	}
	number, scale := strings.TrimSuffix(strings.ToUpper(text), "B"), 1.0
	if last := len(number) - 1; last > 0 {
		if step := strings.IndexByte(sizeUnits, number[last]); step >= 0 {
			number, scale = strings.TrimSpace(number[:last]), math.Pow(1000, float64(step+1))
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n < 0 || !(n*scale < 1e18) {
		return 0, false
	}
	return int64(n * scale), true
}

// IsFrozen reports whether nothing is deleted from the repository any more.
func (r repositoryRow) IsFrozen() bool { return r.Depot != nil && r.Depot.Frozen != nil }

// denial takes a host's way into a repository, if the reader may.
type denial struct {
	Repository, Host string
	May              bool
}

// Denial is what the button beside an admitted host does.
func (p *repositoryPage) Denial(host string) denial {
	return denial{p.Name, host, p.Administers()}
}

// DepotOpen is how many connections the depot has now.
func (p *repositoriesPage) DepotOpen() int {
	open := 0
	for _, use := range p.Depot.Uses {
		open += use.Open
	}
	return open
}

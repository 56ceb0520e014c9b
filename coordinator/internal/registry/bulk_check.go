package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// CheckFleet finds what is wrong with a change of many hosts and repositories.
// All faults are joined, each a *fleet.ObjectError.
func (r *Registry) CheckFleet(_ context.Context, change fleet.FleetChange) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	c, err := r.newBulkCheck(change, false)
	if err != nil {
		return err
	}
	return c.run(change)
}

// bulkCheck looks at a change of many things as a whole.
type bulkCheck struct {
	registry     *Registry
	final        bool // what is said to come has to be there
	repositories map[string]fleet.Repository
	places       map[string][]string // names of the repositories as they are going to be, by place
	hosts        map[string]bool     // that are going to be there
	faults       []error
}

func (r *Registry) newBulkCheck(change fleet.FleetChange, final bool) (*bulkCheck, error) {
	stored, err := r.store.Repositories()
	if err != nil {
		return nil, fmt.Errorf("read repositories: %w", err)
	}
	c := &bulkCheck{registry: r, final: final, repositories: map[string]fleet.Repository{}, places: map[string][]string{}, hosts: map[string]bool{}}
	locations := map[string]string{}
	for _, repository := range stored {
		c.repositories[repository.Name] = repository
		locations[repository.Name] = repository.Location
	}
	for _, name := range change.RemoveRepositories {
		delete(locations, name)
	}
	for _, put := range change.PutRepositories {
		locations[put.Name] = put.Location
	}
	for name, location := range locations {
		if !strings.HasPrefix(location, "/") && location != job.DepotLocation { // a path may be another one on another host
			place := job.Place(location)
			c.places[place] = append(c.places[place], name)
		}
	}
	for _, host := range r.roster.byName() {
		c.hosts[host.Name] = host.Mode != fleet.ModeLocal
	}
	for _, name := range change.RemoveHosts {
		delete(c.hosts, name)
	}
	for _, put := range change.PutHosts {
		c.hosts[put.Name] = true
	}
	return c, nil
}

// fault notes what is wrong with an object.
func (c *bulkCheck) fault(object string, err error) {
	if err != nil {
		c.faults = append(c.faults, &fleet.ObjectError{Object: object, Cause: job.AsFailure(err)})
	}
}

func (c *bulkCheck) run(change fleet.FleetChange) error {
	for _, put := range change.PutHosts {
		c.fault("host/"+put.Name, c.host(put))
	}
	for _, name := range change.RemoveHosts {
		c.fault("host/"+name, c.hostRemoval(name, change))
	}
	for _, put := range change.PutRepositories {
		c.fault("repository/"+put.Name, c.repository(put))
	}
	for _, name := range change.RemoveRepositories {
		c.fault("repository/"+name, c.repositoryRemoval(name))
	}
	return errors.Join(c.faults...)
}

func (c *bulkCheck) host(put fleet.PutHost) error {
	if err := cmp.Or(checkNewName("name", put.Name), checkLabels(put.Labels)); err != nil {
		return err
	}
	known, found := c.registry.roster.get(put.Name)
	switch {
	case found && known.Mode == fleet.ModeLocal:
		return job.Invalid("name", "%q is the coordinator's own machine", put.Name)
	case found && known.Mode == fleet.ModeAgent && put.SSH != nil && known.PublicKey != "":
		return job.Fail(job.Conflict, "ssh: host %s has an agent", put.Name).
			WithHint("leave ssh out; or remove the host, and add it again as one over SSH")
	case found && known.Mode == fleet.ModeSSH && put.SSH == nil:
		return job.Fail(job.Conflict, "ssh: is left out, but host %s is reached over SSH", put.Name).
			WithHint("borgfleet host convert %s gives it an agent", put.Name)
	}
	mode := fleet.ModeAgent
	if put.SSH != nil {
		mode = fleet.ModeSSH
		if _, err := checkAccess(*put.SSH); err != nil {
			return inside("ssh", err)
		}
		if !put.Key.Empty() {
			if _, err := parseSSHKey(put.Key); err != nil {
				return inside("ssh.identity_file", err)
			}
		} else if c.final && put.KeyComes {
			return job.Invalid("ssh.identity_file", "its content did not come with the request")
		}
	}
	return checkReach(mode, put.Reach)
}

// inside says in which part of an object a field is.
func inside(part string, err error) error {
	failure := *job.AsFailure(err)
	failure.Message = part + "." + failure.Message
	return &failure
}

func (c *bulkCheck) hostRemoval(name string, change fleet.FleetChange) error {
	host, found := c.registry.roster.get(name)
	switch {
	case !found:
		return fleet.UnknownHost(name)
	case host.Mode == fleet.ModeLocal:
		return job.Fail(job.Conflict, "it is the coordinator's own machine")
	case slices.ContainsFunc(change.PutHosts, func(put fleet.PutHost) bool { return put.Name == name }):
		return job.Fail(job.Conflict, "it cannot be put and removed at once")
	}
	return nil
}

func (c *bulkCheck) repository(put fleet.PutRepository) error {
	if err := put.Repository.Validate(); err != nil {
		return err
	}
	if others := c.places[job.Place(put.Location)]; len(others) > 1 {
		other := others[0]
		if other == put.Name {
			other = others[1]
		}
		return job.Fail(job.Conflict, "location: %s belongs to repository %s", put.Location, other).
			WithHint("use that one: any number of hosts may back up to one repository")
	}
	known, found := c.repositories[put.Name]
	if err := c.passphrase(put, known, found); err != nil {
		return err
	}
	wanted := fleet.Repository{Repository: put.Repository, Custody: fleet.CustodyCoordinator}
	if found {
		wanted.Custody = cmp.Or(known.Custody, fleet.CustodyCoordinator)
		if err := c.changed(put, known); err != nil {
			return err
		}
	}
	return depotRepository(&wanted, put.Depot, c.mayUse)
}

// changed refuses changes that a repository cannot take.
func (c *bulkCheck) changed(put fleet.PutRepository, known fleet.Repository) error {
	switch {
	case known.Pending:
		return job.Fail(job.Conflict, "a call that is not over uses it").WithHint("try again when that is over")
	case known.Encryption != put.Encryption:
		return job.Fail(job.Conflict, "encryption: it is %s, and stays so: borg cannot change it", known.Encryption).
			WithHint("leave encryption out, or make another repository")
	case known.InDepot() != put.InDepot():
		return job.Invalid("location", "a repository is not moved into the depot, or out of it").
			WithHint("remove it here, and add it with its new location: its data is not touched")
	case known.Location == put.Location:
		return nil
	}
	return c.registry.idle(put.Name, "location: ")
}

// idle refuses a repository with jobs that are not over.
func (r *Registry) idle(repository, field string) error {
	for _, state := range []job.State{job.Queued, job.Sent, job.Running} {
		page, err := r.store.Jobs(job.Filter{Repository: repository, State: state, Limit: 1})
		if err != nil {
			return fmt.Errorf("read jobs of repository %s: %w", repository, err)
		}
		if len(page.Jobs) > 0 {
			return job.Fail(job.Conflict, "%sit has jobs that are not over", field).
				WithHint("cancel them, or wait until they are over; borgfleet job list --repo %s shows them", repository)
		}
	}
	return nil
}

// passphrase checks that there is one if, and only if, the mode needs one.
func (c *bulkCheck) passphrase(put fleet.PutRepository, known fleet.Repository, found bool) error {
	given := !put.Passphrase.Empty()
	switch {
	case put.PassphraseComes && !given && c.final:
		return job.Invalid("passphrase_file", "its content did not come with the request")
	case put.PassphraseComes && !given:
		if put.Encryption.NeedsPassphrase() {
			return nil
		}
		return job.Invalid("passphrase_file", "encryption %s uses no passphrase", put.Encryption).WithHint("leave it out")
	case found && !given:
		return nil
	case found && known.Custody == fleet.CustodyHosts:
		return job.Fail(job.Conflict, "passphrase_file: only its hosts may know the passphrase of repository %s", put.Name).
			WithHint("leave it out; borgfleet repo seal %s --host HOST gives it to a host", put.Name)
	case !given && put.Encryption.NeedsPassphrase():
		return job.Invalid("passphrase_file", "encryption %s needs a passphrase", put.Encryption).
			WithHint("name a file that holds it; borgfleet apply reads it where it runs")
	}
	return checkPassphrase(put.Encryption, fleet.NewRepository{Passphrase: put.Passphrase})
}

// mayUse is the registry's mayUse once the change is made.
func (c *bulkCheck) mayUse(name string) bool { return name == everyHost || c.hosts[name] }

func (c *bulkCheck) repositoryRemoval(name string) error {
	if _, found := c.repositories[name]; !found {
		return fleet.UnknownRepository(name)
	}
	return c.registry.idle(name, "")
}

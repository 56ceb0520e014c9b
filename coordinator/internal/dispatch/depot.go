package dispatch

import (
	"cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file knows what is different for repositories in the coordinator's depot:
// where their jobs run, who may have any, and how their orders say the way.

// Depot keeps repositories on the coordinator's own machine. It is safe for
// concurrent use, and calls nothing of the service but [Service.Busy].
type Depot interface {
	// Dir is the absolute path of a repository.
	Dir(repository string) string
	// HostKey is the public key with which the depot proves itself to hosts.
	HostKey() string
	// Evict ends all access of hosts to a repository, and returns when nobody is
	// left. Whether new access is refused is asked of [Service.Busy].
	Evict(repository string)
	// ConfigChanged reports whether a repository's configuration, which may hold
	// its key, is another one than was kept.
	ConfigChanged(repository string) (bool, error)
	// KeepConfig keeps the present configuration of a repository as the right one.
	KeepConfig(repository string) error
}

// place says where the job of a request runs, and for which host: what the
// coordinator does itself in its depot, whoever it is for.
func (s *Service) place(r job.Request) (host, subject string, err error) {
	repository, found, err := s.options.Store.Repository(r.Repository)
	if err != nil {
		return "", "", err
	}
	if !found || !repository.InDepot() {
		if r.Host == fleet.LocalHost {
			return "", "", ownMachine()
		}
		return r.Host, "", s.checkHost(r.Host)
	}
	if r.Host != "" && r.Host != fleet.LocalHost {
		if err := s.checkHost(r.Host); err != nil {
			return "", "", err
		}
	}
	if fleet.OnDepot(r.Kind) {
		subject = r.Host
		if subject == fleet.LocalHost {
			subject = ""
		}
		return fleet.LocalHost, subject, s.checkHost(fleet.LocalHost)
	}
	return s.placeOutside(r, repository)
}

// placeOutside is place for what hosts do themselves with a repository in the
// depot. What only reads archives to tell of them can be done here as well.
func (s *Service) placeOutside(r job.Request, repository fleet.Repository) (host, subject string, err error) {
	reads := r.Kind == job.Download || r.Kind == job.Diff || r.Kind == job.Verify
	switch {
	case (r.Host == "" || r.Host == fleet.LocalHost) && reads:
		return fleet.LocalHost, "", s.checkHost(fleet.LocalHost)
	case r.Host == "":
		return "", "", s.checkHost("")
	case r.Host == fleet.LocalHost:
		return "", "", ownMachine()
	case repository.Depot == nil || !repository.Depot.Admits(r.Host):
		return "", "", job.Fail(job.NotAllowed, "host %s may not use repository %s", r.Host, r.Repository).
			WithHint("if it shall: borgfleet repo allow %s %s", r.Repository, r.Host)
	}
	return r.Host, "", nil
}

// ownMachine is the failure of whoever wants the coordinator's own machine to work
// like a host.
func ownMachine() *job.Failure {
	return job.Invalid("host", "%q is the coordinator's own machine, which only takes care of repositories in its depot", fleet.LocalHost).
		WithHint("to back it up, install an agent there under another name")
}

// InDepot reports whether a repository is in the depot. The error is a
// *job.Failure.
func (s *Service) InDepot(name string) (bool, error) {
	repository, _, err := s.options.Store.Repository(name)
	if err != nil {
		return false, s.failure("read repository", err)
	}
	return repository.InDepot(), nil
}

// subject is the host whose archives a job is about.
func subject(j job.Job) string { return cmp.Or(j.For, j.Host) }

// guardHost refuses what a job's host is not fit for.
func (s *Service) guardHost(e *entry) error {
	host, found, err := s.options.Store.Host(e.job.Host)
	if err != nil || !found {
		return err
	}
	if e.job.Kind == job.Backup && host.Disabled {
		return switchedOff(host)
	}
	if host.Mode == fleet.ModeAgent || !e.encrypted || e.job.Repository == "" {
		return nil
	}
	repository, found, err := s.options.Store.Repository(e.job.Repository)
	if err == nil && found && repository.Custody == fleet.CustodyHosts {
		return job.Fail(job.Conflict, "the passphrase of repository %s is kept by hosts, and host %s has no agent that could keep it", e.job.Repository, host.Name).
			WithHint("use a repository whose passphrase the coordinator keeps, or install an agent: borgfleet host convert %s", host.Name)
	}
	return err
}

// switchedOff is why nothing is backed up from a host.
func switchedOff(host fleet.Host) *job.Failure {
	failure := job.Fail(job.BorgMissing, "host %s is switched off as a source of backups", host.Name)
	hint := "borgfleet host enable " + host.Name
	if host.Facts != nil && host.Facts.BorgFailure != nil {
		why := host.Facts.BorgFailure
		failure = job.Fail(why.Code, "host %s is switched off as a source of backups: %s", host.Name, why.Message)
		if why.Hint != "" {
			hint = why.Hint + "; then: " + hint
		}
	}
	return failure.WithHint("%s", hint)
}

// direct makes an order say where its repository is, if that is in the depot.
func (s *Service) direct(order *bus.Order) error {
	if !order.Repository.InDepot() {
		return nil
	}
	depot, name := s.options.Depot, order.Repository.Name
	if depot == nil {
		return impossible{job.Fail(job.Unavailable, "repository %s is in the depot, which this coordinator does not run", name).
			WithHint("set depot.listen in coordinator.yaml")}
	}
	if order.Host == fleet.LocalHost {
		order.Repository.Location = depot.Dir(name)
		return nil
	}
	host, _, err := s.options.Store.Host(order.Host)
	if err != nil {
		return err
	}
	order.Repository.Location = bus.DepotURL(name)
	order.Depot = &bus.Depot{HostKey: depot.HostKey()}
	if host.Mode == fleet.ModeSSH && host.Reach == fleet.ReachTunnel {
		return nil
	}
	if order.Depot.Address = s.options.DepotAddress; order.Depot.Address == "" {
		return impossible{job.Fail(job.Unavailable, "nothing says under which address host %s reaches the depot", order.Host).
			WithHint("set depot.address in coordinator.yaml")}
	}
	return nil
}

// Busy reports whether the coordinator works on a repository in the depot itself,
// so that no host may use it until that is over.
func (s *Service) Busy(repository string) bool { return s.index.busy(repository) }

package plan

import (
	"errors"
	"maps"
	"slices"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// news is what has changed in the store since somebody looked.
type news struct {
	all          bool
	hosts        map[string]bool
	repositories map[string]bool
	tracks       map[trackID]bool
	runs         map[string]bool
}

func newNews() news {
	return news{hosts: map[string]bool{}, repositories: map[string]bool{}, tracks: map[trackID]bool{}, runs: map[string]bool{}}
}

// note takes in an update, and reports whether there is something to do.
func (n *news) note(update feed.Update) bool {
	switch update.Type {
	case feed.Missed:
		n.all = true
	case feed.HostChanged:
		n.hosts[update.Host] = true
	case feed.RepositoryChanged:
		n.repositories[update.Repository] = true
	case feed.JobChanged:
		return n.noteJob(*update.Job)
	default:
		return false
	}
	return update.Type == feed.Missed // hosts and repositories have the time until the next look
}

func (n *news) noteJob(j job.Job) bool {
	if !j.State.Terminal() || j.Plan == "" {
		return false
	}
	n.repositories[j.Repository] = true
	for _, host := range []string{j.Host, j.For} {
		if host != "" {
			n.tracks[trackID{j.Plan, host, j.Repository}] = true
		}
	}
	if j.Run != "" {
		n.runs[j.Run] = true
	}
	return true
}

// take returns what there is and begins anew.
func (s *Service) take() news {
	s.inbox.Lock()
	defer s.inbox.Unlock()
	taken := s.inbox.news
	s.inbox.news = newNews()
	return taken
}

// load reads everything.
func (s *Service) load() error {
	hosts, err := s.options.Store.Hosts()
	if err != nil {
		return err
	}
	repositories, err := s.options.Store.Repositories()
	if err != nil {
		return err
	}
	m := memory{
		plans: map[string]*entry{}, hosts: map[string]fleet.Host{}, repositories: map[string]repository{},
		tracks: map[trackID]outline{}, runs: map[string]*openRun{}, checks: map[string]string{},
	}
	for _, host := range hosts {
		m.hosts[host.Name] = host
	}
	for _, known := range repositories {
		if m.repositories[known.Name], err = s.readRepository(known.Name); err != nil {
			return err
		}
	}
	if err := errors.Join(s.loadPlans(&m), s.loadTracks(&m), s.loadRuns(&m)); err != nil {
		return err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	for name, e := range m.plans {
		if before := s.mem.plans[name]; before != nil {
			e.told = before.told
		}
	}
	s.mem.memory = m
	return nil
}

func (s *Service) loadPlans(m *memory) error {
	plans, err := s.options.Store.Plans()
	if err != nil {
		return err
	}
	cursors, err := s.options.Store.PlanCursors()
	if err != nil {
		return err
	}
	for _, p := range plans {
		e, err := newEntry(p, cursors[p.Name])
		if err != nil {
			s.logger.Error("the schedule of a plan is not understood: it does not run by itself", "plan", p.Name, "err", err)
		}
		e.hosts = resolve(p.PlanSpec, m.hosts)
		m.plans[p.Name] = e
	}
	return nil
}

func (s *Service) loadTracks(m *memory) error {
	tracks, err := s.options.Store.Tracks("")
	for _, t := range tracks {
		m.tracks[trackID{t.Plan, t.Host, t.Repository}] = outlineOf(t)
	}
	return err
}

func (s *Service) loadRuns(m *memory) error {
	runs, err := s.options.Store.OpenPlanRuns()
	if err != nil {
		return err
	}
	for _, run := range runs {
		if err := s.findJobs(run.Run); err != nil {
			return err
		}
		m.addRun(run)
	}
	return nil
}

// findJobs gives tasks the jobs that were asked for, if that could not be noted:
// time may have passed since, and they may have run.
func (s *Service) findJobs(run fleet.Run) error {
	for i, t := range run.Tasks {
		if t.Job != "" || t.State != fleet.RunRunning {
			continue
		}
		id, found, err := s.options.Store.JobByIdempotency(keyOf(run.ID, t))
		if err != nil {
			return err
		}
		if found {
			run.Tasks[i].Job = id
		}
	}
	return nil
}

func (s *Service) readRepository(name string) (repository, error) {
	record, err := s.options.Store.RepositoryRecord(name)
	return repository{lastCheck: record.LastCheck, lastVerify: record.LastVerify, lastCompact: record.LastCompact}, err
}

// refresh reads again what has changed.
func (s *Service) refresh() error {
	fresh := s.take()
	if fresh.all || s.stale {
		if err := s.load(); err != nil {
			s.stale = true
			return err
		}
		s.stale = false
		return nil
	}
	if err := errors.Join(s.refreshHosts(fresh.hosts), s.refreshRepositories(fresh.repositories), s.refreshTracks(fresh.tracks)); err != nil {
		s.stale = true
		return err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	for id := range fresh.runs {
		if r := s.mem.runs[id]; r != nil {
			r.dirty = true
		}
	}
	return nil
}

// refreshHosts reads hosts again, and finds out anew which plans they belong to.
func (s *Service) refreshHosts(names map[string]bool) error {
	changed := false
	for name := range names {
		host, found, err := s.options.Store.Host(name)
		if err != nil {
			return err
		}
		s.mem.Lock()
		known, knew := s.mem.hosts[name]
		changed = changed || found != knew || !maps.Equal(known.Labels, host.Labels)
		if found {
			s.mem.hosts[name] = host
		} else {
			delete(s.mem.hosts, name)
		}
		s.mem.Unlock()
	}
	if changed {
		s.resolveAll()
	}
	return nil
}

// resolveAll finds out anew which hosts plans are for.
func (s *Service) resolveAll() {
	s.mem.Lock()
	defer s.mem.Unlock()
	for name, e := range s.mem.plans {
		hosts := resolve(e.plan.PlanSpec, s.mem.hosts)
		if slices.Equal(hosts, e.hosts) {
			continue
		}
		e.hosts = hosts
		e.stir()
		s.publish(name)
	}
	for id := range s.mem.tracks {
		if _, found := s.mem.hosts[id.host]; !found {
			delete(s.mem.tracks, id)
		}
	}
}

func (s *Service) refreshRepositories(names map[string]bool) error {
	for name := range names {
		_, found, err := s.options.Store.Repository(name)
		if err != nil {
			return err
		}
		read, err := s.readRepository(name)
		if err != nil {
			return err
		}
		s.mem.Lock()
		if found {
			s.mem.repositories[name] = read
		} else {
			delete(s.mem.repositories, name)
		}
		s.mem.Unlock()
	}
	return nil
}

func (s *Service) refreshTracks(ids map[trackID]bool) error {
	read := map[trackID]store.Track{}
	for id := range ids {
		track, err := s.options.Store.Track(id.plan, id.host, id.repository)
		if err != nil {
			return err
		}
		read[id] = track
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	for id, track := range read {
		if _, there := s.mem.hosts[id.host]; there {
			s.mem.tracks[id] = outlineOf(track)
		}
	}
	return nil
}

package registry

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
)

// roster is the hosts in memory: as stored, but with what they have said since.
// Hellos are too many to store each, and every notice of the bus asks whose key
// it is about. It is safe for concurrent use; the hosts in it are replaced,
// never changed.
type roster struct {
	mu    sync.Mutex
	hosts map[string]fleet.Host
	keys  map[string]string // public key, also a staged one → name
	stale map[string]bool   // names whose facts are newer than stored
}

// load fills the roster with what the store holds, and keeps newer facts.
func (r *roster) load(s *store.Store) error {
	stored, err := s.Hosts()
	if err != nil {
		return fmt.Errorf("read hosts: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before, stale := r.hosts, r.stale
	r.hosts, r.keys, r.stale = map[string]fleet.Host{}, map[string]string{}, map[string]bool{}
	for _, host := range stored {
		if stale[host.Name] {
			host.Facts, host.SealKey = before[host.Name].Facts, before[host.Name].SealKey
			r.stale[host.Name] = true
		}
		r.set(host)
	}
	return nil
}

func (r *roster) get(name string) (fleet.Host, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	host, ok := r.hosts[name]
	return host, ok
}

// byName returns every host by name.
func (r *roster) byName() []fleet.Host {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.hosts), func(a, b fleet.Host) int { return cmp.Compare(a.Name, b.Name) })
}

func (r *roster) byKey(publicKey string) (name string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, ok = r.keys[publicKey]
	return name, ok
}

func (r *roster) put(host fleet.Host) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(host)
}

// change changes a host, but for its name.
func (r *roster) change(name string, change func(*fleet.Host)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if host, ok := r.hosts[name]; ok {
		change(&host)
		r.set(host)
	}
}

// set puts a host in the place of the one before it.
func (r *roster) set(host fleet.Host) {
	r.drop(host.Name)
	r.hosts[host.Name] = host
	for _, key := range identities(host) {
		r.keys[key] = host.Name
	}
}

func (r *roster) remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(name)
	delete(r.stale, name)
}

func (r *roster) drop(name string) {
	for _, key := range identities(r.hosts[name]) {
		delete(r.keys, key)
	}
	delete(r.hosts, name)
}

// note takes in a host's facts and returns the host before; false if there is
// no such host.
func (r *roster) note(name string, facts fleet.Facts, sealKey string) (fleet.Host, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, ok := r.hosts[name]
	if !ok {
		return before, false
	}
	now := before
	now.Facts, now.SealKey = &facts, sealKey
	r.hosts[name], r.stale[name] = now, true
	return before, true
}

// takeStale returns the hosts whose facts are newer than stored, and regards
// them as stored.
func (r *roster) takeStale() []fleet.Host {
	r.mu.Lock()
	defer r.mu.Unlock()
	hosts := make([]fleet.Host, 0, len(r.stale))
	for name := range r.stale {
		hosts = append(hosts, r.hosts[name])
	}
	clear(r.stale)
	return hosts
}

// giveBack marks hosts whose facts could not be stored.
func (r *roster) giveBack(hosts []fleet.Host) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, host := range hosts {
		if _, ok := r.hosts[host.Name]; ok {
			r.stale[host.Name] = true
		}
	}
}

package httpapi

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// scrapeTimeout bounds what a scrape may wait for the store.
const scrapeTimeout = 10 * time.Second

// collector reads the present state at each scrape.
type collector struct {
	metrics *Metrics
	jobs    *prometheus.Desc
	up      *prometheus.Desc
	depth   *prometheus.Desc
	free    *prometheus.Desc
	last    *prometheus.Desc
	success *prometheus.Desc
}

func newCollector(m *Metrics) *collector {
	return &collector{
		metrics: m,
		jobs:    description("borgfleet_jobs", "Jobs that are not over, by state and kind.", "state", "kind"),
		up:      description("borgfleet_host_up", "Whether the host is connected: 1 or 0.", "host"),
		depth:   description("borgfleet_host_journal_depth", "Events in the agent's journal that it does not know to be stored.", "host"),
		free:    description("borgfleet_host_free_bytes", "Free bytes where borg keeps its cache on the host.", "host"),
		last:    description("borgfleet_backup_last_success_timestamp_seconds", "When the newest good backup ended, in seconds since 1970.", "host", "repository"),
		success: description("borgfleet_snapshot_success", "Whether the coordinator's state could be read for this scrape: 1 or 0."),
	}
}

func description(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.jobs, c.up, c.depth, c.free, c.last, c.success} {
		descriptions <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	status, err := c.metrics.snapshot.Status(ctx)
	if err != nil {
		c.metrics.logger.Warn("state could not be read for a scrape", "err", err)
		metrics <- gauge(c.success, 0)
		return
	}
	metrics <- gauge(c.success, 1)
	c.collectJobs(status, metrics)
	for _, host := range status.Hosts {
		metrics <- gauge(c.up, truth(host.Online), host.Name)
		if host.Facts != nil {
			metrics <- gauge(c.depth, float64(host.Facts.JournalDepth), host.Name)
			metrics <- gauge(c.free, float64(host.Facts.FreeBytes), host.Name)
		}
	}
	for pair, at := range c.metrics.last.of(status.Hosts) {
		metrics <- gauge(c.last, float64(at.UnixMilli())/1000, pair.host, pair.repository)
	}
}

func (c *collector) collectJobs(status fleet.Status, metrics chan<- prometheus.Metric) {
	type place struct {
		state job.State
		kind  job.Kind
	}
	counts := map[place]int{}
	for _, state := range []job.State{job.Queued, job.Sent, job.Running} {
		for _, kind := range job.Kinds() {
			counts[place{state, kind}] = 0 // an alert needs the zero
		}
	}
	for _, list := range [][]job.Job{status.Queued, status.Running} {
		for _, j := range list {
			counts[place{j.State, j.Kind}]++
		}
	}
	for at, n := range counts {
		metrics <- gauge(c.jobs, float64(n), string(at.state), string(at.kind))
	}
}

// refusals reads at each scrape what the bus counts by itself.
type refusals struct{ read func() map[string]uint64 }

var refusalsDescription = description("borgfleet_bus_refusals_total", "What the bus refused since the coordinator was started, by kind.", "kind")

// Describe implements prometheus.Collector.
func (refusals) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- refusalsDescription }

// Collect implements prometheus.Collector.
func (r refusals) Collect(metrics chan<- prometheus.Metric) {
	for kind, n := range r.read() {
		metrics <- prometheus.MustNewConstMetric(refusalsDescription, prometheus.CounterValue, float64(n), kind)
	}
}

// depotUses reads at each scrape what the depot counts by itself.
type depotUses struct{ read func() []fleet.DepotUse }

// depotCounts are the metrics of the depot, by repository.
var depotCounts = []struct {
	description *prometheus.Desc
	kind        prometheus.ValueType
	of          func(fleet.DepotUse) float64
}{
	{description("borgfleet_depot_connections", "Connections of hosts to a repository in the depot.", "repository"), prometheus.GaugeValue,
		func(u fleet.DepotUse) float64 { return float64(u.Open) }},
	{description("borgfleet_depot_connections_total", "Connections to a repository in the depot since the coordinator was started.", "repository"), prometheus.CounterValue,
		func(u fleet.DepotUse) float64 { return float64(u.Connections) }},
	{description("borgfleet_depot_refused_total", "Connections to a repository in the depot that were refused.", "repository"), prometheus.CounterValue,
		func(u fleet.DepotUse) float64 { return float64(u.Refused) }},
	{description("borgfleet_depot_received_bytes_total", "Bytes that hosts sent to a repository in the depot.", "repository"), prometheus.CounterValue,
		func(u fleet.DepotUse) float64 { return float64(u.Received) }},
	{description("borgfleet_depot_sent_bytes_total", "Bytes that a repository in the depot sent to hosts.", "repository"), prometheus.CounterValue,
		func(u fleet.DepotUse) float64 { return float64(u.Sent) }},
}

// Describe implements prometheus.Collector.
func (depotUses) Describe(descriptions chan<- *prometheus.Desc) {
	for _, count := range depotCounts {
		descriptions <- count.description
	}
}

// Collect implements prometheus.Collector.
func (d depotUses) Collect(metrics chan<- prometheus.Metric) {
	for _, use := range d.read() {
		for _, count := range depotCounts {
			metrics <- prometheus.MustNewConstMetric(count.description, count.kind, count.of(use), use.Repository)
		}
	}
}

func gauge(desc *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// pair is a host and one of the repositories that it is backed up to.
type pair struct{ host, repository string }

// lastSuccess knows when the newest good backup of each pair ended.
type lastSuccess struct {
	mu sync.Mutex
	at map[pair]time.Time
}

func newLastSuccess() *lastSuccess { return &lastSuccess{at: map[pair]time.Time{}} }

func (l *lastSuccess) see(backup job.Job) {
	good := backup.State == job.Succeeded || backup.State == job.Warning
	if !good || backup.FinishedAt == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := pair{backup.Host, backup.Repository}
	if backup.FinishedAt.After(l.at[key]) {
		l.at[key] = *backup.FinishedAt
	}
}

// of returns what is known of hosts that there still are.
func (l *lastSuccess) of(hosts []fleet.HostView) map[pair]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	present := map[string]bool{}
	for _, host := range hosts {
		present[host.Name] = true
	}
	known := map[pair]time.Time{}
	for key, at := range l.at {
		if present[key.host] {
			known[key] = at
		}
	}
	for _, host := range hosts {
		if b := host.LastBackup; b != nil {
			key := pair{host.Name, b.Repository}
			if b.FinishedAt.After(known[key]) {
				known[key] = b.FinishedAt
			}
		}
	}
	return known
}

// seedPages bounds how far back the start looks for last backups.
const seedPages = 20

// seed looks for the newest good backup of each pair in the stored jobs, since
// a gauge that is gone after a restart would look like a missing backup.
func (m *Metrics) seed(ctx context.Context) error {
	for _, state := range []job.State{job.Succeeded, job.Warning} {
		filter := job.Filter{Kind: job.Backup, State: state, Limit: job.MaxPage}
		for range seedPages {
			page, err := m.snapshot.Jobs(ctx, filter)
			if err != nil {
				return fmt.Errorf("read backups that %s: %w", state, err)
			}
			for _, backup := range page.Jobs {
				m.last.see(backup)
			}
			if filter.Cursor = page.Cursor; filter.Cursor == "" {
				break
			}
		}
	}
	return nil
}

// rememberEnded is how many ended jobs are remembered, so that one that is
// published again is counted once.
const rememberEnded = 8192

// ended remembers the newest jobs that were counted.
type ended struct {
	seen  map[job.ID]bool
	order []job.ID // a ring once it is full
	next  int
}

func newEnded() *ended { return &ended{seen: map[job.ID]bool{}} }

// first reports whether id was not seen before, and remembers it.
func (e *ended) first(id job.ID) bool {
	if e.seen[id] {
		return false
	}
	e.seen[id] = true
	if len(e.order) < rememberEnded {
		e.order = append(e.order, id)
		return true
	}
	delete(e.seen, e.order[e.next])
	e.order[e.next] = id
	e.next = (e.next + 1) % rememberEnded
	return true
}

package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Snapshot is what the metrics read at each scrape, and once at the start. It
// is safe for concurrent use.
type Snapshot interface {
	Status(ctx context.Context) (fleet.Status, error)
	Jobs(ctx context.Context, filter job.Filter) (job.Page, error)
}

// MetricsOptions is what [Metrics] needs.
type MetricsOptions struct {
	Snapshot Snapshot
	Feed     *feed.Feed
	Logger   hclog.Logger

	Refusals func() map[string]uint64 // what the bus has refused so far, by kind; nil: not known
	Depot    func() []fleet.DepotUse  // what went to and from the depot so far; nil: there is none
	Expiry   func() time.Time         // when the server's certificate expires; nil: there is none
}

// Metrics counts what happens, in a registry of its own. What is true at a
// moment is read when it is asked for; what adds up is counted by Run.
type Metrics struct {
	snapshot Snapshot
	feed     *feed.Feed
	logger   hclog.Logger
	registry *prometheus.Registry
	ended    *ended
	last     *lastSuccess

	finished   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	original   *prometheus.CounterVec
	compressed *prometheus.CounterVec
	stored     *prometheus.CounterVec
	missed     prometheus.Counter
	requests   *prometheus.CounterVec
	latency    *prometheus.HistogramVec
	streams    prometheus.Gauge
	logins     *prometheus.CounterVec
}

// durationBuckets reach from an info that takes a second to a first backup
// that takes a day.
var durationBuckets = []float64{1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400}

// latencyBuckets tell an answer from memory, from the disk, and a slow one.
var latencyBuckets = []float64{0.005, 0.025, 0.1, 0.5, 2.5, 10}

// NewMetrics returns metrics that count from now on, as soon as Run runs.
func NewMetrics(options MetricsOptions) *Metrics {
	m := &Metrics{
		snapshot: options.Snapshot, feed: options.Feed, logger: options.Logger.Named("metrics"),
		registry: prometheus.NewRegistry(), ended: newEnded(), last: newLastSuccess(),
		finished:   counter("borgfleet_jobs_finished_total", "Jobs that became terminal since the coordinator was started.", "state", "kind"),
		duration:   histogram("borgfleet_job_duration_seconds", "Time from the last attempt's start to the end of a job.", durationBuckets, "kind"),
		original:   counter("borgfleet_backup_original_bytes_total", "Bytes that finished backups read.", "host", "repository"),
		compressed: counter("borgfleet_backup_compressed_bytes_total", "Bytes that finished backups had after compression.", "host", "repository"),
		stored:     counter("borgfleet_backup_deduplicated_bytes_total", "Bytes that finished backups added to their repositories.", "host", "repository"),
		missed:     prometheus.NewCounter(prometheus.CounterOpts{Name: "borgfleet_metrics_gaps_total", Help: "Times that the metrics were too slow and may have missed finished jobs."}),
		requests:   counter("borgfleet_http_requests_total", "HTTP requests answered.", "method", "route", "code"),
		latency:    histogram("borgfleet_http_request_duration_seconds", "Time to answer an HTTP request, without event streams.", latencyBuckets, "method", "route"),
		streams:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "borgfleet_http_event_streams", Help: "Event streams that are open."}),
		logins:     counter("borgfleet_logins_total", "Attempts to sign in with a password.", "outcome"),
	}
	for _, outcome := range []string{loginGood, loginRefused, loginLimited, loginFailed} {
		m.logins.WithLabelValues(outcome) // an alert needs the zero
	}
	watchers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "borgfleet_feed_watchers", Help: "Readers of the coordinator's internal feed of changes.",
	}, func() float64 { return float64(m.feed.Watchers()) })
	m.registry.MustRegister(
		m.finished, m.duration, m.original, m.compressed, m.stored, m.missed, m.requests, m.latency, m.streams, m.logins,
		watchers, buildInfo(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newCollector(m),
	)
	if options.Refusals != nil {
		m.registry.MustRegister(refusals{options.Refusals})
	}
	if options.Depot != nil {
		m.registry.MustRegister(depotUses{options.Depot})
	}
	if options.Expiry != nil {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "borgfleet_certificate_expiry_timestamp_seconds", Help: "When the server's certificate expires, in seconds since 1970.",
		}, func() float64 { return float64(options.Expiry().Unix()) }))
	}
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

func buildInfo() prometheus.Collector {
	info := build.Current()
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "borgfleet_build_info", Help: "Which build this is; the value is always 1.",
	}, []string{"version", "commit", "go_version"})
	gauge.WithLabelValues(info.Version, info.Commit, info.Go).Set(1)
	return gauge
}

// Gatherer returns everything that is measured.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

func (m *Metrics) handler(logger hclog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn}),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             30 * time.Second,
	})
}

// Run counts finished jobs until ctx ends; the error is ctx's.
func (m *Metrics) Run(ctx context.Context) error {
	watcher := m.feed.Watch()
	defer watcher.Close()
	if err := m.seed(ctx); err != nil {
		m.logger.Warn("last backups are not known yet", "err", err)
	}
	for {
		batch, err := watcher.Next(ctx)
		if err != nil {
			return err
		}
		for _, update := range batch {
			m.count(update)
		}
	}
}

func (m *Metrics) count(update feed.Update) {
	switch {
	case update.Type == feed.Missed:
		m.missed.Inc()
	case update.Type != feed.JobChanged || !update.Job.State.Terminal() || !m.ended.first(update.Job.ID):
		return
	default:
		m.countEnded(*update.Job)
	}
}

func (m *Metrics) countEnded(ended job.Job) {
	m.finished.WithLabelValues(string(ended.State), string(ended.Kind)).Inc()
	if ended.StartedAt != nil && ended.FinishedAt != nil {
		m.duration.WithLabelValues(string(ended.Kind)).Observe(max(0, ended.Duration(*ended.FinishedAt).Seconds()))
	}
	if ended.Kind != job.Backup || ended.Result == nil {
		return
	}
	m.last.see(ended)
	for vector, size := range map[*prometheus.CounterVec]int64{
		m.original: ended.Result.OriginalSize, m.compressed: ended.Result.CompressedSize, m.stored: ended.Result.DeduplicatedSize,
	} {
		vector.WithLabelValues(ended.Host, ended.Repository).Add(float64(max(0, size)))
	}
}

// Outcomes of an attempt to sign in.
const (
	loginGood    = "good"
	loginRefused = "refused" // wrong name or password
	loginLimited = "limited" // too many attempts
	loginFailed  = "failed"  // a fault of ours
)

// CountLogin counts an attempt to sign in with a password, whichever edge it
// came in by; err is how it ended.
func (m *Metrics) CountLogin(err error) {
	outcome := loginGood
	if err != nil {
		switch job.AsFailure(err).Code {
		case job.NotAuthenticated, job.InvalidRequest:
			outcome = loginRefused
		case job.TooMany:
			outcome = loginLimited
		default:
			outcome = loginFailed
		}
	}
	m.logins.WithLabelValues(outcome).Inc()
}

// methods that are told apart; a client may invent any number of others.
var methods = map[string]bool{
	http.MethodGet: true, http.MethodHead: true, http.MethodPost: true, http.MethodPut: true,
	http.MethodPatch: true, http.MethodDelete: true, http.MethodOptions: true,
}

// request accounts for an answered HTTP request.
func (m *Metrics) request(c *call, taken time.Duration) {
	method := c.request.Method
	if !methods[method] {
		method = "other"
	}
	route := c.request.Pattern
	if _, path, ok := strings.Cut(route, " "); ok {
		route = path
	}
	if route == "" {
		route = "none"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(c.status)).Inc()
	if !c.stream {
		m.latency.WithLabelValues(method, route).Observe(taken.Seconds())
	}
}

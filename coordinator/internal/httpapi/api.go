package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/shared/build"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Prefix is where the API begins.
const Prefix = "/api/v1"

// MaxBodyBytes bounds a request's body.
const MaxBodyBytes = 1 << 20

// Options is what an [API] needs.
type Options struct {
	Mux          *http.ServeMux // shared with the pages; the API registers its own patterns on it
	Jobs         Jobs
	Logs         Logs
	Statuses     Statuses
	Hosts        Hosts
	Repositories Repositories
	Operations   Operations
	Archives     Archives
	Catalog      Catalog
	Downloads    Downloads
	Feed         *feed.Feed
	Metrics      *Metrics

	Authenticator Authenticator // of every request, to API and pages
	Logins        Logins
	People        People
	Tokens        Tokens
	Credentials   Credentials
	Enrolment     Enrolment
	Audit         Audit
	State         State

	Connections Connections // to hosts over SSH; nil: there are none
	Depot       Depot       // nil: there is none

	Plans         Plans         // nil: there are none
	Alerts        Alerts        // nil: there are none
	Notifications Notifications // nil: there are none
	Manifests     Manifests     // nil: there are none

	URL    string   // where people open the pages, such as https://backup.example.net:8440
	Ready  []Check  // what /readyz looks at
	Names  []string // host names, besides localhost and addresses, under which requests may come
	Logger hclog.Logger

	MaxStreams   int           // event streams at a time; 0 means 512
	Keepalive    time.Duration // comment on a silent event stream, and look whether its reader is still let in; 0 means 15 s
	WriteTimeout time.Duration // for each write to an event stream; 0 means 10 s
	BodyTimeout  time.Duration // for reading a request's body; 0 means 30 s

	DownloadTimeout time.Duration // for each write of a part of a download; 0 means a minute
}

// API serves everything on its mux, behind its guard. It is safe for concurrent
// use.
type API struct {
	options Options
	logger  hclog.Logger
	huma    huma.API
	handler http.Handler
	streams chan struct{} // one token for each open event stream
}

// New registers the API on the mux. Serve the returned API, not the mux.
func New(options Options) (*API, error) {
	if err := options.check(); err != nil {
		return nil, fmt.Errorf("make HTTP API: %w", err)
	}
	adoptProblems()
	a := &API{
		options: options,
		logger:  options.Logger.Named("http"),
		streams: make(chan struct{}, options.MaxStreams),
	}
	a.huma = humago.NewWithPrefix(options.Mux, Prefix, config())
	a.registerStatus()
	a.registerHosts()
	a.registerReach()
	a.registerRepositories()
	a.registerDepot()
	a.registerArchives()
	a.registerJobs()
	if options.Plans != nil {
		a.registerPlans()
	}
	if options.Alerts != nil {
		a.registerAlerts()
	}
	if options.Notifications != nil {
		a.registerNotifications()
	}
	if options.Manifests != nil {
		a.registerApply()
	}
	a.registerEvents()
	a.registerLogin()
	a.registerPeople()
	a.registerTokens()
	a.registerCredentials()
	a.registerEnrolment()
	a.registerAudit()
	a.registerState()
	a.registerOperations()
	a.registerDocument()
	a.registerHealth()
	options.Mux.Handle("GET /metrics", options.Metrics.handler(a.logger))
	options.Mux.HandleFunc("/api/", a.unrouted)
	options.Mux.HandleFunc("/metrics", a.unrouted)
	a.handler = a.guard(options.Mux)
	return a, nil
}

func (o *Options) check() error {
	missing := map[string]bool{
		"Mux": o.Mux == nil, "Jobs": o.Jobs == nil, "Logs": o.Logs == nil, "Statuses": o.Statuses == nil,
		"Hosts": o.Hosts == nil, "Repositories": o.Repositories == nil, "Feed": o.Feed == nil,
		"Metrics": o.Metrics == nil, "Logger": o.Logger == nil, "Authenticator": o.Authenticator == nil,
		"Logins": o.Logins == nil, "People": o.People == nil, "Tokens": o.Tokens == nil,
		"Credentials": o.Credentials == nil, "Enrolment": o.Enrolment == nil, "Audit": o.Audit == nil,
		"State": o.State == nil, "Operations": o.Operations == nil, "Archives": o.Archives == nil, "Catalog": o.Catalog == nil,
		"Downloads": o.Downloads == nil,
		"URL":       o.URL == "",
	}
	for name, isMissing := range missing {
		if isMissing {
			return errors.New("option " + name + " is missing")
		}
	}
	if o.Connections == nil {
		o.Connections = absent{}
	}
	if o.Depot == nil {
		o.Depot = absent{}
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = 512
	}
	if o.Keepalive <= 0 {
		o.Keepalive = 15 * time.Second
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 10 * time.Second
	}
	if o.BodyTimeout <= 0 {
		o.BodyTimeout = 30 * time.Second
	}
	if o.DownloadTimeout <= 0 {
		o.DownloadTimeout = time.Minute
	}
	return nil
}

// ServeHTTP implements http.Handler for the whole server.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// bearer names the security scheme of the document.
const bearer = "bearer"

// config is huma's, without its own pages: they load scripts from elsewhere.
func config() huma.Config {
	c := huma.DefaultConfig("borgfleet", build.Current().Version)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil
	c.Components.Schemas = huma.NewMapRegistry(schemaPrefix, schemaName)
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{bearer: {
		Type: "http", Scheme: "bearer", Description: "an API token, or one from POST /login",
	}}
	c.Security = []map[string][]string{{bearer: {}}}
	c.RejectUnknownQueryParameters = true
	c.Formats = map[string]huma.Format{"application/json": jsonFormat(), "json": jsonFormat()}
	return c
}

// unrouted answers what no other pattern takes: a wrong method, or a path that
// is not there.
func (a *API) unrouted(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := a.options.Mux.Handler(other); strings.HasPrefix(pattern, method+" ") {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		writeProblem(w, newProblem(http.StatusNotFound, job.Fail(job.InvalidRequest, "there is nothing at this address").
			WithHint("%s/docs lists what there is", Prefix)))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeProblem(w, newProblem(http.StatusMethodNotAllowed, job.Fail(job.InvalidRequest, "this address does not take this method").
		WithHint("it takes %s", strings.Join(allowed, ", "))))
}

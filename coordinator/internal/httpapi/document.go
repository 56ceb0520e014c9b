package httpapi

import (
	"bytes"
	_ "embed" // the page's template and style
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

const documentDescription = `Everything that borgfleet's command line and pages do. Sizes are bytes,
durations seconds, times RFC 3339 in UTC. Lists are paged with limit and
cursor. Every error is an RFC 9457 problem document with a code for programs
and a hint for people. A request with a field or a query parameter that is not
known is refused. Every call but POST /login needs a token, in the header
Authorization: Bearer TOKEN. A viewer reads, an operator also runs and cancels
jobs, an admin also changes hosts, repositories and people. Beside this API: /healthz (the process is alive), /readyz (it
can do its work), both open to all, and /metrics (for Prometheus).`

// registerDocument adds the OpenAPI document, and the page that shows it. Both
// are made once, when somebody reads one: it takes longer than all else here.
// Everything else must be registered before.
func (a *API) registerDocument() {
	document := a.huma.OpenAPI()
	document.Info.Description = documentDescription
	document.Info.License = &huma.License{Name: "MIT", Identifier: "MIT"}
	document.Tags = []*huma.Tag{
		{Name: tagStatus, Description: "How everything is."},
		{Name: tagHosts, Description: "Machines with data."},
		{Name: tagRepositories, Description: "Borg repositories."},
		{Name: tagArchives, Description: "What is in the repositories: archives, and their files."},
		{Name: tagJobs, Description: "Pieces of work, each for one host and one repository."},
		{Name: tagPlans, Description: "What is backed up by itself, when, and how that stands."},
		{Name: tagAlerts, Description: "What needs a person, and what is to be quiet for a time."},
		{Name: tagNotifications, Description: "Who is told of alerts, and what they were told."},
		{Name: tagEvents, Description: "What happens, as it happens."},
		{Name: tagLogin, Description: "Who asks."},
		{Name: tagEnrolment, Description: "One-time tokens with which a host's agent gets its identity."},
		{Name: tagPeople, Description: "Who may sign in."},
		{Name: tagTokens, Description: "What lets programs in."},
		{Name: tagCredentials, Description: "What lets people and programs use the bus."},
		{Name: tagAudit, Description: "Who did what, from where, and how it ended."},
		{Name: tagState, Description: "What the coordinator itself cannot do without."},
		{Name: tagBorg, Description: borgDescription},
	}
	refine(a.registry())
	made := sync.OnceValues(func() (documents, error) { return render(document) })
	shown := func(contentType string, which func(documents) []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			d, err := made()
			if err != nil {
				writeProblem(w, a.problem(r.Context(), err))
				return
			}
			constant(contentType, which(d))(w, r)
		}
	}
	mux := a.options.Mux
	mux.HandleFunc("GET "+Prefix+"/openapi.json", shown("application/json", func(d documents) []byte { return d.openAPI }))
	mux.HandleFunc("GET "+Prefix+"/docs.css", constant("text/css; charset=utf-8", docsStyle))
	page := shown("text/html; charset=utf-8", func(d documents) []byte { return d.page })
	mux.HandleFunc("GET "+Prefix+"/docs", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		page(w, r)
	})
}

// documents are the OpenAPI document and the page that shows it.
type documents struct{ openAPI, page []byte }

func render(document *huma.OpenAPI) (documents, error) {
	data, err := json.MarshalIndent(document, "", " ")
	if err != nil {
		return documents{}, fmt.Errorf("encode OpenAPI document: %w", err)
	}
	page, err := renderDocs(data)
	if err != nil {
		return documents{}, err
	}
	return documents{data, page}, nil
}

func constant(contentType string, data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(data) // nobody is left to tell
	}
}

// eventSchema describes the messages of the event stream.
func eventSchema(registry huma.Registry) *huma.Schema {
	var messages []*huma.Schema
	for _, message := range []struct {
		name string
		data reflect.Type
	}{
		{eventSnapshot, reflect.TypeFor[EventSnapshot]()},
		{string(feed.JobChanged), reflect.TypeFor[job.Job]()},
		{string(feed.JobProgress), reflect.TypeFor[JobProgress]()},
		{string(feed.JobEvent), reflect.TypeFor[job.Event]()},
		{string(feed.HostChanged), reflect.TypeFor[HostRef]()},
		{string(feed.RepositoryChanged), reflect.TypeFor[RepositoryRef]()},
		{string(feed.PlanChanged), reflect.TypeFor[PlanRef]()},
		{string(feed.AlertChanged), reflect.TypeFor[fleet.Alert]()},
		{string(feed.Missed), nil},
	} {
		data := &huma.Schema{Type: huma.TypeObject}
		if message.data != nil {
			data = registry.Schema(message.data, true, message.name)
		}
		messages = append(messages, &huma.Schema{
			Title: message.name, Type: huma.TypeObject, Required: []string{"id", "event", "data"},
			Properties: map[string]*huma.Schema{
				"id":    {Type: huma.TypeInteger, Description: "counts within this stream"},
				"event": {Type: huma.TypeString, Extensions: map[string]any{"const": message.name}},
				"data":  data,
			},
		})
	}
	return &huma.Schema{
		Type: huma.TypeArray, Description: "the messages of the stream; data is JSON in one line",
		Items: &huma.Schema{Extensions: map[string]any{"oneOf": messages}},
	}
}

//go:embed docs.css
var docsStyle []byte

//go:embed docs.html
var docsTemplate string

// renderDocs makes the readable page from the document itself, so that the two
// cannot differ. It needs no script.
func renderDocs(document []byte) ([]byte, error) {
	view, err := newDocsView(document)
	if err != nil {
		return nil, fmt.Errorf("read OpenAPI document: %w", err)
	}
	page, err := template.New("docs").Parse(docsTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse page of the document: %w", err)
	}
	var out bytes.Buffer
	if err := page.Execute(&out, view); err != nil {
		return nil, fmt.Errorf("render page of the document: %w", err)
	}
	return out.Bytes(), nil
}

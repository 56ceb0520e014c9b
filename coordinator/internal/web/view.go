package web

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/shared/job"
)

//go:embed templates
var templateFiles embed.FS

// loadTemplates parses them once: it takes longer than many pages together.
var loadTemplates = sync.OnceValues(func() (*template.Template, error) {
	t, err := template.New("").Funcs(helpers()).ParseFS(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("parsing templates: %w", err)
	}
	return t, nil
})

// view is one page as it was read at one moment. It is built anew for each
// look at it.
type view struct {
	Title  string
	Nav    string // address of the menu entry that it belongs to
	Body   string // template of everything below the header
	Status int    // of the HTTP answer; 0 means 200
	Data   any    // for Body and for each of Live

	Address string // where this page is read, when it came as the answer to a form
	Secret  bool   // it shows a secret, or asks for one: no browser may keep it

	// Live are the parts that change while the page is open. Each name is both
	// a template's and the id of the element that holds its output.
	Live []string
	// Cares says whether an update may change this page.
	Cares func(feed.Update) bool
	// Progress returns the fragments that show the progress of a job, without
	// reading anything; nil when it is not on this page.
	Progress func(id job.ID, progress *job.Progress) []fragment
	// Log is the job whose log the page shows.
	Log job.ID
	// Fill reads what only the whole page shows, not its live parts.
	Fill func(ctx context.Context) error
}

// fragment is one part of a page: what fills the element with this id.
type fragment struct {
	ID       string
	Template string
	Data     any
	Part     string // the live part that the element lies in
	Title    string // of the whole page from now on; "" keeps it
}

// builder reads a page. It may be called many times.
type builder func(ctx context.Context) (*view, error)

// route finds the page at an address. c prints the commands that pages show.
func (s *site) route(u *url.URL, c commands) (builder, bool) {
	if build, ok := s.routeArchives(u, c); ok {
		return build, true
	}
	if build, ok := s.routePlanning(u, c); ok {
		return build, true
	}
	clean := path.Clean("/" + u.Path)
	section, name, deep := strings.Cut(strings.TrimPrefix(clean, "/"), "/")
	query := u.Query()
	if user, ok := strings.CutPrefix(clean, "/people/users/"); ok && !strings.Contains(user, "/") {
		return func(ctx context.Context) (*view, error) { return s.user(ctx, user, c, userSent{}) }, true
	}
	if strings.Contains(name, "/") {
		return nil, false
	}
	switch {
	case clean == "/":
		return func(ctx context.Context) (*view, error) { return s.overview(ctx, c) }, true
	case section == "hosts" && !deep:
		return func(ctx context.Context) (*view, error) { return s.hosts(ctx, query, c) }, true
	case clean == "/enrol":
		return func(ctx context.Context) (*view, error) { return s.enrol(ctx, query, c) }, true
	case section == "hosts":
		return func(ctx context.Context) (*view, error) { return s.host(ctx, name, c, nil) }, true
	case section == "repositories" && !deep:
		return func(ctx context.Context) (*view, error) { return s.repositories(ctx, c) }, true
	case section == "repositories":
		return func(ctx context.Context) (*view, error) { return s.repository(ctx, name, c, nil) }, true
	case section == "jobs" && !deep:
		return func(ctx context.Context) (*view, error) { return s.jobs(ctx, query) }, true
	case section == "jobs":
		return func(ctx context.Context) (*view, error) { return s.job(ctx, job.ID(name), c, nil) }, true
	case clean == "/people":
		return func(ctx context.Context) (*view, error) { return s.people(ctx, c, peopleForms{}) }, true
	case clean == accountURL:
		return func(ctx context.Context) (*view, error) { return s.account(ctx, query.Has("changed"), nil), nil }, true
	case clean == "/audit":
		return func(ctx context.Context) (*view, error) { return s.audit(ctx, query, c) }, true
	}
	return nil, false
}

// actionParent returns the page that a form's address belongs to.
func actionParent(address string) (string, bool) {
	parent, action := path.Split(path.Clean(address))
	parent = strings.TrimSuffix(parent, "/")
	depth := 2
	switch action {
	case "cancel", "retry", "backup", "run", "unmount", "enable", "disable", "allow", "deny", "resume", "accept", "restore-test":
	case "role", "link":
		depth = 3
	case "end":
		return "/alerts", strings.HasPrefix(parent, "/silences/")
	case "test":
		return "/notifications", strings.HasPrefix(parent, "/notifications/targets/")
	case "targets", "rules":
		return parent, parent == "/notifications"
	case "users", "tokens", "credentials":
		return parent, parent == "/people"
	case "password":
		return parent, parent == accountURL
	case "logout":
		return "/", parent == ""
	default:
		return "", false
	}
	return parent, strings.Count(parent, "/") == depth && !strings.HasPrefix(parent, "//")
}

// frame is what the layout needs besides the view.
type frame struct {
	*view
	clock
	Main    template.HTML
	Version string
	Build   string
	Reader  reader
	Menu    menu
	Address string // path and query of this page, for the live stream
	Once    bool   // a reload shows the page at Address instead
	CSS     string
	Script  string
	Icon    string
}

// render writes the whole page.
func (s *site) render(w http.ResponseWriter, r *http.Request, v *view) {
	if v.Fill != nil {
		if err := v.Fill(r.Context()); err != nil {
			s.faultOf(w, r, err)
			return
		}
	}
	page, err := s.compose(r, v)
	if err != nil {
		s.logger.Error("cannot render page", "path", r.URL.Path, "err", err)
		http.Error(w, "This page cannot be shown: a fault of borgfleet, see its log.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if v.Secret {
		w.Header().Set("Cache-Control", "no-store")
	}
	if v.Status != 0 {
		w.WriteHeader(v.Status)
	}
	if _, err := w.Write(page); err != nil {
		s.logger.Debug("reader left", "path", r.URL.Path, "err", err)
	}
}

func (s *site) compose(r *http.Request, v *view) ([]byte, error) {
	body, err := s.execute(v.Body, v.Data)
	if err != nil {
		return nil, err
	}
	address := cmp.Or(v.Address, r.URL.RequestURI())
	if parent, ok := actionParent(r.URL.Path); ok && v.Address == "" {
		address = parent
	}
	var page bytes.Buffer
	err = s.templates.ExecuteTemplate(&page, "layout", frame{
		view: v, clock: s.moment(), Main: template.HTML(body), //nolint:gosec // our own template's output
		Version: s.Version, Build: s.assets.build, Reader: readerOf(r.Context()), Menu: s.menu(r.Context()),
		Address: address, Once: v.Secret && v.Address != "",
		CSS: s.assets.urls["page.css"], Script: s.assets.urls["page.js"], Icon: s.assets.urls["favicon.svg"],
	})
	if err != nil {
		return nil, fmt.Errorf("rendering layout: %w", err)
	}
	return page.Bytes(), nil
}

func (s *site) execute(name string, data any) (string, error) {
	var out bytes.Buffer
	if err := s.templates.ExecuteTemplate(&out, name, data); err != nil {
		return "", fmt.Errorf("rendering %s: %w", name, err)
	}
	return out.String(), nil
}

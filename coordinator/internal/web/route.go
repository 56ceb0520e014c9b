package web

import (
	"context"
	"net/http"
	"net/url"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// addArchives adds the addresses that forms about archives are sent to.
func (s *site) addArchives(mux *http.ServeMux) {
	mux.HandleFunc("POST /jobs/{id}/unmount", s.unmount)
	mux.HandleFunc("POST /repositories/{repository}/refresh", s.refresh)
	mux.HandleFunc("POST /repositories/{repository}/archives/{archive}/files", s.listFiles)
	for address, build := range map[string]confirmer{
		"/jobs/{id}/force-unmount": s.confirmForce,
		"/jobs/{id}/prune":         s.confirmPrune,
	} {
		mux.Handle("GET "+address, s.confirm(bus.Operator, build))
		mux.Handle("POST "+address, s.confirm(bus.Operator, build))
	}
	for address, build := range map[string]formBuilder{
		"/hosts/{host}/verify":                                  s.verifyForm,
		"/repositories/{repository}/verify":                     s.verifyForm,
		"/repositories/{repository}/check":                      s.checkForm,
		"/repositories/{repository}/repair":                     s.repairForm,
		"/repositories/{repository}/compact":                    s.compactForm,
		"/repositories/{repository}/prune":                      s.pruneForm,
		"/repositories/{repository}/mount":                      s.mountForm,
		"/repositories/{repository}/archives/{archive}/mount":   s.mountForm,
		"/repositories/{repository}/archives/{archive}/restore": s.restoreForm,
		"/repositories/{repository}/archives/{archive}/compare": s.compareForm,
	} {
		mux.Handle("GET "+address, s.form(build))
		mux.Handle("POST "+address, s.form(build))
	}
}

// routeArchives finds the pages about archives and what is in them.
func (s *site) routeArchives(u *url.URL, c commands) (builder, bool) {
	parts, query := segments(u), u.Query()
	switch {
	case len(parts) == 1 && parts[0] == "find":
		return func(ctx context.Context) (*view, error) { return s.find(ctx, query, c) }, true
	case len(parts) < 3 || parts[0] != "repositories":
		return nil, false
	}
	at := place{Repository: parts[1], Path: query.Get("path")}
	switch {
	case len(parts) == 3 && parts[2] == "transactions" && s.Depot != nil:
		return func(ctx context.Context) (*view, error) { return s.transactions(ctx, at.Repository, query, c) }, true
	case len(parts) == 3 && parts[2] == "history":
		return func(ctx context.Context) (*view, error) { return s.history(ctx, at.Repository, query, c) }, true
	case parts[2] != "archives" || len(parts) > 5:
		return nil, false
	case len(parts) == 3:
		return func(ctx context.Context) (*view, error) { return s.archives(ctx, at.Repository, query, c) }, true
	}
	at.Archive = parts[3]
	switch {
	case len(parts) == 4:
		return func(ctx context.Context) (*view, error) { return s.archive(ctx, at.Repository, at.Archive, c) }, true
	case parts[4] == "files":
		return func(ctx context.Context) (*view, error) { return s.files(ctx, at, query, c) }, true
	case parts[4] == "download":
		return func(ctx context.Context) (*view, error) { return s.download(ctx, at, query, c) }, true
	}
	return nil, false
}

// addReach adds the addresses of forms about hosts over SSH and about the depot.
func (s *site) addReach(mux *http.ServeMux) {
	if s.SSH != nil {
		for _, address := range []string{"/enrol/ssh", "/hosts/{host}/access"} {
			mux.HandleFunc("GET "+address, s.accessPage)
			mux.HandleFunc("POST "+address, s.accessPage)
		}
		mux.HandleFunc("POST /hosts/{host}/enable", s.setDisabled(false))
		mux.HandleFunc("POST /hosts/{host}/disable", s.setDisabled(true))
	}
	if s.Depot == nil {
		return
	}
	mux.HandleFunc("GET /new-repository", s.newRepository)
	mux.HandleFunc("POST /new-repository", s.addRepository)
	mux.HandleFunc("POST /repositories/{repository}/allow", s.admission(s.Keeper.Allow))
	mux.HandleFunc("POST /repositories/{repository}/deny", s.admission(s.Keeper.Deny))
	for address, build := range map[string]confirmer{
		"/repositories/{repository}/unfreeze": s.confirmUnfreeze,
		"/repositories/{repository}/rollback": s.confirmRollback,
	} {
		mux.Handle("GET "+address, s.confirm(bus.Admin, build))
		mux.Handle("POST "+address, s.confirm(bus.Admin, build))
	}
}

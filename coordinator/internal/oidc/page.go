package oidc

import (
	"html/template"
	"net/http"
	"net/url"

	"github.com/borgfleet/borgfleet/shared/job"
)

// page needs nothing but itself, as the Content-Security-Policy of a path that
// is not the pages' allows nothing else.
var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Not signed in · borgfleet</title>
</head>
<body>
<main>
<h1>You are not signed in</h1>
<p>{{.Failure.Message}}.</p>
{{with .Failure.Hint}}<p>What to do: {{.}}.</p>
{{end}}<p><a href="{{.Again}}">Begin again with {{.Name}}</a></p>
<p><a href="{{.Login}}">Sign in with a password</a></p>
</main>
</body>
</html>
`))

// show answers whoever was not signed in.
func (h *Handler) show(w http.ResponseWriter, next string, failure *job.Failure) {
	query := url.Values{"next": {next}}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(failure.Code.HTTPStatus())
	err := page.Execute(w, map[string]any{
		"Failure": failure, "Name": h.Name(), "Again": h.startURL(query), "Login": "/login?" + query.Encode(),
	})
	if err != nil {
		h.Logger.Debug("send a page", "err", err)
	}
}

package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed static
var staticFiles embed.FS

// assets holds the style sheet, the script and the icon, each under a name
// that carries the hash of its content, so that a browser may keep it for ever.
type assets struct {
	byName map[string]asset
	urls   map[string]string // "page.css" → "/static/page.3f2a….css"
	build  string            // changes with any of them
}

type asset struct {
	content []byte
	mime    string
}

var mimes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

func loadAssets() (assets, error) {
	a := assets{byName: map[string]asset{}, urls: map[string]string{}}
	entries, err := fs.ReadDir(staticFiles, "static")
	if err != nil {
		return a, fmt.Errorf("listing static files: %w", err)
	}
	all := sha256.New()
	for _, entry := range entries {
		content, err := staticFiles.ReadFile("static/" + entry.Name())
		if err != nil {
			return a, fmt.Errorf("reading static file: %w", err)
		}
		sum := sha256.Sum256(content)
		all.Write(sum[:])
		extension := path.Ext(entry.Name())
		name := strings.TrimSuffix(entry.Name(), extension) + "." + hex.EncodeToString(sum[:6]) + extension
		a.byName[name] = asset{content: content, mime: mimes[extension]}
		a.urls[entry.Name()] = "/static/" + name
	}
	a.build = hex.EncodeToString(all.Sum(nil)[:6])
	return a, nil
}

func (s *site) static(w http.ResponseWriter, r *http.Request) {
	found, ok := s.assets.byName[r.PathValue("file")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", found.mime)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(found.content)))
}

func (s *site) favicon(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, s.assets.urls["favicon.svg"], http.StatusFound)
}

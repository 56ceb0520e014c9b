package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// answering is a client of a server that answers with a function, and what it
// was asked.
func answering(t *testing.T, answer http.HandlerFunc) (c *client.Client, asked *[]string) {
	t.Helper()
	asked = &[]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Method+" "+r.URL.RequestURI())
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	c, err := client.New(client.Options{URL: server.URL, Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return c, asked
}

// Each call asks for what it was given, and reads what comes.
func TestArchiveCalls(t *testing.T) {
	at := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	file := fleet.File{Path: "etc/a", Name: "a", Type: fleet.RegularFile, Size: 7, MTime: at}
	archive := fleet.Archive{Archive: job.Archive{Name: "web1-1", Start: at}, Repository: "main", Host: "web1", ListedAt: &at}
	for name, test := range map[string]struct {
		call  func(context.Context, *client.Client) (any, error)
		asked string
		want  any
	}{
		"archives": {
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Archives(ctx, fleet.ArchiveFilter{Repository: "main", Host: "web1", Prefix: "p", Glob: "g*", After: at, Before: at.Add(time.Hour), Limit: 7, Cursor: "c"})
			},
			"GET /api/v1/repositories/main/archives?after=2026-11-22T02%3A00%3A00Z&before=2026-11-22T03%3A00%3A00Z&cursor=c&glob=g%2A&host=web1&limit=7&prefix=p",
			fleet.ArchivePage{Archives: []fleet.Archive{archive}, Total: 1, AsOf: &at},
		},
		"archive": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.Archive(ctx, "main", "a?b:1") },
			"GET /api/v1/repositories/main/archives/a%3Fb:1", archive,
		},
		"files": {
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Files(ctx, fleet.FilesQuery{Repository: "main", Archive: "web1-1", Path: "etc/x&y", Limit: 3, Cursor: "c"})
			},
			"GET /api/v1/repositories/main/archives/web1-1/files?cursor=c&limit=3&path=etc%2Fx%26y",
			fleet.FilePage{Repository: "main", ListedAt: at, Entry: &file, Files: []fleet.File{file}, Cursor: "d"},
		},
		"find": {
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Find(ctx, fleet.FindQuery{Repository: "main", Archive: "web1-1", Name: "*.a", Limit: 3, Cursor: "c"})
			},
			"GET /api/v1/find?archive=web1-1&cursor=c&limit=3&name=%2A.a&repository=main",
			fleet.MatchPage{Matches: []fleet.Match{{Repository: "main", Archive: "web1-1", Start: at, File: file}}, Searched: 2},
		},
		"history": {
			func(ctx context.Context, c *client.Client) (any, error) { return c.History(ctx, "main", "etc/a") },
			"GET /api/v1/repositories/main/history?path=etc%2Fa",
			fleet.PathHistory{Repository: "main", Path: "etc/a", Versions: []fleet.PathVersion{{Archive: "web1-1", Start: at, File: &file, Changed: true}}, NotListed: 1},
		},
		"no filter": {
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Archives(ctx, fleet.ArchiveFilter{Repository: "main"})
			},
			"GET /api/v1/repositories/main/archives", fleet.ArchivePage{Archives: []fleet.Archive{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, asked := answering(t, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(test.want) })
			got, err := test.call(t.Context(), c)
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if diff := cmp.Diff([]string{test.asked}, *asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDownload(t *testing.T) {
	const id = "01JD9X7Q2M4T6W8Y0ABCDEFGHJ"
	c, asked := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "identity" || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("headers %v", r.Header)
		}
		w.Header().Set("Borgfleet-Job", id)
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "hello")
	})
	body, err := c.Download(t.Context(), fleet.DownloadRequest{Repository: "main", Archive: "a", Path: "etc/x y", Host: "web1", Format: fleet.DownloadTarZst, Offset: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close() // has ended
	if content, err := io.ReadAll(body); err != nil || string(content) != "hello" || body.Size != 5 || body.Job != id {
		t.Errorf("%q, %v, of %d, job %q", content, err, body.Size, body.Job)
	}
	if diff := cmp.Diff([]string{"GET /api/v1/repositories/main/archives/a/download?format=tar.zst&host=web1&offset=7&path=etc%2Fx+y"}, *asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

// What has not come whole does not pass for it.
func TestDownloadBreaksOff(t *testing.T) {
	for name, sized := range map[string]bool{"size is known": true, "size is not known": false} {
		t.Run(name, func(t *testing.T) {
			c, _ := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				if sized {
					w.Header().Set("Content-Length", "10")
				}
				_, _ = io.WriteString(w, "hello")
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
			body, err := c.Download(t.Context(), fleet.DownloadRequest{Repository: "main", Archive: "a"})
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close() // has broken
			if content, err := io.ReadAll(body); !errors.Is(err, client.ErrBrokenOff) || string(content) != "hello" || body.Size >= 0 != sized || body.Job != "" {
				t.Errorf("%q, %v, of %d, job %q", content, err, body.Size, body.Job)
			}
		})
	}
}

// A download that is refused says why, one that is given up does not pass for a
// broken connection.
func TestDownloadEndsEarly(t *testing.T) {
	c, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "missing") {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"code":"archive_missing","detail":"there is none"}`)
			return
		}
		_, _ = io.WriteString(w, "hello")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	_, err := c.Download(t.Context(), fleet.DownloadRequest{Repository: "main", Archive: "missing"})
	if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Code != job.ArchiveMissing {
		t.Errorf("missing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, err := c.Download(ctx, fleet.DownloadRequest{Repository: "main", Archive: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close() // given up
	if _, err := io.ReadFull(body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := body.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrBrokenOff) {
		t.Errorf("given up: %v", err)
	}
}

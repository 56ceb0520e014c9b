package httpapi_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
)

const downloadPath = "/api/v1/repositories/main/archives/a1/download"

// fetch asks for a download over a real connection.
func (s *served) fetch(t *testing.T, query string, header http.Header) (*http.Response, string, error) {
	t.Helper()
	asked, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+downloadPath+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		asked.Header = header
	}
	asked.Header.Set("Authorization", "Bearer "+adminToken)
	answer, err := http.DefaultClient.Do(asked)
	if err != nil {
		return &http.Response{}, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer, string(body), err
}

func TestADownloadIsStreamed(t *testing.T) {
	tar := fleet.Download{Format: job.DownloadTar, Name: "etc.tar", Size: -1}
	file := fleet.Download{Format: job.DownloadFile, Name: "hosts", Size: 5}
	rest := file
	rest.Offset = 2
	type asked = fleet.DownloadRequest
	for name, c := range map[string]struct {
		download   fleet.Download
		text       string
		query, rng string
		want       asked
		status     int
		header     map[string]string
	}{
		"a tar": {tar, "tarred", "?path=etc&host=web1", "", asked{Host: "web1", Path: "etc"}, 200, map[string]string{
			"Content-Type": "application/x-tar", "Content-Disposition": "attachment; filename=etc.tar", "Content-Length": "", "Accept-Ranges": "",
			"Borgfleet-Job": "01JD9X7Q2M4T6W8Y0ABCDEFGHJ",
		}},
		"compressed": {fleet.Download{Format: fleet.DownloadTarZst, Name: "etc.tar.zst", Size: -1}, "packed", "?format=tar.zst", "", asked{Format: fleet.DownloadTarZst}, 200, map[string]string{
			"Content-Type": "application/zstd",
		}},
		"a listed file": {file, "hosts", "?path=etc/hosts", "", asked{Path: "etc/hosts"}, 200, map[string]string{
			"Content-Type": "application/octet-stream", "Content-Length": "5", "Accept-Ranges": "bytes",
		}},
		"the rest of a file": {rest, "sts", "?path=etc/hosts", "bytes=2-", asked{Path: "etc/hosts", Range: 2}, 206, map[string]string{
			"Content-Length": "3", "Content-Range": "bytes 2-4/5",
		}},
		"from an offset":       {rest, "sts", "?path=etc/hosts&offset=2", "", asked{Path: "etc/hosts", Offset: 2}, 200, map[string]string{"Content-Length": "3", "Content-Range": ""}},
		"a range of a tar":     {tar, "tarred", "", "bytes=2-", asked{Range: 2}, 200, map[string]string{"Content-Range": ""}},
		"a range that ends":    {file, "hosts", "", "bytes=2-3", asked{}, 200, map[string]string{"Content-Range": ""}},
		"a range from the end": {file, "hosts", "", "bytes=-3", asked{}, 200, map[string]string{"Content-Range": ""}},
		"a name of no file": {fleet.Download{Format: job.DownloadFile, Name: "..\\a/b\"\nä", Size: -1}, "x", "", "", asked{}, 200, map[string]string{
			"Content-Disposition": "attachment; filename*=utf-8''_a_b__%C3%A4",
		}},
		"a name that is none": {fleet.Download{Format: job.DownloadFile, Name: "..", Size: -1}, "x", "", "", asked{}, 200, map[string]string{
			"Content-Disposition": "attachment; filename=download",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := withArchives(t)
			var closed chan struct{}
			s.shelf.download, closed = pour(c.download, c.text, nil)
			header := http.Header{}
			if c.rng != "" {
				header.Set("Range", c.rng)
			}
			answer, body, err := s.fetch(t, c.query, header)
			if err != nil || answer.StatusCode != c.status || body != c.text {
				t.Fatalf("%s, %q (%v)", answer.Status, body, err)
			}
			<-closed
			for name, want := range c.header {
				if got := answer.Header.Get(name); got != want {
					t.Errorf("%s is %q; want %q", name, got, want)
				}
			}
			c.want.Repository, c.want.Archive = "main", "a1"
			if diff := cmp.Diff(c.want, s.shelf.asked); diff != "" || s.shelf.by.Name == "" {
				t.Errorf("asked by %q (-want +got):\n%s", s.shelf.by.Name, diff)
			}
		})
	}
}

// TestADownloadThatBreaksDoesNotPassForWhole, whether its size is known or not.
func TestADownloadThatBreaksDoesNotPassForWhole(t *testing.T) {
	for name, c := range map[string]struct {
		size int64
		err  error
	}{
		"of unknown size":       {-1, job.Fail(job.ConnectionLost, "lost")},
		"of known size":         {1 << 20, job.Fail(job.ConnectionLost, "lost")},
		"shorter than was said": {1 << 20, nil},
		"longer than was said":  {100, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := withArchives(t)
			var closed chan struct{}
			s.shelf.download, closed = pour(fleet.Download{Format: job.DownloadFile, Name: "x", Size: c.size}, strings.Repeat("x", 300_000), c.err)
			if answer, body, err := s.fetch(t, "", nil); err == nil {
				t.Errorf("%s, %d bytes", answer.Status, len(body))
			}
			<-closed
		})
	}
}

func TestADownloadThatDoesNotBeginIsAProblem(t *testing.T) {
	s := withArchives(t)
	for name, c := range map[string]struct {
		err    error
		query  string
		rng    string
		status int
		says   string
	}{
		"the job failed":   {job.Fail(job.PathMissing, "no srv/none"), "", "", 404, `"path_missing"`},
		"beyond the end":   {fleet.NewBeyondEnd(5), "", "bytes=7-", 416, "5 bytes"},
		"too many":         {job.Fail(job.Unavailable, "there are 32 downloads already"), "", "", 503, "32 downloads"},
		"offset and range": {errors.New("not asked"), "?offset=1", "bytes=1-", 400, "header Range"},
		"a fault of ours":  {errors.New("disk full"), "", "", 500, "disk full"},
		"a context's end":  {context.Canceled, "", "", 500, "canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			s.shelf.download = func(context.Context) (*fleet.Download, error) { return nil, c.err }
			answer, body, err := s.fetch(t, c.query, http.Header{"Range": {c.rng}})
			if err != nil || answer.StatusCode != c.status || !strings.Contains(body, c.says) {
				t.Errorf("%s, %s (%v)", answer.Status, body, err)
			}
			if want := map[bool]string{true: "bytes */5"}[c.status == 416]; answer.Header.Get("Content-Range") != want {
				t.Errorf("Content-Range %q", answer.Header.Get("Content-Range"))
			}
		})
	}
}

// endless is a download that never ends by itself.
func endless(read func(p []byte) int) (open func(context.Context) (*fleet.Download, error), closed chan struct{}) {
	closed = make(chan struct{})
	return func(ctx context.Context) (*fleet.Download, error) {
		return &fleet.Download{Format: job.DownloadTar, Name: "x.tar", Size: -1, Content: poured{reading(func(p []byte) (int, error) { return read(p), ctx.Err() }), closed}}, nil
	}, closed
}

type reading func(p []byte) (int, error)

func (r reading) Read(p []byte) (int, error) { return r(p) }

func TestWhoLeavesEndsTheDownload(t *testing.T) {
	s := withArchives(t)
	var closed chan struct{}
	s.shelf.download, closed = endless(func(p []byte) int { return len(p) })
	ctx, cancel := context.WithCancel(t.Context())
	asked, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+downloadPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked.Header.Set("Authorization", "Bearer "+adminToken)
	answer, err := http.DefaultClient.Do(asked)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.ReadFull(answer.Body, make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-closed
}

// TestAReaderThatDoesNotReadIsCutOff: nothing is held for it for ever.
func TestAReaderThatDoesNotReadIsCutOff(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) { o.DownloadTimeout = 50 * time.Millisecond })
	s.put("web1", "main")
	var closed chan struct{}
	s.shelf.download, closed = endless(func(p []byte) int { return len(p) })
	answer, err := get(s.url + downloadPath)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	<-closed // its body was not read
}

func TestAWaitingDownloadEndsWithTheServer(t *testing.T) {
	s := withArchives(t)
	waits := make(chan struct{})
	s.shelf.download = func(ctx context.Context) (*fleet.Download, error) {
		close(waits)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	go func() {
		<-waits
		_ = s.server.Shutdown(t.Context()) // what it waits for is what is tested
	}()
	answer, body, err := s.fetch(t, "", nil)
	if err != nil || answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "shutting down") {
		t.Errorf("%s, %s (%v)", answer.Status, body, err)
	}
}

package faults_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// download is a client that fetches the large file of the book, as curl does.
type download struct {
	body io.ReadCloser
	got  []byte // from offset
	from int
	job  job.ID
}

// firstBytes are read before something breaks: the rest waits on the way.
const firstBytes = 1 << 20

// fetcher keeps little of what comes.
var fetcher = &http.Client{Transport: &http.Transport{
	DisableKeepAlives: true,
	DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return c, c.(*net.TCPConn).SetReadBuffer(64 << 10)
	},
}}

// open begins a download, and reads a part of it.
func (s *scene) open(offset int) *download {
	s.t.Helper()
	d, err := s.tryOpen(offset)
	if err != nil {
		s.t.Fatalf("download from %d: %v", offset, err)
	}
	s.job = d.job
	d.got = make([]byte, min(firstBytes, largeSize-offset))
	if _, err := io.ReadFull(d.body, d.got); err != nil {
		s.t.Fatalf("the first bytes of a download: %v", err)
	}
	return d
}

// tryOpen asks for a download once.
func (s *scene) tryOpen(offset int) (*download, error) {
	query := url.Values{"path": {s.shelf.large}, "format": {"file"}, "host": {s.host.Host}, "offset": {fmt.Sprint(offset)}}
	address := fmt.Sprintf("%s/api/v1/repositories/%s/archives/%s/download?%s", cmp.Or(s.url, s.c.HTTP), s.repo.name, book, query.Encode())
	request, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(filepath.Join(s.c.Data, "local.token")) // the coordinator may just be starting
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	response, err := fetcher.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body) // for the message
		_ = response.Body.Close()
		return nil, fmt.Errorf("%s: %s", response.Status, text)
	}
	return &download{body: response.Body, from: offset, job: job.ID(response.Header.Get("Borgfleet-Job"))}, nil
}

// goesOn reads the rest of the download, which is whole.
func (s *scene) goesOn() {
	s.t.Helper()
	if err := s.readOn(s.download); err != nil {
		s.t.Errorf("the download broke off after %d bytes: %v", len(s.download.got), err)
	}
	s.right(s.download)
}

// breaksOff reads the rest of the download, which must not pass for the whole,
// and takes what is left with another one.
func (s *scene) breaksOff() {
	s.t.Helper()
	d := s.download
	if err := s.readOn(d); err == nil {
		s.t.Errorf("the download ended after %d of %d bytes as if that were all", len(d.got), largeSize)
	}
	s.c.AwaitOnline(s.host.Host)
	rest := s.open(d.from + len(d.got))
	if err := s.readOn(rest); err != nil {
		s.t.Errorf("what was left of the download broke off: %v", err)
	}
	d.got = append(d.got, rest.got...)
	s.right(d)
}

// readOn reads to the end, or until it breaks.
func (s *scene) readOn(d *download) error {
	defer d.body.Close()
	rest, err := io.ReadAll(d.body)
	d.got = append(d.got, rest...)
	return err
}

func (s *scene) right(d *download) {
	s.t.Helper()
	if !bytes.Equal(d.got, s.shelf.content[d.from:]) {
		s.t.Errorf("the %d bytes of the download are not the file's %d", len(d.got), largeSize-d.from)
	}
}

// walksAway has a client leave in the middle.
func walksAway() scenario {
	return scenario{name: "reader / goes away / download", play: func(s *scene) {
		s.download = s.open(0)
		_ = s.download.body.Close() // that is the fault
		harness.Eventually(s.t, "the download to be over", func() error {
			if borgs := s.host.borgs(); len(borgs) > 0 {
				return fmt.Errorf("borgs live: %v", borgs)
			}
			return nil
		})
	}}
}

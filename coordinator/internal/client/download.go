package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// jobHeader names the job of a download.
const jobHeader = "Borgfleet-Job"

// ErrBrokenOff is in the error of a download whose connection broke, or that the
// coordinator broke off, as it could not go on.
var ErrBrokenOff = errors.New("the connection broke off")

// Download is what an archive holds, as it comes. Only a read that ends with
// io.EOF has brought everything.
type Download struct {
	io.ReadCloser
	Size int64  // bytes that are to come; -1: not known
	Job  job.ID // empty: not known
}

// Download begins a download; it returns when the first bytes have come, which
// takes as long as the repository is busy. Closing it before its end ends the
// job.
func (c *Client) Download(ctx context.Context, asked fleet.DownloadRequest) (*Download, error) {
	q := query{}
	q.text("path", asked.Path)
	q.text("host", asked.Host)
	q.text("format", string(asked.Format))
	q.number("offset", asked.Offset)
	request, err := c.request(ctx, http.MethodGet, archiveOf(asked.Repository, asked.Archive)+"/download"+q.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/octet-stream, application/x-tar, application/zstd, application/problem+json")
	request.Header.Set("Accept-Encoding", "identity") // what is counted is what is written
	response, err := c.sendBy(c.patient, request)
	if err != nil {
		return nil, err
	}
	begun := &Download{ReadCloser: &downloadBody{response.Body, ctx}, Size: response.ContentLength}
	if id, err := job.ParseID(response.Header.Get(jobHeader)); err == nil {
		begun.Job = id
	}
	return begun, nil
}

// downloadBody tells a broken connection from a reader that was told to stop.
type downloadBody struct {
	io.ReadCloser
	ctx context.Context
}

// Read implements io.Reader.
func (b *downloadBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case b.ctx.Err() != nil:
		return n, context.Cause(b.ctx)
	default:
		return n, fmt.Errorf("%w: %w", ErrBrokenOff, err)
	}
}

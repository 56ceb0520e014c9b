package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Downloads opens downloads; a *job.Failure says why not. It is safe for
// concurrent use.
type Downloads interface {
	// Open returns when the first bytes are there. The download lives as long as
	// ctx, and must be closed.
	Open(ctx context.Context, by fleet.Actor, request fleet.DownloadRequest) (*fleet.Download, error)
}

// downloadPart is what is read of a download before it is written.
const downloadPart = 64 << 10

type downloadInput struct {
	ArchivePath
	OwnPage
	Path   string `query:"path" maxLength:"4096" doc:"a file or a directory as the archive has it; left out: everything"`
	Host   string `query:"host" maxLength:"200" doc:"which host reads it; left out: the coordinator itself if the repository is in its depot, else the one that made the archive, or the only one there is"`
	Format string `query:"format" enum:"tar,tar.zst,file" doc:"file is the content of one file; left out: file of what is known to be a regular file, else tar"`
	Offset int64  `query:"offset" minimum:"0" doc:"bytes to leave out at the beginning, to go on with a download that broke off; not of tar.zst"`
	Range  string `header:"Range" doc:"bytes=N-, of a file whose size is known here since its archive is listed; any other is passed over"`
}

const downloadDescription = `Runs a job of the kind download on a host, and streams what borg reads there.
Nothing is kept on the way; borg waits for a slow reader, and ends when the
reader goes away. The answer begins when the first bytes have come: what goes
wrong before is a problem; what goes wrong later breaks the connection, and the
job has the cause. A size is given only of a file whose archive is listed. The
bytes are the same each time, so that a download can go on where it broke off.`

func (a *API) registerDownload() {
	op := operation{
		id: "download", method: http.MethodGet, path: "/repositories/{repo}/archives/{archive}/download", tag: tagArchives, status: http.StatusOK,
		summary: "Download a file or a directory of an archive", needs: bus.Operator, description: downloadDescription,
		failures: []job.Failure{
			unknownRepository(), pathMissing(), {Code: job.RepositoryLocked, Message: "the repository is locked", Hint: "wait until what holds it has ended"},
			{Code: job.HostUnreachable, Message: "host web1 has not answered for 2m0s", Hint: "borgfleet host list shows since when it is away", Retryable: true},
		},
	}.huma(a)
	text, number := &huma.Schema{Type: huma.TypeString}, &huma.Schema{Type: huma.TypeInteger}
	content := map[string]*huma.MediaType{}
	for _, format := range []job.DownloadFormat{job.DownloadFile, job.DownloadTar, fleet.DownloadTarZst} {
		content[mediaType(format)] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "the " + string(format)}, Example: "..."}
	}
	headers := map[string]*huma.Param{
		"Content-Disposition": {Description: "what the file may be called", Schema: text},
		"Content-Length":      {Description: "bytes that follow, if known", Schema: number},
		jobHeader:             {Description: "the job's id", Schema: text},
	}
	op.Responses["200"].Headers, op.Responses["200"].Content = headers, content
	op.Responses["206"] = &huma.Response{Description: "the rest of a file, from where Range begins", Headers: headers, Content: content}
	beyond := newProblem(http.StatusRequestedRangeNotSatisfiable, fleet.NewBeyondEnd(4711).Failure)
	op.Responses["416"] = &huma.Response{Description: beyond.Title, Content: map[string]*huma.MediaType{
		problemType: {Schema: op.Responses["400"].Content[problemType].Schema, Example: beyond},
	}}
	a.refuseHead(op)
	huma.Register(a.huma, op, a.download)
}

// jobHeader names the job that an answer comes from.
const jobHeader = "Borgfleet-Job"

func mediaType(format job.DownloadFormat) string {
	switch format {
	case job.DownloadTar:
		return "application/x-tar"
	case fleet.DownloadTarZst:
		return "application/zstd"
	default:
		return "application/octet-stream"
	}
}

func (a *API) download(ctx context.Context, in *downloadInput) (*huma.StreamResponse, error) {
	if err := in.refusal(); err != nil {
		return nil, a.problem(ctx, err)
	}
	request := fleet.DownloadRequest{
		Host: in.Host, Repository: in.Repository, Archive: in.Archive, Path: in.Path,
		Format: job.DownloadFormat(in.Format), Offset: in.Offset, Range: rangeOf(in.Range),
	}
	if request.Offset > 0 && request.Range > 0 {
		return nil, a.problem(ctx, job.Invalid("query.offset", "cannot be combined with the header Range").WithHint("give one of them"))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	undo := onDrain(ctx, func() { cancel(job.Fail(job.Unavailable, "the coordinator is shutting down").WithHint("try again")) })
	download, err := a.options.Downloads.Open(ctx, fleet.ActorOf(ctx), request)
	undo() // what streams may end by itself, or is cut off
	if err != nil {
		defer cancel(nil)
		return nil, a.notDownloaded(ctx, err)
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer cancel(nil)
		defer download.Content.Close() // it has ended, or is to end
		_, w := humago.Unwrap(hctx)
		if err := a.send(w, download, request.Range > 0); err != nil {
			a.logger.Info("a download was cut short", "job", download.Job, "host", download.Host, "repo", in.Repository, "err", err)
			panic(http.ErrAbortHandler) // what was sent must not pass for the whole
		}
	}}, nil
}

// notDownloaded says why there is no download.
func (a *API) notDownloaded(ctx context.Context, err error) error {
	if beyond, ok := errors.AsType[*fleet.BeyondEnd](err); ok {
		problem := newProblem(http.StatusRequestedRangeNotSatisfiable, beyond.Failure)
		problem.size = &beyond.Size
		return problem
	}
	return a.problem(ctx, err)
}

var openRange = regexp.MustCompile(`^bytes=(\d{1,18})-$`)

// rangeOf is where a range begins that goes on to the end. Of other ones, the
// whole is the answer (RFC 9110, 14.2).
func rangeOf(header string) int64 {
	if match := openRange.FindStringSubmatch(header); match != nil {
		begin, _ := strconv.ParseInt(match[1], 10, 64) // of at most 18 digits
		return begin
	}
	return 0
}

// send streams a download. It returns why the answer is not whole.
func (a *API) send(w http.ResponseWriter, download *fleet.Download, ranged bool) error {
	header := w.Header()
	header.Set("Content-Type", mediaType(download.Format))
	header.Set("Content-Disposition", attachment(download.Name))
	header.Set("X-Accel-Buffering", "no") // nginx would store it first
	header.Set(jobHeader, string(download.Job))
	status := http.StatusOK
	if download.Size >= 0 {
		header.Set("Accept-Ranges", "bytes")
		header.Set("Content-Length", strconv.FormatInt(download.Size-download.Offset, 10))
		if ranged {
			header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", download.Offset, download.Size-1, download.Size))
			status = http.StatusPartialContent
		}
	}
	w.WriteHeader(status)
	control := http.NewResponseController(w)
	out := patientWriter{deadlineWriter{w, control, a.options.DownloadTimeout}}
	sent, err := io.CopyBuffer(out, download.Content, make([]byte, downloadPart))
	switch {
	case err != nil:
		return err
	case download.Size >= 0 && sent != download.Size-download.Offset:
		return fmt.Errorf("borg sent %d bytes of %d", sent, download.Size-download.Offset)
	}
	if err := control.SetWriteDeadline(time.Now().Add(a.options.DownloadTimeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	return control.Flush()
}

// patientWriter is a deadlineWriter that waits without limit between the writes:
// over HTTP/2 a deadline that passes ends the stream, even while nothing is
// written.
type patientWriter struct{ deadlineWriter }

// Write implements io.Writer.
func (w patientWriter) Write(p []byte) (int, error) {
	n, err := w.deadlineWriter.Write(p)
	if err != nil {
		return n, err
	}
	return n, w.control.SetWriteDeadline(time.Time{})
}

// attachment is a header that makes browsers store the answer under a name. What
// a name must not hold in all systems is replaced.
func attachment(name string) string {
	safe := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`/\:*?"<>|%`, r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(name, "_"))
	safe = strings.TrimLeft(safe, ".")
	if safe == "" {
		safe = "download"
	}
	return mime.FormatMediaType("attachment", map[string]string{"filename": safe})
}

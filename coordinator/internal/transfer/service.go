// Package transfer hands out files and directories of archives while borg
// reads them on a host. A download is a job of its own: it is queued, audited
// and cancelled as any other, and ends when whoever asked for it goes away.
// Nothing of it is kept here but a few pieces at a time.
package transfer

import (
	"context"
	"errors"
	"io"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Jobs starts, ends and reads jobs, and heeds who asks. It is safe for
// concurrent use.
type Jobs interface {
	Submit(ctx context.Context, by fleet.Actor, request job.Request) (job.Job, error)
	Cancel(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error)
	Job(ctx context.Context, id job.ID) (job.Job, error)
}

// Source reads what borg prints in a running attempt. It is safe for concurrent
// use; each stream is read by one goroutine.
type Source interface {
	// Stream ends with io.EOF after the last byte, with a *job.Failure when the
	// rest is lost, or with the cause of ctx.
	Stream(ctx context.Context, host string, id job.ID, attempt int) io.ReadCloser
}

// Archives knows who made an archive. It is safe for concurrent use.
type Archives interface {
	// Archive fails with archive_missing when it does not know the archive.
	Archive(ctx context.Context, repository, name string) (fleet.Archive, error)
}

// Catalog knows the files of archives that were listed. It is safe for
// concurrent use.
type Catalog interface {
	// Entry fails with not_listed when it does not know the archive's files, and
	// with path_missing when there is no such file among them.
	Entry(ctx context.Context, repository, archive, path string) (fleet.File, error)
}

// Hosts knows the hosts. It is safe for concurrent use.
type Hosts interface {
	Hosts(ctx context.Context) ([]fleet.HostView, error)
}

// Options is what a [Service] needs.
type Options struct {
	Jobs     Jobs
	Feed     *feed.Feed
	Source   Source
	Archives Archives
	Catalog  Catalog
	Hosts    Hosts
	// InDepot reports whether the coordinator keeps a repository itself, and so
	// needs no host to read it. Nil: it keeps none.
	InDepot func(repository string) (bool, error)
	Logger  hclog.Logger
	MaxOpen int // downloads at a time; 0 means 32
}

// Service opens downloads. It is safe for concurrent use.
type Service struct {
	Options
	logger hclog.Logger
	open   chan struct{} // one token for each open download
}

// New returns a service that has nothing open.
func New(options Options) (*Service, error) {
	if options.Jobs == nil || options.Feed == nil || options.Source == nil || options.Archives == nil ||
		options.Catalog == nil || options.Hosts == nil || options.Logger == nil {
		return nil, errors.New("make transfers: an option is missing")
	}
	if options.MaxOpen <= 0 {
		options.MaxOpen = 32
	}
	return &Service{Options: options, logger: options.Logger.Named("transfer"), open: make(chan struct{}, options.MaxOpen)}, nil
}

// Open starts a download and returns when its first bytes have come, or all of a
// few, so that what goes wrong until then is an error here: a *job.Failure. The download
// lives as long as ctx, and until it is closed.
func (s *Service) Open(ctx context.Context, by fleet.Actor, r fleet.DownloadRequest) (*fleet.Download, error) {
	select {
	case s.open <- struct{}{}:
	default:
		return nil, job.Fail(job.Unavailable, "there are %d downloads already", cap(s.open)).WithHint("try again when some are over")
	}
	download, err := s.start(ctx, by, r)
	if err != nil {
		<-s.open
		return nil, err
	}
	return download, nil
}

func (s *Service) start(ctx context.Context, by fleet.Actor, r fleet.DownloadRequest) (*fleet.Download, error) {
	download, err := s.choose(ctx, r)
	if err != nil {
		return nil, err
	}
	unsure := download.Format == job.DownloadFile && !download.known
	submitted, err := s.Jobs.Submit(ctx, by, request(r, download))
	if err != nil {
		return nil, err
	}
	download.Job, download.Host = submitted.ID, submitted.Host
	t := s.follow(ctx, by, submitted)
	plain, err := t.begin(download.Offset)
	if err == nil && unsure && download.Offset == 0 && plain.nothing() {
		err = emptyOf(r)
	}
	if err != nil {
		t.close()
		return nil, err
	}
	var content io.ReadCloser = plain
	if download.Format == fleet.DownloadTarZst {
		content = compress(plain)
	}
	download.Content = &released{ReadCloser: content, free: func() { <-s.open }}
	return download.Download, nil
}

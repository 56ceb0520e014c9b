package transfer

import (
	"context"
	"encoding/json"
	"path"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// choice is what a download is to be.
type choice struct {
	*fleet.Download
	path  string // what borg is asked for
	known bool   // the archive is listed, and so is the path
}

// choose decides what the request leaves open, and refuses what cannot be.
func (s *Service) choose(ctx context.Context, r fleet.DownloadRequest) (*choice, error) {
	d := &choice{Download: &fleet.Download{Format: r.Format, Size: -1, Offset: r.Offset}, path: stored(r.Path)}
	if r.Offset < 0 || r.Range < 0 {
		return nil, job.Invalid("offset", "is negative")
	}
	if err := s.chooseFormat(ctx, r, d); err != nil {
		return nil, err
	}
	if r.Offset > 0 && d.Format == fleet.DownloadTarZst {
		return nil, job.Invalid("offset", "cannot be combined with %s", fleet.DownloadTarZst).
			WithHint("a download that is to be continued must be a %s, or a %s", job.DownloadTar, job.DownloadFile)
	}
	if d.Size >= 0 && r.Range > 0 {
		if r.Range >= d.Size {
			return nil, fleet.NewBeyondEnd(d.Size)
		}
		d.Offset = r.Range
	}
	if d.Size >= 0 && d.Offset > d.Size {
		return nil, fleet.NewBeyondEnd(d.Size)
	}
	var err error
	d.Host, err = s.chooseHost(ctx, r)
	return d, err
}

// chooseFormat looks in the list of the archive's files, if there is one.
func (s *Service) chooseFormat(ctx context.Context, r fleet.DownloadRequest, d *choice) error {
	file, err := s.find(ctx, r, d)
	if err != nil {
		return err
	}
	regular := d.known && file.Type == fleet.RegularFile
	switch d.Format {
	case "":
		d.Format = job.DownloadTar
		if regular {
			d.Format = job.DownloadFile
		}
	case job.DownloadFile:
		if d.known && !regular {
			return notRegular(file)
		}
	case job.DownloadTar, fleet.DownloadTarZst:
	default:
		return job.Invalid("format", "%q is not a format", d.Format).
			WithHint("one of %s, %s, %s", job.DownloadTar, fleet.DownloadTarZst, job.DownloadFile)
	}
	d.Name = name(r, d.Format)
	if regular && d.Format == job.DownloadFile {
		d.Size, d.path = file.Size, file.Path
	}
	return nil
}

// find looks for the path among the archive's files. Of a further name of a file
// it returns the first one, since borg gives out the content only with that.
func (s *Service) find(ctx context.Context, r fleet.DownloadRequest, d *choice) (fleet.File, error) {
	if d.path == "" {
		return fleet.File{}, nil
	}
	file, err := s.Catalog.Entry(ctx, r.Repository, r.Archive, d.path)
	if err == nil && file.Type == fleet.HardLink {
		if first, lost := s.Catalog.Entry(ctx, r.Repository, r.Archive, file.Target); lost == nil {
			file = first
		}
	}
	switch {
	case err == nil:
		d.known = true
	case job.AsFailure(err).Code != job.NotListed:
		return file, err
	}
	return file, nil
}

// notRegular refuses to hand out what has no content of its own.
func notRegular(file fleet.File) error {
	what := "no regular file"
	switch file.Type {
	case fleet.Directory:
		what = "a directory, and no regular file"
	case fleet.SymLink:
		what = "a symbolic link to " + file.Target + ", and no regular file"
	}
	return job.Invalid("format", "%s is %s", file.Path, what).WithHint("format=%s (--format %s) takes everything", job.DownloadTar, job.DownloadTar)
}

// emptyOf is why nothing is no answer to who asks for a file that is not listed:
// borg does the same for all of these.
func emptyOf(r fleet.DownloadRequest) error {
	hint := fleet.NotListed(r.Repository, r.Archive).Hint
	return job.Fail(job.NotListed, "nothing came of %s: it is an empty file, a directory, a link, or a further name of a file, and before the archive's files are listed it is not known which", stored(r.Path)).
		WithHint("%s; or take it as it is with format=%s (--format %s)", hint, job.DownloadTar, job.DownloadTar)
}

// name is what a download is called: after its path, or its archive.
func name(r fleet.DownloadRequest, format job.DownloadFormat) string {
	base := r.Archive
	if stored(r.Path) != "" {
		base = path.Base(stored(r.Path))
	}
	if format == job.DownloadFile {
		return base
	}
	return base + "." + string(format)
}

// stored is a path as archives have it.
func stored(p string) string { return strings.Trim(p, "/") }

// chooseHost returns the host that is asked for; else the one that made the
// archive, if it is there; else the only one that there is. Empty: the coordinator
// reads it itself.
func (s *Service) chooseHost(ctx context.Context, r fleet.DownloadRequest) (string, error) {
	if r.Host != "" {
		return r.Host, nil
	}
	if s.InDepot != nil {
		if kept, err := s.InDepot(r.Repository); kept || err != nil {
			return "", err
		}
	}
	hosts, err := s.Hosts.Hosts(ctx)
	if err != nil {
		return "", err
	}
	archive, err := s.Archives.Archive(ctx, r.Repository, r.Archive)
	if err != nil && job.AsFailure(err).Code != job.ArchiveMissing { // borg may know it
		return "", err
	}
	return fleet.ChooseHost(hosts, archive.Host)
}

// request is the job of a download.
func request(r fleet.DownloadRequest, d *choice) job.Request {
	spec := job.DownloadSpec{Archive: r.Archive, Path: d.path, Format: d.Format}
	if d.Format == fleet.DownloadTarZst {
		spec.Format = job.DownloadTar
	}
	data, _ := json.Marshal(spec) // of strings only
	return job.Request{Host: d.Host, Kind: job.Download, Repository: r.Repository, Spec: data, MaxAttempts: 1}
}

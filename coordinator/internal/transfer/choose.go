package transfer

import (
	"context"
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// choose decides what the request leaves open, and refuses what cannot be.
func (s *Service) choose(ctx context.Context, r fleet.DownloadRequest) (*fleet.Download, error) {
	d := &fleet.Download{Format: r.Format, Size: -1, Offset: r.Offset}
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
func (s *Service) chooseFormat(ctx context.Context, r fleet.DownloadRequest, d *fleet.Download) error {
	known := false
	var file fleet.File
	if stored(r.Path) != "" {
		var err error
		file, err = s.Catalog.Entry(ctx, r.Repository, r.Archive, stored(r.Path))
		switch {
		case err == nil:
			known = true
		case job.AsFailure(err).Code != job.NotListed:
			return err
		}
	}
	regular := known && file.Type == fleet.RegularFile
	switch d.Format {
	case "":
		d.Format = job.DownloadTar
		if regular {
			d.Format = job.DownloadFile
		}
	case job.DownloadFile:
		if known && !regular && file.Type != fleet.HardLink {
			return job.Invalid("format", "%s is no regular file", file.Path).WithHint("format=%s takes everything", job.DownloadTar)
		}
	case job.DownloadTar, fleet.DownloadTarZst:
	default:
		return job.Invalid("format", "%q is not a format", d.Format).
			WithHint("one of %s, %s, %s", job.DownloadTar, fleet.DownloadTarZst, job.DownloadFile)
	}
	d.Name = name(r, d.Format)
	if regular && d.Format == job.DownloadFile {
		d.Size = file.Size
	}
	return nil
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
// archive, if it is there; else the only one that there is.
func (s *Service) chooseHost(ctx context.Context, r fleet.DownloadRequest) (string, error) {
	if r.Host != "" {
		return r.Host, nil
	}
	hosts, err := s.Hosts.Hosts(ctx)
	if err != nil {
		return "", err
	}
	archive, err := s.Archives.Archive(ctx, r.Repository, r.Archive)
	if err != nil && job.AsFailure(err).Code != job.ArchiveMissing { // borg may know it
		return "", err
	}
	if slices.ContainsFunc(hosts, func(h fleet.HostView) bool { return h.Name == archive.Host && h.Online }) {
		return archive.Host, nil
	}
	if len(hosts) == 1 {
		return hosts[0].Name, nil
	}
	var there []string
	for _, h := range hosts {
		if h.Online {
			there = append(there, h.Name)
		}
	}
	fault := job.Invalid("host", "is missing: it is not known which host is to read the archive")
	if len(there) == 0 {
		return "", fault.WithHint("no host is connected now; name one that can reach the repository")
	}
	return "", fault.WithHint("name one that can reach the repository; connected are %s", strings.Join(there, ", "))
}

// request is the job of a download.
func request(r fleet.DownloadRequest, d *fleet.Download) job.Request {
	spec := job.DownloadSpec{Archive: r.Archive, Path: stored(r.Path), Format: d.Format}
	if d.Format == fleet.DownloadTarZst {
		spec.Format = job.DownloadTar
	}
	data, _ := json.Marshal(spec) // of strings only
	return job.Request{Host: d.Host, Kind: job.Download, Repository: r.Repository, Spec: data, MaxAttempts: 1}
}

package web

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"path"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Names of archives are parts of addresses; paths in them are in the query, as
// they have slashes of their own.

func archivesURL(repository string) string { return repositoryURL(repository) + "/archives" }

func archiveURL(repository, archive string) string {
	return archivesURL(repository) + "/" + url.PathEscape(archive)
}

// archivePart is the page of something that is done with an archive, for one path
// of it, or for all of it.
func archivePart(part, repository, archive, stored string) string {
	return withQuery(archiveURL(repository, archive)+"/"+part, "path", stored)
}

func filesURL(repository, archive, stored string) string {
	return archivePart("files", repository, archive, stored)
}

func historyURL(repository, stored string) string {
	return withQuery(repositoryURL(repository)+"/history", "path", stored)
}

// downloadURL is where the API streams a path of an archive; all of it, if the
// path is empty.
func downloadURL(repository, archive, stored string, choice ...string) string {
	address := "/api/v1" + archiveURL(repository, archive) + "/download"
	return withQuery(address, append([]string{"path", stored}, choice...)...)
}

// deleteURL is the page that asks whether these archives shall be deleted.
func deleteURL(repository string, archives ...string) string {
	return repositoryURL(repository) + "/delete?" + url.Values{"archive": archives}.Encode()
}

// segments are the parts of an address; a slash that is a part of a name does not
// cut it.
func segments(u *url.URL) []string {
	parts := strings.Split(strings.Trim(path.Clean("/"+u.EscapedPath()), "/"), "/")
	for i, part := range parts {
		if plain, err := url.PathUnescape(part); err == nil {
			parts[i] = plain
		}
	}
	return parts
}

// rowID makes of any name what an element's id may be.
func rowID(names ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(names, "\x00")))
	return "n" + hex.EncodeToString(sum[:6])
}

// crumb is one step of the path to a page.
type crumb struct{ Label, URL string }

// archiveCrumbs lead to an archive.
func archiveCrumbs(repository, archive string) []crumb {
	return []crumb{{"Repositories", "/repositories"}, {repository, repositoryURL(repository)}, {"archives", archivesURL(repository)}, {archive, archiveURL(repository, archive)}}
}

// pathCrumbs lead to a path in an archive, directory by directory.
func pathCrumbs(repository, archive, stored string) []crumb {
	list := append(archiveCrumbs(repository, archive), crumb{"files", filesURL(repository, archive, "")})
	at := ""
	for part := range strings.SplitSeq(stored, "/") {
		if part == "" {
			continue
		}
		at = path.Join(at, part)
		list = append(list, crumb{part, filesURL(repository, archive, at)})
	}
	return list
}

// place is a path in an archive, with the addresses of what can be done with it.
type place struct {
	Repository, Archive, Path string
	Host                      string // that reads it; empty: nobody knows which
}

// Files is its page.
func (p place) Files() string { return filesURL(p.Repository, p.Archive, p.Path) }

// Find searches in its archive.
func (p place) Find() string {
	return withQuery("/find", "in", "archive", "repository", p.Repository, "archive", p.Archive)
}

// History is what it was in each archive.
func (p place) History() string { return historyURL(p.Repository, p.Path) }

// Restore, Mount, Compare and Delete lead to the forms of that name.
func (p place) Restore() string { return archivePart("restore", p.Repository, p.Archive, p.Path) }

// Mount leads to the form that mounts the archive.
func (p place) Mount() string { return archivePart("mount", p.Repository, p.Archive, "") }

// Compare leads to the form that compares it.
func (p place) Compare() string { return archivePart("compare", p.Repository, p.Archive, p.Path) }

// Delete leads to the page that asks whether the archive shall go.
func (p place) Delete() string { return deleteURL(p.Repository, p.Archive) }

// Download is the content of a file, or the page that asks which host shall read
// it.
func (p place) Download() string { return p.download(job.DownloadFile) }

// Tar is a directory as a tar.
func (p place) Tar() string { return p.download(job.DownloadTar) }

// TarZst is a directory as a tar that is compressed on the way.
func (p place) TarZst() string { return p.download(fleet.DownloadTarZst) }

func (p place) download(format job.DownloadFormat) string {
	if p.Host == "" {
		return withQuery(p.DownloadForm(), "format", string(format))
	}
	return downloadURL(p.Repository, p.Archive, p.Path, "host", p.Host, "format", string(format))
}

// DownloadForm asks for host and format.
func (p place) DownloadForm() string {
	return archivePart("download", p.Repository, p.Archive, p.Path)
}

package web_test

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// shelf is the part of the world that knows archives and what is in them.
type shelf struct {
	archives []fleet.Archive // newest first
	asOf     *time.Time
	files    map[string][]fleet.File // by archive: those that are listed
	queries  []fleet.ArchiveFilter
}

// Archives of the rich world.
const (
	newest = "web1-2026-11-22T02:00:00"
	older  = "web1-2026-11-21T02:00:00"
	nasty  = `a%2Fb?c#d&e"f'<g>;é` + "`h`$(i)"
)

func richShelf() shelf {
	archive := func(name, host string, ago time.Duration) fleet.Archive {
		return fleet.Archive{
			Archive: job.Archive{Name: name, ID: "9f0c3a" + name[:1], Start: noon.Add(-ago), Hostname: "machine-of-" + host, Username: "root", Comment: "nightly"}, Repository: "web1-main", Host: host, Job: goodBackup,
			OriginalSize: 402_000_000_000, CompressedSize: 201_000_000_000, DeduplicatedSize: 4_120_000_000, NFiles: 148_210, SeenAt: noon.Add(-time.Hour),
		}
	}
	s := shelf{asOf: pointer(noon.Add(-3 * time.Hour)), files: map[string][]fleet.File{}}
	s.archives = []fleet.Archive{archive(newest, "web1", 12*time.Hour), archive(older, "web1", 36*time.Hour), archive(nasty, "", 72*time.Hour), archive("unlisted", "db1", 96*time.Hour)}
	s.archives[2].OriginalSize, s.archives[2].NFiles = 0, 0
	for i, name := range []string{older, newest, nasty} {
		s.files[name] = []fleet.File{
			file("etc", fleet.Directory, 0), file("etc/hosts", fleet.RegularFile, int64(100+i)), file("etc/localtime", fleet.SymLink, 0), file("etc/"+nasty, fleet.RegularFile, 7),
			file("etc/empty", fleet.Directory, 0), file("dev", fleet.Directory, 0), file("dev/null", fleet.CharDevice, 0),
		}
	}
	s.files[newest] = append(s.files[newest], file("new.sql", fleet.RegularFile, 1_200_000))
	s.files[newest][2].Target, s.files[newest][1].Damaged = "/usr/share/zoneinfo/UTC", true
	return s
}

func file(p string, kind fleet.FileType, size int64) fleet.File {
	mode := map[fleet.FileType]string{fleet.Directory: "drwxr-xr-x", fleet.SymLink: "lrwxrwxrwx", fleet.CharDevice: "crw-rw-rw-"}[kind]
	return fleet.File{Path: p, Name: path.Base(p), Type: kind, Mode: cmp.Or(mode, "-rw-r--r--"), User: "root", GID: 4711, Size: size, MTime: noon.Add(-100 * time.Hour)}
}

func (w *world) Archives(_ context.Context, f fleet.ArchiveFilter) (fleet.ArchivePage, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queries = append(w.queries, f)
	page := fleet.ArchivePage{AsOf: w.asOf}
	if _, err := path.Match(f.Glob, ""); err != nil {
		return page, job.Invalid("glob", "%q is not a glob", f.Glob)
	}
	for _, a := range w.archives {
		match, _ := path.Match(f.Glob, a.Name)
		if a.Repository != f.Repository || f.Host != "" && f.Host != a.Host || f.Glob != "" && !match || a.Start.Before(f.After) || !f.Before.IsZero() && !a.Start.Before(f.Before) {
			continue
		}
		page.Total++
		switch {
		case f.Cursor != "" && string(a.ID) >= f.Cursor:
		case f.Limit > 0 && len(page.Archives) == f.Limit:
			page.Cursor = page.Archives[f.Limit-1].ID
		default:
			page.Archives = append(page.Archives, a)
		}
	}
	return page, w.broken
}

func (w *world) Archive(_ context.Context, repository, name string) (fleet.Archive, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.archives {
		if a.Repository == repository && a.Name == name {
			return a, w.broken
		}
	}
	return fleet.Archive{}, fleet.UnknownArchive(repository, name)
}

func (w *world) ListedAt(repository string) map[string]time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	listed := map[string]time.Time{}
	for _, a := range w.archives {
		if _, ok := w.files[a.Name]; ok && a.Repository == repository {
			listed[a.Name] = noon.Add(-time.Hour)
		}
	}
	return listed
}

func (w *world) Files(_ context.Context, q fleet.FilesQuery) (fleet.FilePage, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	files, ok := w.files[q.Archive]
	if !ok {
		return fleet.FilePage{}, fleet.NotListed(q.Repository, q.Archive)
	}
	page := fleet.FilePage{Repository: q.Repository, Archive: q.Archive, Path: q.Path, ListedAt: noon.Add(-time.Hour)}
	for i, f := range files {
		dir := path.Dir(f.Path)
		switch {
		case f.Path == q.Path:
			page.Entry = &files[i]
		case dir != cmp.Or(q.Path, ".") || f.Name <= q.Cursor:
		case len(page.Files) == q.Limit:
			page.Cursor = page.Files[q.Limit-1].Name
		default:
			page.Files = append(page.Files, f)
		}
	}
	if q.Path != "" && page.Entry == nil {
		return page, job.Fail(job.PathMissing, "archive %s of repository %s has no path %q", q.Archive, q.Repository, q.Path)
	}
	return page, w.broken
}

func (w *world) Find(_ context.Context, q fleet.FindQuery) (fleet.MatchPage, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	page := fleet.MatchPage{}
	if _, ok := w.files[q.Archive]; q.Archive != "" && !ok {
		return page, fleet.NotListed(q.Repository, q.Archive)
	}
	if q.Name == "slow" && q.Cursor == "" {
		page.Cursor = "on"
		return page, nil
	}
	for _, a := range w.archives {
		files, ok := w.files[a.Name]
		if !ok || q.Archive != "" && q.Archive != a.Name || q.Repository != "" && q.Repository != a.Repository {
			continue
		}
		page.Searched++
		for _, f := range files {
			if strings.Contains(f.Name, q.Name) {
				page.Matches = append(page.Matches, fleet.Match{Repository: a.Repository, Archive: a.Name, Start: a.Start, File: f})
			}
		}
	}
	return page, w.broken
}

func (w *world) History(_ context.Context, repository, p string) (fleet.PathHistory, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	history := fleet.PathHistory{Repository: repository, Path: p}
	if p == "" {
		return history, job.Invalid("path", "is empty")
	}
	for _, a := range slices.Backward(w.archives) {
		files, ok := w.files[a.Name]
		if !ok {
			history.NotListed++
			continue
		}
		version := fleet.PathVersion{Archive: a.Name, Start: a.Start}
		if i := slices.IndexFunc(files, func(f fleet.File) bool { return f.Path == p }); i >= 0 {
			version.File = &files[i]
		}
		if n := len(history.Versions); n > 0 {
			last := history.Versions[n-1].File
			version.Changed = (last == nil) != (version.File == nil) || last != nil && last.Size != version.File.Size
		}
		history.Versions = append(history.Versions, version)
	}
	return history, w.broken
}

// archiveAddresses are those of pages about archives.
func archiveAddresses() []string {
	const base, one = "/repositories/web1-main", "/repositories/web1-main/archives/" + newest
	bad := "/repositories/web1-main/archives/" + escaped(nasty)
	return []string{
		base + "/archives", base + "/archives?name=web&host=web1&from=2026-11-01&to=2026-11-30", base + "/archives?from=yesterday", "/repositories/nas/archives",
		one, bad, base + "/archives/unlisted", base + "/archives/none", one + "/files", one + "/files?path=etc", one + "/files?path=etc%2Fhosts", one + "/files?path=etc%2Fempty", one + "/files?path=none",
		bad + "/files", bad + "/files?path=etc%2F" + escaped(nasty), base + "/archives/unlisted/files", one + "/restore?path=etc%2Fhosts", bad + "/restore?path=" + escaped(nasty),
		one + "/mount", bad + "/compare?path=etc", one + "/compare", one + "/download", bad + "/download?path=etc&format=tar.zst", base + "/history?path=etc%2Fhosts", base + "/history?path=" + escaped("etc/"+nasty) + "&all=1", base + "/history?path=new.sql", base + "/history",
		"/find", "/find?name=hosts", "/find?name=slow", "/find?name=h&in=archive&repository=web1-main&archive=unlisted", "/find?name=" + escaped(nasty) + "&in=repository&repository=web1-main", "/find?name=zzz",
		base + "/check", base + "/check?depth=data&last=x", base + "/repair", base + "/compact", base + "/prune", base + "/prune?keep_daily=3&which=all", base + "/verify", base + "/mount", "/hosts/web1/verify?repository=nas",
		base + "/delete?archive=" + newest, base + "/delete?archive=" + newest + "&archive=" + escaped(nasty), base + "/delete", "/jobs/" + string(dryPruneJob) + "/prune", "/jobs/" + string(mountJob) + "/force-unmount",
	}
}

// escaped is text as a part of an address, slashes too.
func escaped(text string) string {
	var out strings.Builder
	for _, b := range []byte(text) {
		const hex = "0123456789ABCDEF"
		out.WriteByte('%')
		out.WriteByte(hex[b>>4])
		out.WriteByte(hex[b&15])
	}
	return out.String()
}

// spoil makes all that is known of archives hostile, but for their names: they
// are in the addresses of pages.
func (s *shelf) spoil(evil string) {
	for i := range s.archives {
		a := &s.archives[i]
		a.ID, a.Comment, a.Username, a.Hostname, a.Host, a.Job = evil, evil, evil, evil, evil, job.ID(evil)
	}
	s.archives = append(s.archives, fleet.Archive{Archive: job.Archive{Name: evil, Start: noon, Comment: evil}, Repository: "web1-main", Host: evil})
	for name, files := range s.files {
		for i := range files {
			files[i].User, files[i].Group, files[i].Target, files[i].Mode = evil, evil, evil, evil
		}
		s.files[name] = append(files, file(evil, fleet.FileType(evil), 1), file("etc/"+evil, fleet.RegularFile, 1))
	}
}

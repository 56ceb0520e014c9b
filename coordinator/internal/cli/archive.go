package cli

import (
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type archiveCommands struct {
	List     archiveList     `cmd:"" help:"List the archives of a repository, as they are known here or as borg has them (borg list)."`
	Show     archiveShow     `cmd:"" help:"Show one archive, as it is known here or as borg has it (borg info)."`
	Files    archiveFiles    `cmd:"" help:"Show a directory of an archive, as ls -l does."`
	Find     archiveFind     `cmd:"" help:"Find files by name, in all archives whose files are listed."`
	History  archiveHistory  `cmd:"" help:"Show what one path was in each archive."`
	Diff     archiveDiff     `cmd:"" help:"Show what changed from one archive to another (borg diff)."`
	Restore  archiveRestore  `cmd:"" help:"Restore an archive, or some of its paths, into a directory of a host (borg extract)."`
	Download archiveDownload `cmd:"" help:"Download a file, or a directory as a tar, to this machine."`
	Delete   archiveDelete   `cmd:"" help:"Delete archives, once you have seen which (borg delete)."`
	Mount    archiveMount    `cmd:"" help:"Mount an archive, or all of them, on a host (borg mount)."`
	Umount   archiveUmount   `cmd:"" help:"Unmount what was mounted (borg umount)."`
}

type archiveList struct {
	onRepository
	Refresh bool   `help:"Ask borg, on a host. --host does, too."`
	Prefix  string `help:"Only archives whose name begins so." placeholder:"PREFIX"`
	Glob    string `help:"Only archives whose name matches: * ? [abc]." placeholder:"GLOB"`
	After   moment `help:"Only archives begun then or later: 2026-11-22, 2026-11-22T14:00, or 7d (ago)." placeholder:"TIME"`
	Before  moment `help:"Only archives begun before." placeholder:"TIME"`
	Last    int    `help:"Only the newest N." placeholder:"N"`
}

// Help is the end of the command's help.
func (archiveList) Help() string {
	return `Examples:

    borgfleet archive list main                              # as they are known here, at once
    borgfleet archive list main --after 7d
    borgfleet archive list main --host web1 --glob 'web1-2026-11-*'

Without --host and --refresh borg is not asked: what others made or deleted since it last was is not known.`
}

// Run runs the command.
func (c archiveList) Run(s *session) error {
	spec := job.ListSpec{Prefix: c.Prefix, Glob: c.Glob, Last: c.Last, After: c.After.Time, Before: c.Before.Time}
	if c.Host != "" || c.Refresh {
		return c.run(s, spec)
	}
	if err := spec.Validate(); err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	filter := fleet.ArchiveFilter{Repository: c.Name, Prefix: c.Prefix, Glob: c.Glob, After: c.After.Time, Before: c.Before.Time}
	known, err := c.known(s, api, filter)
	if err != nil {
		return err
	}
	return s.show(known, func() { s.printKnown(known, time.Now()) })
}

// known reads all pages, or as many as hold the newest that were asked for.
func (c archiveList) known(s *session, api *client.Client, filter fleet.ArchiveFilter) (fleet.ArchivePage, error) {
	all := fleet.ArchivePage{Archives: []fleet.Archive{}}
	for {
		filter.Limit = job.MaxPage
		if missing := c.Last - len(all.Archives); c.Last > 0 {
			filter.Limit = min(missing, job.MaxPage)
		}
		page, err := api.Archives(s.ctx, filter)
		if err != nil {
			return all, err
		}
		all.Archives = append(all.Archives, page.Archives...)
		all.Total, all.AsOf, filter.Cursor = page.Total, page.AsOf, page.Cursor
		if page.Cursor == "" || c.Last > 0 && len(all.Archives) >= c.Last {
			return all, nil
		}
	}
}

// printKnown shows archives oldest first, as borg does: the newest are next to
// the prompt.
func (s *session) printKnown(page fleet.ArchivePage, now time.Time) {
	if len(page.Archives) == 0 {
		s.printf("No archives are known here. To ask borg: add --refresh\n")
		return
	}
	t := newTable(s.Out, "ARCHIVE", "STARTED", "HOST", "FILES", "SIZE", "NEW", "FILES LISTED")
	for i := len(page.Archives) - 1; i >= 0; i-- {
		a := page.Archives[i]
		files, size, added, listed := human.None, human.None, human.None, human.None
		if a.OriginalSize > 0 || a.NFiles > 0 {
			files, size, added = human.Count(a.NFiles), human.Bytes(a.OriginalSize), human.Bytes(a.DeduplicatedSize)
		}
		if a.ListedAt != nil {
			listed = human.Ago(*a.ListedAt, now)
		}
		t.row(a.Name, localTime(a.Start), orNone(a.Host), files, size, added, listed)
	}
	t.end()
	if page.AsOf == nil {
		s.printf("Borg was never asked for all of them: add --refresh\n")
		return
	}
	s.printf("Borg was last asked for all of them %s: --refresh asks again\n", human.Ago(*page.AsOf, now))
}

// localTime is a moment by this machine's clock. What has none is not shown as
// long ago.
func localTime(at time.Time) string {
	if at.IsZero() {
		return human.None
	}
	return at.Local().Format(time.DateTime)
}

type archiveShow struct{ onArchive }

// Help is the end of the command's help.
func (archiveShow) Help() string {
	return `Examples:

    borgfleet archive show main web1-2026-11-22T02:00:00                # as it is known here, at once
    borgfleet archive show main web1-2026-11-22T02:00:00 --host web1    # as borg has it`
}

// Run runs the command.
func (c archiveShow) Run(s *session) error {
	if c.Host != "" {
		return s.runAt(c.place(), job.InfoSpec{Archive: c.Archive})
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	archive, err := api.Archive(s.ctx, c.Name, c.Archive)
	if err != nil {
		return err
	}
	return s.show(archive, func() { s.printArchive(archive) })
}

func (s *session) printArchive(a fleet.Archive) {
	now := time.Now()
	t := newFacts(s.Out)
	t.row("archive", a.Name)
	t.row("repository", a.Repository)
	t.row("id", a.ID)
	t.row("started", localTime(a.Start)+", "+human.Ago(a.Start, now))
	t.row("made by", orNone(a.Host))
	if a.Job != "" {
		t.row("job", string(a.Job))
	}
	if a.Comment != "" {
		t.row("comment", a.Comment)
	}
	if a.OriginalSize > 0 || a.NFiles > 0 {
		t.row("files", human.Count(a.NFiles))
		t.row("original size", human.Bytes(a.OriginalSize))
		t.row("compressed", human.Bytes(a.CompressedSize))
		t.row("new then", human.Bytes(a.DeduplicatedSize))
	}
	t.row("seen", human.Ago(a.SeenAt, now))
	if a.ListedAt != nil {
		t.row("files listed", human.Ago(*a.ListedAt, now))
	} else {
		t.row("files listed", "no; "+commandLine("borgfleet", "archive", "files", a.Repository, a.Name)+" does it")
	}
	t.end()
}

type archiveDiff struct {
	Name    string   `arg:"" name:"repository" help:"The repository's name."`
	Archive string   `arg:"" help:"The older archive."`
	Other   string   `arg:"" help:"The newer archive."`
	Paths   []string `arg:"" optional:"" help:"Only these paths, as the archives have them: without a leading slash. Default: all."`
	byMaker
}

// Help is the end of the command's help.
func (archiveDiff) Help() string {
	return `Example:

    borgfleet archive diff main web1-2026-11-21T02:00:00 web1-2026-11-22T02:00:00 etc`
}

// Run runs the command.
func (c archiveDiff) Run(s *session) error {
	at := place{host: c.Host, repository: c.Name, archives: []string{c.Archive, c.Other}, deadlines: c.deadlines}
	return s.runAt(at, job.DiffSpec{Archive: c.Archive, Other: c.Other, Paths: stored(c.Paths)})
}

// printDiff shows the changes as borg lists them.
func (s *session) printDiff(d job.Difference) {
	if d.Added+d.Removed+d.Modified+d.Metadata == 0 {
		s.printf("  no difference\n")
		return
	}
	s.printf("  %s added, %s removed, %s modified, %s with other metadata only; +%s, -%s\n",
		human.Count(d.Added), human.Count(d.Removed), human.Count(d.Modified), human.Count(d.Metadata), human.Bytes(d.AddedBytes), human.Bytes(d.RemovedBytes))
	t := newTable(s.Out, "CHANGE", "ADDED", "REMOVED", "PATH")
	for _, c := range d.Changes {
		added, removed, path := human.None, human.None, c.Path
		if c.Added > 0 {
			added = "+" + human.Bytes(c.Added)
		}
		if c.Removed > 0 {
			removed = "-" + human.Bytes(c.Removed)
		}
		if c.Type == "directory" {
			path += "/"
		}
		if c.Detail != "" {
			path += "  (" + c.Detail + ")"
		}
		t.row(c.Kind, added, removed, path)
	}
	t.end()
	if d.Omitted > 0 {
		s.printf("  and %s more: name paths to see those below them\n", human.Plural(d.Omitted, "change"))
	}
}

type archiveRestore struct {
	onArchive
	Target          string   `help:"The directory on the host to restore into. Where the host allows it: by default below /var/restore/borgfleet." placeholder:"DIR"`
	ToHook          string   `help:"Instead of a directory: hand the one file that is named to this hook of the host, which reads it from its standard input." placeholder:"HOOK"`
	Exclude         []string `help:"Leave out what matches this borg pattern; may be repeated." placeholder:"PATTERN" sep:"none"`
	StripComponents int      `help:"Leave out this many leading parts of each path." placeholder:"N"`
	NumericIDs      bool     `name:"numeric-ids" help:"Owners by their numbers, not their names."`
	Overwrite       bool     `help:"Also into a directory that is not empty; files of the same names are replaced." group:"What is there already:"`
	KeepExisting    bool     `help:"Also into a directory that is not empty; files of the same names stay as they are." group:"What is there already:"`
	DryRun          bool     `help:"Only read the archive, and say what would be restored."`
	List            bool     `help:"Name each file in the job's log."`
	Paths           []string `arg:"" optional:"" help:"Only these paths, as the archive has them: without a leading slash. Default: all."`
}

// Help is the end of the command's help.
func (archiveRestore) Help() string {
	return `Examples:

    borgfleet archive restore main web1-2026-11-22T02:00:00 --target /var/restore/borgfleet/web1 etc/nginx
    borgfleet archive restore main web1-2026-11-22T02:00:00 --host web2 --target /var/restore/borgfleet/web1 --dry-run --list
    borgfleet archive restore main db1-nightly-postgres-dump-2026-11-22T02:00:00 --to-hook postgres-restore postgres-dump

Any host that can read the repository will do. The target is made if it is missing; one that is not empty is refused, unless you say what becomes of what is there.`
}

// Run runs the command.
func (c archiveRestore) Run(s *session) error {
	if (c.Target == "") == (c.ToHook == "") {
		return console.Usage("give either --target or --to-hook")
	}
	return s.runAt(c.place(), job.RestoreSpec{
		Archive: c.Archive, Target: c.Target, ContentTo: c.ToHook, Paths: stored(c.Paths), Overwrite: c.Overwrite, KeepExisting: c.KeepExisting,
		Exclude: c.Exclude, StripComponents: c.StripComponents, NumericIDs: c.NumericIDs, DryRun: c.DryRun, ListFiles: c.List,
	})
}

// stored are paths as archives have them: without the slash that a person may
// have given.
func stored(paths []string) []string {
	var as []string
	for _, p := range paths {
		as = append(as, strings.Trim(p, "/"))
	}
	return as
}

// printRestored says what came where.
func (s *session) printRestored(j job.Job, r job.Result) {
	if r.Target == "" {
		return
	}
	done := "restored"
	if spec, _ := j.Spec.(job.RestoreSpec); spec.DryRun {
		done = "would restore"
	}
	much := ""
	if r.NFiles > 0 {
		much = ": " + human.Plural(r.NFiles, "file")
		if r.OriginalSize > 0 {
			much += ", " + human.Bytes(r.OriginalSize)
		}
	}
	s.printf("  %s %s into %s on %s%s\n", done, console.Printable(r.Archive), console.Printable(r.Target), j.Host, much)
}

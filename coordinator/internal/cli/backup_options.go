package cli

import "github.com/borgfleet/borgfleet/shared/job"

// backupOptions are what a backup may be told, by borg's own names where borg
// has one.
type backupOptions struct {
	backupExcludes `group:"What to leave out:"`
	backupArchive  `group:"The archive:"`
	backupReading  `group:"How files are read:"`
	backupSource   `group:"Instead of paths:"`
	ExtraOption    []string `help:"Hand this option to borg create as it is: --extra-option=--noatime; may be repeated. For admins, and where the host allows it." placeholder:"OPTION" sep:"none" group:"Anything else:"`
}

type backupExcludes struct {
	Exclude          []string `help:"Leave out what matches this borg pattern; may be repeated." placeholder:"PATTERN" sep:"none"`
	ExcludeFrom      []string `help:"Leave out what matches a pattern in this file of the host; may be repeated." placeholder:"FILE" sep:"none"`
	Pattern          []string `help:"Take in (+) or leave out (-, !) what matches, in the order given; may be repeated: --pattern='- home/*/Trash'." placeholder:"PATTERN" sep:"none"`
	PatternsFrom     []string `help:"Such patterns from this file of the host; may be repeated." placeholder:"FILE" sep:"none"`
	ExcludeCaches    bool     `help:"Leave out directories that are tagged as caches."`
	ExcludeIfPresent []string `help:"Leave out directories that have a file of this name; may be repeated." placeholder:"NAME" sep:"none"`
	KeepExcludeTags  bool     `help:"But keep the files that say so."`
	ExcludeNodump    bool     `help:"Leave out files that are flagged nodump."`
	OneFileSystem    bool     `help:"Stay on the file systems of the paths."`
}

type backupArchive struct {
	Archive            string `help:"The archive's name, also with borg's placeholders, which the host fills in: {hostname}, {now}. Default: HOST and the time." placeholder:"NAME"`
	Comment            string `help:"A comment that is stored in the archive." placeholder:"TEXT"`
	Compression        string `help:"none, lz4, zstd[,1-22], zlib[,0-9], lzma[,0-9], each also as auto,METHOD. Default: borg's, lz4." placeholder:"METHOD"`
	UploadLimit        int    `help:"Limit the upload, in KiB/s." placeholder:"KIB" aliases:"upload-ratelimit"`
	CheckpointInterval int    `help:"Seconds between checkpoints, from which a backup that was cut off goes on. Default: 300." placeholder:"SECONDS"`
	List               bool   `help:"Name each file that is added, modified, or cannot be read, in the job's log."`
}

type backupReading struct {
	FilesCache  string `help:"How files are recognised that have not changed, one of ${files_caches}. Default: the first." placeholder:"MODE"`
	NumericIDs  bool   `name:"numeric-ids" help:"Store the numbers of users and groups, not their names."`
	ReadSpecial bool   `help:"Back up what is in devices and pipes, instead of these."`
	Sparse      bool   `help:"Find holes in files."`
	NoXattrs    bool   `name:"noxattrs" help:"Do not store extended attributes."`
	NoACLs      bool   `name:"noacls" help:"Do not store access control lists."`
	NoFlags     bool   `name:"noflags" help:"Do not store flags, such as immutable."`
}

type backupSource struct {
	ContentFrom string `help:"Instead of paths: what this script among the host's own hooks prints becomes the one file of the archive." placeholder:"HOOK"`
	StdinName   string `help:"The name of that file. Default: the script's." placeholder:"NAME"`
	PathsFrom   string `help:"Instead of paths: those that this script among the host's own hooks prints, each ended by a NUL byte." placeholder:"HOOK"`
}

// spec is what a job is told.
func (o backupOptions) spec(paths []string) job.BackupSpec {
	return job.BackupSpec{
		Paths: paths, ContentFrom: o.ContentFrom, StdinName: o.StdinName, PathsFrom: o.PathsFrom,

		Exclude: o.Exclude, ExcludeFrom: o.ExcludeFrom, Patterns: o.Pattern, PatternsFrom: o.PatternsFrom,
		ExcludeCaches: o.ExcludeCaches, ExcludeIfPresent: o.ExcludeIfPresent, KeepExcludeTags: o.KeepExcludeTags,
		ExcludeNoDump: o.ExcludeNodump, OneFileSystem: o.OneFileSystem,

		Archive: o.Archive, Comment: o.Comment, Compression: o.Compression, UploadLimit: o.UploadLimit,
		CheckpointInterval: o.CheckpointInterval, ListFiles: o.List,

		FilesCache: job.FilesCache(o.FilesCache), NumericIDs: o.NumericIDs, ReadSpecial: o.ReadSpecial, Sparse: o.Sparse,
		NoXattrs: o.NoXattrs, NoACLs: o.NoACLs, NoFlags: o.NoFlags, ExtraOptions: o.ExtraOption,
	}
}

package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// NewBorgArchive is a request to make an archive.
type NewBorgArchive struct {
	BorgBody
	ArchiveName     string   `json:"archive_name" minLength:"1" maxLength:"180" doc:"what the archive is to be called; _YYYYMMDD_HHMMSS (UTC) is added"`
	SourcePaths     []string `json:"source_paths" nullable:"false" doc:"absolute paths on the host"`
	Compression     string   `json:"compression,omitempty" default:"lz4" maxLength:"100" doc:"none, lz4, zstd[,1-22], zlib[,0-9], lzma[,0-9] or auto,..."`
	ExcludePatterns []string `json:"exclude_patterns,omitempty" nullable:"false" doc:"what to leave out, in borg's notation"`
}

// BorgArchiveMade is an archive that was made.
type BorgArchiveMade struct {
	Success            bool    `json:"success" doc:"always true: what fails is a problem document"`
	ArchiveName        string  `json:"archive_name" doc:"the archive's name, with its time"`
	OriginalSize       int64   `json:"original_size" doc:"bytes that were read"`
	CompressedSize     int64   `json:"compressed_size" doc:"bytes after compression"`
	DeduplicatedSize   int64   `json:"deduplicated_size" doc:"bytes that are new in the repository"`
	NFiles             int64   `json:"nfiles" doc:"how many files"`
	CompressionRatio   float64 `json:"compression_ratio" doc:"compressed / original; 0 when original is 0"`
	DeduplicationRatio float64 `json:"deduplication_ratio" doc:"deduplicated / original; 0 when original is 0"`
	Duration           float64 `json:"duration" doc:"seconds"`
	Error              string  `json:"error" doc:"what borg warned of, such as files that could not be read; empty when nothing"`
}

type borgArchivesInput struct {
	BorgQuery
	Prefix string `query:"prefix" maxLength:"200" doc:"only archives whose name begins so"`
}

// BorgArchive is one archive of a list.
type BorgArchive struct {
	Name     string    `json:"name" doc:"the archive's name"`
	Archive  string    `json:"archive" doc:"the same, as borg says it twice too"`
	Time     time.Time `json:"time" doc:"when it was begun"`
	Hostname string    `json:"hostname" doc:"the machine that made it, as borg noted it"`
	Username string    `json:"username" doc:"the user who made it, as borg noted it"`
	ID       string    `json:"id" doc:"borg's id of the archive"`
}

type borgExtractInput struct {
	Preference
	Archive string `path:"archive_name" maxLength:"200" example:"web1_20261122_020000" doc:"the archive's name"`
	Body    NewBorgExtract
}

// NewBorgExtract is a request to restore files.
type NewBorgExtract struct {
	BorgBody
	ArchiveName string   `json:"archive_name,omitempty" maxLength:"200" doc:"the same as in the address; may be left out"`
	TargetPath  string   `json:"target_path" minLength:"1" maxLength:"4096" doc:"an absolute directory on the host, below one that its policy names; made when it is missing, and empty when it is there"`
	Paths       []string `json:"paths,omitempty" nullable:"false" doc:"files and directories as the archive has them; left out: everything"`
}

// BorgExtracted is what was restored.
type BorgExtracted struct {
	Success     bool   `json:"success" doc:"always true: what fails is a problem document"`
	ArchiveName string `json:"archive_name" doc:"the archive's name"`
	TargetPath  string `json:"target_path" doc:"as it was asked for"`
	Message     string `json:"message" doc:"what was done, in a sentence"`
}

type borgDeleteInput struct {
	BorgQuery
	Archive string `path:"archive_name" maxLength:"200" example:"web1_20261122_020000" doc:"the archive's name"`
}

// BorgDeleted is an archive that was deleted.
type BorgDeleted struct {
	Success     bool   `json:"success" doc:"always true: what fails is a problem document"`
	ArchiveName string `json:"archive_name" doc:"the archive's name"`
	Message     string `json:"message" doc:"what was done, in a sentence"`
}

// stamp is what makes archives of one name differ.
const stamp = "_20060102_150405"

func (a *API) borgCreate(ctx context.Context, in *struct {
	Preference
	Body NewBorgArchive
}) (*waitedOutput, error) {
	name := in.Body.ArchiveName + time.Now().UTC().Format(stamp)
	asked := in.Body.request(in.Preference, job.BackupSpec{
		Archive: name, Paths: in.Body.SourcePaths, Compression: in.Body.Compression, Exclude: in.Body.ExcludePatterns,
	})
	return a.operate(ctx, asked, waiting{body: func(j job.Job) (any, error) {
		result := resultOf(j)
		made := BorgArchiveMade{
			Success: true, ArchiveName: cmp.Or(result.Archive, name),
			OriginalSize: result.OriginalSize, CompressedSize: result.CompressedSize, DeduplicatedSize: result.DeduplicatedSize,
			NFiles: result.NFiles, CompressionRatio: result.CompressionRatio, DeduplicationRatio: result.DeduplicationRatio,
			Duration: result.Duration, Error: strings.Join(result.Warnings, "\n"),
		}
		if result.WarningsOmitted > 0 {
			made.Error += fmt.Sprintf("\nand %d more", result.WarningsOmitted)
		}
		return made, nil
	}})
}

func (a *API) borgArchives(ctx context.Context, in *borgArchivesInput) (*waitedOutput, error) {
	asked, err := in.request(job.ListSpec{Prefix: in.Prefix})
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	call, err := a.prepare(ctx, asked)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	return a.run(ctx, call, waiting{body: func(j job.Job) (any, error) { return a.allArchives(ctx, call, j) }})
}

// allArchives returns the archives that a list job names. The result of one job
// is bounded: what was left out is older, and more jobs list it.
func (a *API) allArchives(ctx context.Context, call borgCall, listed job.Job) ([]BorgArchive, error) {
	all, known := []BorgArchive{}, map[string]bool{}
	for {
		result, before := resultOf(listed), len(all)
		for _, archive := range result.Archives {
			if !known[archive.ID] {
				known[archive.ID] = true
				all = append(all, BorgArchive{
					Name: archive.Name, Archive: archive.Name, Time: archive.Start.UTC(),
					Hostname: archive.Hostname, Username: archive.Username, ID: archive.ID,
				})
			}
		}
		slices.SortStableFunc(all, func(x, y BorgArchive) int { return x.Time.Compare(y.Time) })
		if result.ArchivesOmitted == 0 || len(all) == before {
			return all, nil
		}
		older := job.ListSpec{Prefix: call.spec.(job.ListSpec).Prefix, Before: all[0].Time.Add(time.Second)} // those of the same moment come again
		var err error
		if listed, err = a.also(ctx, call, older); err != nil {
			return nil, err
		}
	}
}

func (a *API) borgExtract(ctx context.Context, in *borgExtractInput) (*waitedOutput, error) {
	if other := in.Body.ArchiveName; other != "" && other != in.Archive {
		return nil, a.problem(ctx, job.Invalid("body.archive_name", "differs from the name in the address").WithHint("leave it out"))
	}
	asked := in.Body.request(in.Preference, job.RestoreSpec{Archive: in.Archive, Target: in.Body.TargetPath, Paths: in.Body.Paths})
	return a.operate(ctx, asked, waiting{body: func(j job.Job) (any, error) {
		result := resultOf(j)
		what := "everything"
		switch {
		case result.NFiles > 0:
			what = human.Plural(result.NFiles, "file")
		case len(in.Body.Paths) > 0:
			what = human.Plural(len(in.Body.Paths), "path")
		}
		if result.OriginalSize > 0 {
			what += ", " + human.Bytes(result.OriginalSize) + ","
		}
		return BorgExtracted{
			Success: true, ArchiveName: in.Archive, TargetPath: in.Body.TargetPath,
			Message: remark(j, fmt.Sprintf("%s restored to %s on host %s", what, cmp.Or(result.Target, in.Body.TargetPath), j.Host)),
		}, nil
	}})
}

func (a *API) borgDelete(ctx context.Context, in *borgDeleteInput) (*waitedOutput, error) {
	return a.operateQuery(ctx, &in.BorgQuery, job.DeleteSpec{Archives: []string{in.Archive}}, func(j job.Job) (any, error) {
		message := remark(j, "1 archive deleted; a compaction frees the space")
		return BorgDeleted{Success: true, ArchiveName: in.Archive, Message: message}, nil
	})
}

func (a *API) registerBorgArchives() {
	body := BorgBody{RepositoryPath: "/srv/borg/web1", Passphrase: "correct horse battery staple"}
	create := a.borg(operation{
		id: "borg-create", method: http.MethodPost, path: "/create", summary: "Make an archive",
		request: NewBorgArchive{BorgBody: body, ArchiveName: "web1", SourcePaths: []string{"/etc", "/var/www"}, Compression: "zstd,3", ExcludePatterns: []string{"*.log"}},
		answer: BorgArchiveMade{
			Success: true, ArchiveName: "web1_20261122_020000", OriginalSize: 10737418240, CompressedSize: 5368709120, DeduplicatedSize: 268435456,
			NFiles: 1542, CompressionRatio: 0.5, DeduplicationRatio: 0.025, Duration: 45.2,
		},
		failures: []job.Failure{
			{Code: job.ArchiveExists, Message: "there is an archive web1_20261122_020000 already", Hint: "choose another name"},
			{Code: job.PathMissing, Message: "none of the paths exists", Hint: "give paths that are on the host"},
		},
	})
	huma.Register(a.huma, create, a.borgCreate)
	list := a.borg(operation{
		id: "borg-list", method: http.MethodGet, path: "/archives", summary: "List a repository's archives, oldest first",
		answer: []BorgArchive{{Name: "web1_20261122_020000", Archive: "web1_20261122_020000", Time: exampleTime(), Hostname: "web1", Username: "root", ID: exampleRepositoryID}},
	})
	a.refuseHead(list)
	huma.Register(a.huma, list, a.borgArchives)
	extract := a.borg(operation{
		id: "borg-extract", method: http.MethodPost, path: "/extract/{archive_name}", summary: "Restore files from an archive",
		request: NewBorgExtract{BorgBody: body, TargetPath: "/var/restore/borgfleet/web1", Paths: []string{"etc/hosts"}},
		answer: BorgExtracted{
			Success: true, ArchiveName: "web1_20261122_020000", TargetPath: "/var/restore/borgfleet/web1",
			Message: "1 path restored to /var/restore/borgfleet/web1 on host web1",
		},
		failures: []job.Failure{noArchive(),
			{Code: job.TargetNotEmpty, Message: "/var/restore/borgfleet/web1 is not empty", Hint: "choose a directory that is"},
			{Code: job.RefusedByHost, Message: "the host does not allow to restore to /etc", Hint: "choose a directory below /var/restore/borgfleet"},
		},
	})
	huma.Register(a.huma, extract, a.borgExtract)
	remove := a.borg(operation{
		id: "borg-delete", method: http.MethodDelete, path: "/archives/{archive_name}", summary: "Delete an archive",
		answer:   BorgDeleted{Success: true, ArchiveName: "web1_20261122_020000", Message: "1 archive deleted; a compaction frees the space"},
		failures: []job.Failure{noArchive(), {Code: job.Conflict, Message: "archive web1_20261122_020000 is mounted by a job", Hint: "unmount it first"}},
	})
	huma.Register(a.huma, remove, a.borgDelete)
}

package borg

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// printsJSON reports whether a task's command prints a JSON object at its end.
func printsJSON(task Task) bool {
	switch spec := task.Spec.(type) {
	case job.ListSpec:
		return spec.Archive == ""
	case job.BackupSpec, job.InfoSpec, job.VerifySpec, job.RestoreTestSpec:
		return true
	default:
		return false
	}
}

// report is what borg prints on standard output with --json; which parts are
// there depends on the command.
type report struct {
	Archive    *archiveReport  `json:"archive"`  // create
	Archives   []archiveReport `json:"archives"` // list, info REPO::ARCHIVE
	Repository struct {
		ID           string `json:"id"`
		Location     string `json:"location"`
		LastModified string `json:"last_modified"`
	} `json:"repository"`
	Encryption struct {
		Mode string `json:"mode"`
	} `json:"encryption"`
	Cache struct {
		Stats struct {
			TotalChunks  int64 `json:"total_chunks"`
			UniqueChunks int64 `json:"total_unique_chunks"`
			TotalSize    int64 `json:"total_size"`
			UniqueCSize  int64 `json:"unique_csize"`
		} `json:"stats"`
	} `json:"cache"`
}

type archiveReport struct {
	Name     string `json:"name"`
	ID       string `json:"id"`
	Start    string `json:"start"`
	Hostname string `json:"hostname"`
	Username string `json:"username"`
	Comment  string `json:"comment"`
	Stats    struct {
		OriginalSize     int64 `json:"original_size"`
		CompressedSize   int64 `json:"compressed_size"`
		DeduplicatedSize int64 `json:"deduplicated_size"`
		NFiles           int64 `json:"nfiles"`
	} `json:"stats"`
}

var errNoReport = errors.New("borg printed no result")

// readReport decodes standard output. Whatever precedes the object, such as a
// greeting, is passed over.
func readReport(stdout []byte) (report, error) {
	var r report
	start := bytes.IndexByte(stdout, '{')
	if start < 0 {
		return r, errNoReport
	}
	if err := json.NewDecoder(bytes.NewReader(stdout[start:])).Decode(&r); err != nil {
		return r, fmt.Errorf("read borg's result: %w", err)
	}
	return r, nil
}

// fill completes a result from what standard output said, for kinds that
// print something there, and from the spec.
func (p *Parser) fill(result *job.Result) error {
	switch spec := p.task.Spec.(type) {
	case job.RestoreSpec:
		p.fillRestore(result, spec)
		return nil
	case job.DownloadSpec:
		p.fillDownload(result, spec)
		return nil
	case job.DiffSpec:
		return p.fillDifference(result)
	case job.KeyExportSpec:
		return p.fillKey(result)
	case job.ListSpec:
		result.Archive = spec.Archive // empty, if it lists archives
	}
	switch {
	case !printsJSON(p.task):
		return nil
	case p.cut:
		return fmt.Errorf("read borg's result: longer than %d bytes", maxStdoutBytes)
	}
	said, err := readReport(p.stdout)
	if err != nil {
		return err
	}
	switch spec := p.task.Spec.(type) {
	case job.BackupSpec:
		if said.Archive == nil {
			return errNoReport
		}
		fillArchive(result, *said.Archive)
		result.Encryption = said.encryption()
	case job.ListSpec:
		fillList(result, said, spec)
		result.Encryption = said.encryption()
	default:
		result.Repository = said.repository()
		if len(said.Archives) > 0 {
			fillArchive(result, said.Archives[0])
		}
	}
	return nil
}

// fillRestore says what was restored, and where. Borg counts no files.
func (p *Parser) fillRestore(result *job.Result, spec job.RestoreSpec) {
	result.Archive, result.Target = spec.Archive, clean(spec.Target)
	result.OriginalSize = p.progress.total
	if len(result.Warnings) > 0 && !p.task.fed() { // something may be left out: what borg told last
		result.OriginalSize = p.progress.numbers.OriginalSize
	}
}

// fillDownload says what was read.
func (p *Parser) fillDownload(result *job.Result, spec job.DownloadSpec) {
	result.Archive, result.OriginalSize = spec.Archive, p.progress.total
}

// The first and the last line of an armoured age file.
const (
	ageBegin = "-----BEGIN AGE ENCRYPTED FILE-----\n"
	ageEnd   = "\n-----END AGE ENCRYPTED FILE-----\n"
)

// errNoKey does not repeat what came instead: it could be the key.
var errNoKey = errors.New("what came is not a whole encrypted file")

// fillKey takes the key over, which must be encrypted by now.
func (p *Parser) fillKey(result *job.Result) error {
	text := string(p.stdout)
	if p.cut || !strings.HasPrefix(text, ageBegin) || !strings.HasSuffix(text, ageEnd) {
		return errNoKey
	}
	result.KeyExport = text
	return nil
}

func fillArchive(result *job.Result, archive archiveReport) {
	result.Archive, result.ArchiveID = clean(archive.Name), clean(archive.ID)
	result.OriginalSize = archive.Stats.OriginalSize
	result.CompressedSize = archive.Stats.CompressedSize
	result.DeduplicatedSize = archive.Stats.DeduplicatedSize
	result.NFiles = archive.Stats.NFiles
	result.SetRatios()
}

// fillList keeps the newest archives of those that are wanted; borg sorts by
// time, newest last.
func fillList(result *job.Result, said report, spec job.ListSpec) {
	const maxComment = 256 // a list is not the place for an essay
	wanted := slices.DeleteFunc(said.Archives, func(archive archiveReport) bool {
		start, _ := localTime(archive.Start)
		return !spec.After.IsZero() && start.Before(spec.After) || !spec.Before.IsZero() && !start.Before(spec.Before)
	})
	if spec.Last > 0 {
		wanted = wanted[max(0, len(wanted)-spec.Last):]
	}
	omitted := max(0, len(wanted)-job.MaxArchives)
	result.ArchivesOmitted = omitted
	for _, archive := range wanted[omitted:] {
		start, _ := localTime(archive.Start) // unknown: the zero time
		result.Archives = append(result.Archives, job.Archive{
			Name:     clean(archive.Name),
			ID:       clean(archive.ID),
			Start:    start,
			Hostname: head(clean(archive.Hostname), maxComment),
			Username: head(clean(archive.Username), maxComment),
			Comment:  head(clean(archive.Comment), maxComment),
		})
	}
}

func (r report) encryption() job.Encryption { return job.Encryption(clean(r.Encryption.Mode)) }

func (r report) repository() *job.RepositoryInfo {
	info := &job.RepositoryInfo{
		ID:           clean(r.Repository.ID),
		Location:     clean(r.Repository.Location),
		Encryption:   r.encryption(),
		UniqueChunks: r.Cache.Stats.UniqueChunks,
		TotalChunks:  r.Cache.Stats.TotalChunks,
		TotalSize:    r.Cache.Stats.TotalSize,
		UniqueCSize:  r.Cache.Stats.UniqueCSize,
	}
	if modified, ok := localTime(r.Repository.LastModified); ok {
		info.LastModified = &modified
	}
	return info
}

// localTime reads a time as list and info print it: local time without a zone.
// Local is UTC there, since [Command] says so in their environment.
func localTime(text string) (time.Time, bool) {
	at, err := time.ParseInLocation("2006-01-02T15:04:05.999999", text, time.UTC)
	return at, err == nil && at.Year() >= 0 && at.Year() <= 9999
}

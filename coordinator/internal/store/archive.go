package store

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"go.etcd.io/bbolt"
)

// maxArchiveName bounds the name of an archive that is kept, which is a part of
// keys. Borg's own archives have shorter ones.
const maxArchiveName = 1024

// PutArchives notes archives of a repository. What is known of one already, and
// is not said again, stays: who made it, and its sizes. Archives of a repository
// that is not there are not kept, nor those without a usable name.
func PutArchives(repository string, archives ...fleet.Archive) Change {
	return archivesPut{repository: repository, archives: archives}
}

// SetArchives notes what a list of a repository says at a moment: these are all of
// its archives that were begun at or after since. Others that are known of that
// time are dropped, unless they were seen later than the list.
func SetArchives(repository string, archives []fleet.Archive, since, at time.Time) Change {
	return archivesPut{repository: repository, archives: archives, whole: true, since: since, at: at}
}

// DeleteArchives drops archives of a repository, those that are known.
func DeleteArchives(repository string, names ...string) Change {
	return archivesDelete{repository: repository, names: names}
}

type archivesPut struct {
	repository string
	archives   []fleet.Archive
	whole      bool
	since, at  time.Time
}

func (c archivesPut) apply(tx *transaction) error {
	if !tx.has(bucketRepositories, c.repository) {
		return nil
	}
	said := map[string]bool{}
	for _, archive := range c.archives {
		if !usableName(archive.Name) {
			continue
		}
		said[archive.Name] = true
		archive.Repository, archive.ListedAt = c.repository, nil
		if err := tx.putArchive(archive); err != nil {
			return err
		}
	}
	if !c.whole {
		return nil
	}
	known, err := all[fleet.Archive](tx.tx, bucketArchives, pairKey(c.repository, ""))
	if err != nil {
		return err
	}
	for _, archive := range known {
		if said[archive.Name] || archive.Start.Before(c.since) || archive.SeenAt.After(c.at) {
			continue
		}
		if err := tx.dropArchive(archive); err != nil {
			return err
		}
	}
	return nil
}

func usableName(name string) bool {
	return name != "" && len(name) <= maxArchiveName && !strings.ContainsRune(name, 0)
}

type archivesDelete struct {
	repository string
	names      []string
}

func (c archivesDelete) apply(tx *transaction) error {
	for _, name := range c.names {
		known, found, err := get[fleet.Archive](tx.tx, bucketArchives, pairKey(c.repository, name))
		if err == nil && found {
			err = tx.dropArchive(known)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) putArchive(archive fleet.Archive) error {
	key := pairKey(archive.Repository, archive.Name)
	known, found, err := get[fleet.Archive](t.tx, bucketArchives, key)
	if err != nil {
		return err
	}
	if found {
		archive = merged(known, archive)
		if !archive.Start.Equal(known.Start) {
			if err := t.delete(bucketArchivesByTime, archiveTimeKey(known)); err != nil {
				return err
			}
		}
	}
	return errors.Join(
		t.put(bucketArchives, key, archive),
		t.putBytes(bucketArchivesByTime, archiveTimeKey(archive), archiveMaker(archive)),
	)
}

func (t *transaction) dropArchive(archive fleet.Archive) error {
	return errors.Join(
		t.delete(bucketArchives, []byte(pairKey(archive.Repository, archive.Name))),
		t.delete(bucketArchivesByTime, archiveTimeKey(archive)),
	)
}

// merged is what is known of an archive after something new was said of it. What
// has another id is another archive.
func merged(known, said fleet.Archive) fleet.Archive {
	if known.ID != "" && said.ID != "" && known.ID != said.ID {
		return said
	}
	said.ID = cmp.Or(said.ID, known.ID)
	said.Hostname, said.Username = cmp.Or(said.Hostname, known.Hostname), cmp.Or(said.Username, known.Username)
	said.Comment = cmp.Or(said.Comment, known.Comment)
	said.Host, said.Job = cmp.Or(said.Host, known.Host), cmp.Or(said.Job, known.Job)
	if said.Start.IsZero() {
		said.Start = known.Start
	}
	if said.SeenAt.Before(known.SeenAt) {
		said.SeenAt = known.SeenAt
	}
	if said.OriginalSize == 0 && said.NFiles == 0 {
		said.OriginalSize, said.NFiles = known.OriginalSize, known.NFiles
		said.CompressedSize, said.DeduplicatedSize = known.CompressedSize, known.DeduplicatedSize
	}
	return said
}

// archiveTimeKey sorts the archives of a repository by their start, then name.
func archiveTimeKey(a fleet.Archive) []byte {
	key := append([]byte(pairKey(a.Repository, "")), timeBytes(a.Start)...)
	return append(key, a.Name...)
}

// archiveMaker is what the index by time says of who made an archive.
func archiveMaker(a fleet.Archive) []byte {
	return []byte(pairKey(a.Host, strings.ReplaceAll(a.Hostname, "\x00", "")))
}

// Archive returns what is known of an archive.
func (s *Store) Archive(repository, name string) (fleet.Archive, bool, error) {
	return one[fleet.Archive](s, bucketArchives, pairKey(repository, name))
}

// AllArchives returns what is known of all archives of a repository, by name.
func (s *Store) AllArchives(repository string) ([]fleet.Archive, error) {
	return many[fleet.Archive](s, bucketArchives, pairKey(repository, ""))
}

// ArchiveMaker says who made an archive.
type ArchiveMaker struct {
	Name     string
	Host     string // as far as jobs have told
	Hostname string // of the machine, in borg's words
}

// ArchiveMakers returns who made the archives of a repository, oldest first.
func (s *Store) ArchiveMakers(repository string) (makers []ArchiveMaker, err error) {
	prefix := []byte(pairKey(repository, ""))
	err = s.db.View(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket([]byte(bucketArchivesByTime)).Cursor()
		for key, value := cursor.Seek(prefix); bytes.HasPrefix(key, prefix); key, value = cursor.Next() {
			host, hostname, _ := strings.Cut(string(value), "\x00")
			makers = append(makers, ArchiveMaker{Name: string(key[len(prefix)+timeLength:]), Host: host, Hostname: hostname})
		}
		return nil
	})
	return makers, err
}

// Archives returns one page of the archives of a repository that the filter
// chooses, newest first. The error is a *job.Failure when the filter is at fault.
func (s *Store) Archives(f fleet.ArchiveFilter) (fleet.ArchivePage, error) {
	from, err := checkArchives(f)
	if err != nil {
		return fleet.ArchivePage{}, err
	}
	page := fleet.ArchivePage{Archives: []fleet.Archive{}}
	limit := cmp.Or(f.Limit, job.DefaultPage)
	err = s.db.View(func(tx *bbolt.Tx) error {
		record, _, err := get[RepositoryRecord](tx, bucketRepositoryRecords, f.Repository)
		if err != nil {
			return err
		}
		page.AsOf = record.ArchivesAsOf
		last := []byte(nil)
		for at, name := range archivesOf(tx, f) {
			page.Total++
			switch {
			case from != nil && bytes.Compare(at, from) >= 0: // on a page before
			case len(page.Archives) < limit:
				archive, found, err := get[fleet.Archive](tx, bucketArchives, pairKey(f.Repository, name))
				if err != nil || !found {
					return errors.Join(err, fmt.Errorf("archive %s of %s is in the index, found %v", name, f.Repository, found))
				}
				page.Archives, last = append(page.Archives, archive), at
			case page.Cursor == "":
				page.Cursor = base64.RawURLEncoding.EncodeToString(last)
			}
		}
		return nil
	})
	return page, err
}

// checkArchives checks a filter, and decodes its cursor.
func checkArchives(f fleet.ArchiveFilter) (from []byte, err error) {
	if f.Limit < 0 || f.Limit > job.MaxPage {
		return nil, job.Invalid("limit", "%d is not between 1 and %d", f.Limit, job.MaxPage)
	}
	if _, err := path.Match(f.Glob, ""); err != nil {
		return nil, job.Invalid("glob", "%q is not a glob", f.Glob).WithHint("* and ? stand for anything, [abc] for one of these")
	}
	if f.Cursor == "" {
		return nil, nil
	}
	from, err = base64.RawURLEncoding.DecodeString(f.Cursor)
	if err != nil || len(from) <= timeLength {
		return nil, job.Invalid("cursor", "%q did not come from a list", f.Cursor)
	}
	return from, nil
}

// archivesOf walks the archives that a filter chooses, newest first: their places
// in the index, below their repository, and their names.
func archivesOf(tx *bbolt.Tx, f fleet.ArchiveFilter) func(func([]byte, string) bool) {
	prefix := []byte(pairKey(f.Repository, ""))
	return func(yield func([]byte, string) bool) {
		cursor := tx.Bucket([]byte(bucketArchivesByTime)).Cursor()
		key, value := seekBelow(cursor, append(bytes.Clone(prefix), bytes.Repeat([]byte{0xff}, timeLength+1)...))
		for ; bytes.HasPrefix(key, prefix); key, value = cursor.Prev() {
			at := key[len(prefix):]
			moment, name := at[:timeLength], string(at[timeLength:])
			if !f.After.IsZero() && bytes.Compare(moment, timeBytes(f.After)) < 0 {
				return
			}
			if !f.Before.IsZero() && bytes.Compare(moment, timeBytes(f.Before)) >= 0 || !chosen(f, name, value) {
				continue
			}
			if !yield(at, name) {
				return
			}
		}
	}
}

func chosen(f fleet.ArchiveFilter, name string, maker []byte) bool {
	if f.Host != "" && !bytes.HasPrefix(maker, []byte(pairKey(f.Host, ""))) {
		return false
	}
	if !strings.HasPrefix(name, f.Prefix) {
		return false
	}
	return f.Glob == "" || job.MatchesGlob(f.Glob, name)
}

// seekBelow moves to the highest key below target.
func seekBelow(cursor *bbolt.Cursor, target []byte) (key, value []byte) {
	if key, _ = cursor.Seek(target); key == nil {
		return cursor.Last()
	}
	return cursor.Prev()
}

// checkArchiveIndex checks that archives and their index by time name each other.
func checkArchiveIndex(tx *bbolt.Tx) error {
	want := map[string]string{}
	var faults []error
	err := tx.Bucket([]byte(bucketArchives)).ForEach(func(key, data []byte) error {
		var archive fleet.Archive
		if err := json.Unmarshal(data, &archive); err != nil || pairKey(archive.Repository, archive.Name) != string(key) {
			faults = append(faults, fmt.Errorf("archive %q is stored as %q: %w", key, archive.Name, errors.Join(err)))
		}
		if tx.Bucket([]byte(bucketRepositories)).Get([]byte(archive.Repository)) == nil {
			faults = append(faults, fmt.Errorf("archive %q has no repository", key))
		}
		want[string(archiveTimeKey(archive))] = string(archiveMaker(archive))
		return nil
	})
	return errors.Join(append(faults, err, compare(tx, bucketArchivesByTime, want))...)
}

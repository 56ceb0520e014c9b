package store

import (
	"bytes"
	"iter"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/oklog/ulid/v2"
	"go.etcd.io/bbolt"
)

// highest sorts after every job id.
const highest = "\xff"

// idList is the ids of the jobs under one prefix of an index, read downwards.
type idList struct {
	cursor *bbolt.Cursor
	prefix []byte
}

// atOrBelow returns the highest id that is not above the given one.
func (l idList) atOrBelow(id string) (string, bool) {
	target := append(bytes.Clone(l.prefix), id...)
	key, _ := l.cursor.Seek(target)
	switch {
	case key == nil:
		key, _ = l.cursor.Last()
	case !bytes.Equal(key, target):
		key, _ = l.cursor.Prev()
	}
	if !bytes.HasPrefix(key, l.prefix) || key == nil {
		return "", false
	}
	return string(key[len(l.prefix):]), true
}

// below returns the highest id that is below the given one.
func (l idList) below(id string) (string, bool) {
	key, _ := l.cursor.Seek(append(bytes.Clone(l.prefix), id...))
	if key == nil {
		key, _ = l.cursor.Last()
	} else {
		key, _ = l.cursor.Prev()
	}
	if !bytes.HasPrefix(key, l.prefix) || key == nil {
		return "", false
	}
	return string(key[len(l.prefix):]), true
}

// lists returns one list for each field that the filter names, or the list of
// all jobs.
func lists(tx *bbolt.Tx, f job.Filter) []idList {
	var all []idList
	for _, pair := range [][2]string{
		{fieldState, string(f.State)}, {fieldHost, f.Host}, {fieldRepository, f.Repository},
		{fieldPlan, f.Plan}, {fieldKind, string(f.Kind)},
	} {
		if pair[1] != "" {
			all = append(all, idList{cursor: tx.Bucket([]byte(bucketJobIndex)).Cursor(), prefix: indexPrefix(pair[0], pair[1])})
		}
	}
	if len(all) == 0 {
		all = append(all, idList{cursor: tx.Bucket([]byte(bucketJobs)).Cursor()})
	}
	return all
}

// matching walks the ids of the jobs that the filter's fields, cursor and Since
// choose, newest first. Several lists leap over each other's gaps, so that the
// work is bounded by the shortest one.
func matching(tx *bbolt.Tx, f job.Filter) iter.Seq[job.ID] {
	all, lowest := lists(tx, f), lowestID(f.Since)
	at := highest
	if f.Cursor != "" {
		at = f.Cursor
	}
	return func(yield func(job.ID) bool) {
		for {
			next, ok := all[0].below(at)
			if ok {
				at, ok = agree(all, next)
			}
			if !ok || at < lowest || !yield(job.ID(at)) {
				return
			}
		}
	}
}

// agree returns the highest id at or below the given one that is in all lists.
func agree(all []idList, at string) (string, bool) {
	for agreed := 0; agreed < len(all); {
		for _, list := range all {
			next, ok := list.atOrBelow(at)
			if !ok {
				return "", false
			}
			if next != at {
				at, agreed = next, 0
			}
			agreed++
		}
	}
	return at, true
}

// lowestID is the lowest id that a job submitted at or after since can have.
func lowestID(since time.Time) string {
	var id ulid.ULID
	if since.UnixMilli() <= 0 || id.SetTime(uint64(since.UnixMilli())) != nil {
		return ""
	}
	return id.String()
}

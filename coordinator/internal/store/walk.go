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

// either is the ids that are in one of some lists.
type either []idList

func (e either) atOrBelow(id string) (string, bool) {
	return e.highest(func(l idList) (string, bool) { return l.atOrBelow(id) })
}

func (e either) below(id string) (string, bool) {
	return e.highest(func(l idList) (string, bool) { return l.below(id) })
}

func (e either) highest(of func(idList) (string, bool)) (id string, found bool) {
	for _, list := range e {
		if next, ok := of(list); ok && (!found || next > id) {
			id, found = next, true
		}
	}
	return id, found
}

// lists returns what a job must be in: one for each field that the filter names,
// or the list of all jobs. With done it is in the host's as well when it is done
// for the host elsewhere.
func lists(tx *bbolt.Tx, f job.Filter, done bool) []either {
	var all []either
	list := func(field, value string) idList {
		return idList{cursor: tx.Bucket([]byte(bucketJobIndex)).Cursor(), prefix: indexPrefix(field, value)}
	}
	for _, pair := range [][2]string{
		{fieldState, string(f.State)}, {fieldHost, f.Host}, {fieldRepository, f.Repository},
		{fieldPlan, f.Plan}, {fieldKind, string(f.Kind)},
	} {
		switch {
		case pair[1] == "":
		case pair[0] == fieldHost && done:
			all = append(all, either{list(fieldHost, f.Host), list(fieldFor, f.Host)})
		default:
			all = append(all, either{list(pair[0], pair[1])})
		}
	}
	if len(all) == 0 {
		all = append(all, either{{cursor: tx.Bucket([]byte(bucketJobs)).Cursor()}})
	}
	return all
}

// matching walks the ids of the jobs that the filter's fields, cursor and Since
// choose, newest first: of a host, also what is done for it elsewhere.
func matching(tx *bbolt.Tx, f job.Filter) iter.Seq[job.ID] { return walk(lists(tx, f, true), f) }

// matchingAt is matching without what is done elsewhere for the filter's host.
func matchingAt(tx *bbolt.Tx, f job.Filter) iter.Seq[job.ID] { return walk(lists(tx, f, false), f) }

// walk leaps over the gaps of each list, so that the work is bounded by the
// shortest one.
func walk(all []either, f job.Filter) iter.Seq[job.ID] {
	lowest, at := lowestID(f.Since), highest
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
func agree(all []either, at string) (string, bool) {
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

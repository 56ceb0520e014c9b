package catalog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// findCursor is where a search goes on: in one listing, or in the next older one
// if that is gone meanwhile.
type findCursor struct {
	Start      time.Time `json:"start"`
	Repository string    `json:"repository"`
	Archive    string    `json:"archive"`
	Entry      int64     `json:"entry"`    // the first one that was not looked at
	Searched   int       `json:"searched"` // listings that were
}

// compareListings puts newer archives first.
func (f findCursor) compare(l *listing) int {
	return cmp.Or(l.Start.Compare(f.Start), strings.Compare(f.Repository, l.Repository), strings.Compare(f.Archive, l.Archive))
}

func cursorAt(l *listing) findCursor {
	return findCursor{Start: l.Start, Repository: l.Repository, Archive: l.Archive}
}

// Find returns a page of the entries whose name or path matches, newest archives
// first, in each by directory and name. A search that takes long ends early, with
// what it has found, maybe nothing, and a cursor. The error is ctx's, or a
// *job.Failure: not_listed, if one archive is named that is not.
func (c *Catalog) Find(ctx context.Context, q fleet.FindQuery) (fleet.MatchPage, error) {
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return fleet.MatchPage{}, err
	}
	sought, err := newPattern(q.Name)
	if err != nil {
		return fleet.MatchPage{}, err
	}
	from, err := decodeCursor[findCursor](q.Cursor)
	if err != nil {
		return fleet.MatchPage{}, err
	}
	listings, err := c.searched(q)
	if err != nil {
		return fleet.MatchPage{}, err
	}
	s := &search{ctx: ctx, sought: sought, limit: limit, now: c.options.Now, page: fleet.MatchPage{Matches: []fleet.Match{}, Searched: from.Searched}}
	s.deadline = s.now().Add(c.options.Patience)
	for _, l := range listings {
		place := from.compare(l)
		if q.Cursor != "" && place > 0 {
			continue // it was looked through
		}
		entry := int64(0)
		if q.Cursor != "" && place == 0 {
			entry = max(0, from.Entry)
		}
		if err := c.search(s, l, entry); err != nil || s.page.Cursor != "" {
			return s.page, err
		}
	}
	return s.page, nil
}

// searched returns the listings that a search is about, newest first.
func (c *Catalog) searched(q fleet.FindQuery) ([]*listing, error) {
	listings := c.all(q.Repository)
	if q.Archive != "" {
		listings = slices.DeleteFunc(listings, func(l *listing) bool { return l.Archive != q.Archive })
		if len(listings) == 0 && q.Repository != "" {
			return nil, c.notListed(q.Repository, q.Archive)
		}
	}
	slices.SortFunc(listings, func(a, b *listing) int { return cursorAt(a).compare(b) })
	return listings, nil
}

// search looks through one listing. One that is gone meanwhile has no matches.
func (c *Catalog) search(s *search, l *listing, from int64) error {
	found := len(s.page.Matches)
	err := c.read(l, func(r *reader) error { return s.listing(l, r, from) })
	if errors.Is(err, errReplaced) {
		s.page.Matches = s.page.Matches[:found]
		return nil
	}
	if err != nil {
		return c.failure("search", err)
	}
	if s.page.Cursor == "" {
		s.page.Searched++
	}
	return nil
}

// search is one call of Find.
type search struct {
	ctx      context.Context
	sought   pattern
	limit    int
	now      func() time.Time
	deadline time.Time
	page     fleet.MatchPage
	folded   []byte
	text     []byte
}

// listing looks through a listing from an entry on. When the page ends before it
// the cursor is set.
func (s *search) listing(l *listing, r *reader, from int64) error {
	stop := func(entry int64) {
		cursor := cursorAt(l)
		cursor.Entry, cursor.Searched = entry, s.page.Searched
		s.page.Cursor = encodeCursor(cursor)
	}
	begin := int64(0)
	for i := range r.blocks {
		b := &r.blocks[i]
		end := begin + int64(b.entries)
		if end <= from {
			begin = end
			continue
		}
		if err := s.ctx.Err(); err != nil {
			return err
		}
		hits, err := s.block(r, b, int(max(0, from-begin)))
		if err != nil {
			return err
		}
		if err := s.take(l, r, b, hits); err != nil {
			return err
		}
		if full := len(hits) > 0 && len(s.page.Matches) == s.limit; full {
			begin += int64(hits[len(hits)-1]) + 1
			stop(begin)
			return nil
		}
		if begin = end; s.now().After(s.deadline) {
			stop(begin)
			return nil
		}
	}
	return nil
}

// block returns the numbers of the entries of a block that match, from one on,
// as many as the page has room for.
func (s *search) block(r *reader, b *block, from int) (hits []int, err error) {
	names, err := r.section(b, namesSection)
	if err != nil {
		return nil, err
	}
	s.folded = fold(s.folded[:0], names)
	room := s.limit - len(s.page.Matches)
	visit := func(number int) bool {
		if number >= from {
			hits = append(hits, number)
		}
		return len(hits) < room
	}
	if !s.sought.inPath {
		s.sought.inNames(s.folded, visit)
		return s.within(hits, b)
	}
	groups, err := r.dirs(b)
	if err != nil {
		return nil, err
	}
	folded, err := inBlock(decodeNames(s.folded, b.entries))
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if !s.group(g, folded[g.from:g.from+g.entries], visit) {
			break
		}
	}
	return hits, nil
}

// within refuses numbers that a block does not have.
func (s *search) within(hits []int, b *block) ([]int, error) {
	if n := len(hits); n > 0 && hits[n-1] >= b.entries {
		return inBlock(hits[:0], errBlock)
	}
	return hits, nil
}

// group looks for a pattern in the paths of one directory's entries. It returns
// false when visit does.
func (s *search) group(g group, names [][]byte, visit func(int) bool) bool {
	s.text = append(s.text[:0], '/')
	if len(g.dir) > 0 {
		s.text = append(fold(s.text, g.dir), '/')
	}
	dir := len(s.text)
	all := !s.sought.glob && bytes.Contains(s.text, s.sought.needle)
	var tail []byte
	if !all && !s.sought.glob { // it ends in the name: the last slash of both is the same one
		last := bytes.LastIndexByte(s.sought.needle, '/') + 1
		if tail = s.sought.needle[last:]; len(tail) == 0 || !bytes.HasSuffix(s.text, s.sought.needle[:last]) {
			return true
		}
	}
	for i, name := range names {
		matches := all
		switch {
		case all:
		case s.sought.glob:
			s.text = append(s.text[:dir], name...)
			matches = s.sought.match(s.text)
		default:
			matches = bytes.HasPrefix(name, tail)
		}
		if matches && !visit(g.from+i) {
			return false
		}
	}
	return true
}

// take adds entries of a block to the page.
func (s *search) take(l *listing, r *reader, b *block, hits []int) error {
	if len(hits) == 0 {
		return nil
	}
	names, err := r.names(b)
	if err != nil {
		return err
	}
	groups, err := r.dirs(b)
	if err != nil {
		return err
	}
	files, err := r.rest(b)
	if err != nil {
		return err
	}
	for _, hit := range hits {
		for groups[0].from+groups[0].entries <= hit {
			groups = groups[1:]
		}
		file := named(files[hit], string(groups[0].dir), string(names[hit]))
		s.page.Matches = append(s.page.Matches, fleet.Match{Repository: l.Repository, Archive: l.Archive, Start: l.Start, File: file})
	}
	return nil
}

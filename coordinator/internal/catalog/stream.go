package catalog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Bounds of what is read from hosts.
const (
	maxStreams = 4        // sorted at a time
	maxEntries = 50 << 20 // of an archive
	maxLine    = 256 << 10
	loggedBad  = 3 // lines that could not be read, of each stream

	// Names of directories that are made up may take this many bytes, and this many
	// times what was read: one line has room for thousands of them.
	madeUpBytes = 64 << 20
	madeUpTimes = 32
)

// stream is one attempt of a job that lists an archive, from its start until its
// listing is kept or thrown away.
type stream struct {
	attempt attempt
	host    string
	of      archive
	since   time.Time // about when borg began to list
	cancel  context.CancelCauseFunc
	over    chan struct{} // closed when the job has ended well
	ended   bool          // over is closed
	gone    bool          // the archive was deleted meanwhile; guarded by Catalog.mu
}

var (
	errNotKept    = errors.New("the job did not end well")
	errDeleted    = errors.New("the archive was deleted meanwhile")
	errShortText  = errors.New("the output ends within a line")
	errTooMany    = errors.New("too many entries")
	errTooDeep    = errors.New("too many directories that are not listed themselves")
	errUnreadable = errors.New("no line of it is one of a listing")
	errTooLong    = errors.New("too many long names")
)

// follow makes the listing of one attempt.
func (c *Catalog) follow(ctx context.Context, s *stream) error {
	dir := filepath.Join(c.options.Dir, workDir, string(s.attempt.job)+"-"+strconv.Itoa(s.attempt.number))
	if err := os.Mkdir(dir, dirMode); err != nil {
		return fmt.Errorf("make directory to sort in: %w", err)
	}
	defer os.RemoveAll(dir) // what is left of it goes at the next start
	about, err := c.about(ctx, s)
	if err != nil {
		return err
	}
	made := filepath.Join(dir, "listing")
	if about, err = c.receive(ctx, s, made, about); err != nil {
		return err
	}
	select {
	case <-s.over:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	again, err := c.about(ctx, s)
	if err != nil {
		return err
	}
	if gone := c.isGone(s); gone || (about.ID != "" && again.ID != about.ID) {
		return errDeleted
	}
	if err := c.install(made, about); err != nil {
		return err
	}
	c.logger.Info("archive is listed", "job", s.attempt.job, "host", s.host, "repo", s.of.repository, "archive", s.of.name,
		"entries", about.Entries, "bad_lines", about.BadLines)
	return nil
}

// about says what the listing is of.
func (c *Catalog) about(ctx context.Context, s *stream) (summary, error) {
	about := summary{Repository: s.of.repository, Archive: s.of.name, ListedAt: s.since, Job: string(s.attempt.job)}
	known, err := c.options.Archives.Archive(ctx, s.of.repository, s.of.name)
	if code := job.AsFailure(err); code != nil && code.Code != job.ArchiveMissing {
		return about, fmt.Errorf("look for the archive: %w", err)
	}
	if err == nil {
		about.ID, about.Start = known.ID, known.Start
	}
	return about, nil
}

func (c *Catalog) isGone(s *stream) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return s.gone
}

// receive reads the stream to its end, and makes the file of it. The stream is
// opened before there is a slot to sort it in, and its first byte is waited for:
// then the host knows that somebody reads, and borg waits.
func (c *Catalog) receive(ctx context.Context, s *stream, path string, about summary) (summary, error) {
	source := c.options.Source.Stream(ctx, s.host, s.attempt.job, s.attempt.number)
	defer source.Close() // it was read to its end, or is of no use
	lines := bufio.NewReaderSize(source, 64<<10)
	_, _ = lines.Peek(1) // the fault comes again
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return about, context.Cause(ctx)
	}
	sorter := newSorter(filepath.Dir(path), c.arena)
	if err := c.readLines(lines, sorter, &about); err != nil {
		return about, err
	}
	if err := sorter.checkSpace(); err != nil {
		return about, err
	}
	sorted, closeAll, err := sorter.sorted()
	if err != nil {
		return about, err
	}
	defer closeAll()
	return writeListing(path, sorted, about, sorter.checkSpace)
}

// readLines puts all that borg prints into the sort. The error wraps what the
// stream says.
func (c *Catalog) readLines(from *bufio.Reader, to *sorter, about *summary) error {
	var tree branch
	entries, made := 0, int64(0)
	add := func(file fleet.File, madeUp bool) error {
		if entries++; entries > maxEntries {
			return errTooMany
		}
		if madeUp {
			if made += int64(len(file.Path)); made > madeUpBytes+madeUpTimes*about.Raw {
				return errTooDeep
			}
		}
		return to.add(file, madeUp)
	}
	for {
		text, err := readLine(from)
		about.Raw += int64(len(text))
		if errors.Is(err, io.EOF) && len(text) == 0 {
			if about.BadLines > 0 && entries == 0 {
				return errUnreadable
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what borg lists: %w", err)
		}
		file, err := parseLine(text)
		if err != nil {
			c.badLine(err, about)
			continue
		}
		if file.Damaged {
			about.Damaged++
		}
		if file.Path == "." { // the top has no entry
			continue
		}
		if err := tree.enter(file, func(dir fleet.File) error { return add(dir, true) }); err != nil {
			return err
		}
		if err := add(file, false); err != nil {
			return err
		}
	}
}

// badLine counts a line that is none. A host may send any number of them.
func (c *Catalog) badLine(err error, about *summary) {
	if about.BadLines++; about.BadLines <= loggedBad {
		c.logger.Warn("line of a listing is left out", "job", about.Job, "repo", about.Repository, "archive", about.Archive, "err", err)
	}
}

// readLine returns the next line without its end, nothing at io.EOF. Of one that
// is too long only the beginning is returned, which cannot be read as a line.
func readLine(from *bufio.Reader) ([]byte, error) {
	text, err := from.ReadSlice('\n')
	if err == nil {
		return text[:len(text)-1], nil
	}
	if errors.Is(err, io.EOF) && len(text) > 0 {
		return nil, errShortText
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	long := bytes.Clone(text)
	for errors.Is(err, bufio.ErrBufferFull) {
		text, err = from.ReadSlice('\n')
		if len(long) < maxLine {
			long = append(long, text...)
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil, errShortText
	case err != nil:
		return nil, err
	case len(long) >= maxLine:
		return long[:1], nil
	}
	return long[:len(long)-1], nil
}

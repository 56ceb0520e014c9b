package depot

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// borg notes in this file when a transaction was over, where it may only add.
const transactionsFile = "transactions"

// commit is what a transaction's last segment ends with: the checksum of the
// rest, the length of all of it, and the tag of a commit (LoggedIO in borg's
// repository.py).
var commit = func() []byte {
	entry := append(binary.LittleEndian.AppendUint32(nil, 9), 2)
	return append(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(entry)), entry...)
}()

// Transactions returns those to which Rollback can go back, the oldest one
// first; the last one is the present state. Those of a repository that the
// coordinator has compacted since are not among them.
func (s *Server) Transactions(repository string) ([]fleet.Transaction, error) {
	if err := s.present(repository); err != nil {
		return nil, err
	}
	if err := s.remember(repository); err != nil {
		return nil, err
	}
	known, err := s.recall(repository)
	if err != nil {
		return nil, err
	}
	logged, err := s.logged(repository)
	if err != nil {
		return nil, err
	}
	paths, numbers, err := s.segments(repository)
	if err != nil {
		return nil, err
	}
	found := []fleet.Transaction{}
	for _, n := range numbers {
		if n < known.Floor {
			continue
		}
		at, over, err := committed(paths[n])
		if err != nil {
			return nil, fmt.Errorf("transactions of %s: %w", repository, err)
		}
		if over {
			if noted, ok := logged[n]; ok {
				at = noted
			}
			found = append(found, fleet.Transaction{Number: n, At: at.UTC()})
		}
	}
	return found, nil
}

// committed reports whether a segment ends a transaction, and when it was
// written.
func committed(path string) (at time.Time, over bool, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) { // borg at work
		return at, false, nil
	}
	if err != nil {
		return at, false, err
	}
	defer file.Close() // read only: nothing to lose
	info, err := file.Stat()
	if err != nil || info.Size() < int64(len(commit)) {
		return at, false, err
	}
	end := make([]byte, len(commit))
	if _, err := file.ReadAt(end, info.Size()-int64(len(end))); err != nil && !errors.Is(err, io.EOF) {
		return at, false, err
	}
	return info.ModTime(), slices.Equal(end, commit), nil
}

// logged reads borg's own notes. Lines that are not understood are passed over.
func (s *Server) logged(repository string) (map[int]time.Time, error) {
	file, err := os.Open(filepath.Join(s.Dir(repository), transactionsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("transactions of %s: %w", repository, err)
	}
	defer file.Close() // read only: nothing to lose
	at := map[int]time.Time{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if n, when, ok := note(lines.Text()); ok {
			at[n] = when
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("transactions of %s: %w", repository, err)
	}
	return at, nil
}

// note reads a line of borg's: "transaction 9, UTC time 2026-11-22T18:00:00.123456".
func note(line string) (number int, at time.Time, ok bool) {
	head, text, ok := strings.Cut(line, ", UTC time ")
	if !ok {
		return 0, at, false
	}
	if _, err := fmt.Sscanf(head, "transaction %d", &number); err != nil {
		return 0, at, false
	}
	at, err := time.Parse("2006-01-02T15:04:05", text)
	return number, at, err == nil
}

package depot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A repository's data lies in numbered files, segments. What is written comes at
// the end, and a transaction is over with a segment that ends with a commit; its
// number is the transaction's. A host that may only add deletes none that is
// committed, so everything up to a transaction is as it was then. When the
// coordinator compacts, segments go, and what is still needed of them is written
// again at the end: there is no way back from that.

// memory is what a repository was like when it was looked at last.
type memory struct {
	// Floor is the transaction before which there is no way back.
	Floor int `json:"floor"`
	// Transaction is the newest one then.
	Transaction int `json:"transaction"`
	// Segments were there, up to that: first and last of each row.
	Segments [][2]int `json:"segments"`
}

const memoryFile = "segments"

// segments returns a repository's segments by their number, and the numbers in
// their order.
func (s *Server) segments(repository string) (map[int]string, []int, error) {
	data := filepath.Join(s.Dir(repository), "data")
	dirs, err := os.ReadDir(data)
	if err != nil {
		return nil, nil, fmt.Errorf("segments of %s: %w", repository, err)
	}
	paths := map[int]string{}
	var numbers []int
	for _, dir := range dirs {
		if _, err := strconv.Atoi(dir.Name()); err != nil || !dir.IsDir() {
			continue
		}
		files, err := os.ReadDir(filepath.Join(data, dir.Name()))
		if err != nil {
			return nil, nil, fmt.Errorf("segments of %s: %w", repository, err)
		}
		for _, file := range files {
			if n, err := strconv.Atoi(file.Name()); err == nil {
				paths[n] = filepath.Join(data, dir.Name(), file.Name())
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	return paths, numbers, nil
}

// newest is the last transaction of which borg has an index; -1: none.
func (s *Server) newest(repository string) (int, error) {
	entries, err := os.ReadDir(s.Dir(repository))
	if err != nil {
		return 0, fmt.Errorf("index of %s: %w", repository, err)
	}
	newest := -1
	for _, entry := range entries {
		if text, ok := strings.CutPrefix(entry.Name(), "index."); ok {
			if n, err := strconv.Atoi(text); err == nil {
				newest = max(newest, n)
			}
		}
	}
	return newest, nil
}

// look remembers what all repositories are like of which something is known.
func (s *Server) look() error {
	entries, err := os.ReadDir(filepath.Join(s.options.Path, keptDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	for _, entry := range entries {
		if s.exists(entry.Name()) {
			errs = append(errs, s.remember(entry.Name()))
		}
	}
	return errors.Join(append(errs, err)...)
}

// remember notes which segments a repository has now. It is called before a host
// gets to it and after, so that what has gone meanwhile is noticed.
func (s *Server) remember(repository string) error {
	s.snapshot.Lock()
	defer s.snapshot.Unlock()
	if !s.exists(repository) {
		return nil
	}
	before, err := s.recall(repository)
	if err != nil {
		return err
	}
	newest, err := s.newest(repository)
	if err != nil || newest < 0 {
		return err
	}
	_, numbers, err := s.segments(repository)
	if err != nil || len(numbers) == 0 {
		return err
	}
	now := memory{Floor: before.Floor, Transaction: newest, Segments: rows(numbers, newest)}
	if !covers(now.Segments, before.Segments) {
		now.Floor = numbers[len(numbers)-1] // newest, unless it is still being compacted
	}
	if now.Floor == before.Floor && now.Transaction == before.Transaction {
		return nil
	}
	text, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("note segments of %s: %w", repository, err)
	}
	return s.keep(repository, memoryFile, text)
}

func (s *Server) recall(repository string) (m memory, err error) {
	text, err := os.ReadFile(s.kept(repository, memoryFile))
	if errors.Is(err, fs.ErrNotExist) {
		return memory{}, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return m, fmt.Errorf("what is known of segments of %s: %w", repository, err)
	}
	return m, nil
}

// rows writes numbers in their order as first and last of each row, up to last.
func rows(numbers []int, last int) (found [][2]int) {
	for _, n := range numbers {
		switch end := len(found) - 1; {
		case n > last:
			return found
		case end >= 0 && found[end][1] == n-1:
			found[end][1] = n
		default:
			found = append(found, [2]int{n, n})
		}
	}
	return found
}

// covers reports whether all of some rows is in others.
func covers(all, some [][2]int) bool {
	for _, row := range some {
		if !slices.ContainsFunc(all, func(r [2]int) bool { return r[0] <= row[0] && row[1] <= r[1] }) {
			return false
		}
	}
	return true
}

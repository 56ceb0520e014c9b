package journal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/journal"
)

// written makes a journal with some of everything, of many pages, and returns
// its file's content and what it says.
func written(t *testing.T) ([]byte, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path)
	for i := range 30 {
		o := order(1)
		accept(t, j, o)
		log := event(job.EventLog, job.Running)
		log.Lines = []job.LogLine{{Text: strings.Repeat("log ", 500)}}
		record(t, j, o, log)
		if i%3 > 0 {
			record(t, j, o, event(job.EventFinished, job.Succeeded))
		}
		if i%3 > 1 {
			settle(t, j, o, bus.Forget, 3)
		}
	}
	said := contents(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, said
}

// contents is everything that a journal tells.
func contents(t *testing.T, j *journal.Journal) string {
	t.Helper()
	open, err := j.Unfinished()
	if err != nil {
		t.Fatal(err)
	}
	said := []any{snapshot(t, j)}
	for _, record := range open {
		list, err := j.Events(record.Key, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, record.Key, record.Order, list)
	}
	text, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDamageIsSetAside spoils a journal in several places and ways. Each time it
// must be read fully, or be set aside and begun anew.
func TestDamageIsSetAside(t *testing.T) {
	whole, said := written(t)
	page := os.Getpagesize()
	if len(whole) < 20*page {
		t.Fatalf("a journal of %d bytes is too small for this test", len(whole))
	}
	random := rand.New(rand.NewPCG(1, 2))
	spoils := map[string]func(data []byte, at int) []byte{
		"zeroes": func(data []byte, at int) []byte { clear(data[at : at+page]); return data },
		"ones": func(data []byte, at int) []byte {
			copy(data[at:], bytes.Repeat([]byte{0xff}, page))
			return data
		},
		"zeroes to the end": func(data []byte, at int) []byte { clear(data[at:]); return data },
		"cut":               func(data []byte, at int) []byte { return data[:at] },
		"cut in a page":     func(data []byte, at int) []byte { return data[:at+page/3] },
		"another page": func(data []byte, at int) []byte {
			copy(data[at:at+page], whole[(at+3*page)%len(whole):])
			return data
		},
		"one byte": func(data []byte, at int) []byte { data[at+random.IntN(page)] ^= 0x40; return data },
		"the header": func(data []byte, at int) []byte {
			data[at+8+random.IntN(24)] ^= byte(1 + random.IntN(255))
			return data
		},
	}
	kept, aside := 0, 0
	for name, spoil := range spoils {
		for at := 0; at < len(whole); at += page * (1 + at/page/3) { // the first pages matter most
			if reopen(t, fmt.Sprintf("%s at page %d", name, at/page), spoil(bytes.Clone(whole), at), said, at/page < 2) {
				kept++
			} else {
				aside++
			}
		}
	}
	if kept == 0 || aside == 0 {
		t.Errorf("%d were read and %d set aside; this proves nothing", kept, aside)
	}
}

// reopen opens a journal with the given content, and reports whether it was
// read. After damage to its newest meta page it may be one change behind.
func reopen(t *testing.T, what string, data []byte, said string, meta bool) bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal.db")
	write(t, path, data)
	j := open(t, path)
	defer j.Close()
	set := journal.Damaged(path)
	stamp := snapshot(t, j).Stamp
	switch {
	case len(set) == 0 && (len(data) == 0 || contents(t, j) == said):
	case len(set) == 0 && meta && stamp.Revision > 50:
	case len(set) == 1 && stamp.Revision == 0 && len(snapshot(t, j).Records) == 0:
		if moved, err := os.ReadFile(set[0]); err != nil || !bytes.Equal(moved, data) {
			t.Errorf("%s: what was set aside is not what was there, error %v", what, err)
		}
	default:
		t.Errorf("%s: set aside %v; says\n%.300s", what, set, contents(t, j))
	}
	accept(t, j, order(1)) // it can be written
	return len(set) == 0
}

func TestOtherFilesAreSetAside(t *testing.T) {
	for name, data := range map[string]string{
		"text": strings.Repeat("nonsense", 4096), "a byte": "x", "a page of nothing": strings.Repeat("\x00", 4096),
	} {
		t.Run(name, func(t *testing.T) {
			if reopen(t, name, []byte(data), "", false) {
				t.Error("it was read as a journal")
			}
		})
	}
}

func TestFewDamagedJournalsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	var last string
	for i := range 5 {
		last = fmt.Sprintf("nonsense %d", i)
		write(t, path, []byte(last))
		if err := open(t, path).Close(); err != nil {
			t.Fatal(err)
		}
	}
	// The test's clock stands still: the names would be the same.
	if set := journal.Damaged(path); len(set) != 1 {
		t.Errorf("kept %v", set)
	} else if data, err := os.ReadFile(set[0]); err != nil || string(data) != last {
		t.Errorf("kept %q, error %v", data, err)
	}
	for i := range 5 {
		write(t, path, []byte("nonsense"))
		j, err := journal.Open(journal.Options{Path: path, Logger: hclog.NewNullLogger()})
		if err != nil {
			t.Fatal(i, err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if set := journal.Damaged(path); len(set) != 3 {
		t.Errorf("kept %v; want three", set)
	}
}

// TestWhatIsNotDamage: none of these may cost a journal.
func TestWhatIsNotDamage(t *testing.T) {
	t.Run("another agent", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.db")
		first := open(t, path)
		accept(t, first, order(1))
		_, err := journal.Open(journal.Options{Path: path, Logger: hclog.NewNullLogger()})
		if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Code != job.Conflict {
			t.Errorf("error %v", err)
		}
		accept(t, first, order(1))
	})
	t.Run("no permission", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.db")
		if err := os.Mkdir(path, 0o700); err != nil { // root may do anything but this
			t.Fatal(err)
		}
		if _, err := journal.Open(journal.Options{Path: path, Logger: hclog.NewNullLogger()}); err == nil {
			t.Error("a directory was opened")
		}
		if set := journal.Damaged(path); len(set) > 0 {
			t.Errorf("set aside %v", set)
		}
	})
	t.Run("a crash", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "journal.db")
		j, o := open(t, path), order(1)
		accept(t, j, o)
		data, err := os.ReadFile(path) // as it is on the disk at this moment
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(t.TempDir(), "journal.db")
		write(t, copied, data)
		if _, known := answer(t, open(t, copied), o); !known || len(journal.Damaged(copied)) > 0 {
			t.Errorf("known %v, set aside %v", known, journal.Damaged(copied))
		}
	})
}

func TestAlteredRecordIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j, o := open(t, path), order(1)
	accept(t, j, o)
	before := snapshot(t, j).Records
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, bytes.ReplaceAll(data, []byte(`"last_seq":1`), []byte(`"last_seq":2`))) // as good a record
	j = open(t, path)
	if len(journal.Damaged(path)) != 1 || cmp.Equal(before, snapshot(t, j).Records) {
		t.Errorf("set aside %v; %+v", journal.Damaged(path), snapshot(t, j))
	}
	if _, known := answer(t, j, bus.Order{Job: o.Job, Attempt: 1}); known {
		t.Error("the new journal knows the old attempt")
	}
}

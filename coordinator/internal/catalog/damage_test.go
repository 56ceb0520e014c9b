package catalog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/catalog"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// listingOf returns the bytes of a listing.
func listingOf(t testing.TB, text string) []byte {
	t.Helper()
	w := newWorld(t, t.TempDir()).start()
	w.list("main", "a", text)
	w.stop()
	data, err := os.ReadFile(w.Path("main", "a"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func someFiles(n int) string {
	var text strings.Builder
	for i := range n {
		text.WriteString(item("-", fmt.Sprintf("d%d/f%d", i%10, i), i))
	}
	return text.String()
}

// TestADamagedListingIsNotListed flips bits, cuts, and puts files in the place
// of others: what is served is right or not there.
func TestADamagedListingIsNotListed(t *testing.T) {
	good := listingOf(t, someFiles(500))
	tests := map[string]func([]byte) []byte{
		"empty":          func([]byte) []byte { return nil },
		"cut":            func(b []byte) []byte { return b[:len(b)-1] },
		"cut to half":    func(b []byte) []byte { return b[:len(b)/2] },
		"longer":         func(b []byte) []byte { return append(b, 0) },
		"other version":  func(b []byte) []byte { b[11]++; return b },
		"zeros":          func(b []byte) []byte { return make([]byte, len(b)) },
		"hole":           func(b []byte) []byte { clear(b[100:200]); return b },
		"half, then end": func(b []byte) []byte { return append(b[:len(b)/2:len(b)/2], b[len(b)-36:]...) },
	}
	for at := range len(good) {
		if at%97 == 0 || at > len(good)-40 || at < 20 {
			tests[fmt.Sprint("bit at ", at)] = func(b []byte) []byte { b[at] ^= 1 << (at % 8); return b }
		}
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w := newWorld(t, dir).start()
			w.list("main", "a", items("f"))
			path := w.Path("main", "a")
			w.stop()
			if err := os.WriteFile(path, damage(append([]byte{}, good...)), 0o600); err != nil {
				t.Fatal(err)
			}
			w.start()
			_, err := w.Find(t.Context(), fleet.FindQuery{Name: "d1/f"})
			_, err2 := w.Files(t.Context(), fleet.FilesQuery{Repository: "main", Archive: "a", Path: "d1"})
			if err != nil {
				t.Errorf("search: %v", err)
			}
			wantCode(t, err2, job.NotListed)
			if _, err := os.Stat(path); !os.IsNotExist(err) || len(w.ListedAt("main")) != 0 {
				t.Errorf("it is still there: %v", err)
			}
		})
	}
}

func TestAListingInTheWrongPlace(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir).start()
	w.list("main", "a", items("f"))
	w.stop()
	if err := os.Rename(w.Path("main", "a"), w.Path("main", "b")); err != nil {
		t.Fatal(err)
	}
	w.start()
	if at := w.ListedAt("main"); len(at) != 0 {
		t.Errorf("%v", at)
	}
}

func TestAListingThatSomebodyRemoved(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	w.list("main", "a", items("f"))
	if err := os.RemoveAll(filepath.Dir(w.Path("main", "a"))); err != nil {
		t.Fatal(err)
	}
	_, err := w.Files(t.Context(), fleet.FilesQuery{Repository: "main", Archive: "a"})
	wantCode(t, err, job.NotListed)
	w.list("main", "a", items("g"))
	if got := w.names("a", "", 0); len(got) != 1 || got[0] != "g" {
		t.Error(got)
	}
}

// FuzzInspect reads anything as a listing: nothing panics, and nothing takes
// memory without bound.
func FuzzInspect(f *testing.F) {
	f.Add(listingOf(f, someFiles(3)))
	f.Add(listingOf(f, ""))
	f.Add(listingOf(f, item("l", "a/b", 1)+item("d", "a", 0)))
	path := filepath.Join(f.TempDir(), "listing")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = catalog.Inspect(path) // what it says does not matter
	})
}

// FuzzBlock reads anything as the parts of a block, which a file has only with
// the right checksums.
func FuzzBlock(f *testing.F) {
	f.Add([]byte("a\x00b\x00"), []byte("\x01a\x01\x01b\x01"), []byte{0}, []byte{0}, 2)
	f.Fuzz(func(t *testing.T, names, dirs, rest, index []byte, entries int) {
		if entries >= 1 && entries <= 5000 {
			catalog.DecodeAll(names, dirs, rest, index, entries)
		}
	})
}

package faults_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

// report collects what was seen, in the order of the matrix.
type report struct {
	mu   sync.Mutex
	rows []*row
}

// row is one case.
type row struct {
	index   int
	name    string
	finding finding
	over    bool // it came to its end
}

func newReport() *report { return &report{} }

func (r *report) begin(index int, name string) *row {
	r.mu.Lock()
	defer r.mu.Unlock()
	made := &row{index: index, name: name}
	r.rows = append(r.rows, made)
	return made
}

func (r *row) saw(f finding) { r.finding, r.over = f, true }

// end tells the test what was broken.
func (r *row) end(t *testing.T) {
	for _, b := range r.finding.breaches {
		t.Errorf("%s: %s", b.class, b.what)
	}
}

// verdict is one word for a row.
func (r *row) verdict() string {
	if !r.over {
		return "**did not end**"
	}
	if len(r.finding.breaches) == 0 {
		return "held"
	}
	var words []string
	for _, b := range r.finding.breaches {
		words = append(words, fmt.Sprintf("**%s**: %s", b.class, b.what))
	}
	return strings.Join(words, "; ")
}

// seen says how the jobs ended.
func (r *row) seen() string {
	var words []string
	for _, j := range r.finding.jobs {
		text := string(j.State)
		if j.Attempt != 1 {
			text += fmt.Sprintf(" in %d attempts", j.Attempt)
		}
		if !slices.Contains(words, text) {
			words = append(words, text)
		}
	}
	return fmt.Sprintf("%s; settled %.1f s after the repair", strings.Join(words, ", "), r.finding.settled.Seconds())
}

// summary is the last line.
func (r *report) summary() string {
	count := map[class]int{}
	slowest, unfinished := time.Duration(0), 0
	for _, row := range r.rows {
		slowest = max(slowest, row.finding.settled)
		if !row.over {
			unfinished++
		}
		for _, b := range row.finding.breaches {
			count[b.class]++
		}
	}
	return fmt.Sprintf("%d cases: %d lost, %d twice, %d stale locks, %d other rests, %d did not end; the slowest settled %.1f s after its repair",
		len(r.rows), count[lost], count[twice], count[stale], count[rests], unfinished, slowest.Seconds())
}

func (r *report) table() string {
	slices.SortFunc(r.rows, func(a, b *row) int { return a.index - b.index })
	var text strings.Builder
	text.WriteString("| what / how / when | seen | verdict |\n|---|---|---|\n")
	for _, row := range r.rows {
		fmt.Fprintf(&text, "| %s | %s | %s |\n", row.name, row.seen(), row.verdict())
	}
	return text.String()
}

const preamble = `# The fault matrix

Made by ` + "`make faults`" + `; do not edit. Real programs, a real borg and a real sshd; each case has machines of its own (network
namespaces). A case gets a job to a phase, breaks something, repairs it, and then looks from the outside: every job is over
with a true result, borg was started once for each attempt, the repository holds the archives that results name, nothing is
locked, journals and job directories are empty, programs hold no more memory and files than before.

`

// print prints the table, and puts the whole matrix's into FAULTS.md.
func (r *report) print(t *testing.T, whole bool) {
	fmt.Printf("\n%s\n%s\n\n", r.table(), r.summary())
	if !whole || os.Getenv("BORGFLEET_MATRIX_FILE") == "" {
		return
	}
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	text := preamble + r.table() + "\n" + r.summary() + ".\n"
	if err := os.WriteFile(filepath.Join(root, os.Getenv("BORGFLEET_MATRIX_FILE")), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

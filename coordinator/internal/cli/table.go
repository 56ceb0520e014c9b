package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/borgfleet/borgfleet/shared/console"
)

// table prints aligned columns. On a terminal every row is one line: what does
// not fit is cut.
type table struct {
	out    io.Writer
	width  int // 0: any
	buffer bytes.Buffer
	tab    *tabwriter.Writer
}

func newTable(out io.Writer, headings ...string) *table {
	t := &table{out: out}
	t.width, _ = terminalWidth(out)
	t.tab = tabwriter.NewWriter(&t.buffer, 0, 0, 2, ' ', 0)
	if len(headings) > 0 {
		t.row(headings...)
	}
	return t
}

// newFacts is a table of names and values, of which nothing is cut.
func newFacts(out io.Writer) *table {
	t := newTable(out)
	t.width = 0
	return t
}

func (t *table) row(cells ...string) {
	clean := make([]string, len(cells))
	for i, cell := range cells {
		clean[i] = console.Printable(cell)
	}
	fmt.Fprintln(t.tab, strings.Join(clean, "\t"))
}

func (t *table) end() {
	_ = t.tab.Flush()
	for line := range strings.Lines(t.buffer.String()) {
		line = strings.TrimRight(line, " \n")
		if t.width > 0 {
			line = fit(line, t.width)
		}
		fmt.Fprintln(t.out, line)
	}
}

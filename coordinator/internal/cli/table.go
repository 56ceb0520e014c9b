package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// table prints aligned columns. Cells must not contain tabs or line ends.
type table struct {
	out *tabwriter.Writer
}

func newTable(out io.Writer, headings ...string) *table {
	t := &table{out: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	if len(headings) > 0 {
		fmt.Fprintln(t.out, strings.Join(headings, "\t"))
	}
	return t
}

func (t *table) row(cells ...string) {
	clean := strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")
	for i, cell := range cells {
		cells[i] = clean.Replace(cell)
	}
	fmt.Fprintln(t.out, strings.Join(cells, "\t"))
}

func (t *table) end() { _ = t.out.Flush() }

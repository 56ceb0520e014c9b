package cli

import (
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// For tests of single functions.
var (
	Fit          = fit
	FitEnd       = fitEnd
	ColumnsIn    = columnsIn
	ProgressText = progressText
)

// RenderLine is the moving line in a terminal of a width.
func RenderLine(width int, p job.Progress) string {
	l := &liveLine{width: func() int { return width }, percent: p.Percent, words: func() string { return progressText(p) }, tail: p.Path}
	return l.render()
}

// ParseDays is how --expires is read.
func ParseDays(text string) (time.Duration, error) {
	var d days
	err := d.UnmarshalText([]byte(text))
	return time.Duration(d), err
}

// TransferText is the moving line of a download that has begun just now.
func TransferText(offset, total, come int64) string {
	t := &transfer{offset: offset, total: total, begun: time.Now()}
	t.come.Store(come)
	return t.words()
}

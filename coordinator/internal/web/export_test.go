package web

// For tests of the formats alone.
var (
	FormatBytes    = formatBytes
	FormatNumber   = formatNumber[int64]
	FormatDuration = formatDuration
	FormatAgo      = formatAgo
	FormatRatio    = formatRatio
	Prose          = prose
	Sentence       = sentence
	Quote          = quote
	StaticFiles    = staticFiles
)

package web

// For tests of single functions.
var (
	Prose       = prose
	Sentence    = sentence
	Quote       = quote
	StaticFiles = staticFiles
	Size        = size
)

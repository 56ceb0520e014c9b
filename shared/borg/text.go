package borg

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

var urlPassword = regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^/@:\s]*):[^/@\s]*@`)

// clean makes text from outside fit for JSON and for eyes: valid UTF-8, no
// control characters except line ends and tabs, no password inside a URL.
func clean(text string) string {
	text = strings.ToValidUTF8(text, string(utf8.RuneError))
	text = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, text)
	if strings.Contains(text, "://") {
		text = urlPassword.ReplaceAllString(text, "$1:***@")
	}
	return text
}

// head cuts text to at most limit bytes, at a rune's boundary, and marks the cut.
func head(text string, limit int) string {
	const mark = "..."
	if len(text) <= limit {
		return text
	}
	cut := limit - len(mark)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + mark
}

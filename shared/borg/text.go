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
	if plain(text) {
		return text
	}
	return cleanThoroughly(text)
}

// plain reports whether text is one line of ASCII without a URL, as most of
// borg's words are: there is nothing to clean.
func plain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return !strings.Contains(text, "://")
}

func cleanThoroughly(text string) string {
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

// maxWordsBytes bounds a path or a sentence of borg's inside progress.
const maxWordsBytes = 1 << 10

// oneLine makes text fit for one line of a display.
func oneLine(text string) string {
	line := text
	if !plain(text) {
		line = strings.NewReplacer("\n", " ", "\t", " ").Replace(cleanThoroughly(text))
	}
	return head(strings.TrimSpace(line), maxWordsBytes)
}

// tail cuts text to its last limit bytes, at a rune's boundary.
func tail(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	cut := len(text) - limit
	for cut < len(text) && !utf8.RuneStart(text[cut]) {
		cut++
	}
	return text[cut:]
}

// lastLine returns the last line of text that is not blank.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}

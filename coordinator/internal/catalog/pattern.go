package catalog

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/borgfleet/borgfleet/shared/job"
)

// pattern is what a search looks for. All of it is in small letters, and so must
// be what it is compared with; see [fold].
type pattern struct {
	needle   []byte
	inPath   bool     // looked for in "/" and the path, not in the name
	glob     bool     // over all of it
	segments [][]byte // of a glob, between stars; may have ? in them
	literal  []byte   // of a glob: the longest part without wildcards
}

const maxPattern = 4096

// newPattern reads what a person searches for: a part of the name; with * or ? a
// glob over the whole name, * for any text, ? for one character; with a slash
// the same of the path. A glob that begins with a slash begins at the top.
func newPattern(text string) (pattern, error) {
	switch {
	case text == "":
		return pattern{}, job.Invalid("name", "is empty").WithHint("give a part of a file's name, for example passwd, or a pattern, for example *.conf")
	case len(text) > maxPattern || strings.ContainsRune(text, 0) || !utf8.ValidString(text):
		return pattern{}, job.Invalid("name", "%.40q can be in no name", text)
	}
	p := pattern{inPath: strings.Contains(text, "/"), glob: strings.ContainsAny(text, "*?")}
	p.needle = fold(nil, []byte(text))
	if !p.glob {
		return p, nil
	}
	if p.inPath && text[0] != '/' && text[0] != '*' {
		p.needle = append([]byte("/"), p.needle...)
	}
	p.segments = bytes.Split(p.needle, []byte("*"))
	for _, segment := range p.segments {
		for part := range bytes.SplitSeq(segment, []byte("?")) {
			if len(part) > len(p.literal) {
				p.literal = part
			}
		}
	}
	return p, nil
}

// lower is the small letter of each ASCII byte.
var lower = func() (table [utf8.RuneSelf]byte) {
	for i := range table {
		table[i] = byte(unicode.ToLower(rune(i)))
	}
	return table
}()

// fold appends text in small letters. NUL bytes stay where they are, between the
// same characters.
func fold(to, text []byte) []byte {
	for i := 0; i < len(text); {
		if b := text[i]; b < utf8.RuneSelf {
			to = append(to, lower[b])
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		to = utf8.AppendRune(to, unicode.ToLower(r))
		i += size
	}
	return to
}

// match reports whether a folded text is what is looked for.
func (p *pattern) match(text []byte) bool {
	if !p.glob {
		return bytes.Contains(text, p.needle)
	}
	first, last := p.segments[0], p.segments[len(p.segments)-1]
	rest, ok := eat(text, first)
	if !ok {
		return false
	}
	if len(p.segments) == 1 {
		return len(rest) == 0
	}
	for _, segment := range p.segments[1 : len(p.segments)-1] { // the leftmost place is the best one
		if rest, ok = seek(rest, segment); !ok {
			return false
		}
	}
	return endsWith(rest, last)
}

// eat returns what follows a segment at the beginning of text.
func eat(text, segment []byte) (rest []byte, ok bool) {
	for i := 0; i < len(segment); i++ {
		switch {
		case len(text) == 0:
			return nil, false
		case segment[i] == '?':
			_, size := utf8.DecodeRune(text)
			text = text[size:]
		case segment[i] == text[0]:
			text = text[1:]
		default:
			return nil, false
		}
	}
	return text, true
}

// seek returns what follows the first place of a segment in text.
func seek(text, segment []byte) (rest []byte, ok bool) {
	if bytes.IndexByte(segment, '?') < 0 {
		_, rest, ok = bytes.Cut(text, segment)
		return rest, ok
	}
	for {
		if rest, ok = eat(text, segment); ok {
			return rest, true
		}
		if len(text) == 0 {
			return nil, false
		}
		_, size := utf8.DecodeRune(text)
		text = text[size:]
	}
}

// endsWith reports whether a segment matches the end of text.
func endsWith(text, segment []byte) bool {
	begin := len(text)
	for i := len(segment); i > 0; i-- { // a segment ends in as many characters as its own
		if segment[i-1]&0xC0 == 0x80 {
			continue
		}
		if begin == 0 {
			return false
		}
		_, size := utf8.DecodeLastRune(text[:begin])
		begin -= size
	}
	rest, ok := eat(text[begin:], segment)
	return ok && len(rest) == 0
}

// candidate is what every match contains.
func (p *pattern) candidate() []byte {
	if p.glob {
		return p.literal
	}
	return p.needle
}

// inNames calls visit with the number of each name that matches, in order, until
// it returns false. Names are folded, each with a NUL byte after it.
func (p *pattern) inNames(names []byte, visit func(int) bool) {
	sought := p.candidate()
	number := 0
	for len(names) > 0 {
		hit := bytes.Index(names, sought)
		if hit < 0 {
			return
		}
		if begin := bytes.LastIndexByte(names[:hit], 0) + 1; begin > 0 {
			number += bytes.Count(names[:begin], []byte{0})
			names = names[begin:]
		}
		end := bytes.IndexByte(names, 0)
		if end < 0 || (p.match(names[:end]) && !visit(number)) {
			return
		}
		number++
		names = names[end+1:]
	}
}

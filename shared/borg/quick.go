package borg

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// quick decodes a line as borg prints nearly all of them: one flat object as
// Python writes it, with fields that are known. It is many times faster than
// decode, which matters when a gigabyte is read again after a restart. Of
// everything else it says false; what it takes, it takes as decode does.
func quick(line []byte) (m message, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte("{"))
	for ok {
		var key []byte
		if key, rest, ok = bytes.Cut(rest, []byte(`": `)); !ok || len(key) == 0 || key[0] != '"' {
			break
		}
		if rest, ok = m.set(key[1:], rest); !ok {
			break
		}
		if string(rest) == "}" {
			return m, known(m.Type)
		}
		rest, ok = bytes.CutPrefix(rest, []byte(", "))
	}
	return message{}, false
}

// set takes a field's value off the beginning of rest.
func (m *message) set(key, rest []byte) (after []byte, ok bool) {
	switch string(key) {
	case "type":
		m.Type, after, ok = quoted(rest)
	case "time":
		m.Time, after, ok = decimal(rest)
	case "name":
		m.Name, after, ok = quoted(rest)
	case "levelname":
		m.LevelName, after, ok = quoted(rest)
	case "message":
		m.Message, after, ok = quoted(rest)
	case "msgid":
		m.MsgID, after, ok = quoted(rest)
	case "finished":
		m.Finished, after, ok = boolean(rest)
	case "status":
		m.Status, after, ok = quoted(rest)
	case "path":
		m.Path, after, ok = quoted(rest)
	case "operation":
		m.Operation, after, ok = whole(rest)
	case "current":
		m.Current, after, ok = whole(rest)
	case "total":
		m.Total, after, ok = whole(rest)
	case "original_size":
		m.OriginalSize, after, ok = whole(rest)
	case "compressed_size":
		m.CompressedSize, after, ok = whole(rest)
	case "deduplicated_size":
		m.DeduplicatedSize, after, ok = whole(rest)
	case "nfiles":
		m.NFiles, after, ok = whole(rest)
	}
	return after, ok
}

// quoted takes a string.
func quoted(rest []byte) (text string, after []byte, ok bool) {
	if len(rest) == 0 || rest[0] != '"' {
		return "", nil, false
	}
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '"':
			return word(rest[1:i]), rest[i+1:], true
		case c == '\\':
			return escaped(rest, i)
		case c < ' ' || c > '~':
			return "", nil, false
		}
	}
	return "", nil, false
}

// escaped takes a string whose first backslash is at the given place.
func escaped(rest []byte, at int) (text string, after []byte, ok bool) {
	for i := at; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case '"':
			err := json.Unmarshal(rest[:i+1], &text)
			return text, rest[i+1:], err == nil
		}
	}
	return "", nil, false
}

// word returns a string, without making one for words that every other line has.
func word(raw []byte) string {
	const archiver = "borg.archiver"
	switch string(raw) {
	case typeFile:
		return typeFile
	case typeLog:
		return typeLog
	case archiver:
		return archiver
	}
	return string(raw)
}

// digits returns how many digits text begins with.
func digits(text []byte) int {
	n := 0
	for n < len(text) && text[n] >= '0' && text[n] <= '9' {
		n++
	}
	return n
}

// whole takes a number that is not negative, and far from overflowing.
func whole(rest []byte) (n int64, after []byte, ok bool) {
	end := digits(rest)
	if end == 0 || end > 18 || end > 1 && rest[0] == '0' {
		return 0, nil, false
	}
	for _, digit := range rest[:end] {
		n = 10*n + int64(digit-'0')
	}
	return n, rest[end:], true
}

// decimal takes a number that is not negative and has no exponent.
func decimal(rest []byte) (x float64, after []byte, ok bool) {
	end := digits(rest)
	if end == 0 || end > 1 && rest[0] == '0' {
		return 0, nil, false
	}
	if end < len(rest) && rest[end] == '.' {
		fraction := digits(rest[end+1:])
		if fraction == 0 {
			return 0, nil, false
		}
		end += 1 + fraction
	}
	x, err := strconv.ParseFloat(string(rest[:end]), 64)
	return x, rest[end:], err == nil
}

// boolean takes true or false.
func boolean(rest []byte) (value bool, after []byte, ok bool) {
	if after, ok := bytes.CutPrefix(rest, []byte("true")); ok {
		return true, after, true
	}
	after, ok = bytes.CutPrefix(rest, []byte("false"))
	return false, after, ok
}

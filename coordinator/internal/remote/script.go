package remote

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// The scripts. What they are about stands in front of them as variables, quoted;
// it is never a part of their text.
var (
	//go:embed common.sh
	commonText string
	//go:embed start.sh
	startText string
	//go:embed run.sh
	runText string
	//go:embed follow.sh
	followText string
	//go:embed output.sh
	outputText string
	//go:embed runs.sh
	runsText string
	//go:embed look.sh
	lookText string
	//go:embed host.sh
	hostText string

	common, start, work = terse(commonText), terse(startText), terse(runText)
	follow, reading     = terse(followText), terse(outputText)
	runs, look, host    = terse(runsText), terse(lookText), terse(hostText)
)

// terse returns a script without what is there for its readers. None has a text
// in it, over more than one line, that begins a line with a blank or a #.
func terse(script string) string {
	var kept strings.Builder
	for line := range strings.Lines(script) {
		if line = strings.TrimLeft(line, "\t"); line != "\n" && !strings.HasPrefix(line, "#") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// quote writes a text as one word for the shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(word)
	}
	return strings.Join(quoted, " ")
}

// unquote reads words that quoteAll has written, up to the end of the line.
func unquote(text string) []string {
	var words []string
	var word strings.Builder
	open, any := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\'':
			open, any = !open, true
		case open:
			word.WriteByte(c)
		case c == '\\' && i+1 < len(text):
			i++
			word.WriteByte(text[i])
		case c == ' ' || c == '\n':
			if any {
				words = append(words, word.String())
			}
			word.Reset()
			any = false
			if c == '\n' {
				return words
			}
		}
	}
	return words
}

// values are variables of a script.
type values map[string]string

func (v values) String() string {
	var text strings.Builder
	for name, value := range v {
		text.WriteString(name + "=" + quote(value) + "\n")
	}
	return text.String()
}

// place is the beginning of every script: where we keep things, and those of a
// run, on this host.
func (h *Host) place(id string) string {
	text := "shell=" + quote(h.shell) + "\npaths=" + quote(h.paths) + "\nproc=" + quote(h.proc) + "\n"
	switch dir := h.options.Dir; {
	case dir == "":
		text += "dir=${HOME%/}/.borgfleet\n"
	case strings.HasPrefix(dir, "/"):
		text += "dir=" + quote(dir) + "\n"
	default:
		text += "dir=${HOME%/}/" + quote(dir) + "\n"
	}
	return text + "job=$dir/jobs/" + quote(id) + "\n"
}

// script puts a script together.
func (h *Host) script(id string, v values, text string) string {
	return h.place(id) + v.String() + common + text
}

// Bounds of what is kept of what a script says, whoever has the host.
const (
	maxSaid    = 16 << 20
	maxAnswers = 1 << 17
	maxPath    = 4096 // of a directory of ours
	maxShown   = 200  // bytes of what is shown to people
)

// shown makes one short line without control characters of what a host said.
func shown(text string) string {
	text = strings.TrimSpace(text)
	text = strings.ToValidUTF8(text[:min(len(text), maxShown)], "?")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, text)
}

// limited keeps what is written to it, up to a bound, and takes the rest.
type limited struct {
	bytes.Buffer
	limit int
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), max(0, l.limit-l.Len()))])
	return len(p), nil
}

// ask runs a short script, and returns its answers.
func (h *Host) ask(ctx context.Context, script string, input []byte) (answers, error) {
	out, err := h.exec(ctx, script, input)
	if err != nil {
		return nil, err
	}
	return parse(out)
}

// exec runs a short script, and returns what it printed.
func (h *Host) exec(ctx context.Context, script string, input []byte) ([]byte, error) {
	out, errs := limited{limit: maxSaid}, limited{limit: 1 << 10}
	code, err := h.options.Shell.Exec(ctx, script, input, &out, &errs)
	if err != nil {
		return nil, err
	}
	if code != 0 {
		return nil, fmt.Errorf("a script on %s ended with code %d: %s", h.options.Host, code, shown(errs.String()))
	}
	return out.Bytes(), nil
}

// answers are what a script has answered, in its order.
type answers []struct{ name, value string }

func (a answers) get(name string) string {
	for _, answer := range a {
		if answer.name == name {
			return answer.value
		}
	}
	return ""
}

var errTorn = errors.New("an answer of a script is torn")

// parse reads answers: each is a line with a name and a length, and so many
// bytes with a line end behind them.
func parse(text []byte) (answers, error) {
	var all answers
	for len(text) > 0 {
		line, rest, found := bytes.Cut(text, []byte("\n"))
		name, length, spaced := strings.Cut(string(line), " ")
		n, err := strconv.Atoi(length)
		if !found || !spaced || err != nil || n < 0 || n >= len(rest) || name == "dir" && n > maxPath || len(all) == maxAnswers {
			return nil, errTorn
		}
		all = append(all, struct{ name, value string }{name, string(rest[:n])})
		text = rest[n+1:]
	}
	return all, nil
}

// checkID returns an error unless an id is safe as the name of a directory.
func checkID(id string) error {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	if id == "" || len(id) > 128 || strings.Trim(id, letters+"._-") != "" || !strings.ContainsRune(letters, rune(id[0])) {
		return fmt.Errorf("run id %q: letters, digits, '.', '_' and '-' are allowed", id)
	}
	return nil
}

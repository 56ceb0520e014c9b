package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// terminal returns the terminal that a person types at, if there is one.
func (s *session) terminal() (*os.File, bool) {
	file, ok := s.In.(*os.File)
	return file, ok && term.IsTerminal(int(file.Fd()))
}

// confirm asks a person at a terminal; without one, hint is the error.
func (s *session) confirm(question, hint string) error {
	if _, ok := s.terminal(); !ok {
		return console.Usage("%s", hint)
	}
	_, _ = io.WriteString(s.Err, question)
	var answer string
	if _, err := fmt.Fscanln(s.In, &answer); err != nil || !strings.EqualFold(answer, "y") && !strings.EqualFold(answer, "yes") {
		return errors.New("nothing was changed")
	}
	return nil
}

// confirmName lets a person at a terminal type a name, to be sure that it is this
// one.
func (s *session) confirmName(question, name string) error {
	_, _ = io.WriteString(s.Err, question)
	var answer string
	if _, err := fmt.Fscanln(s.In, &answer); err != nil || answer != name {
		return errors.New("nothing was changed")
	}
	return nil
}

// passphrase reads from a file, from standard input, or asks twice at the
// terminal.
func (s *session) passphrase(file string) (secret.Value, error) {
	if file != "" {
		return s.secret(file, "", "passphrase")
	}
	terminal, ok := s.terminal()
	if !ok {
		return secret.Value{}, console.Usage("a passphrase is needed (use --passphrase-file FILE, --passphrase-file - for standard input, or --generate-passphrase)")
	}
	return s.twice(terminal, "Passphrase: ")
}

// twice asks for something new, which is typed blindly.
func (s *session) twice(terminal *os.File, question string) (secret.Value, error) {
	first, err := s.prompt(terminal, question)
	if err != nil {
		return secret.Value{}, err
	}
	second, err := s.prompt(terminal, "Again: ")
	if err != nil {
		return secret.Value{}, err
	}
	if !first.Equal(second) {
		return secret.Value{}, errors.New("what was typed differs: nothing was changed")
	}
	return first, nil
}

func (s *session) prompt(terminal *os.File, text string) (secret.Value, error) {
	_, _ = io.WriteString(s.Err, text)
	typed, err := term.ReadPassword(int(terminal.Fd()))
	fmt.Fprintln(s.Err)
	if err != nil {
		return secret.Value{}, fmt.Errorf("read what was typed: %w", err)
	}
	if len(typed) == 0 {
		return secret.Value{}, errors.New("nothing was typed: nothing was changed")
	}
	return secret.New(typed), nil
}

// days is a time span of a second or more, which may be given in days: 90d.
type days time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *days) UnmarshalText(text []byte) error {
	if count, ok := strings.CutSuffix(string(text), "d"); ok {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 || n > 36500 {
			return fmt.Errorf("%q is not a number of days, such as 90d", text)
		}
		*d = days(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	span, err := time.ParseDuration(string(text))
	if err != nil || span < time.Second {
		return fmt.Errorf("%q is not a time span, such as 15m, 12h or 90d", text)
	}
	*d = days(span)
	return nil
}

// Longest lifetimes, in days, and the shortest. They are the HTTP API's bounds,
// said here in the words of the flag.
const (
	maxTokenDays     = 732
	maxEnrolmentDays = 7
	minLifetime      = time.Minute
)

// check checks the value of --expires.
func (d days) check(most int) error {
	if time.Duration(d) < minLifetime || time.Duration(d) > time.Duration(most)*24*time.Hour {
		return console.Usage("--expires is not between 1m and %dd", most)
	}
	return nil
}

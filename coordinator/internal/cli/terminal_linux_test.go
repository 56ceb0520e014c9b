package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/borgfleet/borgfleet/coordinator/internal/cli"
	"github.com/borgfleet/borgfleet/shared/console"
)

// terminal returns both ends of a new pseudo terminal: the one that a person
// types at, and the one that a program has.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	var number, unlock int32
	for request, value := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, person.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
			t.Fatal(errno)
		}
	}
	if program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

// typist answers each question, the first time that it is asked, by typing.
type typist struct {
	trigger
	answers [][2]string // question, answer
	person  *os.File
}

// Write implements io.Writer.
func (w *typist) Write(p []byte) (int, error) {
	w.text.Write(p)
	if len(w.answers) > 0 && strings.Contains(string(p), w.answers[0][0]) {
		if _, err := w.person.WriteString(w.answers[0][1] + "\n"); err != nil {
			return 0, err
		}
		w.answers = w.answers[1:]
	}
	return len(p), nil
}

// at runs a command line with a person at a terminal.
func (c *coordinator) at(t *testing.T, answers [][2]string, args ...string) result {
	t.Helper()
	if c.url != "" {
		t.Setenv("BORGFLEET_URL", c.url)
	}
	person, program := terminal(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out strings.Builder
	errs := &typist{answers: answers, person: person}
	code := cli.Main(ctx, args, console.Streams{In: program, Out: &out, Err: errs})
	if len(errs.answers) > 0 {
		t.Errorf("never asked %q", errs.answers[0][0])
	}
	return result{code, out.String(), errs.text.String()}
}

// At a terminal a person is asked; no answer is taken for no.
func TestConfirmations(t *testing.T) {
	for args, question := range map[string]string{"host remove web1": "cut off at once", "repo remove main": "no archive can be read"} {
		for answer, code := range map[string]int{"y": console.ExitDone, "YES": console.ExitDone, "n": console.ExitFailed, "": console.ExitFailed, "yesterday": console.ExitFailed} {
			c := full(t)
			r := c.at(t, [][2]string{{question, answer}}, strings.Fields(args)...)
			if r.code != code || (code == 0) != slices.ContainsFunc(c.asked, func(asked string) bool { return strings.HasPrefix(asked, "DELETE") }) {
				t.Errorf("%s, %q: exit code %d, asked %v:\n%s%s", args, answer, r.code, c.asked, r.out, r.err)
			}
		}
	}
}

// A passphrase is typed twice, and shown nowhere.
func TestTypedPassphrase(t *testing.T) {
	for again, code := range map[string]int{"a b c": console.ExitDone, "a b d": console.ExitFailed} {
		c := full(t)
		r := c.at(t, [][2]string{{"Passphrase: ", "a b c"}, {"Again: ", again}}, "repo", "add", "main", "--location", "/srv")
		if r.code != code || strings.Contains(r.out+r.err, "a b") || (code == 0) != (len(c.toldOf("a b c")) == 1) {
			t.Errorf("%q: exit code %d, asked %v:\n%s%s", again, r.code, c.asked, r.out, r.err)
		}
	}
}

// At a terminal the fingerprint is shown, and login goes on only when a person
// has agreed.
func TestTypedLogin(t *testing.T) {
	e := newElsewhere(t)
	here := &coordinator{}
	if r := here.at(t, [][2]string{{e.fingerprint, "n"}}, "login", e.url, "--user", "alice"); r.code != console.ExitFailed || len(e.asked) > 0 {
		t.Errorf("exit code %d, asked %v:\n%s%s", r.code, e.asked, r.out, r.err)
	}
	r := here.at(t, [][2]string{{e.fingerprint, "y"}, {"Password of alice: ", "swordfish"}}, "login", e.url, "--user", "alice", "--json")
	if r.code != 0 || !json.Valid([]byte(r.out)) || strings.Contains(r.out+r.err, "swordfish") {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
}

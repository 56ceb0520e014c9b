package sshlink_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

func TestExec(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	c := connect(t, config(s), sshlink.Options{})
	c.connected(t)
	type result struct {
		Code      int
		Out, Errs string
	}
	tests := map[string]struct {
		script, input string
		want          result
	}{
		"both outputs":           {"echo out; echo errs >&2", "", result{0, "out\n", "errs\n"}},
		"exit code":              {"exit 7", "", result{Code: 7}},
		"nothing":                {"", "", result{}},
		"input":                  {"cat; echo .", "a b\nc", result{0, "a b\nc.\n", ""}},
		"input in parts":         {"IFS= read -r first; echo \"[$first]\"; cat", "one\ntwo\n", result{0, "[one]\ntwo\n", ""}},
		"input that nobody read": {"echo done", strings.Repeat("x", 3<<20), result{Out: "done\n"}},
		"no input":               {"cat; echo over", "", result{Out: "over\n"}},
		"quotes and lines":       {"a='it'\\''s' b=\"!\\\\ $\"\nprintf '%s|' \"$a\" \"$b\" 'é\t'", "", result{Out: "it's|!\\ $|é\t|"}},
		"a long script":          {strings.Repeat("# filler: 'é' \"\n", 4000) + "echo end", "", result{Out: "end\n"}},
		"no line break at end":   {"printf x; printf y >&2", "", result{0, "x", "y"}},
		"a signal":               {"kill -KILL $$", "", result{Code: 128 + 9}},
		"no shell's words":       {"syntax error ( here", "", result{Code: 2, Errs: "SYNTAX"}},
		"a failing command":      {"false; echo $?; no-such-program 2>/dev/null; echo $?", "", result{Out: "1\n127\n"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code, err := c.Exec(t.Context(), test.script, []byte(test.input), &out, &errs)
			if err != nil {
				t.Fatal(err)
			}
			got := result{code, out.String(), errs.String()}
			if test.want.Errs == "SYNTAX" && strings.Contains(strings.ToLower(got.Errs), "syntax") {
				got.Errs = "SYNTAX"
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExecBringsMuchUnchanged(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	c := connect(t, config(s), sshlink.Options{})
	c.connected(t)
	input := make([]byte, 16<<20)
	rand.Read(input)
	var out, errs bytes.Buffer
	code, err := c.Exec(t.Context(), "tee /dev/stderr", input, &out, &errs)
	if err != nil || code != 0 || !bytes.Equal(out.Bytes(), input) || !bytes.Equal(errs.Bytes(), input) {
		t.Errorf("code %d, %v: %d and %d bytes of %d came, or they were changed", code, err, out.Len(), errs.Len(), len(input))
	}
}

func TestExecShowsNothingOfTheScript(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	c := connect(t, config(s), sshlink.Options{})
	c.connected(t)
	got := answer(t, c.Client, `secret='not for others'; IFS= read -r p; tr '\0' ' ' </proc/$$/cmdline; tr '\0' '\n' </proc/$$/environ`, "passphrase\n")
	for _, word := range []string{"not for others", "passphrase"} {
		if strings.Contains(got, word) {
			t.Errorf("%q shows in the command line or the environment:\n%s", word, got)
		}
	}
}

func TestExecEndsThoughSomethingHoldsItsOutput(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	c := connect(t, config(s), sshlink.Options{})
	c.connected(t)
	got := answer(t, c.Client, "sleep 300 & echo $!", "")
	if answer(t, c.Client, "kill "+got, "") != "" {
		t.Error("what was left running had ended")
	}
}

func TestExecEndsWithItsContext(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{Shell: "/bin/sh"})
	c := connect(t, config(s), sshlink.Options{})
	c.connected(t)
	ctx, stop := context.WithCancel(t.Context())
	began := newSignal("began")
	go func() {
		<-began.seen
		stop()
	}()
	if _, err := c.Exec(ctx, "echo began; exec sleep 1002", nil, began, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
	patience.Until(t, "end of the script", func() bool {
		return answer(t, c.Client, "ps -u "+s.User+" -o args= | grep -c '[s]leep 1002' || :", "") == "0\n"
	})
}

// failing takes no output.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

var errFull = errors.New("no room")

func TestExecEndsWhenItsOutputIsNotTaken(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	c := connect(t, config(s), sshlink.Options{})
	c.connected(t)
	if _, err := c.Exec(t.Context(), "echo out; exec sleep 5", nil, failing{}, nil); !errors.Is(err, errFull) {
		t.Errorf("it ends with %v", err)
	}
}

func TestExecSaysThatTheConnectionBroke(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	c := connect(t, config(s), sshlink.Options{})
	c.connected(t)
	began := newSignal("began")
	go func() {
		<-began.seen
		s.Drop()
	}()
	code, err := c.Exec(t.Context(), "echo began; exec sleep 5", nil, began, nil)
	wantFailure(t, err, job.ConnectionLost, "web1", "it closed the connection")
	if code == 0 {
		t.Error("the exit code is that of success")
	}
}

// TestExecWaitsForAPlace also holds a server that allows fewer than we think.
func TestExecWaitsForAPlace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		lines []string
		long  int // scripts that may run long
	}{
		"as usual":     {nil, 6},
		"three places": {[]string{"MaxSessions 3"}, 2},
		"one place":    {[]string{"MaxSessions 1"}, 0},
	} {
		t.Run(name, func(t *testing.T) { holdPlaces(t, test.lines, test.long) })
	}
}

func holdPlaces(t *testing.T, lines []string, long int) {
	s := sshtest.Start(t, sshtest.Options{Config: lines})
	c := connect(t, config(s), sshlink.Options{})
	c.connected(t)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	refused := make(chan error, 8)
	for i := range 8 {
		began := newSignal("began")
		running.Go(func() {
			_, err := c.ExecLong(ctx, "echo began; while sleep 0.1; do echo; done", nil, began, nil)
			if !errors.Is(err, context.Canceled) {
				refused <- err
			}
		})
		select {
		case <-began.seen:
			if i >= long {
				t.Errorf("script %d runs", i)
			}
		case err := <-refused:
			wantFailure(t, err, job.Unavailable, "long")
			if i < long {
				t.Errorf("script %d is refused: %v", i, err)
			}
		case <-time.After(60 * time.Second):
			t.Fatal("a long script neither begins nor is refused")
		}
	}
	if long == 0 {
		holdAll(t, c.Client)
	}
	var short sync.WaitGroup
	for range 12 {
		short.Go(func() {
			if code, err := c.Exec(t.Context(), "sleep 0.05; exit 4", nil, nil, nil); err != nil || code != 4 {
				t.Errorf("a short script beside long ones ends with %d, %v", code, err)
			}
		})
	}
	short.Wait()
}

// holdAll takes the one place that there is, and waits in vain for another.
func holdAll(t *testing.T, c *sshlink.Client) {
	t.Helper()
	began := newSignal("began")
	holding, release := context.WithCancel(t.Context())
	released := make(chan struct{})
	go func() {
		defer close(released)
		c.Exec(holding, "echo began; while sleep 0.1; do echo; done", nil, began, nil)
	}()
	began.wait(t)
	waiting, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	if _, err := c.Exec(waiting, "echo out of turn", nil, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who waits for a place in vain is told %v", err)
	}
	release()
	<-released
}

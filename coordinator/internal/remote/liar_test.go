package remote_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/borgfleet/borgfleet/coordinator/internal/remote"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// liar is a host that was taken over: it answers what it likes.
type liar struct {
	asked atomic.Int32
	says  func(ctx context.Context, out io.Writer) (int, error)
}

func (l *liar) Exec(ctx context.Context, _ string, _ []byte, out, _ io.Writer) (int, error) {
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	l.asked.Add(1)
	return l.says(ctx, out)
}

func (l *liar) ExecLong(ctx context.Context, script string, input []byte, out, errs io.Writer) (int, error) {
	return l.Exec(ctx, script, input, out, errs)
}

// answering is a host that has one answer for everything.
func answering(answer string) *liar {
	return &liar{says: func(_ context.Context, out io.Writer) (int, error) {
		_, err := io.WriteString(out, answer)
		return 0, err
	}}
}

func put(name, value string) string { return fmt.Sprintf("%s %d\n%s\n", name, len(value), value) }

// What a host says of itself is shown to people, and kept.
func TestWhatAHostSaysOfItselfIsBounded(t *testing.T) {
	long := strings.Repeat("\x1b[31m\xffmalice ", 100_000)
	said := put("release", "ID=debian\nPRETTY_NAME=\""+long+"\"") + put("machine", long) + put("user", long) + put("home", long) +
		put("path", long) + put("version", long) + put("setsid", long) + put("say", "printf") + put("room", "done") +
		put("device", "yes") + put("tool", long) + put("clock", "99999999999999999999.5")
	h := open(t, answering(said), "/srv")
	facts, failure := h.Look(t.Context())
	if failure != nil {
		t.Fatal(failure)
	}
	words := []string{facts.OS, facts.Arch, facts.User, facts.Home, facts.BorgPath, facts.BorgFailure.Message, facts.BorgFailure.Hint}
	for _, finding := range h.Findings(t.Context()) {
		words = append(words, finding.Detail, finding.Hint)
	}
	for _, text := range words {
		if len(text) > 1500 || strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text) {
			t.Errorf("%d bytes: %.80q", len(text), text)
		}
	}
	if year := time.Now().Add(facts.ClockAhead).Year(); year < 1 || year > 9999 {
		t.Errorf("year %d cannot be written down", year)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	for name, answer := range map[string]string{
		"many":             strings.Repeat("run 0\n\n", 1<<20),
		"a long directory": put("dir", "/"+strings.Repeat("x", 1<<20)),
		"a long length":    "run 99999999999\nx\n",
		"less than none":   "run -1\nx\n",
	} {
		t.Run(name, func(t *testing.T) {
			if ids, err := open(t, answering(answer), "/srv").List(t.Context()); err == nil {
				t.Errorf("took %d", len(ids))
			}
		})
	}
}

// Times go into the journal, where years have four digits.
func TestTimesOfALiar(t *testing.T) {
	ending := "code 0 99999999999999 99999999999999999999 1 -999999999999999999 ."
	answer := "x\n" + put("phase", "ended") + put("started", "7 7 none 1 99999999999999") + put("ending", ending)
	exit, err := open(t, answering(answer), "/srv").Follow(t.Context(), "job.1", process.Offsets{}, func(process.Chunk) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{exit.StartedAt, exit.EndedAt} {
		if _, err := at.MarshalJSON(); err != nil {
			t.Error(err)
		}
	}
	if exit.Lived < 0 || exit.Lived > 100*365*24*time.Hour {
		t.Errorf("lived %s", exit.Lived)
	}
}

// Who is told nothing new asks again, but not as fast as it can.
func TestALiarKeepsNobodyBusy(t *testing.T) {
	begins := put("phase", "supervised") + put("started", "") + put("ending", "")
	for name, test := range map[string]struct {
		answer string
		ask    func(ctx context.Context, h *remote.Host) error
	}{
		"a start that never begins": {begins, func(ctx context.Context, h *remote.Host) error {
			_, err := h.Start(ctx, enginetest.Shell("job.1", "true"), secret.Value{})
			return err
		}},
		"a run that ends and does not": {"x\n" + begins, func(ctx context.Context, h *remote.Host) error {
			_, err := h.Follow(ctx, "job.1", process.Offsets{}, func(process.Chunk) error { return nil })
			return err
		}},
		"an output that comes later": {"later\n", func(ctx context.Context, h *remote.Host) error {
			_, err := h.Output(ctx, "job.1")
			return err
		}},
		"an output that is none": {"maybe\n", func(ctx context.Context, h *remote.Host) error {
			_, err := h.Output(ctx, "job.1")
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer stop()
			l := answering(test.answer)
			if err := test.ask(ctx, open(t, l, "/srv")); err == nil {
				t.Error("it was believed")
			}
			if asked := l.asked.Load(); asked > 20 {
				t.Errorf("asked %d times in half a second", asked)
			}
		})
	}
}

// A script that goes on after its word holds no place.
func TestAnOutputThatIsNoneIsLetGo(t *testing.T) {
	for _, word := range []string{"none\n", "later\n", "perhaps something else\n"} {
		left := make(chan struct{}, 100)
		l := &liar{says: func(ctx context.Context, out io.Writer) (int, error) {
			if _, err := io.WriteString(out, word); err != nil {
				return 0, err
			}
			<-ctx.Done()
			left <- struct{}{}
			return 0, ctx.Err()
		}}
		ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if _, err := open(t, l, "/srv").Output(ctx, "job.1"); err == nil {
			t.Errorf("%q was an output", word)
		}
		stop()
		for range l.asked.Load() {
			select {
			case <-left:
			case <-time.After(30 * time.Second):
				t.Fatalf("%q: a script still runs", word)
			}
		}
	}
}

// What is encrypted here is kept in memory: no host decides how much.
func TestWhatIsEncryptedIsBounded(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	flood := bytes.Repeat([]byte("x"), 64<<10)
	var calls atomic.Int32
	reading := make(chan struct{})
	l := &liar{}
	l.says = func(ctx context.Context, out io.Writer) (int, error) {
		if calls.Add(1) == 1 {
			close(reading)
			_, err := io.WriteString(out, "go\n")
			for err == nil && ctx.Err() == nil && sent.Load() < 64<<20 {
				_, err = out.Write(flood)
				sent.Add(int64(len(flood)))
			}
			return 0, err
		}
		_, err := io.WriteString(out, "x\n"+put("sealed", "yes")+put("phase", "ended")+put("started", "7 7 none 1 1")+put("ending", "code 0 1 2 1 2 ."))
		return 0, err
	}
	h := open(t, l, "/srv")
	remote.Encrypt(h, process.Command{ID: "job.1", Recipient: identity.Recipient().String()})
	<-reading
	exit, err := h.Follow(t.Context(), "job.1", process.Offsets{}, func(process.Chunk) error { return nil })
	if err != nil || !exit.Lost {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if sent.Load() >= 64<<20 {
		t.Error("all of it was taken")
	}
}

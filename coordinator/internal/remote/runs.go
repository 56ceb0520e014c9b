package remote

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/process"
)

// about asks one question about a run.
func (h *Host) about(ctx context.Context, id, question string, more values) (answers, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	own := values{"ask": question}
	for name, value := range more {
		own[name] = value
	}
	return h.ask(ctx, h.script(id, own, runs), nil)
}

// signals are the names that kill knows.
var signals = map[process.Signal]string{process.Interrupt: "INT", process.Terminate: "TERM", process.Kill: "KILL"}

// Signal implements engine.Executor. It does nothing when the program is gone.
func (h *Host) Signal(ctx context.Context, id string, s process.Signal) error {
	name := signals[s]
	if name == "" {
		return fmt.Errorf("signal %q is not one of interrupt, terminate, kill", s)
	}
	_, err := h.about(ctx, id, "signal", values{"signal": name})
	return err
}

// ticksPerSecond is the unit of times in /proc (see time(7)).
const ticksPerSecond = 100

// Age implements engine.Executor. It goes by the host's own clock since its
// start, which nobody sets, where there is /proc.
func (h *Host) Age(ctx context.Context, id string) (age time.Duration, running bool, err error) {
	said, err := h.about(ctx, id, "age", nil)
	if err != nil || said.get("up") == "" {
		return 0, false, err
	}
	if h.proc == "" {
		return elapsed(said.get("up")), true, nil
	}
	ticks, err := strconv.ParseInt(said.get("since"), 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("age of %s: %w", id, errTorn)
	}
	return max(0, span(said.get("up"))-time.Duration(ticks)*(time.Second/ticksPerSecond)), true, nil
}

// elapsed reads what ps says of a process's age: [[days-]hours:]minutes:seconds.
func elapsed(text string) time.Duration {
	days, rest, found := strings.Cut(strings.TrimSpace(text), "-")
	if !found {
		days, rest = "0", days
	}
	total, _ := strconv.Atoi(days)
	parts := strings.Split(rest, ":")
	if len(parts) == 2 {
		parts = append([]string{"0"}, parts...)
	}
	for i, unit := range []int{24, 60, 60} {
		n := 0
		if i < len(parts) {
			n, _ = strconv.Atoi(parts[i])
		}
		total = total*unit + n
	}
	return time.Duration(total) * time.Second
}

// Remove implements engine.Executor.
func (h *Host) Remove(ctx context.Context, id string) error {
	said, err := h.about(ctx, id, "remove", nil)
	if err != nil {
		return err
	}
	if !phase(said.get("phase")).over() {
		return fmt.Errorf("remove %s: %w", id, process.ErrRunning)
	}
	h.dropSealed(id)
	return nil
}

// Over reports whether nothing of a run lives, or is about to.
func (h *Host) Over(ctx context.Context, id string) (bool, error) {
	said, err := h.about(ctx, id, "over", nil)
	if err != nil {
		return false, err
	}
	at, err := where(said)
	return at.phase.over(), err
}

// Argv returns the program of a run, and its arguments; nothing when that is not
// known any more.
func (h *Host) Argv(ctx context.Context, id string) ([]string, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	text, err := h.exec(ctx, h.script(id, values{"ask": "argv"}, runs), nil)
	if err != nil {
		return nil, err
	}
	_, line, found := strings.Cut(string(text), "\n"+argvMark)
	if !found {
		return nil, nil
	}
	return unquote(line), nil
}

// List returns the ids that have a directory, sorted.
func (h *Host) List(ctx context.Context) ([]string, error) {
	all, err := h.all(ctx, "list", 0)
	ids := make([]string, 0, len(all))
	for _, one := range all {
		ids = append(ids, one.id)
	}
	return ids, err
}

// found is a job directory as it was found.
type found struct {
	id    string
	phase phase
	young bool // something has happened in it of late
}

// all looks at all job directories.
func (h *Host) all(ctx context.Context, question string, late time.Duration) ([]found, error) {
	minutes := strconv.FormatInt(int64(math.Ceil(late.Minutes())), 10)
	said, err := h.ask(ctx, h.script("", values{"ask": question, "minutes": minutes}, runs), nil)
	if err != nil {
		return nil, fmt.Errorf("list job directories: %w", err)
	}
	var all []found
	for _, answer := range said {
		switch {
		case answer.name == "run":
			all = append(all, found{id: answer.value})
		case len(all) > 0 && answer.name == "phase":
			all[len(all)-1].phase = phase(answer.value)
		case len(all) > 0 && answer.name == "young":
			all[len(all)-1].young = answer.value != ""
		}
	}
	kept := all[:0]
	for _, one := range all {
		if checkID(one.id) == nil {
			kept = append(kept, one)
		}
	}
	return kept, nil
}

// Clean removes the directories of runs in which nothing has happened for as
// long as olderThan, in minutes, that are over, and that keep does not want.
func (h *Host) Clean(ctx context.Context, olderThan time.Duration, keep func(id string) bool) error {
	all, err := h.all(ctx, "aged", olderThan)
	if err != nil {
		return err
	}
	var faults []error
	for _, one := range all {
		if keep(one.id) || one.young || !one.phase.over() {
			continue
		}
		if err := h.Remove(ctx, one.id); err != nil && !errors.Is(err, process.ErrRunning) {
			faults = append(faults, err)
		}
	}
	_, err = h.exec(ctx, h.script("", values{"ask": "sweep"}, runs), nil)
	return errors.Join(append(faults, err)...)
}

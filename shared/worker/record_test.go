package worker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
)

// These tests look inside, since events of this size are hard to come by.

func TestFitSpreadsLogLines(t *testing.T) {
	e := job.Event{Type: job.EventLog, Omitted: 7}
	for i := range 400 {
		e.Lines = append(e.Lines, job.LogLine{Text: fmt.Sprintf("%03d %s", i, strings.Repeat("x", job.MaxLogLineBytes-4))})
	}
	parts := fit(e)
	next, omitted := 0, 0
	for _, part := range parts {
		if size(part) > maxEventBytes {
			t.Errorf("a part has %d bytes", size(part))
		}
		omitted += part.Omitted
		for _, line := range part.Lines {
			if !strings.HasPrefix(line.Text, fmt.Sprintf("%03d ", next)) {
				t.Fatalf("line %d is %.10s", next, line.Text)
			}
			next++
		}
	}
	if next != 400 || omitted != 7 || parts[0].Omitted != 7 {
		t.Errorf("%d lines, %d omitted, %d of them in the first part", next, omitted, parts[0].Omitted)
	}
}

func TestFitShortensResults(t *testing.T) {
	long := strings.Repeat("x", 4000)
	fill := func(n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("%d %s", i, long)
		}
		return list
	}
	archives := make([]job.Archive, 400)
	for i := range archives {
		archives[i] = job.Archive{Name: fmt.Sprint(i), Comment: long}
	}
	tests := map[string]struct {
		result job.Result
		check  func(job.Result) bool
	}{
		"archives": {job.Result{Archives: archives}, func(r job.Result) bool {
			return r.Archives[len(r.Archives)-1].Name == "399" && len(r.Archives)+r.ArchivesOmitted == 400
		}},
		"warnings": {job.Result{Warnings: fill(300)}, func(r job.Result) bool {
			return strings.HasPrefix(r.Warnings[0], "0 ") && len(r.Warnings)+r.WarningsOmitted == 300
		}},
		"prune": {job.Result{Kept: fill(200), Pruned: fill(200)}, func(r job.Result) bool {
			return len(r.Kept) > 0 && len(r.Pruned) > 0
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := test.result
			parts := fit(job.Event{Type: job.EventFinished, State: job.Succeeded, Result: &test.result})
			if len(parts) != 1 || size(parts[0]) > maxEventBytes || !test.check(*parts[0].Result) {
				t.Errorf("%d parts, %d bytes, result of %d archives, %d warnings", len(parts), size(parts[0]),
					len(parts[0].Result.Archives), len(parts[0].Result.Warnings))
			}
			if len(before.Archives) != len(test.result.Archives) || len(before.Warnings) != len(test.result.Warnings) {
				t.Error("the engine's own result was changed")
			}
		})
	}
}

func TestFitLeavesSmallEventsAlone(t *testing.T) {
	parts := fit(job.Event{Type: job.EventStarted})
	if len(parts) != 1 || parts[0].Type != job.EventStarted {
		t.Errorf("became %+v", parts)
	}
}

// TestFitShortensLists: what is left out is counted, so nobody takes a part for
// all of it.
func TestFitShortensLists(t *testing.T) {
	const n = 20_000
	names := make([]string, n)
	keptBy := map[string]string{}
	changes := make([]job.Change, n)
	for i := range names {
		names[i] = fmt.Sprintf("%05d-%s", i, strings.Repeat("x", 60))
		keptBy[names[i]] = "daily"
		changes[i].Path = names[i]
	}
	for name, test := range map[string]struct {
		result job.Result
		count  func(job.Result) (left, omitted int)
	}{
		"archives": {job.Result{Archives: make([]job.Archive, n)}, func(r job.Result) (int, int) { return len(r.Archives), r.ArchivesOmitted }},
		"kept":     {job.Result{Kept: names, KeptBy: keptBy}, func(r job.Result) (int, int) { return min(len(r.Kept), len(r.KeptBy)), r.KeptOmitted }},
		"pruned":   {job.Result{Pruned: names}, func(r job.Result) (int, int) { return len(r.Pruned), r.PrunedOmitted }},
		"deleted":  {job.Result{Deleted: names}, func(r job.Result) (int, int) { return len(r.Deleted), r.DeletedOmitted }},
		"damaged":  {job.Result{Damaged: names}, func(r job.Result) (int, int) { return len(r.Damaged), r.DamagedOmitted }},
		"warnings": {job.Result{Warnings: names}, func(r job.Result) (int, int) { return len(r.Warnings), r.WarningsOmitted }},
		"diff": {job.Result{Diff: &job.Difference{Changes: changes}}, func(r job.Result) (int, int) {
			return len(r.Diff.Changes), int(r.Diff.Omitted)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			parts := fit(job.Event{Type: job.EventFinished, Result: &test.result})
			if len(parts) != 1 || size(parts[0]) > maxEventBytes {
				t.Fatalf("%d parts, the first of %d bytes", len(parts), size(parts[0]))
			}
			if left, omitted := test.count(*parts[0].Result); left == 0 || omitted == 0 || left+omitted != n {
				t.Errorf("%d left, %d omitted", left, omitted)
			}
			if left, omitted := test.count(test.result); left != n || omitted != 0 {
				t.Error("the original has changed")
			}
		})
	}
}

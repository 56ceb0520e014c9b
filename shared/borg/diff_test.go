package borg_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

var diffTask = baseTask(neutralRoot, job.DiffSpec{Archive: "a", Other: "b"})

func TestDifference(t *testing.T) {
	const ctime = `{"new_ctime": "2026-01-02T00:00:00.5", "old_ctime": "2026-01-01T00:00:00", "type": "ctime"}`
	const mtime = `{"new_mtime": "2026-01-02T00:00:00.500000", "old_mtime": "2026-01-01T00:00:00.000000", "type": "mtime"}`
	const none = `{"added": 0, "removed": 0, "type": "modified"}`
	for name, test := range map[string]struct {
		changes string
		want    job.Change // without its path; none: no change
	}{
		"added":                      {`{"size": 7, "type": "added"}`, job.Change{Kind: "added", Type: "file", Added: 7}},
		"added, 1.4":                 {`{"added": 7, "removed": 0, "type": "added"}`, job.Change{Kind: "added", Type: "file", Added: 7}},
		"removed":                    {`{"size": 7, "type": "removed"}`, job.Change{Kind: "removed", Type: "file", Removed: 7}},
		"added directory":            {`{"type": "added directory"}`, job.Change{Kind: "added", Type: "directory"}},
		"removed fifo":               {`{"type": "removed fifo"}`, job.Change{Kind: "removed", Type: "other"}},
		"changed link":               {`{"type": "changed link"}, ` + ctime + ", " + mtime, job.Change{Kind: "modified", Type: "link"}},
		"modified":                   {`{"added": 2, "removed": 1, "type": "modified"}, ` + ctime + ", " + mtime, job.Change{Kind: "modified", Type: "file", Added: 2, Removed: 1}},
		"modified, unknown how much": {`{"type": "modified"}`, job.Change{Kind: "modified", Type: "file"}},
		"touched":                    {none + ", " + ctime + ", " + mtime, job.Change{Kind: "metadata", Type: "file", Detail: "time 2026-01-01 00:00:00 to 2026-01-02 00:00:00"}},
		"directory with a new file":  {ctime + ", " + mtime, job.Change{Kind: "metadata", Detail: "time 2026-01-01 00:00:00 to 2026-01-02 00:00:00"}},
		"nothing in 1.2":             {none + ", " + ctime, job.Change{}},
		"ctime":                      {ctime, job.Change{}},
		"mode":                       {none + `, {"new_mode": "-rw-------", "old_mode": "-rw-r--r--", "type": "mode"}, ` + ctime, job.Change{Kind: "metadata", Type: "file", Detail: "mode -rw-r--r-- to -rw-------"}},
		"owner":                      {`{"new_group": "d", "new_user": "c", "old_group": "b", "old_user": "a", "type": "owner"}`, job.Change{Kind: "metadata", Detail: "owner a:b to c:d"}},
		"now a directory":            {`{"new_mode": "drwx------", "old_mode": "-rw-r--r--", "type": "mode"}`, job.Change{Kind: "modified", Type: "directory", Detail: "mode -rw-r--r-- to drwx------"}},
		"something new":              {`{"type": "xattr"}`, job.Change{}},
	} {
		t.Run(name, func(t *testing.T) {
			parser := borg.NewParser(diffTask)
			for _, b := range []byte("Welcome\n" + `{"changes": [` + test.changes + `], "path": "p"}`) { // torn anywhere, and without an end
				parser.Stdout([]byte{b})
			}
			end := parser.Finish(borg.Exit{})
			var want []job.Change
			if test.want.Kind != "" {
				test.want.Path = "p"
				want = []job.Change{test.want}
			}
			if diff := cmp.Diff(append([]job.Change{}, want...), end.Result.Diff.Changes); diff != "" || end.State != job.Succeeded {
				t.Errorf("%s, -want +got:\n%s", end.State, diff)
			}
		})
	}
}

// However much differs, memory stays bounded; what is in files goes before times.
func TestLongDifference(t *testing.T) {
	parser := borg.NewParser(diffTask)
	const n, bytes = 200_000, 10
	before := heap()
	for i := range n {
		parser.Stdout(fmt.Appendf(nil, `{"changes": [{"new_mode": "drwx------", "old_mode": "drwxr-xr-x", "type": "mode"}], "path": "dir/%d"}`+"\n", i))
		if i < job.MaxChanges-1 {
			parser.Stdout(fmt.Appendf(nil, `{"changes": [{"size": %d, "type": "added"}], "path": "file/%d"}`+"\n", bytes, i))
		}
	}
	if after := heap(); after > before+8<<20 {
		t.Errorf("%d MiB are in use", (after-before)>>20)
	}
	got := parser.Finish(borg.Exit{}).Result.Diff
	first, last := got.Changes[0], got.Changes[len(got.Changes)-1]
	if got.Metadata != n || got.Added != job.MaxChanges-1 || got.AddedBytes != bytes*(job.MaxChanges-1) || len(got.Changes) != job.MaxChanges || got.Omitted != n-1 ||
		first.Path != "file/0" || last.Path != "dir/0" {
		t.Errorf("%d changes from %+v to %+v, counts %+v", len(got.Changes), first, last, job.Difference{Added: got.Added, Metadata: got.Metadata, Omitted: got.Omitted})
	}
}

func TestTornDifference(t *testing.T) {
	parser := borg.NewParser(diffTask)
	parser.Stdout([]byte(`{"changes": [{"size": 7, "type"`))
	checkFailure(t, parser.Finish(borg.Exit{}), job.Internal)
}

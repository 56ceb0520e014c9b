package cli_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/cli"
	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestWatchWithoutATerminal(t *testing.T) {
	waiting := backup(job.Queued)
	waiting.Reason = "repository main is busy"
	failed := backup(job.Failed)
	failed.Result, failed.Failure = nil, job.Fail(job.DiskFull, "no space left").WithHint("make room")
	cancelled := backup(job.Cancelled)
	cancelled.Result, cancelled.Failure = nil, job.Fail(job.CodeCancelled, "it was cancelled")
	ending := backup(job.Running)
	ending.CancelRequested = true
	list := backup(job.Succeeded)
	list.Kind, list.Spec, list.Result = job.List, job.ListSpec{}, &job.Result{Duration: 1}
	first := "job " + string(backupID) + ": backup of web1 into main\n"
	snapshot := func(j job.Job) client.Event { return client.Event{Type: client.EventSnapshot, Job: &j} }
	for name, test := range map[string]struct {
		events   []client.Event
		code     int
		err, out string // out is the first line
	}{
		"good, with repeats": {
			[]client.Event{
				snapshot(waiting), told(job.Queued), told(job.Sent), told(job.Running), logged(3, job.LevelInfo, "borg create"),
				logged(3, job.LevelInfo, "borg create"), told(job.Running), told(job.Succeeded),
			},
			console.ExitDone, first + "waiting: repository main is busy\nrunning\n  TIME borg create\n", "backup of web1 into main: succeeded in 1 min 40 s",
		},
		"with warnings": {
			[]client.Event{snapshot(backup(job.Running)), logged(1, job.LevelWarning, "/x: changed"), told(job.Warning)},
			console.ExitWarning, first + "running\n  TIME warning: /x: changed\n", "backup of web1 into main: done, with warnings, in 1 min 40 s",
		},
		"failed":    {[]client.Event{snapshot(failed)}, console.ExitJobFailed, "", "backup of web1 into main: failed after 1 min 40 s"},
		"cancelled": {[]client.Event{snapshot(ending), snapshot(cancelled)}, console.ExitJobFailed, first + "being cancelled; it is over when borg's process is gone\n", "backup of web1 into main: cancelled after 1 min 40 s"},
		"only the answer counts": {
			[]client.Event{snapshot(list)}, console.ExitDone, "", "list of main on web1: succeeded in 1 s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := full(t)
			c.events = test.events
			r := c.run(t, "", "job", "watch", string(backupID))
			if diff := cmp.Diff(test.err, withoutTimes(r.err)); diff != "" {
				t.Errorf("standard error (-want +got):\n%s", diff)
			}
			if line, _, _ := strings.Cut(r.out, "\n"); line != test.out || r.code != test.code {
				t.Errorf("exit code %d, want %d, and %q:\n%s", r.code, test.code, test.out, r.out)
			}
		})
	}
}

// withoutTimes replaces the times of log lines, which are in the local zone.
func withoutTimes(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "  "); ok {
			_, rest, _ = strings.Cut(rest, " ")
			line = "  TIME " + rest
		}
		out.WriteString(line)
	}
	return out.String()
}

// With --json there is the job, and nothing else on either stream.
func TestBackupAsJSON(t *testing.T) {
	c := full(t)
	c.events = []client.Event{told(job.Running), logged(1, job.LevelWarning, "/x"), told(job.Warning)}
	r := c.run(t, "", "backup", "--host", "web1", "--repo", "main", "--json", "--list", "/etc")
	if r.code != console.ExitWarning || r.err != "" || !strings.HasPrefix(r.out, "{\n  \"id\": \""+string(backupID)) {
		t.Errorf("exit code %d:\n%s%s", r.code, r.err, r.out)
	}
	if want := `POST /jobs {"host":"web1","kind":"backup","repository":"main","spec":{"paths":["/etc"],"list_files":true}}`; c.asked[0] != want {
		t.Errorf("asked %s, want %s", c.asked[0], want)
	}
}

// Ctrl-C ends the watching, and says how to end the job.
func TestStopWatching(t *testing.T) {
	c := full(t)
	c.events = []client.Event{told(job.Running)}
	r := c.interrupted(t, "running", "job", "watch", string(backupID))
	if r.code != console.ExitFailed || !strings.Contains(r.err, "the job goes on (to end it: borgfleet job cancel "+string(backupID)+")") {
		t.Errorf("exit code %d:\n%s", r.code, r.err)
	}
}

// interrupted runs a command line until it says something, and then has it stop.
func (c *coordinator) interrupted(t *testing.T, on string, args ...string) result {
	t.Helper()
	t.Setenv("BORGFLEET_URL", c.url)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	both := &trigger{on: on, do: cancel}
	code := cli.Main(ctx, args, console.Streams{In: strings.NewReader(""), Out: both, Err: both})
	return result{code: code, err: both.text.String()}
}

// trigger does something when it was written a text.
type trigger struct {
	text bytes.Buffer
	on   string
	do   func()
}

func (w *trigger) Write(p []byte) (int, error) {
	w.text.Write(p)
	if strings.Contains(w.text.String(), w.on) {
		w.do()
	}
	return len(p), nil
}

// job log -f ends with the job.
func TestFollowLog(t *testing.T) {
	c := full(t)
	c.events = []client.Event{told(job.Running), logged(1, job.LevelWarning, "/x: changed"), told(job.Succeeded)}
	r := c.run(t, "", "job", "log", "-f", string(backupID))
	if r.code != console.ExitDone || r.err != "" || strings.Count(r.out, "changed") < 1 {
		t.Errorf("exit code %d:\n%s%s", r.code, r.err, r.out)
	}
}

func TestMovingLine(t *testing.T) {
	known := job.Progress{
		Phase: "create", NFiles: 148_210, OriginalSize: 31_400_000_000, DeduplicatedSize: 212_000_000, Path: "/var/www/html/\x1b[2Jindex.html",
		Percent: pointer(41.7), Rate: pointer(int64(118_000_000)), ETASeconds: pointer(int64(100)),
	}
	words := job.Progress{Phase: "cache.sync", Path: "Synchronizing chunks cache"}
	for name, test := range map[string]struct {
		width    int
		progress job.Progress
		want     string
	}{
		"wide":    {140, known, "[###########----------------] 42 %, 148,210 files, 31.4 GB, 212 MB new, 118 MB/s, 1 min 40 s left  /var/www/html/?[2Jindex.html"},
		"middle":  {120, known, "[#########--------------] 42 %, 148,210 files, 31.4 GB, 212 MB new, 118 MB/s, 1 min 40 s left  …www/html/?[2Jindex.html"},
		"80":      {80, known, "[######---------] 42 %, 148,210 files, 31.4 GB, 212 MB new, 118 MB/s, 1 min 40…"},
		"spinner": {80, words, "| Synchronizing chunks cache  Synchronizing chunks cache"},
	} {
		t.Run(name, func(t *testing.T) {
			got := cli.RenderLine(test.width, test.progress)
			if got != test.want {
				t.Errorf("\n got %q\nwant %q", got, test.want)
			}
		})
	}
	for width := 20; width < 200; width++ {
		if got := cli.RenderLine(width, known); cli.ColumnsIn(got) >= width {
			t.Errorf("%d columns in a terminal of %d: %q", cli.ColumnsIn(got), width, got)
		}
	}
}

func TestFit(t *testing.T) {
	for _, test := range []struct {
		text       string
		width      int
		begin, end string
	}{
		{"short", 5, "short", "short"},
		{"too long", 5, "too…", "…long"},
		{"日本語日本語", 5, "日本…", "…本語"},
	} {
		if got := cli.Fit(test.text, test.width); got != test.begin {
			t.Errorf("%q in %d: got %q, want %q", test.text, test.width, got, test.begin)
		}
		if got := cli.FitEnd(test.text, test.width); got != test.end {
			t.Errorf("the end of %q in %d: got %q, want %q", test.text, test.width, got, test.end)
		}
	}
	if got, want := console.Printable("a\tb\x1b[2J\u202ec é"), "a?b?[2J?c é"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

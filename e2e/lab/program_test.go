package lab_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
)

func TestPointsHoldAndRelease(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "point")
	build := exec.Command("go", "build", "-tags", "faults", "-o", binary, "./testdata/point")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	points := lab.New(t).Points("program")
	program := start(t, nil, points.Env(), binary)
	program.say("a")
	program.await(0)

	points.Arm("a")
	program.say("b")
	program.await(1)
	program.say("a")
	points.AwaitReached("a")
	if program.heard() != 2 {
		t.Error("it was not held")
	}
	points.Release("a")
	program.await(2)
	program.say("a") // it is armed once only
	program.await(3)
	points.Arm("a")
	points.Release("a")
	program.say("a")
	program.await(4)

	before := time.Now()
	points.Clock(time.Hour)
	program.say("c")
	ahead, err := time.Parse(time.RFC3339Nano, program.await(5))
	if err != nil || ahead.Before(before.Add(time.Hour)) {
		t.Errorf("an hour ahead of %s it is %s (%v)", before, ahead, err)
	}
	points.Clock(-time.Hour)
	program.say("c")
	behind, err := time.Parse(time.RFC3339Nano, program.await(6))
	if err != nil || behind.After(time.Now().Add(-time.Hour)) {
		t.Errorf("an hour behind it is %s (%v)", behind, err)
	}
}

func TestStopAndContinue(t *testing.T) {
	t.Parallel()
	m := lab.New(t).Machine("m")
	file := filepath.Join(t.TempDir(), "lines")
	argv := append(m.Prefix(), "sh", "-c", `while echo x >>"$0"; do :; done`, file)
	p := harness.Start(t, "writer", nil, argv...)
	grown := func(from int64) int64 {
		size := from
		harness.Eventually(t, "the file to grow", func() error {
			info, err := os.Stat(file)
			if err != nil {
				return err
			}
			if size = info.Size(); size <= from {
				return fmt.Errorf("it has %d bytes", size)
			}
			return nil
		})
		return size
	}
	size := grown(0)
	p.Stop()
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	harness.Run(t, nil, "sync", file)
	if after, _ := os.ReadFile(file); len(after) != len(before) {
		t.Error("it goes on although it is stopped")
	}
	p.Continue()
	grown(max(size, int64(len(before))))
	p.Stop()
	p.Kill() // works on a stopped one
}

func TestLooksIntoProcesses(t *testing.T) {
	t.Parallel()
	p := start(t, nil, nil, "sh", "-c", "(sleep 1000 & echo $!; wait) & echo $!; read line; exec 8</dev/null; echo; wait")
	var want []int
	for i := range 2 {
		var pid int
		if _, err := fmt.Sscan(p.await(i), &pid); err != nil {
			t.Fatal(err)
		}
		want = append(want, pid)
	}
	children := lab.Children(p.cmd.Process.Pid)
	slices.Sort(want)
	slices.Sort(children)
	if !slices.Equal(children, want) {
		t.Errorf("children %v, want %v", children, want)
	}
	before := lab.Descriptors(t, p.cmd.Process.Pid)
	p.say("open one more")
	p.await(2)
	if after := lab.Descriptors(t, p.cmd.Process.Pid); before < 3 || after != before+1 {
		t.Errorf("%d descriptors, then %d", before, after)
	}
	if rss := lab.RSS(t, os.Getpid()); rss < 1<<20 || rss > 1<<34 {
		t.Errorf("this process has %d bytes", rss)
	}
	for _, pid := range want {
		_ = exec.Command("kill", "-9", fmt.Sprint(pid)).Run()
	}
}

func TestOnLoopback(t *testing.T) {
	t.Parallel()
	if !lab.New(t).Isolated() {
		t.Skip("this is it")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	result := harness.Run(t, []string{"BORGFLEET_LAB=loopback", "BORGFLEET_BIN=" + filepath.Dir(harness.Binary(t, "borgfleet"))}, self, "-test.run=Link|Machine|Reach|Delay|Relay|Hub")
	if result.Code != 0 || !strings.Contains(result.Stdout, "PASS") {
		t.Errorf("exit code %d\n%s%s", result.Code, result.Stdout, result.Stderr)
	}
}

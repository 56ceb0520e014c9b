package remote_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/remote"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/borgfleet/borgfleet/shared/worker"
)

var (
	_ engine.Executor = (*remote.Host)(nil)
	_ worker.Runs     = (*remote.Host)(nil)
	_ worker.Borg     = (*remote.Host)(nil)
)

// suite runs what every executor must do.
func suite(t *testing.T, fresh func(t *testing.T) *remote.Host) {
	enginetest.Executor(t, func(t *testing.T) engine.Executor { return fresh(t) })
	t.Run("pipes", func(t *testing.T) {
		enginetest.Pipes(t, func(t *testing.T) enginetest.Piping { return fresh(t) })
	})
}

// odd is a directory with all that a shell could take for something else.
const odd = "it's $(touch odd) `touch odd`\n\"-dir\\ *"

// TestHostIsAnExecutor runs the suite on hosts with one /bin/sh or another.
func TestHostIsAnExecutor(t *testing.T) {
	for name, test := range map[string]struct {
		shell string
		argv  []string
		path  func(t *testing.T) string // empty: as it is
		proc  string
	}{
		"dash":                {"/bin/dash", []string{"/bin/dash", "-c"}, nil, "/proc"},
		"busybox":             {"", []string{"/bin/busybox", "sh", "-c"}, busybox, "/proc"},
		"bash without setsid": {"/bin/bash", []string{"/bin/bash", "-c"}, func(t *testing.T) string { return without(t, "setsid") }, "/proc"},
		"dash without /proc":  {"/bin/dash", []string{"/bin/dash", "-c"}, nil, ""},
		"mksh":                {"/bin/mksh", []string{"/bin/mksh", "-c"}, nil, "/proc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine()
			m.shell = test.argv
			shell, path := test.shell, ""
			if test.path != nil {
				path = test.path(t)
				m.env = []string{"PATH=" + path}
				if shell == "" {
					shell = path + "/sh"
				}
			}
			suite(t, func(t *testing.T) *remote.Host {
				return remote.Odd(open(t, m, filepath.Join(t.TempDir(), odd)), shell, path, test.proc)
			})
			if _, err := os.Stat("odd"); err == nil {
				t.Error("a name was run as a command")
			}
		})
	}
}

// TestWholeNapsOnly has a host whose sleep takes no parts of a second.
func TestWholeNapsOnly(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.env = []string{"PATH=" + wholeNaps(t)}
	h := open(t, m, t.TempDir())
	_, output := enginetest.StartPiped(t, h, enginetest.Shell("job.1", "echo out; echo err >&2"), secret.Value{})
	if text, err := io.ReadAll(output); string(text) != "out\n" || err != nil {
		t.Errorf("read %q, %v", text, err)
	}
	if exit, got := enginetest.Follow(t, h, "job.1", process.Offsets{}); exit.Code != 0 || got.Stderr.String() != "err\n" {
		t.Errorf("exit %+v, %q", exit, got.Stderr.String())
	}
}

// wholeNaps returns a PATH on which sleep knows whole seconds only.
func wholeNaps(t *testing.T) string {
	dir := t.TempDir()
	script := "#!/bin/sh\ncase $1 in *.*) exit 1 ;; esac\nexec /bin/sleep \"$1\"\n"
	if err := os.WriteFile(dir+"/sleep", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + ":" + os.Getenv("PATH")
}

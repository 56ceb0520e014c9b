// Package harness runs the real binaries, a real borg and a real sshd for
// tests and benchmarks, and sees to it that nothing stays behind. It knows
// borgfleet only from the outside: commands, API, files.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience bounds every wait. It is far longer than anything takes, so that a
// busy machine does not turn a test red.
const Patience = 4 * time.Minute

// Root returns the directory of the working tree.
func Root() (string, error) {
	out, err := exec.Command("go", "env", "GOWORK").Output()
	work := strings.TrimSpace(string(out))
	if err != nil || work == "" || work == "off" {
		return "", fmt.Errorf("not inside the workspace: %w", err)
	}
	return filepath.Dir(work), nil
}

type binaries struct {
	dir string
	err error
}

// builds is what [Binary] built, if anything, and how.
var builds struct {
	sync.Mutex
	*binaries
	tags string
}

// SetTags sets the build tags of what [Binary] builds. Call it before the first
// one, from TestMain.
func SetTags(tags string) {
	builds.Lock()
	defer builds.Unlock()
	builds.tags = tags
}

// modules are what the programs are built from.
var modules = map[string]string{"borgfleet": "./coordinator", "borgfleet-agent": "./agent"}

// Fetch gets what [Binary] needs from the network, so that it can build where
// there is none.
func Fetch() error {
	if os.Getenv("BORGFLEET_BIN") != "" {
		return nil
	}
	root, err := Root()
	if err != nil {
		return err
	}
	list := exec.Command("go", append([]string{"list", "-deps"}, slices.Collect(maps.Values(modules))...)...)
	var stderr bytes.Buffer
	list.Dir, list.Stderr = root, &stderr
	if err := list.Run(); err != nil {
		return fmt.Errorf("fetch what is built: %w\n%s", err, stderr.String())
	}
	return nil
}

func built() binaries {
	builds.Lock()
	defer builds.Unlock()
	if builds.binaries == nil {
		b := build()
		builds.binaries = &b
	}
	return *builds.binaries
}

func build() binaries {
	root, err := Root()
	if err != nil {
		return binaries{err: err}
	}
	dir, err := os.MkdirTemp("", "borgfleet-bin-")
	if err != nil {
		return binaries{err: err}
	}
	for name, module := range modules {
		compile := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", builds.tags, "-o", filepath.Join(dir, name), module)
		compile.Dir, compile.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := compile.CombinedOutput(); err != nil {
			return binaries{err: fmt.Errorf("build %s: %w\n%s", name, err, out)}
		}
	}
	return binaries{dir: dir}
}

// Main runs a test binary's tests and removes what the harness built. Call it
// from TestMain.
func Main(m *testing.M) int {
	code := m.Run()
	if b := builds.binaries; b != nil {
		_ = os.RemoveAll(b.dir)
	}
	removeNATSServer()
	return code
}

// Binary returns the path of one of the two programs, built from this tree
// (or taken from the directory that BORGFLEET_BIN names).
func Binary(t testing.TB, name string) string {
	t.Helper()
	if dir := os.Getenv("BORGFLEET_BIN"); dir != "" {
		return filepath.Join(dir, name)
	}
	b := built()
	if b.err != nil {
		t.Fatal(b.err)
	}
	return filepath.Join(b.dir, name)
}

// Result is what a finished command left.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run runs a command to its end. Only a command that cannot be started, or
// does not end within Patience, fails the test.
func Run(t testing.TB, env []string, name string, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("run %s %s: %v (%v)\n%s", name, strings.Join(args, " "), err, ctx.Err(), stderr.String())
	}
	return Result{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// Eventually waits until condition holds. It returns as soon as it does, and
// fails the test with the last reason after Patience.
func Eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for: %s: %v", Patience, what, err)
		}
		<-pause.C
	}
}

// MakeTree fills dir with files of random, incompressible content.
func MakeTree(t testing.TB, dir string, files, size int) {
	t.Helper()
	source, err := os.Open("/dev/urandom")
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	content := make([]byte, size)
	for i := range files {
		if _, err := source.Read(content); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, fmt.Sprintf("d%03d", i/100), fmt.Sprintf("f%05d.bin", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

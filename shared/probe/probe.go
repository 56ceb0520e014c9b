// Package probe looks at the host: which borg there is, which system it runs,
// how much space is left.
package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// versionTimeout bounds `borg --version`, which takes a third of a second on an
// idle machine and much longer on a busy one.
const versionTimeout = 30 * time.Second

// Borg finds out the version of a borg binary, and asks it again only when the
// file has changed. It is safe for concurrent use.
type Borg struct {
	binary string
	mu     sync.Mutex
	file   identity
	answer borg.Version
	asking *question // nil: nobody waits for an answer
}

// question is one borg --version that runs. It goes on when whoever asked has
// no more time: on a busy host the next one finds the answer.
type question struct {
	file    identity
	over    chan struct{} // closed when version and err are set
	version borg.Version
	err     error
}

// tries is how often a borg is asked that does not answer in time: an agent that
// was frozen for a while takes that for borg's fault, and a job would fail by it.
const tries = 3

var errBusy = errors.New("borg --version does not answer; the host may be very busy")

// identity tells one file from its successor.
type identity struct {
	path       string
	device     uint64
	inode      uint64
	size       int64
	modifiedAt time.Time
}

// NewBorg returns a Borg for a path, or for a name to look up in PATH.
func NewBorg(binary string) *Borg { return &Borg{binary: binary} }

// Version returns the version of the binary as it is now. The failure, if any,
// is borg_missing or borg_unsupported with a hint.
func (b *Borg) Version(ctx context.Context) (borg.Version, *job.Failure) {
	file, err := identify(b.binary)
	if err != nil {
		return borg.Version{}, missing(b.binary, err)
	}
	b.mu.Lock()
	if file == b.file {
		defer b.mu.Unlock()
		return b.answer, b.answer.Check()
	}
	asked := b.asking
	if asked == nil || asked.file != file {
		asked = &question{file: file, over: make(chan struct{})}
		b.asking = asked
		go b.ask(asked)
	}
	b.mu.Unlock()
	select {
	case <-asked.over:
	case <-ctx.Done():
		return borg.Version{}, job.Fail(job.BorgMissing, "%s: %s", b.binary, errBusy).
			WithHint("it is asked again by itself; if that does not help, see what the host is busy with")
	}
	if asked.err != nil {
		return borg.Version{}, missing(b.binary, asked.err)
	}
	return asked.version, asked.version.Check()
}

// ask answers a question, and remembers a good answer.
func (b *Borg) ask(q *question) {
	for range tries {
		if q.version, q.err = ask(context.Background(), q.file.path); !errors.Is(q.err, errBusy) {
			break
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if q.err == nil {
		b.file, b.answer = q.file, q.version
	}
	if b.asking == q {
		b.asking = nil
	}
	close(q.over)
}

func missing(binary string, err error) *job.Failure {
	return job.Fail(job.BorgMissing, "%s cannot be run: %s", binary, err).
		WithHint("install it (Debian: apt install borgbackup), or set borg.binary in the agent's agent.yaml")
}

func identify(binary string) (identity, error) {
	path, err := exec.LookPath(binary)
	if err != nil {
		if e, ok := errors.AsType[*exec.Error](err); ok {
			err = e.Err
		}
		return identity{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return identity{}, err
	}
	file := identity{path: path, size: info.Size(), modifiedAt: info.ModTime()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		file.device, file.inode = stat.Dev, stat.Ino
	}
	return file, nil
}

func ask(ctx context.Context, path string) (borg.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, path, "--version")
	command.Env = append(borg.Inherit(os.Environ()), "LC_ALL=C.UTF-8")
	command.WaitDelay = time.Second
	output, err := command.Output()
	if ctx.Err() != nil {
		return borg.Version{}, errBusy
	}
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return borg.Version{}, fmt.Errorf("%w: %s", err, firstLine(exit.Stderr))
		}
		return borg.Version{}, err
	}
	return borg.ParseVersion(string(output))
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}

// OS returns the system's name, from os-release, or the platform.
func OS() string { return osName("/etc/os-release") }

func osName(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return runtime.GOOS + "/" + runtime.GOARCH
	}
	defer file.Close() // read only
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"'`)
		}
	}
	return runtime.GOOS + "/" + runtime.GOARCH
}

// FreeBytes returns the space that is left for the user on the path's file
// system, or 0 when it cannot be told.
func FreeBytes(path string) uint64 {
	free, _ := Space(path)
	return free
}

// Space returns the bytes that are left for the user on the path's file system,
// and all of it; 0 when they cannot be told.
func Space(path string) (free, total uint64) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(path, &stat); err != nil {
		return 0, 0
	}
	return stat.Bavail * uint64(stat.Bsize), stat.Blocks * uint64(stat.Bsize)
}

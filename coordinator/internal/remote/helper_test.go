package remote_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/remote"
	"github.com/borgfleet/borgfleet/shared/job"
)

// begin is how a script comes to a host: by standard input, and a line with its
// length before it. Whoever runs the tests may have left them descriptors, as
// make does; from an sshd there are none.
const begin = `exec 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-; IFS= read -r n && s=$(dd bs=1 count=$n 2>/dev/null) && eval "$s"`

// errCut is the end of a connection.
var errCut = errors.New("the connection was cut")

// machine runs scripts on this machine, as a connection to it would.
type machine struct {
	shell []string // in place of /bin/sh -c
	env   []string // on top of the test's

	mu      sync.Mutex
	cut     chan struct{} // closed when the connection breaks
	input   int           // of every standard input only so much comes, if it is not 0
	execs   int
	crowded int // so many long scripts get no place
}

func newMachine() *machine {
	return &machine{shell: []string{"/bin/sh", "-c"}, cut: make(chan struct{})}
}

// breakLink ends all that goes over the connection, and makes another one.
func (m *machine) breakLink() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.cut)
	m.cut = make(chan struct{})
}

// Exec implements remote.Shell. As with a real one, the end of the connection
// ends no script.
func (m *machine) Exec(ctx context.Context, script string, input []byte, out, errs io.Writer) (int, error) {
	m.mu.Lock()
	cut, most := m.cut, m.input
	m.execs++
	m.mu.Unlock()
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	given := []byte(strconv.Itoa(len(script)) + "\n" + script + string(input))
	if most > 0 {
		given = given[:len(given)-len(input)+min(most, len(input))]
	}
	command := exec.Command(m.shell[0], append(m.shell[1:len(m.shell):len(m.shell)], begin)...)
	command.Env = append(os.Environ(), m.env...)
	ends, err := start(command)
	if err != nil {
		return 0, err
	}
	copied := make(chan error, 1)
	go func() { copied <- carry(ends, given, out, errs) }()
	select {
	case err = <-copied:
		_ = command.Wait() // its exit code tells
		return command.ProcessState.ExitCode(), err
	case <-ctx.Done():
		err = ctx.Err()
	case <-cut:
		err = errCut
	}
	for _, end := range ends {
		_ = end.SetDeadline(time.Now())
	}
	<-copied
	go func() { _ = command.Wait() }() // only to reap it
	return 0, err
}

// carry brings what is given to a script, and what it prints to the writers.
func carry(ends [3]*os.File, given []byte, out, errs io.Writer) error {
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = ends[0].Write(given) // a script may end before it has read all
		ends[0].Close()
	})
	var faults [2]error
	for i, to := range []io.Writer{out, errs} {
		copying.Go(func() {
			_, faults[i] = io.Copy(struct{ io.Writer }{to}, ends[i+1])
			ends[i+1].Close()
		})
	}
	copying.Wait()
	return errors.Join(faults[:]...)
}

// ExecLong implements remote.Shell.
func (m *machine) ExecLong(ctx context.Context, script string, input []byte, out, errs io.Writer) (int, error) {
	m.mu.Lock()
	crowded := m.crowded > 0
	m.crowded--
	m.mu.Unlock()
	if crowded {
		return 0, job.Fail(job.Unavailable, "there is no place")
	}
	return m.Exec(ctx, script, input, out, errs)
}

// start starts a command between pipes, and returns our ends of them.
func start(command *exec.Cmd) (ours [3]*os.File, err error) {
	var theirs [3]*os.File
	for i := range ours {
		reader, writer, err := os.Pipe()
		if err != nil {
			return ours, err
		}
		ours[i], theirs[i] = reader, writer
		if i == 0 {
			ours[i], theirs[i] = writer, reader
		}
	}
	command.Stdin, command.Stdout, command.Stderr = theirs[0], theirs[1], theirs[2]
	err = command.Start()
	for _, file := range theirs {
		file.Close()
	}
	return ours, err
}

// open returns a host whose things are in a directory.
func open(t *testing.T, shell remote.Shell, dir string) *remote.Host {
	t.Helper()
	return remote.New(remote.Options{Shell: shell, Host: "web1", Dir: dir, Logger: hclog.NewNullLogger()})
}

// programs makes a directory of links to programs, by their names there.
func programs(t *testing.T, named map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, target := range named {
		path, err := exec.LookPath(target)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, dir+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tools are the programs that scripts of ours use, beside a shell's own.
var tools = []string{
	"cat", "date", "dd", "df", "env", "find", "head", "id", "ionice", "ln", "ls", "mkdir", "mkfifo", "mv", "nice",
	"readlink", "rm", "setsid", "sleep", "stat", "tail", "true", "uname",
}

// besides are those that the suite's programs use.
var besides = []string{"sh", "cat", "echo", "head", "kill", "printf", "pwd", "sleep", "test"}

// busybox returns the path of a directory in which every program is busybox.
func busybox(t *testing.T) string {
	t.Helper()
	named := map[string]string{}
	for _, name := range append(append([]string{}, tools...), besides...) {
		named[name] = "busybox"
	}
	return programs(t, named)
}

// without returns the path of a directory with the programs of this machine, but
// for some.
func without(t *testing.T, missing ...string) string {
	t.Helper()
	named := map[string]string{"ps": "ps", "tr": "tr"}
	for _, name := range append(append([]string{}, tools...), besides...) {
		if !slices.Contains(missing, name) {
			named[name] = name
		}
	}
	return programs(t, named)
}

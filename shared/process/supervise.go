package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/borgfleet/borgfleet/shared/fault"
)

// lockFD is where a supervisor finds the lock of its directory.
const lockFD = 3

// exitRetry is when the exit is written again after a fault, for example of a
// full disk, for as long as that takes.
const exitRetry = time.Second

// Supervise is the main function of a supervisor: it runs what command.json of
// the job directory dir asks for, waits for its end, and writes that down. It
// is started by [Local.Start] only, which hands it the lock as descriptor 3,
// the passphrase, if there is one, as standard input, and for its own output a
// pipe that is closed once the program runs. With "-" as dir all this comes
// later, as a message on standard input. It returns the exit code of the
// supervisor itself.
//
// Call it first thing in main: a job waits for it.
func Supervise(dir string) int {
	// Priorities belong to a thread, and the program inherits them from the
	// thread that starts it.
	runtime.LockOSThread()
	job := directory(dir)
	if dir == standbyArgument {
		var given bool
		if job, given = await(); !given {
			return 0
		}
	}
	if err := supervise(job); err != nil {
		fmt.Fprintln(os.Stderr, report(err))
		return 1
	}
	return 0
}

// reportFormat is how a supervisor says why it could not begin: the system's
// error number, or 0, and the words.
const reportFormat = "errno %d: "

func report(err error) string {
	errno, _ := errors.AsType[syscall.Errno](err)
	return fmt.Sprintf(reportFormat, errno) + err.Error()
}

// reported is the error that a supervisor told with report, or the words of one
// that crashed.
func reported(said string) error {
	var errno syscall.Errno
	if _, err := fmt.Sscanf(said, reportFormat, &errno); err != nil || errno == 0 {
		return errors.New(said)
	}
	_, words, _ := strings.Cut(said, ": ")
	return fmt.Errorf("%s (%w)", strings.TrimSuffix(words, ": "+errno.Error()), errno)
}

func supervise(dir directory) error {
	if err := dir.inheritLock(); err != nil {
		return err
	}
	var order plan
	if found, err := dir.read(commandFile, &order); err != nil || !found || len(order.Argv) == 0 {
		return errors.Join(fmt.Errorf("%s is missing or damaged", commandFile), err)
	}
	if _, err := os.Lstat(dir.file(exitFile)); err == nil || dir.begun() {
		return errors.New("this run has begun before")
	}
	outputs, err := dir.outputs(order)
	if err != nil {
		return fmt.Errorf("open outputs: %w", err)
	}
	var sealing *sealer
	if order.Recipient != "" {
		if sealing, err = seal(outputs, order.Recipient); err != nil {
			return fmt.Errorf("encrypt the output: %w", err)
		}
	}
	marker, err := os.OpenFile(dir.file(startedFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("mark the start: %w", err)
	}
	if err := mark(marker, identity{}); err != nil {
		return fmt.Errorf("mark the start: %w", err)
	}
	catch(ignored()...)
	warnings := prioritise(order.Nice, order.IOPriority)
	fault.Point(fault.StartMarked)
	at := time.Now()
	pid, failure := order.start(outputs)
	closeAll(outputs) // the program has its own; a reader of its output shall learn of its end
	if failure != nil {
		return dir.settle(*failure)
	}
	fault.Point(fault.StartUntold)
	if who, err := identify(pid, at.UTC()); err == nil {
		who.Warnings = warnings
		_ = mark(marker, who) // it is found without, see search
	}
	marker.Close() // the next thing to fail would be exit.json
	detach()
	catch(signals...)
	dir.makeRoom()
	end := wait(pid, at)
	sealing.finish()
	dir.syncOutputs()
	fault.Point(fault.ExitUntold)
	return dir.settle(end)
}

// signals are those that must not end a supervisor.
var signals = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT,
	syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2,
}

// catch makes signals harmless. It catches and leaves them: an ignored signal
// would be ignored in the program too, and borg would know no SIGINT. For the
// same reason those that the agent was started without, as by nohup, are
// caught before the program starts. The others wait until it runs, because
// catching takes a millisecond.
func catch(which ...os.Signal) {
	if len(which) > 0 {
		signal.Notify(make(chan os.Signal, 1), which...)
	}
}

func ignored() []os.Signal {
	return slices.DeleteFunc(slices.Clone(signals), func(s os.Signal) bool { return !signal.Ignored(s) })
}

// mark writes started.json in place: a reader may find it damaged for a moment,
// and then knows as much as before.
func mark(file *os.File, who identity) error {
	content, err := json.Marshal(who)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(content, 0)
	return err
}

// inheritLock checks that descriptor 3 is the lock of the directory, and held.
func (d directory) inheritLock() error {
	unix.CloseOnExec(lockFD)
	var own, file unix.Stat_t
	if err := unix.Fstat(lockFD, &own); err != nil {
		return errors.New("a supervisor is started by the agent, not by hand")
	}
	if err := unix.Stat(d.file(commandFile), &file); err != nil || own.Dev != file.Dev || own.Ino != file.Ino {
		return fmt.Errorf("descriptor %d is not the lock of %s", lockFD, d)
	}
	// Taking the lock again succeeds only for who holds it.
	if err := unix.FcntlFlock(lockFD, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return fmt.Errorf("lock %s: %w", d, err)
	}
	return nil
}

// outputs opens the program's standard output and error.
func (d directory) outputs(order plan) ([]uintptr, error) {
	var opened []uintptr
	for _, name := range []string{stdoutFile, stderrFile} {
		var fd int
		var err error
		if name == stdoutFile && order.Pipe > 0 {
			fd, err = d.connect(order.Pipe)
		} else {
			fd, err = unix.Open(d.file(name), unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
		}
		if err != nil {
			return nil, err
		}
		opened = append(opened, uintptr(fd))
	}
	return opened, nil
}

// start starts the program in a process group of its own. Its descriptors are
// /dev/null, the two outputs, and the passphrase's pipe if there is one.
func (p plan) start(outputs []uintptr) (int, *ending) {
	fail := func(doing string, err error) (int, *ending) {
		return 0, &ending{Code: -1, StartError: fmt.Sprintf("%s: %v", doing, err)}
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail("open "+os.DevNull, err)
	}
	files, env := append([]uintptr{uintptr(null)}, outputs...), p.Env
	if p.Passphrase {
		files, env = append(files, uintptr(unix.Stdin)), append(env, "BORG_PASSPHRASE_FD=3")
	}
	if err := p.enter(); err != nil {
		errno, _ := errors.AsType[syscall.Errno](err)
		return 0, &ending{Code: -1, StartError: "enter working directory " + p.Dir, StartErrno: errno, StartDir: true}
	}
	program := p.Argv[0]
	if !strings.Contains(program, "/") {
		if program, err = exec.LookPath(program); err != nil {
			return 0, &ending{Code: -1, StartError: "find " + p.Argv[0] + " in PATH", StartErrno: syscall.ENOENT}
		}
	}
	pid, err := syscall.ForkExec(program, p.Argv, &syscall.ProcAttr{
		Env: env, Files: files, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return 0, &ending{Code: -1, StartError: "run " + program, StartErrno: errno}
	}
	if err != nil {
		return fail("run "+program, err)
	}
	unix.Close(null)
	return pid, nil
}

func closeAll(descriptors []uintptr) {
	for _, fd := range descriptors {
		unix.Close(int(fd))
	}
}

// detach gives up the passphrase's pipe and the report pipe, which tells the
// starter that the program runs.
func detach() {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	for _, fd := range []int{unix.Stdin, unix.Stdout, unix.Stderr} {
		if err != nil || unix.Dup3(null, fd, 0) != nil {
			unix.Close(fd) // as good: nothing is read or written any more
		}
	}
	if err == nil {
		unix.Close(null)
	}
}

// wait waits for the program's end.
func wait(pid int, at time.Time) ending {
	var status syscall.WaitStatus
	var usage syscall.Rusage
	for {
		_, err := syscall.Wait4(pid, &status, 0, &usage)
		if err == nil || !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	now := time.Now()
	end := ending{
		Code: status.ExitStatus(), StartedAt: at.UTC(), EndedAt: now.UTC(), Seconds: now.Sub(at).Seconds(),
		UserSeconds:   time.Duration(usage.Utime.Nano()).Seconds(),
		SystemSeconds: time.Duration(usage.Stime.Nano()).Seconds(),
		MaxRSSBytes:   usage.Maxrss << 10,
	}
	if status.Signaled() {
		end.Signal = int(status.Signal())
	}
	return end
}

// How much room exit.json and each of the outputs get beforehand, in bytes. The
// latter is enough for the report of a backup, and for what it says on the way:
// borg fails when it cannot say it.
const (
	exitRoom   = 4 << 10
	outputRoom = 16 << 10
)

// makeRoom makes room on the disk for exit.json, and for what borg prints when a
// backup is done: the disk may be full by then, and both have to be told.
// Without room it is tried in the end.
func (d directory) makeRoom() {
	for name, room := range map[string]int64{exitFile + ".new": exitRoom, stdoutFile: outputRoom, stderrFile: outputRoom} {
		file, err := os.OpenFile(d.file(name), os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			continue
		}
		_ = unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, room)
		file.Close() // nothing was written
	}
}

// settle writes the exit down for good, however long the disk does not let it:
// nobody else knows it. In a directory that is gone there is nobody to tell.
func (d directory) settle(end ending) error {
	content, err := json.Marshal(end)
	if err != nil {
		return err
	}
	for {
		if err = d.publish(content); err == nil || !d.there() {
			return err
		}
		time.Sleep(exitRetry)
	}
}

// syncOutputs brings what the program has printed to the disk. An exit that
// outlived a power cut without its output would make a good backup a failed one.
// A disk that refuses takes nothing from what is true now.
func (d directory) syncOutputs() {
	for _, name := range []string{stdoutFile, stderrFile} {
		file, err := os.Open(d.file(name))
		if err != nil {
			continue
		}
		if info, err := file.Stat(); err == nil && info.Size() > 0 {
			_ = file.Sync()
		}
		file.Close() // read only: nothing to lose
	}
}

// publish makes exit.json, whole and on the disk.
func (d directory) publish(content []byte) error {
	file, err := os.OpenFile(d.file(exitFile+".new"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), d.file(exitFile)); err != nil {
		return err
	}
	if parent, err := os.Open(string(d)); err == nil {
		_ = parent.Sync() // the exit is there; only a crash of the machine can lose it
		parent.Close()    // read only: nothing to lose
	}
	return nil
}

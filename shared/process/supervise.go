package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockFD is where a supervisor finds the lock of its directory.
const lockFD = 3

// The exit is written again after a fault, for example of a full disk.
const (
	exitRetries = 60
	exitRetry   = time.Second
)

// Supervise is the main function of a supervisor: it runs what command.json of
// the job directory dir asks for, waits for its end, and writes that down. It
// is started by [Local.Start] only, which hands it the lock as descriptor 3,
// the passphrase, if there is one, as standard input, and as standard output
// a pipe that is closed once the program runs. It returns the exit code of the
// supervisor itself.
//
// Call it first thing in main: a job waits for it.
func Supervise(dir string) int {
	// Priorities belong to a thread, and the program inherits them from the
	// thread that starts it.
	runtime.LockOSThread()
	// Only the exit of the program ends a supervisor. Signals are caught and
	// left, not ignored: ignoring would be inherited by the program.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM,
		syscall.SIGQUIT, syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2)
	if err := supervise(directory(dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func supervise(dir directory) error {
	if err := dir.inheritLock(); err != nil {
		return err
	}
	var order plan
	if found, err := dir.read(commandFile, &order); err != nil || !found || len(order.Argv) == 0 {
		return errors.Join(errors.New("command.json is missing or damaged"), err)
	}
	if dir.has(exitFile) {
		return errors.New("this run is over")
	}
	end, err := dir.reserve()
	if err != nil {
		return fmt.Errorf("reserve space for the exit: %w", err)
	}
	outputs, err := dir.outputs()
	if err != nil {
		return fmt.Errorf("open output files: %w", err)
	}
	marker, err := os.OpenFile(dir.file(startingFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("mark the start: %w", err)
	}
	marker.Close() // it is empty
	warnings := prioritise(order.Nice, order.IOPriority)
	at := time.Now()
	pid, failure := order.start(outputs)
	if failure != nil {
		return end.settle(dir, *failure)
	}
	if who, err := identify(pid, at.UTC()); err == nil {
		who.Warnings = warnings
		if err := dir.write(startedFile, who); err != nil { // it is found without, see search
			fmt.Fprintln(os.Stderr, "write", startedFile, err)
		}
	}
	detach()
	return end.settle(dir, wait(pid, at))
}

// inheritLock checks that descriptor 3 is the lock of the directory, and held.
func (d directory) inheritLock() error {
	unix.CloseOnExec(lockFD)
	var own, file unix.Stat_t
	if err := unix.Fstat(lockFD, &own); err != nil {
		return errors.New("a supervisor is started by the agent, not by hand")
	}
	if err := unix.Stat(d.file(lockFile), &file); err != nil || own.Dev != file.Dev || own.Ino != file.Ino {
		return fmt.Errorf("descriptor %d is not the lock of %s", lockFD, d)
	}
	// Taking the lock again succeeds only for who holds it.
	if err := unix.FcntlFlock(lockFD, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return fmt.Errorf("lock %s: %w", d, err)
	}
	return nil
}

// outputs opens the program's standard output and error.
func (d directory) outputs() ([]uintptr, error) {
	var opened []uintptr
	for _, name := range []string{stdoutFile, stderrFile} {
		fd, err := unix.Open(d.file(name), unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
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
		errno, _ := errors.AsType[syscall.Errno](err)
		if errno == 0 {
			doing = fmt.Sprintf("%s: %v", doing, err)
		}
		return 0, &ending{Code: -1, StartError: doing, StartErrno: errno}
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail("open "+os.DevNull, err)
	}
	files, env := append([]uintptr{uintptr(null)}, outputs...), p.Env
	if p.Passphrase {
		files, env = append(files, uintptr(unix.Stdin)), append(env, "BORG_PASSPHRASE_FD=3")
	}
	if info, err := os.Stat(p.Dir); err != nil || !info.IsDir() {
		return fail("enter working directory "+p.Dir, errors.New("it is not a directory that can be reached"))
	}
	program := p.Argv[0]
	if !strings.Contains(program, "/") {
		if program, err = exec.LookPath(program); err != nil {
			return fail("find "+p.Argv[0]+" in PATH", syscall.ENOENT)
		}
	}
	pid, err := syscall.ForkExec(program, p.Argv, &syscall.ProcAttr{
		Dir: p.Dir, Env: env, Files: files, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return fail("run "+program, err)
	}
	unix.Close(null)
	for _, fd := range outputs {
		unix.Close(int(fd))
	}
	return pid, nil
}

// detach gives up the passphrase's pipe and the report pipe, which tells the
// starter that the program runs.
func detach() {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil { // closed is as good: nothing is read or written any more
		unix.Close(unix.Stdin)
		unix.Close(unix.Stdout)
		return
	}
	unix.Dup3(null, unix.Stdin, 0)
	unix.Dup3(null, unix.Stdout, 0)
	unix.Close(null)
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
	end := ending{
		Code: status.ExitStatus(), StartedAt: at.UTC(), EndedAt: time.Now().UTC(),
		UserSeconds:   time.Duration(usage.Utime.Nano()).Seconds(),
		SystemSeconds: time.Duration(usage.Stime.Nano()).Seconds(),
		MaxRSSBytes:   usage.Maxrss << 10,
	}
	if status.Signaled() {
		end.Signal = int(status.Signal())
	}
	return end
}

// reserved is the file that becomes exit.json, with room on the disk: borg may
// end because the disk is full, and that is to be told.
type reserved struct{ file *os.File }

const exitRoom = 4096

func (d directory) reserve() (reserved, error) {
	file, err := os.OpenFile(d.file(exitFile+".new"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return reserved{}, err
	}
	err = unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, exitRoom)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return reserved{}, err
	}
	return reserved{file}, nil
}

// settle writes the exit down for good, and tries for a while if it must.
func (r reserved) settle(dir directory, end ending) error {
	content, err := json.Marshal(end)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		if err = r.publish(dir, content); err == nil || try >= exitRetries {
			return err
		}
		time.Sleep(exitRetry)
	}
}

func (r reserved) publish(dir directory, content []byte) error {
	if _, err := r.file.WriteAt(content, 0); err != nil {
		return err
	}
	if err := r.file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(r.file.Name(), dir.file(exitFile)); err != nil {
		return err
	}
	if parent, err := os.Open(string(dir)); err == nil {
		_ = parent.Sync() // the exit is there; a crash of the machine may still lose it
		parent.Close()    // read only: nothing to lose
	}
	return nil
}

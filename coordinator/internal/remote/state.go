package remote

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/borgfleet/borgfleet/shared/process"
)

// phase is where a run stands, in the words of the scripts.
type phase string

const (
	unstarted  phase = "unstarted"  // nothing ever began, or will
	supervised phase = "supervised" // a supervisor lives
	orphaned   phase = "orphaned"   // it is gone; the program runs
	lost       phase = "lost"       // both are gone, and nobody saw how it ended
	ended      phase = "ended"
)

func (p phase) over() bool { return p == unstarted || p == lost || p == ended }

// run is what a script told of a run.
type run struct {
	phase   phase
	started started
	exit    process.Exit // when it has ended
	program bool         // the program itself could not be run
	sealed  bool         // its output is encrypted on its way
}

// started tells who runs, or ran.
type started struct {
	known bool
	pid   int
	at    time.Time
}

func (r run) begun() process.Started { return process.Started{PID: r.started.pid, At: r.started.at} }

// where reads what a script told of a run.
func where(said answers) (run, error) {
	r := run{phase: phase(said.get("phase")), sealed: said.get("sealed") != ""}
	if fields := strings.Fields(said.get("started")); len(fields) == 5 {
		pid, err := strconv.Atoi(fields[0])
		r.started = started{known: err == nil, pid: pid}
		if pid > 0 {
			r.started.at = moment(fields[4])
		}
	}
	switch r.phase {
	case ended:
		return r, r.end(strings.Fields(said.get("ending")))
	case lost:
		r.exit = process.Exit{Code: -1, StartedAt: r.started.at, Lost: true}
		return r, nil
	case unstarted, supervised, orphaned:
		return r, nil
	default:
		return r, fmt.Errorf("where a run stands: %w", errTorn)
	}
}

// end reads how a run ended: "failed WHAT ERROR .", or
// "code N STARTED ENDED UPTIME UPTIME .".
func (r *run) end(words []string) error {
	if len(words) == 4 && words[0] == "failed" {
		r.exit = process.Exit{
			Code: -1, StartError: "start (" + words[1] + ")", StartErrno: errnos[words[2]], StartDir: words[1] == "dir",
		}
		r.program = words[1] == "program"
		return nil
	}
	if len(words) != 7 || words[0] != "code" {
		return fmt.Errorf("how a run ended: %w", errTorn)
	}
	code, err := strconv.Atoi(words[1])
	if err != nil {
		return fmt.Errorf("how a run ended: %w", errTorn)
	}
	r.exit = process.Exit{
		Code: code, StartedAt: moment(words[2]), EndedAt: moment(words[3]),
		Lived: max(0, span(words[5])-span(words[4])),
	}
	if killing[code-128] {
		r.exit.Code, r.exit.Signal = -1, code-128
	}
	return nil
}

// killing are the signals of which a shell's exit code, 128 more, leaves no doubt:
// programs exit with such a code of their own accord only for those that they
// catch.
var killing = map[int]bool{
	int(syscall.SIGKILL): true, int(syscall.SIGSEGV): true, int(syscall.SIGBUS): true, int(syscall.SIGILL): true,
	int(syscall.SIGFPE): true, int(syscall.SIGABRT): true, int(syscall.SIGSYS): true, int(syscall.SIGTRAP): true,
	int(syscall.SIGXCPU): true, int(syscall.SIGXFSZ): true,
}

// moment reads a time as `date +%s.%N` prints it.
func moment(text string) time.Time {
	seconds, nanoseconds := split(text)
	return time.Unix(seconds, nanoseconds).UTC()
}

// span reads a number of seconds with a fraction.
func span(text string) time.Duration {
	seconds, nanoseconds := split(text)
	return time.Duration(min(seconds, math.MaxInt32))*time.Second + time.Duration(nanoseconds)
}

// lastSecond is when years get a fifth digit, which no file of ours can hold.
const lastSecond = 253402300799

func split(text string) (seconds, nanoseconds int64) {
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, _ = strconv.ParseInt(whole, 10, 64) // 0 where the host could not tell
	nanoseconds, _ = strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if seconds < 0 || seconds > lastSecond || nanoseconds < 0 { // nor can that be
		return 0, 0
	}
	return seconds, nanoseconds
}

// errnos are the errors that scripts name.
var errnos = map[string]syscall.Errno{
	"ENOENT": syscall.ENOENT, "EACCES": syscall.EACCES, "EPERM": syscall.EPERM, "EROFS": syscall.EROFS,
	"ENOSPC": syscall.ENOSPC, "EDQUOT": syscall.EDQUOT, "ENOTDIR": syscall.ENOTDIR, "ELOOP": syscall.ELOOP,
	"ENOEXEC": syscall.ENOEXEC, "ENAMETOOLONG": syscall.ENAMETOOLONG, "ENOTEMPTY": syscall.ENOTEMPTY,
	"EPIPE": syscall.EPIPE, "EIO": syscall.EIO,
}

// errnoIn finds a system's error in what a program says of it in English.
func errnoIn(words string) syscall.Errno {
	words = strings.ToLower(words)
	for _, errno := range []syscall.Errno{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.ENOTDIR, syscall.ENOENT,
	} {
		if strings.Contains(words, errno.Error()) {
			return errno
		}
	}
	if strings.Contains(words, "file exists") {
		return syscall.ENOTDIR
	}
	return syscall.EIO
}

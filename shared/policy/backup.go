package policy

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/borgfleet/borgfleet/shared/job"
)

// checkBackup checks everything that a backup reads, or runs.
func (r Rules) checkBackup(spec job.BackupSpec) *job.Failure {
	if len(spec.ExtraOptions) > 0 && !r.ExtraOptions {
		return refuse("extra_options", "this host takes no extra options of borg")
	}
	if failure := r.checkPaths(spec.Paths); failure != nil {
		return failure
	}
	if failure := r.checkPaths(append(slices.Clone(spec.PatternsFrom), spec.ExcludeFrom...)); failure != nil {
		return failure
	}
	for _, file := range spec.PatternsFrom {
		if failure := r.checkRoots(file); failure != nil {
			return failure
		}
	}
	for _, name := range spec.HookNames() {
		if _, failure := r.Hook(name); failure != nil {
			return failure
		}
	}
	return nil
}

// checkRoots checks the paths that a file of patterns adds to those of the
// backup: lines that begin with an R. A file that cannot be read is borg's to
// tell of.
func (r Rules) checkRoots(name string) *job.Failure {
	if slices.Contains(r.Read, "/") {
		return nil
	}
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be a pipe that nobody writes to
	if err != nil {
		return nil
	}
	defer file.Close() // read only: nothing to lose
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return refuse("read", "%s is not a regular file", name)
	}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		for line := range strings.SplitSeq(lines.Text(), "\r") { // borg takes that for a line end, too
			if failure := r.checkRoot(name, strings.TrimSpace(line)); failure != nil {
				return failure
			}
		}
	}
	if err := lines.Err(); err != nil {
		return unread(name, err.Error())
	}
	return nil
}

// checkRoot checks a line of a file of patterns. One that borg does not know is
// refused: what is in front of its first letter may be a blank for borg.
func (r Rules) checkRoot(name, line string) *job.Failure {
	if line == "" || strings.ContainsRune("#+-!Pp", rune(line[0])) {
		return nil
	}
	if line[0] != 'R' && line[0] != 'r' {
		return unread(name, fmt.Sprintf("it has the line %.40q", line))
	}
	failure := r.checkPaths([]string{filepath.Join("/", strings.TrimSpace(line[1:]))})
	if failure != nil {
		failure.Message += ", which " + name + " asks for"
	}
	return failure
}

// unread refuses a file of patterns that is not understood.
func unread(name, why string) *job.Failure {
	return refuse("read", "%s is not a file of patterns: %s", name, why)
}

// Hook returns the path of the script of that name. It is asked once more when
// the job begins. A failure has code refused_by_host.
func (r Rules) Hook(name string) (string, *job.Failure) {
	if name == "" || r.Hooks == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return "", refuse("hooks", "this host has no hook %s", name)
	}
	root := resolve(r.Hooks)
	hook, err := filepath.EvalSymlinks(filepath.Join(root, name))
	if err != nil {
		return "", job.Fail(job.RefusedByHost, "there is no hook %s on this host: %s", name, cause(err)).
			WithHint("put the script into %s there, as root, and make it executable", r.Hooks)
	}
	if filepath.Dir(hook) != root {
		return "", unfit(name, "it leads out of "+r.Hooks)
	}
	if why := loose(root, fs.ModeDir); why != "" {
		return "", unfit(name, r.Hooks+" "+why)
	}
	if why := loose(hook, 0); why != "" {
		return "", unfit(name, "it "+why)
	}
	return hook, nil
}

func unfit(name, why string) *job.Failure {
	return job.Fail(job.RefusedByHost, "the hook %s on this host may not be run: %s", name, why).
		WithHint("hooks are executable files that belong to root, in a directory that belongs to root; nobody else may write to either (chmod go-w)")
}

// loose says why a file of a type may not be relied on, if others than root and
// the agent's user decide what is in it.
func loose(path string, kind fs.FileMode) string {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Sprintf("cannot be looked at: %s", cause(err))
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	switch {
	case info.Mode().Type() != kind && kind == fs.ModeDir:
		return "is not a directory"
	case info.Mode().Type() != kind:
		return "is not a regular file"
	case !known || owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return "belongs to another user"
	case info.Mode().Perm()&0o022 != 0:
		return "can be written by others"
	case info.Mode().Perm()&0o111 == 0:
		return "is not executable"
	default:
		return ""
	}
}

// cause is an error without its path, which the message has.
func cause(err error) error {
	if path, ok := err.(*fs.PathError); ok {
		return path.Err
	}
	return err
}

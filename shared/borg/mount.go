package borg

import (
	"cmp"
	_ "embed"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// mountScript runs borg mount in the foreground, says when the mount point can
// be used, and unmounts when nobody has used it for a while, or when it is told
// to end. It is a shell script for the reasons of lockScript. The passphrase
// reaches borg through a descriptor that the shell does not read, and closes as
// soon as borg runs.
//
//go:embed mount.sh
var mountScript string

// isScript reports whether an argument is the text of a script of ours.
func isScript(arg string) bool {
	return slices.Contains([]string{lockScript, mountScript, umountScript, verifyScript, canaryScript, restoreTestScript}, arg)
}

// scripted wraps borg's own command in the script that the kind needs, or
// returns it as it is.
func scripted(task Task, argv []string) []string {
	switch spec := task.Spec.(type) {
	case job.MountSpec:
		idle := job.DefaultIdle
		if spec.Idle > 0 {
			idle = time.Duration(spec.Idle) * time.Second
		}
		return append([]string{"/bin/sh", "-c", mountScript, "mount", strconv.Itoa(int(idle.Seconds())), path.Clean(spec.MountPoint)}, argv...)
	case job.VerifySpec:
		return verifyCommand(task, spec, argv)
	case job.RestoreTestSpec:
		return restoreTestCommand(task, spec, argv)
	default:
		return argv
	}
}

// bare returns the command of a task that has to do with no repository, or nil.
func bare(task Task, env Environment) ([]string, error) {
	switch spec := task.Spec.(type) {
	case job.UmountSpec:
		mode := "plain"
		if spec.Force {
			mode = "force"
		}
		return []string{"/bin/sh", "-c", umountScript, "umount", mode, path.Clean(spec.MountPoint)}, nil
	case job.VerifySpec:
		if task.Repository.Location != "" {
			return nil, nil
		}
		if spec != (job.VerifySpec{}) {
			return nil, job.Fail(job.InvalidSpec, "there is no repository to accept, or to make a cache of").WithHint("name the repository")
		}
		return []string{cmp.Or(env.Binary, "borg"), "--version"}, nil
	default:
		return nil, nil
	}
}

// mountArguments returns what follows borg mount's common options.
func mountArguments(task Task, spec job.MountSpec) (options, target []string) {
	what := task.Repository.Location
	if spec.Archive != "" {
		what += "::" + literal(spec.Archive)
	}
	return []string{"--foreground"}, []string{what, path.Clean(spec.MountPoint)}
}

// Last words of the scripts on standard output, for a mount and for an umount.
const (
	mountUnmounted = "unmounted"
	mountDied      = "died"
	umountBusy     = "busy"
)

// refusedMounts are the causes for which the script does not run borg.
var refusedMounts = map[string]cause{
	"device": {code: job.FuseMissing, message: "{host} cannot mount anything: it has no /dev/fuse",
		hint: "Debian: apt install fuse3 python3-pyfuse3, then modprobe fuse; a container needs the device /dev/fuse and the right to mount, given by whoever starts it"},
	"tools": {code: job.FuseMissing, message: "{host} cannot mount anything: it has no fusermount3", hint: hintFuse},
	"busy": {code: job.MountPointBusy, message: "something is mounted at {point} on {host} already",
		hint: "unmount it, or give another mount point"},
	"occupied": {code: job.TargetNotEmpty, message: "{point} on {host} is not a directory",
		hint: "give an empty directory, or one that does not exist yet"},
	"notempty": {code: job.TargetNotEmpty, message: "the mount point {point} on {host} is not empty",
		hint: "give an empty directory, or one that does not exist yet; what is in it would be hidden while something is mounted there"},
	"link": {code: job.RefusedByHost, message: "{point} on {host} leads elsewhere by a symbolic link",
		hint: "give the directory itself"},
	"denied": {code: job.PermissionDenied, message: "borg may not mount at {point} on {host}",
		hint: "give the directory to the agent's user, or choose another one below policy.restore"},
}

const hintFuse = "Debian: apt install fuse3 python3-pyfuse3 (before Debian 11: python3-llfuse); elsewhere FUSE and the Python binding for it that this borg was made for"

var (
	noFuse = cause{code: job.FuseMissing, message: "borg on {host} cannot mount: {said}", hint: hintFuse}
	// The file system ended by itself: borg tells that as a good end.
	mountLost = cause{code: job.Interrupted, message: "borg on {host} ended while {point} was mounted, and was not asked to",
		hint: "what read from there got errors; see borg's words in the log and the kernel's log on {host}, then mount again"}
)

// fuseSigns are what borg, and libfuse, say when there is no FUSE.
var fuseSigns = []string{"no FUSE support", "fuse: device not found", "fuse: failed to open /dev/fuse", "fuse: failed to exec fusermount", "fusermount3: mount failed", "fusermount: mount failed", "fuse_session_mount failed"}

// atPoint explains a cause that names the mount point.
func (p *Parser) atPoint(why cause, said string, exit Exit) *job.Failure {
	fill := strings.NewReplacer("{point}", clean(p.mountPoint()))
	failure := p.explain(why, said, exit)
	failure.Message, failure.Hint = fill.Replace(failure.Message), fill.Replace(failure.Hint)
	return failure
}

func (p *Parser) mountPoint() string {
	switch spec := p.task.Spec.(type) {
	case job.MountSpec:
		return path.Clean(spec.MountPoint)
	case job.UmountSpec:
		return path.Clean(spec.MountPoint)
	default:
		return ""
	}
}

// mounted judges a mount job, which is over when nothing is mounted any more.
func (p *Parser) mounted(exit Exit) job.Outcome {
	spec, _ := p.task.Spec.(job.MountSpec)
	result := p.result(exit)
	result.Archive, result.MountPoint = spec.Archive, clean(p.mountPoint())
	result.Warnings = slices.DeleteFunc(result.Warnings, func(text string) bool {
		return strings.Contains(text, "Trio guest run got abandoned") // Python's words on any end by a signal
	})
	verdict := strings.TrimSpace(string(p.stdout))
	why, refused := refusedMounts[verdict]
	if outcome, stopped := p.stopped(exit); stopped {
		if verdict == mountUnmounted {
			outcome.Result = result
		}
		return outcome
	}
	switch {
	case refused:
		return job.Outcome{State: job.Failed, Failure: p.atPoint(why, "", exit)}
	case verdict == mountUnmounted:
		return job.Outcome{State: job.Succeeded, Result: result}
	case verdict == mountDied && p.class(exit) != classError:
		return job.Outcome{State: job.Failed, Result: result, Failure: p.atPoint(mountLost, "", exit)}
	case (exit.Code == 126 || exit.Code == 127) && !exit.Lost:
		return job.Outcome{State: job.Failed, Failure: p.explain(noBorg, p.facts.spoken, exit)}
	case p.class(exit) == classOK, p.class(exit) == classWarning:
		return job.Outcome{State: job.Failed, Failure: p.atPoint(mountLost, "", exit)}
	}
	if said := p.noFuse(); said != "" {
		return job.Outcome{State: job.Failed, Failure: p.explain(noFuse, said, exit)}
	}
	return p.unwell(exit)
}

// noFuse returns borg's or libfuse's words that there is no FUSE, if they came.
func (p *Parser) noFuse() string {
	for _, text := range append(slices.Clone(p.facts.errors.texts), p.facts.spoken, lastLine(p.facts.trace)) {
		if slices.ContainsFunc(fuseSigns, func(sign string) bool { return strings.Contains(text, sign) }) {
			return text
		}
	}
	return ""
}

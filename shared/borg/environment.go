package borg

import (
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// DefaultRSH is how borg reaches a server when nothing else is configured: it
// never asks, and it notices a dead link within a minute.
const DefaultRSH = "ssh -oBatchMode=yes -oServerAliveInterval=15 -oServerAliveCountMax=3"

// DefaultLockWait is how long borg waits for a lock of a writer that borgfleet
// does not know of. Borg's own default of one second makes a neighbour's
// listing fail a backup.
const DefaultLockWait = time.Minute

// Environment is what the host's configuration says about running borg.
type Environment struct {
	Binary      string        // path of borg, or a name to look up; "" means "borg"
	BaseDir     string        // BORG_BASE_DIR: cache, keys and security records; "" means the user's home
	HostID      string        // BORG_HOST_ID: stable and of this host alone; "" means borg's guess
	RemotePath  string        // borg on the repository's server; "" means what its PATH finds
	LockWait    time.Duration // 0 means DefaultLockWait; rounded up to seconds
	UploadLimit int           // KiB/s to the repository; 0 means none
	RSH         string        // BORG_RSH; "" means DefaultRSH
}

// Inherit returns the part of the agent's own environment that borg may see:
// everything but BORG_ variables, which could bring another passphrase, answer
// a question of borg's, or change what is backed up, and but the locale and
// Python's variables, which change what borg prints.
func Inherit(environ []string) []string {
	kept := make([]string, 0, len(environ))
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case strings.HasPrefix(name, "BORG_"), strings.HasPrefix(name, "PYTHON"),
			strings.HasPrefix(name, "LC_"), name == "LANG", name == "LANGUAGE":
		default:
			kept = append(kept, entry)
		}
	}
	return kept
}

// variables returns the borg-specific environment of a task. There is never a
// secret in it: the passphrase goes by file descriptor, which whoever starts
// the process adds. BORG_RELOCATED_REPO_ACCESS_IS_OK stays unset, as a moved
// repository is for a person to confirm, and so does the answer that would let
// borg delete a repository. That a repair may lose data was confirmed when it was
// asked for.
func (e Environment) variables(task Task) []string {
	rsh := e.RSH
	if rsh == "" {
		rsh = DefaultRSH
	}
	environ := []string{
		"LC_ALL=C.UTF-8", // else names become question marks
		"BORG_RSH=" + rsh,
		"BORG_SHOW_SYSINFO=no", // a traceback of a screen less
		"BORG_DISPLAY_PASSPHRASE=no",
	}
	if e.BaseDir != "" {
		environ = append(environ, "BORG_BASE_DIR="+e.BaseDir)
	}
	if e.HostID != "" {
		environ = append(environ, "BORG_HOST_ID="+e.HostID)
	}
	if task.Version.Modern() {
		environ = append(environ, "BORG_EXIT_CODES=modern")
	}
	if task.Repository.Encryption == job.Unencrypted && !task.Encrypted {
		environ = append(environ, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes")
	}
	if task.Kind == job.List || task.Kind == job.Info || task.Kind == job.Verify || task.Kind == job.Diff || task.Kind == job.TestRestore {
		// Borg prints local times without a zone. Reading commands can be
		// told to use UTC; prune must not, as its days are local days.
		environ = append(environ, "TZ=UTC")
	}
	if canary := canaryOf(task); canary != nil {
		environ = append(environ, canaryVariable+"="+canary.Content)
	}
	if check, ok := task.Spec.(job.CheckSpec); ok && check.Repair {
		environ = append(environ, "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING=YES")
	}
	return environ
}

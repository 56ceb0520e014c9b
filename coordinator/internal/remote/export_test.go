package remote

import (
	"time"

	"github.com/borgfleet/borgfleet/shared/process"
)

// Odd makes a host out of the ordinary: another /bin/sh, no programs but in some
// directories, and no /proc. What is empty stays as it is, but for proc.
func Odd(h *Host, shell, paths, proc string) *Host {
	h.proc = proc
	if shell != "" {
		h.shell = shell
	}
	if paths != "" {
		h.paths = paths
	}
	return h
}

// Patient sets for how many looks a program waits for its reader.
func Patient(h *Host, looks int) *Host {
	h.options.ReaderPatience = time.Duration(looks) * napTime
	return h
}

// Minutes is a time as job directories are cleaned by.
func Minutes(n int) time.Duration { return time.Duration(n) * time.Minute }

// Encrypt begins to read the output of a command with a recipient.
func Encrypt(h *Host, c process.Command) { h.encrypt(c) }

// Install is how borg is installed, by what os-release says.
func Install(release string) string { return install(release) }

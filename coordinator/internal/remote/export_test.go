package remote

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

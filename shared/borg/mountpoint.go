package borg

// MountPoint returns the mount point of a command that [Command] made for a
// mount, and false for any other one.
func MountPoint(argv []string) (string, bool) {
	const own = 6 // sh -c script name idle mount-point
	if len(argv) <= own || argv[0] != "/bin/sh" || argv[3] != "mount" {
		return "", false
	}
	return argv[own-1], true
}

package mount

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// device is how programs serve file systems.
const device = "/dev/fuse"

// supportTime bounds what borg is asked for; it takes half a second on an idle
// machine.
const supportTime = 30 * time.Second

// Verify finds out whether a borg can mount, without mounting anything.
func Verify(ctx context.Context, borg string) job.Finding {
	found := job.Finding{Name: "fuse"}
	found.Detail, found.Hint = support(ctx, borg)
	found.Good = found.Hint == ""
	return found
}

// support returns what was found, in a few words, and what to do, if borg cannot
// mount.
func support(ctx context.Context, borg string) (detail, hint string) {
	if _, err := os.Stat(device); err != nil {
		return "there is no " + device, "Debian: apt install fuse3, then modprobe fuse; a container needs the device given to it"
	}
	program, err := fusermount()
	if err != nil {
		return "there is no fusermount3", "Debian: apt install fuse3"
	}
	ctx, cancel := context.WithTimeout(ctx, supportTime)
	defer cancel()
	asked := exec.CommandContext(ctx, borg, "debug", "info")
	asked.Dir = "/"
	said, err := asked.Output()
	if err != nil {
		return fmt.Sprintf("borg does not tell whether it can mount: %s", err), "run: " + borg + " debug info"
	}
	binding := Binding(string(said))
	if binding == "" {
		return "borg has no Python binding for FUSE",
			"Debian: apt install python3-pyfuse3; borg as a single binary needs one of its own that ends in -fuse3 or has it built in"
	}
	return fmt.Sprintf("%s, %s, %s", device, program, binding), ""
}

// Binding finds what serves file systems for borg in what it says of itself:
// "… msgpack: 1.0.3 fuse: pyfuse3 3.2.1 [pyfuse3,llfuse]", or "fuse: None [...]"
// (borg debug info). Empty: there is nothing.
func Binding(said string) string {
	for line := range strings.Lines(said) {
		_, after, found := strings.Cut(line, " fuse: ")
		if !found {
			continue
		}
		name, _, _ := strings.Cut(after, "[")
		if name = strings.TrimSpace(name); name != "None" {
			return name
		}
	}
	return ""
}

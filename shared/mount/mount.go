// Package mount knows what borg has mounted on this machine, and takes away what
// a borg that is gone has left.
package mount

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// table is where the kernel lists what this process sees mounted. To read it
// touches none of the mounts, so one that hangs does not matter.
const table = "/proc/self/mounts"

// unmountTime bounds the program that unmounts.
const unmountTime = 10 * time.Second

// Table is what is mounted. It is safe for concurrent use.
type Table struct{}

// List returns the mount points of everything that borg has mounted, each once,
// whether or not a borg still serves it.
func (Table) List() ([]string, error) {
	data, err := os.ReadFile(table)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return Parse(data), nil
}

// Parse returns the mount points of everything that borg has mounted, each once,
// from the kernel's table.
func Parse(data []byte) []string {
	var points []string
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || fields[0] != "borgfs" || !strings.HasPrefix(fields[2], "fuse") {
			continue
		}
		if point := unescape(fields[1]); !slices.Contains(points, point) {
			points = append(points, point)
		}
	}
	return points
}

// unescape replaces what proc(5) writes for characters that part fields.
func unescape(field string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(field)
}

// Remove unmounts what is mounted at a mount point, at once: whoever is still in
// it keeps what is open, and gets errors if nobody serves it any more.
func (Table) Remove(ctx context.Context, point string) error {
	ctx, cancel := context.WithTimeout(ctx, unmountTime)
	defer cancel()
	program, err := fusermount()
	if err != nil {
		return fmt.Errorf("unmount %s: %w", point, err)
	}
	if said, err := exec.CommandContext(ctx, program, "-uz", "--", point).CombinedOutput(); err != nil {
		return fmt.Errorf("unmount %s: %w: %s", point, err, bytes.TrimSpace(said))
	}
	return nil
}

// fusermount is the program with which FUSE mounts and unmounts.
func fusermount() (string, error) {
	path, err := exec.LookPath("fusermount3")
	if err != nil {
		path, err = exec.LookPath("fusermount")
	}
	return path, err
}

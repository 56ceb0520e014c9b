package borg

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// umountScript unmounts what borg has mounted, and nothing else.
//
//go:embed umount.sh
var umountScript string

// failedUmounts are the causes for which something stays mounted.
var failedUmounts = map[string]cause{
	"none": {code: job.NotMounted, message: "nothing is mounted at {point} on {host}",
		hint: "`borgfleet job list --kind mount --state running` shows what is mounted, and where"},
	"other": {code: job.NotMounted, message: "what is mounted at {point} on {host} is not borg's, and stays",
		hint: "`borgfleet job list --kind mount --state running` shows what borg has mounted, and where"},
	umountBusy: {code: job.MountPointBusy, message: "{point} on {host} is in use by {said}",
		hint: "let them leave the directory and close its files, then try again; or unmount it by force (--force), after which they get errors"},
	"denied": {code: job.PermissionDenied, message: "{point} on {host} cannot be unmounted: {said}",
		hint: "whoever mounted it can unmount it, or root: fusermount3 -u {point}"},
}

// unmounted judges an umount job.
func (p *Parser) unmounted(exit Exit) job.Outcome {
	users, verdict := readUsers(p.stdout)
	result := p.result(exit)
	result.MountPoint = clean(p.mountPoint())
	if verdict == mountUnmounted {
		return job.Outcome{State: job.Succeeded, Result: result}
	}
	why, known := failedUmounts[verdict]
	switch {
	case !known:
		return p.unwell(exit)
	case verdict == umountBusy:
		return job.Outcome{State: job.Failed, Failure: p.atPoint(why, inWords(users), exit)}
	default:
		return job.Outcome{State: job.Failed, Failure: p.atPoint(why, p.facts.spoken, exit)}
	}
}

// readUsers reads who uses the mount point, and the script's last word.
func readUsers(stdout []byte) (users []string, verdict string) {
	lines := bufio.NewScanner(bytes.NewReader(stdout))
	for lines.Scan() {
		fields := strings.Fields(clean(lines.Text()))
		switch {
		case len(fields) == 1:
			verdict = fields[0]
		case len(fields) == 3 && fields[0] == "user" && len(users) < maxLocks:
			users = append(users, fmt.Sprintf("process %s (%s)", fields[1], fields[2]))
		}
	}
	return users, verdict
}

// inWords names the first few users.
func inWords(users []string) string {
	const most = 3
	if len(users) == 0 {
		return "processes that the agent may not see"
	}
	words := strings.Join(users[:min(most, len(users))], ", ")
	if more := len(users) - most; more > 0 {
		words += " and " + strconv.Itoa(more) + " more"
	}
	return words
}

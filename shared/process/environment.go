package process

import "strings"

// defaultPath is for a starter that has no PATH of its own.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment returns the base environment taken from inherited (see
// [Command]), then added. Of two settings of one name the later one counts.
func environment(inherited, added []string) []string {
	settings := []string{defaultPath}
	for _, entry := range inherited {
		if passedOn(entry) {
			settings = append(settings, entry)
		}
	}
	settings = append(settings, added...)
	index := make(map[string]int, len(settings))
	merged := settings[:0:0]
	for _, entry := range settings {
		name, _, found := strings.Cut(entry, "=")
		if !found {
			continue
		}
		if at, seen := index[name]; seen {
			merged[at] = entry
			continue
		}
		index[name] = len(merged)
		merged = append(merged, entry)
	}
	return merged
}

// told returns settings with one more: a program that needs files of its own for
// a while keeps them in the run's directory, which is removed whatever happens.
func (d directory) told(settings []string) []string {
	return append([]string{"BORGFLEET_DIR=" + string(d)}, settings...)
}

func passedOn(entry string) bool {
	name, value, _ := strings.Cut(entry, "=")
	switch name {
	case "PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SSH_AUTH_SOCK":
		return value != ""
	default:
		return strings.HasPrefix(name, "LC_")
	}
}

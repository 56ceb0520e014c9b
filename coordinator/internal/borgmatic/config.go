package borgmatic

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// config is a configuration of which each key is taken once: what is left could
// not be mapped.
type config struct {
	file  string
	keys  map[string]any
	notes []Note
}

// sections of the old layout.
var sections = []string{"location", "storage", "retention", "consistency", "output", "hooks"}

// newConfig brings either layout into the flat one, and fills constants in.
func newConfig(file string, keys map[string]any) *config {
	c := &config{file: file, keys: map[string]any{}}
	constants, _ := keys["constants"].(map[string]any)
	for key, value := range keys {
		inner, isSection := value.(map[string]any)
		if key == "constants" {
			continue
		}
		if isSection && slices.Contains(sections, key) {
			for name, v := range inner {
				c.keys[name] = fill(v, constants)
			}
			continue
		}
		c.keys[key] = fill(value, constants)
	}
	return c
}

// fill puts constants in the place of their names in braces.
func fill(value any, constants map[string]any) any {
	switch v := value.(type) {
	case retained:
		return fill(v.value, constants)
	case string:
		for name, constant := range constants {
			if v == "{"+name+"}" {
				return constant
			}
			v = strings.ReplaceAll(v, "{"+name+"}", fmt.Sprint(constant))
		}
		return v
	case []any:
		list := []any{}
		for _, item := range v {
			if _, out := item.(omitted); !out { // of nothing that was included
				list = append(list, fill(item, constants))
			}
		}
		return list
	case map[string]any:
		all := map[string]any{}
		for key, inner := range v {
			all[key] = fill(inner, constants)
		}
		return all
	default:
		return value
	}
}

// note says what a person has to know. It never carries a value that may be
// secret.
func (c *config) note(key, format string, args ...any) {
	c.notes = append(c.notes, Note{File: c.file, Key: key, Message: fmt.Sprintf(format, args...)})
}

// take returns the value of a key, nil if it is not there.
func (c *config) take(key string) any {
	value := c.keys[key]
	delete(c.keys, key)
	return value
}

func (c *config) text(key string) string {
	switch value := c.take(key).(type) {
	case nil:
		return ""
	case string:
		return value
	case map[string]any, []any:
		c.note(key, "it is no text, and is left out")
		return ""
	default:
		return fmt.Sprint(value)
	}
}

func (c *config) truth(key string) bool {
	value := c.take(key)
	truth, ok := value.(bool)
	if value != nil && !ok {
		c.note(key, "it is neither true nor false, and is left out")
	}
	return truth
}

func (c *config) number(key string) int {
	text := c.text(key)
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		c.note(key, "it is not a whole number, and is left out")
		return 0
	}
	return n
}

// list returns texts; a single one is a list of one.
func (c *config) list(key string) []string { return texts(c.take(key)) }

func texts(value any) []string {
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		var list []string
		for _, item := range v {
			list = append(list, texts(item)...)
		}
		return list
	case map[string]any:
		return nil
	default:
		return []string{fmt.Sprint(v)}
	}
}

// entries returns mappings; a text is one with nothing but the key that it stands
// for.
func entries(value any, short string) []map[string]any {
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		var list []map[string]any
		for _, item := range v {
			list = append(list, entries(item, short)...)
		}
		return list
	case map[string]any:
		return []map[string]any{v}
	default:
		return []map[string]any{{short: fmt.Sprint(v)}}
	}
}

// reasons say why keys are not mapped that are well known.
var reasons = map[string]string{
	"local_path":                            "say it on the host: borg.binary in agent.yaml, or ssh.borg in the manifest",
	"remote_path":                           "borg on the repository's server is found by its PATH",
	"ssh_command":                           "the host's own ssh configuration says how it connects: put a key and a port into ~/.ssh/config",
	"encryption_passcommand":                "put the passphrase into the file that passphrase_file names",
	"borg_base_directory":                   "borgfleet has directories of its own",
	"borg_config_directory":                 "borgfleet has directories of its own",
	"borg_cache_directory":                  "borgfleet has directories of its own",
	"borg_security_directory":               "borgfleet has directories of its own",
	"borg_keys_directory":                   "copy the key there: borgfleet runs borg with a directory of its own",
	"lock_wait":                             "borgfleet waits for locks by itself",
	"umask":                                 "files of borgfleet are its user's alone",
	"extra_borg_options":                    "see extra_options of a plan, which the host's policy must allow",
	"chunker_params":                        "see extra_options of a plan, which the host's policy must allow",
	"check_last":                            "borgfleet checks all archives",
	"working_directory":                     "paths are absolute here",
	"relocated_repo_access_is_ok":           "borgfleet notices that a repository has moved, and says what to do",
	"unknown_unencrypted_repo_access_is_ok": "borgfleet knows which repositories are not encrypted",
	"statistics":                            "sizes are always kept", "stats": "sizes are always kept",
	"verbosity": "logs are kept with each job", "syslog_verbosity": "logs are kept with each job", "log_file_verbosity": "logs are kept with each job", "monitoring_verbosity": "logs are kept with each job",
	"color": "it is for borgmatic's own output", "progress": "it is always shown",
}

// monitors are services that borgmatic tells; here they are targets.
var monitors = []string{"ntfy", "pushover", "cronitor", "cronhub", "pagerduty", "loki", "apprise", "uptime_kuma", "zabbix", "sentry", "uptimekuma"}

// left notes the keys that nobody has taken.
func (c *config) left() {
	for _, key := range slices.Sorted(maps.Keys(c.keys)) {
		switch reason := reasons[key]; {
		case slices.Contains(monitors, key):
			c.note(key, "it is not mapped: make it a target, see borgfleet notify target add --help")
		case reason != "":
			c.note(key, "it is not mapped: %s", reason)
		default:
			c.note(key, "it is not mapped")
		}
	}
}

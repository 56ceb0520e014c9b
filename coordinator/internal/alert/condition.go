package alert

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
)

const (
	offlineAfter = 10 * time.Minute // that a host may be away unnoticed
	lowDisk      = 1 << 30          // bytes that should be free on a host
)

// HostConditions returns what is wrong with hosts, and with the keys of
// repositories, that the status does not list as needing attention: hosts that
// have backups and are away, whose agent is older than this version, whose disk
// is nearly full; keys that nobody has a copy of.
func HostConditions(now time.Time, hosts []fleet.HostView, status fleet.Status, version string) []fleet.Condition {
	var found []fleet.Condition
	for _, h := range hosts {
		if h.Mode == fleet.ModeLocal {
			continue
		}
		about := fleet.Condition{Host: h.Name, Labels: h.Labels}
		if away(now, h) {
			found = append(found, offline(about, h, now))
		}
		if f := h.Facts; f != nil && h.Online {
			about.Since = f.SeenAt
			if h.Mode == fleet.ModeAgent && older(f.AgentVersion, version) {
				found = append(found, outdated(about, f.AgentVersion, version))
			}
			if f.FreeBytes > 0 && f.FreeBytes < lowDisk {
				found = append(found, fullDisk(about, f.FreeBytes))
			}
		}
	}
	for _, name := range status.KeysNotExported {
		found = append(found, fleet.Condition{
			Kind: "key_not_exported", Severity: fleet.SeverityWarning, Repository: name,
			Message: fmt.Sprintf("nobody has a copy of the key of repository %s", name),
			Hint:    "borgfleet repo key-export " + name + "; without its key no archive can be read",
		})
	}
	return found
}

func away(now time.Time, h fleet.HostView) bool {
	has := h.LastBackup != nil || len(h.Runs) > 0
	return has && !h.Online && !h.Since.IsZero() && now.Sub(h.Since) > offlineAfter
}

func offline(c fleet.Condition, h fleet.HostView, now time.Time) fleet.Condition {
	c.Kind, c.Severity, c.Since = "offline", fleet.SeverityWarning, h.Since
	c.Message = fmt.Sprintf("host %s has been away for %s", h.Name, human.Seconds(now.Sub(h.Since).Seconds()))
	c.Hint = "look at borgfleet-agent there (systemctl status borgfleet-agent, borgfleet-agent doctor)"
	if h.Mode == fleet.ModeSSH {
		c.Hint = "borgfleet host verify " + h.Name + " tries it now"
	}
	return c
}

func outdated(c fleet.Condition, has, wants string) fleet.Condition {
	c.Kind, c.Severity = "agent_outdated", fleet.SeverityInfo
	c.Message = fmt.Sprintf("the agent on host %s is of version %s, the coordinator of %s", c.Host, has, wants)
	c.Hint = "put the newer borgfleet-agent there and restart it; running jobs go on"
	return c
}

func fullDisk(c fleet.Condition, free uint64) fleet.Condition {
	c.Kind, c.Severity = "disk_low", fleet.SeverityWarning
	c.Message = fmt.Sprintf("host %s has only %s left where its agent keeps its state", c.Host, human.Bytes(int64(min(free, lowDisk))))
	c.Hint = "make room there: borg needs it for its cache, the agent for its journal"
	return c
}

// older reports whether a version is an earlier one than another. What is no
// release says nothing.
func older(a, b string) bool {
	left, okLeft := numbers(a)
	right, okRight := numbers(b)
	if !okLeft || !okRight {
		return false
	}
	for i := range left {
		if left[i] != right[i] {
			return left[i] < right[i]
		}
	}
	return false
}

// numbers returns the three numbers of a version such as v0.6.0-2-gabc.
func numbers(version string) (parts [3]int, ok bool) {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "-")
	words := strings.Split(version, ".")
	if len(words) != len(parts) {
		return parts, false
	}
	for i, word := range words {
		n, err := strconv.Atoi(word)
		if err != nil {
			return parts, false
		}
		parts[i] = n
	}
	return parts, true
}

// FromAttention returns what needs a person as conditions.
func FromAttention(items []fleet.Attention) []fleet.Condition {
	conditions := make([]fleet.Condition, len(items))
	for i, a := range items {
		conditions[i] = fleet.Condition{
			Kind: a.Kind, Severity: cmp.Or(a.Severity, fleet.SeverityWarning), Host: a.Host, Repository: a.Repository, Plan: a.Plan,
			Job: a.Job, Message: a.Message, Hint: a.Hint, Since: a.Since,
		}
	}
	return conditions
}

// Label adds the labels of hosts and plans, by name, to the conditions that are
// about them; of two labels with one name the plan's counts.
func Label(conditions []fleet.Condition, hosts, plans map[string]map[string]string) {
	for i := range conditions {
		c := &conditions[i]
		labels := map[string]string{}
		maps.Copy(labels, hosts[c.Host])
		maps.Copy(labels, plans[c.Plan])
		maps.Copy(labels, c.Labels)
		if len(labels) > 0 {
			c.Labels = labels
		}
	}
}

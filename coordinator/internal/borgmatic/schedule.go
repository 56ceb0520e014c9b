package borgmatic

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

var (
	cronLine  = regexp.MustCompile(`^((?:\S+\s+){4}\S+|@\w+)\s+(?:\S+\s+)?.*borgmatic`)
	calendar  = regexp.MustCompile(`^(?:(\w{3}(?:(?:,|\.\.)\w{3})*) )?(?:(\*)-(\*|[0-9]{1,2}(?:,[0-9]{1,2})*)-(\*|[0-9]{1,2}(?:,[0-9]{1,2})*) )?([0-9*]{1,2}(?:,[0-9]{1,2})*(?:/[0-9]+)?):([0-9]{1,2})(?::00)?$`)
	shorthand = map[string]string{
		"minutely": "* * * * *", "hourly": "0 * * * *", "daily": "0 0 * * *", "weekly": "0 0 * * 1", "monthly": "0 0 1 * *", "yearly": "0 0 1 1 *", "annually": "0 0 1 1 *",
	}
)

// readSchedule reads when borgmatic runs, from a crontab or a systemd timer.
func readSchedule(file, timezone string) (*fleet.Schedule, []Note, error) {
	if file == "" {
		return nil, []Note{{Key: "schedule", Message: "nothing says when it runs: the plan runs only when somebody runs it"}}, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("read schedule: %w", err)
	}
	r := &timer{schedule: fleet.Schedule{Timezone: timezone}, file: file}
	if timezone == "" {
		r.note("schedule", "its hours are taken for UTC: write the host's timezone into the plan")
	}
	if strings.Contains(string(text), "OnCalendar") || strings.Contains(string(text), "[Timer]") {
		r.systemd(string(text))
	} else {
		r.cron(string(text))
	}
	if r.schedule.Cron == "" && r.schedule.Every == "" {
		return nil, nil, fmt.Errorf("%s does not say when borgmatic runs", file)
	}
	return &r.schedule, r.notes, nil
}

// timer is a schedule that is being read.
type timer struct {
	schedule fleet.Schedule
	file     string
	notes    []Note
}

func (t *timer) note(key, format string, args ...any) {
	t.notes = append(t.notes, Note{File: t.file, Key: key, Message: fmt.Sprintf(format, args...)})
}

func (t *timer) cron(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if zone, ok := strings.CutPrefix(line, "CRON_TZ="); ok {
			t.schedule.Timezone = zone
		}
		match := cronLine.FindStringSubmatch(line)
		if match == nil || strings.HasPrefix(line, "#") {
			continue
		}
		if t.schedule.Cron != "" {
			t.note("schedule", "another line is left out: make a plan of its own for it")
			continue
		}
		t.schedule.Cron = strings.Join(strings.Fields(match[1]), " ")
	}
}

func (t *timer) systemd(text string) {
	t.schedule.CatchUp = "0s" // but with Persistent
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "OnCalendar":
			t.onCalendar(value)
		case "RandomizedDelaySec":
			t.schedule.Jitter = t.delay(value)
		case "Persistent":
			if value == "true" || value == "yes" {
				t.schedule.CatchUp = ""
			}
		case "OnBootSec", "OnUnitActiveSec", "OnStartupSec", "OnActiveSec", "OnUnitInactiveSec":
			t.note(key, "it is not mapped: a plan is due at hours, or every so often")
		}
	}
}

// delay reads a length of time of systemd.
func (t *timer) delay(value string) fleet.Span {
	plain := strings.NewReplacer("hours", "h", "hour", "h", "hr", "h", "minutes", "m", "minute", "m", "min", "m", "seconds", "s", "second", "s", "sec", "s", " ", "").Replace(value)
	if plain != "" && strings.Trim(plain, "0123456789") == "" {
		plain += "s"
	}
	span := fleet.Span(plain)
	if _, err := span.Length(); err != nil {
		t.note("RandomizedDelaySec", "it is not mapped: %s", err)
		return ""
	}
	return span
}

func (t *timer) onCalendar(value string) {
	value = strings.TrimSpace(value)
	if words := strings.Fields(value); len(words) > 1 && strings.Contains(words[len(words)-1], "/") && !strings.Contains(words[len(words)-1], ":") || strings.HasSuffix(value, " UTC") {
		t.schedule.Timezone, value = words[len(words)-1], strings.Join(words[:len(words)-1], " ")
	}
	cron := shorthand[strings.ToLower(value)]
	if match := calendar.FindStringSubmatch(value); match != nil {
		field := func(text string) string {
			if text == "" {
				return "*"
			}
			parts := strings.Split(text, ",")
			for i, part := range parts {
				parts[i] = strings.TrimLeft(part, "0")
				if parts[i] == "" || strings.HasPrefix(parts[i], "/") {
					parts[i] = "0" + parts[i]
				}
			}
			return strings.Join(parts, ",")
		}
		hour := field(match[5])
		if strings.HasPrefix(hour, "0/") {
			hour = "*" + hour[1:]
		}
		weekday := "*"
		if match[1] != "" {
			weekday = strings.ToLower(strings.ReplaceAll(match[1], "..", "-"))
		}
		cron = strings.Join([]string{field(match[6]), hour, field(match[4]), field(match[3]), weekday}, " ")
	}
	switch {
	case cron == "":
		t.note("OnCalendar", "%s is not mapped: write it as cron", value)
	case t.schedule.Cron != "":
		t.note("OnCalendar", "%s is left out: make a plan of its own for it", value)
	default:
		t.schedule.Cron = cron
	}
}

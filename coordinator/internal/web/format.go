package web

import (
	"html"
	"html/template"
	"math"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// none is what stands where there is nothing to say.
const none = "–"

// quietNone is none among figures.
const quietNone = template.HTML(`<span class="muted">` + none + `</span>`)

// helpers are the functions that templates use.
func helpers() template.FuncMap {
	return template.FuncMap{
		"bytes":   func(n any) string { return formatBytes(whole(n)) },
		"number":  func(n any) string { return formatNumber(whole(n)) },
		"seconds": formatSeconds[float64],
		"prose":   prose, "sentence": sentence, "chip": stateChip, "mark": newChip,
		"hostURL": hostURL, "repoURL": repositoryURL, "jobURL": jobURL,
		"plural": func(n any, one, many string) string { return plural(whole(n), one, many) },
		"none":   func() template.HTML { return quietNone },
	}
}

// whole is a number of any integer type.
func whole(n any) int64 {
	v := reflect.ValueOf(n)
	switch {
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return int64(min(v.Uint(), math.MaxInt64)) //nolint:gosec // bounded
	}
	return 0
}

func hostURL(name string) string       { return "/hosts/" + url.PathEscape(name) }
func repositoryURL(name string) string { return "/repositories/" + url.PathEscape(name) }
func jobURL(id job.ID) string          { return "/jobs/" + url.PathEscape(string(id)) }

// formatBytes prints a size in SI units: 512 B, 4.1 GB, 212 MB.
func formatBytes(n int64) string {
	value, unit := float64(n), 0
	for units := len(byteUnits) - 1; math.Abs(value) >= 999.5 && unit < units; unit++ {
		value /= 1000
	}
	if unit == 0 {
		return strconv.FormatInt(n, 10) + " B"
	}
	decimals := 1
	if math.Abs(value) >= 99.95 {
		decimals = 0
	}
	return strconv.FormatFloat(value, 'f', decimals, 64) + " " + byteUnits[unit]
}

var byteUnits = [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}

// formatNumber prints a number with thousands separated: 148,210.
func formatNumber[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	start := len(digits) % 3
	if n < 0 {
		start = (len(digits)-1)%3 + 1
	}
	var out strings.Builder
	out.WriteString(digits[:start])
	for i := start; i < len(digits); i += 3 {
		if i > 0 && digits[i-1] != '-' {
			out.WriteByte(',')
		}
		out.WriteString(digits[i : i+3])
	}
	return out.String()
}

// formatDuration prints a span in its two largest units: 1 min 40 s, 3 d 4 h.
func formatDuration(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	if d < 950*time.Millisecond && d > 0 {
		return strconv.FormatFloat(math.Max(d.Seconds(), 0.1), 'f', 1, 64) + " s"
	}
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return units(s, "s", 0, "")
	case s < 3600:
		return units(s/60, "min", s%60, "s")
	case s < 86400:
		return units(s/3600, "h", s%3600/60, "min")
	default:
		return units(s/86400, "d", s%86400/3600, "h")
	}
}

func units(large int64, name string, small int64, smallName string) string {
	text := strconv.FormatInt(large, 10) + " " + name
	if small > 0 {
		text += " " + strconv.FormatInt(small, 10) + " " + smallName
	}
	return text
}

// formatSeconds is formatDuration for a number of seconds.
func formatSeconds[N float64 | int64](s N) string {
	return formatDuration(time.Duration(float64(s) * float64(time.Second)))
}

// formatAgo prints how long ago a moment was. The script does the same.
func formatAgo(d time.Duration) string {
	switch {
	case d < 5*time.Second:
		return "just now"
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s ago"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + " min ago"
	case d < 24*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " h ago"
	case d < 14*24*time.Hour:
		return formatDuration(d.Truncate(time.Hour)) + " ago"
	default:
		return strconv.Itoa(int(d/(24*time.Hour))) + " d ago"
	}
}

// formatRatio prints a part of one as percent: 41 %, 0.3 %.
func formatRatio(part float64) string {
	decimals := 0
	if part > 0 && part < 0.0995 {
		decimals = 1
	}
	return strconv.FormatFloat(part*100, 'f', decimals, 64) + " %"
}

func plural[N int | int64](n N, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// prose is text in which `this` is code. Everything else is escaped.
func prose(text string) template.HTML {
	parts := strings.Split(text, "`")
	if len(parts)%2 == 0 { // a lone backtick is only that
		last := len(parts) - 1
		parts = append(parts[:last-1], parts[last-1]+"`"+parts[last])
	}
	var out strings.Builder
	for i, part := range parts {
		part = html.EscapeString(part)
		if i%2 == 1 {
			part = "<code>" + part + "</code>"
		}
		out.WriteString(part)
	}
	return template.HTML(out.String()) //nolint:gosec // every part was escaped
}

var capital = regexp.MustCompile(`^[a-z]+[ ,]`)

// sentence is prose that begins with a capital, unless it begins with the name
// of a field or a program.
func sentence(text string) template.HTML {
	if capital.MatchString(text) && !strings.HasPrefix(text, "borg") {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	return prose(text)
}

// instant is how times are told to the script.
const instant = "2006-01-02T15:04:05.000Z07:00"

// clock prints times as of one moment. The text is UTC; the script puts the
// reader's own zone in its place.
type clock struct{ now time.Time }

// Now is the moment of this rendering, to the second.
func (c clock) Now() template.HTML { return stamp(c.now, "clock", c.now.Format("15:04:05")) }

// Instant is the moment of this rendering, for the script.
func (c clock) Instant() string { return c.now.Format(instant) }

// Ago is how long ago t was.
func (c clock) Ago(t time.Time) template.HTML { return stamp(t, "ago", formatAgo(c.now.Sub(t))) }

// Span is the time from t until now; the script counts it on.
func (c clock) Span(t time.Time) template.HTML {
	return stamp(t, "span", formatDuration(c.now.Sub(t).Truncate(time.Second)))
}

// When is the hour and minute of t, with the day if that is not today.
func (c clock) When(t time.Time) template.HTML {
	return stamp(t, "when", c.day(t)+t.UTC().Format("15:04"))
}

// At is t to the second, with the day if that is not today.
func (c clock) At(t time.Time) template.HTML {
	return stamp(t, "at", c.day(t)+t.UTC().Format("15:04:05"))
}

// Date is the day of t.
func (c clock) Date(t time.Time) template.HTML { return stamp(t, "date", t.UTC().Format("2 Jan 2006")) }

// Fine is t to the millisecond, for logs.
func (c clock) Fine(t time.Time) template.HTML {
	return stamp(t, "fine", t.UTC().Format("15:04:05.000"))
}

func (c clock) day(t time.Time) string {
	t = t.UTC()
	switch {
	case t.Year() != c.now.Year():
		return t.Format("2 Jan 2006 ")
	case t.YearDay() != c.now.YearDay():
		return t.Format("2 Jan ")
	}
	return ""
}

// stamp is a time element; form tells the script how its text is made.
func stamp(t time.Time, form, text string) template.HTML {
	if t.IsZero() {
		return quietNone
	}
	t = t.UTC()
	return template.HTML(`<time datetime="` + t.Format(instant) + //nolint:gosec // digits and our own words
		`" title="` + t.Format("2006-01-02 15:04:05 UTC") + `" data-form="` + form + `">` + text + `</time>`)
}

// chip is a state as people see it: a colour, a symbol and a word.
type chip struct{ Class, Icon, Word string }

func newChip(class, icon, word string) chip { return chip{class, icon, word} }

func stateChip(state job.State) chip {
	switch state {
	case job.Succeeded:
		return chip{"ok", "ok", "succeeded"}
	case job.Warning:
		return chip{"warn", "warn", "warning"}
	case job.Failed:
		return chip{"fail", "fail", "failed"}
	case job.Running:
		return chip{"run", "run", "running"}
	case job.Expired:
		return chip{"warn", "warn", "expired"}
	case job.Sent:
		return chip{"idle", "sent", "sent"}
	case job.Cancelled:
		return chip{"idle", "stop", "cancelled"}
	default:
		return chip{"idle", "wait", string(state)}
	}
}

package web

import (
	"html"
	"html/template"
	"math"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// quietNone is human.None among figures.
const quietNone = template.HTML(`<span class="muted">` + human.None + `</span>`)

// helpers are the functions that templates use.
func helpers() template.FuncMap {
	return template.FuncMap{
		"bytes":   func(n any) string { return human.Bytes(whole(n)) },
		"number":  func(n any) string { return human.Count(whole(n)) },
		"seconds": human.Seconds[float64],
		"prose":   prose, "sentence": sentence, "unlabelled": unlabelled, "chip": stateChip, "mark": newChip,
		"hostURL": hostURL, "repoURL": repositoryURL, "jobURL": jobURL, "userURL": userURL,
		"planURL": planURL, "runURL": runURL,
		"archiveURL": archiveURL, "archivesURL": archivesURL,
		"noun": func(n any, noun string) string { return human.Noun(whole(n), noun) },
		"none": func() template.HTML { return quietNone },
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

var label = regexp.MustCompile(`^([a-z]+(?:_[a-z]+)*): `)

// unlabelled is a field's fault as it stands at that field: what is wrong, not
// where. "Is too short" begins with the field's name, in words.
func unlabelled(message string) string {
	found := label.FindStringSubmatch(message)
	if found == nil {
		return message
	}
	rest := message[len(found[0]):]
	if strings.HasPrefix(rest, "is ") || strings.HasPrefix(rest, "must ") {
		return "the " + strings.ReplaceAll(found[1], "_", " ") + " " + rest
	}
	return rest
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
func (c clock) Ago(t time.Time) template.HTML { return stamp(t, "ago", human.Ago(t, c.now)) }

// Span is the time from t until now; the script counts it on.
func (c clock) Span(t time.Time) template.HTML {
	return stamp(t, "span", human.Duration(c.now.Sub(t).Truncate(time.Second)))
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

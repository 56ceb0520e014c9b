package notify

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
)

// maxListed is how many alerts or runs one message lists. Of the others it says
// how many there are.
const maxListed = 100

// Status says why an alert is in a message.
type Status string

// Why alerts are in messages.
const (
	Raised   Status = "raised"   // it is new, or has become worse
	Repeated Status = "repeated" // it still holds
	Resolved Status = "resolved" // it is over
)

// Item is one alert in a message.
type Item struct {
	Status Status `json:"status"`
	fleet.Alert
}

// Message is what is sent: in words for people, and as it is for programs. See
// docs/notifications.md for the form in which webhooks get it.
type Message struct {
	Event   string      `json:"event"` // alerts, runs, test
	Subject string      `json:"subject"`
	Text    string      `json:"text"`
	URL     string      `json:"url"` // of the page that shows more; may be empty
	Alerts  []Item      `json:"alerts"`
	Runs    []fleet.Run `json:"runs"`
	More    int         `json:"more"`     // alerts or runs that are not listed
	LeftOut int         `json:"left_out"` // messages before this one that were never sent
}

func testMessage(target, page string) Message {
	return Message{
		Event: "test", Subject: "[borgfleet] test", URL: page, Alerts: []Item{}, Runs: []fleet.Run{},
		Text: fmt.Sprintf("This is a test of the target %s. Nothing has happened.", target),
	}
}

// alertMessage says what is to be told of alerts.
func alertMessage(items []Item, page string) Message {
	m := Message{Event: "alerts", Subject: subject(alertSubject(items)), Alerts: items, Runs: []fleet.Run{}}
	if page != "" {
		m.URL = strings.TrimSuffix(page, "/") + "/alerts"
	}
	if len(items) > maxListed {
		m.Alerts, m.More = items[:maxListed], len(items)-maxListed
	}
	var text strings.Builder
	for _, item := range m.Alerts {
		fmt.Fprintf(&text, "%s: %s\n", label(item), item.Message)
		if item.Status != Resolved && item.Hint != "" {
			fmt.Fprintf(&text, "    %s\n", item.Hint)
		}
		fmt.Fprintf(&text, "    %s\n", since(item))
	}
	m.Text = finish(&text, m, "alerts")
	return m
}

// label begins what is said of an alert.
func label(item Item) string {
	switch item.Status {
	case Resolved:
		return "resolved"
	case Repeated:
		return "still " + string(item.Severity)
	default:
		return string(item.Severity)
	}
}

// since says from when to when an alert held.
func since(item Item) string {
	words := "since " + item.Since.UTC().Format(time.DateTime) + " UTC"
	if item.ResolvedAt != nil {
		words = fmt.Sprintf("from %s to %s UTC", item.Since.UTC().Format(time.DateTime), item.ResolvedAt.UTC().Format(time.DateTime))
	}
	for _, pair := range [][2]string{{"plan", item.Plan}, {"host", item.Host}, {"repository", item.Repository}, {"job", string(item.Job)}} {
		if pair[1] != "" {
			words += ", " + pair[0] + " " + pair[1]
		}
	}
	return words
}

// maxSubject is about as long as a line of a header may be.
const maxSubject = 300

// subject makes a subject of a text, which may hold words of a host: in a mail, or
// in a header of HTTP, a line end would be the end of the subject.
func subject(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	return "[borgfleet] " + shorten(strings.Join(strings.Fields(text), " "), maxSubject)
}

func alertSubject(items []Item) string {
	if len(items) == 1 {
		return label(items[0]) + ": " + items[0].Message
	}
	counts, worst := map[Status]int{}, fleet.SeverityInfo
	for _, item := range items {
		counts[item.Status]++
		if item.Status != Resolved && item.Severity.AtLeast(worst) {
			worst = item.Severity
		}
	}
	var parts []string
	for _, status := range []Status{Raised, Repeated, Resolved} {
		if n := counts[status]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, map[Status]string{Raised: "new", Repeated: "still there", Resolved: "resolved"}[status]))
		}
	}
	subject := fmt.Sprintf("%d alerts: %s", len(items), strings.Join(parts, ", "))
	if counts[Resolved] < len(items) {
		subject = string(worst) + ": " + subject
	}
	return subject
}

// runMessage says how runs of plans stand.
func runMessage(runs []fleet.Run, page string) Message {
	m := Message{Event: "runs", Alerts: []Item{}, Runs: runs}
	if len(runs) > maxListed {
		m.Runs, m.More = runs[:maxListed], len(runs)-maxListed
	}
	if page != "" {
		m.URL = strings.TrimSuffix(page, "/") + "/plans"
		if len(runs) == 1 {
			m.URL += "/" + runs[0].Plan
		}
	}
	m.Subject = subject(runLine(runs[0]))
	if len(runs) > 1 {
		m.Subject = fmt.Sprintf("[borgfleet] %s of plans", human.Plural(len(runs), "run"))
	}
	var text strings.Builder
	for _, run := range m.Runs {
		fmt.Fprintln(&text, runLine(run))
		for i, task := range run.Tasks {
			if run.FinishedAt == nil || i == maxListed {
				break
			}
			fmt.Fprintf(&text, "    %s on %s into %s: %s%s\n", task.Kind, task.Host, task.Repository, task.State, because(task.Reason))
		}
	}
	m.Text = finish(&text, m, "runs")
	return m
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

func runLine(run fleet.Run) string {
	if run.FinishedAt == nil {
		return fmt.Sprintf("%s has begun on %s", run.Plan, human.Plural(len(hostsOf(run)), "host"))
	}
	return fmt.Sprintf("%s %s after %s", run.Plan, run.State, human.Duration(run.FinishedAt.Sub(run.StartedAt)))
}

// hostsOf returns the hosts of a run, by name.
func hostsOf(run fleet.Run) map[string]bool {
	hosts := map[string]bool{}
	for _, task := range run.Tasks {
		hosts[task.Host] = true
	}
	return hosts
}

// finish ends a text with what is not in it, and where to see it.
func finish(text *strings.Builder, m Message, noun string) string {
	if m.More > 0 {
		fmt.Fprintf(text, "and %d more %s\n", m.More, noun)
	}
	if m.URL != "" {
		fmt.Fprintf(text, "\n%s\n", m.URL)
	}
	return strings.TrimRight(text.String(), "\n")
}

// after adds to a message how many before it were left out.
func after(m Message, leftOut int) Message {
	if leftOut > 0 {
		m.LeftOut = leftOut
		m.Text += fmt.Sprintf("\n\n%s before this one could not be sent, and were left out.", human.Plural(leftOut, "message"))
	}
	return m
}

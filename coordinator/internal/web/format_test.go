package web_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/web"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 512: "512 B", 999: "999 B", 1000: "1.0 kB", 99_949: "99.9 kB", 99_960: "100 kB", 212_000_000: "212 MB",
		999_600: "1.0 MB", 999_999: "1.0 MB", 4_120_000_000: "4.1 GB", 31_400_000_000: "31.4 GB", 402_000_000_000: "402 GB", 1 << 62: "4.6 EB", -5: "-5 B",
	} {
		if got := web.FormatBytes(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 148_210: "148,210", 1_000_000: "1,000,000", -1: "-1", -123: "-123", -1234: "-1,234", -123_456: "-123,456",
	} {
		if got := web.FormatNumber(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration][2]string{ // as a span, as an age
		0:                                       {"0 s", "just now"},
		-time.Second:                            {"0 s", "just now"},
		400 * time.Millisecond:                  {"0.4 s", "just now"},
		20 * time.Millisecond:                   {"0.1 s", "just now"},
		6 * time.Second:                         {"6 s", "6 s ago"},
		100 * time.Second:                       {"1 min 40 s", "1 min ago"},
		2 * time.Minute:                         {"2 min", "2 min ago"},
		59*time.Minute + 59700*time.Millisecond: {"1 h", "59 min ago"},
		64 * time.Minute:                        {"1 h 4 min", "1 h ago"},
		35 * time.Hour:                          {"1 d 11 h", "1 d 11 h ago"},
		76 * time.Hour:                          {"3 d 4 h", "3 d 4 h ago"},
		600 * time.Hour:                         {"25 d", "25 d ago"},
	} {
		if span, age := web.FormatDuration(d), web.FormatAgo(d); span != want[0] || age != want[1] {
			t.Errorf("%v: got %q and %q, want %q", d, span, age, want)
		}
	}
}

func TestRatio(t *testing.T) {
	for part, want := range map[float64]string{0: "0 %", 0.0068: "0.7 %", 0.0996: "10 %", 0.41: "41 %", 1: "100 %"} {
		if got := web.FormatRatio(part); got != want {
			t.Errorf("%v: got %q, want %q", part, got, want)
		}
	}
}

func TestProse(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                   "plain",
		"run `borg list <x>` now": "run <code>borg list &lt;x&gt;</code> now",
		"a lone ` here":           "a lone ` here",
		"`a` and ` alone":         "<code>a</code> and ` alone",
		"<b>&":                    "&lt;b&gt;&amp;",
		"`":                       "`",
		"":                        "",
	} {
		if got := string(web.Prose(text)); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestSentence(t *testing.T) {
	for text, want := range map[string]string{
		"no space left":         "No space left",
		"paths[0]: is relative": "paths[0]: is relative",
		"borgfleet job list":    "borgfleet job list",
		"Already":               "Already",
		"":                      "",
	} {
		if got := string(web.Sentence(text)); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"/etc": "/etc", "zstd,3": "zstd,3", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$(reboot)": "'$(reboot)'", "*.log": "'*.log'", "a;b": "'a;b'",
	} {
		if got := web.Quote(word); got != want {
			t.Errorf("%q: got %s, want %s", word, got, want)
		}
	}
}

// The script prints each kind of time that the server prints.
func TestScriptKnowsEveryForm(t *testing.T) {
	script := static(t, "page.js")
	pages := ""
	for _, address := range addresses() {
		pages += rich().get(t, address).Body.String()
	}
	forms := map[string]bool{}
	for _, match := range regexp.MustCompile(`data-form="([a-z]+)"`).FindAllStringSubmatch(pages, -1) {
		forms[match[1]] = true
	}
	if len(forms) != 7 {
		t.Errorf("the pages use %d forms of times, want all 7: %v", len(forms), forms)
	}
	for form := range forms {
		if !strings.Contains(script, "    "+form+": ") {
			t.Errorf("page.js does not know the form %q", form)
		}
	}
}

func TestScriptIsSmall(t *testing.T) {
	if n := strings.Count(static(t, "page.js"), "\n"); n >= 200 {
		t.Errorf("page.js has %d lines, want fewer than 200", n)
	}
}

func static(t *testing.T, name string) string {
	t.Helper()
	content, err := web.StaticFiles.ReadFile("static/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

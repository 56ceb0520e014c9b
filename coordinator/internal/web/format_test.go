package web_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/web"
)

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

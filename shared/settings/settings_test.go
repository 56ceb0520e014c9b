package settings_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/settings"
)

type config struct {
	Name  string `yaml:"name"`
	Inner struct {
		Count int `yaml:"count"`
		Other int `yaml:"other"`
	} `yaml:"inner"`
}

func defaults() config {
	c := config{Name: "default"}
	c.Inner.Count, c.Inner.Other = 1, 2
	return c
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadOverlays(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want func(*config)
	}{
		"nothing":       {"", func(*config) {}},
		"only comments": {"# name: x\n", func(*config) {}},
		"null":          {"null\n", func(*config) {}},
		"one key":       {"name: x\n", func(c *config) { c.Name = "x" }},
		"nested key":    {"inner: {count: 5}\n", func(c *config) { c.Inner.Count = 5 }},
	} {
		t.Run(name, func(t *testing.T) {
			got, want := defaults(), defaults()
			c.want(&want)
			if err := settings.Load(write(t, c.text), "", &got); err != nil || got != want {
				t.Errorf("%+v (%v), want %+v", got, err, want)
			}
		})
	}
}

func TestLoadRefusesAndChangesNothing(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"unknown key":        {"name: x\ncolour: red\n", "colour"},
		"unknown nested key": {"name: x\ninner: {size: 1}\n", "size"},
		"wrong type":         {"name: x\ninner: {count: many}\n", "count"},
		"not YAML":           {"name: [\n", "file.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			got := defaults()
			err := settings.Load(write(t, c.text), "", &got)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v does not say %q", err, c.says)
			}
			if got != defaults() {
				t.Errorf("changed to %+v", got)
			}
		})
	}
}

func TestFaultsArePutInOneLine(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":       {"name: x\ncolour: red\n", `, line 2: unknown field "colour": colour: red`},
		"wrong type":        {"name: x\ninner:\n  count: many\n", ", line 3: the key takes a whole number: count: many"},
		"keys expected":     {"inner: 7\n", ", line 1: int was used where mapping is expected: inner: 7"},
		"time without unit": {"wait: 5\n", ", line 1: the key takes a time, such as 90s: wait: 5"},
		"no time":           {"wait: 5 minutes\n", `"5 minutes"`},
		"given twice":       {"name: x\nname: y\n", ", line 2: "},
		"not YAML":          {"a: b: c\n", ", line 1: "},
	} {
		t.Run(name, func(t *testing.T) {
			var got struct {
				Name  string
				Inner struct{ Count int }
				Wait  time.Duration
			}
			err := settings.Load(write(t, c.text), "", &got)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n>^") || strings.Contains(err.Error(), "Go struct") {
				t.Errorf("%v\nwant one line with %q", err, c.want)
			}
		})
	}
}

func TestOnlyTheFallbackMayBeAbsent(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent.yaml")
	got := defaults()
	if err := settings.Load("", absent, &got); err != nil || got != defaults() {
		t.Errorf("%+v, %v", got, err)
	}
	if err := settings.Load(absent, "", &got); err == nil {
		t.Error("a named file that is absent was accepted")
	}
	if err := settings.Load("", write(t, "name: y\n"), &got); err != nil || got.Name != "y" {
		t.Errorf("%+v, %v", got, err)
	}
}

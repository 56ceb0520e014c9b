package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/config"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "coordinator.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSampleIsTheDefault(t *testing.T) {
	got, err := config.Load("../../../deploy/coordinator.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Default(), got); diff != "" {
		t.Errorf("the sample differs from the defaults (-default +sample):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the sample is not valid: %v", err)
	}
}

func TestLoadOverlaysTheDefaults(t *testing.T) {
	got, err := config.Load(write(t, "data: /srv/bf\nhistory: {keep: 36h}\nlimits: {running: 7}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Data, want.Limits.Running, want.History.Keep = "/srv/bf", 7, config.Duration(36*time.Hour)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyFileIsTheDefault(t *testing.T) {
	got, err := config.Load(write(t, "# nothing\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Default(), got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":     {"limits:\n  runing: 3\n", "runing"},
		"wrong type":      {"limits: {running: many}\n", "running"},
		"not yaml":        {"data: [\n", "coordinator.yaml"},
		"bad duration":    {"history: {keep: soon}\n", "soon"},
		"unknown section": {"web: {}\n", "web"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(write(t, c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not name %q", err, c.want)
			}
		})
	}
	if _, err := config.Load(filepath.Join(t.TempDir(), "absent.yaml")); err == nil {
		t.Error("a named file that is absent was accepted")
	}
}

func TestValidateReportsEveryFault(t *testing.T) {
	c := config.Default()
	c.Data, c.HTTP.Listen, c.Bus.Listen = "relative", "0.0.0.0:8440", "127.0.0.1:x"
	c.Limits.Running, c.Log.Level, c.History.Keep = 0, "loud", 0
	err := c.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"data:", "http.listen:", "bus.listen:", "limits.running:", "log.level:", "history.keep:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("fault of %s is missing in:\n%v", want, err)
		}
	}
}

func TestExternalBusNeedsItsFiles(t *testing.T) {
	c := config.Default()
	c.Bus.External.URLs = []string{"nats://127.0.0.1:4223"}
	c.Bus.Listen = "ignored"
	err := c.Validate()
	if err == nil || !strings.Contains(err.Error(), "bus.external.signing_key_file") || strings.Contains(err.Error(), "bus.listen") {
		t.Errorf("unexpected: %v", err)
	}
}

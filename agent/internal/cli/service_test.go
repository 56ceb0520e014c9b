package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/agent/internal/cli"
)

func TestTheUnitIsThatOfDeploy(t *testing.T) {
	want, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "borgfleet-agent.service"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), cli.UnitText); diff != "" {
		t.Errorf("copy deploy/borgfleet-agent.service here again (-deploy +here):\n%s", diff)
	}
}

func TestStartingTheService(t *testing.T) {
	for name, present := range map[string]bool{"unit is missing": false, "unit is there": true} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			units, packaged, calls := filepath.Join(root, "etc"), filepath.Join(root, "lib"), filepath.Join(root, "calls")
			control := filepath.Join(root, "systemctl")
			for _, dir := range []string{units, packaged} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(control, []byte("#!/bin/sh\necho \"$@\" >>"+calls+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			if present {
				if err := os.WriteFile(filepath.Join(packaged, "borgfleet-agent.service"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			if err := cli.StartService(t.Context(), &out, []string{units, packaged}, control, "/opt/bin/borgfleet-agent"); err != nil {
				t.Fatal(err)
			}
			said, err := os.ReadFile(calls)
			want := "daemon-reload\nenable --quiet borgfleet-agent.service\nrestart borgfleet-agent.service\n"
			if err != nil || string(said) != want {
				t.Errorf("called %q, error %v", said, err)
			}
			text, err := os.ReadFile(filepath.Join(units, "borgfleet-agent.service"))
			if present != os.IsNotExist(err) {
				t.Errorf("unit of our own: %v", err)
			}
			if !present && !strings.Contains(string(text), "ExecStart=/opt/bin/borgfleet-agent run") {
				t.Errorf("unit:\n%s", text)
			}
		})
	}
}

func TestAFailingServiceManagerIsSaid(t *testing.T) {
	dir := t.TempDir()
	control := filepath.Join(dir, "systemctl")
	if err := os.WriteFile(control, []byte("#!/bin/sh\necho no bus >&2; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := cli.StartService(t.Context(), &bytes.Buffer{}, []string{dir}, control, "/opt/bin/borgfleet-agent")
	if err == nil || !strings.Contains(err.Error(), "no bus") || !strings.Contains(err.Error(), "the host is enrolled") {
		t.Errorf("error %v", err)
	}
}

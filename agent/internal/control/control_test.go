package control_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/agent/internal/control"
	"github.com/borgfleet/borgfleet/shared/job"
)

type answer struct{ Host string }

// serve answers on dir until the returned function is called.
func serve(t *testing.T, dir string) (stop func()) {
	t.Helper()
	server, err := control.Listen(dir, func() (any, error) { return answer{Host: "web1"}, nil }, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

func TestAsk(t *testing.T) {
	tests := map[string]string{
		"plain":     "",
		"long path": strings.Repeat("directory-", 20),
	}
	for name, sub := range tests {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), sub)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			stop := serve(t, dir)
			defer stop()
			var got answer
			if err := control.Ask(t.Context(), dir, &got); err != nil || got.Host != "web1" {
				t.Errorf("got %+v, error %v", got, err)
			}
			info, err := os.Stat(filepath.Join(dir, "agent.sock"))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("socket %v, error %v; want mode 0600", info, err)
			}
		})
	}
}

func TestAskNobody(t *testing.T) {
	dir := t.TempDir()
	stop := serve(t, dir)
	stop()
	for name, where := range map[string]string{"stopped": dir, "never there": filepath.Join(dir, "missing")} {
		t.Run(name, func(t *testing.T) {
			failure, ok := errors.AsType[*job.Failure](control.Ask(t.Context(), where, &answer{}))
			if !ok || failure.Code != job.Unavailable || failure.Hint == "" {
				t.Errorf("failure %+v; want unavailable with a hint", failure)
			}
		})
	}
}

func TestListenReplacesADeadSocket(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "agent.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stop := serve(t, dir)
	defer stop()
	if err := control.Ask(t.Context(), dir, &answer{}); err != nil {
		t.Error(err)
	}
}

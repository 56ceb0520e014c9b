package remote_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/remote"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// connect returns the kept connection to a real sshd.
func connect(t *testing.T, server *sshtest.Server) *sshlink.Client {
	t.Helper()
	client := sshlink.New(sshlink.Config{
		Host: "web1", Address: server.Address, HostKeys: []string{server.HostKey}, Signer: server.Signer,
	}, sshlink.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = client.Run(ctx) // it says what happens by its state
	}()
	t.Cleanup(func() { cancel(); <-ended })
	patience.Until(t, "a connection", func() bool { return client.State().Connected })
	return client
}

func TestExecutorOverSSH(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	client := connect(t, server)
	suite(t, func(t *testing.T) *remote.Host { return open(t, client, filepath.Join(t.TempDir(), odd)) })
}

// TestConnectionCut cuts the connection while a program runs, and starts another
// one meanwhile.
func TestConnectionCut(t *testing.T) {
	t.Parallel()
	server := sshtest.Start(t, sshtest.Options{})
	client := connect(t, server)
	h := open(t, client, t.TempDir())
	gate := t.TempDir()
	command := enginetest.Shell("job.1", `echo begun; while ! [ -e "$D/go" ]; do sleep 0.05; done; echo done`)
	command.Env = []string{"D=" + gate}
	testCut(t, h, command, gate, func() {
		server.Stop()
		patience.Until(t, "the end of the connection", func() bool { return !client.State().Connected })
		server.Restart()
		patience.Until(t, "another connection", func() bool {
			client.Poke()
			return client.State().Connected
		})
	})
}

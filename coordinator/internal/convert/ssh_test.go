package convert_test

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/convert"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// TestOverSSH converts a host over a real connection, and one that is cut while
// the agent is copied.
func TestOverSSH(t *testing.T) {
	server := sshtest.Start(t, sshtest.Options{})
	link := sshlink.New(sshlink.Config{
		Host: "web1", Address: server.Address, HostKeys: []string{server.HostKey}, Signer: server.Signer,
	}, sshlink.Options{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- link.Run(ctx) }()
	defer func() {
		stop()
		<-ended
	}()
	connected := func() bool { return link.State().Connected }
	patience.Until(t, "the host is connected", connected)
	s := newSite(t)
	s.shell = link
	var scripts atomic.Int32
	_, err := s.convert(func(o *convert.Options) {
		s.shell = execFunc(func(ctx context.Context, script string, input []byte, out, errs io.Writer) (int, error) {
			if scripts.Add(1) == 2 { // the copy
				server.Stop()
			}
			return link.Exec(ctx, script, input, out, errs)
		})
	})
	if err == nil || s.released[0] || s.read("bin/borgfleet-agent") != "" {
		t.Fatalf("a cut connection: %v, released %v", err, s.released)
	}
	if failure := job.AsFailure(err); failure.Code == job.Internal {
		t.Errorf("not for a person: %+v", failure)
	}
	server.Restart()
	link.Poke()
	patience.Until(t, "the host is connected again", connected)
	s.shell, s.released = link, nil
	began := time.Now()
	steps, err := s.convert()
	t.Logf("took %s", time.Since(began).Round(time.Millisecond))
	checkConverted(t, s, steps, err)
	if log := server.Log(); strings.Contains(log, tokenWord) {
		t.Error("the token is in sshd's log")
	}
}

type execFunc func(ctx context.Context, script string, input []byte, out, errs io.Writer) (int, error)

func (f execFunc) Exec(ctx context.Context, script string, input []byte, out, errs io.Writer) (int, error) {
	return f(ctx, script, input, out, errs)
}

package sshlink_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// echo sends back what it gets.
func echo(c net.Conn) {
	defer c.Close()
	io.Copy(c, c)
}

// through sends data to a port of loopback, and returns what comes back.
func through(port int, data []byte) ([]byte, error) {
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	go func() {
		c.Write(data)
		c.(*net.TCPConn).CloseWrite()
	}()
	return io.ReadAll(c)
}

func TestForward(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{})
	c := connect(t, config(s), sshlink.Options{})
	c.connected(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	port, err := c.Forward(ctx, echo)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	for range 3 {
		if got, err := through(port, data); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes of %d come back, or others: %v", len(got), len(data), err)
		}
	}
	second, err := c.Forward(t.Context(), echo)
	if err != nil || second == port {
		t.Errorf("another one has port %d, %v", second, err)
	}
	if got := answer(t, c.Client, "grep -ci ' 00000000:"+hex(port)+" ' /proc/net/tcp || :", ""); got != "0\n" {
		t.Error("it can be reached from elsewhere")
	}
	stop()
	patience.Until(t, "end with the context", func() bool {
		_, err := through(port, data)
		return err != nil
	})
	s.Drop()
	_, err = c.Forward(t.Context(), echo)
	if err != nil && job.AsFailure(err).Code != job.HostUnreachable { // it may be back
		t.Errorf("over a connection that broke it fails with %v", err)
	}
	patience.Until(t, "end with the connection", func() bool {
		_, err := through(second, data)
		return err != nil
	})
	c.until(t, "notice of the loss", func(sshlink.State) bool { return len(c.told()) > 1 })
	c.connected(t)
	third, err := c.Forward(t.Context(), echo)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := through(third, data); err != nil || !bytes.Equal(got, data) {
		t.Errorf("over a new connection %d bytes come back, %v", len(got), err)
	}
}

func hex(port int) string {
	text := strings.ToUpper(strconv.FormatInt(int64(port), 16))
	return strings.Repeat("0", 4-len(text)) + text
}

func TestForwardIsRefused(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{Config: []string{"AllowTcpForwarding no"}})
	c := connect(t, config(s), sshlink.Options{})
	_, err := sshlink.New(config(s), sshlink.Options{}).Forward(t.Context(), echo)
	wantFailure(t, err, job.HostUnreachable, "not connected yet")
	c.connected(t)
	_, err = c.Forward(t.Context(), echo)
	wantFailure(t, err, job.PermissionDenied, "AllowTcpForwarding", "web1")
}

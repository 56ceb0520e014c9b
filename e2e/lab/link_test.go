package lab_test

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
)

func TestCutLinkStallsAndGoesOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		cut            func(*lab.Link)
		toHub, fromHub bool // what still passes
	}{
		{"both", (*lab.Link).Cut, false, false},
		{"to hub", (*lab.Link).CutToHub, false, true},
		{"from hub", (*lab.Link).CutFromHub, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			m, whole := l.Machine("cut"), newWhole(t, l)
			server := listen(t, l)
			client := act(t, m, "dial", m.Link.Reach(server.address()))
			there := server.accept()
			client.say("before")
			there.await(t, 1)
			fmt.Fprintln(there, "before")
			client.await(0)

			c.cut(m.Link)
			client.say("meanwhile")
			fmt.Fprintln(there, "meanwhile")
			whole.exchange()
			for range 2 { // what passes now, and what has waited
				if c.toHub {
					there.await(t, 2)
				} else if there.heard() != 1 {
					t.Error("the machine was heard")
				}
				if c.fromHub {
					client.await(1)
				} else if client.heard() != 1 {
					t.Error("the machine heard")
				}
				m.Link.Heal()
				c.toHub, c.fromHub = true, true
			}
		})
	}
}

func TestConnectingOverACutLinkHangs(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	m, whole := l.Machine("cut"), newWhole(t, l)
	server := listen(t, l)
	address := m.Link.Reach(server.address())
	m.Link.Cut()
	client := act(t, m, "dial", address)
	client.say("hello")
	whole.exchange()
	select {
	case <-client.done:
		t.Fatalf("the client was told: %s", client.stderr.String())
	case <-server.incoming:
		t.Fatal("the client got through")
	default:
	}
	m.Link.Heal()
	server.accept().await(t, 1)
}

// whole is a machine whose link is whole, for comparison: while it exchanges
// this much, what could pass another link would.
type whole struct {
	client *program
	server *end
	n      int
}

func newWhole(t *testing.T, l *lab.Lab) *whole {
	t.Helper()
	m, server := l.Machine("whole"), listen(t, l)
	return &whole{client: act(t, m, "dial", m.Link.Reach(server.address())), server: server.accept()}
}

func (w *whole) exchange() {
	for range 10 {
		w.client.say("there")
		w.n++
		w.server.await(w.client.t, w.n)
		fmt.Fprintln(w.server, "back")
		w.client.await(w.n - 1)
	}
}

func TestMachinesReachEachOther(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	a, b, whole := l.Machine("a"), l.Machine("b"), newWhole(t, l)
	server := act(t, b, "serve", b.Address)
	address := server.await(0)
	client := act(t, a, "dial", a.Link.Reach(address))
	client.say("before")
	client.await(0)
	for i, cut := range []*lab.Link{a.Link, b.Link} {
		cut.Cut()
		client.say("meanwhile")
		whole.exchange()
		if client.heard() != i+1 {
			t.Error("the machines heard each other")
		}
		cut.Heal()
		client.await(i + 1)
	}
}

func TestReachesServerThatListensElsewhere(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0"} {
		l := lab.New(t)
		m := l.Machine("m")
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		client := act(t, m, "dial", m.Link.Reach(net.JoinHostPort(host, port)))
		connection, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(connection, "hello")
		client.await(0)
		_, _ = connection.Close(), listener.Close()
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	m := l.Machine("far")
	server := act(t, nil, "serve", l.Hub())
	client := act(t, m, "dial", m.Link.Relay(server.await(0)))
	client.say("near")
	client.await(0)
	const far = 50 * time.Millisecond
	m.Link.Delay(far)
	sent := time.Now()
	client.say("far")
	client.await(1)
	if took := time.Since(sent); took < 2*far {
		t.Errorf("there and back took %s", took)
	}
	m.Link.Delay(0)
	const lines = 20000
	go func() {
		for i := range lines {
			fmt.Fprintln(client.stdin, i)
		}
		_ = client.stdin.Close()
	}()
	<-client.done
	if client.err != nil || client.heard() != lines+2 {
		t.Fatalf("%d lines came back: %v", client.heard(), client.err)
	}
	for i := range lines {
		if got := client.await(i + 2); got != fmt.Sprint(i) {
			t.Fatalf("line %d came back as %s", i, got)
		}
	}
}

func TestRelayTellsOfTheEnd(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	m, server := l.Machine("m"), listen(t, l)
	address := m.Link.Relay(server.address())

	client := act(t, m, "dial", address)
	there := server.accept()
	fmt.Fprintln(there, "good bye")
	_ = there.Close()
	<-client.done
	if client.err != nil || client.heard() != 1 {
		t.Errorf("after an orderly end: %v, %d lines", client.err, client.heard())
	}

	client = act(t, m, "dial", address)
	there = server.accept()
	_ = there.Conn.(*net.TCPConn).SetLinger(0)
	_ = there.Close()
	<-client.done
	if client.err == nil {
		t.Error("a reset came as an orderly end")
	}

	client = act(t, m, "dial", address)
	there = server.accept()
	_ = client.cmd.Process.Kill()
	<-there.done

	_ = server.listener.Close()
	client = act(t, m, "dial", address)
	<-client.done
	if client.err == nil {
		t.Error("nobody listens, and the client was not told")
	}
}

func TestMachineEndsWithTheTest(t *testing.T) {
	t.Parallel()
	var pid int
	t.Run("scene", func(t *testing.T) {
		l := lab.New(t)
		if !l.Isolated() {
			t.Skip("machines are on loopback")
		}
		shell := start(t, l.Machine("m"), nil, "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!")
		if _, err := fmt.Sscan(shell.await(0), &pid); err != nil {
			t.Fatal(err)
		}
		<-shell.done
		if !exists(pid) {
			t.Fatal("it has ended too early")
		}
	})
	if pid == 0 {
		return
	}
	harness.Eventually(t, "the process to be gone, without a parent that waits for it", func() error {
		if exists(pid) {
			return fmt.Errorf("it is there")
		}
		return nil
	})
}

func exists(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}

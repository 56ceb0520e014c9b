package depot_test

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/depot"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// sending is a host that is in the middle of a backup, slowly.
func sending(t *testing.T, l *lab, c *client) *exec.Cmd {
	t.Helper()
	l.bulk(filepath.Join(c.dir, "bulk"), 60_000_000)
	cmd := c.borg("vault", "create", "--compression=none", "--upload-ratelimit=4000", "REPO::bulk", "bulk")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	errs, err := os.Create(filepath.Join(c.dir, "errors"))
	l.check(err)
	defer errs.Close()
	cmd.Stderr = errs
	l.check(cmd.Start())
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			cmd.Wait()
		}
	})
	patience.Until(t, "some of a backup to arrive", func() bool { return l.use("vault").Received > 3_000_000 })
	return cmd
}

func (c *client) complaint() string {
	text, _ := os.ReadFile(filepath.Join(c.dir, "errors"))
	return string(text)
}

// clean says that nothing of a visit is left.
func (l *lab) clean() {
	l.t.Helper()
	if pids := l.serving("vault"); len(pids) > 0 {
		l.t.Errorf("borg still serves: %v", pids)
	}
	if l.locked("vault") {
		l.t.Error("the repository is still locked")
	}
}

func TestEvictEndsABackup(t *testing.T) {
	t.Parallel()
	l, web := filled(t)
	cmd := sending(t, l, web)
	l.work("vault", true)
	began := time.Now()
	l.Evict("vault")
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	l.clean()
	l.local("vault", "list", "REPO")
	if err := cmd.Wait(); err == nil || !strings.Contains(web.complaint(), "the coordinator works on this repository now") {
		t.Errorf("the host's borg: %v: %s", err, web.complaint())
	}
	if said := run(t, web.borg("vault", "list", "REPO")); said.code != 2 || !strings.Contains(said.errors, "the coordinator works on this repository now") {
		t.Errorf("while the coordinator works: %d, %s", said.code, said.errors)
	}
	l.work("vault", false)
	web.do("vault", "create", "REPO::second", "etc")
	l.local("vault", "check", "REPO")
}

func TestWhatIsNoLongerGrantedEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*lab)
		says   string
	}{
		"nothing": {change: func(l *lab) { l.deny("web1", "vault") }, says: "host web1 may not use repository vault"},
		"less": {change: func(l *lab) {
			l.allow(fleet.DepotGrant{Host: "web1", Repository: "vault", AppendOnly: true})
		}, says: "no longer as it could"},
	} {
		t.Run(name, func(t *testing.T) {
			l, web := filledWith(t, func(s *depot.Server) { s.Hurry(10*time.Second, 10*time.Second, 200*time.Millisecond) })
			l.allow(fleet.DepotGrant{Host: "web1", Repository: "vault"})
			cmd := sending(t, l, web)
			l.allow(fleet.DepotGrant{Host: "web1", Repository: "vault", Quota: 1 << 30}) // is for the next visit
			test.change(l)
			if err := cmd.Wait(); err == nil || !strings.Contains(web.complaint(), test.says) {
				t.Errorf("the host's borg: %v: %s", err, web.complaint())
			}
			l.clean()
		})
	}
}

func TestAKilledClientLeavesNothing(t *testing.T) {
	t.Parallel()
	l, web := filled(t)
	cmd := sending(t, l, web)
	l.check(syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	cmd.Wait()
	patience.Until(t, "borg serve to end", func() bool { return len(l.serving("vault")) == 0 })
	patience.Until(t, "its visit to be over", func() bool { return l.use("vault").Open == 0 })
	l.clean()
}

func TestAFrozenClientIsNoticed(t *testing.T) {
	t.Parallel()
	l, web := filledWith(t, func(s *depot.Server) { s.Hurry(10*time.Second, 10*time.Second, 300*time.Millisecond) })
	cmd := sending(t, l, web)
	l.check(syscall.Kill(-cmd.Process.Pid, syscall.SIGSTOP))
	patience.Until(t, "borg serve to end", func() bool { return len(l.serving("vault")) == 0 })
	patience.Until(t, "its visit to be over", func() bool { return l.use("vault").Open == 0 })
	l.clean()
}

func TestABorgThatDoesNotEndIsKilled(t *testing.T) {
	t.Parallel()
	l, web := filled(t)
	sending(t, l, web)
	pids := l.serving("vault")
	if len(pids) != 1 {
		t.Fatalf("serving: %v", pids)
	}
	pid, err := strconv.Atoi(pids[0])
	l.check(err)
	l.check(syscall.Kill(pid, syscall.SIGSTOP)) // it hears nothing but SIGKILL
	l.work("vault", true)
	l.Evict("vault")
	if pids := l.serving("vault"); len(pids) > 0 {
		t.Errorf("borg still serves: %v", pids)
	}
	l.local("vault", "list", "REPO") // its lock is that of a process of this host, which is gone
	l.local("vault", "check", "REPO")
}

func TestTheEndOfTheServerEndsVisits(t *testing.T) {
	t.Parallel()
	l, web := filled(t)
	cmd := sending(t, l, web)
	l.check(l.end())
	l.clean()
	if err := cmd.Wait(); err == nil {
		t.Error("the host's borg ended well")
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("it still listens")
	}
}

func TestAConnectionFromElsewhere(t *testing.T) {
	t.Parallel()
	l, web := filled(t)
	way := sshtest.Start(t, sshtest.Options{})
	client, err := ssh.Dial("tcp", way.HostPort, &ssh.ClientConfig{
		User: way.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(way.Signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	l.check(err)
	defer client.Close()
	listener, err := client.Listen("tcp", "127.0.0.1:0") // on the host
	l.check(err)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go l.ServeConn(c, "the tunnel of host web1")
		}
	}()
	web.rsh = web.reach(listener.Addr().String())
	web.do("vault", "create", "REPO::through", "etc")
	if got := l.archives("vault"); got != "first through" {
		t.Errorf("archives %q", got)
	}
	sending(t, l, web)
	client.Close()
	patience.Until(t, "borg serve to end", func() bool { return len(l.serving("vault")) == 0 })
	patience.Until(t, "its visit to be over", func() bool { return l.use("vault").Open == 0 })
	l.clean()
}

func TestAHostHasItsShareOfConnections(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	web, db := l.host("web1"), l.host("db1")
	var open []*ssh.Client
	for range depot.MaxPerHost {
		c, err := web.dial("vault")
		l.check(err)
		open = append(open, c)
	}
	serves := func(c *ssh.Client, err error) bool { // a login over the limit ends at once
		if err != nil {
			return false
		}
		defer c.Close()
		session, err := c.NewSession()
		if err != nil {
			return false
		}
		err = session.Run("borg serve") // refused, but answered
		_, answered := errors.AsType[*ssh.ExitError](err)
		return answered
	}
	if serves(web.dial("vault")) {
		t.Error("one more connection was served")
	}
	if !serves(db.dial("vault")) {
		t.Error("another host was not served")
	}
	open[0].Close()
	patience.Until(t, "a place to be free", func() bool { return serves(web.dial("vault")) })
}

// strangers connect from an address, and say nothing.
func (l *lab) strangers(n int, from string) {
	l.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	for range n {
		c, err := dialer.Dial("tcp", l.Addr().String())
		l.check(err)
		l.t.Cleanup(func() { c.Close() })
	}
}

// sentAway reports whether who connects from an address is not even greeted.
func (l *lab) sentAway(from string) bool {
	l.t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", l.Addr().String())
	l.check(err)
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	_, err = c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}

func TestStrangersAreWaitedFor(t *testing.T) {
	t.Parallel()
	l, web := filledWith(t, func(s *depot.Server) { s.Hurry(5*time.Second, time.Minute, time.Minute) })
	l.strangers(depot.MaxAttended, "127.0.0.1")
	web.do("vault", "list", "REPO")
}

// Nobody who only connects keeps others out, however often that is.
func TestOneAddressDoesNotCrowdOthersOut(t *testing.T) {
	t.Parallel()
	l := newLabWith(t, func(s *depot.Server) { s.Hurry(time.Minute, time.Minute, time.Minute) })
	web := l.host("web1")
	l.strangers(depot.MaxPerAddress, "127.0.0.2")
	patience.Until(t, "one more of the address to be sent away", func() bool { return l.sentAway("127.0.0.2") })
	l.strangers(depot.MaxStrangers, "127.0.0.2")
	if said := run(t, web.ssh("vault", "borgfleet-depot", "borg serve")); !strings.Contains(said.errors, "may not use repository") {
		t.Errorf("a host elsewhere: %+v", said)
	}
}

// What a tunnel brings is counted as the tunnel's, wherever its other end says
// that it is from.
func TestATunnelIsOneAddress(t *testing.T) {
	t.Parallel()
	l := newLabWith(t, func(s *depot.Server) { s.Hurry(time.Minute, time.Minute, time.Minute) })
	ended := make(chan struct{}, depot.MaxPerAddress+1)
	for range depot.MaxPerAddress + 1 {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { theirs.Close() })
		go func() {
			l.ServeConn(ours, "the tunnel of host web1")
			ended <- struct{}{}
		}()
	}
	<-ended
	select {
	case <-ended:
		t.Error("two were sent away")
	default:
	}
}

func TestThereIsAnEndOfStrangers(t *testing.T) {
	t.Parallel()
	l := newLabWith(t, func(s *depot.Server) { s.Hurry(time.Minute, time.Minute, time.Minute) })
	for i := range depot.MaxStrangers / depot.MaxPerAddress {
		l.strangers(depot.MaxPerAddress, "127.0.1."+strconv.Itoa(i+1))
	}
	patience.Until(t, "one more to be sent away", func() bool { return l.sentAway("127.0.0.1") })
}

func TestThereIsAnEndOfConnections(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	dialed := 0
	for i := range depot.MaxConnections / depot.MaxPerHost {
		host := l.host("web" + strconv.Itoa(i))
		for range depot.MaxPerHost {
			_, err := host.dial("vault")
			l.check(err)
			dialed++
		}
	}
	c, err := l.host("db1").dial("vault")
	if err != nil {
		return
	}
	over := make(chan error, 1)
	go func() { over <- c.Wait() }()
	select {
	case <-over:
	case <-time.After(30 * time.Second):
		t.Errorf("%d connections, and one more stayed", dialed)
	}
}

func TestAConnectionIsForOneBorg(t *testing.T) {
	t.Parallel()
	l, web := filled(t)
	c, err := web.dial("vault")
	l.check(err)
	first, err := c.NewSession()
	l.check(err)
	input, err := first.StdinPipe()
	l.check(err)
	l.check(first.Start("borg serve"))
	if _, err := c.NewSession(); err == nil || !strings.Contains(err.Error(), "one borg for each connection") {
		t.Errorf("a second session: %v", err)
	}
	if ok, err := first.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{"borg serve"})); ok || err != nil {
		t.Errorf("a second command: %t, %v", ok, err)
	}
	for _, request := range []string{"pty-req", "x11-req", "auth-agent-req@openssh.com", "env", "signal"} {
		if ok, err := first.SendRequest(request, true, nil); ok || err != nil {
			t.Errorf("%s: %t, %v", request, ok, err)
		}
	}
	l.check(input.Close())
	l.check(first.Wait())
}

func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	l, web := filledWith(t, func(s *depot.Server) { s.Hurry(10*time.Second, 300*time.Millisecond, time.Minute) })
	c, err := web.dial("vault")
	l.check(err)
	over := make(chan error, 1)
	go func() { over <- c.Wait() }()
	select {
	case <-over:
	case <-time.After(30 * time.Second):
		t.Error("a connection that asks for nothing did not end")
	}
	if _, err := ssh.Dial("tcp", l.Addr().String(), &ssh.ClientConfig{
		User: "vault", Auth: []ssh.AuthMethod{ssh.Password("secret")}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	}); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("a password: %v", err)
	}
}

package sshhost_test

import (
	"crypto/rand"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestDepotUnderGarbage has many clients that say nothing, or nonsense, for as
// long as they are let, while a host backs up.
func TestDepotUnderGarbage(t *testing.T) {
	w := newWorld(t)
	h := w.host("web1")
	w.repository("main", "depot", "--host", "web1")
	harness.MakeTree(t, h.files, 2, 1<<10)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 40 {
		clients.Go(func() { babble(w.depot, i, stop) })
	}
	for range 3 {
		w.c.Await(w.backup(h, "main", nil).ID, job.Succeeded)
	}
	close(stop)
	clients.Wait()
	if !w.c.Alive() {
		t.Error("the coordinator has ended")
	}
}

// babble connects again and again, and sends what no client would.
func babble(address string, kind int, stop <-chan struct{}) {
	noise := make([]byte, 4096)
	for {
		select {
		case <-stop:
			return
		default:
		}
		connection, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		_, _ = rand.Read(noise)
		_ = connection.SetDeadline(time.Now().Add(time.Second))
		switch kind % 4 {
		case 0: // silent
		case 1:
			_, _ = connection.Write(noise)
		case 2:
			_, _ = connection.Write(append([]byte("SSH-2.0-OpenSSH_9.2\r\n"), noise...))
		case 3:
			_, _ = connection.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		}
		_, _ = io.Copy(io.Discard, connection)
		_ = connection.Close()
	}
}

// TestDepotTakesNothingButBorg tries what an ssh server may be asked for, with a
// key that it knows.
func TestDepotTakesNothingButBorg(t *testing.T) {
	w := newWorld(t)
	h := w.host("web1")
	w.repository("main", "depot", "--host", "web1")
	harness.MakeTree(t, h.files, 1, 100)
	w.c.Await(w.backup(h, "main", nil).ID, job.Succeeded)
	i := w.intruder(h)
	for name, args := range map[string][]string{
		"a shell":     {"main@borgfleet-depot"},
		"a command":   {"main@borgfleet-depot", "id"},
		"a subsystem": {"-s", "main@borgfleet-depot", "sftp"},
		"a forward":   {"-W", "127.0.0.1:22", "main@borgfleet-depot"},
		"a listener":  {"-o", "ExitOnForwardFailure=yes", "-N", "-R", "127.0.0.1:0:127.0.0.1:22", "main@borgfleet-depot"},
		"an unknown":  {"nobody@borgfleet-depot", "borg serve"},
	} {
		if r := i.ssh(args...); r.Code == 0 || strings.Contains(r.Stdout, "uid=") {
			t.Errorf("%s: exit code %d\n%s", name, r.Code, r.Stdout)
		}
	}
	if r := i.borg("list", mine); r.Code != 0 {
		t.Errorf("borg itself: %s", r.Stderr)
	}
	for _, location := range []string{"ssh://main@borgfleet-depot/./other", "ssh://main@borgfleet-depot/etc", "ssh://main@borgfleet-depot" + w.c.Data} {
		if r := i.borg("init", "--encryption=none", location); r.Code == 0 {
			t.Errorf("a repository was made at %s", location)
		}
	}
}

package depot_test

import (
	"context"
	"crypto/ed25519"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/depot"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// toBeKilled names, for the process that is killed, where it keeps its things.
const toBeKilled = "BORGFLEET_DEPOT_TO_BE_KILLED"

// A borg that is busy does not notice that its input is over, and what it has
// read of that it still does, when the next coordinator knows of no visit.
func TestNoBorgOutlivesTheCoordinator(t *testing.T) {
	if dir := os.Getenv(toBeKilled); dir != "" {
		serveUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	pid := filepath.Join(dir, "pid")
	script := "#!/bin/sh\necho $$ >'" + pid + ".new' && mv '" + pid + ".new' '" + pid + "' && exec sleep 1000\n"
	if err := os.WriteFile(filepath.Join(dir, "borg"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoBorgOutlivesTheCoordinator$")
	cmd.Env = append(os.Environ(), toBeKilled+"="+dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	patience.Until(t, "borg to serve", func() bool {
		_, err := os.Stat(pid)
		return err == nil
	})
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()                                     // it was killed
	patience.Until(t, "borg to be gone", func() bool { // or dead, where nobody waits for it
		words, _ := os.ReadFile("/proc/" + strings.TrimSpace(string(text)) + "/cmdline")
		return len(words) == 0
	})
}

// serveUntilKilled is a depot with a visitor.
func serveUntilKilled(t *testing.T, dir string) {
	server, err := depot.New(depot.Options{
		Listen: "127.0.0.1:0", Path: filepath.Join(dir, "depot"), Borg: filepath.Join(dir, "borg"), KeyFile: filepath.Join(dir, "key"),
		Grant: func(_, repository string) (fleet.DepotGrant, *job.Failure) {
			return fleet.DepotGrant{Host: "web1", Repository: repository}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go server.Run(context.Background())
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", server.Addr().String(), &ssh.ClientConfig{
		User: "vault", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		t.Fatal(err)
	}
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	t.Fatal(session.Run("borg serve"))
}

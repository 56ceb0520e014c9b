package depot_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/depot"
)

// What a real borg says passes, wherever it is split: byte by byte is at every
// place.
func TestGuardTakesWhatBorgSays(t *testing.T) {
	dir := t.TempDir()
	tee := filepath.Join(dir, "rsh")
	for path, text := range map[string]string{
		tee:                               "#!/bin/sh\ntee '" + dir + "'/said.$$ | borg serve\n",
		filepath.Join(dir, "etc", "motd"): strings.Repeat("hello ", 100_000),
		filepath.Join(dir, "etc", "none"): "",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		args    []string
		refused bool
	}{
		{[]string{"init", "--encryption=repokey", "REPO"}, true},
		{[]string{"create", "--json", "--log-json", "--progress", "REPO::first", "etc"}, false},
		{[]string{"list", "--json", "REPO"}, false},
		{[]string{"extract", "--dry-run", "REPO::first"}, false},
		{[]string{"check", "REPO"}, false},
		{[]string{"prune", "--keep-last=1", "REPO"}, false},
		{[]string{"delete", "REPO::first"}, false},
		{[]string{"compact", "REPO"}, false},
		{[]string{"break-lock", "REPO"}, true},
	} {
		said := overheard(t, dir, tee, step.args)
		var passed bytes.Buffer
		guard := depot.NewGuard(&passed)
		var err error
		for i := 0; i < len(said) && err == nil; i++ {
			_, err = guard.Write(said[i : i+1])
		}
		switch {
		case step.refused && err == nil:
			t.Errorf("borg %s passed", step.args[0])
		case !step.refused && (err != nil || !bytes.Equal(passed.Bytes(), said)):
			t.Errorf("borg %s: %v, %d of %d bytes passed", step.args[0], err, passed.Len(), len(said))
		}
	}
}

// overheard returns what a borg on a host has said to the one that serves it.
func overheard(t *testing.T, dir, rsh string, args []string) []byte {
	t.Helper()
	for i := range args {
		args[i] = strings.Replace(args[i], "REPO", "ssh://server"+dir+"/vault", 1)
	}
	cmd := exec.Command("borg", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "BORG_BASE_DIR="+filepath.Join(dir, "borg"), "BORG_RSH="+rsh, "BORG_PASSPHRASE=secret")
	if said := run(t, cmd); said.code != 0 {
		t.Fatalf("borg %s: %d: %s", args, said.code, said.errors)
	}
	files, err := filepath.Glob(filepath.Join(dir, "said.*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("borg %s: overheard %v, %v", args, files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil || len(text) == 0 {
		t.Fatalf("borg %s: overheard %d bytes, %v", args, len(text), err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	return text
}

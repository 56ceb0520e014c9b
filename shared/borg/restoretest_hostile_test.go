package borg_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
)

// TestRestoreTestOfAHostileArchive tests an archive with a file below a link,
// and with a name that, taken for a pattern, is that of the link.
func TestRestoreTestOfAHostileArchive(t *testing.T) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	l.write("outside/evil", []byte("evil\n"))
	l.write("data/lin?", []byte("bait\n"))
	if err := os.Symlink(filepath.Join(l.root, "outside"), filepath.Join(l.root, "data/link")); err != nil {
		t.Fatal(err)
	}
	l.must(baseTask(l.root, job.BackupSpec{Paths: []string{l.root + "/data/lin?", l.root + "/data/link", l.root + "/data/link/evil"}}))
	evil := filepath.Join(l.root, "outside/evil")
	if err := os.Remove(evil); err != nil {
		t.Fatal(err)
	}
	for _, files := range []int{1, 100} {
		for seed := range int64(3) {
			end := outcomeOfRun(l, baseTask(l.root, job.RestoreTestSpec{Archive: withCanary(l).Archive, Files: files, Seed: seed}))
			if end.State != job.Succeeded || end.Result.Evidence.Files != 1 {
				t.Errorf("%s %v %+v", end.State, end.Failure, end.Result)
			}
			if _, err := os.Lstat(evil); !os.IsNotExist(err) {
				t.Fatalf("it wrote through a link: %v", err)
			}
			l.clean()
		}
	}
}

// TestRestoreTestWhereOthersWrite puts a link in the place of the scratch
// directory as soon as that is made, as whoever owns the one above can.
func TestRestoreTestWhereOthersWrite(t *testing.T) {
	l, _ := testLab(t)
	l.write("precious/file", []byte("precious\n"))
	l.script("bin/mktemp", `/usr/bin/mktemp "$@" | { read -r made; rmdir "$made"; ln -s "`+l.root+`/precious" "$made"; echo "$made"; }`)
	t.Setenv("PATH", filepath.Join(l.root, "bin")+":"+os.Getenv("PATH"))
	outcome := outcomeOfRun(l, baseTask(l.root, job.RestoreTestSpec{Archive: withCanary(l).Archive, Target: l.root + "/scratch"}))
	checkFailure(t, outcome, job.RefusedByHost)
	entries, err := os.ReadDir(filepath.Join(l.root, "precious"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "file" {
		t.Errorf("in the other directory is %v, %v", entries, err)
	}
}

// TestRestoreTestByAPlainName runs a borg that is looked up by its name.
func TestRestoreTestByAPlainName(t *testing.T) {
	l, test := testLab(t)
	l.env.Binary = "borg"
	if end := test(asIs); end.State != job.Succeeded {
		t.Errorf("%s %v", end.State, end.Failure)
	}
}

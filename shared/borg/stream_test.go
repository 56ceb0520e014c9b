package borg_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// What a download brings is what was backed up, whichever way it comes, and the
// same each time.
func TestDownloadedBytes(t *testing.T) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	withArchives(l)
	task := func(format job.DownloadFormat, path string) borg.Task {
		return baseTask(l.root, resolve(job.DownloadSpec{Archive: "web1-b", Path: path, Format: format}, l.root))
	}
	was, err := os.ReadFile(l.root + "/data/www/random.bin")
	if err != nil {
		t.Fatal(err)
	}
	if r := l.run(task(job.DownloadFile, "/data/www/random.bin"), nil); !bytes.Equal(r.stdout, was) {
		t.Errorf("%d bytes came, not the %d that were backed up", len(r.stdout), len(was))
	}
	first, again := l.run(task(job.DownloadTar, "/data/www"), nil), l.run(task(job.DownloadTar, "/data/www"), nil)
	if !bytes.Equal(first.stdout, again.stdout) {
		t.Error("a second tar differs from the first")
	}
	var names []string
	for in := tar.NewReader(bytes.NewReader(first.stdout)); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
		if content, err := io.ReadAll(in); err != nil || header.Typeflag == tar.TypeReg && !bytes.Equal(content, was) {
			t.Errorf("%s is not what it was: %v", header.Name, err)
		}
	}
	if len(names) != 2 {
		t.Errorf("the tar has %q", names)
	}
}

// Borg tells in three ways that nobody reads any more: not at all, as an error
// of its own, and as one of tar's.
func TestReaderGoesAway(t *testing.T) {
	l := newLab(t)
	l.write("data/www/large.bin", noise(4_000_000))
	l.must(baseTask(l.root, job.InitSpec{}))
	withArchives(l)
	for name, test := range map[string]struct {
		spec      job.Spec
		retryable bool
	}{
		"list": {job.ListSpec{Archive: "web1-b"}, true},
		"file": {job.DownloadSpec{Archive: "web1-b", Path: "/data/www/large.bin", Format: job.DownloadFile}, false},
		"tar":  {job.DownloadSpec{Archive: "web1-b", Path: "/data"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			task := baseTask(l.root, resolve(test.spec, l.root))
			cmd, passphrase := l.command(task)
			defer passphrase.Close()
			var said bytes.Buffer
			cmd.Stderr = &said
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdout = write
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			write.Close()
			read.Close()
			exit := wait(t, cmd)
			exit.Unread = name == "list" // the agent knows of the others as well, but they say it
			end, _ := parse(task, recording{stderr: said.Bytes(), exit: exit}, said.Len())
			checkFailure(t, end, job.ConnectionLost)
			if end.Failure.Retryable != test.retryable {
				t.Errorf("retryable is %v", end.Failure.Retryable)
			}
		})
	}
}

func TestUnreadStreams(t *testing.T) {
	download := baseTask(neutralRoot, job.DownloadSpec{Archive: "a", Path: "etc"})
	for name, exit := range map[string]borg.Exit{"well": {}, "by an error": {Code: 2}, "by a signal": {Code: 143}} {
		exit.Unread = true
		checkFailure(t, outcomeOf(download, "", exit), job.ConnectionLost)
		exit.Cancelled = true
		if end := outcomeOf(download, "", exit); end.State != job.Cancelled {
			t.Errorf("cancelled and ended %s: %s, %+v", name, end.State, end.Failure)
		}
	}
	broken := errorLine("Exception", "Local Exception") + errorLine("", traceback+"  File \"borg/remote.py\", line 1\nBrokenPipeError: [Errno 32] Broken pipe\n")
	if end := outcomeOf(download, broken, borg.Exit{Code: 2}); end.Failure == nil || !end.Failure.Retryable {
		t.Errorf("a broken link to the repository was taken for a missing reader: %+v", end.Failure)
	}
	if end := outcomeOf(baseTask(neutralRoot, job.CheckSpec{}), "", borg.Exit{Unread: true}); end.State != job.Succeeded {
		t.Errorf("nobody reads what a check prints: %s", end.State)
	}
}

// Data that is lost is told with the download, whose bytes are zeros there.
func TestDownloadOfDamage(t *testing.T) {
	said := logLine("INFO", "borg.output.list", "", "etc/a") + percentLine(1, "extract", 1, 500, 1000, " 50.0% Extracting: etc/a") +
		logLine("WARNING", "borg.archiver", "", "etc/a: File has damaged (all-zero) chunks. Try running borg check --repair.")
	spec := job.DownloadSpec{Archive: "a", Path: "etc/a", Format: job.DownloadFile}
	checkFailure(t, outcomeOf(baseTask(neutralRoot, spec), said, borg.Exit{Code: 1}), job.IntegrityError)
}

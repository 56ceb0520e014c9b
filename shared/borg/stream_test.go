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

// Borg tells in two ways that nobody reads any more: as an error of its own, and
// as one of tar's. What lists an archive does not tell it at all.
func TestReaderGoesAway(t *testing.T) {
	l := newLab(t)
	l.write("data/www/large.bin", noise(4_000_000))
	l.must(baseTask(l.root, job.InitSpec{}))
	withArchives(l)
	for name, spec := range map[string]job.DownloadSpec{
		"file": {Archive: "web1-b", Path: "/data/www/large.bin", Format: job.DownloadFile},
		"tar":  {Archive: "web1-b", Path: "/data"},
	} {
		t.Run(name, func(t *testing.T) {
			task := baseTask(l.root, resolve(spec, l.root))
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
			end, _ := parse(task, recording{stderr: said.Bytes(), exit: exit}, said.Len())
			checkFailure(t, end, job.ConnectionLost)
			if end.Failure.Retryable {
				t.Error("it would be tried again")
			}
		})
	}
}

func TestUnreadStreams(t *testing.T) {
	const broken = "BrokenPipeError: [Errno 32] Broken pipe\n"
	tell := func(trace string) string {
		return errorLine("Exception", "Local Exception") + errorLine("", traceback+trace+broken)
	}
	download := baseTask(neutralRoot, job.DownloadSpec{Archive: "a", Path: "etc"})
	for name, test := range map[string]struct {
		task      borg.Task
		trace     string
		retryable bool
	}{
		"a download without a reader":         {download, "", false},
		"a listing without a reader":          {baseTask(neutralRoot, job.ListSpec{Archive: "a"}), "", true},
		"a download that lost its repository": {download, "  File \"borg/remote.py\", line 1\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			end := outcomeOf(test.task, tell(test.trace), borg.Exit{Code: 2})
			checkFailure(t, end, job.ConnectionLost)
			if end.Failure.Retryable != test.retryable {
				t.Errorf("retryable is %v", end.Failure.Retryable)
			}
		})
	}
	if end := outcomeOf(download, tell(""), borg.Exit{Code: 2, Cancelled: true}); end.State != job.Cancelled {
		t.Errorf("cancelled: %s, %+v", end.State, end.Failure)
	}
}

// Data that is lost is told with the download, whose bytes are zeros there.
func TestDownloadOfDamage(t *testing.T) {
	said := logLine("INFO", "borg.output.list", "", "etc/a") + percentLine(1, "extract", 1, 500, 1000, " 50.0% Extracting: etc/a") +
		logLine("WARNING", "borg.archiver", "", "etc/a: File has damaged (all-zero) chunks. Try running borg check --repair.")
	spec := job.DownloadSpec{Archive: "a", Path: "etc/a", Format: job.DownloadFile}
	checkFailure(t, outcomeOf(baseTask(neutralRoot, spec), said, borg.Exit{Code: 1}), job.IntegrityError)
}

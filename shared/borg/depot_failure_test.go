package borg_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

func inDepot(task borg.Task) borg.Task {
	task.Repository.Name, task.Repository.Location = "vault", "ssh://vault@borgfleet-depot/./vault"
	return task
}

// TestDepotConnections is about what the depot, and ssh on the way there, say
// before borg's "connection closed".
func TestDepotConnections(t *testing.T) {
	tests := map[string]struct {
		lines     []string
		code      job.Code
		says      string
		retryable bool
	}{
		"busy":          {[]string{borg.DepotSays + borg.DepotBusy + "; try again later"}, job.RepositoryLocked, "wait until that job is over", true},
		"refused":       {[]string{borg.DepotSays + "host web1 may not use repository vault"}, job.PermissionDenied, "borgfleet repo allow vault web1", false},
		"more than add": {[]string{borg.DepotSays + "a repair is refused: " + borg.DepotAddOnly}, job.PermissionDenied, "append-only for hosts", false},
		"closed":        {[]string{borg.DepotSays + borg.DepotClosed}, job.ConnectionLost, "shutting down", true},
		"no borg":       {[]string{borg.DepotSays + borg.DepotBroken + "; its log says why"}, job.BorgMissing, "depot.borg", false},
		"key unknown":   {[]string{"vault@depot.example: Permission denied (publickey)."}, job.PermissionDenied, "borgfleet repo allow vault web1", false},
		"another key":   {[]string{"@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @", "Host key verification failed."}, job.HostKeyChanged, "depot.address", false},
		"no name":       {[]string{"ssh: Could not resolve hostname depot.example: Name or service not known"}, job.HostUnreachable, "depot.address", true},
		"no listener":   {[]string{"ssh: connect to host depot.example port 2222: Connection refused"}, job.HostUnreachable, "depot.listen", true},
		"cut":           {[]string{"kex_exchange_identification: read: Connection reset by peer"}, job.ConnectionLost, "reset by peer", true},
		"silence":       {nil, job.ConnectionLost, "no reason", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stderr strings.Builder
			for _, line := range test.lines {
				stderr.WriteString(remoteLine(line))
			}
			stderr.WriteString(errorLine("ConnectionClosedWithHint", "Connection closed by remote host. Is borg working on the server?"))
			for _, task := range []borg.Task{baseTask(neutralRoot, job.ListSpec{}), modern(job.ListSpec{})} {
				outcome := outcomeOf(inDepot(task), stderr.String(), borg.Exit{Code: 2})
				checkFailure(t, outcome, test.code)
				if !strings.Contains(outcome.Failure.Error(), test.says) {
					t.Errorf("%q does not say %q", outcome.Failure.Error(), test.says)
				}
				if outcome.Failure.Retryable != test.retryable {
					t.Errorf("retryable is %v", outcome.Failure.Retryable)
				}
			}
		})
	}
}

// TestDepotErrors is about borg's own errors: the depot's are told apart from
// those of another server, and of an archive.
func TestDepotErrors(t *testing.T) {
	tests := map[string]struct {
		stderr string
		code   job.Code
		says   string
	}{
		"path":        {errorLine("PathNotAllowed", "Repository path not allowed: /d/other"), job.PermissionDenied, "repo allow vault web1"},
		"quota":       {errorLine("StorageQuotaExceeded", "The storage quota (20 MB) has been exceeded (21 MB)."), job.QuotaExceeded, "quota in the coordinator's depot"},
		"reserve":     {errorLine("InsufficientFreeSpaceError", "Insufficient free space"), job.DiskFull, "depot.path"},
		"disk full":   {errorLine("OSError", "[Errno 28] No space left on device"), job.DiskFull, "depot.path"},
		"not there":   {errorLine("Repository.DoesNotExist", "Repository /d/vault does not exist."), job.RepositoryMissing, "depot.path"},
		"archive":     {errorLine("DoesNotExist", "Archive x does not exist"), job.ArchiveMissing, "archive list"},
		"no rights":   {errorLine("LockFailed", "Failed to create/acquire the lock"), job.PermissionDenied, "depot.path"},
		"append-only": {errorLine("ValueError", traceback+"\nValueError: /d/vault is in append-only mode\n") + errorLine("", "\n"), job.PermissionDenied, "append-only for hosts"},
		"ended by the depot": {remoteLine(borg.DepotSays+borg.DepotBusy) + errorLine("Exception", "Local Exception") +
			errorLine("", traceback+"BrokenPipeError: [Errno 32] Broken pipe\n"), job.RepositoryLocked, "coordinator works on"},
		"cut in middle": {errorLine("Exception", "Local Exception") + errorLine("", traceback+"BrokenPipeError: [Errno 32] Broken pipe\n"), job.ConnectionLost, "checkpoint"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			outcome := outcomeOf(inDepot(baseTask(neutralRoot, job.ListSpec{})), test.stderr, borg.Exit{Code: 2})
			checkFailure(t, outcome, test.code)
			if !strings.Contains(outcome.Failure.Error(), test.says) {
				t.Errorf("%q does not say %q", outcome.Failure.Error(), test.says)
			}
		})
	}
	path := outcomeOf(baseTask(neutralRoot, job.ListSpec{}), errorLine("PathNotAllowed", "Repository path not allowed: /d/other"), borg.Exit{Code: 2})
	if strings.Contains(path.Failure.Error(), "depot") {
		t.Errorf("another server is taken for the depot: %v", path.Failure)
	}
}

// depotLab is a lab whose repository is reached as one in the depot is.
func depotLab(t *testing.T, serve string) (*lab, func(job.Spec) borg.Task) {
	t.Helper()
	l := newLab(t)
	if err := os.Mkdir(filepath.Join(l.root, "depot"), 0o700); err != nil {
		t.Fatal(err)
	}
	l.serveDepot("")
	task := func(spec job.Spec) borg.Task { return inDepot(baseTask(l.root, resolve(spec, l.root))) }
	l.must(task(job.InitSpec{}))
	l.serveDepot(serve)
	return l, task
}

// serveDepot puts a stand-in for ssh and the depot into the lab.
func (l *lab) serveDepot(options string) {
	dir := filepath.Join(l.root, "depot")
	l.env.RSH = l.script("ssh", "cd "+dir+" && exec "+borgBinary+" serve --restrict-to-repository "+dir+"/vault --umask=077 "+options)
}

// TestRealDepotFaults provokes what a depot refuses with the installed borg.
func TestRealDepotFaults(t *testing.T) {
	tests := map[string]struct {
		serve string
		says  string
		spec  job.Spec
		edit  func(*borg.Task)
		code  job.Code
	}{
		"another repository": {"", "PathNotAllowed", job.ListSpec{},
			func(task *borg.Task) { task.Repository.Location = "ssh://vault@borgfleet-depot/./other" }, job.PermissionDenied},
		"quota":                 {"--storage-quota 10M", "StorageQuotaExceeded", backupOf("/data"), nil, job.QuotaExceeded},
		"repair in append-only": {"--append-only", "append-only", job.CheckSpec{Repair: true}, nil, job.PermissionDenied},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, taskOf := depotLab(t, test.serve)
			l.write("data/www/large.bin", noise(12_000_000))
			task := taskOf(test.spec)
			if test.edit != nil {
				test.edit(&task)
			}
			r := l.run(task, nil)
			end, _ := parse(task, r, 100)
			t.Logf("exit %d: %v", r.exit.Code, end.Failure)
			if !bytes.Contains(r.stderr, []byte(test.says)) {
				t.Errorf("borg does not say %s:\n%s", test.says, r.stderr)
			}
			checkFailure(t, end, test.code)
			if end.Failure != nil && !strings.Contains(end.Failure.Error(), "depot") && !strings.Contains(end.Failure.Error(), "coordinator") {
				t.Errorf("nothing says that it is the depot: %v", end.Failure)
			}
		})
	}
}

package borg_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// logLine is one log message as borg prints it.
func logLine(level, name, msgID, text string) string {
	fields := map[string]any{"type": "log_message", "time": 1795326513.5, "levelname": level, "name": name, "message": text}
	if msgID != "" {
		fields["msgid"] = msgID
	}
	line, err := json.Marshal(fields)
	if err != nil {
		panic(err) // strings and a number: cannot be
	}
	return string(line) + "\n"
}

func errorLine(msgID, text string) string { return logLine("ERROR", "borg.archiver", msgID, text) }

func remoteLine(text string) string { return logLine("WARNING", "root", "", "Remote: "+text) }

const traceback = "Traceback (most recent call last):\n  File \"/usr/lib/python3/dist-packages/borg/archiver.py\", line 5213, in main\n    exit_code = archiver.run(args)\n"

// modern returns a task that a borg 1.4 runs.
func modern(spec job.Spec) borg.Task {
	task := baseTask(neutralRoot, spec)
	task.Version = borg.Version{Major: 1, Minor: 4, Patch: 5, Text: "1.4.5"}
	return task
}

func outcomeOf(task borg.Task, stderr string, exit borg.Exit) job.Outcome {
	parser := borg.NewParser(task)
	parser.Stderr([]byte(stderr))
	return parser.Finish(exit)
}

// TestMessageIDs goes through the ids of borg 1.2 and 1.4, local and remote
// spelling, and through the modern exit codes alone.
func TestMessageIDs(t *testing.T) {
	tests := []struct {
		msgID  string
		modern int // exit code; 0: none of its own
		code   job.Code
	}{
		{"CancelledByUser", 3, job.RefusedByHost}, {"CommandError", 4, job.InvalidSpec},
		{"PlaceholderError", 5, job.InvalidSpec}, {"InvalidPlaceholder", 6, job.InvalidSpec},
		{"Repository.AlreadyExists", 10, job.RepositoryExists}, {"Repository.AtticRepository", 11, job.RepositoryInvalid},
		{"Repository.CheckNeeded", 12, job.IntegrityError}, {"Repository.DoesNotExist", 13, job.RepositoryMissing},
		{"Repository.InsufficientFreeSpaceError", 14, job.DiskFull}, {"InsufficientFreeSpaceError", 0, job.DiskFull},
		{"Repository.InvalidRepository", 15, job.RepositoryInvalid}, {"InvalidRepository", 0, job.RepositoryInvalid},
		{"Repository.InvalidRepositoryConfig", 16, job.RepositoryInvalid}, {"Repository.ObjectNotFound", 17, job.IntegrityError},
		{"Repository.ParentPathDoesNotExist", 18, job.RepositoryMissing}, {"Repository.PathAlreadyExists", 19, job.RepositoryExists},
		{"Repository.StorageQuotaExceeded", 20, job.QuotaExceeded}, {"StorageQuotaExceeded", 0, job.QuotaExceeded},
		{"Repository.PathPermissionDenied", 21, job.PermissionDenied},
		{"MandatoryFeatureUnsupported", 25, job.RepositoryInvalid}, {"NoManifestError", 26, job.IntegrityError}, {"UnsupportedManifestError", 27, job.RepositoryInvalid},
		{"Archive.AlreadyExists", 30, job.ArchiveExists}, {"Archive.DoesNotExist", 31, job.ArchiveMissing},
		{"Archive.IncompatibleFilesystemEncodingError", 32, job.Internal},
		{"KeyfileInvalidError", 40, job.KeyMissing}, {"KeyfileMismatchError", 41, job.KeyMissing}, {"KeyfileNotFoundError", 42, job.KeyMissing},
		{"RepoKeyNotFoundError", 44, job.KeyMissing}, {"UnknownKeyType", 47, job.RepositoryInvalid}, {"UnsupportedPayloadError", 48, job.RepositoryInvalid},
		{"NoPassphraseFailure", 50, job.PassphraseWrong}, {"PasscommandFailure", 51, job.PassphraseWrong}, {"PassphraseWrong", 52, job.PassphraseWrong},
		{"PasswordRetriesExceeded", 53, job.PassphraseWrong},
		{"Cache.CacheInitAbortedError", 60, job.RefusedByHost}, {"Cache.EncryptionMethodMismatch", 61, job.RefusedByHost},
		{"Cache.RepositoryAccessAborted", 62, job.RefusedByHost}, {"Cache.RepositoryIDNotUnique", 63, job.RefusedByHost}, {"Cache.RepositoryReplay", 64, job.RefusedByHost},
		{"LockError", 70, job.RepositoryLocked}, {"LockErrorT", 71, job.RepositoryLocked}, {"LockFailed", 72, job.PermissionDenied},
		{"LockTimeout", 73, job.RepositoryLocked}, {"NotLocked", 74, job.RepositoryLocked}, {"NotMyLock", 75, job.RepositoryLocked},
		{"ConnectionClosed", 80, job.ConnectionLost}, {"ConnectionClosedWithHint", 81, job.ConnectionLost}, {"InvalidRPCMethod", 82, job.BorgUnsupported},
		{"PathNotAllowed", 83, job.PermissionDenied}, {"RemoteRepository.RPCServerOutdated", 84, job.BorgUnsupported},
		{"UnexpectedRPCDataFormatFromClient", 85, job.BorgUnsupported}, {"UnexpectedRPCDataFormatFromServer", 86, job.ConnectionLost},
		{"ConnectionBrokenWithHint", 87, job.ConnectionLost},
		{"IntegrityError", 90, job.IntegrityError}, {"FileIntegrityError", 91, job.IntegrityError}, {"DecompressionError", 92, job.IntegrityError},
		{"ArchiveTAMInvalid", 95, job.IntegrityError}, {"ArchiveTAMRequiredError", 96, job.IntegrityError}, {"TAMInvalid", 97, job.IntegrityError},
		{"TAMRequiredError", 98, job.IntegrityError}, {"TAMUnsupportedSuiteError", 99, job.RepositoryInvalid},
	}
	for _, test := range tests {
		t.Run(test.msgID, func(t *testing.T) {
			said := errorLine(test.msgID, "Borg's own words.")
			checkFailure(t, outcomeOf(baseTask(neutralRoot, job.ListSpec{}), said, borg.Exit{Code: 2}), test.code)
			if test.modern != 0 {
				checkFailure(t, outcomeOf(modern(job.ListSpec{}), said, borg.Exit{Code: test.modern}), test.code)
				checkFailure(t, outcomeOf(modern(job.ListSpec{}), "", borg.Exit{Code: test.modern}), test.code)
			}
		})
	}
}

func checkFailure(t *testing.T, outcome job.Outcome, code job.Code) {
	t.Helper()
	failure := outcome.Failure
	if outcome.State != job.Failed || failure == nil {
		t.Fatalf("%s with %v, want a failure", outcome.State, failure)
	}
	if failure.Code != code {
		t.Errorf("code %s, want %s (%v)", failure.Code, code, failure)
	}
	if failure.Message == "" || failure.Hint == "" || hole.MatchString(failure.Error()) {
		t.Errorf("not fit for a person: %+v", failure)
	}
}

func TestUnqualifiedArchiveIDs(t *testing.T) {
	task := baseTask(neutralRoot, job.InfoSpec{Archive: "x"})
	checkFailure(t, outcomeOf(task, errorLine("DoesNotExist", "Archive x does not exist"), borg.Exit{Code: 2}), job.ArchiveMissing)
	checkFailure(t, outcomeOf(task, errorLine("DoesNotExist", "Repository /r does not exist."), borg.Exit{Code: 2}), job.RepositoryMissing)
}

// TestConnections is about what ssh says before borg's "connection closed".
func TestConnections(t *testing.T) {
	tests := map[string]struct {
		lines []string
		code  job.Code
		says  string
	}{
		"nothing":          {nil, job.ConnectionLost, "no reason"},
		"refused":          {[]string{"ssh: connect to host store port 22: Connection refused"}, job.HostUnreachable, "Connection refused"},
		"timed out":        {[]string{"ssh: connect to host store port 22: Connection timed out"}, job.HostUnreachable, "timed out"},
		"no route":         {[]string{"ssh: connect to host store port 22: No route to host"}, job.HostUnreachable, "No route"},
		"no such name":     {[]string{"ssh: Could not resolve hostname store: Name or service not known"}, job.HostUnreachable, "resolve"},
		"not let in":       {[]string{"borg@store: Permission denied (publickey)."}, job.PermissionDenied, "authorized_keys"},
		"key unknown":      {[]string{"No ED25519 host key is known for store and you have requested strict checking.", "Host key verification failed."}, job.HostKeyChanged, "trust"},
		"key changed":      {[]string{"@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @", "Offending key in /root/.ssh/known_hosts:3", "Host key verification failed."}, job.HostKeyChanged, "trust"},
		"no borg":          {[]string{"sh: 1: borg: not found"}, job.BorgMissing, "install borg on the server"},
		"no borg there":    {[]string{"bash: line 1: /opt/borg: No such file or directory"}, job.BorgMissing, "/opt/borg"},
		"reset":            {[]string{"kex_exchange_identification: read: Connection reset by peer"}, job.ConnectionLost, "reset by peer"},
		"banner, then why": {[]string{"Welcome! Permission is hereby granted.", "borg@store: Permission denied (publickey)."}, job.PermissionDenied, "publickey"},
		"something else":   {[]string{"the server is on fire"}, job.ConnectionLost, "on fire"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stderr strings.Builder
			for _, line := range test.lines {
				stderr.WriteString(remoteLine(line))
			}
			stderr.WriteString(errorLine("ConnectionClosedWithHint", "Connection closed by remote host. Is borg working on the server?"))
			for _, task := range []borg.Task{baseTask(neutralRoot, job.ListSpec{}), modern(job.ListSpec{})} {
				outcome := outcomeOf(task, stderr.String(), borg.Exit{Code: map[bool]int{false: 2, true: 81}[task.Version.Modern()]})
				checkFailure(t, outcome, test.code)
				if !strings.Contains(outcome.Failure.Error(), test.says) {
					t.Errorf("%q does not say %q", outcome.Failure.Error(), test.says)
				}
			}
		})
	}
}

// TestExceptions is about errors that have no id of their own.
func TestExceptions(t *testing.T) {
	local := errorLine("Exception", "Local Exception")
	tests := map[string]struct {
		stderr    string
		code      job.Code
		retryable bool
	}{
		"broken pipe":        {local + errorLine("", traceback+"BrokenPipeError: [Errno 32] Broken pipe\n\n"), job.ConnectionLost, true},
		"reset":              {local + errorLine("", traceback+"ConnectionResetError: [Errno 104] Connection reset by peer\n"), job.ConnectionLost, true},
		"disk full":          {local + errorLine("", traceback+"OSError: [Errno 28] No space left on device\n"), job.DiskFull, false},
		"disk full remotely": {errorLine("OSError", "[Errno 28] No space left on device"), job.DiskFull, false},
		"disk full, as seen in a warning": {logLine("WARNING", "borg.repository", "", "No space left on device, cleaning up partial transaction to free space.") +
			errorLine("Exception", "Local Exception") + errorLine("", traceback+"ValueError: I/O operation on closed file\n"), job.DiskFull, false},
		"quota of the system":     {local + errorLine("", traceback+"OSError: [Errno 122] Disk quota exceeded: '/srv'\n"), job.QuotaExceeded, false},
		"permission":              {local + errorLine("", traceback+"PermissionError: [Errno 13] Permission denied: '/srv/lab/repo/config'\n"), job.PermissionDenied, false},
		"read-only":               {local + errorLine("", traceback+"OSError: [Errno 30] Read-only file system: '/srv/lab'\n"), job.PermissionDenied, false},
		"bad disk":                {local + errorLine("", traceback+"OSError: [Errno 5] Input/output error\n"), job.IntegrityError, false},
		"cache after a power cut": {local + errorLine("", traceback+"Exception: /data/borg/.cache/borg/ce10/config does not look like a Borg cache\n"), job.IntegrityError, false},
		"memory":                  {local + errorLine("", traceback+"MemoryError\n"), job.Internal, false},
		"damage by class":         {local + errorLine("", traceback+"borg.helpers.errors.IntegrityError: Data integrity error: Segment entry checksum mismatch\n"), job.IntegrityError, false},
		"append-only":             {errorLine("ValueError", "Remote Exception") + errorLine("", "ValueError: /srv/lab/repo is in append-only mode"), job.PermissionDenied, false},
		"passphrase descriptor":   {local + errorLine("", traceback+"  File \"key.py\", line 454, in fd_passphrase\nOSError: [Errno 9] Bad file descriptor\n"), job.Internal, false},
		"unknown":                 {local + errorLine("", traceback+"KeyError: b'x'\n"), job.Internal, false},
		"id unknown":              {errorLine("Some.NewError", "Something new happened."), job.Internal, false},
		"silence":                 {"", job.Internal, false},
		"plain text":              {"Killed by gremlins\n", job.Internal, false},
		"interrupted by another":  {errorLine("", "Got Ctrl-C / SIGINT.") + logLine("WARNING", "borg.archiver", "", "x"), job.Interrupted, true},
		"interrupted, 1.4":        {errorLine("Error", "Got Ctrl-C / SIGINT."), job.Interrupted, true},
		"usage":                   {"usage: borg create\nborg create: error: argument ARCHIVE: Invalid location format\n", job.InvalidSpec, false},
		"question refused": {`{"type": "question_prompt", "msgid": "BORG_X", "message": "Really?"}` + "\n" +
			`{"type": "question_accepted_false", "msgid": "BORG_X", "message": "Aborting."}` + "\n" + errorLine("CancelledByUser", "Cancelled by user."), job.RefusedByHost, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			outcome := outcomeOf(baseTask(neutralRoot, job.ListSpec{}), test.stderr, borg.Exit{Code: 2})
			checkFailure(t, outcome, test.code)
			if outcome.Failure.Retryable != test.retryable {
				t.Errorf("retryable is %v", outcome.Failure.Retryable)
			}
		})
	}
}

func TestSignals(t *testing.T) {
	tests := map[string]struct {
		exit  borg.Exit
		state job.State
		code  job.Code
		says  string
	}{
		"SIGTERM told as a code":    {borg.Exit{Code: 143}, job.Failed, job.Interrupted, "SIGTERM"},
		"SIGHUP told as a code":     {borg.Exit{Code: 129}, job.Failed, job.Interrupted, "SIGHUP"},
		"SIGINT told as a code":     {borg.Exit{Code: 130}, job.Failed, job.Interrupted, "SIGINT"},
		"SIGKILL":                   {borg.Exit{Signal: syscall.SIGKILL}, job.Failed, job.Interrupted, "killed"},
		"SIGKILL told by a shell":   {borg.Exit{Code: 137}, job.Failed, job.Interrupted, "killed"},
		"SIGSEGV":                   {borg.Exit{Signal: syscall.SIGSEGV}, job.Failed, job.Interrupted, "signal 11"},
		"status that is no signal":  {borg.Exit{Code: 128}, job.Failed, job.Interrupted, "exit code 128"},
		"cancelled by SIGTERM":      {borg.Exit{Code: 143, Cancelled: true}, job.Cancelled, job.CodeCancelled, "cancelled"},
		"cancelled by SIGKILL":      {borg.Exit{Signal: syscall.SIGKILL, Cancelled: true}, job.Cancelled, job.CodeCancelled, "cancelled"},
		"cancelled by first SIGINT": {borg.Exit{Code: 2, Cancelled: true}, job.Cancelled, job.CodeCancelled, "cancelled"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			outcome := outcomeOf(baseTask(neutralRoot, job.CompactSpec{}), "", test.exit)
			if outcome.State != test.state || outcome.Failure == nil || outcome.Failure.Code != test.code {
				t.Fatalf("%s, %+v", outcome.State, outcome.Failure)
			}
			if !strings.Contains(outcome.Failure.Message, test.says) {
				t.Errorf("%q does not say %q", outcome.Failure.Message, test.says)
			}
		})
	}
}

// No failure may carry a password that somebody wrote into a location.
func TestFailuresHideURLPasswords(t *testing.T) {
	task := baseTask(neutralRoot, job.ListSpec{})
	task.Repository.Location = "ssh://borg:hunter2@store/srv/repo"
	for _, stderr := range []string{
		errorLine("Repository.DoesNotExist", "Repository ssh://borg:hunter2@store/srv/repo does not exist."),
		errorLine("LockError", "ssh://borg:hunter2@store/srv/repo"),
		errorLine("Whatever", "ssh://borg:hunter2@store/srv/repo"),
		"usage: x\nborg list: error: ssh://borg:hunter2@store/srv/repo\n",
	} {
		parser := borg.NewParser(task)
		items := parser.Stderr([]byte(stderr))
		outcome := parser.Finish(borg.Exit{Code: 2})
		for _, item := range items {
			if strings.Contains(item.Line.Text, "hunter2") {
				t.Errorf("log: %s", item.Line.Text)
			}
		}
		if text := fmt.Sprintf("%+v", outcome.Failure); strings.Contains(text, "hunter2") {
			t.Errorf("failure: %s", text)
		}
	}
}

// Python ends with 1 when it gives up, as borg does after a warning.
func TestPythonGivesUp(t *testing.T) {
	const trace = "Traceback (most recent call last):\n  File \"/usr/bin/borg\", line 33, in <module>\n    from borg.archiver import main\n"
	const missing = trace + "ModuleNotFoundError: No module named 'borg'\n"
	specs := []job.Spec{
		job.InitSpec{}, backupOf("/data"), job.ListSpec{}, job.InfoSpec{}, restoreOf("/etc"),
		job.PruneSpec{KeepLast: 1}, job.CompactSpec{}, job.CheckSpec{}, job.KeyExportSpec{Recipient: recipient},
		job.DeleteSpec{Archives: []string{"a"}}, job.DiffSpec{Archive: "a", Other: "b"}, job.DownloadSpec{Archive: "a"}, job.ListSpec{Archive: "a"},
	}
	for _, spec := range specs {
		t.Run(string(spec.Kind()), func(t *testing.T) {
			checkFailure(t, outcomeOf(baseTask(neutralRoot, spec), missing, borg.Exit{Code: 1}), job.BorgMissing)
			checkFailure(t, outcomeOf(modern(spec), missing, borg.Exit{Code: 1}), job.BorgMissing)
			checkFailure(t, outcomeOf(baseTask(neutralRoot, spec), trace+"MemoryError\n", borg.Exit{Code: 1}), job.Internal)
			if end := outcomeOf(baseTask(neutralRoot, spec), trace+"KeyboardInterrupt\n", borg.Exit{Code: 1, Cancelled: true}); end.State != job.Cancelled {
				t.Errorf("cancelled at once: %s, %+v", end.State, end.Failure)
			}
		})
	}
	for _, said := range []string{"re.error: missing ), unterminated subpattern at position 0", "argparse.ArgumentTypeError: Invalid pattern style: zz", "ValueError: Unknown pattern style: zz"} {
		checkFailure(t, outcomeOf(baseTask(neutralRoot, backupOf("/data")), trace+said+"\n", borg.Exit{Code: 1}), job.InvalidSpec)
	}
	for name, said := range map[string]string{
		"ignored by Python":  "Exception ignored in: <function Repository.__del__ at 0x7f>\n" + missing,
		"after borg's words": logLine("WARNING", "borg.archiver", "", "a file changed") + missing,
	} {
		if end := outcomeOf(baseTask(neutralRoot, job.CompactSpec{}), said, borg.Exit{Code: 1}); end.State != job.Warning {
			t.Errorf("%s: %s, %+v", name, end.State, end.Failure)
		}
	}
}

package borg

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Task is one thing for borg to do, and what is known about it beforehand.
type Task struct {
	Kind       job.Kind
	Spec       job.Spec
	Repository job.Repository
	Host       string        // borgfleet's name of the host
	For        string        // prune: the host whose archives it is about; "" means Host
	Archive    string        // backup: the archive's name, chosen by the coordinator
	Encrypted  bool          // a passphrase is handed over
	Hook       string        // backup from a script, restore into one: the path of it on the host, resolved by the agent
	Hooks      Hooks         // backup: what runs around it, resolved likewise
	Job        job.ID        // for hooks to know
	Plan, Run  string        // of the job, for hooks; may be empty
	Baseline   *job.Baseline // backup: what the previous one came to, or nil
	Version    Version       // of the borg that runs it
}

// Command returns borg's whole argument vector, beginning with the binary, and
// the variables to add to its environment; to break a lock, a shell's, which
// looks before it runs borg, and to restore beside what is there. Neither holds a secret. Values that
// come from a user always follow "=" or "--", so that none is taken for an
// option. A restore writes into the working directory, which is for the caller
// to set. The error is a *job.Failure where the user can do something about it,
// else a fault of the caller: a task that no job can have.
func Command(task Task, env Environment) (argv, environ []string, err error) {
	if argv, err = bare(task, env); argv != nil || err != nil {
		return argv, env.variables(task), err
	}
	env = patience(task, env)
	options, target, err := arguments(task)
	if err != nil {
		return nil, nil, fmt.Errorf("borg command for %s: %w", task.Kind, err)
	}
	binary := env.Binary
	if binary == "" {
		binary = "borg"
	}
	argv = append(append([]string{binary}, subcommand(task)...), common(task, env)...)
	argv = append(argv, options...)
	argv = append(append(argv, "--"), target...)
	if argv, err = wrapped(task, argv); err != nil {
		return nil, nil, fmt.Errorf("borg command for %s: %w", task.Kind, err)
	}
	return hookCommand(task, argv), append(env.variables(task), hookVariables(task)...), nil
}

// wrapped returns what is run for a task, where argv is borg's own command: some
// need a look around first, which a shell does.
func wrapped(task Task, argv []string) ([]string, error) {
	switch spec := task.Spec.(type) {
	case job.BreakLockSpec:
		return lockCommand(task, spec, argv)
	case job.RestoreSpec:
		return keepCommand(spec, argv), nil
	case job.BackupSpec:
		return canaryCommand(spec, argv), nil
	default:
		return scripted(task, argv), nil
	}
}

func subcommand(task Task) []string {
	switch spec := task.Spec.(type) {
	case job.BackupSpec:
		return []string{"create"}
	case job.RestoreSpec, job.RestoreTestSpec:
		return []string{"extract"}
	case job.DownloadSpec:
		if spec.Format == job.DownloadFile {
			return []string{"extract"}
		}
		return []string{"export-tar"}
	case job.KeyExportSpec:
		return []string{"key", "export"} // without a path: to standard output
	case job.VerifySpec:
		return []string{verifyVerb(spec)}
	default:
		return []string{string(task.Kind)}
	}
}

// common returns the options that every command gets.
func common(task Task, env Environment) []string {
	wait := env.LockWait
	if wait <= 0 {
		wait = DefaultLockWait
	}
	seconds := int((wait + time.Second - 1) / time.Second)
	options := []string{"--log-json", "--lock-wait=" + strconv.Itoa(seconds)}
	if env.RemotePath != "" {
		options = append(options, "--remote-path="+env.RemotePath)
	}
	limit := env.UploadLimit
	if backup, ok := task.Spec.(job.BackupSpec); ok && backup.UploadLimit > 0 && (limit <= 0 || backup.UploadLimit < limit) {
		limit = backup.UploadLimit
	}
	if limit > 0 {
		options = append(options, "--upload-ratelimit="+strconv.Itoa(limit))
	}
	return options
}

// arguments returns the options of the task's own command, and what follows "--".
func arguments(task Task) (options, target []string, err error) {
	if task.Spec == nil || task.Spec.Kind() != task.Kind {
		return nil, nil, fmt.Errorf("the spec is %T", task.Spec)
	}
	if err := checkLocation(task.Repository); err != nil {
		return nil, nil, err
	}
	if err := task.Repository.CheckKind(task.Kind); err != nil {
		return nil, nil, err
	}
	if options, err = optionsOf(task); err != nil {
		return nil, nil, err
	}
	return options, targetOf(task), nil
}

// Redact returns a command as one line for a log, quoted for a shell, with the
// password of a URL and the text of our own script left out, and at most
// [job.MaxLogLineBytes] long.
func Redact(argv []string) string {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		if isScript(arg) || arg == keepScript || arg == aroundScript || arg == feedScript {
			arg = "..."
		}
		quoted[i] = quote(arg)
	}
	return head(clean(strings.Join(quoted, " ")), job.MaxLogLineBytes)
}

func quote(arg string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=/:.,@%+", r)
	}
	if arg != "" && strings.TrimFunc(arg, safe) == "" {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

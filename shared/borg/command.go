package borg

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// checkpointInterval is how often, in seconds, a backup leaves a checkpoint
// from which the next one goes on (borg's default is 1800).
const checkpointInterval = 300

// listedStatus are the files that a backup lists, if it lists files: added,
// modified, changed while they were read, unreadable. Unchanged ones would cost
// 30 µs and 90 bytes each, in every backup.
const listedStatus = "AMCE"

// Task is one thing for borg to do, and what is known about it beforehand.
type Task struct {
	Kind       job.Kind
	Spec       job.Spec
	Repository job.Repository
	Host       string        // borgfleet's name of the host
	Archive    string        // backup: the archive's name, chosen by the coordinator
	Encrypted  bool          // a passphrase is handed over
	Baseline   *job.Baseline // backup: what the previous one came to, or nil
	Version    Version       // of the borg that runs it
}

// Command returns borg's whole argument vector, beginning with the binary, and
// the variables to add to its environment; to break a lock, a shell's, which
// looks before it runs borg. Neither holds a secret. Values that
// come from a user always follow "=" or "--", so that none is taken for an
// option. A restore writes into the working directory, which is for the caller
// to set. The error is a *job.Failure where the user can do something about it,
// else a fault of the caller: a task that no job can have.
func Command(task Task, env Environment) (argv, environ []string, err error) {
	options, target, err := arguments(task)
	if err != nil {
		return nil, nil, fmt.Errorf("borg command for %s: %w", task.Kind, err)
	}
	binary := env.Binary
	if binary == "" {
		binary = "borg"
	}
	argv = append(append([]string{binary}, subcommand(task.Kind)...), common(task, env)...)
	argv = append(argv, options...)
	argv = append(append(argv, "--"), target...)
	if spec, ok := task.Spec.(job.BreakLockSpec); ok {
		if argv, err = lockCommand(task, spec, argv); err != nil {
			return nil, nil, fmt.Errorf("borg command for %s: %w", task.Kind, err)
		}
	}
	return argv, env.variables(task), nil
}

func subcommand(kind job.Kind) []string {
	switch kind {
	case job.Backup:
		return []string{"create"}
	case job.Restore:
		return []string{"extract"}
	case job.KeyExport:
		return []string{"key", "export"} // without a path: to standard output
	default:
		return []string{string(kind)}
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
	repository := task.Repository.Location
	if err := checkLocation(task.Repository); err != nil {
		return nil, nil, err
	}
	if task.Spec == nil || task.Spec.Kind() != task.Kind {
		return nil, nil, fmt.Errorf("the spec is %T", task.Spec)
	}
	if err := task.Repository.CheckKind(task.Kind); err != nil {
		return nil, nil, err
	}
	target = []string{repository}
	switch spec := task.Spec.(type) {
	case job.InitSpec:
		options, err = initOptions(spec, task.Repository)
	case job.BackupSpec:
		if task.Archive == "" || len(spec.Paths) == 0 {
			return nil, nil, errors.New("no archive name or no paths")
		}
		options = backupOptions(spec)
		target = append([]string{repository + "::" + task.Archive}, spec.Paths...)
	case job.ListSpec:
		options = listOptions(spec)
	case job.InfoSpec:
		options = []string{"--json"}
		if spec.Archive != "" {
			target = []string{repository + "::" + literal(spec.Archive)}
		}
	case job.RestoreSpec:
		if spec.Archive == "" {
			return nil, nil, errors.New("no archive name")
		}
		options = []string{"--progress"}
		target = append([]string{repository + "::" + literal(spec.Archive)}, literalPaths(spec.Paths)...)
	case job.KeyExportSpec, job.BreakLockSpec:
	case job.PruneSpec:
		options, err = pruneOptions(spec, task.Host)
	case job.CompactSpec:
		options = []string{"--progress", "--verbose"}
		options = appendCount(options, "--threshold", spec.Threshold)
	case job.CheckSpec:
		options = checkOptions(spec)
	default:
		err = fmt.Errorf("the spec %T cannot be run", spec)
	}
	return options, target, err
}

// checkLocation refuses a location that borg cannot use. It fills in
// placeholders in a location more than once, so that no escape survives.
func checkLocation(repository job.Repository) error {
	switch {
	case repository.Location == "":
		return errors.New("no repository location")
	case strings.ContainsAny(repository.Location, "{}"):
		return job.Fail(job.InvalidSpec, "the location of repository %s has braces in it, which borg takes for placeholders", repository.Name).
			WithHint("give it a location without { and }")
	default:
		return nil
	}
}

func initOptions(spec job.InitSpec, repository job.Repository) ([]string, error) {
	mode := repository.Encryption
	if spec.Encryption != "" {
		mode = spec.Encryption
	}
	if !mode.Known() {
		return nil, fmt.Errorf("%q is not an encryption mode", mode)
	}
	return []string{"--encryption=" + string(mode)}, nil
}

func backupOptions(spec job.BackupSpec) []string {
	options := []string{"--json", "--progress", "--checkpoint-interval=" + strconv.Itoa(checkpointInterval)}
	if spec.Compression != "" {
		options = append(options, "--compression="+spec.Compression)
	}
	if spec.Comment != "" {
		options = append(options, "--comment="+literal(spec.Comment))
	}
	if spec.ExcludeCaches {
		options = append(options, "--exclude-caches")
	}
	if spec.OneFileSystem {
		options = append(options, "--one-file-system")
	}
	if spec.NumericIDs {
		options = append(options, "--numeric-ids")
	}
	if spec.ListFiles {
		options = append(options, "--list", "--filter="+listedStatus)
	}
	for _, pattern := range spec.Exclude {
		options = append(options, "--exclude="+pattern)
	}
	return options
}

func listOptions(spec job.ListSpec) []string {
	// The format prints nothing under --json; it names keys to add.
	options := []string{"--json", "--format={hostname}{username}{comment}"}
	if spec.Prefix != "" {
		options = append(options, "--glob-archives="+prefixGlob(spec.Prefix))
	}
	return appendCount(options, "--last", spec.Last)
}

func pruneOptions(spec job.PruneSpec, host string) ([]string, error) {
	prefix := spec.Prefix
	if prefix == "" && host != "" {
		prefix = host + "-"
	}
	if prefix == "" {
		return nil, errors.New("no prefix and no host: this would prune other hosts' archives")
	}
	options := []string{"--list", "--progress", "--glob-archives=" + prefixGlob(prefix)}
	if spec.DryRun {
		options = append(options, "--dry-run")
	}
	rules := len(options)
	if spec.KeepWithin != "" {
		options = append(options, "--keep-within="+spec.KeepWithin)
	}
	options = appendCount(options, "--keep-last", spec.KeepLast)
	options = appendCount(options, "--keep-hourly", spec.KeepHourly)
	options = appendCount(options, "--keep-daily", spec.KeepDaily)
	options = appendCount(options, "--keep-weekly", spec.KeepWeekly)
	options = appendCount(options, "--keep-monthly", spec.KeepMonthly)
	options = appendCount(options, "--keep-yearly", spec.KeepYearly)
	if len(options) == rules {
		return nil, errors.New("no keep rule: this would delete every archive")
	}
	return options, nil
}

func checkOptions(spec job.CheckSpec) []string {
	options := []string{"--progress", "--verbose"}
	if spec.VerifyData {
		options = append(options, "--verify-data")
	}
	if spec.RepositoryOnly || spec.MaxDuration > 0 {
		options = append(options, "--repository-only")
	}
	return appendCount(options, "--max-duration", spec.MaxDuration)
}

func appendCount(options []string, name string, n int) []string {
	if n <= 0 {
		return options
	}
	return append(options, name+"="+strconv.Itoa(n))
}

// literal protects text from borg's placeholders ({now}, {hostname}, …).
func literal(text string) string {
	return strings.NewReplacer("{", "{{", "}", "}}").Replace(text)
}

// literalPaths returns patterns that match the given files and directories of an
// archive, and what is in them, and nothing else: a path that begins like a
// pattern ("re:") is none.
func literalPaths(paths []string) []string {
	patterns := make([]string, len(paths))
	for i, path := range paths {
		patterns[i] = "pp:" + path
	}
	return patterns
}

// prefixGlob returns the glob that matches the archives whose name begins with
// prefix, taken literally.
func prefixGlob(prefix string) string {
	escaped := strings.NewReplacer("*", "[*]", "?", "[?]", "[", "[[]").Replace(prefix)
	return literal(escaped) + "*"
}

// Redact returns a command as one line for a log, quoted for a shell, with the
// password of a URL and the text of our own script left out, and at most
// [job.MaxLogLineBytes] long.
func Redact(argv []string) string {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		if arg == lockScript {
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

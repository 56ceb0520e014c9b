package job

import (
	"errors"
	"fmt"
)

// Bounds of the hooks around one backup.
const (
	MaxHooks       = 10        // before, after, and on failure each
	MaxHookTimeout = 24 * 3600 // seconds
)

func (h *Hooks) check() error {
	if h == nil {
		return nil
	}
	faults := []error{
		checkHooks("hooks.before", h.Before), checkHooks("hooks.after", h.After), checkHooks("hooks.on_failure", h.OnFailure),
		notNegative("hooks.timeout", h.Timeout),
	}
	if h.Timeout > MaxHookTimeout {
		faults = append(faults, badSpec("hooks.timeout", "%d seconds are more than a day", h.Timeout).WithHint("at most %d", MaxHookTimeout))
	}
	return errors.Join(faults...)
}

func checkHooks(field string, names []string) error {
	var faults []error
	if len(names) > MaxHooks {
		faults = append(faults, badSpec(field, "%d hooks, more than %d", len(names), MaxHooks).WithHint("let one hook call the others"))
	}
	for i, name := range names {
		faults = append(faults, checkHook(fmt.Sprintf("%s[%d]", field, i), name))
	}
	return errors.Join(faults...)
}

// HookNames returns the names of all scripts on the host that the backup runs.
func (s BackupSpec) HookNames() []string {
	var names []string
	for _, name := range []string{s.ContentFrom, s.PathsFrom} {
		if name != "" {
			names = append(names, name)
		}
	}
	if s.Hooks == nil {
		return names
	}
	return append(append(append(names, s.Hooks.Before...), s.Hooks.OnFailure...), s.Hooks.After...)
}

// checkContentTo checks a restore into a hook.
func (s RestoreSpec) checkContentTo() error {
	faults := []error{checkExisting("archive", s.Archive), checkHook("content_to", s.ContentTo), checkStoredList("paths", s.Paths)}
	if len(s.Paths) != 1 {
		faults = append(faults, badSpec("paths", "%d paths, where content_to takes one file", len(s.Paths)).
			WithHint("name the file as the archive has it, for example postgres.dump"))
	}
	others := s
	others.Archive, others.Paths, others.ContentTo = "", nil, ""
	if others.Target != "" {
		faults = append(faults, badSpec("target", "cannot be combined with content_to").WithHint("the hook decides where the content goes"))
	}
	if others.Overwrite || others.KeepExisting || others.NumericIDs || others.DryRun || others.ListFiles || others.StripComponents != 0 || len(others.Exclude) > 0 {
		faults = append(faults, badSpec("content_to", "excludes all fields but archive and paths").WithHint("the others are about files that are written"))
	}
	return errors.Join(faults...)
}

package worker

import (
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// scripts are the paths of the hooks that a job names.
type scripts struct {
	hook   string // of the content, of the paths, or for the content
	around borg.Hooks
}

// scripts resolves the hooks of a backup.
func (w *Worker) scripts(spec job.BackupSpec) (found scripts, failure *job.Failure) {
	if name := spec.ContentFrom + spec.PathsFrom; name != "" { // never both
		if found.hook, failure = w.options.Policy.Hook(name); failure != nil {
			return scripts{}, failure
		}
	}
	if spec.Hooks == nil {
		return found, nil
	}
	for _, list := range []struct {
		names []string
		paths *[]string
	}{{spec.Hooks.Before, &found.around.Before}, {spec.Hooks.After, &found.around.After}, {spec.Hooks.OnFailure, &found.around.OnFailure}} {
		for _, name := range list.names {
			path, failure := w.options.Policy.Hook(name)
			if failure != nil {
				return scripts{}, failure
			}
			*list.paths = append(*list.paths, path)
		}
	}
	return found, nil
}

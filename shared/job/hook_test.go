package job_test

import (
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
)

func TestHooksAreChecked(t *testing.T) {
	for name, test := range map[string]struct {
		kind       job.Kind
		spec, says string // says is empty: it is good
	}{
		"hooks":           {job.Backup, `{"paths":["/etc"],"hooks":{"before":["a"],"after":["b.sh"],"on_failure":["c"],"timeout":60}}`, ""},
		"a path":          {job.Backup, `{"paths":["/etc"],"hooks":{"before":["a","/bin/sh"]}}`, "hooks.before[1]"},
		"no name":         {job.Backup, `{"paths":["/etc"],"hooks":{"after":[""]}}`, "hooks.after[0]"},
		"negative":        {job.Backup, `{"paths":["/etc"],"hooks":{"timeout":-1}}`, "hooks.timeout"},
		"more than a day": {job.Backup, `{"paths":["/etc"],"hooks":{"timeout":86401}}`, "hooks.timeout"},
		"too many":        {job.Backup, `{"paths":["/etc"],"hooks":{"on_failure":["a","a","a","a","a","a","a","a","a","a","a"]}}`, "hooks.on_failure"},
		"into a hook":     {job.Restore, `{"archive":"a","paths":["app.dump"],"content_to":"load"}`, ""},
		"two files":       {job.Restore, `{"archive":"a","paths":["a","b"],"content_to":"load"}`, "paths"},
		"no file":         {job.Restore, `{"archive":"a","content_to":"load"}`, "paths"},
		"and a target":    {job.Restore, `{"archive":"a","paths":["a"],"target":"/srv/x","content_to":"load"}`, "target"},
		"and an option":   {job.Restore, `{"archive":"a","paths":["a"],"dry_run":true,"content_to":"load"}`, "content_to"},
		"a path as hook":  {job.Restore, `{"archive":"a","paths":["a"],"content_to":"../load"}`, "content_to"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := job.ParseSpec(test.kind, []byte(test.spec))
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want %q", err, test.says)
			}
		})
	}
}

package job_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
)

func TestCanaryOfABackup(t *testing.T) {
	canary := func(name, content string) *job.Canary { return &job.Canary{Name: name, Content: content} }
	paths := []string{"/etc"}
	tests := map[string]struct {
		spec  job.BackupSpec
		field string // of the fault; empty: none
	}{
		"none":                 {job.BackupSpec{Paths: paths}, ""},
		"beside paths":         {job.BackupSpec{Paths: paths, Canary: canary("web1-daily", "x")}, ""},
		"with a script's text": {job.BackupSpec{ContentFrom: "dump", Canary: canary("web1-daily", "x")}, "canary"},
		"with a script's list": {job.BackupSpec{PathsFrom: "dump", Canary: canary("web1-daily", "x")}, "canary"},
		"a path":               {job.BackupSpec{Paths: paths, Canary: canary("../x", "x")}, "canary.name"},
		"without a name":       {job.BackupSpec{Paths: paths, Canary: canary("", "x")}, "canary.name"},
		"without content":      {job.BackupSpec{Paths: paths, Canary: canary("a", "")}, "canary.content"},
		"with too much":        {job.BackupSpec{Paths: paths, Canary: canary("a", strings.Repeat("x", 1025))}, "canary.content"},
		"with a NUL byte":      {job.BackupSpec{Paths: paths, Canary: canary("a", "x\x00")}, "canary.content"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { checkField(t, test.spec.Validate(), test.field) })
	}
}

func checkField(t *testing.T, err error, field string) {
	t.Helper()
	failure, ok := errors.AsType[*job.Failure](err)
	if ok != (field != "") || ok && !strings.Contains(failure.Message, field+": ") {
		t.Errorf("%v is no fault of %q", err, field)
	}
}

func TestRestoreTestSpec(t *testing.T) {
	tests := map[string]struct {
		spec  job.RestoreTestSpec
		field string
	}{
		"the least":          {job.RestoreTestSpec{Archive: "web1-a"}, ""},
		"everything":         {job.RestoreTestSpec{Archive: "web1-a", Files: 1000, Bytes: 1 << 40, Seed: -7, Target: "/var/restore/borgfleet/test", NoSource: true, Canary: &job.Canary{Name: "a", Content: "x"}}, ""},
		"no archive":         {job.RestoreTestSpec{}, "archive"},
		"too many files":     {job.RestoreTestSpec{Archive: "a", Files: 1001}, "files"},
		"fewer than none":    {job.RestoreTestSpec{Archive: "a", Files: -1}, "files"},
		"less than nothing":  {job.RestoreTestSpec{Archive: "a", Bytes: -1}, "bytes"},
		"a relative target":  {job.RestoreTestSpec{Archive: "a", Target: "tmp"}, "target"},
		"a canary of no one": {job.RestoreTestSpec{Archive: "a", Canary: &job.Canary{Content: "x"}}, "canary.name"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { checkField(t, test.spec.Validate(), test.field) })
	}
}

package job_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/job"
)

// manyNames returns the inside of a JSON list.
func manyNames(n int) string {
	return `"` + strings.Repeat(`web1-2026-11-22","`, n-1) + `web1-2026-11-22"`
}

// TestParseSpecsOfArchives has, for each kind, what is taken and what is refused.
func TestParseSpecsOfArchives(t *testing.T) {
	for name, c := range map[string]struct {
		kind job.Kind
		text string
		want string // part of the message; empty: accepted
	}{
		"delete by names":         {job.Delete, `{"archives":["a","b"],"dry_run":true}`, ""},
		"delete by a glob":        {job.Delete, `{"glob":"web1-[0-9]*"}`, ""},
		"delete nothing":          {job.Delete, `{}`, "nothing to delete"},
		"delete by both":          {job.Delete, `{"archives":["a"],"glob":"a*"}`, "glob"},
		"delete a nameless one":   {job.Delete, `{"archives":["a",""]}`, "archives[1]"},
		"delete by an option":     {job.Delete, `{"archives":["--cache-only"]}`, "archives[0]"},
		"delete two in one name":  {job.Delete, `{"archives":["a\nb"]}`, "archives[0]"},
		"delete elsewhere":        {job.Delete, `{"archives":["/srv/other::a"]}`, "archives[0]"},
		"delete by a torn glob":   {job.Delete, `{"glob":"a[b"}`, "glob"},
		"delete by a glob option": {job.Delete, `{"glob":"-a*"}`, "glob"},
		"delete too many":         {job.Delete, `{"archives":[` + manyNames(job.MaxArchives+1) + `]}`, "allowed"},

		"mount an archive":          {job.Mount, `{"archive":"a","mount_point":"/mnt/a","idle":60}`, ""},
		"mount a repository":        {job.Mount, `{"mount_point":"/mnt/a b"}`, ""},
		"mount nowhere":             {job.Mount, `{"archive":"a"}`, "mount_point"},
		"mount at a relative place": {job.Mount, `{"mount_point":"mnt"}`, "absolute"},
		"mount over the system":     {job.Mount, `{"mount_point":"//"}`, "whole system"},
		"mount above":               {job.Mount, `{"mount_point":"/var/restore/../.."}`, ".."},
		"mount in two lines":        {job.Mount, `{"mount_point":"/mnt/a\nb"}`, "line end"},
		"mount at a NUL":            {job.Mount, `{"mount_point":"/mnt/a\u0000"}`, "NUL"},
		"mount for less than none":  {job.Mount, `{"mount_point":"/mnt/a","idle":-1}`, "idle"},
		"mount an option":           {job.Mount, `{"archive":"-o","mount_point":"/mnt/a"}`, "archive"},

		"umount":             {job.Umount, `{"mount_point":"/mnt/a","force":true}`, ""},
		"umount nothing":     {job.Umount, `{}`, "mount_point"},
		"umount the system":  {job.Umount, `{"mount_point":"/"}`, "whole system"},
		"umount by a number": {job.Umount, `{"mount_point":7}`, "mount_point"},

		"diff":                    {job.Diff, `{"archive":"a","other":"b","paths":["etc"]}`, ""},
		"diff of one":             {job.Diff, `{"archive":"a"}`, "other"},
		"diff with itself":        {job.Diff, `{"archive":"a","other":"a"}`, "same archive"},
		"diff across":             {job.Diff, `{"archive":"a","other":"/srv/other::b"}`, "other"},
		"diff of a path above":    {job.Diff, `{"archive":"a","other":"b","paths":["../x"]}`, "paths[0]"},
		"diff of an empty path":   {job.Diff, `{"archive":"a","other":"b","paths":[""]}`, "paths[0]"},
		"diff of a path in lines": {job.Diff, `{"archive":"a","other":"b","paths":["a\rb"]}`, "line end"},

		"verify":          {job.Verify, ``, ""},
		"verify and mend": {job.Verify, `{"accept_moved":true,"accept_older":true,"rebuild_cache":true}`, ""},
		"verify what":     {job.Verify, `{"repository":"main"}`, "repository"},

		"download everything":     {job.Download, `{"archive":"a"}`, ""},
		"download a directory":    {job.Download, `{"archive":"a","path":"etc","format":"tar"}`, ""},
		"download a file":         {job.Download, `{"archive":"a","path":"/etc/hosts","format":"file"}`, ""},
		"download from nothing":   {job.Download, `{"path":"etc"}`, "archive"},
		"download no file":        {job.Download, `{"archive":"a","format":"file"}`, "path"},
		"download as zip":         {job.Download, `{"archive":"a","format":"zip"}`, "zip"},
		"download from above":     {job.Download, `{"archive":"a","path":"a/../../b"}`, "path"},
		"download in two lines":   {job.Download, `{"archive":"a","path":"a\nb"}`, "line end"},
		"download a NUL":          {job.Download, `{"archive":"a","path":"a\u0000"}`, "NUL"},
		"download a long path":    {job.Download, `{"archive":"a","path":"` + strings.Repeat("x", 5000) + `"}`, "bytes"},
		"list files":              {job.List, `{"archive":"a"}`, ""},
		"list files, the newest":  {job.List, `{"archive":"a","last":1}`, "excludes"},
		"list by a glob":          {job.List, `{"glob":"web?-*","last":3}`, ""},
		"list by two":             {job.List, `{"glob":"a*","prefix":"a"}`, "prefix"},
		"list by time":            {job.List, `{"after":"2026-01-01T00:00:00Z","before":"2026-02-01T00:00:00Z"}`, ""},
		"list by time, backwards": {job.List, `{"after":"2026-02-01T00:00:00Z","before":"2026-01-01T00:00:00Z"}`, "later"},
		"list by no time":         {job.List, `{"after":"yesterday"}`, "yesterday"},
	} {
		t.Run(name, func(t *testing.T) { parseSpec(t, c.kind, c.text, c.want) })
	}
}

func parseSpec(t *testing.T, kind job.Kind, text, want string) {
	t.Helper()
	spec, err := job.ParseSpec(kind, []byte(text))
	if want == "" {
		if err != nil {
			t.Fatal(err)
		}
		if spec.Kind() != kind {
			t.Errorf("kind %s", spec.Kind())
		}
		return
	}
	f, ok := errors.AsType[*job.Failure](err)
	if !ok || f.Code != job.InvalidSpec || !strings.Contains(err.Error(), want) {
		t.Errorf("got %#v (%v), want invalid_spec that names %q", f, err, want)
	}
}

// TestParseSpecsWithMore is about the fields that older kinds have since.
func TestParseSpecsWithMore(t *testing.T) {
	for name, c := range map[string]struct {
		kind job.Kind
		text string
		want string
	}{
		"prune every archive":      {job.Prune, `{"keep_last":1,"all":true,"max_percent":100,"confirmed":true}`, ""},
		"prune all of a prefix":    {job.Prune, `{"keep_last":1,"all":true,"prefix":"web1-"}`, "all"},
		"prune more than all":      {job.Prune, `{"keep_last":1,"max_percent":101}`, "max_percent"},
		"prune less than none":     {job.Prune, `{"keep_last":1,"max_percent":-1}`, "max_percent"},
		"repair":                   {job.Check, `{"repair":true,"verify_data":true}`, ""},
		"repair for a while":       {job.Check, `{"repair":true,"max_duration":60}`, "repair"},
		"repair some":              {job.Check, `{"repair":true,"last":1}`, "last"},
		"check some":               {job.Check, `{"last":3,"prefix":"web1-"}`, ""},
		"check some, but none":     {job.Check, `{"last":3,"repository_only":true}`, "last"},
		"check for less than none": {job.Check, `{"max_duration":-1}`, "max_duration"},
		"restore some":             {job.Restore, `{"archive":"a","target":"/r","exclude":["*.log"],"strip_components":2,"numeric_ids":true,"dry_run":true}`, ""},
		"restore both ways":        {job.Restore, `{"archive":"a","target":"/r","overwrite":true,"keep_existing":true}`, "keep_existing"},
		"restore kept and cut":     {job.Restore, `{"archive":"a","target":"/r","keep_existing":true,"strip_components":1}`, "keep_existing"},
		"restore over the system":  {job.Restore, `{"archive":"a","target":"/"}`, "whole system"},
		"restore with less":        {job.Restore, `{"archive":"a","target":"/r","strip_components":-1}`, "strip_components"},

		"backup with patterns":       {job.Backup, `{"paths":["/a"],"patterns":["+ a/b","- a","! c"],"patterns_from":["/etc/p"],"exclude_if_present":[".nobackup"]}`, ""},
		"backup with no pattern":     {job.Backup, `{"paths":["/a"],"patterns":["a/b"]}`, "patterns[0]"},
		"backup with an odd style":   {job.Backup, `{"paths":["/a"],"patterns":["+ pp:a","P sh","- zz:b"]}`, "patterns[2]"},
		"backup without a style":     {job.Backup, `{"paths":["/a"],"exclude":["re:[","*:x","a:b","sh:**"],"patterns":["- abc:d"]}`, ""},
		"backup with an odd exclude": {job.Backup, `{"paths":["/a"],"exclude":["*.log","zz:b"]}`, "exclude[1]"},
		"restore with an odd style":  {job.Restore, `{"archive":"a","target":"/r","exclude":["zz:b"]}`, "exclude[0]"},
		"backup of no text":          {job.Backup, "{\"paths\":[\"/\xff\"]}", "not UTF-8"},
		"backup with a root":         {job.Backup, `{"paths":["/a"],"patterns":["R /b"]}`, "patterns[0]"},
		"backup with two patterns":   {job.Backup, `{"paths":["/a"],"patterns":["- a\n+ b"]}`, "line end"},
		"backup by a relative file":  {job.Backup, `{"paths":["/a"],"exclude_from":["p"]}`, "exclude_from[0]"},
		"backup by a file above":     {job.Backup, `{"paths":["/a"],"patterns_from":["/etc/../p"]}`, "patterns_from[0]"},
		"backup of a script":         {job.Backup, `{"content_from":"postgres-dump","stdin_name":"postgres.sql"}`, ""},
		"backup of a script's paths": {job.Backup, `{"paths_from":"changed.sh"}`, ""},
		"backup of both":             {job.Backup, `{"paths":["/a"],"content_from":"dump"}`, "paths"},
		"backup of two scripts":      {job.Backup, `{"content_from":"dump","paths_from":"changed"}`, "paths_from"},
		"backup of a program":        {job.Backup, `{"content_from":"/bin/sh"}`, "content_from"},
		"backup of a command":        {job.Backup, `{"paths_from":"sh -c x"}`, "paths_from"},
		"name without a script":      {job.Backup, `{"paths":["/a"],"stdin_name":"x"}`, "stdin_name"},
		"name above":                 {job.Backup, `{"content_from":"dump","stdin_name":"../x"}`, "stdin_name"},
		"backup with raw options":    {job.Backup, `{"paths":["/a"],"extra_options":["--noatime","--chunker-params=19,23,21,4095"]}`, ""},
		"backup with a short option": {job.Backup, `{"paths":["/a"],"extra_options":["-v"]}`, "extra_options[0]"},
		"backup with an argument":    {job.Backup, `{"paths":["/a"],"extra_options":["--"]}`, "extra_options[0]"},
		"files cache":                {job.Backup, `{"paths":["/a"],"files_cache":"mtime,size"}`, ""},
		"no files cache":             {job.Backup, `{"paths":["/a"],"files_cache":"sometimes"}`, "files_cache"},
		"checkpoints back in time":   {job.Backup, `{"paths":["/a"],"checkpoint_interval":-1}`, "checkpoint_interval"},
	} {
		t.Run(name, func(t *testing.T) { parseSpec(t, c.kind, c.text, c.want) })
	}
}

func TestStreams(t *testing.T) {
	for name, c := range map[string]struct {
		spec job.Spec
		want bool
	}{
		"download":         {job.DownloadSpec{Archive: "a"}, true},
		"files":            {job.ListSpec{Archive: "a"}, true},
		"archives":         {job.ListSpec{}, false},
		"archives by name": {job.ListSpec{Prefix: "a"}, false},
		"diff":             {job.DiffSpec{Archive: "a", Other: "b"}, false},
		"backup":           {job.BackupSpec{}, false},
		"mount":            {job.MountSpec{}, false},
	} {
		if got := job.Streams(c.spec); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// which returns the kinds of which something holds.
func which(holds func(job.Kind) bool) []job.Kind {
	var kinds []job.Kind
	for _, kind := range job.Kinds() {
		if holds(kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

func TestKinds(t *testing.T) {
	for name, c := range map[string]struct {
		holds func(job.Kind) bool
		want  []job.Kind
	}{
		"without a repository": {func(k job.Kind) bool { return !k.NeedsRepository() }, []job.Kind{job.Umount, job.Verify}},
		"without a slot":       {func(k job.Kind) bool { return !k.TakesSlot() }, []job.Kind{job.Mount, job.Umount}},
		"tried once": {func(k job.Kind) bool { return k.DefaultAttempts() == 1 },
			[]job.Kind{job.Init, job.Restore, job.Delete, job.Mount, job.Umount, job.BreakLock, job.Download}},
		"unknown": {func(k job.Kind) bool { return !k.Known() }, nil},
	} {
		if diff := cmp.Diff(c.want, which(c.holds)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// Every kind has a spec, which says that it is of that kind.
func TestEveryKindHasASpec(t *testing.T) {
	for _, kind := range job.Kinds() {
		_, err := job.ParseSpec(kind, nil)
		if f := job.AsFailure(err); f != nil && f.Code != job.InvalidSpec {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestHTTPStatus has every code: what the caller did wrong is 4xx, what cannot be
// done now or there is 5xx.
func TestHTTPStatus(t *testing.T) {
	for status, codes := range map[int][]job.Code{
		400: {job.InvalidRequest},
		401: {job.NotAuthenticated},
		403: {job.NotAllowed, job.PassphraseWrong, job.KeyMissing, job.PermissionDenied, job.RefusedByHost},
		404: {job.UnknownHost, job.UnknownRepository, job.UnknownJob, job.NotFound, job.RepositoryMissing, job.ArchiveMissing, job.PathMissing, job.NotMounted},
		409: {job.Conflict, job.NotListed, job.RepositoryExists, job.ArchiveExists, job.TargetNotEmpty, job.MountPointBusy, job.NeedsConfirmation, job.CodeCancelled},
		413: {job.TooLarge},
		422: {job.InvalidSpec, job.UnknownKind, job.RepositoryInvalid, job.IntegrityError},
		423: {job.RepositoryLocked},
		429: {job.TooMany},
		500: {job.Internal, job.Interrupted, job.HookFailed, "something_later"},
		502: {job.ConnectionLost, job.HostKeyChanged},
		503: {job.Unavailable, job.HostUnreachable, job.BorgMissing, job.BorgUnsupported, job.FuseMissing},
		504: {job.Timeout},
		507: {job.DiskFull, job.QuotaExceeded},
	} {
		for _, code := range codes {
			if got := code.HTTPStatus(); got != status {
				t.Errorf("%s: %d, want %d", code, got, status)
			}
		}
	}
}

func TestRetryableCodes(t *testing.T) {
	for code, want := range map[job.Code]bool{
		job.RepositoryLocked: true, job.ConnectionLost: true, job.HostUnreachable: true, job.Interrupted: true,
		job.MountPointBusy: false, job.NotMounted: false, job.FuseMissing: false, job.TargetNotEmpty: false,
		job.NeedsConfirmation: false, job.NotListed: false, job.Timeout: false, job.IntegrityError: false,
	} {
		if code.Retryable() != want || job.Fail(code, "x").Retryable != want {
			t.Errorf("%s: %v", code, !want)
		}
	}
}

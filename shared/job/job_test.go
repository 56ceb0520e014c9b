package job_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/job"
)

func TestStateTable(t *testing.T) {
	for _, from := range job.States() {
		for _, to := range job.States() {
			if from.Terminal() && from.CanBecome(to) {
				t.Errorf("terminal %s can become %s", from, to)
			}
			if from == to && from.CanBecome(to) {
				t.Errorf("%s can become itself", from)
			}
		}
	}
	for _, c := range []struct {
		from, to job.State
		want     bool
	}{
		{job.Queued, job.Sent, true},
		{job.Queued, job.Running, false},
		{job.Sent, job.Queued, true},
		{job.Sent, job.Succeeded, true},
		{job.Running, job.Queued, true},
		{job.Running, job.Sent, false},
		{job.Running, job.Expired, false},
		{job.State("lost"), job.Queued, false},
	} {
		if got := c.from.CanBecome(c.to); got != c.want {
			t.Errorf("%s to %s: %t, want %t", c.from, c.to, got, c.want)
		}
	}
	if job.State("lost").Terminal() {
		t.Error("an unknown state is terminal")
	}
}

func TestParseIDRefuses(t *testing.T) {
	id := job.NewID(time.Now())
	if got, err := job.ParseID(string(id)); err != nil || got != id {
		t.Errorf("a fresh id is refused: %v", err)
	}
	for _, text := range []string{"", "x", strings.ToLower(string(id)), string(id) + "0", "../../etc/passwd/aaaaaaaaaa", string(id)[:25] + "*"} {
		if _, err := job.ParseID(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestIDsSortByTime(t *testing.T) {
	early, late := job.NewID(time.UnixMilli(1000)), job.NewID(time.UnixMilli(1001))
	if early >= late {
		t.Errorf("%s is not before %s", early, late)
	}
}

func TestTitle(t *testing.T) {
	for want, j := range map[string]job.Job{
		"backup of web1":       {Kind: job.Backup, Host: "web1"},
		"prune for web1":       {Kind: job.Prune, Host: "coordinator", For: "web1"},
		"check of coordinator": {Kind: job.Check, Host: "coordinator"},
	} {
		if got := j.Title(); got != want {
			t.Errorf("%q, and not %q", got, want)
		}
	}
}

// recipient is somebody's, from age's documentation.
const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// Who pastes the wrong line of an age-keygen file must not see it in a log.
func TestAgeIdentityIsNotRepeated(t *testing.T) {
	identity := "AGE-SECRET-KEY-1" + strings.Repeat("Q", 58)
	for _, pasted := range []string{identity, strings.ToLower(identity)} {
		_, err := job.ParseSpec(job.KeyExport, []byte(`{"recipient":"`+pasted+`"}`))
		if err == nil || !strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), pasted[15:]) {
			t.Errorf("got %v", err)
		}
	}
}

func TestUnencryptedRepositoryHasNoKey(t *testing.T) {
	for _, mode := range job.Encryptions() {
		err := job.Repository{Name: "main", Encryption: mode}.CheckKind(job.KeyExport)
		if (err != nil) != (mode == job.Unencrypted) || err != nil && job.AsFailure(err).Code != job.InvalidSpec {
			t.Errorf("%s: %v", mode, err)
		}
	}
	if err := (job.Repository{Encryption: job.Unencrypted}).CheckKind(job.Backup); err != nil {
		t.Error(err)
	}
}

// What borg itself lets run side by side shares the repository.
func TestReadersShareTheRepository(t *testing.T) {
	var readers []job.Kind
	for _, kind := range job.Kinds() {
		if !kind.Exclusive() {
			readers = append(readers, kind)
		}
	}
	want := []job.Kind{job.List, job.Info, job.Restore, job.Mount, job.Umount, job.Diff, job.Verify, job.KeyExport, job.Download, job.TestRestore}
	if diff := cmp.Diff(want, readers); diff != "" {
		t.Error(diff)
	}
}

func TestParseSpec(t *testing.T) {
	for name, c := range map[string]struct {
		kind job.Kind
		text string
		code job.Code // "" means accepted
		want string   // part of the message
	}{
		"backup":                   {job.Backup, `{"paths":["/etc"],"exclude":["*.log"],"compression":"zstd,3"}`, "", ""},
		"empty spec":               {job.Compact, ``, "", ""},
		"null spec":                {job.Compact, `null`, "", ""},
		"unknown kind":             {"explode", `{}`, job.UnknownKind, "explode"},
		"no paths":                 {job.Backup, `{}`, job.InvalidSpec, "paths"},
		"relative path":            {job.Backup, `{"paths":["etc"]}`, job.InvalidSpec, "relative"},
		"empty path":               {job.Backup, `{"paths":[""]}`, job.InvalidSpec, "paths[0]"},
		"NUL in path":              {job.Backup, `{"paths":["/a\u0000b"]}`, job.InvalidSpec, "NUL"},
		"unknown field":            {job.Backup, `{"paths":["/etc"],"path":"/x"}`, job.InvalidSpec, "path"},
		"wrong type":               {job.Backup, `{"paths":"/etc"}`, job.InvalidSpec, "paths"},
		"malformed":                {job.Backup, `{"paths":[`, job.InvalidSpec, "malformed"},
		"two values":               {job.Compact, `{} {}`, job.InvalidSpec, "more than one"},
		"bad compression":          {job.Backup, `{"paths":["/etc"],"compression":"zip"}`, job.InvalidSpec, "zip"},
		"bad level":                {job.Backup, `{"paths":["/etc"],"compression":"zstd,23"}`, job.InvalidSpec, "zstd,23"},
		"level without one":        {job.Backup, `{"paths":["/etc"],"compression":"lz4,1"}`, job.InvalidSpec, "lz4,1"},
		"auto":                     {job.Backup, `{"paths":["/etc"],"compression":"auto,zstd,22"}`, "", ""},
		"archive with slash":       {job.Backup, `{"paths":["/etc"],"archive":"a/b"}`, job.InvalidSpec, "archive"},
		"archive is an option":     {job.Backup, `{"paths":["/etc"],"archive":"--stats"}`, job.InvalidSpec, "archive"},
		"prune keeps nothing":      {job.Prune, `{}`, job.InvalidSpec, "delete every archive"},
		"prune":                    {job.Prune, `{"keep_daily":7,"keep_within":"2d"}`, "", ""},
		"prune negative":           {job.Prune, `{"keep_daily":-1,"keep_last":1}`, job.InvalidSpec, "keep_daily"},
		"prune bad interval":       {job.Prune, `{"keep_within":"2 days"}`, job.InvalidSpec, "keep_within"},
		"check both":               {job.Check, `{"verify_data":true,"repository_only":true}`, job.InvalidSpec, "verify_data"},
		"restore":                  {job.Restore, `{"archive":"web1-a","target":"/var/restore","paths":["etc/hosts","/home","-x"],"overwrite":true}`, "", ""},
		"restore of nothing":       {job.Restore, `{"target":"/var/restore"}`, job.InvalidSpec, "archive"},
		"restore nowhere":          {job.Restore, `{"archive":"a"}`, job.InvalidSpec, "target"},
		"relative target":          {job.Restore, `{"archive":"a","target":"restore"}`, job.InvalidSpec, "absolute"},
		"target with dots":         {job.Restore, `{"archive":"a","target":"/var/../etc"}`, job.InvalidSpec, "target"},
		"target with NUL":          {job.Restore, `{"archive":"a","target":"/a\u0000b"}`, job.InvalidSpec, "NUL"},
		"target in two lines":      {job.Restore, `{"archive":"a","target":"/a\nb"}`, job.InvalidSpec, "line end"},
		"archive is a pattern":     {job.Restore, `{"archive":"-a","target":"/a"}`, job.InvalidSpec, "archive"},
		"stored empty":             {job.Restore, `{"archive":"a","target":"/a","paths":[""]}`, job.InvalidSpec, "paths[0]"},
		"stored with dots":         {job.Restore, `{"archive":"a","target":"/a","paths":["etc","etc/../x"]}`, job.InvalidSpec, "paths[1]"},
		"stored is a dot":          {job.Restore, `{"archive":"a","target":"/a","paths":["./"]}`, job.InvalidSpec, "paths[0]"},
		"stored with NUL":          {job.Restore, `{"archive":"a","target":"/a","paths":["a\u0000b"]}`, job.InvalidSpec, "NUL"},
		"stored in two lines":      {job.Restore, `{"archive":"a","target":"/a","paths":["a\nb"]}`, job.InvalidSpec, "line end"},
		"key export":               {job.KeyExport, `{"recipient":"` + recipient + `"}`, "", ""},
		"key export to nobody":     {job.KeyExport, `{}`, job.InvalidSpec, "recipient"},
		"recipient misspelt":       {job.KeyExport, `{"recipient":"` + recipient[:20] + "q" + recipient[21:] + `"}`, job.InvalidSpec, "recipient"},
		"recipient is an ssh key":  {job.KeyExport, `{"recipient":"ssh-ed25519 AAAA"}`, job.InvalidSpec, "age-keygen"},
		"break lock":               {job.BreakLock, `{"force":true}`, "", ""},
		"break lock, but only say": {job.BreakLock, `{"force":true,"dry_run":true}`, job.InvalidSpec, "dry_run"},
		"bad encryption":           {job.Init, `{"encryption":"rot13"}`, job.InvalidSpec, "rot13"},
		"too large":                {job.Backup, `{"paths":["/` + strings.Repeat("a", job.MaxSpecBytes) + `"]}`, job.TooLarge, "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := job.ParseSpec(c.kind, []byte(c.text))
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				if spec.Kind() != c.kind {
					t.Errorf("kind %s", spec.Kind())
				}
				return
			}
			f, ok := errors.AsType[*job.Failure](err)
			if !ok || f.Code != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %#v (%v), want code %s that names %q", f, err, c.code, c.want)
			}
		})
	}
}

func TestEveryFaultOfASpecIsNamed(t *testing.T) {
	_, err := job.ParseSpec(job.Backup, []byte(`{"paths":["a","b"],"compression":"x","archive":"a b"}`))
	for _, want := range []string{"paths[0]", "paths[1]", "compression", "archive"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in: %v", want, err)
		}
	}
}

func TestJobRoundTripsWithItsSpec(t *testing.T) {
	at := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	percent := 42.0
	want := job.Job{
		ID: job.NewID(at), Kind: job.Backup, Host: "web1", Repository: "web1-main", Plan: "web1-daily",
		State: job.Running, Attempt: 1, MaxAttempts: 3, SubmittedBy: "operator:alice", SubmittedAt: at, StartedAt: &at,
		Spec:     job.BackupSpec{Paths: []string{"/etc", "/var/www"}, Exclude: []string{"*.log"}, Compression: "zstd,3"},
		Progress: &job.Progress{Phase: "create", NFiles: 1542, Percent: &percent, At: at},
		Attempts: []job.Attempt{{Number: 1, State: job.Running, SentAt: at}},
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got job.Job
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The field names of the contract, as a job of every sort shows them.
func TestJobHasTheFieldsOfTheContract(t *testing.T) {
	data, err := json.Marshal(job.Job{
		Kind: job.Backup, Spec: job.BackupSpec{}, Progress: &job.Progress{}, Result: &job.Result{Archive: "a", ArchiveID: "b"}, Failure: &job.Failure{},
	})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	contract := map[string]string{
		"":         "id kind host repository plan state reason attempt submitted_by submitted_at started_at finished_at spec progress result failure",
		"progress": "phase nfiles original_size compressed_size deduplicated_size path percent rate eta_seconds at",
		"result":   "archive archive_id original_size compressed_size deduplicated_size nfiles compression_ratio deduplication_ratio duration borg_version warnings",
		"failure":  "code message hint retryable",
	}
	for part, names := range contract {
		object := fields
		if part != "" {
			object = fields[part].(map[string]any)
		}
		for _, name := range strings.Fields(names) {
			if _, ok := object[name]; !ok {
				t.Errorf("%s %q is missing", part, name)
			}
		}
	}
}

func TestRatiosOfAnEmptyArchiveAreZero(t *testing.T) {
	r := job.Result{CompressedSize: 5}
	r.SetRatios()
	if r.CompressionRatio != 0 || r.DeduplicationRatio != 0 {
		t.Errorf("%v %v", r.CompressionRatio, r.DeduplicationRatio)
	}
	r = job.Result{OriginalSize: 200, CompressedSize: 100, DeduplicatedSize: 50}
	r.SetRatios()
	if r.CompressionRatio != 0.5 || r.DeduplicationRatio != 0.25 {
		t.Errorf("%v %v", r.CompressionRatio, r.DeduplicationRatio)
	}
}

func TestRepositoryValidate(t *testing.T) {
	for location, ok := range map[string]bool{
		"/srv/borg/web1":                     true,
		"/srv/with space":                    true,
		"ssh://backup@store.example.net/srv": true,
		"ssh://store:2222/./rel":             true,
		"ssh://[::1]:22/srv/borg":            true,
		"relative/path":                      false,
		"":                                   false,
		"/srv/repo::archive":                 false,
		"/srv/\nrepo":                        false,
		"ssh://-oProxyCommand=x/srv":         false,
		"ssh://-oProxyCommand=x@host/srv":    false,
		"http://store/srv":                   false,
		"store:/srv":                         false,
		"ssh://store:2222/srv/a@b":           true,
		"ssh://store/srv/repo::archive":      false,
		"ssh://backup:word@store/srv":        false,
		"/srv/{hostname}":                    false,
		"ssh://store/srv/}":                  false,
	} {
		err := job.Repository{Name: "r", Location: location, Encryption: job.Repokey}.Validate()
		if (err == nil) != ok {
			t.Errorf("%q: %v", location, err)
		}
	}
	for name, ok := range map[string]bool{"web1-main": true, "Web": false, "": false, "-x": false, "a b": false, ".x": false} {
		err := job.CheckRepositoryName("name", name)
		if (err == nil) != ok {
			t.Errorf("name %q: %v", name, err)
		}
	}
	for name, ok := range map[string]bool{"web1": true, "a.b": false, "*": false, ">": false, "": false, strings.Repeat("a", 64): false} {
		err := job.CheckHostName("host", name)
		if (err == nil) != ok {
			t.Errorf("host %q: %v", name, err)
		}
	}
}

func TestRepositoryLocationIsRefusedInClearWords(t *testing.T) {
	for location, part := range map[string]string{
		"/srv/{now}":                    "placeholders",
		"ssh://store/srv/repo::archive": "double colon",
		"ssh://backup:hunter2@store/x":  "password",
	} {
		failure := job.AsFailure(job.Repository{Name: "r", Location: location, Encryption: job.Repokey}.Validate())
		if failure.Code != job.InvalidRequest || failure.Hint == "" || !strings.Contains(failure.Message, part) {
			t.Errorf("%s: %+v", location, failure)
		}
		if strings.Contains(failure.Error(), "hunter2") {
			t.Errorf("the password is repeated: %v", failure)
		}
	}
}

func TestAsFailureKeepsAndWraps(t *testing.T) {
	inner := job.Fail(job.RepositoryLocked, "busy")
	if got := job.AsFailure(errors.Join(inner)); got != inner || !got.Retryable {
		t.Errorf("%#v", got)
	}
	if got := job.AsFailure(errors.New("boom")); got.Code != job.Internal || got.Message != "boom" || got.Retryable {
		t.Errorf("%#v", got)
	}
	if job.AsFailure(nil) != nil {
		t.Error("nil became a failure")
	}
	if job.UnknownHost.HTTPStatus() != 404 || job.Internal.HTTPStatus() != 500 {
		t.Error("HTTP status")
	}
}

func TestFilterValidate(t *testing.T) {
	for name, c := range map[string]struct {
		filter job.Filter
		ok     bool
	}{
		"empty":      {job.Filter{}, true},
		"all":        {job.Filter{State: job.Failed, Kind: job.Backup, Limit: job.MaxPage, Cursor: string(job.NewID(time.Now()))}, true},
		"bad state":  {job.Filter{State: "lost"}, false},
		"bad kind":   {job.Filter{Kind: "lost"}, false},
		"bad limit":  {job.Filter{Limit: job.MaxPage + 1}, false},
		"bad cursor": {job.Filter{Cursor: "x"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.filter.Validate(); (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
}

func TestJobIsReadThoughItsSpecIsNotOurs(t *testing.T) {
	paths := make([]string, 60)
	for i := range paths {
		paths[i] = "/" + strings.Repeat("<", 4000) // six bytes each in encoded JSON
	}
	long, err := json.Marshal(job.BackupSpec{Paths: paths})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		spec string
		want job.Spec
	}{
		"a field of a later version": {`{"paths":["/etc"],"colour":"red"}`, job.BackupSpec{Paths: []string{"/etc"}}},
		"valid by older rules":       {`{"paths":["etc"]}`, job.BackupSpec{Paths: []string{"etc"}}},
		"longer when encoded":        {string(long), job.BackupSpec{Paths: paths}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got job.Job
			if err := json.Unmarshal([]byte(`{"kind":"backup","spec":`+test.spec+`}`), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got.Spec); diff != "" {
				t.Error(diff)
			}
		})
	}
	var j job.Job
	if err := json.Unmarshal([]byte(`{"kind":"dance","spec":{}}`), &j); job.AsFailure(err).Code != job.UnknownKind {
		t.Errorf("a job of an unknown kind: %v", err)
	}
}

package httpapi_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// borgServed is a server with one host and one repository, whose jobs all end
// the same way.
func borgServed(t *testing.T, play func(job.Job) job.Job) *served {
	t.Helper()
	s := serve(t, nil)
	s.afresh(play)
	return s
}

// afresh makes the backend as borgServed has made it: a server for each case
// would take long.
func (s *served) afresh(play func(job.Job) job.Job) {
	s.mu.Lock()
	s.jobs, s.keys, s.borg = nil, map[string]job.ID{}, borg{play: play}
	clear(s.hosts)
	clear(s.repositories)
	s.mu.Unlock()
	s.put("web1", "main")
}

func borgFails(code job.Code) func(job.Job) job.Job {
	return func(j job.Job) job.Job { return failed(j, code) }
}

// TestBorgFailures: each failure of a job has a status of its own, and names
// its code, its hint and the job.
func TestBorgFailures(t *testing.T) {
	s := borgServed(t, nil)
	for code, test := range map[job.Code]struct {
		status             int
		method, path, body string
	}{
		job.PassphraseWrong:   {403, "GET", "/info?repository_path=main&passphrase=wrong", ""},
		job.RepositoryMissing: {404, "POST", "/compact?repository_path=main", ""},
		job.ArchiveMissing:    {404, "DELETE", "/archives/nope?repository_path=main", ""},
		job.PathMissing:       {404, "POST", "/create", `{"archive_name":"a","repository_path":"main","source_paths":["/nope"]}`},
		job.NotMounted:        {404, "POST", "/umount?mount_point=/restore/mnt", ""},
		job.RepositoryExists:  {409, "POST", "/init", `{"repository_path":"main","passphrase":"x"}`},
		job.ArchiveExists:     {409, "POST", "/create", `{"archive_name":"a","repository_path":"main","source_paths":["/etc"]}`},
		job.TargetNotEmpty:    {409, "POST", "/extract/a", `{"target_path":"/restore/x","repository_path":"main"}`},
		job.MountPointBusy:    {409, "POST", "/mount", `{"mount_point":"/restore/x","repository_path":"main"}`},
		job.IntegrityError:    {422, "POST", "/check?repository_path=main", ""},
		job.RefusedByHost:     {403, "POST", "/extract/a", `{"target_path":"/restore/x","repository_path":"main"}`},
		job.RepositoryLocked:  {423, "POST", "/prune", `{"repository_path":"main"}`},
		job.DiskFull:          {507, "POST", "/create", `{"archive_name":"a","repository_path":"main","source_paths":["/etc"]}`},
		job.FuseMissing:       {503, "POST", "/mount", `{"mount_point":"/restore/x","repository_path":"main"}`},
		job.Timeout:           {504, "GET", "/archives?repository_path=main", ""},
	} {
		t.Run(string(code), func(t *testing.T) {
			s.afresh(borgFails(code))
			answer := s.do(request(test.method, borgPath+test.path, test.body))
			problem := decode[httpapi.Problem](t, answer.Body.Bytes())
			if answer.Code != test.status || problem.Status != test.status || answer.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("status %d, want %d: %s", answer.Code, test.status, answer.Body)
			}
			if problem.Code != code || problem.Detail != "borg said no" || problem.Hint != "ask it nicely" || problem.Job != s.jobs[0].ID {
				t.Errorf("problem %+v", problem)
			}
		})
	}
}

// TestBorgEnds are ends without a failure of their own.
func TestBorgEnds(t *testing.T) {
	s := borgServed(t, nil)
	for state, test := range map[job.State]struct {
		status int
		code   job.Code
	}{
		job.Cancelled: {409, job.CodeCancelled}, job.Expired: {504, job.Timeout}, job.Failed: {500, job.Internal},
	} {
		t.Run(string(state), func(t *testing.T) {
			s.afresh(func(j job.Job) job.Job {
				j = ended(j, job.Result{})
				j.State = state
				return j
			})
			answer := s.do(request("GET", borgPath+"/info?repository_path=main", ""))
			if problem := decode[httpapi.Problem](t, answer.Body.Bytes()); answer.Code != test.status || problem.Code != test.code {
				t.Errorf("status %d: %s", answer.Code, answer.Body)
			}
		})
	}
}

// TestBorgRefuses: what is refused has no job, and leaves no repository behind.
func TestBorgRefuses(t *testing.T) {
	s := borgServed(t, nil)
	for what, test := range map[string]struct {
		method, path, body string
		status             int
		code               job.Code
		words              string // in sentence or hint
	}{
		"an unknown encryption mode":    {"POST", "/init", `{"repository_path":"/srv/new","passphrase":"x","encryption_mode":"rot13"}`, 422, job.InvalidSpec, "repokey-blake2"},
		"another mode than declared":    {"POST", "/init", `{"repository_path":"main","passphrase":"x","encryption_mode":"keyfile"}`, 409, job.Conflict, "repokey-blake2"},
		"no passphrase to encrypt with": {"POST", "/init", `{"repository_path":"/srv/new"}`, 400, job.InvalidRequest, "passphrase"},
		"an unknown compression":        {"POST", "/create", `{"archive_name":"a","repository_path":"/srv/new","source_paths":["/etc"],"compression":"rar"}`, 422, job.InvalidSpec, "rar"},
		"a level that there is not":     {"POST", "/create", `{"archive_name":"a","repository_path":"main","source_paths":["/etc"],"compression":"zstd,23"}`, 422, job.InvalidSpec, "zstd"},
		"an archive name with a space":  {"POST", "/create", `{"archive_name":"a b","repository_path":"main","source_paths":["/etc"]}`, 422, job.InvalidSpec, "archive"},
		"no paths":                      {"POST", "/create", `{"archive_name":"a","repository_path":"main","source_paths":[]}`, 422, job.InvalidSpec, "paths"},
		"a relative path":               {"POST", "/create", `{"archive_name":"a","repository_path":"main","source_paths":["etc"]}`, 422, job.InvalidSpec, "relative"},
		"a negative rule":               {"POST", "/prune", `{"repository_path":"/srv/new","keep_daily":-1}`, 422, job.InvalidSpec, "keep_daily"},
		"no rule":                       {"POST", "/prune", `{"repository_path":"main","keep_daily":0,"keep_weekly":0,"keep_monthly":0,"keep_yearly":0}`, 422, job.InvalidSpec, "delete every archive"},
		"a restore to the root":         {"POST", "/extract/a", `{"target_path":"/","repository_path":"main"}`, 422, job.InvalidSpec, "whole system"},
		"two archive names":             {"POST", "/extract/a", `{"archive_name":"b","target_path":"/restore/x","repository_path":"main"}`, 400, job.InvalidRequest, "archive_name"},
		"a path above the archive":      {"POST", "/extract/a", `{"target_path":"/restore/x","repository_path":"main","paths":["../etc"]}`, 422, job.InvalidSpec, ".."},
		"a relative mount point":        {"POST", "/mount", `{"mount_point":"mnt","repository_path":"main"}`, 422, job.InvalidSpec, "absolute"},
		"an archive name with a dash":   {"DELETE", "/archives/--force?repository_path=main", "", 422, job.InvalidSpec, "dash"},
		"an unknown name":               {"GET", "/info?repository_path=nope", "", 404, job.UnknownRepository, "nope"},
		"an unknown host":               {"GET", "/info?repository_path=main&host=web9", "", 404, job.UnknownHost, "web9"},
		"a location that is none":       {"GET", "/info?repository_path=me@store:borg", "", 400, job.InvalidRequest, "ssh://"},
		"a password in the location":    {"GET", "/info?repository_path=ssh://me:pw@store/borg", "", 400, job.InvalidRequest, "password"},
		"no repository":                 {"GET", "/info", "", 400, job.InvalidRequest, "repository_path"},
		"no mount point":                {"POST", "/umount", "", 400, job.InvalidRequest, "mount_point"},
		"an unknown parameter":          {"GET", "/info?repository_path=main&force=true", "", 400, job.InvalidRequest, "force"},
		"an unknown field":              {"POST", "/prune", `{"repository_path":"main","keep_secondly":1}`, 400, job.InvalidRequest, "keep_secondly"},
		"a bool that is none":           {"POST", "/check?repository_path=main&verify_data=maybe", "", 400, job.InvalidRequest, "verify_data"},
		"a passphrase with a line end":  {"GET", "/info?repository_path=main&passphrase=a%0Ab", "", 400, job.InvalidRequest, "control character"},
		"a passphrase that is no text":  {"GET", "/info?repository_path=main&passphrase=%FF%FE", "", 400, job.InvalidRequest, "UTF-8"},
		"a passphrase of many bytes":    {"GET", "/info?repository_path=main&passphrase=" + strings.Repeat("%C3%A4", 3000), "", 400, job.InvalidRequest, "4096"},
	} {
		t.Run(what, func(t *testing.T) {
			s.afresh(told)
			answer := s.do(request(test.method, borgPath+test.path, test.body))
			problem := decode[httpapi.Problem](t, answer.Body.Bytes())
			if answer.Code != test.status || problem.Code != test.code || !strings.Contains(problem.Detail+problem.Hint, test.words) {
				t.Errorf("status %d, want %d: %s", answer.Code, test.status, answer.Body)
			}
			if len(s.jobs) != 0 || len(s.repositories) != 1 {
				t.Errorf("%d jobs, %d repositories", len(s.jobs), len(s.repositories))
			}
		})
	}
}

func TestBorgHosts(t *testing.T) {
	s := borgServed(t, told)
	info := func(host string) (int, httpapi.Problem) {
		answer := s.do(request("GET", borgPath+"/info?repository_path=main"+host, ""))
		return answer.Code, decode[httpapi.Problem](t, answer.Body.Bytes())
	}
	s.put("web2", "main")
	if status, problem := info(""); status != 400 || problem.Code != job.InvalidRequest || problem.Hint != "one of web1, web2" {
		t.Errorf("two hosts: %d %+v", status, problem)
	}
	if status, _ := info("&host=web2"); status != http.StatusOK || s.jobs[0].Host != "web2" {
		t.Errorf("host=web2: %d", status)
	}
	for n := range 110 {
		s.put(fmt.Sprintf("db-%03d", n), "main")
	}
	if _, problem := info(""); !strings.HasSuffix(problem.Hint, "db-099, and 12 more") {
		t.Errorf("many hosts: %+v", problem)
	}
	clear(s.hosts)
	if status, problem := info(""); status != 400 || !strings.Contains(problem.Hint, "borgfleet host token") {
		t.Errorf("no host: %d %+v", status, problem)
	}
}

// TestBorgInTheDepot: what the coordinator does there itself needs no host, and
// "depot" alone names no repository.
func TestBorgInTheDepot(t *testing.T) {
	s := borgServed(t, told)
	s.put("web2", "main")
	s.mu.Lock()
	s.repositories["shared"] = fleet.RepositoryView{Repository: fleet.Repository{
		Repository: job.Repository{Name: "shared", Location: job.DepotLocation, Encryption: job.RepokeyBlake2},
		Custody:    fleet.CustodyCoordinator, HasPassphrase: true, Depot: &fleet.Depot{},
	}}
	s.mu.Unlock()
	const body = `{"repository_path":"shared"`
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		host, subject      string
	}{
		"info":             {"GET", "/info?repository_path=shared", "", 200, fleet.LocalHost, ""},
		"info for a host":  {"GET", "/info?repository_path=shared&host=web2", "", 200, fleet.LocalHost, "web2"},
		"at no host":       {"GET", "/info?repository_path=shared&host=none", "", 404, "", ""},
		"compact":          {"POST", "/compact?repository_path=shared", "", 200, fleet.LocalHost, ""},
		"create":           {"POST", "/create", body + `,"archive_name":"a","source_paths":["/etc"]}`, 400, "", ""},
		"create on a host": {"POST", "/create", body + `,"host":"web1","archive_name":"a","source_paths":["/etc"]}`, 200, "web1", ""},
		"mount":            {"POST", "/mount", body + `,"mount_point":"/restore/mnt"}`, 400, "", ""},
		"by the location":  {"GET", "/info?repository_path=depot", "", 404, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.jobs)
			answer := s.do(request(test.method, borgPath+test.path, test.body))
			if answer.Code != test.status {
				t.Fatalf("status %d: %s", answer.Code, answer.Body)
			}
			if test.host == "" {
				if len(s.jobs) != before {
					t.Errorf("there is a job: %+v", s.jobs[before])
				}
				return
			}
			if j := s.jobs[before]; j.Host != test.host || j.For != test.subject {
				t.Errorf("on %q for %q", j.Host, j.For)
			}
		})
	}
	if answer := s.do(request("GET", "/repositories/shared/archives/a1/diff/a2", "")); answer.Code == 400 {
		t.Errorf("a diff: %d %s", answer.Code, answer.Body)
	}
}

// TestBorgUmountFindsTheHost that a job has mounted something on, unless there
// are two.
func TestBorgUmountFindsTheHost(t *testing.T) {
	s := borgServed(t, told)
	s.put("db1", "main")
	mounted := func(host string) {
		s.jobs = append(s.jobs, job.Job{ID: job.NewID(time.Now()), Host: host, Repository: "main", State: job.Running,
			Kind: job.Mount, Spec: job.MountSpec{Archive: "a", MountPoint: "/restore/mnt"}})
	}
	mounted("db1")
	if answer := s.do(request("POST", borgPath+"/umount?mount_point=/restore/mnt/", "")); answer.Code != 200 || !strings.Contains(answer.Body.String(), "on host db1") {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	mounted("web1")
	answer := s.do(request("POST", borgPath+"/umount?mount_point=/restore/mnt", ""))
	if problem := decode[httpapi.Problem](t, answer.Body.Bytes()); answer.Code != 400 || !strings.Contains(problem.Hint, "db1") {
		t.Errorf("on two hosts: %d %+v", answer.Code, problem)
	}
}

// TestBorgNeedsAnAdmin asks for what needs less elsewhere.
func TestBorgNeedsAnAdmin(t *testing.T) {
	s := borgServed(t, told)
	s.borg.refuse = needs(bus.Admin, fleet.Actor{Role: bus.Operator})
	for _, call := range []string{"GET /info?repository_path=main", "POST /umount?mount_point=/restore/mnt"} {
		method, path, _ := strings.Cut(call, " ")
		answer := s.do(request(method, borgPath+path, ""))
		if problem := decode[httpapi.Problem](t, answer.Body.Bytes()); answer.Code != 403 || problem.Code != job.NotAllowed {
			t.Errorf("%s: %d %+v", call, answer.Code, problem)
		}
	}
}

// safeBuffer is a log that may be written and read at once.
type safeBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestBorgPassphrases go to the job, and into nothing that is logged or
// answered, however the call ends.
func TestBorgPassphrases(t *testing.T) {
	const passphrase = "Tr0ub4dor-and-3"
	log := &safeBuffer{}
	s := serve(t, func(o *httpapi.Options) {
		o.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: log})
	})
	for what, test := range map[string]struct {
		method, path, body, header string
		play                       func(job.Job) job.Job
		given                      bool
	}{
		"in the query":             {"GET", "/info?repository_path=main&passphrase=" + passphrase, "", "", told, true},
		"in the header":            {"DELETE", "/archives/a?repository_path=main", "", passphrase, told, true},
		"in both":                  {"POST", "/compact?repository_path=main&passphrase=" + passphrase, "", passphrase, told, true},
		"in the body":              {"POST", "/prune", `{"repository_path":"main","passphrase":"` + passphrase + `"}`, "", told, true},
		"wrong":                    {"GET", "/info?repository_path=main&passphrase=" + passphrase, "", "", borgFails(job.PassphraseWrong), true},
		"of a fault here":          {"GET", "/info?repository_path=main&passphrase=" + passphrase, "", "", borgFails(job.Internal), true},
		"of a handler that breaks": {"GET", "/info?repository_path=main&passphrase=" + passphrase, "", "", func(job.Job) job.Job { panic("broken") }, true},
		"in both, but another":     {"GET", "/info?repository_path=main&passphrase=" + passphrase, "", "other", told, false},
		"as a name by mistake":     {"GET", "/info?" + passphrase, "", "", told, false},
		"as a number":              {"POST", "/prune", `{"repository_path":"main","passphrase":12345678}`, "", told, false},
		"in no JSON":               {"POST", "/prune", `{"repository_path":"main","passphrase":"` + passphrase, "", told, false},
		"at another address":       {"GET", "/nothing?passphrase=" + passphrase, "", "", told, false},
	} {
		t.Run(what, func(t *testing.T) {
			s.afresh(test.play)
			log.text.Reset()
			r := request(test.method, borgPath+test.path, test.body)
			if test.header != "" {
				r.Header.Set("X-Borg-Passphrase", test.header)
			}
			answer := s.do(r)
			if given := len(s.borg.given) > 0; given != test.given || given && !s.borg.given[0].Equal(secret.FromString(passphrase)) {
				t.Errorf("given %v; status %d: %s", given, answer.Code, answer.Body)
			}
			for _, text := range []string{log.String(), answer.Body.String(), fmt.Sprint(answer.Header()), fmt.Sprintf("%+v", s.jobs)} {
				for _, part := range []string{passphrase, "12345678"} {
					// the name of an unknown parameter is told to its sender, as always
					if strings.Contains(text, part) && what != "as a name by mistake" {
						t.Errorf("%q is in %s", part, text)
					}
				}
			}
			if strings.Contains(log.String(), passphrase) || log.String() == "" {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// TestBorgOfAnotherSite: a link on any page sends a person's cookie along with a
// GET, which starts a job here, and takes in a location.
func TestBorgOfAnotherSite(t *testing.T) {
	s := borgServed(t, told)
	for _, path := range []string{"/info", "/archives"} {
		for what, test := range map[string]struct {
			method, site string
			status       int
		}{
			"another site":         {"GET", "cross-site", 403},
			"a sister's page":      {"GET", "same-site", 403},
			"our own page":         {"GET", "same-origin", 200},
			"typed by the person":  {"GET", "none", 200},
			"no browser":           {"GET", "", 200},
			"only a look, no job":  {"HEAD", "", 405},
			"a look from anywhere": {"HEAD", "cross-site", 405},
		} {
			t.Run(path+" "+what, func(t *testing.T) {
				s.afresh(told)
				r := request(test.method, borgPath+path+"?repository_path=/srv/borg/new&passphrase=x", "")
				if test.site != "" {
					r.Header.Set("Sec-Fetch-Site", test.site)
				}
				answer := s.do(r)
				_, known, _ := s.keeps("new")
				if good := test.status == 200; answer.Code != test.status || known != good || len(s.jobs) > 0 != good {
					t.Errorf("status %d: %s; %d jobs, taken in: %v", answer.Code, answer.Body, len(s.jobs), known)
				}
			})
		}
	}
}

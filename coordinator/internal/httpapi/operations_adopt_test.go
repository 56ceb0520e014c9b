package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// keeps returns what is kept of the repository "new": whether there is one,
// whether it is pending, and the passphrase that came with it.
func (b *backend) keeps(name string) (view fleet.RepositoryView, known bool, kept secret.Value) {
	b.mu.Lock()
	defer b.mu.Unlock()
	view, known = b.repositories[name]
	return view, known, b.borg.kept[name]
}

// TestBorgAdoptsWhatItReaches: a location that is not known becomes a repository
// with the passphrase that opened it, once the call has ended well.
func TestBorgAdoptsWhatItReaches(t *testing.T) {
	s := borgServed(t, nil)
	for what, test := range map[string]struct {
		method, path, body string
		encryption         job.Encryption // as it was adopted
	}{
		"init":  {"POST", "/init", `{"repository_path":"/srv/borg/new/","passphrase":"correct horse","encryption_mode":"keyfile"}`, job.Keyfile},
		"info":  {"GET", "/info?repository_path=/srv/borg/new&passphrase=correct+horse", "", job.RepokeyBlake2},
		"mount": {"POST", "/mount", `{"repository_path":"/srv/borg/new","passphrase":"correct horse","mount_point":"/restore/mnt"}`, job.RepokeyBlake2},
	} {
		t.Run(what, func(t *testing.T) {
			s.afresh(told)
			answer := s.do(request(test.method, borgPath+test.path, test.body))
			view, known, kept := s.keeps("new")
			if answer.Code != http.StatusOK || !known || view.Pending || !kept.Equal(secret.FromString("correct horse")) {
				t.Fatalf("status %d: %s; kept: %v %+v", answer.Code, answer.Body, known, view.Repository)
			}
			if view.Location != "/srv/borg/new" || view.Encryption != test.encryption {
				t.Errorf("kept %+v", view.Repository)
			}
		})
	}
}

func TestBorgAdoptsWithoutAPassphrase(t *testing.T) {
	s := borgServed(t, told)
	answer := s.do(request("GET", borgPath+"/info?repository_path=/srv/borg/new", ""))
	view, known, kept := s.keeps("new")
	if answer.Code != http.StatusOK || !known || view.Encryption != job.Unencrypted || !kept.Empty() {
		t.Errorf("status %d: %s; kept %+v", answer.Code, answer.Body, view.Repository)
	}
}

// TestBorgLeavesNothingBehind: a call that fails has changed nothing when it
// answers.
func TestBorgLeavesNothingBehind(t *testing.T) {
	for what, play := range map[string]func(*served){
		"the job fails":      func(s *served) { s.borg.play = borgFails(job.PassphraseWrong) },
		"the job is refused": func(s *served) { s.borg.refuse = job.Fail(job.HostUnreachable, "the host has told no key") },
	} {
		t.Run(what, func(t *testing.T) {
			s := borgServed(t, nil)
			play(s)
			answer := s.do(request("GET", borgPath+"/info?repository_path=/srv/borg/new&passphrase=wrong", ""))
			if _, known, _ := s.keeps("new"); answer.Code < 400 || known {
				t.Errorf("status %d: %s; known: %v", answer.Code, answer.Body, known)
			}
			if _, known, kept := s.keeps("main"); !known || !kept.Empty() {
				t.Error("another repository has changed")
			}
		})
	}
}

// TestBorgKeepsWhenNobodyWaits: what becomes of the repository does not depend
// on the caller.
func TestBorgKeepsWhenNobodyWaits(t *testing.T) {
	for what, test := range map[string]struct {
		play func(job.Job) job.Job
		kept bool
	}{
		"done": {told, true}, "failed": {borgFails(job.PassphraseWrong), false},
	} {
		t.Run(what, func(t *testing.T) {
			s := borgServed(t, nil)
			r := request("GET", borgPath+"/info?repository_path=/srv/borg/new&passphrase=correct+horse", "")
			r.Header.Set("Prefer", "respond-async")
			answer := s.do(r)
			if answer.Code != http.StatusAccepted {
				t.Fatalf("status %d: %s", answer.Code, answer.Body)
			}
			if view, _, _ := s.keeps("new"); !view.Pending {
				t.Errorf("kept before the job has ended: %+v", view.Repository)
			}
			s.change(test.play(decode[job.Job](t, answer.Body.Bytes())))
			patience.Until(t, "the repository is settled", func() bool {
				view, known, _ := s.keeps("new")
				return known == test.kept && !view.Pending
			})
		})
	}
}

// TestBorgKeepsThePassphraseOfAnInit: the one that is stored would open nothing.
func TestBorgKeepsThePassphraseOfAnInit(t *testing.T) {
	s := borgServed(t, told)
	answer := s.do(request("POST", borgPath+"/init", `{"repository_path":"main","passphrase":"another"}`))
	if _, _, kept := s.keeps("main"); answer.Code != http.StatusOK || !kept.Equal(secret.FromString("another")) {
		t.Errorf("status %d: %s", answer.Code, answer.Body)
	}
}

// TestBorgKeepsNoPassphraseOfAKnownRepository: it is used for the call alone.
func TestBorgKeepsNoPassphraseOfAKnownRepository(t *testing.T) {
	s := borgServed(t, told)
	main := s.repositories["main"]
	main.HasPassphrase = true
	s.repositories["main"] = main
	answer := s.do(request("GET", borgPath+"/info?repository_path=/srv/borg/main/&passphrase=another", ""))
	if _, _, kept := s.keeps("main"); answer.Code != http.StatusOK || !kept.Empty() || s.jobs[0].Repository != "main" {
		t.Errorf("status %d: %s", answer.Code, answer.Body)
	}
	if !s.borg.given[0].Equal(secret.FromString("another")) {
		t.Error("the job was not given the passphrase")
	}
}

// TestBorgInitWithoutAnID: the repository is there all the same.
func TestBorgInitWithoutAnID(t *testing.T) {
	s := borgServed(t, func(j job.Job) job.Job {
		if j.Kind == job.Info {
			return failed(j, job.ConnectionLost)
		}
		return told(j)
	})
	answer := s.do(request("POST", borgPath+"/init", `{"repository_path":"/srv/borg/new","passphrase":"x"}`))
	made := decode[object](t, answer.Body.Bytes())
	if text, _ := made["message"].(string); made["success"] != true || made["repository_id"] != "" || !strings.Contains(text, "its id could not be read: borg said no") {
		t.Errorf("status %d: %s", answer.Code, answer.Body)
	}
	if view, known, _ := s.keeps("new"); !known || view.Pending {
		t.Errorf("kept %v, %+v", known, view.Repository)
	}
}

func TestBorgCustodyOfHosts(t *testing.T) {
	s := borgServed(t, told)
	main := s.repositories["main"]
	main.HasPassphrase, main.Custody = true, fleet.CustodyHosts
	s.repositories["main"] = main
	refused := s.do(request("POST", borgPath+"/init", `{"repository_path":"main","passphrase":"x"}`))
	if problem := decode[httpapi.Problem](t, refused.Body.Bytes()); refused.Code != http.StatusConflict || problem.Code != job.Conflict {
		t.Errorf("init with a passphrase: %s", refused.Body)
	}
	if answer := s.do(request("POST", borgPath+"/init", `{"repository_path":"main"}`)); answer.Code != http.StatusOK {
		t.Errorf("init without one: %s", answer.Body)
	}
	if answer := s.do(request("GET", borgPath+"/info?repository_path=main&passphrase=x", "")); answer.Code != http.StatusOK {
		t.Errorf("info with one: %s", answer.Body)
	}
	if _, _, kept := s.keeps("main"); !kept.Empty() {
		t.Error("the coordinator has kept a passphrase that is none of its business")
	}
}

func TestBorgLocationOfSeveralRepositories(t *testing.T) {
	s := borgServed(t, told)
	twin := s.repositories["main"]
	twin.Name = "twin"
	s.repositories["twin"] = twin
	answer := s.do(request("GET", borgPath+"/info?repository_path=/srv/borg/main", ""))
	if problem := decode[httpapi.Problem](t, answer.Body.Bytes()); answer.Code != http.StatusBadRequest || problem.Code != job.InvalidRequest {
		t.Errorf("status %d: %s", answer.Code, answer.Body)
	}
}

// TestBorgKeepsNoPassphraseThatNothingHasProved: borg compacts without the key, so
// that it takes any passphrase.
func TestBorgKeepsNoPassphraseThatNothingHasProved(t *testing.T) {
	s := borgServed(t, told)
	answer := s.do(request("POST", borgPath+"/compact?repository_path=main&passphrase=wrong", ""))
	if _, _, kept := s.keeps("main"); answer.Code != http.StatusOK || !kept.Empty() {
		t.Errorf("known repository: status %d: %s; kept a passphrase: %v", answer.Code, answer.Body, !kept.Empty())
	}
	answer = s.do(request("POST", borgPath+"/compact?repository_path=/srv/borg/new&passphrase=wrong", ""))
	if view, known, kept := s.keeps("new"); answer.Code != http.StatusOK || !known || view.Pending || !kept.Empty() {
		t.Errorf("new one: status %d: %s; kept %+v, a passphrase: %v", answer.Code, answer.Body, view.Repository, !kept.Empty())
	}
}

// TestBorgInitAtThePathOfAnotherHost: a path is another one on another host. The
// passphrase of the repository that is known must not be replaced.
func TestBorgInitAtThePathOfAnotherHost(t *testing.T) {
	for what, test := range map[string]struct {
		location, user string // of the job that was there before
		state          job.State
		status         int
	}{
		"used by another host":      {"/srv/borg/main", "db1", job.Succeeded, 409},
		"being made by another":     {"/srv/borg/main", "db1", job.Running, 409},
		"used by this host":         {"/srv/borg/main", "web1", job.Warning, 200},
		"another host has failed":   {"/srv/borg/main", "db1", job.Failed, 200},
		"the same server for both":  {"ssh://backup@store/main", "db1", job.Succeeded, 200},
		"nobody was ever there yet": {"/srv/borg/main", "", "", 200},
	} {
		t.Run(what, func(t *testing.T) {
			s := borgServed(t, told)
			main := s.repositories["main"]
			main.Location, main.HasPassphrase = test.location, true
			s.repositories["main"] = main
			s.hosts["db1"] = fleet.HostView{Host: fleet.Host{Name: "db1"}}
			if test.user != "" {
				s.jobs = []job.Job{{ID: job.NewID(time.Now()), Kind: job.Backup, Host: test.user, Repository: "main", State: test.state}}
			}
			answer := s.do(request("POST", borgPath+"/init", `{"host":"web1","repository_path":"`+test.location+`","passphrase":"another"}`))
			if _, _, kept := s.keeps("main"); answer.Code != test.status || kept.Empty() != (test.status != 200) {
				t.Errorf("status %d: %s; kept the new passphrase: %v", answer.Code, answer.Body, !kept.Empty())
			}
		})
	}
}

// TestBorgPruneLooksWhoseArchivesThereAre: what is not known cannot be kept from
// being pruned.
func TestBorgPruneLooksWhoseArchivesThereAre(t *testing.T) {
	for what, test := range map[string]struct {
		path     string
		unlisted bool
		play     func(job.Job) job.Job
		status   int
		kinds    []job.Kind
	}{
		"known archives": {"main", false, told, 200, []job.Kind{job.Prune}},
		"never listed":   {"main", true, told, 200, []job.Kind{job.List, job.Prune}},
		"new repository": {"/srv/borg/new", false, told, 200, []job.Kind{job.List, job.Prune}},
		"no way in":      {"/srv/borg/new", false, borgFails(job.PassphraseWrong), 403, []job.Kind{job.List}},
	} {
		t.Run(what, func(t *testing.T) {
			s := borgServed(t, test.play)
			s.shelf.unlisted = test.unlisted
			answer := s.do(request("POST", borgPath+"/prune", `{"repository_path":"`+test.path+`","passphrase":"x"}`))
			var kinds []job.Kind
			for _, j := range s.jobs {
				kinds = append(kinds, j.Kind)
			}
			if diff := cmp.Diff(test.kinds, kinds); answer.Code != test.status || diff != "" {
				t.Errorf("status %d: %s; jobs (-want +got):\n%s", answer.Code, answer.Body, diff)
			}
			if _, known, _ := s.keeps("new"); known != (test.status == 200 && test.path != "main") {
				t.Errorf("the new repository is kept: %v", known)
			}
		})
	}
}

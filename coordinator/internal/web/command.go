package web

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// commands prints what a reader may type instead of clicking.
type commands struct {
	dataDir string
	origin  string // scheme and host of the coordinator's HTTP listener, as the reader reached it
	ssh     bool   // hosts over SSH can be added
}

// SSHToo reports whether hosts over SSH can be added.
func (c commands) SSHToo() bool { return c.ssh }

// AddSSHHost adds one: it shows the keys of the server, and asks.
func (c commands) AddSSHHost(name string) string {
	return c.borgfleet("host", "add", name, "--ssh", "USER@HOST")
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quote makes one word of a shell command.
func quote(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func shell(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(word)
	}
	return strings.Join(quoted, " ")
}

// borgfleet is the operator's command line, which finds the coordinator by its
// data directory.
func (c commands) borgfleet(words ...string) string {
	if c.dataDir != defaultDataDir {
		words = append([]string{"--data", c.dataDir}, words...)
	}
	return shell(append([]string{"borgfleet"}, words...)...)
}

// HostToken lets a host in: it prints the command to run there.
func (c commands) HostToken(name string) string { return c.borgfleet("host", "token", name) }

// RemoveHost ends a host.
func (c commands) RemoveHost(name string) string { return c.borgfleet("host", "remove", name) }

// AddRepository names a repository.
func (c commands) AddRepository(name string) string {
	return c.borgfleet("repo", "add", name, "--location", "/srv/borg/"+name, "--generate-passphrase")
}

// ExportKey saves borg's key of a repository, encrypted.
func (c commands) ExportKey(name, host string) string {
	return c.borgfleet("repo", "key-export", name, "--host", host, "--recipient", "age1...", "-o", name+".key.age")
}

// InitRepository creates it.
func (c commands) InitRepository(name, host string) string {
	return c.borgfleet("repo", "init", name, "--host", host)
}

// Backup submits a backup and watches it.
func (c commands) Backup(host, repository string, paths []string) string {
	return c.borgfleet(append([]string{"backup", "--host", host, "--repo", repository}, paths...)...)
}

// ExampleBackup is Backup of the given paths, or of an example.
func (c commands) ExampleBackup(host, repository string, paths []string) string {
	return c.Backup(host, repository, orExample(paths))
}

// ExamplePost is the same over HTTP.
func (c commands) ExamplePost(host, repository string, paths []string) string {
	return c.Post(job.Request{
		Host: host, Kind: job.Backup, Repository: repository, Spec: encode(job.BackupSpec{Paths: orExample(paths)}),
	})
}

func orExample(paths []string) []string {
	if len(paths) == 0 {
		return []string{"/etc"}
	}
	return paths
}

// Submit is the request that a job was submitted with, for the terminal.
func (c commands) Submit(request job.Request) string {
	return c.borgfleet("job", "submit", "--watch", requestJSON(request))
}

// Post submits a request over HTTP.
func (c commands) Post(request job.Request) string {
	return curl(c.url("/jobs"), "--json", requestJSON(request))
}

// AboutJob is a command of the job family about one job.
func (c commands) AboutJob(verb string, id job.ID) string {
	return c.borgfleet("job", verb, string(id))
}

// PostJob does an action on a job over HTTP.
func (c commands) PostJob(verb string, id job.ID) string {
	return curl("-X", "POST", c.url("/jobs/"+string(id)+"/"+verb))
}

// GetJob reads a job over HTTP.
func (c commands) GetJob(id job.ID) string { return curl(c.url("/jobs/" + string(id))) }

func (c commands) url(path string) string { return c.origin + "/api/v1" + path }

// curl is a request with an API token. Other users of the machine do not see
// it: curl wipes this argument.
func curl(words ...string) string { return `curl --oauth2-bearer "$TOKEN" ` + shell(words...) }

// AddUser invites a person.
func (c commands) AddUser() string { return c.borgfleet("user", "add", "NAME", "--role", "viewer") }

// AddToken makes a token for a program.
func (c commands) AddToken() string { return c.borgfleet("token", "add", "NAME", "--role", "viewer") }

// AddCredentials makes credentials for the bus.
func (c commands) AddCredentials() string {
	return c.borgfleet("nats-creds", "NAME", "--role", "viewer", "-o", "NAME.creds")
}

// VerifyAudit checks the audit's chain.
func (c commands) VerifyAudit() string { return c.borgfleet("audit", "verify") }

// requestJSON is the request as people would type it: only what is set.
func requestJSON(request job.Request) string { return string(encode(request)) }

// requestOf is the request that would make j again.
func requestOf(j job.Job) job.Request {
	request := job.Request{Host: subject(j), Kind: j.Kind, Repository: j.Repository, Plan: j.Plan, Timeout: j.Timeout}
	if spec := encode(j.Spec); j.Spec != nil && string(spec) != "{}" {
		request.Spec = spec
	}
	return request
}

// encode is JSON without the escapes that are for HTML; plain values always encode.
func encode(value any) json.RawMessage {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return json.RawMessage("{}")
	}
	return bytes.TrimSpace(out.Bytes())
}

// Get reads a page's address over HTTP.
func (c commands) Get(address string) string { return curl(c.url(address)) }

// withPaths appends paths to a command, of which none is taken for an option.
func withPaths(words []string, paths ...string) []string {
	for _, p := range paths {
		if strings.HasPrefix(p, "-") {
			words = append(words, "--")
			break
		}
	}
	return append(words, paths...)
}

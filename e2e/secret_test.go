package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// A passphrase stands nowhere but in the file that the operator gave, from init
// over backup and check to restore: not in what crosses the bus in any account,
// not in the state of coordinator, bus or agent, not in their output, not in
// the command line or environment of any process, not in an answer.
func TestThePassphraseIsNowhereInClear(t *testing.T) {
	t.Parallel()
	const passphrase = `c0rrect "horse" \battery\ stäple <&>`
	needles := forms(passphrase)
	c := harness.StartCoordinator(t)
	traffic := tap(t, c)
	restore := t.TempDir()
	agent := c.AddAgent("web1", harness.AgentOptions{Config: fmt.Sprintf("policy:\n  restore: [%s]\n", restore)})
	processes := watchProcesses(t, needles)

	var answers strings.Builder
	cli := func(args ...string) string {
		out := c.MustCLI(args...)
		answers.WriteString(out)
		return out
	}
	given := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(given, []byte(passphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cli("repo", "add", "main", "--location", filepath.Join(t.TempDir(), "repository"), "--passphrase-file", given, "--json")
	cli("repo", "init", "main", "--host", "web1")
	files := t.TempDir()
	harness.MakeTree(t, files, 8, 1<<20)
	backup := c.Submit(fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q],"compression":"lzma,6"}}`, files))
	searchFiles(t, agent.Dir, needles) // while the job runs, too
	done := c.Await(backup.ID, job.Succeeded)
	cli("repo", "check", "main", "--host", "web1")
	cli("archive", "restore", "main", done.Result.Archive, "--host", "web1", "--target", filepath.Join(restore, "back"))
	if _, err := os.Stat(filepath.Join(restore, "back", files, "d000", "f00000.bin")); err != nil {
		t.Errorf("nothing was restored: %v", err)
	}
	for _, leak := range processes() {
		t.Errorf("in a process: %s", leak)
	}
	searchFiles(t, c.Data, needles)
	searchFiles(t, agent.Dir, needles)

	cli("status", "--json")
	cli("repo", "show", "main", "--json")
	cli("host", "show", "web1", "--json")
	cli("audit", "list", "--json")
	var page job.Page
	decode(t, cli("job", "list", "--json"), &page)
	for _, j := range page.Jobs {
		cli("job", "show", string(j.ID), "--json")
		cli("job", "log", string(j.ID))
	}
	for name, text := range map[string]string{
		"bus's traffic": traffic(), "coordinator's output": c.Output(), "agent's output": agent.Output(), "answers": answers.String(),
	} {
		if len(text) < 100 {
			t.Errorf("the %s is only %q: nothing was searched", name, text)
		}
		for form, needle := range needles {
			if strings.Contains(text, string(needle)) {
				t.Errorf("the %s holds the passphrase (%s)", name, form)
			}
		}
	}
}

// tap listens to everything in every account of the bus, with keys that only
// the owner of the data directory has. The returned function ends it, and
// returns all that was heard, each message with its subject and headers.
func tap(t *testing.T, c *harness.Coordinator) func() string {
	t.Helper()
	var mu sync.Mutex
	var heard strings.Builder
	hear := func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&heard, "%s %s %v %s\n", m.Subject, m.Reply, m.Header, m.Data)
	}
	var connections []*nats.Conn
	for account, subjects := range map[string][]string{"agents": {">"}, "fleet": {">"}, "operators": {">"}, "sys": {">", "$SYS.>"}} {
		connection := c.Dial(everything(t, c, account))
		for _, subject := range subjects {
			if _, err := connection.Subscribe(subject, hear); err != nil {
				t.Fatal(err)
			}
		}
		if err := connection.Flush(); err != nil {
			t.Fatal(err)
		}
		connections = append(connections, connection)
	}
	return func() string {
		for _, connection := range connections {
			if err := connection.FlushTimeout(harness.Patience); err != nil {
				t.Error(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for _, subject := range []string{"borgfleet.v1.cmd.web1.order", "borgfleet.v1.agent.web1.event.", "borgfleet.ingest.v1.web1.", "borgfleet.v1.enroll", "borgfleet.v1.event.web1."} {
			if !strings.Contains(heard.String(), subject) {
				t.Errorf("the tap did not hear %s", subject)
			}
		}
		return heard.String()
	}
}

// everything returns a credentials file of a user who may do everything in an
// account, signed with the account's own key.
func everything(t *testing.T, c *harness.Coordinator, account string) string {
	t.Helper()
	seed, err := os.ReadFile(filepath.Join(c.Data, "bus", "keys", "account-"+account+".nk"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewUserClaims(public).Encode(signer)
	if err != nil {
		t.Fatal(err)
	}
	own, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.FormatUserConfig(token, own)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), account+".creds")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// forms returns the passphrase as it could be written.
func forms(passphrase string) map[string][]byte {
	escaped, _ := json.Marshal(passphrase)
	var unescaped bytes.Buffer
	encoder := json.NewEncoder(&unescaped)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(passphrase)
	inner := func(quoted []byte) []byte { quoted = bytes.TrimSpace(quoted); return quoted[1 : len(quoted)-1] }
	all := map[string][]byte{
		"plain":              []byte(passphrase),
		"JSON":               inner(escaped),
		"JSON, HTML as is":   inner(unescaped.Bytes()),
		"JSON, only ASCII":   []byte(strings.Trim(strconv.QuoteToASCII(passphrase), `"`)),
		"hex":                []byte(hex.EncodeToString([]byte(passphrase))),
		"hex, upper case":    []byte(strings.ToUpper(hex.EncodeToString([]byte(passphrase)))),
		"URL-escaped":        []byte(url.QueryEscape(passphrase)),
		"URL-escaped path":   []byte(url.PathEscape(passphrase)),
		"as shell would say": []byte(strings.ReplaceAll(passphrase, `"`, `\"`)),
	}
	for name, encoding := range map[string]*base64.Encoding{"base64": base64.StdEncoding, "base64url": base64.URLEncoding} {
		for shift := range 3 { // base64 looks different at each of three offsets
			encoded := encoding.EncodeToString(append(make([]byte, shift), passphrase...))
			all[fmt.Sprintf("%s+%d", name, shift)] = []byte(strings.TrimRight(encoded[4:len(encoded)-4], "="))
		}
	}
	return all
}

func searchFiles(t *testing.T, dir string, needles map[string][]byte) {
	t.Helper()
	searched := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // a file that went away while we walk
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		searched++
		for form, needle := range needles {
			if bytes.Contains(data, needle) {
				t.Errorf("%s holds the passphrase (%s)", path, form)
			}
		}
		return nil
	})
	if err != nil || searched == 0 {
		t.Errorf("%d files searched in %s: %v", searched, dir, err)
	}
}

// watchProcesses reads command lines and environments of all processes again
// and again, until the returned function is called; that returns what it found.
func watchProcesses(t *testing.T, needles map[string][]byte) func() []string {
	t.Helper()
	stop, done := make(chan struct{}), make(chan []string, 1)
	go func() {
		var leaks []string
		for {
			select {
			case <-stop:
				done <- leaks
				return
			default:
				leaks = append(leaks, searchProcesses(needles)...)
			}
		}
	}()
	end := sync.OnceValue(func() []string { close(stop); return <-done })
	t.Cleanup(func() { end() })
	return end
}

func searchProcesses(needles map[string][]byte) (leaks []string) {
	for _, pattern := range []string{"/proc/[0-9]*/cmdline", "/proc/[0-9]*/environ"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			if strings.HasPrefix(path, fmt.Sprintf("/proc/%d/", os.Getpid())) {
				continue
			}
			data, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			for form, needle := range needles {
				if bytes.Contains(data, needle) {
					leaks = append(leaks, path+" ("+form+")")
				}
			}
		}
	}
	return leaks
}

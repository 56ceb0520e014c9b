package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/cli"
	"github.com/borgfleet/borgfleet/shared/console"
)

// Without arguments there is help, which names every command and every exit code.
func TestHelp(t *testing.T) {
	c := newCoordinator(t)
	bare, asked := c.run(t, ""), c.run(t, "", "--help")
	if bare.code != 0 || bare.err != "" || bare.out != asked.out {
		t.Errorf("without arguments: exit code %d, %q", bare.code, bare.err)
	}
	for _, want := range []string{
		"Every day:", "status", "backup", "archive", "job", "What there is:", "host", "repo",
		"Who may do what:", "login", "logout", "whoami", "user", "token", "nats-creds", "audit", "The program:", "serve", "completion", "version",
		"Exit codes: 0 done", "--json",
	} {
		if !strings.Contains(bare.out, want) {
			t.Errorf("the help does not say %q:\n%s", want, bare.out)
		}
	}
	if sub := c.run(t, "", "job", "--help"); !strings.Contains(sub.out, "Commands:\n  job list") || strings.Contains(sub.out, "Every day") {
		t.Errorf("help of a group of commands:\n%s", sub.out)
	}
}

func TestEveryHelpPage(t *testing.T) {
	c := newCoordinator(t)
	pages := 0
	var visit func(path ...string)
	visit = func(path ...string) {
		r := c.run(t, "", append(path, "--help")...)
		if r.code != 0 || r.err != "" || !strings.Contains(r.out, "Usage: borgfleet "+strings.Join(path, " ")) {
			t.Errorf("%q: exit code %d, %q\n%s", path, r.code, r.err, r.out)
		}
		pages++
		if _, commands, ok := strings.Cut(r.out, "\nCommands:\n"); ok {
			for line := range strings.Lines(commands) {
				if fields := strings.Fields(line); strings.HasPrefix(line, "  "+strings.Join(path, " ")+" ") {
					visit(fields[:len(path)+1]...)
				}
			}
		}
	}
	for _, command := range []string{"status", "backup", "plan", "run", "alert", "archive", "job", "notify", "host", "repo", "depot", "login", "logout", "whoami", "user", "token", "nats-creds", "audit", "serve", "completion", "version"} {
		visit(command)
	}
	if pages < 100 {
		t.Errorf("only %d pages", pages)
	}
}

// A mistake is one line that says what to do instead.
func TestMistakes(t *testing.T) {
	c := full(t)
	for name, test := range map[string]struct {
		args string
		code int
		says string
	}{
		"no such command":       {"frob", console.ExitUsage, "unexpected argument frob"},
		"no such flag":          {"status --frob", console.ExitUsage, "(run borgfleet status --help)"},
		"flags are missing":     {"backup /etc", console.ExitUsage, "--repo=REPOSITORY (run borgfleet backup --help)"},
		"paths are missing":     {"backup --host web1 --repo main", console.ExitUsage, "give paths, or --content-from"},
		"argument in the usage": {"completion tcsh", console.ExitUsage, "(run borgfleet completion --help)"},
		"tokens of no time":     {"token add ci --role viewer --expires 0", console.ExitUsage, "not a time span, such as"},
		"too short":             {"token add ci --role viewer --expires 1s", console.ExitUsage, "--expires is not between 1m and 732d"},
		"too long":              {"host token web1 --expires 8d", console.ExitUsage, "--expires is not between 1m and 7d"},
		"half a day":            {"host token web1 --expires 0.5d", console.ExitUsage, "not a number of days"},
		"no such role":          {"user add bob --role root", console.ExitUsage, "viewer"},
		"whose credentials":     {"nats-creds --revoke", console.ExitUsage, "give a NAME"},
		"which role":            {"nats-creds bob", console.ExitUsage, "--role viewer, operator or admin"},
		"make and revoke":       {"nats-creds bob --revoke --role viewer", console.ExitUsage, "one or the other"},
		"not a proof":           {"audit verify --expect 12", console.ExitUsage, "NUMBER:HASH"},
		"not a hash":            {"audit verify --expect 12:xyz", console.ExitUsage, "NUMBER:HASH"},
		"nothing to protect":    {"repo add a --location /x --encryption none --generate-passphrase", console.ExitUsage, "uses no passphrase"},
		"nothing to seal":       {"repo add a --location /x --encryption none --custody hosts --for web1", console.ExitUsage, "uses no passphrase"},
		"sealed to nobody":      {"repo add a --location /x --generate-passphrase --custody hosts", console.ExitUsage, "--for HOST"},
		"for whom":              {"repo add a --location /x --generate-passphrase --for web1", console.ExitUsage, "--custody hosts"},
		"a passphrase for none": {"backup --host web1 --repo main --generate-passphrase /etc", console.ExitUsage, "--create LOCATION"},
		"not a recipient":       {"repo key-export main --host web1 --recipient bob -o key", console.ExitUsage, "not an age recipient"},
		"not logged in":         {"logout", console.ExitFailed, "not logged in"},
		"login to no URL":       {"login backup.example.net:8440", console.ExitUsage, "is not the URL"},
		"login in clear":        {"login http://backup.example.net:8440", console.ExitUsage, "use https://"},
		"not a fingerprint":     {"login https://backup.example.net --fingerprint abc", console.ExitUsage, "64 of 0-9 and a-f"},
		"fingerprint of HTTP":   {"login http://127.0.0.1:1 --fingerprint " + strings.Repeat("0", 64), console.ExitUsage, "is not https"},
		"two authorities":       {"login https://127.0.0.1:1 --ca x --fingerprint y", console.ExitUsage, "exclude each other"},
		"login where nobody is": {"login https://127.0.0.1:1", console.ExitUnreachable, "is it running?"},
		"bad job id":            {"job show x", console.ExitUsage, "is not a job id"},
		"bad state":             {"job list --state gone", console.ExitUsage, "one of queued, sent, running"},
		"bad host name":         {"host add a/b", console.ExitUsage, "1 to 63 of a-z"},
		"bad repository name":   {"repo add A --location /x --generate-passphrase", console.ExitUsage, "is not a repository name"},
		"bad location":          {"repo add a --location x --generate-passphrase", console.ExitUsage, "an absolute path on the host"},
		"bad encryption":        {"repo add a --location /x --encryption rot13", console.ExitUsage, "repokey-blake2"},
		"no passphrase":         {"repo add a --location /x", console.ExitUsage, "--passphrase-file"},
		"two passphrases":       {"repo add a --location /x --generate-passphrase --passphrase-file p", console.ExitUsage, "exclude each other"},
		"not sure":              {"repo remove main", console.ExitUsage, "add --yes"},
		"an address of nobody":  {"host add legacy --ssh legacy.example.net", console.ExitUsage, "which user logs in"},
		"a bad port":            {"host add legacy --ssh me@legacy:0", console.ExitUsage, "is not a port"},
		"a bad jump":            {"host add legacy --ssh me@legacy --jump gate", console.ExitUsage, "which user logs in"},
		"an agent's slots":      {"host add legacy --slots 2", console.ExitUsage, "add --ssh"},
		"an agent's sudo":       {"host set web1 --sudo", console.ExitFailed, "is not reached over SSH"},
		"nothing to set":        {"host set web1", console.ExitUsage, "nothing to change"},
		"two ways to it":        {"host set web1 --direct --jump me@gate", console.ExitUsage, "exclude each other"},
		"no such key file":      {"host add legacy --ssh me@legacy --host-key /none", console.ExitUsage, "no such file"},
		"a server's append":     {"host key web1 --append-only", console.ExitUsage, "needs --repo"},
		"whose line":            {"host key --repo main", console.ExitUsage, "needs a host's name"},
		"convert, not sure":     {"host convert web1", console.ExitUsage, "add --yes"},
		"rollback, not sure":    {"repo rollback main --to 3 --reason x", console.ExitUsage, "add --yes"},
		"unfreeze without why":  {"repo unfreeze main", console.ExitUsage, "--reason=TEXT"},
		"a quota elsewhere":     {"repo add a --location /x --generate-passphrase --quota 5G", console.ExitUsage, "add --location depot"},
		"hosts' custody there":  {"repo add a --location depot --generate-passphrase --custody hosts --for web1", console.ExitUsage, "leave --custody out"},
		"a quota in words":      {"repo add a --location depot --generate-passphrase --quota much", console.ExitUsage, "is not a size"},
		"nothing to submit":     {"job submit", console.ExitUsage, "give the request as JSON"},
		"request is not JSON":   {"job submit {", console.ExitUsage, "has an example"},
		"a timeout of no time":  {"repo info main --host web1 --timeout 1ms", console.ExitUsage, "--timeout must be at least 1s"},
		"a negative expiry":     {"backup --host web1 --repo main --expires=-1h /etc", console.ExitUsage, "--expires must be at least 1s"},
		"a timeout in words":    {"backup --host web1 --repo main --timeout soon /etc", console.ExitUsage, "90m"},
		"keeps nothing":         {"repo prune main", console.ExitUsage, "this would delete every archive"},
		"preview and confirm":   {"repo prune main --keep-last 1 --preview --confirm", console.ExitUsage, "give one of them"},
		"too many percent":      {"repo prune main --keep-last 1 --max-percent 101", console.ExitUsage, "max_percent"},
		"all with a prefix":     {"repo prune main --keep-last 1 --all --prefix a", console.ExitUsage, "cannot be combined with prefix"},
		"repair, not sure":      {"repo check main --repair", console.ExitUsage, "add --yes"},
		"repair of some":        {"repo check main --repair --yes --last 1", console.ExitUsage, "cannot be combined"},
		"a time in words":       {"archive list main --after yesterday", console.ExitUsage, "such as 2026-11-22"},
		"after before before":   {"archive list main --after 1d --before 2d", console.ExitUsage, "is not later than after"},
		"not a glob":            {"archive list main --glob [", console.ExitUsage, "is not a glob"},
		"too many files":        {"archive files main a --limit 1001", console.ExitUsage, "not between 1 and 1000"},
		"which archive":         {"archive find x --archive a", console.ExitUsage, "add --repo"},
		"find how many":         {"archive find x --limit 0", console.ExitUsage, "not between 1 and 1000"},
		"the same archive":      {"archive diff main a a", console.ExitUsage, "is the same archive"},
		"restore where":         {"archive restore main a", console.ExitUsage, "give either --target or --to-hook"},
		"restore into all":      {"archive restore main a --target /", console.ExitUsage, "is the whole system"},
		"replace and keep":      {"archive restore main a --target /t --overwrite --keep-existing", console.ExitUsage, "cannot be combined with overwrite"},
		"mount where":           {"archive mount main web1-1", console.ExitUsage, "is not an absolute path"},
		"umount where":          {"archive umount mnt", console.ExitUsage, "is not an absolute path"},
		"accept which":          {"host verify web1 --accept-moved", console.ExitUsage, "name it with --repo"},
		"mount on all":          {"archive mount main web1-1 /", console.ExitUsage, "is the whole system"},
		"bad compression":       {"backup --repo main --compression zstd,99 /etc", console.ExitUsage, "compression"},
		"bad files cache":       {"backup --repo main --files-cache some /etc", console.ExitUsage, "not a mode of the files cache"},
		"two sources":           {"backup --repo main --content-from dump /etc", console.ExitUsage, "cannot be combined with content_from"},
		"not a hook":            {"backup --repo main --paths-from ../x", console.ExitUsage, "is not the name of a hook"},
		"not an option":         {"backup --repo main --extra-option noatime /etc", console.ExitUsage, "is not a long option"},
		"a dash in a value":     {"backup --repo main --pattern -x /etc", console.ExitUsage, "--pattern"},
		"spec is not JSON":      {"job submit --kind info --host web1 --repo main --spec {", console.ExitUsage, "--spec is not valid JSON"},
		"both ways":             {"job submit {} --host web1", console.ExitUsage, "not both"},
		"refused":               {"host show nope", console.ExitFailed, "(borgfleet host list shows all)"},
		"not a URL":             {"--url foo status", console.ExitUsage, "for example http://"},
		"unreachable":           {"--url http://127.0.0.1:1 status", console.ExitUnreachable, "is it running?"},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.run(t, "", strings.Fields(test.args)...)
			if r.code != test.code || !strings.Contains(r.err, test.says) || r.out != "" {
				t.Errorf("exit code %d, want %d, and %q in:\n%s%s", r.code, test.code, test.says, r.err, r.out)
			}
			if strings.Count(r.err, "\n") != 1 || !strings.HasPrefix(r.err, "borgfleet: ") {
				t.Errorf("not one line:\n%s", r.err)
			}
		})
	}
}

func TestNoCoordinatorOnTheDataDirectory(t *testing.T) {
	isolate(t)
	var out, errs bytes.Buffer
	code := cli.Main(context.Background(), []string{"--data", t.TempDir(), "status"}, console.Streams{Out: &out, Err: &errs})
	if code != console.ExitUnreachable || !strings.Contains(errs.String(), "no coordinator runs") {
		t.Errorf("exit code %d: %s", code, &errs)
	}
}

// A relative data directory is one below the working directory; an empty
// BORGFLEET_DATA is none.
func TestDataDirectory(t *testing.T) {
	c := full(t)
	data := ownData(t, c.url)
	t.Chdir(filepath.Dir(data))
	if r := bare(t, "", "--data", filepath.Base(data), "host", "list"); r.code != 0 {
		t.Errorf("relative: exit code %d: %s", r.code, r.err)
	}
	if r := bare(t, "", "--data", "not/there", "serve", "--log-level", "loud"); strings.Contains(r.err, "absolute") {
		t.Errorf("relative, for serve: %s", r.err)
	}
	t.Setenv("BORGFLEET_DATA", "")
	if r := bare(t, "", "host", "list"); r.code != console.ExitUnreachable || !strings.Contains(r.err, "/var/lib/borgfleet") {
		t.Errorf("empty: exit code %d: %s", r.code, r.err)
	}
}

// Every command that answers at once does so for people, and as JSON.
func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		args string
		want []string
	}{
		"status": {"status", []string{
			"1 of 2 backups needs attention\n1 of 2 hosts online", "  failed: backup of web1 failed\n    hint: make room\n    job: " + string(backupID),
			"31.4 GB, 212 MB new", "web1  online", "db1   not enrolled",
		}},
		"host list":       {"host list", []string{"web1  online", "212 MB", "1.2.4"}},
		"host show":       {"host show web1", []string{"free space", "81.9 GB", "web1-1 (212 MB new)", "enrolled", "1 min 35 s behind"}},
		"host add":        {"host add web1", []string{"Added host web1", "borgfleet host token web1"}},
		"host token":      {"host token web1 --expires 2d", []string{"Run this on web1, as root", "  sudo borgfleet-agent enroll --token bfe_x\n"}},
		"whoami":          {"whoami", []string{"operator:local (admin) at http://127.0.0.1:"}},
		"user list":       {"user list", []string{"alice  admin   ", "bob    viewer  invited"}},
		"user add":        {"user add bob --role viewer", []string{"bob chooses a password, once, until", "\nhttps://backup/setup/x\n"}},
		"user role":       {"user role bob --role operator", []string{"bob is operator now."}},
		"user link":       {"user link bob", []string{"\nhttps://backup/setup/y\n"}},
		"user remove":     {"user remove bob", []string{"bob is removed"}},
		"token list":      {"token list", []string{"01ab  ci    viewer  2026-12-", "never"}},
		"token remove":    {"token remove 01ab", []string{"does not work any more"}},
		"nats-creds list": {"nats-creds", []string{"works", "revoked"}},
		"nats-creds":      {"nats-creds bob --role viewer", []string{"-----BEGIN NATS USER JWT-----\nx\n"}},
		"nats-creds end":  {"nats-creds bob --revoke", []string{"do not work any more"}},
		"audit list":      {"audit list", []string{"operator:alice", "http 10.0.0.7", "host.add", "More: --before 2"}},
		"audit verify":    {"audit verify", []string{"3 entries, each follows from the one before.\nNewest: 3:" + hashOf("3")}},
		"job show export": {"job show " + string(exportID), []string{"key-export of main on web1: succeeded", "readable by age1x only"}},
		"job show files":  {"job show " + string(restoreID), []string{"restored web1-1 into /var/restore/a on web1"}},
		"host remove":     {"host remove web1 --yes", []string{"web1", "cut off"}},
		"repo list":       {"repo list", []string{"main        /srv/borg/main  repokey-blake2"}},
		"repo show":       {"repo show main", []string{"location", "/srv/borg/main", "last check"}},
		"repo add":        {"repo add main --location /srv/borg/main --generate-passphrase", []string{"correct horse", "repo init main"}},
		"repo remove":     {"repo remove main --yes", []string{"Removed repository main"}},
		"repo move":       {"repo move main --location /srv/new", []string{"Repository main is at /srv/new now", "host verify HOST --repo main --accept-moved"}},
		"status, mounted": {"status", []string{"running  mount", "mounted at /mnt/it is\n"}},
		"job list":        {"job list", []string{"JOB ", "failed", "no space left on ?[31mthe disk", "add --cursor more"}},
		"job show":        {"job show " + string(backupID), []string{"backup of web1 into main: succeeded in 1 min 40 s", "148,210", "31.4 GB", "20.0 GB (64 %)", "212 MB (0.7 %)", `{"paths":["/etc"]`}},
		"job show a list": {"job show " + string(listID), []string{"list of main on web1: succeeded in 0.4 s", "web1-1", "0123456789ab\n"}},
		"job submit":      {"job submit --host web1 --kind backup --repository main --spec {\"paths\":[\"/etc\"]}", []string{string(backupID) + " backup of web1 into main: waiting\n"}},
		"job cancel":      {"job cancel " + string(backupID), []string{"backup of web1 into main: cancelled"}},
		"job retry":       {"job retry " + string(backupID), []string{string(backupID)}},
		"job log":         {"job log " + string(backupID), []string{"warning: /x: ?changed\n"}},
		"version":         {"version", []string{"borgfleet "}},
	} {
		t.Run(name, func(t *testing.T) {
			c := full(t)
			people(c)
			r := c.run(t, "", strings.Fields(test.args)...)
			if r.code != console.ExitDone || r.err != "" {
				t.Fatalf("exit code %d: %s", r.code, r.err)
			}
			for _, want := range test.want {
				if !strings.Contains(r.out, want) {
					t.Errorf("it does not say %q:\n%s", want, r.out)
				}
			}
			for line := range strings.Lines(r.out) {
				if strings.HasSuffix(line, " \n") {
					t.Errorf("blanks at the end of %q", line)
				}
			}
			r = c.run(t, "", append(strings.Fields(test.args), "--json")...)
			var any any
			if err := json.Unmarshal([]byte(r.out), &any); err != nil || r.code != console.ExitDone {
				t.Errorf("--json: exit code %d, %v:\n%s%s", r.code, err, r.out, r.err)
			}
		})
	}
}

// What is asked of the coordinator is what was given.
func TestRequests(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte("a b c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := full(t)
	people(c)
	for _, step := range []struct{ stdin, args, want string }{
		{"", "job list --host web1 --repo main --limit 3 --cursor " + string(listID), "GET /jobs?cursor=" + string(listID) + "&host=web1&limit=3&repository=main"},
		{`{"host":"web1","kind":"info","repository":"main"}`, "job submit - --idempotency-key k", `POST /jobs {"host":"web1","kind":"info","repository":"main","idempotency_key":"k"}`},
		{`{"host":"web1","kind":"info","repository":"main","timeout":5}`, "job submit - --timeout 90m --expires 2d", `POST /jobs {"host":"web1","kind":"info","repository":"main","timeout":5,"expires_in":172800}`},
		{"", "job submit --host web1 --kind info --repo main --timeout 1500ms", `POST /jobs {"host":"web1","kind":"info","repository":"main","timeout":2}`},
		{"", "repo add main --location /srv --passphrase-file " + file, `POST /repositories {"name":"main","location":"/srv","encryption":"repokey-blake2","passphrase":"a b c","custody":"coordinator"}`},
		{"d e f\n", "repo add main --location /srv --passphrase-file -", `POST /repositories {"name":"main","location":"/srv","encryption":"repokey-blake2","passphrase":"d e f","custody":"coordinator"}`},
		{"", "host token web1 --expires 2d --replace", `POST /enrolment-tokens {"host":"web1","expires_seconds":172800,"replace":true}`},
		{"", "token add ci --role operator --expires 90d", `POST /tokens {"name":"ci","role":"operator","expires_seconds":7776000}`},
		{"", "user add bob --role viewer", `POST /users {"name":"bob","role":"viewer"}`},
		{"", "user role bob --role operator", `PATCH /users/bob {"role":"operator"}`},
		{"", "audit list --by operator:alice --action borg. --object host/web1 --before 7 --limit 3", "GET /audit?action=borg.&before=7&by=operator%3Aalice&limit=3&object=host%2Fweb1"},
		{"", "host add web1 --label room=attic", `POST /hosts {"name":"web1","labels":{"room":"attic"}}`},
	} {
		if r := c.run(t, step.stdin, strings.Fields(step.args)...); r.code != 0 {
			t.Fatalf("%s: exit code %d: %s", step.args, r.code, r.err)
		}
		if diff := cmp.Diff(step.want, c.asked[len(c.asked)-1]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.args, diff)
		}
	}
}

// The script completes in a real bash, also behind flags with values.
func TestCompletion(t *testing.T) {
	c := newCoordinator(t)
	script := c.run(t, "", "completion", "bash").out + `
ask() { COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=(); _borgfleet; echo "${COMPREPLY[*]}"; }
ask borgfleet ho
ask borgfleet --json job w
ask borgfleet backup --host web1 --rep
ask borgfleet completion z
ask borgfleet repo prune main --keep-m
ask borgfleet audit v
ask borgfleet user role bob --r
ask borgfleet nats-creds bob --rev
ask borgfleet archive d
ask borgfleet archive download main a --c
ask borgfleet host v
`
	out, err := exec.Command("bash", "--norc", "-euc", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if diff := cmp.Diff("host\nwatch\n--repo\nzsh\n--keep-monthly\nverify\n--role\n--revoke\ndiff download delete\n--continue\nverify\n", string(out)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for shell, want := range map[string]string{"zsh": "bashcompinit", "fish": "complete -c borgfleet -n '__fish_seen_subcommand_from host; and __fish_seen_subcommand_from add'"} {
		if r := c.run(t, "", "completion", shell); !strings.Contains(r.out, want) {
			t.Errorf("%s: no %q in:\n%s", shell, want, r.out)
		}
	}
}

func TestDays(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"15m": 15 * time.Minute, "12h": 12 * time.Hour, "1h30m": 90 * time.Minute, "1s": time.Second, "1d": day, "90d": 90 * day, "36500d": 36500 * day,
		"": 0, "0": 0, "0s": 0, "0d": 0, "1ms": 0, "-1d": 0, "-1h": 0, "1.5d": 0, "36501d": 0, "9999999999999999999d": 0, "d": 0, "90": 0, "1w": 0, "1d12h": 0,
	} {
		if got, err := cli.ParseDays(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
	}
}

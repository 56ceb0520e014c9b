package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// postgres is a real PostgreSQL on a socket in a directory of its own.
type postgres struct {
	t    *testing.T
	dir  string
	user string // of this machine, that it runs as; it never runs as root
}

func startPostgres(t *testing.T) *postgres {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		t.Fatalf("there is no PostgreSQL below /usr/lib/postgresql: run deploy/dev/setup.sh (%v)", err)
	}
	bin := found[len(found)-1]
	p := &postgres{t: t}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	p.user = me.Username
	if os.Geteuid() == 0 {
		p.user = "postgres" // of Debian's package
	}
	if p.dir, err = os.MkdirTemp("", "pg"); err != nil { // a socket's path is short
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(p.dir) })
	p.own(p.dir)
	data := filepath.Join(p.dir, "data")
	p.must(bin+"/initdb", "-D", data, "-A", "trust", "-N", "-U", p.user, "-E", "UTF8")
	p.must(bin+"/pg_ctl", "-D", data, "-w", "-l", filepath.Join(p.dir, "log"), "-o", fmt.Sprintf("-k %s -c listen_addresses= -c fsync=off", p.dir), "start")
	t.Cleanup(func() { p.must(bin+"/pg_ctl", "-D", data, "-w", "-m", "immediate", "stop") })
	return p
}

func (p *postgres) own(path string) {
	p.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	who, err := user.Lookup(p.user)
	if err != nil {
		p.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	if err := os.Chown(path, uid, gid); err != nil {
		p.t.Fatal(err)
	}
}

// must runs one of its programs as its user, and returns what it prints.
func (p *postgres) must(name string, args ...string) string {
	p.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		who, err := user.Lookup(p.user)
		if err != nil {
			p.t.Fatal(err)
		}
		uid, _ := strconv.ParseUint(who.Uid, 10, 32)
		gid, _ := strconv.ParseUint(who.Gid, 10, 32)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	// To files: a server that is started here would hold a pipe for as long as it runs.
	output, err := os.CreateTemp(p.t.TempDir(), "output")
	if err != nil {
		p.t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	failed := cmd.Run()
	said, err := os.ReadFile(output.Name())
	if failed != nil || err != nil {
		p.t.Fatalf("%s: %v, %v\n%s", name, failed, err, said)
	}
	return string(said)
}

// ask runs SQL in the database app.
func (p *postgres) ask(sql string) string {
	p.t.Helper()
	return p.must("psql", "-X", "-h", p.dir, "-U", p.user, "-d", "app", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql)
}

// hooks puts the project's scripts into a host's directory of hooks, with their
// settings beside them.
func (p *postgres) hooks(names ...string) string {
	p.t.Helper()
	root, err := harness.Root()
	if err != nil {
		p.t.Fatal(err)
	}
	dir := filepath.Join(p.t.TempDir(), "hooks.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	settings := fmt.Sprintf("DATABASE=app\nRUN_AS=%s\nPGHOST=%s\nPGUSER=%s\n", p.user, p.dir, p.user)
	for _, name := range names {
		script, err := os.ReadFile(filepath.Join(root, "deploy/hooks", name))
		if err != nil {
			p.t.Fatal(err)
		}
		putFile(p.t, filepath.Join(dir, name), string(script), 0o755)
		putFile(p.t, filepath.Join(dir, name+".conf"), settings, 0o644)
	}
	return dir
}

func putFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// contents is everything in the database, in one comparable text.
const contents = `select count(*), md5(string_agg(id || ':' || words || ':' || encode(bytes, 'hex') || ':' || at, '|' order by id)) from items;
select indexname from pg_indexes where tablename = 'items' order by 1; select last_value from items_id_seq`

// A database is dumped into an archive, dropped, and restored from it: the same
// rows, bytes, times, indexes and sequences. Hooks run around the dump.
func TestPostgreSQLInAndOut(t *testing.T) {
	t.Parallel()
	p := startPostgres(t)
	p.must("createdb", "-h", p.dir, "-U", p.user, "app")
	p.ask(`create table items (id serial primary key, words text, bytes bytea, at timestamptz);
insert into items (words, bytes, at) select repeat('Grüße ' || i || E'\n\t', 20), decode(md5(i::text), 'hex'), timestamptz '2026-03-29 01:59:00+01' + i * interval '1 minute' from generate_series(1, 20000) i;
create index by_time on items (at)`)
	before := p.ask(contents)

	dir := p.hooks("postgres-dump", "postgres-restore")
	putFile(t, filepath.Join(dir, "note"), "#!/bin/sh\necho \"$BORGFLEET_PHASE of $BORGFLEET_ARCHIVE: ${BORGFLEET_RESULT:-none}\"\n", 0o755)
	c := harness.StartCoordinator(t)
	c.AddAgent("db1", harness.AgentOptions{Config: "policy: {hooks: " + dir + "}\n"})
	location, passphrase := c.AddRepository("main")
	c.Init("db1", "main")
	backup := c.Submit(`{"host":"db1","kind":"backup","repository":"main","spec":{"content_from":"postgres-dump","stdin_name":"app.dump","hooks":{"before":["note"],"after":["note"]}}}`)
	made := c.Await(backup.ID, job.Succeeded)
	if made.Result.NFiles != 1 || made.Result.OriginalSize < 1<<20 {
		t.Fatalf("the dump: %+v", made.Result)
	}
	log := c.MustCLI("job", "log", string(backup.ID))
	for _, want := range []string{"note: before of " + made.Result.Archive + ": none", "note: after of " + made.Result.Archive + ": succeeded"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in\n%s", want, log)
		}
	}
	if header := harness.Borg(t, passphrase, "extract", "--stdout", location+"::"+made.Result.Archive).Stdout; !strings.HasPrefix(header, "PGDMP") {
		t.Errorf("the archive has no dump of PostgreSQL's: %.20q", header)
	}

	p.ask("drop table items")
	restore := func(path, hook string, state job.State) job.Job {
		asked := c.Submit(fmt.Sprintf(`{"host":"db1","kind":"restore","repository":"main","spec":{"archive":%q,"paths":[%q],"content_to":%q}}`, made.Result.Archive, path, hook))
		return c.Await(asked.ID, state)
	}
	if lost := restore("none.dump", "postgres-restore", job.Failed); lost.Failure.Code != job.PathMissing {
		t.Errorf("of a file that is not there: %+v", lost.Failure)
	}
	restore("app.dump", "postgres-restore", job.Succeeded)
	if after := p.ask(contents); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	p.ask("update items set words = 'spoilt' where id < 100; drop index by_time")
	restore("app.dump", "postgres-restore", job.Succeeded) // over what is there
	if after := p.ask(contents); after != before {
		t.Errorf("over a spoilt one, before:\n%s\nafter:\n%s", before, after)
	}
	if refused := restore("app.dump", "no-such-hook", job.Failed); refused.Failure.Code != job.RefusedByHost {
		t.Errorf("into a hook that is not there: %+v", refused.Failure)
	}
}

// The scripts for SQLite copy a database that is being written, keep what was
// there, and refuse a copy that is damaged.
func TestSQLiteInAndOut(t *testing.T) {
	t.Parallel()
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	database := filepath.Join(dir, "app.db")
	for _, name := range []string{"sqlite-dump", "sqlite-restore"} {
		script, err := os.ReadFile(filepath.Join(root, "deploy/hooks", name))
		if err != nil {
			t.Fatal(err)
		}
		putFile(t, filepath.Join(dir, name), string(script), 0o755)
		putFile(t, filepath.Join(dir, name+".conf"), "FILE="+database+"\nSCRATCH="+dir+"\nREPLACE=yes\n", 0o644)
	}
	shell := func(script string) (string, error) {
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Dir = dir
		said, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(said)), err
	}
	for _, step := range []struct{ script, want string }{
		{`sqlite3 app.db "pragma journal_mode=wal; create table t (x); insert into t values ('one')"`, "wal"},
		{`./sqlite-dump >copy`, ""},
		{`sqlite3 app.db "insert into t values ('two')"`, ""},
		{`./sqlite-restore <copy && sqlite3 app.db "select * from t" && sqlite3 app.db.before "select * from t"`, "one\none\ntwo"},
		{`head -c 5000 copy | ./sqlite-restore || sqlite3 app.db "select * from t"`, ""},
	} {
		said, err := shell(step.script)
		if err != nil || step.want != "" && said != step.want {
			t.Fatalf("%s: %v, %q", step.script, err, said)
		}
		if step.want == "" && strings.Contains(step.script, "head") && !strings.HasSuffix(said, "one") {
			t.Fatalf("%s: %q", step.script, said)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new.*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

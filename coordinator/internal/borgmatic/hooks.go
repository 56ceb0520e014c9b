package borgmatic

import (
	"fmt"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// phases are the hooks that a backup has here, and what borgmatic calls them.
var phases = []struct {
	name string
	keys []string
}{
	{"before", []string{"before_everything", "before_actions", "before_backup"}},
	{"after", []string{"after_backup", "after_actions", "after_everything"}},
	{"failure", []string{"on_error"}},
}

// hooks makes a script of each phase's commands.
func (r *reader) hooks() {
	commands := map[string][]string{}
	for _, phase := range phases {
		for _, key := range phase.keys {
			commands[phase.name] = append(commands[phase.name], r.list(key)...)
		}
	}
	for _, entry := range entries(r.take("commands"), "run") {
		r.command(&config{file: r.file, keys: entry}, commands)
	}
	hooks := job.Hooks{}
	for phase, names := range map[string]*[]string{"before": &hooks.Before, "after": &hooks.After, "failure": &hooks.OnFailure} {
		if len(commands[phase]) > 0 {
			*names = []string{r.hook(phase, strings.Join(commands[phase], "\n"))}
		}
	}
	if len(hooks.Before)+len(hooks.After)+len(hooks.OnFailure) > 0 {
		r.spec.Hooks = &hooks
	}
}

// command maps an entry of the newest layout.
func (r *reader) command(e *config, commands map[string][]string) {
	before, after, when, run := e.text("before"), e.text("after"), e.list("when"), e.list("run")
	phase := ""
	switch {
	case len(when) > 0 && !slices.Contains(when, "create"):
	case after == "error" || slices.Contains(e.list("states"), "fail"):
		phase = "failure"
	case before != "" && before != "dump_data_sources":
		phase = "before"
	case after != "" && after != "dump_data_sources":
		phase = "after"
	}
	if phase == "" {
		r.note("commands", "one is not mapped: hooks here run before a backup, after it, and when it failed")
		return
	}
	commands[phase] = append(commands[phase], run...)
}

var unknownVariables = []string{"{configuration_filename}", "{repository}", "{repository_label}", "{log_file}", "{error}", "{output}"}

// hook adds a script, and returns its name.
func (r *reader) hook(what, body string) string {
	name := r.plan + "-" + what
	for _, variable := range unknownVariables {
		if strings.Contains(body, variable) {
			r.note("hooks", "%s in the hook %s stays as it is: see the environment that hooks get, BORGFLEET_REPOSITORY and others", variable, name)
		}
	}
	r.to.Hooks = append(r.to.Hooks, Hook{Name: name, Content: "#!/bin/sh\n# Made of " + r.file + "; look through it, and put it into the hooks of " + r.host +
		",\n# /etc/borgfleet/hooks.d, with mode 0755. Exit code 75 leaves the backup out.\nset -e\n" + body + "\n"})
	return name
}

// databases makes a hook of each database that is dumped.
func (r *reader) databases() {
	for _, kind := range []struct{ key, name, command string }{
		{"postgresql_databases", "postgresql", "exec pg_dump --format=custom --no-password"},
		{"mysql_databases", "mysql", "exec mysqldump --single-transaction"},
		{"mariadb_databases", "mariadb", "exec mariadb-dump --single-transaction"},
		{"mongodb_databases", "mongodb", "exec mongodump --archive"},
		{"sqlite_databases", "sqlite", "exec sqlite3"},
	} {
		for _, entry := range entries(r.take(kind.key), "name") {
			e := &config{file: r.file, keys: entry}
			r.database(kind.key, kind.name, kind.command, e)
		}
	}
}

func (r *reader) database(key, kind, command string, e *config) {
	name := e.text("name")
	options := map[string]string{"hostname": "--host", "port": "--port", "username": "--username"}
	if kind == "mysql" || kind == "mariadb" {
		options["username"] = "--user"
	}
	for _, option := range []string{"hostname", "port", "username"} {
		if value := e.text(option); value != "" && kind != "sqlite" {
			command += " " + options[option] + "=" + quote(value)
		}
	}
	switch {
	case kind == "sqlite":
		command += " " + quote(e.text("path")) + " .dump"
	case name == "all" && kind == "postgresql":
		command = strings.Replace(command, "pg_dump --format=custom", "pg_dumpall", 1)
	case name == "all" && kind != "mongodb":
		command += " --all-databases"
	case kind == "mongodb" && name != "all":
		command += " --db=" + quote(name)
	case kind != "mongodb":
		command += " " + quote(name)
	}
	if _, has := e.keys["password"]; has {
		e.take("password")
		r.note(key, "the password for %s is not copied: put it where the client looks for it on %s (~/.pgpass, ~/.my.cnf)", name, r.host)
	}
	for left := range e.keys {
		r.note(key+"."+left, "it is not mapped")
	}
	hook := r.hook(strings.Trim(kind+"-"+plain(name), "-"), command)
	r.spec.Dumps = append(r.spec.Dumps, fleet.Dump{Hook: hook})
}

// quote writes a word for a shell.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// healthchecks keeps the address that is pinged, for a target.
func (r *reader) healthchecks() {
	for _, entry := range entries(r.take("healthchecks"), "ping_url") {
		address := fmt.Sprint(entry["ping_url"])
		if !strings.Contains(address, "://") {
			address = "https://hc-ping.com/" + address
		}
		r.to.Pings[r.plan] = secret.FromString(address)
	}
}

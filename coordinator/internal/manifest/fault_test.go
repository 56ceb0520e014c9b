package manifest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

func TestFaultsAreToldTogether(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing":      {"", []string{"there is nothing in it (borgfleet export shows what there is now)"}},
		"comments":     {"# soon\n", []string{"there is nothing in it (borgfleet export shows what there is now)"}},
		"no YAML":      {"hosts:\n  web1: [\n", []string{"line 2, column 1: did not find expected node content (it is not YAML)"}},
		"a list":       {"- hosts\n", []string{"line 1, column 1: it takes keys with values, not a list"}},
		"two texts":    {"hosts: {}\n---\nhosts: {}\n", []string{"line 2, column 1: there is a second document (put everything into one)"}},
		"misspelt":     {"host: {}\n", []string{"line 1, column 1: host: there is no such key (did you mean hosts?)"}},
		"nothing near": {"colour: {}\n", []string{"line 1, column 1: colour: there is no such key (there are hosts, repositories, plans, notify)"}},
		"many": {
			"hosts:\n  web1: {label: {a: b}}\n  Web2: {}\nrepositories:\n  main: {locaton: /srv/x, append_only: maybe}\nplans:\n  daily:\n    hosts: web1\n    repositories: [main]\n    max_age: 36\n",
			[]string{
				"line 2, column 10: hosts.web1.label: there is no such key (did you mean labels?)",
				`line 3, column 3: hosts.Web2.name: "Web2" is not a host name (1 to 63 of a-z, 0-9 and -)`,
				"line 5, column 10: repositories.main.locaton: there is no such key (did you mean location?)",
				`line 5, column 40: repositories.main.append_only: "maybe" is neither true nor false`,
				"line 8, column 12: plans.daily.hosts: it takes a list, not one value (write [web1])",
				`line 10, column 14: plans.daily.max_age: "36" has no unit (write it like 90s, 15m, 36h or 7d)`,
			},
		},
		"given twice":   {"hosts:\n  web1: {}\n  web1: {}\n", []string{"line 3, column 3: hosts.web1: it is given twice, first in line 2 (keep one of them)"}},
		"no text":       {"hosts: {web1: {labels: {rack: 12}}}\n", []string{`line 1, column 31: hosts.web1.labels.rack: 12 is not text (put it into quotes: "12")`}},
		"another word":  {"hosts: {web1: {reach: tunel}}\n", []string{`line 1, column 23: hosts.web1.reach: "tunel" is none (did you mean tunnel?)`}},
		"no passphrase": {"repositories:\n  main: {location: /srv/borg}\n", []string{"line 2, column 3: repositories.main.passphrase_file: encryption repokey-blake2 needs a passphrase (name a file that holds it; borgfleet apply reads it where it runs)"}},
		"quota elsewhere": {"repositories:\n  main: {location: /srv/borg, encryption: none, quota: 5G}\n", []string{
			"line 2, column 49: repositories.main.quota: is only for a repository in the depot (leave it out: that is for the server at /srv/borg to say)"}},
		"one place twice": {"repositories:\n  a: {location: 'ssh://s/srv/x', encryption: none}\n  b: {location: 'ssh://s:22/srv//x', encryption: none}\n", []string{
			"line 2, column 7: repositories.a.location: ssh://s/srv/x belongs to repository b (use that one: any number of hosts may back up to one repository)",
			"line 3, column 7: repositories.b.location: ssh://s:22/srv//x belongs to repository a (use that one: any number of hosts may back up to one repository)",
		}},
		"plan": {"hosts: {web1: {}}\nplans:\n  daily:\n    hosts: [web1, web9]\n    repositories: [main]\n    schedule:\n      cron: 0 2 31 2 *\n", []string{
			`line 4, column 5: plans.daily.hosts: there is no host "web9"`,
			`line 5, column 20: plans.daily.repositories[0]: there is no repository "main"`,
			"line 7, column 7: plans.daily.schedule.cron: there is no such day",
		}},
		"no address": {"notify: {targets: {ops: {kind: webhook}}}\n", []string{"line 1, column 20: notify.targets.ops.url: missing"}},
		"bad key":    {"hosts: {web1: {ssh: {address: root@web1, host_keys: [nonsense]}}}\n", []string{`line 1, column 42: hosts.web1.ssh.host_keys: "nonsense" is not a public key (one line as in /etc/ssh/ssh_host_ed25519_key.pub, such as ssh-ed25519 AAAA…)`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newHouse(t).Apply(t.Context(), admin, fleet.Manifest{Text: c.text, DryRun: true})
			faults, ok := errors.AsType[*fleet.ManifestError](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			var got []string
			for _, fault := range faults.Faults {
				got = append(got, fault.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWhatWritersUse is anchors, merged keys, and keys for the writer alone.
func TestWhatWritersUse(t *testing.T) {
	h := newHouse(t)
	h.apply(t, fleet.Manifest{Text: `
x-common: &common
  repositories: [main]
  paths: [/etc]
  max_age: 36h
hosts: {web1: , web2: {}}
repositories: {main: {location: /srv/borg, encryption: none}}
plans:
  one: {<<: *common, hosts: [web1]}
  two:
    <<: [*common]
    hosts: [web2]
    max_age: 2d
`})
	one, two := h.plans.specs["one"], h.plans.specs["two"]
	same(t, "of one", []string{"web1", "/etc", "36h"}, []string{one.Hosts[0], one.Paths[0], string(one.MaxAge)})
	same(t, "of two", []string{"web2", "/etc", "2d"}, []string{two.Hosts[0], two.Paths[0], string(two.MaxAge)})
}

// TestHostileTexts end at once, and with an error.
func TestHostileTexts(t *testing.T) {
	bomb := "x-a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 'b'; i < 'k'; i++ {
		item := "*" + string(i-1)
		bomb += "x-" + string(i) + ": &" + string(i) + " [" + strings.Repeat(item+", ", 9) + item + "]\n"
	}
	for name, text := range map[string]string{
		"alias of itself":    "hosts: &h {web1: {labels: *h}}\n",
		"merge of itself":    "hosts: &h\n  <<: *h\n  web1: {label: x}\n",
		"repeated aliases":   bomb + "hosts: {web1: {labels: {a: *j}}}\n",
		"alias of nothing":   "hosts: *nothing\n",
		"deep":               "hosts: " + strings.Repeat("{a: ", 500) + strings.Repeat("}", 500),
		"deep lists":         "plans: {a: {paths: " + strings.Repeat("[", 500) + strings.Repeat("]", 500) + "}}",
		"key that is a list": "hosts: {[a]: {}}\n",
		"binary":             "hosts: \x00\n",
		"small values":       "hosts: [" + strings.Repeat("a,", 3_000_000) + "]",
		"larger than it may": strings.Repeat("#", 33<<20),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := newHouse(t).Apply(t.Context(), admin, fleet.Manifest{Text: text, DryRun: true}); err == nil {
				t.Error("it was taken")
			}
		})
	}
}

func FuzzApply(f *testing.F) {
	f.Add(sample)
	f.Add("hosts: &h {web1: *h}\n")
	h := newHouse(f)
	f.Fuzz(func(t *testing.T, text string) {
		outcome, err := h.Apply(t.Context(), admin, fleet.Manifest{Text: text, DryRun: true, Prune: true})
		if _, known := errors.AsType[*fleet.ManifestError](err); err != nil && !known {
			t.Errorf("%v for %q", err, text)
		}
		if outcome.Applied {
			t.Errorf("a dry run has applied %q", text)
		}
	})
}

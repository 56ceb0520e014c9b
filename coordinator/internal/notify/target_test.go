package notify_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func secretOf(text string) secret.Value { return secret.FromString(text) }

func TestAddressesAreShownWithoutTheirSecrets(t *testing.T) {
	for name, test := range map[string]struct{ kind, url, wantKind, shown string }{
		"webhook":    {"webhook", "https://u:hush@ops.example.net:8443/hush?x=hush", "webhook", "https://ops.example.net:8443/…"},
		"mail":       {"", "smtp://user:hush@mail.example.net:587/?from=a@example.net&to=b@example.net", "smtp", "smtp://mail.example.net:587/…"},
		"ntfy":       {"", "ntfy://:hush@ntfy.sh/topic", "ntfy", "ntfy://ntfy.sh/…"},
		"gotify":     {"gotify", "gotify://gotify.example.net/AzyoeNS.D4iJLVa", "gotify", "gotify://gotify.example.net/…"},
		"telegram":   {"", "telegram://110201543:" + strings.Repeat("B", 35) + "@telegram?chats=@channel", "telegram", "telegram://…"},
		"discord":    {"", "discord://hushhush@123456789", "discord", "discord://…"},
		"pushbullet": {"", "pushbullet://hushhushhushhushhushhushhushhush00", "pushbullet", "pushbullet://…"},
		"matrix":     {"", "matrix://user:hush@matrix.example.net/?rooms=!a:b", "matrix", "matrix://matrix.example.net/…"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, t.TempDir(), &web{})
			defer r.stop()
			got := r.target(fleet.NewTarget{Name: "x", Kind: test.kind, URL: secretOf(test.url)})
			if got.Kind != test.wantKind || got.Shown != test.shown || got.CreatedAt.IsZero() {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestBadTargets(t *testing.T) {
	r := start(t, t.TempDir(), &web{})
	defer r.stop()
	for name, test := range map[string]struct {
		target fleet.NewTarget
		want   string // the message begins so
	}{
		"no name":            {fleet.NewTarget{URL: secretOf("ntfy://ntfy.sh/x")}, "name: "},
		"a name with spaces": {fleet.NewTarget{Name: "a b", URL: secretOf("ntfy://ntfy.sh/x")}, "name: "},
		"no address":         {fleet.NewTarget{Name: "x"}, "url: missing"},
		"no URL":             {fleet.NewTarget{Name: "x", URL: secretOf("hush")}, "url: not a URL"},
		"no URL at all":      {fleet.NewTarget{Name: "x", URL: secretOf("ntfy://hush%zz@x/")}, "url: not a URL"},
		"which kind":         {fleet.NewTarget{Name: "x", URL: secretOf("https://example.net/hush")}, "kind: "},
		"unknown service":    {fleet.NewTarget{Name: "x", URL: secretOf("pigeon://hush@x/")}, "url: pigeon:// is no service"},
		"the log":            {fleet.NewTarget{Name: "x", URL: secretOf("logger://")}, "url: logger:// is no service"},
		"other kind":         {fleet.NewTarget{Name: "x", Kind: "smtp", URL: secretOf("ntfy://ntfy.sh/hush")}, "kind: "},
		"hook to a service":  {fleet.NewTarget{Name: "x", Kind: "webhook", URL: secretOf("ntfy://ntfy.sh/hush")}, "url: the address of a webhook"},
		"half an address":    {fleet.NewTarget{Name: "x", URL: secretOf("telegram://hushhush@telegram")}, "url: not as telegram wants it"},
		"cloud's secrets":    {fleet.NewTarget{Name: "x", Kind: "webhook", URL: secretOf("http://169.254.169.254/latest/hush")}, "url: 169.254.169.254 is"},
		"by a gateway":       {fleet.NewTarget{Name: "x", Kind: "webhook", URL: secretOf("http://[64:ff9b::a9fe:a9fe]/hush")}, "url: "},
		"the same over IPv6": {fleet.NewTarget{Name: "x", Kind: "webhook", URL: secretOf("http://[::ffff:169.254.169.254]/hush")}, "url: "},
		"unsigned service":   {fleet.NewTarget{Name: "x", URL: secretOf("ntfy://ntfy.sh/x"), Secret: secretOf("hush")}, "secret: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.PutTarget(t.Context(), alice, test.target)
			f := job.AsFailure(err)
			if f == nil || f.Code != job.InvalidRequest || !strings.HasPrefix(f.Message, test.want) || strings.Contains(err.Error(), "hush") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestSecretsOfAddressesAreNowhere(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir, nil)
	r.target(fleet.NewTarget{Name: "hook", Kind: "webhook", URL: secretOf("http://user-hush:word-hush@127.0.0.1:1/path-hush?query=query-hush"), Secret: secretOf("key-hush")})
	r.target(fleet.NewTarget{Name: "mail", URL: secretOf("smtp://user-hush:word-hush@127.0.0.1:1/?from=from-hush@example.net&to=to-hush@example.net")})
	r.target(fleet.NewTarget{Name: "note", URL: secretOf("ntfy://:word-hush@127.0.0.1:1/topic-hush?scheme=http")})
	r.target(fleet.NewTarget{Name: "app", URL: secretOf("gotify://127.0.0.1:1/path-hush/AhushhushhushH.?disabletls=yes")})
	for _, name := range []string{"hook", "mail", "note", "app"} {
		d, err := r.TestTarget(t.Context(), alice, name)
		if err != nil || d.Error == "" || !d.GivenUp || strings.Contains(d.Error, "hush") {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	targets, err := r.Targets(t.Context())
	if err != nil || len(targets) != 4 || strings.Contains(targets[0].Trouble+targets[0].Shown, "hush") {
		t.Errorf("%+v, %v", targets, err)
	}
	r.stop()
	if strings.Contains(r.log.String(), "hush") {
		t.Errorf("in the log: %s", r.log)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "db")); err != nil || strings.Contains(string(data), "hush") {
		t.Errorf("in the database, or %v", err)
	}
}

func TestATargetThatARuleTellsStays(t *testing.T) {
	r := start(t, t.TempDir(), &web{})
	defer r.stop()
	r.webhook("ops")
	r.rule(fleet.Rule{Name: "all", Targets: []string{"ops"}})
	if f := job.AsFailure(r.RemoveTarget(t.Context(), alice, "ops")); f == nil || f.Code != job.Conflict {
		t.Errorf("%v", f)
	}
	if err := r.RemoveRule(t.Context(), alice, "all"); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveTarget(t.Context(), alice, "ops"); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"target": r.RemoveTarget(t.Context(), alice, "ops"), "rule": r.RemoveRule(t.Context(), alice, "all"),
	} {
		if f := job.AsFailure(err); f == nil || f.Code != job.NotFound {
			t.Errorf("%s: %v", name, f)
		}
	}
	if has, err := r.store.HasSecrets(); err != nil || has {
		t.Errorf("its address is still there, %v", err)
	}
}

func TestBadRules(t *testing.T) {
	r := start(t, t.TempDir(), &web{})
	defer r.stop()
	r.webhook("ops")
	good := fleet.Rule{Name: "x", Targets: []string{"ops"}}
	for name, test := range map[string]struct {
		edit  func(*fleet.Rule)
		field string
	}{
		"no name":         {func(r *fleet.Rule) { r.Name = "" }, "name"},
		"the default's":   {func(r *fleet.Rule) { r.Name = "default" }, "name"},
		"severity":        {func(r *fleet.Rule) { r.Severity = "bad" }, "severity"},
		"no targets":      {func(r *fleet.Rule) { r.Targets = nil }, "targets"},
		"unknown target":  {func(r *fleet.Rule) { r.Targets = []string{"ops", "nobody"} }, "targets[1]"},
		"kind":            {func(r *fleet.Rule) { r.Kinds = []string{"["} }, "kinds[0]"},
		"host":            {func(r *fleet.Rule) { r.Hosts = []string{"a", ""} }, "hosts[1]"},
		"outcome":         {func(r *fleet.Rule) { r.Runs = []string{"good"} }, "runs[0]"},
		"hours":           {func(r *fleet.Rule) { r.Hours = "8-18" }, "hours"},
		"no hours":        {func(r *fleet.Rule) { r.Hours = "08:00-08:00" }, "hours"},
		"day":             {func(r *fleet.Rule) { r.Days = []string{"mon", "Tuesday"} }, "days[1]"},
		"zone":            {func(r *fleet.Rule) { r.Timezone = "Berlin" }, "timezone"},
		"wherever it is":  {func(r *fleet.Rule) { r.Timezone = "Local" }, "timezone"},
		"group":           {func(r *fleet.Rule) { r.Group = "soon" }, "group"},
		"group of days":   {func(r *fleet.Rule) { r.Group = "2d" }, "group"},
		"repeat":          {func(r *fleet.Rule) { r.Repeat = "-1h" }, "repeat"},
		"repeat at speed": {func(r *fleet.Rule) { r.Repeat = "1s" }, "repeat"},
	} {
		t.Run(name, func(t *testing.T) {
			rule := good
			test.edit(&rule)
			_, err := r.PutRule(t.Context(), alice, rule)
			if f := job.AsFailure(err); f == nil || f.Code != job.InvalidRequest || !strings.HasPrefix(f.Message, test.field+": ") {
				t.Errorf("%v", err)
			}
		})
	}
	if rules, err := r.Rules(t.Context()); err != nil || len(rules) != 0 {
		t.Errorf("%+v, %v", rules, err)
	}
}

// entries returns how much there is in the audit.
func entries(t *testing.T, r *rig) int {
	t.Helper()
	page, err := r.store.Audit(fleet.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	return len(page.Entries)
}

func TestApply(t *testing.T) {
	r := start(t, t.TempDir(), &web{})
	defer r.stop()
	targets := map[string]fleet.NewTarget{
		"ops":  {Kind: "webhook", URL: secretOf("https://ops.example.net/"), Secret: secretOf("key")},
		"mail": {URL: secretOf("smtp://mail.example.net/?from=a@example.net&to=b@example.net")},
	}
	rules := map[string]fleet.Rule{"all": {Targets: []string{"ops", "mail"}, Days: []string{"mon"}}}
	compare := func(want ...[2]string) {
		t.Helper()
		got, err := r.Compare(t.Context(), targets, rules, true)
		if diff := cmp.Diff(append([][2]string{}, want...), got); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
		before := entries(t, r)
		if err := r.Apply(t.Context(), alice, targets, rules, true); err != nil {
			t.Fatal(err)
		}
		if n := entries(t, r) - before; n != len(want) {
			t.Errorf("%d entries in the audit for %d changes", n, len(want))
		}
	}
	compare([2]string{"add", "target/mail"}, [2]string{"add", "target/ops"}, [2]string{"add", "rule/all"})
	compare()
	targets["ops"] = fleet.NewTarget{Kind: "webhook", URL: secretOf("https://other.example.net/")}
	rules["all"] = fleet.Rule{Targets: []string{"ops"}}
	delete(targets, "mail")
	compare([2]string{"change", "target/ops"}, [2]string{"remove", "target/mail"}, [2]string{"change", "rule/all"})
	compare()
	targets["later"] = fleet.NewTarget{}
	if got, err := r.Compare(t.Context(), targets, rules, false); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	rules["all"] = fleet.Rule{Targets: []string{"nobody"}, Hours: "never", Timezone: "Mars", Days: []string{"first"}}
	err := r.Apply(t.Context(), alice, targets, rules, false)
	for _, want := range []string{"notify.targets.later.url: ", "notify.rules.all.hours: ", "notify.rules.all.timezone: ", "notify.rules.all.days[0]: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, without %s", err, want)
		}
	}
}

func TestWhatIsDoneIsInTheAudit(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.webhook("ops")
		r.rule(fleet.Rule{Name: "all", Targets: []string{"ops"}})
		if _, err := r.TestTarget(t.Context(), alice, "ops"); err != nil {
			t.Fatal(err)
		}
		if err := r.RemoveRule(t.Context(), alice, "all"); err != nil {
			t.Fatal(err)
		}
		page, err := r.store.Audit(fleet.AuditFilter{})
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, entry := range page.Entries {
			got = append(got, entry.Action+" "+entry.Object+" "+entry.By)
		}
		want := []string{
			"rule.remove rule/all operator:alice", "target.test target/ops operator:alice",
			"rule.add rule/all operator:alice", "target.add target/ops operator:alice",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		pass(time.Second)
	})
}

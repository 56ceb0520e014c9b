package manifest

import (
	"cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// pending stands for an address that has not come yet, to be looked at only.
const pending = "https://192.0.2.1/"

// notify finds what is to change of targets and rules. A part of the section that
// is not in the text stays as it is.
func (w *work) notify(said Notify) {
	w.targets, w.rules = map[string]fleet.NewTarget{}, map[string]fleet.Rule{}
	for _, name := range keysOf(said.Targets) {
		w.target(name, said.Targets[name])
	}
	if said.Targets == nil {
		for name, target := range w.state.targets {
			w.targets[name] = fleet.NewTarget{Name: name, Disabled: target.Disabled}
		}
	}
	for _, name := range keysOf(said.Rules) {
		rule := said.Rules[name]
		rule.Name = name
		w.rules[name] = rule
	}
	if said.Rules == nil {
		w.rules = w.state.rules
	}
}

func (w *work) target(name string, said Target) {
	object := "target/" + name
	known, found := w.state.targets[name]
	have := Target{}
	if found {
		have = targetOf(known, w.state.notes[object])
	}
	if !said.URL.Empty() && said.URLFile != "" {
		w.objectFault(object, job.Invalid("url_file", "there is a url as well").WithHint("keep one of them"))
	}
	asked := fleet.NewTarget{Name: name, Kind: said.Kind, URL: said.URL, Disabled: said.Disabled}
	if said.URLFile != "" && said.URLFile != have.URLFile {
		asked.URL = w.secret(said.URLFile)
		if asked.URL.Empty() && !found && w.asked.DryRun {
			asked.URL, asked.Kind = secret.FromString(pending), cmp.Or(asked.Kind, "webhook")
		}
	}
	if said.SecretFile != "" && said.SecretFile != have.SecretFile {
		asked.Secret = w.secret(said.SecretFile)
	}
	w.targets[name] = asked
}

// compared notes what the keeper of targets and rules says that changes.
func (w *work) compared(changes [][2]string) {
	byObject := map[string]bool{}
	for _, change := range changes {
		action, object := change[0], change[1]
		var fields []string
		if action == "change" {
			fields = w.notifyFields(object)
		}
		byObject[object], w.told = true, true
		w.changed(action, object, fields)
	}
	if w.document.Notify == nil {
		return
	}
	for _, name := range keysOf(w.document.Notify.Targets) { // another file may hold the same
		object := "target/" + name
		if known, found := w.state.targets[name]; found && !byObject[object] {
			if fields := difference(targetOf(known, w.state.notes[object]), unsaid(w.document.Notify.Targets[name])); len(fields) > 0 {
				w.told = true
				w.changed("change", object, fields)
			}
		}
	}
}

// unsaid leaves out of a target what is compared elsewhere.
func unsaid(t Target) Target {
	t.URL = secret.Value{}
	if t.Kind != "webhook" && t.Kind != "healthchecks" { // the scheme says it
		t.Kind = ""
	}
	return t
}

// notifyFields says in what a target or a rule differs.
func (w *work) notifyFields(object string) []string {
	kind, name, _ := cutObject(object)
	if kind == "rule" {
		return difference(w.state.rules[name], w.rules[name])
	}
	said := w.document.Notify.Targets[name]
	fields := difference(targetOf(w.state.targets[name], w.state.notes[object]), unsaid(said))
	if !said.URL.Empty() || len(fields) == 0 {
		fields = append(fields, "address: another one")
	}
	return fields
}

package web

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// accessForm adds a host that the coordinator connects to, or changes how it does
// that. Each server on the way is asked for its keys; what was compared and
// confirmed is in the form, so that nothing is kept here in between.
type accessForm struct {
	commands
	Host    *fleet.HostView // that is changed; nil: a new one
	Action  string
	Crumbs  []crumb
	Main    []field
	More    []field
	Open    bool // More are shown
	Pins    []pin
	Shown   []fleet.ShownKey // by the server that is to be confirmed
	Server  string           // that one, as it was typed
	Shared  string           // the public key that is shown to hosts without one of their own
	Faults  []*job.Failure
	Command string

	name   string
	labels map[string]string
	access fleet.SSHAccess
	reach  fleet.Reach
	wrong  []error
}

// pin is a key that was confirmed for a server.
type pin struct{ Address, Key string }

// Value is a pin as the form carries it.
func (p pin) Value() string { return p.Address + " " + p.Key }

// Fault is what was wrong with something that is no field.
func (f *accessForm) Fault(name string) *job.Failure { return faultOf(f.Faults, name) }

// Fingerprint is a shown key in short.
func (f *accessForm) Fingerprint(key fleet.ShownKey) string {
	return keyType(key.Key) + " " + key.Fingerprint
}

// Pin is a shown key as the form carries it.
func (f *accessForm) Pin(key fleet.ShownKey) string { return pin{f.Server, key.Key}.Value() }

// ServerKeys prints the fingerprints of a server's keys there.
func (f *accessForm) ServerKeys() string {
	return `for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf "$key"; done`
}

// Back is the page that the form belongs to.
func (f *accessForm) Back() string { return hostURL(f.name) }

// Title is the page's heading.
func (f *accessForm) Title() string {
	if f.Host != nil {
		return "How " + f.Host.Name + " is reached"
	}
	return "Add a host over SSH"
}

// Button says what sending the form does next.
func (f *accessForm) Button() string {
	switch {
	case len(f.Shown) > 0 && f.Server != f.access.Address:
		return "Go on"
	case f.Host != nil:
		return "Change"
	case len(f.Shown) > 0:
		return "Add the host"
	}
	return "Look at its keys"
}

// servers are those on the way, the host last, each with the keys that were
// confirmed for it.
func (f *accessForm) servers() []fleet.SSHHop {
	list := append(slices.Clone(f.access.Jump), fleet.SSHHop{Address: f.access.Address})
	for i := range list {
		list[i].HostKeys = nil
		for _, p := range f.Pins {
			if p.Address == list[i].Address {
				list[i].HostKeys = append(list[i].HostKeys, p.Key)
			}
		}
	}
	return list
}

// accessPage serves the form, and takes it.
func (s *site) accessPage(w http.ResponseWriter, r *http.Request) {
	v := &typed{Values: r.URL.Query()}
	if r.Method == http.MethodPost {
		if !s.parse(w, r) {
			return
		}
		v = &typed{Values: r.PostForm, sent: true}
	}
	form, err := s.accessForm(r, v)
	if err != nil {
		s.faultOf(w, r, err)
		return
	}
	if v.sent {
		done, err := s.sendAccess(r, form, v)
		if err != nil {
			s.faultOf(w, r, err)
			return
		}
		if done {
			http.Redirect(w, r, hostURL(form.name), http.StatusSeeOther)
			return
		}
	}
	s.render(w, r, form.view())
}

// sendAccess goes one step: it looks at the first server whose keys are not
// confirmed, or stores the whole when there is none. It reports whether it has.
// The error is what a form cannot mend.
func (s *site) sendAccess(r *http.Request, f *accessForm, v *typed) (done bool, err error) {
	by := fleet.ActorOf(r.Context())
	if f.Faults = f.check(v); len(f.Faults) > 0 {
		return false, nil
	}
	servers := f.servers()
	for i, server := range servers {
		if len(server.HostKeys) > 0 {
			continue
		}
		shown, err := s.Connections.ScanSSH(r.Context(), by, server.Address, servers[:i])
		if err != nil {
			return false, f.refused(err)
		}
		if f.Shown, f.Server = shown, server.Address; v.Get("shown") == server.Address {
			f.Faults = []*job.Failure{job.Invalid("pin", "no key of %s is ticked", server.Address).WithHint("compare them first")}
		}
		return false, nil
	}
	f.access.Jump, f.access.HostKeys = servers[:len(servers)-1], servers[len(servers)-1].HostKeys
	if f.Host == nil {
		_, err = s.SSH.AddSSHHost(r.Context(), by, fleet.NewSSHHost{Name: f.name, Labels: f.labels, SSHAccess: f.access, Reach: f.reach})
	} else {
		_, err = s.SSH.ChangeHost(r.Context(), by, f.name, fleet.HostChange{SSH: &f.access, Reach: &f.reach})
	}
	return err == nil, f.refused(err)
}

// refused keeps what the form can say, and returns the rest.
func (f *accessForm) refused(err error) error {
	if err == nil {
		return nil
	}
	list := failures(err)
	if code := list[0].Code; code == job.NotAllowed || code == job.Internal {
		return err
	}
	f.Faults = list
	return nil
}

// check finds what is wrong before anybody is asked.
func (f *accessForm) check(v *typed) []*job.Failure {
	wrong := append(slices.Clone(v.wrong), f.wrong...)
	if f.name == "" {
		wrong = append(wrong, job.Invalid("name", "is empty"))
	}
	if f.access.Address == "" {
		wrong = append(wrong, job.Invalid("address", "is empty").WithHint("for example backup@web1.example.net"))
	}
	var list []*job.Failure
	for _, err := range wrong {
		list = append(list, failures(err)...)
	}
	return list
}

// accessForm reads what was typed, or how the host is reached now.
func (s *site) accessForm(r *http.Request, v *typed) (*accessForm, error) {
	if err := needAdmin(r.Context()); err != nil {
		return nil, err
	}
	f := &accessForm{commands: s.commandsFor(r), Action: r.URL.EscapedPath(), name: v.text("name")}
	f.Crumbs = []crumb{{"Hosts", "/hosts"}, {Label: "new, over SSH"}}
	if name := r.PathValue("host"); name != "" {
		h, err := s.Hosts.Host(r.Context(), name)
		if err != nil {
			return nil, err
		}
		if h.SSH == nil {
			return nil, job.Fail(job.Conflict, "host %s is not reached over SSH", name).WithHint("its agent connects to the bus")
		}
		f.Host, f.name, f.Crumbs = &h, name, []crumb{{"Hosts", "/hosts"}, {name, hostURL(name)}, {Label: "access"}}
		f.present(v)
	}
	f.read(v)
	f.fields(v)
	f.Command = f.borgfleet(f.words()...)
	return f, s.sharedKey(r.Context(), f)
}

func (s *site) sharedKey(ctx context.Context, f *accessForm) (err error) {
	if f.Host == nil {
		f.Shared, err = s.SSH.SharedSSHKey(ctx)
	}
	return wrap("the key for hosts", err)
}

// present fills an unsent form with how the host is reached now.
func (f *accessForm) present(v *typed) {
	if v.sent {
		return
	}
	at, now := f.Host.SSH, map[string]string{}
	now["address"], now["borg"], now["dir"], now["hooks"] = at.Address, at.Borg, at.Dir, at.Hooks
	now["reach"] = string(f.Host.Reach)
	if at.Slots > 0 {
		now["slots"] = strconv.Itoa(at.Slots)
	}
	if at.Sudo {
		now["sudo"] = "1"
	}
	var jumps []string
	for _, hop := range at.Jump {
		jumps = append(jumps, hop.Address)
		for _, key := range hop.HostKeys {
			v.Add("pin", pin{hop.Address, key}.Value())
		}
	}
	now["jump"] = strings.Join(jumps, "\n")
	for _, key := range at.HostKeys {
		if !v.checked("anew") { // else it is asked again
			v.Add("pin", pin{at.Address, key}.Value())
		}
	}
	for name, value := range now {
		if !v.Has(name) {
			v.Set(name, value)
		}
	}
}

// read makes of what was typed what is asked for.
func (f *accessForm) read(v *typed) {
	f.access = fleet.SSHAccess{
		Address: v.text("address"), OwnKey: v.checked("own_key"), Sudo: v.checked("sudo"), Borg: v.text("borg"),
		Dir: v.text("dir"), Hooks: v.text("hooks"), Slots: v.count("slots"),
	}
	if f.Host != nil {
		f.access.OwnKey, f.access.PublicKey = f.Host.SSH.OwnKey, f.Host.SSH.PublicKey
	}
	f.reach = fleet.Reach(v.or("reach", string(fleet.ReachDepot)))
	for _, address := range v.lines("jump") {
		f.access.Jump = append(f.access.Jump, fleet.SSHHop{Address: address})
	}
	for _, line := range v.lines("labels") {
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			f.wrong = append(f.wrong, job.Invalid("labels", "%.60q has no value", line).WithHint("for example site=berlin"))
			continue
		}
		if f.labels == nil {
			f.labels = map[string]string{}
		}
		f.labels[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	for _, value := range v.Values["pin"] {
		if address, key, ok := strings.Cut(value, " "); ok && !slices.Contains(f.Pins, pin{address, key}) {
			f.Pins = append(f.Pins, pin{address, key})
		}
	}
}

// fields are what there is to type.
func (f *accessForm) fields(v *typed) {
	if f.Host == nil {
		f.Main = append(f.Main, field{Name: "name", Label: "Name", Kind: "text", Value: f.name, Needed: true, Help: "As it will be called here, for example `web1`: a-z, 0-9 and -."})
	}
	f.Main = append(f.Main,
		field{Name: "address", Label: "Address", Kind: "text", Value: f.access.Address, Needed: true, Placeholder: "backup@web1.example.net", Also: []string{"ssh.address", "host_keys"}, Help: "`user@host`, with `:port` if it is not 22. It takes sshd, a shell and borg there, and nothing else."},
		field{Name: "reach", Label: "Its way to the depot", Kind: "select", Choices: labelled(string(f.reach),
			choice{Value: string(fleet.ReachDepot), Label: "it connects to the depot itself"}, choice{Value: string(fleet.ReachTunnel), Label: "through a tunnel in this connection"}), Help: "Only for repositories that the coordinator keeps. Through the tunnel the host needs no way to here, and a backup ends when the connection does."},
		field{Name: "jump", Label: "Through these servers", Kind: "area", Value: v.Get("jump"), Placeholder: "none", Help: "As ProxyJump: `user@host:port`, one a line, the first one first."},
	)
	own := checkField(v, "own_key", "Show it a key of its own", "One is made for it. Otherwise it is shown the key that all hosts are shown.")
	sudo := checkField(v, "sudo", "Work as root, by sudo", "The user then needs the right to run `/bin/sh` by `sudo -n`, without a password.")
	own.Wide, sudo.Wide = false, false
	if f.Host == nil {
		f.Main = append(f.Main, own)
	}
	f.Main = append(f.Main, sudo)
	f.More = []field{
		{Name: "borg", Label: "Path of borg", Kind: "text", Value: f.access.Borg, Placeholder: "borg", Help: "Empty: where the PATH there finds it."},
		{Name: "dir", Label: "Working directory", Kind: "text", Value: f.access.Dir, Placeholder: ".borgfleet in the home directory", Help: "For running jobs and for borg's cache."},
		{Name: "hooks", Label: "Directory of hooks", Kind: "text", Value: f.access.Hooks, Placeholder: fleet.DefaultHooks},
		{Name: "slots", Label: "Jobs at once", Kind: "number", Value: v.text("slots"), Placeholder: "1"},
	}
	if f.Host == nil {
		f.More = append(f.More, field{Name: "labels", Label: "Labels", Kind: "area", Value: v.Get("labels"), Placeholder: "site=berlin", Help: "One a line."})
	}
	for _, one := range f.More {
		f.Open = f.Open || one.Value != ""
	}
}

// words is the same on the command line.
func (f *accessForm) words() []string {
	verb, name := "add", f.name
	if f.Host != nil {
		verb = "set"
	}
	if name == "" {
		name = "NAME"
	}
	address := f.access.Address
	if address == "" {
		address = "USER@HOST"
	}
	words := []string{"host", verb, name, "--ssh", address}
	for _, hop := range f.access.Jump {
		words = append(words, "--jump", hop.Address)
	}
	if f.access.OwnKey && f.Host == nil {
		words = append(words, "--own-key")
	}
	if f.access.Sudo {
		words = append(words, "--sudo")
	}
	for _, one := range [][2]string{{"--borg", f.access.Borg}, {"--dir", f.access.Dir}, {"--hooks", f.access.Hooks}} {
		if one[1] != "" {
			words = append(words, one[0], one[1])
		}
	}
	if f.access.Slots > 0 {
		words = append(words, "--slots", strconv.Itoa(f.access.Slots))
	}
	for _, name := range slices.Sorted(maps.Keys(f.labels)) {
		words = append(words, "--label", name+"="+f.labels[name])
	}
	if f.reach == fleet.ReachTunnel {
		words = append(words, "--reach", string(f.reach))
	}
	return words
}

// view puts each fault at its field, and shows the page.
func (f *accessForm) view() *view {
	placeFaults(f.Main, f.Faults)
	placeFaults(f.More, f.Faults)
	v := &view{Title: f.Title(), Nav: "/hosts", Body: "access", Data: f}
	if len(f.Faults) > 0 {
		v.Status = f.Faults[0].Code.HTTPStatus()
	}
	return v
}

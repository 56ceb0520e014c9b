package bus

import "slices"

// Role is what an operator's credentials allow.
type Role string

// Roles of operators: a viewer reads, an operator also runs and cancels jobs,
// an admin also changes hosts, repositories and people.
const (
	Viewer   Role = "viewer"
	Operator Role = "operator"
	Admin    Role = "admin"
)

// Roles returns every role, the weakest first.
func Roles() []Role { return []Role{Viewer, Operator, Admin} }

// Includes reports whether r may do all that other may. A role that is not
// known includes none, and is included in none.
func (r Role) Includes(other Role) bool {
	own, asked := slices.Index(Roles(), r), slices.Index(Roles(), other)
	return own >= 0 && asked >= 0 && own >= asked
}

// OperatorPermissions is all that an operator's client may do. Replies arrive
// below _INBOX with a random prefix, as the stock client chooses it.
func OperatorPermissions(role Role) Permissions {
	permissions := Permissions{
		Publish: []string{
			JobsGet, JobsList, JobsLog, Prefix + ".status", "$SRV.>",
			Prefix + ".hosts.list", Prefix + ".hosts.get",
			Prefix + ".repositories.list", Prefix + ".repositories.get",
			Prefix + ".plans.list", Prefix + ".plans.get", Prefix + ".archives.list",
		},
		Subscribe: []string{Prefix + ".>", "_INBOX.>"},
	}
	if role == Operator || role == Admin {
		permissions.Publish = []string{
			Prefix + ".jobs.*", Prefix + ".hosts.*", Prefix + ".repositories.*",
			Prefix + ".plans.*", Prefix + ".archives.*", Prefix + ".status", "$SRV.>",
		}
	}
	return permissions
}

// AgentsConnection names the coordinator's connection to the agents.
const AgentsConnection = "agents"

// PrivateInbox is where the coordinator's own connections receive replies. It
// is no place that any agent or operator may publish to, subscribe to, or have
// replies sent to.
func PrivateInbox(connection string) string { return "_COORDINATOR." + connection }

// AgentsPermissions is for the coordinator's connection to the agents. It may
// answer only into inboxes.
func AgentsPermissions() Permissions {
	return Permissions{
		Publish:   []string{Prefix + ".cmd.>", "_INBOX.>"},
		Subscribe: []string{AllHellos, AllProgress, PrivateInbox("agents") + ".>"},
	}
}

// StreamPermissions is for the coordinator's connection to the stream, which
// answers nobody.
func StreamPermissions() Permissions {
	return Permissions{
		Publish:   []string{"$JS.API.>", "$JS.ACK.>", "$JS.FC.>"},
		Subscribe: []string{PrivateInbox("stream") + ".>"},
	}
}

// APIPermissions is for the coordinator's connection that serves operators. It
// has no right on any stream: whoever makes it reply somewhere gains nothing.
func APIPermissions() Permissions {
	return Permissions{
		Publish: []string{Prefix + ".event.>", Prefix + ".progress.>", Prefix + ".heartbeat.>", "_INBOX.>"},
		Subscribe: []string{
			Prefix + ".jobs.*", Prefix + ".hosts.*", Prefix + ".repositories.*",
			Prefix + ".plans.*", Prefix + ".archives.*", Prefix + ".status",
			"$SRV.>", PrivateInbox("api") + ".>",
		},
	}
}

// SystemPermissions is for the coordinator's connection in the system account:
// notices of clients that come and go, and disconnecting one.
func SystemPermissions() Permissions {
	return Permissions{
		Publish:   []string{"$SYS.REQ.>"},
		Subscribe: []string{"$SYS.ACCOUNT.*.CONNECT", "$SYS.ACCOUNT.*.DISCONNECT", PrivateInbox("system") + ".>"},
	}
}

// Connected is where the system account tells that a client of an account,
// given by its public key, has connected.
func Connected(account string) string { return "$SYS.ACCOUNT." + account + ".CONNECT" }

// Disconnected is where the system account tells that such a client has gone.
func Disconnected(account string) string { return "$SYS.ACCOUNT." + account + ".DISCONNECT" }

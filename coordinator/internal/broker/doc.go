// Package broker owns the authority over the bus: an embedded NATS server in
// operator mode, or a connection to an external cluster laid out the same way.
//
// There are four accounts. AGENTS has no JetStream, and an agent's credentials
// allow nothing but its own subjects; who comes without credentials may ask for
// some there. OPERATORS holds people and programs, who reach the micro service
// by a service that FLEET exports, and watch what it exports as streams. FLEET
// has JetStream and the stream of events, and nobody but the coordinator in it.
// SYS tells which clients come and go. FLEET also exports a service that AGENTS
// imports, so that an agent's event reaches the stream, and the stream's
// confirmation reaches the agent, although the agent has no right on the
// stream. On its way the subject is renamed, see [bus.StreamSubjects].
//
// Every permission is an allow-list in the template of a scoped signing key.
// Nothing needs to be reloaded for new credentials: whoever holds the signing
// key mints them, and the server believes them.
//
// The coordinator's own connections have their replies sent to a prefix that no
// agent and no operator can name, because a server does not check the reply
// subject of a request against the requester's permissions.
package broker

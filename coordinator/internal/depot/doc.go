// Package depot is the SSH endpoint in front of the repositories that the
// coordinator keeps itself. Whoever logs in is known by a key, and names the
// repository as the user; all that runs for them is borg serve, restricted to
// that repository by what the coordinator says, whatever else is asked for.
//
// Borg's own restriction to additions does not hold against a client that speaks
// borg's protocol by itself; so with it, what the client asks for is looked at on
// its way (guard). DESIGN.md says more.
package depot

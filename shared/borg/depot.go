package borg

import (
	"net"
	"strings"
)

// DepotAlias is the name under which ssh looks for the depot's key, wherever
// the depot is reached. It is the machine that URLs of the depot name.
const DepotAlias = "borgfleet-depot"

// DepotAccess is how one host reaches the coordinator's depot.
type DepotAccess struct {
	Identity   string // absolute path of the host's private SSH key
	KnownHosts string // absolute path of the file that holds [DepotKnownHost]
	Address    string // host:port
}

// DepotKnownHost returns what a file of known hosts says of the depot: its key,
// in the form of authorized_keys.
func DepotKnownHost(key string) string { return DepotAlias + " " + strings.TrimSpace(key) + "\n" }

// DepotRSH returns BORG_RSH for repositories in the depot. It trusts one key and
// shows one key, whatever else the host's own configuration of ssh says; of that,
// only what concerns the way (a proxy, say) counts. Both paths may hold spaces:
// borg splits the text as a shell would, and ssh what an option says as its file
// of configuration.
func DepotRSH(access DepotAccess) string {
	host, port, err := net.SplitHostPort(access.Address)
	if err != nil {
		host, port = access.Address, "22"
	}
	words := []string{
		"-oConnectTimeout=30",
		"-oPreferredAuthentications=publickey",
		"-oIdentitiesOnly=yes",
		"-oIdentityFile=" + sshPath(access.Identity),
		"-oUserKnownHostsFile=" + sshPath(access.KnownHosts),
		"-oGlobalKnownHostsFile=/dev/null",
		"-oStrictHostKeyChecking=yes",
		"-oCheckHostIP=no",
		"-oHostKeyAlias=" + DepotAlias,
		"-oHostName=" + strings.ReplaceAll(host, "%", "%%"),
		"-oPort=" + port,
		"-oControlPath=none", // a shared connection would outlive borg
		"-oForwardAgent=no",
		"-oClearAllForwardings=yes",
	}
	for i, word := range words {
		words[i] = quote(word)
	}
	return DefaultRSH + " " + strings.Join(words, " ")
}

// sshPath writes a path as ssh reads it in an option: in quotes, as one that is
// not would end at the first space, and with its percent signs doubled, which
// else begin a placeholder.
func sshPath(path string) string {
	return `"` + strings.ReplaceAll(path, "%", "%%") + `"`
}

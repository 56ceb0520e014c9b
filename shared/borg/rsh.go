package borg

// IdentityRSH returns BORG_RSH for servers to which a host shows these private
// keys, given by their absolute paths. Without any it is [DefaultRSH], with which
// ssh shows those that it finds by itself; it shows no others once it is given
// one.
func IdentityRSH(files []string) string {
	rsh := DefaultRSH
	for _, file := range files {
		rsh += " " + quote("-oIdentityFile="+sshPath(file))
	}
	return rsh
}

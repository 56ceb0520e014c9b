# What the host is asked besides: $ask is which.

# resolve PATH makes $real the path without symbolic links; of one that does not exist, the part that does.
resolve() {
	path=$1 rest=''
	until [ -d "$path" ]; do
		rest=/${path##*/}$rest
		path=${path%/*}
		path=${path:-/}
	done
	real=$(cd -P -- "$path" 2>/dev/null && pwd -P && echo .) || { real=$1; return; }
	real=${real%??}
	[ "$real" != / ] || real=''
	real=$real$rest
	real=${real:-/}
}

# point PATH is resolve for what may be a mount point: it itself is only read as a link, since whoever
# serves it may hang.
point() {
	next=$1 links=0
	while [ "$links" -lt 10 ]; do
		name=${next##*/} parent=${next%/*}
		resolve "${parent:-/}"
		[ "$real" != / ] || real=''
		next=$real/$name
		to=$(readlink "$next" 2>/dev/null && echo .) || break
		to=${to%??}
		case $to in /*) next=$to ;; *) next=$real/$to ;; esac
		links=$((links + 1))
	done
	real=$next
}

# loose FILE says why a file may not be relied on, if others than root and this user decide what is in it.
loose() {
	set -- $(ls -ldn "$1" 2>/dev/null | head -n 1)
	case ${3:-} in 0 | "$(id -u)") ;; *) echo 'belongs to another user'; return ;; esac
	case $1 in ?????w* | ????????w*) echo 'can be written by others' ;; esac
}

hook() {
	root=$(cd -P -- "$hooks" 2>/dev/null && pwd -P && echo .) || { put why missing; return; }
	root=${root%??}
	file=$root/$name
	if ! [ -e "$file" ]; then put why missing; return; fi
	if [ -L "$file" ]; then put why 'is a symbolic link'; return; fi
	if ! [ -f "$file" ] || ! [ -x "$file" ]; then put why 'is not an executable file'; return; fi
	why=$(loose "$root")
	if [ "$why" ]; then put why "lies in a directory that $why"; return; fi
	put why "$(loose "$file")"
	put real "$file"
}

unmount() {
	tool=$(command -v fusermount3 || command -v fusermount) || { put failed 'there is no fusermount3'; return; }
	said=$("$tool" -uz -- "$point" 2>&1) || put failed "$said"
}

# key makes the host's own key, unless it is there.
key() {
	put dir "$dir"
	put ssh "$(command -v ssh)"
	if ! [ -s "$dir/id_ed25519" ]; then
		if ! command -v ssh-keygen >/dev/null; then put failed keygen; return; fi
		said=$(mkdir -p -- "$dir" && mkdir "$dir/.key.$$" 2>&1) || { put failed "$said"; return; }
		said=$(ssh-keygen -q -t ed25519 -N '' -C borgfleet -f "$dir/.key.$$/key" 2>&1 </dev/null) || put failed "$said"
		ln "$dir/.key.$$/key" "$dir/id_ed25519" 2>/dev/null
		rm -rf "$dir/.key.$$"
	fi
	put public "$(ssh-keygen -y -P '' -f "$dir/id_ed25519" 2>&1 </dev/null)"
}

# trust notes the depot's key.
trust() {
	said=$( (printf '%s' "$known" | cat >"$dir/known_hosts.$$" && mv -f "$dir/known_hosts.$$" "$dir/known_hosts") 2>&1) || put failed "$said"
}

# keeps says what borg has here: where, and by which name its locks know this host.
keeps() {
	put base "$dir/borg"
	if named; then put hostid "$hostid"; fi
}

case $ask in
	keeps) keeps ;;
	target) resolve "$path"; put real "$real" ;;
	point) point "$path"; put real "$real" ;;
	hook) hook ;;
	mounts) cat /proc/self/mounts ;;
	unmount) unmount ;;
	key) key ;;
	way) key; trust ;;
esac

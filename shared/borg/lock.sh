# What a break-lock job runs: sh -c THIS NAME look|break|force REPOSITORY BORG ARGUMENT...
# Standard output is for the parser: "lock exclusive|shared alive|dead|unknown PID HOLDER" for each
# holder, then one of missing, denied, free, told, held, broken. Standard error is the job's log.
mode=$1 repository=$2
shift 2
lock=$repository/lock
mine=$lock.exclusive/${BORG_HOST_ID:-borgfleet}.$$-0

say() { printf '%s\n' "$*" >&2; }

# machine ID: whether a borg without BORG_HOST_ID on this very machine calls itself so: by the full
# name, and by the number of one network address. In a container a pid could be of another one's.
machine() {
	[ "$(readlink /proc/self/ns/pid 2>/dev/null)" = 'pid:[4026531836]' ] || return 1
	[ "${1%@*}" = "$(uname -n)" ] || [ "${1%@*}" = "$(hostname -f 2>/dev/null)" ] || return 1
	for address in /sys/class/net/*/address; do
		number=$(tr -d ':\n' <"$address" 2>/dev/null)
		case $number in *[!0-9a-f]* | 000000000000) continue ;; ????????????) ;; *) continue ;; esac
		[ "${1##*@}" = "$((0x$number))" ] && return 0
	done
	return 1
}

# ended PID: whether nobody has asked yet how the process ended. Its threads are gone as well.
ended() {
	stat=$(cat "/proc/$1/stat" 2>/dev/null) && tasks=$(ls "/proc/$1/task" 2>/dev/null) || return 1
	case ${stat##*) } in Z*) [ "$tasks" = "$1" ] ;; *) false ;; esac
}

# vitality HOST PID: dead is said only of what is certain. Of our own borg a process in whose memory
# is no Python is certainly not the one: the pid was given to another program since.
vitality() {
	if [ "$1" != "$BORG_HOST_ID" ]; then
		machine "$1" || { echo unknown; return; }
	fi
	if ! said=$(kill -0 "$2" 2>&1); then
		case $said in *[Nn]'o such process'*) echo dead; return ;; esac
	elif ended "$2"; then
		echo dead
		return
	elif [ "$1" = "$BORG_HOST_ID" ] && maps=$(cat "/proc/$2/maps" 2>/dev/null); then
		case $maps in *[Pp]ython* | */borg[!f]*) ;; *) echo dead; return ;; esac
	fi
	echo alive
}

# add KIND HOST PID THREAD: one more holder.
add() {
	case $3 in
		'' | 0* | *[!0-9]*) pid=0 state=unknown ;;
		*) pid=$3 state=$(vitality "$2" "$3") ;;
	esac
	[ "$state" = dead ] || living=yes
	holder=$(printf '%s' "$2.$3-$4" | tr -c 'A-Za-z0-9@._:-' '?')
	locks=$locks"lock $1 $state $pid $holder
"
}

# readers: a line "PID THREAD HOST" for each shared lock in the roster. Its exclusive ones are in
# the directory, too, or are left from a lock that was let go.
readers() {
	awk '{ text = text $0 }
	END {
		gsub(/[ \t\r]/, "", text)
		while (text !~ /^[{}]*$/) {
			if (match(text, /^[{,]*"(exclusive|shared)":\[/)) {
				step = RLENGTH
				shared = text ~ /^[{,]*"s/
			} else if (match(text, /^,?\["[^"\\]+",[0-9]+,[0-9]+\]/)) {
				step = RLENGTH
				entry = substr(text, 1, step - 1)
				sub(/^,?\["/, "", entry)
				end = match(entry, /",[0-9]+,[0-9]+$/)
				split(substr(entry, end + 2), number, ",")
				if (shared) printf "%s %x %s\n", number[1], number[2], substr(entry, 1, end - 1)
			} else if (match(text, /^\]/)) {
				step = 1
			} else {
				exit 1
			}
			text = substr(text, step + 1)
		}
	}' <"$lock.roster" 2>/dev/null
}

# look finds out who holds the lock: locks has a line for each, living is empty if all are dead.
look() {
	locks='' living=''
	if [ -L "$lock.exclusive" ]; then
		add exclusive symbolic link lock
		return
	fi
	for entry in "$lock.exclusive"/* "$lock.exclusive"/.[!.]*; do # borg removes hidden files, too
		[ -e "$entry" ] && [ "$entry" != "$mine" ] || continue
		name=${entry##*/}
		process=${name%-*}
		add exclusive "${process%.*}" "${process##*.}" "${name##*-}"
	done
	[ -s "$lock.roster" ] || return 0
	if ! list=$(readers) && [ -e "$lock.roster" ]; then
		add shared unreadable lock roster
		return
	fi
	while read -r pid thread host; do
		[ -z "$pid" ] || add shared "$host" "$pid" "$thread"
	done <<LIST
$list
LIST
}

# hold takes the lock as borg would, beside the dead, so that nobody can take it before it is broken.
hold() {
	mkdir "$lock.exclusive" 2>/dev/null
	true >"$mine"
}

drop() {
	rm -f "$mine"
	rmdir "$lock.exclusive" 2>/dev/null
}

# each PREFIX: a line of the log for each holder.
each() {
	[ -n "$locks" ] || return 0
	printf '%s' "$locks" | while read -r _ kind state pid holder; do
		case $state in
			dead) say "$1 ($kind): process $pid of this host, which is gone" ;;
			alive) say "$1 ($kind): process $pid of this host, which is alive" ;;
			*) say "$1 ($kind): $holder, of which nothing is known here" ;;
		esac
	done
}

end() {
	printf '%s%s\n' "$locks" "$1"
	[ "$1" != free ] || say 'nobody holds the lock'
	exit 0
}

if [ ! -e "$repository/config" ]; then
	locks=''
	[ -d "$repository" ] && [ ! -x "$repository" ] && end denied
	end missing
fi
look
if [ -z "$locks" ] && [ "$mode" != force ]; then
	end free
fi
each 'the lock is held'
[ "$mode" != look ] || end told
if [ -L "$lock.exclusive" ]; then # borg would remove all files where it leads
	say "$lock.exclusive is a symbolic link, which borg never makes: see who may write to the repository, and remove the link"
	end held
fi
if [ "$mode" = break ]; then
	[ -z "$living" ] || end held
	seen=$locks
	if hold 2>/dev/null; then
		look
		[ -z "$living" ] || { drop; end held; }
	elif [ -w "$repository" ]; then
		say 'the lock is changing hands'
		end held
	fi
	locks=$seen
fi
"$@" || { code=$?; printf '%s' "$locks"; exit $code; }
each 'removed the lock'
[ -n "$locks" ] || end free
end broken

# What every script begins with. In front of it stand the values that it is about: $dir is where we
# keep things on this host, $job the directory of a run, $proc where the kernel lists processes.
set -f
umask 077
LC_ALL=C
PATH=${PATH:+$PATH:}$paths # a login without a terminal may have less than one with
export LC_ALL PATH
boot=none
if [ "$proc" ]; then { IFS= read -r boot <"$proc/sys/kernel/random/boot_id"; } 2>/dev/null || boot=none; fi

# say WORDS would be seen by others if a program of its own printed them.
case $(command -v printf):$(command -v print) in
	printf:*) say='printf %s' ;;
	*:print) say='print -rn --' ;;
	*) say='' ;;
esac

# put NAME VALUE: one answer, whatever is in the value.
put() { printf '%s %s\n%s\n' "$1" "${#2}" "$2"; }

# born PID finds out when a process was started, in words that are only to be compared, and its state.
born() {
	born='' state=''
	if [ "$proc" ]; then
		{ IFS= read -r line <"$proc/$1/stat"; } 2>/dev/null || return 1
		set -- ${line##*) }
		state=$1 born=${20:-}
	else
		line=$(ps -o state= -o lstart= -p "$1" 2>/dev/null) || return 1
		set -- $line
		state=$1
		shift
		born=$(IFS=-; echo "$*")
	fi
}

# alive PID BORN BOOT: whether the very process still runs. One that nobody has waited for does not.
alive() {
	[ "$3" = "$boot" ] && born "$1" && [ "$born" = "$2" ] || return 1
	case $state in [ZX]*) return 1 ;; esac
}

# ended reads how the run has ended.
ended() {
	{ IFS= read -r ending <"$job/exit"; } 2>/dev/null || return 1
	case $ending in 'code '*' .' | 'failed '*' .') phase=ended ;; *) return 1 ;; esac
}

# first FILE WORDS makes a file, whole, unless it is there.
first() {
	{ printf '%s\n' "$2" >"$1.$$"; } 2>/dev/null && ln "$1.$$" "$1" 2>/dev/null
}

# named sets $hostid: by that borg's locks know this host. It belongs to one machine, also where several
# share the directory.
named() {
	{ IFS= read -r machine </etc/machine-id; } 2>/dev/null && [ "$machine" ] || machine=$(uname -n)
	{ IFS= read -r hostid <"$dir/host-id-$machine"; } 2>/dev/null && [ "$hostid" ]
}

# look finds out where the run stands: unstarted (nothing began, or never will), supervised, orphaned
# (the supervisor is gone, the program runs), lost (both are gone, and nobody saw how it ended), ended.
# It says lost, or that nothing ever will be started, of nothing that could still begin.
look() {
	ending='' started=''
	ended || progress
	{ IFS= read -r started <"$job/started"; } 2>/dev/null || started=''
}

progress() {
	while :; do
		{ IFS=' ' read -r who since where _ <"$job/claimed"; } 2>/dev/null || who=''
		phase=unstarted
		case $who in '' | nobody) return ;; esac
		phase=supervised
		alive "$who" "$since" "$where" && return
		ended && return
		if { IFS=' ' read -r who since where _ <"$job/started"; } 2>/dev/null; then
			phase=lost
			if alive "$who" "$since" "$where"; then phase=orphaned; fi
			return
		fi
		first "$job/started" '0 - none 0 0' || [ -e "$job/started" ] || exit 1
	done
}

# tell answers with where the run stands.
tell() {
	put phase "$phase"
	put started "$started"
	put ending "$ending"
}

# nap waits for so many hundredths of a second, or for whole ones where sleep knows nothing else.
nap() {
	case $1 in
		?) set -- "0.0$1" ;;
		??) set -- "0.$1" ;;
		*) set -- "${1%??}" ;;
	esac
	sleep "$1" 2>/dev/null || sleep 1
}

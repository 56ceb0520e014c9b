# Questions about runs: $ask is which.
each() {
	set +f
	for job in "$dir"/jobs/*/; do
		set -f
		job=${job%/}
		[ -d "$job" ] || continue
		"$@" "${job##*/}"
	done
}

# aged NAME: where a run stands, and whether anything has happened in its directory of late.
aged() {
	look
	young=''
	[ -z "$(find "$job" -mmin "-$minutes" 2>/dev/null | head -n 1)" ] || young=yes
	put run "$1"
	put phase "$phase"
	put young "$young"
}

# remove deletes the directory of a run that is over. Half deleted it must not look as if nothing had
# been started in it.
remove() {
	look
	case $phase in supervised | orphaned) return ;; esac
	[ -d "$job" ] || return 0
	gone=$dir/jobs/.removed-${job##*/}
	rm -rf -- "$gone" && mv -- "$job" "$gone" && rm -rf -- "$gone"
}

# signal tells the program and its children.
signal() {
	{ IFS=' ' read -r pid since where _ <"$job/started"; } 2>/dev/null || return 0
	alive "$pid" "$since" "$where" || return 0
	said=$(kill "-$signal" "-$pid" 2>&1) || ! alive "$pid" "$since" "$where" || { echo "$said" >&2; return 1; }
}

case $ask in
	list) each put run ;;
	aged) each aged ;;
	sweep) set +f; rm -rf -- "$dir"/jobs/.removed-* ;;
	over) look; tell ;;
	remove) remove || exit 1; put phase "$phase" ;;
	signal) signal ;;
	argv) [ ! -e "$job/command" ] || cat "$job/command" ;;
	age)
		look
		up=''
		{ IFS=' ' read -r pid since where at _ <"$job/started"; } 2>/dev/null || pid=''
		if [ "$pid" ] && alive "$pid" "$since" "$where"; then
			if [ "$proc" ]; then IFS=' ' read -r up _ <"$proc/uptime"; else up=$(ps -o etime= -p "$pid"); fi
		fi
		put since "$since"
		put up "$up"
		;;
esac

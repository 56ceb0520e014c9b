# What a backup with hooks runs: sh -c THIS NAME LIMIT [before|after|failure PATH]... -- BORG ARGUMENT...
# The exit code is borg's, unless it was not run: then 75 says that a hook asked for that, 143 that the job
# was cancelled, and 2 that a hook failed.
limit=$1
shift
status=2
exec 5</dev/null 7>&2 </dev/null
trap stop INT TERM HUP
say hooks

# each PHASE ARGUMENT... runs the hooks of a phase.
each() {
	phase=$1
	shift
	while [ "$1" != -- ]; do
		if [ "$1" = "$phase" ]; then
			[ "$phase" != before ] || go || return 0
			one "$1" "$2"
		fi
		shift 2
	done
}

# one PHASE PATH runs a hook to its end.
one() {
	say "begin $(date +%s) $1 ${2##*/}"
	channel || mute
	start "$1" "$2" "$limit" limit
	finish
	close
	[ "$1" = before ] || return 0
	case $code in
		0) ;;
		75) result=skipped status=75 ;;
		*) result=failed ;;
	esac
}

# mute has a hook run without a pipe: what it does matters more than what it prints.
mute() {
	printf '%s\n' 'no pipe can be made: what the hook prints is lost' >&2
	exec 8>/dev/null 9</dev/null
}

# go: whether there is anything left to do before the end.
go() { [ -z "$ended$result" ]; }

create() {
	while [ "$1" != -- ]; do shift 2; done
	shift
	"$@" 5<&- 7>&- &
	borg=$!
	watch "$borg" -1 '' # should we be killed, nobody would wait for it, and another one may begin
	[ -z "$ended" ] || stop
	exec 3<&-
	await "$borg"
	borg='' status=$code said=$code
	unwatch
	case $status in
		0) result=succeeded ;;
		1 | 10[0-9] | 11[0-9] | 12[0-5]) result=warning ;;
		*) result=failed ;;
	esac
}

each before "$@"
if go; then
	create "$@"
else
	exec 3<&-
fi
if [ "$ended" ]; then
	case $result in
		succeeded | warning) ;;
		*) result=cancelled; [ "$said" ] || status=143 ;;
	esac
fi
[ "$result" != failed ] || each failure "$@"
each after "$@"
exit "$status"

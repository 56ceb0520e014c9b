# What runs scripts of the host's owner beside borg; around.sh and feed.sh follow it. A hook has a session
# of its own, so that it ends nobody else by accident, and so does each that looks after it: after a
# SIGKILL of this shell they still end the hook. In the job's log a line of ours begins with the byte 036
# and our process id, which the first line of all tells: a server could print what looks like ours.
# What stands between "begin" and "end" is the hook's.
#   hooks, begin TIME PHASE NAME, more BYTES (that are left out), limit, ended, held, end TIME CODE
# Descriptors: 3 the passphrase, which no hook gets; 4, 6 feed.sh's; 5 a hook's input; 7 where its output
# goes, and 0 the same for reading, if it is kept until the end; 8, 9 the ends of a new pipe.
most=1048576 # bytes of a hook's output that are kept
grace=10     # seconds from a SIGTERM to the SIGKILL
hurry=20     # seconds that a hook has once the job was cancelled
line='
'
ended='' borg='' hook='' spared='' ending='' guardian='' result='' said='' code=0

say() { printf '\n\036%s %s\n' "$$" "$*" >&2; }

# run is what starts a hook, and its parent.
run='trap : TERM INT HUP; "$0"; exit'

# guard PID TARGET LIMIT GRACE WORD ends a process, or the group -TARGET, after LIMIT seconds (-1: never), or
# when PID is gone.
guard='
to() { kill "$1" "$target" || kill "$1" "${target#-}"; } 2>/dev/null # the group may not be made yet
target=$2 left=$3
while to -0 && kill -0 "$1" 2>/dev/null && [ "$left" -ne 0 ]; do sleep 1; left=$((left - 1)); done
to -0 || exit 0
[ -z "$5" ] || printf "\n\036%s %s\n" "$1" "$5" >&2
to -TERM
left=$4
while to -0 && [ "$left" -gt 0 ]; do sleep 1; left=$((left - 1)); done
to -KILL'

# tap PID MOST passes on the first bytes as they come, and counts the others, of which it keeps the end: the
# hook never waits for anybody.
tap='
dd bs=1 count="$2" 2>/dev/null
line="
"
rest=$({ { tee /dev/fd/2 | wc -c >&6; } 2>&1 | tail -c 3000 | tr -d "\000"; } 6>&1)
more=$((${rest%%"$line"*} + 0))
[ "$more" -gt 0 ] || exit 0
rest=${rest#*"$line"}
case $rest in *"$line"*) rest=${rest#*"$line"} ;; esac
printf "\n\036%s more %s\n%s\n" "$1" "$more" "$rest"'

# apart DEAF COMMAND... runs in a group of its own, as $apart, with 5 as its input and no other descriptors.
# A signal for our group may come before it has its own: who has to outlive that is deaf.
apart() {
	if command -v setsid >/dev/null; then
		{
			[ -z "$1" ] || trap '' INT TERM HUP
			shift
			exec setsid "$@"
		} <&5 3<&- 4>&- 5<&- 6<&- 7>&- 8>&- 9<&- &
	else # what runs beside a shell with job control has one, too
		set -m 2>/dev/null
		{
			[ -z "$1" ] || trap '' INT TERM HUP
			shift
			exec "$@"
		} <&5 3<&- 4>&- 5<&- 6<&- 7>&- 8>&- 9<&- &
		set +m 2>/dev/null
	fi
	apart=$!
}

# watch TARGET LIMIT WORD
watch() {
	apart deaf /bin/sh -c "$guard" guard "$$" "$1" "$2" "$grace" "$3" 5</dev/null >/dev/null
	guardian=$apart
}

# unwatch may come late: the process may be gone.
unwatch() {
	[ -z "$guardian" ] || kill -KILL "$guardian" 2>/dev/null
	guardian=''
}

# stop is what a signal does, and what is done about one that came before there was anything to end. Borg
# has got it, too. What runs because the job was cancelled goes on.
stop() {
	ended=yes
	[ -z "$hook" ] || [ "$spared$ending" ] || halt
	[ -z "$borg" ] || watch "$borg" 20 ''
}

# halt ends the hook.
halt() {
	ending=yes
	unwatch
	watch "-$hook" 0 ''
}

# await PID waits for a child's end, whatever comes between, and sets $code.
await() {
	while :; do
		wait "$1"
		code=$?
		kill -0 "$1" 2>/dev/null || break
	done
}

# place makes a directory for a moment: elsewhere if our own disk is full.
place() {
	for base in "${BORG_BASE_DIR:-}" "${TMPDIR:-/tmp}" /tmp /dev/shm; do
		[ "$base" ] && mkdir -p "$base" && place=$(umask 077 && mktemp -d "$base/hook.XXXXXX") && return 0
	done
	return 1
} 2>/dev/null

# channel opens a pipe: 8 to write, 9 to read.
channel() {
	place || return 1
	mkfifo "$place/pipe" 2>/dev/null || { rm -rf "$place"; return 1; }
	exec 9<>"$place/pipe" 8>"$place/pipe" 9<"$place/pipe"
	rm -rf "$place"
}

# start PHASE PATH LIMIT WORD starts a hook. The pipe for its output is open already.
start() {
	spared=$ended ending='' left=$3
	if [ "$ended" ] && [ "$left" -gt "$hurry" ]; then left=$hurry; fi
	apart '' /bin/sh -c "$tap" tap "$$" "$most" 5<&9 >&7
	tapper=$apart
	apart '' env -i "PATH=$PATH" "HOME=${HOME:-/}" LANG=C.UTF-8 LC_ALL=C.UTF-8 \
		"BORGFLEET_JOB=$BORGFLEET_JOB" "BORGFLEET_PLAN=$BORGFLEET_PLAN" "BORGFLEET_RUN=$BORGFLEET_RUN" \
		"BORGFLEET_HOST=$BORGFLEET_HOST" "BORGFLEET_REPOSITORY=$BORGFLEET_REPOSITORY" \
		"BORGFLEET_ARCHIVE=$BORGFLEET_ARCHIVE" "BORGFLEET_HOOK=${2##*/}" "BORGFLEET_PHASE=$1" \
		"BORGFLEET_RESULT=$result" "BORGFLEET_EXIT=$said" /bin/sh -c "$run" "$2" >&8 2>&8
	hook=$apart
	exec 8>&- 9<&-
	watch "-$hook" "$left" "$4"
	[ -z "$ended" ] || stop
}

# finish waits for the hook, and for what it has printed, and sets $code.
finish() {
	await "$hook"
	unwatch
	[ "$code" -lt 128 ] || kill -KILL "-$hook" 2>/dev/null
	hook='' came=$code
	watch "-$tapper" 5 ''
	await "$tapper"
	unwatch
	held=''
	[ "$code" -lt 128 ] || held=yes
	code=$came
}

# close tells how the hook ended.
close() {
	[ -z "$held" ] || say held
	[ -z "$ending" ] || say ended
	say "end $(date +%s) $code"
}

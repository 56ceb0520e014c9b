# What a mount job runs: sh -c THIS NAME IDLE MOUNT_POINT BORG ARGUMENT...
# Standard output is for the parser, one word: why borg was not run (device, tools, busy, occupied,
# notempty, link, denied), or how it ended after it had mounted (unmounted, died). Standard error is
# the job's log, with a line of progress as borg would print it while the mount point can be used.
idle=$1 point=$2
shift 2

nap=2         # seconds between two looks at the mount
window=5      # naps after which a little work of borg's is forgotten, and progress is told
work=5000000  # nanoseconds of work within a window that are use; to ask for free space (df) takes 1 ms

say() { printf '%s\n' "$*" >&2; }

refuse() {
	echo "$1"
	exit 2
}

# entry finds what is mounted at the mount point: the last of several.
shown=$(printf '%s' "$point" | sed 's/\\/\\134/g; s/ /\\040/g; s/	/\\011/g')
entry() {
	device='' type=''
	while read -r from at as _; do
		[ "$at" != "$shown" ] || { device=$from type=$as; }
	done </proc/self/mounts
}

mounted() {
	entry
	case $device:$type in borgfs:fuse*) ;; *) false ;; esac
}

# dead: whether nobody serves the mount any more. The kernel remembers files' attributes, so a plain
# test would not tell; and who serves it may hang.
dead() {
	case $(timeout -s KILL 10 stat -f -- "$point" 2>&1 >/dev/null) in *'not connected'*) ;; *) false ;; esac
}

fuse() {
	if command -v fusermount3 >/dev/null; then fusermount3 "$@"; else fusermount "$@"; fi
}

prepare() {
	[ -c /dev/fuse ] || refuse device
	command -v fusermount3 >/dev/null || command -v fusermount >/dev/null || refuse tools
	if mounted && dead; then
		say "removing what a borg that is gone has left mounted at $point"
		fuse -uz "$point" >&2
	fi
	entry
	[ -z "$device" ] || refuse busy
	[ -d "$point" ] || (umask 077 && mkdir -p -- "$point") >&2 || {
		[ ! -e "$point" ] || refuse occupied
		refuse denied
	}
	[ "$(cd -P -- "$point" 2>/dev/null && pwd -P)" = "$point" ] || {
		[ -x "$point" ] || refuse denied
		refuse link
	}
	found=$(ls -A -- "$point") || refuse denied
	[ -z "$found" ] || refuse notempty
	[ -w "$point" ] || refuse denied
}

# tell says that the mount point can be used.
json=$(printf '%s' "$point" | tr -d '\000-\037\177' | sed 's/[\\"]/\\&/g')
tell() {
	printf '{"type": "progress_message", "operation": 1, "msgid": "mounted", "message": "%s", "finished": false, "time": %s}\n' "$json" "$(date +%s)" >&2
}

# used is how many nanoseconds borg has worked so far. What ssh does to keep a connection is not use.
used() {
	if read -r ran _ 2>/dev/null <"/proc/$borg/schedstat" && [ "$ran" -gt 0 ]; then
		return
	fi
	ran=0
	if read -r stat 2>/dev/null <"/proc/$borg/stat"; then
		set -- ${stat##*) }
		ran=$(((${12} + ${13}) * 10000000)) # ticks of a hundredth of a second
	fi
}

# watch runs beside borg: it tells that the mount point can be used, and unmounts when nobody has
# used it for long enough. When somebody else has unmounted it although it was in use, borg would
# live on for as long as that lasts, with the repository locked.
watch() {
	trap 'kill "$sleeper" 2>/dev/null; exit' TERM INT HUP
	used
	mark=$ran quiet=0 turn=0
	while kill -0 $$ 2>/dev/null; do
		sleep "$nap" &
		sleeper=$!
		wait "$sleeper"
		mounted || { kill -TERM "$borg" 2>/dev/null; return; }
		quiet=$((quiet + nap)) turn=$((turn + 1))
		used
		if [ $((ran - mark)) -ge "$work" ]; then
			mark=$ran quiet=0
		fi
		if [ "$quiet" -ge "$idle" ]; then
			say "unmounting, as nobody has used it for $quiet seconds"
			fuse -u "$point" 2>/dev/null || { fuse -uz "$point" >&2; kill -TERM "$borg" 2>/dev/null; }
			return
		fi
		if [ $((turn % window)) -eq 0 ]; then
			mark=$ran
			tell
		fi
	done
}

# The passphrase's descriptor is 3. Only borg gets it.
prepare 3<&-
ending='' borg='' watcher='' ready='' left=''
trap 'ending=yes; [ -z "$borg" ] || kill -TERM "$borg" 2>/dev/null' TERM INT HUP
"$@" &
borg=$!
exec 3<&-
[ -z "$ending" ] || kill -TERM "$borg" 2>/dev/null

until mounted; do
	kill -0 "$borg" 2>/dev/null || break
	sleep 0.1 2>/dev/null || sleep 1
done
if mounted; then
	ready=yes
	tell
	watch &
	watcher=$!
fi
while :; do
	wait "$borg"
	code=$?
	[ "$code" -gt 128 ] && kill -0 "$borg" 2>/dev/null || break
done
if [ -n "$watcher" ]; then
	kill "$watcher" 2>/dev/null
	wait "$watcher" 2>/dev/null
fi
if mounted; then # borg was ended, and its mount is dead
	left=yes
	fuse -u "$point" 2>/dev/null || fuse -uz "$point" >&2
fi
if [ -z "$ready" ]; then
	[ -z "$ending" ] || exit 143
	exit "$code"
fi
if [ -n "$ending" ] || [ -z "$left" ]; then
	echo unmounted
	exit 0
fi
echo died
exit "$code"

# What an umount job runs: sh -c THIS NAME plain|force MOUNT_POINT
# Standard output is for the parser: "user PID NAME" for each process that uses the mount, then one
# of none, other, busy, denied, unmounted. Standard error is the job's log.
mode=$1 point=$2

# entry finds what is mounted at the mount point: the last of several.
shown=$(printf '%s' "$point" | sed 's/\\/\\134/g; s/ /\\040/g; s/	/\\011/g')
entry() {
	device='' type='' count=0
	while read -r from at as _; do
		[ "$at" != "$shown" ] || { device=$from type=$as count=$((count + 1)); }
	done </proc/self/mounts
}

fuse() {
	if command -v fusermount3 >/dev/null; then fusermount3 "$@"; else fusermount "$@"; fi
}

# users: the processes that have a file of the mount open, or stand in it. Of others' processes only
# root sees it.
users() {
	ls -l /proc/[0-9]*/cwd /proc/[0-9]*/root /proc/[0-9]*/exe /proc/[0-9]*/fd 2>/dev/null | while read -r line; do
		case $line in
			/proc/*/fd:) about=${line#/proc/} about=${about%/fd:} ;;
			*' /proc/'*' -> '*) of=${line#* /proc/} of=${of%%/*} ;;
			*) of=$about ;;
		esac
		case $line in *" -> $point" | *" -> $point/"*) ;; *) continue ;; esac
		[ "$of" != "${last:-}" ] || continue
		last=$of
		name=$(tr -c 'A-Za-z0-9@._:-' '?' <"/proc/$of/comm" 2>/dev/null)
		echo "user $of ${name%\?}"
	done
}

end() {
	echo "$1"
	exit 0
}

entry
[ -n "$device" ] || end none
case $device:$type in borgfs:fuse*) ;; *) end other ;; esac
before=$count
said=$(fuse -u "$point" 2>&1)
entry
[ "$count" -ge "$before" ] || end unmounted
printf '%s\n' "$said" >&2
case $said in
	*[Bb]usy*)
		if [ "$mode" != force ]; then
			users
			end busy
		fi
		;;
	*'not connected'*) ;; # borg is gone
	*)
		[ "$mode" = force ] || end denied
		;;
esac
fuse -uz "$point" >&2
entry
[ "$count" -lt "$before" ] || end denied
end unmounted

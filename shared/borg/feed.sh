# What a restore into a hook runs: sh -c THIS NAME PATH BORG ARGUMENT..., where borg prints a file. The hook is
# started when something comes, and its input ends only if borg did well: else the hook is ended before. Its
# output is kept until then, since borg tells of its work in the same place. The exit code is borg's.
path=$1
shift
trap stop INT TERM HUP
say hooks

nothing() {
	printf '%s\n' "no pipe can be made below ${BORG_BASE_DIR:-${TMPDIR:-/tmp}}" >&2
	exit 2
}

# over: whether the hook has ended, as far as the kernel tells.
over() {
	[ -e /proc/self/stat ] || return
	state=$(cat "/proc/$hook/stat" 2>/dev/null)
	case ${state##*) } in '' | Z*) ;; *) false ;; esac
}

# copy hands the first byte on, and what follows.
copy() {
	exec 5<&- 7>&- <&6 >&4 6<&- 4>&-
	printf '%b' "\\0$first"
	exec cat
}

place || nothing
exec 7>>"$place/text" <"$place/text"
rm -rf "$place"
channel || nothing
"$@" >&8 7>&- 8>&- 9<&- &
borg=$!
[ -z "$ended" ] || stop
exec 3<&- 6<&9 8>&- 9<&-
first=$(dd bs=1 count=1 2>/dev/null <&6 | od -A n -t o1 | tr -d ' \n')
if [ -z "$first" ]; then
	await "$borg"
	exit "$code"
fi
channel || nothing
exec 4>&8 5<&9 8>&- 9<&-
copy 2>/dev/null &
exec 6<&-
channel || nothing
start content "$path" -1 ''
exec 5<&-
[ -z "$ended" ] || halt
await "$borg"
borg='' status=$code
case $status in
	0 | 1 | 10[0-9] | 11[0-9] | 12[0-5]) ;;
	*) [ "$ending" ] || over || halt ;;
esac
[ "$ending" ] || exec 4>&- # what it has got is whole
finish
say "begin $(date +%s) content ${path##*/}"
cat >&2
close
exit "$status"

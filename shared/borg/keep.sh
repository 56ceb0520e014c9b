# What a restore that keeps existing files runs: sh -c THIS NAME restore|look TARGET BORG ARGUMENT...
# Borg reads from its standard input what to leave out: everything that is there. A restore is in its
# target already, so that no link on the way there can be changed any more; a look goes there, if it can.
mode=$1 target=$2
shift 2
export LC_ALL=C.UTF-8

# refuse ID: an error as borg would tell it.
refuse() {
	printf '{"type": "log_message", "levelname": "ERROR", "name": "borgfleet", "msgid": "%s", "message": "%s"}\n' "$1" "$2" >&2
	exit 2
}

list() { find . ! -name . "$@" -print; }

there=
if [ "$mode" = restore ] || cd -- "$target" 2>/dev/null; then
	return='
'
	return=$return$(printf '\r') # borg takes both for line ends
	[ -z "$(list -name "*[$return]*" 2>/dev/null)" ] || refuse TargetNames 'a name with a line end in it'
	# Borg must not follow a link that it is to keep, so what would be below is left out as well.
	links=$(list -type l) && others=$(list ! -type l) || refuse TargetUnreadable 'not all of it can be read'
	! printf '%s\n' "$links" "$others" | grep -qavx '.*' || refuse TargetNames 'a name that is not UTF-8'
	# The slash at the end protects blanks there.
	there=$(printf '%s\n' "$links" | sed -n 's,^\./\(.*\)$,pp:\1/,p'; printf '%s\n' "$others" | sed -n 's,^\./\(.*\)$,pf:\1/,p')
fi
exec "$@" <<LIST
$there
LIST

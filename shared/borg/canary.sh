# What a backup with a canary runs: sh -c THIS NAME CANARY BORG create ARGUMENT...
# The file is written with the content of $BORGFLEET_CANARY, and added to what is backed up, whatever
# is excluded. One that is there already is left as it is, so that borg finds it unchanged.
name=$1 borg=$2 create=$3
shift 3
content=$BORGFLEET_CANARY
unset BORGFLEET_CANARY

# write makes the file, whole or not at all: the same canary may be on its way to another repository.
write() {
	[ "$(cat -- "$file" 2>/dev/null; echo .)" != "$content." ] || return 0
	mkdir -p -- "$dir" && printf %s "$content" >"$file.$$" && mv -f -- "$file.$$" "$file"
}

dir=${BORG_BASE_DIR:-$HOME/.borgfleet}/borgfleet-canary
file=$dir/$name
mask=$(umask)
umask 077
if said=$(write 2>&1 3<&-); then
	set -- "--pattern=+ pf:$file" "$@" "$file"
else # a backup without a canary is better than none
	rm -f -- "$file.$$" 3<&-
	said=$(printf %s "$said" | tr -d '\000-\037\177' 3<&- | sed 's/[\\"]/\\&/g' 3<&-)
	printf '{"type": "log_message", "levelname": "WARNING", "name": "borgfleet", "message": "%s"}\n' "the canary is not in this archive: $said" >&2
fi
umask "$mask"
exec "$borg" "$create" "$@"

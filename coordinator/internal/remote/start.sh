# Starts a run: $length bytes of passphrase are the standard input; $values, $library and $work
# together are what the supervisor does.
# Nothing is begun before all of the passphrase is here. Whoever makes the file "claimed" has the run:
# any number of these may be at work at the same time.

# refuse WHAT WORDS: nothing was begun.
refuse() {
	put refused "$1"
	put said "$2"
	put dir "$dir"
	exit 0
}

# full is why nothing can be written to the run's directory: a shell's own words for it do not tell.
full() {
	(printf '%s\n' "$library" | cat >"$job/full") 2>&1
}

pass=''
if [ "$length" -gt 0 ]; then
	pass=$(cat; printf x)
	[ "${#pass}" -eq $((length + 1)) ] || refuse input ''
	pass=${pass%x}
	[ "$say" ] || refuse printf ''
fi

# identify is named, for a host that has no name yet.
identify() {
	named && return
	rm -f "$dir/host-id-$machine.$$"
	first "$dir/host-id-$machine" "$candidate"
	rm -f "$dir/host-id-$machine.$$"
	named
}

# foreign says why others than root and this user decide what is in our directory, and so what runs.
foreign() {
	set -- $(ls -ldn "$dir/." 2>/dev/null)
	case ${3:-0} in
		0) ;;
		"$(id -u)") ;;
		*) echo 'belongs to another user'; return ;;
	esac
	case ${1:-} in ?????w* | ????????w*) echo 'can be written to by others' ;; esac
}

prepare() {
	if ! [ -d "$dir/jobs" ] || ! [ -d "$dir/borg" ]; then
		said=$(mkdir -p -- "$dir/jobs" "$dir/borg" 2>&1) || refuse dir "$said"
	fi
	said=$(foreign)
	[ -z "$said" ] || refuse foreign "$said"
	said=$(mkdir -- "$job" 2>&1) || [ -d "$job" ] || refuse dir "$said"
	[ -w "$job" ] || refuse dir 'Permission denied'
	identify || refuse write "$(full)"
	printf '%s\n' "hostid='$hostid'" "$values" "$library" "$work" >"$job/command.$$" &&
		mv -f "$job/command.$$" "$job/command" || refuse write "$(full)"
	if [ "$sealed" ]; then true >"$job/sealed" || refuse write "$(full)"; fi
	if [ "$pipe" -gt 0 ] && ! [ -p "$job/output" ]; then
		said=$(mkfifo "$job/output" 2>&1) || [ -p "$job/output" ] || refuse write "$said"
	fi
} 2>/dev/null

# detach runs the supervisor in a session of its own, where the end of a connection does not reach it.
# The second setsid leads a group already, so it forks: what a shell itself runs beside it (&) ignores
# SIGINT, and so would borg.
detach() {
	if command -v setsid >/dev/null; then
		setsid setsid "$shell" "$job/command"
		return
	fi
	set -m
	case $- in *m*) ;; *) echo setsid >&9; return ;; esac
	"$shell" "$job/command" &
}

# launch returns when the program runs, or never will, and says what is missing for a supervisor.
launch() {
	if [ "$length" -gt 0 ]; then
		$say "$pass" | detach 9>&1 >/dev/null 2>&1 | { IFS= read -r word; echo "$word"; }
	else
		detach 9>&1 </dev/null >/dev/null 2>&1 | { IFS= read -r word; echo "$word"; }
	fi
}

word=''
look
if [ "$phase" = unstarted ] && ! [ -e "$job/claimed" ]; then
	prepare
	word=$(launch)
	pass=''
	look
fi
turns=0
while [ "$phase" = supervised ] && [ -z "$started" ] && [ "$turns" -lt 100 ]; do # it is about to begin
	nap 5
	turns=$((turns + 1))
	look
done
put word "$word"
put who "$who"
tell

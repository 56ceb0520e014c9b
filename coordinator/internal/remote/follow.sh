# Delivers a run's output from the offsets $out and $err on, in pieces: a line "o LENGTH" or "e LENGTH",
# then so many bytes; "." says that we are still here; "x", before where the run stands, is the last. It
# looks at most $looks times; 0 is as long as the run goes on.

# fence makes sure that what was not started never will be.
fence() {
	[ -d "$job" ] || mkdir "$job" 2>/dev/null || return 0
	first "$job/claimed" nobody || [ ! -e "$job/claimed" ] || look
}

if stat -c %s . >/dev/null 2>&1; then
	sizes() { set -- $(stat -c %s "$job/stdout" "$job/stderr" 2>/dev/null); o=${1:-} e=${2:-}; }
else
	sizes() {
		o='' e=''
		[ -e "$job/stdout" ] && [ -e "$job/stderr" ] || return 0
		o=$(wc -c <"$job/stdout") e=$(wc -c <"$job/stderr")
	}
fi

# piece NAME FILE FROM TO
piece() {
	printf '%s %s\n' "$1" $(($4 - $3)) || exit 1
	tail -c "+$(($3 + 1))" "$2" | head -c $(($4 - $3)) || exit 1
	silence=0
}

turn=0 silence=0
while :; do
	look
	# What was there, and is not any more, was removed: a follower that nobody reads any more may see that.
	[ "$phase" != unstarted ] || [ "$turn" -gt 0 ] || fence
	sizes
	if [ "$e" ]; then
		if [ "$o" -gt "$out" ]; then piece o "$job/stdout" "$out" "$o"; out=$o; fi
		if [ "$e" -gt "$err" ]; then piece e "$job/stderr" "$err" "$e"; err=$e; fi
	fi
	turn=$((turn + 1))
	case $phase in unstarted | lost | ended) break ;; esac
	[ "$turn" -ne "$looks" ] || break
	if [ "$turn" -lt 20 ]; then pause=5; elif [ "$turn" -lt 70 ]; then pause=20; else pause=100; fi
	nap "$pause"
	silence=$((silence + pause))
	if [ "$silence" -ge 500 ]; then # if nobody reads any more, this is our end
		echo . || exit 1
		silence=0
	fi
done
echo x
if [ -e "$job/sealed" ]; then put sealed yes; fi
tell

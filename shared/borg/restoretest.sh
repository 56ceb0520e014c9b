# What a restore test runs:
# sh -c THIS NAME TARGET SOURCE FILES BYTES SEED CANARY WORDS LIST... EXTRACT...
# LIST is borg's command that lists the archive, of WORDS words; EXTRACT is the one that restores, to
# which the chosen files are added. TARGET is where to make the scratch directory; empty: our own.
# SOURCE is host, or none where the archive is not this host's. Standard output is for the parser, a
# JSON object a line; standard error is the job's log. Names come from the list as JSON, and go back
# into it as they came; on their way to a program they are octal numbers for printf %b.
target=$1 source=$2 files=$3 bytes=$4 seed=$5 canary=$6 words=$7
shift 7
content=${BORGFLEET_CANARY:-}
unset BORGFLEET_CANARY
IFS=' '

refuse() {
	printf '{"refused": "%s", "said": "%s"}\n' "$1" "$(printf %s "${2:-}" | tr -d '\000-\037\177' | sed 's/[\\"]/\\&/g')"
	exit 2
}

# The passphrase comes once, and is needed twice: only borg gets it, by asked BORG ARGUMENT...
say='' pass='' sealed=''
case $(command -v printf):$(command -v print) in
	printf:*) say='printf %s' ;;
	*:print) say='print -rn --' ;;
esac
if [ "${BORG_PASSPHRASE_FD:-}" = 3 ]; then
	[ "$say" ] || refuse tools 'the shell cannot print by itself'
	pass=$(cat <&3; echo .)
	exec 3<&-
	pass=${pass%.} sealed=yes
fi
asked() {
	if [ "$sealed" ]; then $say "$pass" | "$@" 3<&0 </dev/null; else "$@" </dev/null; fi
}

# digest prints the SHA-256 of standard input.
if command -v sha256sum >/dev/null; then
	digest() { set -- $(sha256sum); echo "${1:-}"; }
elif command -v openssl >/dev/null; then
	digest() { set -- $(openssl dgst -sha256 -r); echo "${1:-}"; }
else
	refuse tools 'there is neither sha256sum nor openssl'
fi

# tidy removes what tests have left whose script is gone: the machine was switched off.
tidy() {
	for left in ./borgfleet-test.*; do
		of=${left#./borgfleet-test.} of=${of%%.*}
		case $of in '' | *[!0-9]*) continue ;; esac
		kill -0 "$of" 2>/dev/null || rm -rf -- "$left"
	done
}

# enter makes the scratch directory, and goes there. What is in it is for nobody else. Where others may
# write they could put something in its place, so that we look where we are, and are nowhere by name after.
enter() {
	umask 077
	place=${target:-${BORGFLEET_DIR:-${BORG_BASE_DIR:-$HOME/.borgfleet}/restore-test}}
	said=$(mkdir -p -- "$place" 2>&1) && cd -P -- "$place" 2>/dev/null || refuse denied "$said"
	[ -z "$target" ] || [ "$(pwd -P)" = "$target" ] || refuse link
	tidy
	place=$(pwd -P)
	said=$(mktemp -d "./borgfleet-test.$$.XXXXXX" 2>&1) && cd -P -- "$said" 2>/dev/null || refuse denied "$said"
	scratch=${place%/}/${said#./}
	[ "$(pwd -P)" = "$scratch" ] && [ -O . ] && [ "$(find . -perm 700)" = . ] && mkdir ./out || refuse link
}

# guard removes the scratch directory should this script be killed, in a session of its own, where
# nothing that ends the job reaches it.
guard() {
	command -v setsid >/dev/null || return 0
	setsid /bin/sh -c 'while kill -0 "$1"; do sleep 1; done; cd / && rm -rf -- "$2"' guard $$ "$scratch" </dev/null >/dev/null 2>&1 3<&- 9>&- &
	guard=$!
}

leave() {
	trap '' TERM INT HUP
	[ -z "$guard" ] || kill "$guard" 2>/dev/null
	rm -rf ./out ./sample ./code
	cd / && rm -rf -- "$scratch"
}

# choose reads the list and prints the sample, two lines for a file: what it is, its size, when its
# inode has changed, and its name as JSON; and its name for printf. Every file of the archive has the
# same chance. Memory is for the sample alone.
choose() {
	LC_ALL=C awk -v files="$files" -v bytes="$bytes" -v state="$seed" -v canary="$canary" '
		function value(pattern, skip) {
			return match($0, pattern) ? substr($0, RSTART + skip, RLENGTH - skip) : ""
		}
		function octal(n) { return sprintf("\\0%o%o%o", int(n / 64), int(n / 8) % 8, n % 8) }
		function code(text,    n, i) {
			for (i = 1; i <= 4; i++) n = n * 16 + index("0123456789abcdef", tolower(substr(text, i, 1))) - 1
			return n
		}
		function bytesof(n) { # as UTF-8
			if (n < 128) return octal(n)
			if (n < 2048) return octal(192 + int(n / 64)) octal(128 + n % 64)
			if (n < 65536) return octal(224 + int(n / 4096)) octal(128 + int(n / 64) % 64) octal(128 + n % 64)
			return octal(240 + int(n / 262144)) octal(128 + int(n / 4096) % 64) octal(128 + int(n / 64) % 64) octal(128 + n % 64)
		}
		function printable(json,    out, c, n) {
			json = substr(json, 2, length(json) - 2)
			while (json != "") {
				if (match(json, "^[A-Za-z0-9_./-]+")) {
					out = out substr(json, 1, RLENGTH)
					json = substr(json, RLENGTH + 1)
					continue
				}
				c = substr(json, 1, 1)
				if (c != "\\") {
					out = out octal(ascii[c])
					json = substr(json, 2)
					continue
				}
				c = substr(json, 2, 1)
				if (c != "u") {
					out = out octal(c == "n" ? 10 : c == "t" ? 9 : c == "r" ? 13 : c == "b" ? 8 : c == "f" ? 12 : ascii[c])
					json = substr(json, 3)
					continue
				}
				n = code(substr(json, 3, 4))
				json = substr(json, 7)
				if (n >= 55296 && n < 56320 && substr(json, 1, 2) == "\\u") { # half of a character
					n = 65536 + (n - 55296) * 1024 + code(substr(json, 3, 4)) - 56320
					json = substr(json, 7)
				}
				out = out (n >= 56448 && n < 56576 ? octal(n - 56320) : bytesof(n)) # a byte as Python keeps it
			}
			return out
		}
		function epoch(text,    y, m, d) { # of a time in UTC
			if (text !~ /^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T/) return "-"
			y = substr(text, 1, 4) + 0; m = substr(text, 6, 2) + 0; d = substr(text, 9, 2) + 0
			if (m <= 2) { y--; m += 12 }
			d = 365 * y + int(y / 4) - int(y / 100) + int(y / 400) + int((153 * (m - 3) + 2) / 5) + d - 719469
			return sprintf("%.0f", d * 86400 + substr(text, 12, 2) * 3600 + substr(text, 15, 2) * 60 + substr(text, 18, 2))
		}
		function depth(name) { return gsub("/", "/", name) }
		function above(i,    start, odd, j) { # what is asked for by this name may be above another: a link, then
			start = substr(names[i], 1, length(names[i]) - 1)
			odd = index(start, "?")
			start = odd ? substr(start, 1, odd - 1) : start "/"
			for (j in names) if (substr(names[j], 1, length(start)) == start && depth(names[j]) > depth(names[i])) return 1
			return 0
		}
		function put(what, i) {
			print what, sizes[i], epoch(times[i]), names[i]
			print printable(names[i])
		}
		BEGIN {
			for (i = 1; i < 128; i++) ascii[sprintf("%c", i)] = i
			own = "/borgfleet-canary/" canary "\""
		}
		/"type": "-"/ && !/"mode": "h/ { # h: a further name of another file
			name = value("\"path\": \"([^\"\\\\]|\\\\.)*\"", 8)
			size = value("\"size\": [0-9]+", 8)
			if (name == "" || size == "" || name ~ "[\"/][.]?[.]?[\"/]") next # of which only a hostile archive has some
			total++
			at = value("\"ctime\": \"[^\"]*", 10)
			if (canary != "" && length(name) > length(own) && substr(name, length(name) - length(own) + 1) == own) {
				if (size + 0 <= 1024 && canaries < 8) {
					canaries++
					names["c" canaries] = name; sizes["c" canaries] = size; times["c" canaries] = at
				}
				next
			}
			if (size + 0 > bytes + 0) { large++; next }
			fitting++
			state = (state * 16807) % 2147483647
			i = fitting <= files + 0 ? fitting : int(state / 2147483647 * fitting) + 1
			if (i <= files + 0) { names[i] = name; sizes[i] = size; times[i] = at }
		}
		END {
			for (i in names) if (above(i)) hostile[i]
			for (i = 1; i <= canaries; i++) if (!("c" i in hostile)) { put("canary", "c" i); chosen++ }
			for (i = 1; i in names; i++) {
				if (i in hostile) continue
				if (sum + sizes[i] > bytes + 0) continue
				if ((letters += length(names[i])) > 200000) break # a command line has an end
				if (index(names[i], "?") && ++odd > 20) continue # each makes borg slower
				sum += sizes[i]; chosen++
				put("file", i)
			}
			printf "sum %.0f %.0f %.0f %.0f\n", chosen, sum, total, large
		}'
}

# plain NAME VARIABLE: sets the variable to a name for printf as it is.
plain() {
	plain=$(printf '%b.' "$1")
	plain=${plain%.}
}

# find_out makes $out the file that has come back. Borg does not tell the bytes of a name that is not
# UTF-8, and shows a question mark for each.
find_out() {
	out=out/$plain
	[ ! -f "$out" ] || [ -L "$out" ] || return 0
	case $plain in *\?*) ;; *) return 1 ;; esac
	globs=$(printf '%s.' "$plain" | sed 's/[][*\\]/\\&/g')
	IFS=''
	set -- out/${globs%.}
	IFS=' '
	for out; do
		[ ! -f "$out" ] || [ -L "$out" ] || return 0
	done
	return 1
}

sized() { [ "$(find "$1" -prune -type f -size "${size}c" 2>/dev/null)" ]; }

# still reports whether the host's own file is the one that was backed up, as far as a look tells.
still() { sized "$there" && ! [ "$there" -nt "$out" ] && ! [ "$there" -ot "$out" ]; }

# compare sets $verdict by the host's own file. One that somebody has set back to an old time of change
# was not left alone: its inode tells.
compare() {
	there=/${out#out/}
	verdict=gone
	[ "$source" = host ] && { [ -e "$there" ] || [ -L "$there" ]; } || return 0
	verdict=changed
	still && now=$(digest <"$there") 2>/dev/null && [ "$now" ] || return 0
	if [ "$now" = "$sum" ]; then
		verdict=same
		return
	fi
	touched=$(stat -c %Z -- "$there" 2>/dev/null) || touched=$at
	still && [ "$touched" = "$at" ] && verdict=different
	return 0
}

# look judges one file that should have come back.
look() {
	sum=''
	find_out || { verdict=missing; return; }
	[ -r "$out" ] || chmod u+r -- "$out"
	sum=$(digest <"$out")
	if [ "$what" = canary ]; then
		verdict=different
		[ "$sum" != "$wanted" ] || verdict=canary
	elif ! sized "$out"; then
		verdict=different
	else
		compare
	fi
}

moment() {
	moment=$(date +%s.%N 2>/dev/null)
	case $moment in *[!0-9.]* | *. | '') moment=$(date +%s) ;; esac
}

phase() {
	printf '{"type": "progress_message", "operation": 1, "msgid": "restore-test.%s", "message": "%s", "finished": false, "time": %s}\n' "$1" "$2" "$(date +%s)" >&2
}

# well CODE: whether borg has come to its end.
well() {
	case $1 in 0 | 1 | 1[01][0-9]) ;; *) exit "$1" ;; esac
}

enter
guard=''
trap leave EXIT
trap 'exit 143' TERM INT HUP
guard

# words FROM TO prints these of our arguments, for eval.
words() {
	i=$1
	while [ "$i" -le "$2" ]; do
		printf ' "${%s}"' "$i"
		i=$((i + 1))
	done
}
list=$(words 1 "$words") extract=$(words $((words + 1)) $#)

phase list 'choosing files'
{ eval "asked $list"; echo $? >code; } | choose >sample || refuse tools 'awk does not work, or the disk is full'
read -r code <code || code=2
well "$code"
read -r _ chosen total all large <<SUM
$(tail -n 1 sample)
SUM
free=$(df -Pk . | awk 'NR == 2 { print $(NF - 2) }')
need=$((total / 1024 + total / 10240 + 4 * chosen + 1024))
[ "${free:-$need}" -ge "$need" ] || refuse space "$need KiB are needed in $(pwd -P), $free KiB are free"

eval "set -- $extract"
while read -r what rest && read -r escaped; do
	[ "$what" != sum ] || break
	plain "$escaped"
	case $plain in
		*\?*)
			like=$(printf '%s.' "$plain" | sed 's/[].[*^$\\+(){}|]/\\&/g; s,?,[^/.],g')
			set -- "$@" "re:^${like%??}\\Z"
			;;
		*) set -- "$@" "pf:$plain" ;;
	esac
done <sample
moment
began=$moment
if [ "$chosen" -gt 0 ]; then
	(cd -P ./out && asked "$@")
	code=$?
	well "$code"
fi
moment
printf '{"files_of": %s, "large": %s, "began": %s, "ended": %s, "scratch": "%s"}\n' "$all" "$large" "$began" "$moment" \
	"$(printf %s "$scratch" | tr -d '\000-\037\177' | sed 's/[\\"]/\\&/g')"

phase compare 'comparing files'
wanted=$(${say:-printf %s} "$content" | digest)
while read -r what size at name && read -r escaped; do
	[ "$what" != sum ] || break
	plain "$escaped"
	look
	printf '{"what": "%s", "path": %s, "size": %s, "sha256": "%s", "verdict": "%s"}\n' "$what" "$name" "$size" "$sum" "$verdict"
done <sample
echo '{"done": true}'

# What a supervisor does, and, called by it, what becomes the program. In front of it stand $role, the
# program and its arguments as "$@", and what a start has chosen.

# settle WORDS writes how the run has ended, for good, however long the disk does not let it: nobody
# else knows. Room for it was made at the start.
settle() {
	until { printf '%s .\n' "$1" 1<>"$job/exit.new"; } 2>/dev/null && safe "$job/exit.new" && mv -f "$job/exit.new" "$job/exit" 2>/dev/null; do
		[ -d "$job" ] || exit 1
		sleep 1
	done
}

# safe FILE brings a file to the disk. An end that outlived a power cut without the output before it
# would make a good backup a failed one.
safe() { dd if=/dev/null "of=$1" conv=notrunc,fsync 2>/dev/null || true; }

# fail WHAT ERROR: the program was not started.
fail() {
	settle "failed $1 $2"
	exit 0
}

# error WORDS is the name of the system's error that a program tells of.
error() {
	case $1 in
		*'o such file'* | *'not found'*) echo ENOENT ;;
		*'ermission denied'*) echo EACCES ;;
		*'peration not permitted'*) echo EPERM ;;
		*'ead-only file system'*) echo EROFS ;;
		*'o space left'*) echo ENOSPC ;;
		*'uota exceeded'*) echo EDQUOT ;;
		*'ot a directory'* | *'ile exists'*) echo ENOTDIR ;;
		*'oo many levels'*) echo ELOOP ;;
		*'format error'*) echo ENOEXEC ;;
		*'ile name too long'*) echo ENAMETOOLONG ;;
		*) echo EIO ;;
	esac
}

now() {
	now=$(date +%s.%N 2>/dev/null)
	case $now in *[!0-9.]* | *. | '') now=$(date +%s) ;; esac
	up=0
	if [ "$proc" ]; then { IFS=' ' read -r up _ <"$proc/uptime"; } 2>/dev/null || up=0; fi
}

# enter makes the working directory the program's. Where something is to be written it goes from one
# part of the path to the next, and follows no link.
enter() {
	if [ -z "$make" ]; then
		if ! said=$(cd -P -- "$place" 2>&1); then
			[ -e "$place" ] || fail dir ENOENT
			[ -d "$place" ] || fail dir ENOTDIR
			fail dir EACCES
		fi
		cd -P -- "$place"
		return
	fi
	parts
	here=$(pwd -P; echo .)
	[ "$here" = "$place
." ] || fail dir ENOTDIR
	[ "$empty" ] || return 0
	said=$(ls -A . 2>&1) || fail dir "$(error "$said")"
	[ -z "$said" ] || fail dir ENOTEMPTY
}

# step NAME makes and enters one part of the path.
step() {
	[ ! -L "./$1" ] || fail dir ENOTDIR
	if ! [ -d "./$1" ]; then
		said=$(mkdir "./$1" 2>&1) || [ -d "./$1" ] || fail dir "$(error "$said")"
	fi
	[ -x "./$1" ] && cd -P "./$1" 2>/dev/null || fail dir EACCES
}

# locate makes $program the path of a program.
locate() {
	program=$1
	case $1 in
		*/*) ;;
		*) program=$(command -v -- "$1") || fail program ENOENT ;;
	esac
	case $program in */*) ;; *) return ;; esac
	[ -e "$program" ] || fail program ENOENT
	[ -f "$program" ] && [ -x "$program" ] || fail program EACCES
}

# connect makes descriptor 5 the writing end of the pipe to the reader, when there is one, and takes
# the pipe's name away: a reader that came later would miss something.
connect() {
	turns=0
	until [ -d "$job/reader" ]; do
		[ "$turns" -lt "$pipe" ] || fail reader EPIPE
		nap 5
		turns=$((turns + 1))
	done
	exec 4<>"$job/output" 5>"$job/output"
	true >"$job/writer"
	while [ -e "$job/output" ]; do
		[ "$turns" -lt $((pipe + 200)) ] || fail reader EPIPE
		nap 5
		turns=$((turns + 1))
	done
	exec 4<&-
}

# kind COMMAND...: puts a command in front of the program, if this host has it and lets it.
kind() { if "$@" true 2>/dev/null; then front="$front $*"; fi; }

launch() {
	cd /
	enter
	locate "$1"
	{ true >>"$job/stdout" && true >>"$job/stderr"; } 2>/dev/null || fail output "$(error "$( (date | cat >>"$job/full") 2>&1)")"
	if [ "$pipe" -gt 0 ]; then connect; else exec 5>>"$job/stdout"; fi
	front=''
	priorities
	shift
	now
	born $$
	first "$job/started" "$$ $born $boot $up $now" || exit 0
	echo started >&9
	become "$program" "$@"
}

# supervise waits for the program.
supervise() {
	cd /
	trap : HUP INT QUIT TERM ALRM USR1 USR2
	born $$
	first "$job/claimed" "$$ $born $boot" || exit 0
	{ printf '%200s\n' '' >"$job/exit.new"; } 2>/dev/null || fail output ENOSPC
	if command -v setsid >/dev/null; then
		setsid "$shell" "$job/command" launch
		code=$?
	else
		set -m
		"$shell" "$job/command" launch &
		program=$!
		while :; do
			wait "$program"
			code=$?
			kill -0 "$program" 2>/dev/null || break
		done
	fi
	exec 9>&-
	! ended || exit 0
	now
	first=''
	{ IFS=' ' read -r _ _ _ since at <"$job/started"; } 2>/dev/null || fail output EIO
	{ IFS= read -r first <"$job/stderr"; } 2>/dev/null
	case $code:$first in 12[67]:env:*) fail program "$(error "$first")" ;; esac
	for file in "$job/stdout" "$job/stderr"; do
		[ ! -s "$file" ] || safe "$file"
	done
	settle "code $code $at $now $since $up"
}

if [ "$role" = launch ]; then launch "$@"; else supervise; fi

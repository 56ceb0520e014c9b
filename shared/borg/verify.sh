# What a verify job of a repository runs: sh -c THIS NAME SECONDS WHAT REPOSITORY BORG ARGUMENT...
# WHAT is plain, moved, older or cache, or several of them with commas. A server that takes the
# connection and then says nothing must not keep whoever asks: exit code 124 says that the time (0:
# any) was up.
limit=$1 what=,$2, repository=$3 binary=$4
shift 3

bounded() {
	if [ "$limit" = 0 ] || ! command -v timeout >/dev/null; then
		"$@"
	else
		timeout -k 5 "$limit" "$@"
	fi
}

# What borg remembers of a repository: its cache makes the next backup fast, the security directory
# shows whether somebody put another repository in its place.
config=$HOME/.config
[ -z "${XDG_CONFIG_HOME:-}" ] || config=$XDG_CONFIG_HOME
[ -z "${BORG_BASE_DIR:-}" ] || config=$BORG_BASE_DIR/.config
known=$config/borg/security

case $what in
	*,cache,* | *,older,*) # it asks for no passphrase, nor whether all is as it was
		for option; do
			case $option in --remote-path=*) BORG_REMOTE_PATH=${option#*=}; export BORG_REMOTE_PATH ;; esac
		done
		"$binary" delete --log-json --lock-wait=20 --cache-only -- "$repository" 3<&- || exit
		;;
esac
case $what in
	*,older,*) ;;
	*,moved,*)
		BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
		export BORG_RELOCATED_REPO_ACCESS_IS_OK
		bounded "$@"
		exit
		;;
	*)
		bounded "$@"
		exit
		;;
esac

# Borg is shown a security directory without a memory. If the repository opens by its key and its
# passphrase, then how new it has to be is forgotten, and nothing else: where a key's numbers went
# on must be kept, as none may be used twice.
mkdir -p "$known" && fresh=$(mktemp -d "$known/verify.XXXXXX") || exit 2
trap 'rm -rf "$fresh"' EXIT
trap 'exit 143' TERM INT HUP
BORG_SECURITY_DIR=$fresh BORG_CACHE_DIR=$fresh/cache bounded "$@" || exit
for found in "$fresh"/*/manifest-timestamp; do
	id=${found%/*} id=${id##*/}
	rm -f "$known/$id/manifest-timestamp"
	case $what in
		*,moved,*) cp "$fresh/$id/location" "$known/$id/location" || exit 2 ;;
	esac
done

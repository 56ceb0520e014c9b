#!/usr/bin/env bash
# Installs what building, testing and the demo need from Debian's packages.
# Quick when nothing is missing; without the right to install it prints the command.
set -euo pipefail

declare -A provides=(
  [borg]=borgbackup [sshd]=openssh-server [ssh]=openssh-client [fusermount3]=fuse3
  [chromium]=chromium [ip]=iproute2 [git]=git [curl]=curl
  [gcc]=gcc # the race detector needs cgo
  # login shells that hosts without an agent may have
  [fish]=fish [busybox]=busybox [mksh]=mksh [zsh]=zsh [tcsh]=tcsh [sudo]=sudo
  [sqlite3]=sqlite3
)
missing=()
for command in "${!provides[@]}"; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null 2>&1 || missing+=("${provides[$command]}")
done
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
python3 -c 'import pyfuse3' 2>/dev/null || [ -e /usr/lib/python3/dist-packages/pyfuse3 ] ||
  compgen -G '/usr/lib/python3/dist-packages/pyfuse3*' >/dev/null || missing+=(python3-pyfuse3)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)

if ! command -v go >/dev/null 2>&1; then
  echo "setup: Go is missing: install Go 1.26 or newer (https://go.dev/dl/) and put it on the PATH" >&2
  exit 1
fi
[ "${#missing[@]}" -eq 0 ] && exit 0

install="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" -eq 0 ]; then as_root=""; elif sudo -n true 2>/dev/null; then as_root="sudo "; else as_root="no"; fi
if [ "$as_root" = "no" ] || ! command -v apt-get >/dev/null 2>&1; then
  printf 'setup: these packages are missing: %s\nRun this, then try again:\n  sudo %s\n' "${missing[*]}" "$install" >&2
  exit 1
fi
echo "setup: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # the command is a list of words
install_all() {
  ${as_root}apt-get update
  case " ${missing[*]} " in *' postgresql '*) # the tests make clusters of their own: without one, no server is started
    ${as_root}apt-get install -y --no-install-recommends postgresql-common
    ${as_root}sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf ;;
  esac
  ${as_root}$install
}
if ! (set -e; install_all) >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  printf 'setup: the installation failed; run it by hand:\n  sudo %s\n' "$install" >&2
  exit 1
fi

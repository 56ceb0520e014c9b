#!/usr/bin/env bash
# Runs the whole of borgfleet on this machine, on real data: a coordinator, an
# agent, a repository, backups, prune, compact, check. Every command is shown
# as you would type it. Stays up until Ctrl-C; with ONCE=1 it ends by itself.
# Nothing is written outside one temporary directory, which is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

home=$(mktemp -d "${TMPDIR:-/tmp}/borgfleet-demo.XXXXXX")
data=$home/coordinator
coordinator='' agent=''

finish() {
  local code=$?
  trap - EXIT INT TERM HUP
  for pid in $agent $coordinator; do
    kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
  done
  [ "$code" = 0 ] || tail -n 20 "$home"/*.log >&2 || true
  rm -rf "$home"
  exit "$code"
}
trap finish EXIT
trap 'exit 0' INT TERM HUP

bold='' plain=''
if [ -t 1 ]; then bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true); fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
run() { printf '$ %s\n' "${*/bin\//}"; "$@"; }

# await PID COMMAND…: until the command succeeds, as long as the process lives, at most a minute.
await() {
  local pid=$1 tries=0
  shift
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    if ! kill -0 "$pid" 2>/dev/null || [ "$tries" -gt 600 ]; then
      echo "demo: waited in vain for: $*" >&2
      exit 1
    fi
    sleep 0.1
  done
}
free_port() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
listen() { if free_port "$1"; then echo "127.0.0.1:$1"; else echo "127.0.0.1:0"; fi; }
running_online() { bin/borgfleet host list | grep -q 'demo .*online'; }

say "1. The coordinator: status page, API, and a bus of its own"
mkdir -p "$data" "$home/files"
export BORGFLEET_URL=''
printf '$ borgfleet serve --data %s &\n' "$data"
bin/borgfleet serve --config /dev/null --data "$data" --http "$(listen 8440)" --bus "$(listen 4222)" >"$home/coordinator.log" 2>&1 &
coordinator=$!
await "$coordinator" test -s "$data/endpoints.json"
endpoint() { sed -n "s/.*\"$1\": *\"\\([^\"]*\\)\".*/\\1/p" "$data/endpoints.json"; }
BORGFLEET_URL=$(endpoint http)
bus=$(endpoint bus)
await "$coordinator" curl -fsS "$BORGFLEET_URL/readyz"

say "2. A host, and its agent (which only dials out)"
run bin/borgfleet host add demo
bin/borgfleet-agent run --config /dev/null --host demo --data "$home/agent" --bus "$bus" \
  --credentials "$data/agents/demo/agent.creds" >"$home/agent.log" 2>&1 &
agent=$!
await "$agent" running_online

say "3. A repository; its passphrase is made here, and readable by nobody but this host's borg"
(umask 077 && head -c 24 /dev/urandom | base64 >"$home/passphrase")
run bin/borgfleet repo add demo-repo --location "$home/repository" --passphrase-file "$home/passphrase"
run bin/borgfleet repo init demo-repo --host demo

say "4. A first backup: this source tree, and a tree made for the occasion"
make_files() { # NAME COUNT: directories of small files, and two large files
  local dir
  for i in $(seq 1 "$2"); do
    dir=$home/files/$1-$((i / 100)); mkdir -p "$dir"
    echo "file $i of $1, made by the demo" >"$dir/$i.txt"
  done
  head -c 150M /dev/urandom >"$home/files/$1.bin"
  head -c 50M /dev/urandom >"$home/files/$1-extra.bin"
}
make_files first 3000
run bin/borgfleet backup --host demo --repo demo-repo --exclude "$PWD/bin" --compression zstd,3 "$PWD" "$home/files"

say "5. A second one, after some files were added and one was deleted: only what is new is stored"
make_files second 500
rm "$home/files/first-extra.bin"
run bin/borgfleet backup --host demo --repo demo-repo --exclude "$PWD/bin" --compression zstd,3 "$PWD" "$home/files"

say "6. Care: prune, compact, check"
run bin/borgfleet repo prune demo-repo --host demo --keep-last 1
run bin/borgfleet repo compact demo-repo --host demo
run bin/borgfleet repo check demo-repo --host demo

say "7. What there is now"
run bin/borgfleet archive list demo-repo --host demo
run bin/borgfleet repo info demo-repo --host demo
run bin/borgfleet status

say "Look at it:        $BORGFLEET_URL/"
say "Or use the bus, with the stock NATS client:"
request='{"host":"demo","kind":"backup","repository":"demo-repo","spec":{"paths":["'$home'/files"]}}'
printf "  nats --server %s --creds %s/operator.creds req borgfleet.v1.jobs.submit '%s'\n" "$bus" "$data" "$request"
printf "  nats --server %s --creds %s/operator.creds sub 'borgfleet.v1.>'\n" "$bus" "$data"
printf "Or the command line:\n  export BORGFLEET_URL=%s; bin/borgfleet status\n" "$BORGFLEET_URL"

if [ "${ONCE:-}" = 1 ]; then
  say "Done; cleaning up."
  exit 0
fi
say "It runs until Ctrl-C, then everything is removed."
wait "$coordinator"

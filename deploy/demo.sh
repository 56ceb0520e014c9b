#!/usr/bin/env bash
# Runs the whole of borgfleet on this machine, on real data: a coordinator, an
# agent, a repository, backups, prune, compact, check, a restore, a plan. Every
# command is shown as you would type it. Stays up until Ctrl-C; with ONCE=1 it ends
# by itself.
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
overdue() { bin/borgfleet alert list --kind overdue --json | grep -q '"kind": *"overdue"'; }
nothing_overdue() { ! overdue; }

say "1. The coordinator: status page, API, a bus, and an authority of its own for TLS"
mkdir -p "$data" "$home/files"
export BORGFLEET_DATA=$data BORGFLEET_URL= BORGFLEET_TOKEN=
printf '$ borgfleet serve --data %s &\n' "$data"
bin/borgfleet serve --config /dev/null --data "$data" --http "$(listen 8440)" --bus "$(listen 4222)" --depot "$(listen 2222)" >"$home/coordinator.log" 2>&1 &
coordinator=$!
await "$coordinator" test -s "$data/endpoints.json"
endpoint() { sed -n "s/.*\"$1\": *\"\\([^\"]*\\)\".*/\\1/p" "$data/endpoints.json"; }
page=$(endpoint http)
bus=$(endpoint bus)
await "$coordinator" curl -fsS "$page/readyz"

say "2. A host enrols with a token that works once; its keys are made there, and it only dials out"
run bin/borgfleet host token demo | tee "$home/token"
enrol=$(grep -o 'borgfleet-agent enroll .*' "$home/token")
printf '$ %s --run &\n' "${enrol%%--token*}--token …"
printf 'policy:\n  restore: [%s]\n' "$home/restored" >"$home/agent.yaml"
# shellcheck disable=SC2086 # the command as it was printed
bin/$enrol --config "$home/agent.yaml" --data "$home/agent" --run >"$home/agent.log" 2>&1 &
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

say "7. A restore, where the host allows it"
archive=$(bin/borgfleet archive list demo-repo --host demo --json | sed -n 's/.*"name": *"\(demo-[^"]*\)".*/\1/p' | tail -n 1)
run bin/borgfleet archive restore demo-repo "$archive" --host demo --target "$home/restored" "${home#/}/files/second.bin"
run cmp "$home/files/second.bin" "$home/restored/$home/files/second.bin"

say "8. A plan: from now on all that happens by itself"
cat >"$home/fleet.yaml" <<END
plans:
  demo-nightly:
    hosts: [demo]
    repositories: [demo-repo]
    paths: [$home/files]
    schedule: {cron: "0 2 * * *", timezone: Europe/Berlin, jitter: 15m, catch_up: 12h}
    retention: {keep_daily: 7, keep_weekly: 4}
    after: [prune, compact]
    restore_test: {every: 30d, canary: true}
    max_age: 1s
END
run cat "$home/fleet.yaml"
run bin/borgfleet apply -f "$home/fleet.yaml" --yes
run bin/borgfleet backup demo-nightly
run bin/borgfleet plan calendar

say "9. No backup for longer than max_age, here a second: that nothing happens is an event"
await "$coordinator" overdue
run bin/borgfleet plan list
run bin/borgfleet alert list --plan demo-nightly
sed -i 's/max_age: 1s/max_age: 36h/' "$home/fleet.yaml"
run bin/borgfleet apply -f "$home/fleet.yaml" --yes
await "$coordinator" nothing_overdue
run bin/borgfleet alert list --plan demo-nightly --all

say "10. What there is now, and who did it"
run bin/borgfleet archive list demo-repo --host demo
run bin/borgfleet repo info demo-repo --host demo
run bin/borgfleet status
run bin/borgfleet audit verify

say "Look at it:        $page/"
printf "The page wants a name and a password; choose yours with this link, which works once:\n  %s\n" "$(grep -om1 'http[^ ]*/setup/[^ ]*' "$home/coordinator.log")"
say "Or use the bus, with the stock NATS client:"
request='{"host":"demo","kind":"backup","repository":"demo-repo","spec":{"paths":["'$home'/files"]}}'
printf "  export NATS_URL=%s NATS_CA=%s/ca.pem NATS_CREDS=%s/operator.creds\n" "$bus" "$data" "$data"
printf "  nats req borgfleet.v1.jobs.submit '%s'\n" "$request"
printf "  nats sub 'borgfleet.v1.>'\n"
printf "Who is told of alerts, by mail, ntfy, Slack and many more:\n  bin/borgfleet notify target set --help\n"
printf "Or the command line:\n  export BORGFLEET_DATA=%s; bin/borgfleet status\n" "$data"

if [ "${ONCE:-}" = 1 ]; then
  say "Done; cleaning up."
  exit 0
fi
say "It runs until Ctrl-C, then everything is removed."
wait "$coordinator"

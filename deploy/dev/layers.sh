#!/usr/bin/env bash
# Fails when a package imports against the direction that ARCHITECTURE.md gives:
#   main -> daemon -> siblings -> foundation -> shared/worker -> shared/engine -> shared/{bus,borg,process} -> shared/{job,secret,build}
# A package may import only packages of a lower layer. Tests may import anything but other modules' internals,
# which the compiler itself refuses.
set -euo pipefail
cd "$(dirname "$0")/../.."
module=github.com/borgfleet/borgfleet

go list -f '{{.ImportPath}} {{join .Imports " "}}' work | awk -v module="$module" '
function layer(p) {
  if (p ~ /^shared\/(job|secret|build|settings|fault|disk|patience)$/) return 1
  if (p ~ /^shared\/(bus|borg|process|console)$/)             return 2
  if (p ~ /^shared\/engine$/)                                 return 3
  if (p ~ /^shared\/disk\//)                                 return 4   # for tests
  if (p ~ /^shared\/engine\//)                                return 4   # conformance suite, for tests
  if (p ~ /^shared\/attempt$/)                                return 3
  if (p ~ /^shared\/(journal|policy|probe|mount|worker)$/)    return 4
  if (p ~ /^coordinator\/internal\/fleet$/)                   return 4
  if (p ~ /^coordinator\/internal\/(feed|store|client|human|redirect|schedule)$/) return 5
  if (p ~ /^(coordinator|agent)\/internal\/daemon$/)          return 8
  if (p ~ /^(coordinator|agent)\/internal\/cli$/)             return 9
  if (p ~ /^(coordinator|agent)\/internal\//)                 return 7
  if (p ~ /^(coordinator|agent)$/)                            return 10
  if (p ~ /^e2e/)                                             return 11
  return 0
}
{
  from = substr($1, length(module) + 2)
  if (!layer(from)) { printf "layers: %s has no layer: give it one in deploy/dev/layers.sh and in ARCHITECTURE.md\n", from; bad = 1; next }
  for (i = 2; i <= NF; i++) {
    if (index($i, module "/") != 1) continue
    to = substr($i, length(module) + 2)
    if (from ~ /^e2e/ && to ~ /^e2e/) continue
    if (layer(to) >= layer(from)) { printf "layers: %s must not import %s\n", from, to; bad = 1 }
  }
}
END { exit bad }' >&2

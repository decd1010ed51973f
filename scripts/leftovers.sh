# What killed test runs left at the engine: containers, then what only containers held. Sourced after engine.sh.
# Tests remove what they make; this is for those that could not. Only objects with a test's own label are touched,
# and only old ones, so that a run beside this one keeps its own.
# shellcheck shell=bash

readonly LEFTOVER_AGE_SECONDS=7200
readonly LEFTOVER_LABELS=(rexec.contract rexec.test)

# leftovers LIST-PATH DELETE-PREFIX DELETE-SUFFIX
leftovers_of() {
  local id
  while IFS= read -r id; do
    note "removing what an earlier run left: $2/$id"
    engine "$2/$id$3" -X DELETE -o /dev/null --max-time 60 || true
  done < <(engine "$1" --max-time 30 | node "$REXEC_ROOT/scripts/leftovers.mjs" "$LEFTOVER_AGE_SECONDS" "${LEFTOVER_LABELS[@]}")
}

leftovers_sweep() {
  leftovers_of '/containers/json?all=true' /containers '?force=true&v=true'
  leftovers_of /networks /networks ''
  leftovers_of /volumes /volumes '?force=true'
  # An image of a snapshot has its container's labels.
  leftovers_of /images/json /images '?force=true'
}

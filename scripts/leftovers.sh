# What killed test runs left at the engine: containers, then what only containers held. Sourced after engine.sh.
# Tests remove what they make; this is for those that could not. Only objects with a test's own label are touched,
# and only old ones, so that a run beside this one keeps its own.
# shellcheck shell=bash

readonly LEFTOVER_AGE_SECONDS=7200
readonly LEFTOVER_LABELS=(rexec.contract rexec.test)

# machines_sweep: engines and networks that tests had for themselves. They are named by the process that made them
# (support/dockerd.rs, support/apart.rs), and go once that lives no more.
machines_sweep() {
  local path owner
  is_root && have ip || return 0
  for path in "${TMPDIR:-/tmp}"/rexec-dockerd-*/; do
    owner=${path##*/rexec-dockerd-}
    [[ -d $path && ! -d /proc/${owner%%-*} ]] || continue
    note "ending what an earlier run left: $path"
    machine_end "$path"
  done
  for path in /run/netns/rxn*-*; do
    owner=${path##*/rxn}
    [[ ! -e $path || -d /proc/${owner%%-*} ]] || ip netns del "${path##*/}" || true
  done
  for path in /sys/class/net/rxd???????*; do
    owner=${path##*/rxd}
    owner=${owner:0:7}
    [[ -e $path && $owner =~ ^[0-9]+$ ]] || continue
    [[ -d /proc/$((10#$owner)) ]] || ip link del "${path##*/}" || true
  done
}

# machine_end DIRECTORY/: ends the engine whose files are there, and with it what it runs; then unmounts and removes them.
machine_end() {
  local pid mount
  local -a doomed
  mapfile -t doomed < <(grep -lsaF -- "${1%/}/" /proc/[0-9]*/cmdline | cut -d / -f 3)
  for pid in "${doomed[@]}"; do
    # What a shim runs does not have the directory in its command line.
    cat /proc/"$pid"/task/*/children 2>/dev/null || true
  done | tr ' ' '\n' | grep . | xargs -r kill -KILL 2>/dev/null || true
  ((${#doomed[@]} == 0)) || kill -KILL "${doomed[@]}" 2>/dev/null || true
  while IFS= read -r mount; do
    umount --lazy "$mount" 2>/dev/null || true
  done < <(cut -d ' ' -f 2 /proc/self/mounts | grep -F -- "${1%/}/" | sort -r)
  rm -rf --one-file-system "$1" || true
}

# leftovers LIST-PATH DELETE-PREFIX DELETE-SUFFIX
leftovers_of() {
  local id
  while IFS= read -r id; do
    note "removing what an earlier run left: $2/$id"
    engine "$2/$id$3" -X DELETE -o /dev/null --max-time 60 || true
  done < <(engine "$1" --max-time 30 | node "$REXEC_ROOT/scripts/leftovers.mjs" "$LEFTOVER_AGE_SECONDS" "${LEFTOVER_LABELS[@]}")
}

leftovers_sweep() {
  machines_sweep
  leftovers_of '/containers/json?all=true' /containers '?force=true&v=true'
  leftovers_of /networks /networks ''
  leftovers_of /volumes /volumes '?force=true'
  # An image of a snapshot has its container's labels.
  leftovers_of /images/json /images '?force=true'
}

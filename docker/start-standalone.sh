#!/bin/sh
# The container of Dockerfile.standalone: a rootless Docker daemon in the background and, once it answers, the server.
#
# The server is what the container is for: its exit code is the container's, and SIGTERM ends it first, the daemon after it.
# A daemon that ends by itself is started again, later each time, and the log says so. It and all of its containers are in a
# process namespace of their own, so that with it nothing of it is left that could write beside its successor. Whatever lies in the
# runtime directory is of an earlier one: it is the only one there.
# Arguments are those of `rexec`. POSIX sh: the image's base may have no other.
set -eu

READY_SECONDS_MAX=120
STOP_SECONDS_MAX=30
BACK_OFF_SECONDS_MAX=30
# A daemon that ran as long as this is not one that cannot start: the next wait is the shortest again.
STEADY_SECONDS=60

say() { echo "start-standalone: $*" >&2; }
die() {
  say "$*"
  exit 1
}

# The network of the daemon's namespace: what this base has.
net() {
  if command -v slirp4netns >/dev/null; then
    echo slirp4netns
  elif command -v vpnkit >/dev/null; then
    echo vpnkit
  else
    die "there is neither slirp4netns nor vpnkit here: take docker:27-dind-rootless as BASE_IMAGE"
  fi
}

clear_stale() {
  rm -rf "$RUN/docker.pid" "$RUN/docker.sock" "$RUN/docker" "$RUN/rootlesskit" 2>/dev/null || true
}

# A kernel may have the older iptables only; the image of Docker's keeps those in a directory of their own.
# Options beyond these are read by dockerd itself from ~/.config/docker/daemon.json and DOCKER_DRIVER.
daemon() {
  clear_stale
  # shellcheck disable=SC2016
  exec rootlesskit --net="$NET" --mtu=1500 --disable-host-loopback --port-driver=builtin --pidns \
    --copy-up=/etc --copy-up=/run --state-dir="$RUN/rootlesskit" \
    sh -c 'rm -f /run/docker /run/containerd /run/xtables.lock
      iptables -nL >/dev/null 2>&1 || PATH=/usr/local/sbin/.iptables-legacy:$PATH
      exec dockerd "$@"' dockerd \
    --host="unix://$RUN/docker.sock" --data-root="$DATA/docker"
}

seconds() { date +%s; }
alive() { kill -0 "$1" 2>/dev/null; }

# reap PID: waits for a child's end and is its exit code. A signal that was caught ends `wait`, and not the child.
reap() {
  while :; do
    reaped=0
    wait "$1" || reaped=$?
    [ "$reaped" -gt 128 ] && alive "$1" || return "$reaped"
  done
}

# stop PID: asks a child to end, and kills it when it has not heeded in time.
stop() {
  kill -TERM "$1" 2>/dev/null || return 0
  (
    sleep "$STOP_SECONDS_MAX"
    say "process $1 has not ended within $STOP_SECONDS_MAX s, and is killed"
    kill -KILL "$1" 2>/dev/null || true
  ) &
  watch=$!
  reap "$1" || true
  kill -KILL "$watch" 2>/dev/null || true
}

# In a process of its own, which SIGTERM ends together with the daemon.
keep_daemon() {
  leaving='' pid='' back_off=1
  trap 'leaving=1; [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || true' TERM
  trap '' INT
  while [ -z "$leaving" ]; do
    started=$(seconds) status=0
    daemon &
    pid=$!
    reap "$pid" || status=$?
    pid=''
    [ -z "$leaving" ] || break
    [ $(($(seconds) - started)) -lt "$STEADY_SECONDS" ] || back_off=1
    say "the Docker daemon ended (exit code $status); starting it again in $back_off s"
    sleep "$back_off" &
    wait $! || true
    back_off=$((back_off * 2 > BACK_OFF_SECONDS_MAX ? BACK_OFF_SECONDS_MAX : back_off * 2))
  done
}

writable() { mkdir -p "$1" 2>/dev/null && [ -w "$1" ]; }

check() {
  [ "$(id -u)" != 0 ] || die "this is no place for root: run it as the image's own user, uid 1000"
  writable "$RUN" || die "$RUN cannot be written to by uid $(id -u)"
  writable "$DATA/docker" || die "$DATA cannot be written to by uid $(id -u): chown -R $(id -u):$(id -g) what is mounted there"
}

wait_for_daemon() {
  started=$(seconds)
  until docker --host "unix://$RUN/docker.sock" version >/dev/null 2>&1; do
    [ -z "$stopping" ] || return 0
    if [ $(($(seconds) - started)) -ge "$READY_SECONDS_MAX" ]; then
      say "the Docker daemon does not answer after $READY_SECONDS_MAX s; its last words are above." \
        "A container needs --privileged for a daemon inside (docs/deploy-standalone.md has less)"
      return 1
    fi
    sleep 0.2
  done
  say "the Docker daemon answers after $(($(seconds) - started)) s"
}

DATA=${REXEC_DATA_DIR:-/var/lib/rexec}
RUN=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
export XDG_RUNTIME_DIR="$RUN" DOCKER_HOST="unix://$RUN/docker.sock"
stopping='' server='' code=0
trap 'stopping=1; [ -z "$server" ] || kill -TERM "$server" 2>/dev/null || true' TERM INT

check
NET=$(net)
keep_daemon &
keeper=$!
if ! wait_for_daemon; then
  stop "$keeper"
  exit 1
fi
if [ -z "$stopping" ]; then
  rexec "$@" &
  server=$!
  # One that came in between found no server to tell.
  [ -z "$stopping" ] || kill -TERM "$server" 2>/dev/null || true
  reap "$server" || code=$?
  server=''
  say "the server ended with exit code $code; stopping the Docker daemon"
fi
stop "$keeper"
exit "$code"

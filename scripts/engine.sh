# The container engine: found where one answers, else installed and started. Sourced after lib.sh.
# Leaves DOCKER_HOST exported. Talks to the engine by curl, so that Podman needs no `docker` command.
# shellcheck shell=bash

readonly ENGINE_SOCKET=/var/run/docker.sock
readonly ENGINE_PING_SECONDS=5
readonly ENGINE_START_SECONDS_MAX=90
readonly ENGINE_LOG=/var/log/rexec-dockerd.log

# engine_curl DOCKER_HOST PATH CURL-OPTION...
engine_curl() {
  local host=$1 path=$2
  shift 2
  case $host in
    unix://*) curl -sS --noproxy '*' --unix-socket "${host#unix://}" "$@" "http://engine$path" ;;
    tcp://*)
      if [[ -n ${DOCKER_TLS_VERIFY:-} ]]; then
        local certs=${DOCKER_CERT_PATH:-$HOME/.docker}
        curl -sS --noproxy '*' --cacert "$certs/ca.pem" --cert "$certs/cert.pem" --key "$certs/key.pem" "$@" \
          "https://${host#tcp://}$path"
      else
        curl -sS --noproxy '*' "$@" "http://${host#tcp://}$path"
      fi
      ;;
    *) return 2 ;;
  esac
}

# engine PATH CURL-OPTION...: the engine that was found.
engine() { engine_curl "$DOCKER_HOST" "$@"; }

engine_answers() {
  [[ $1 != unix://* || -S ${1#unix://} ]] || return 1
  [[ $(engine_curl "$1" /_ping --max-time "$ENGINE_PING_SECONDS" 2>/dev/null) == OK ]]
}

engine_candidates() {
  local runtime=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
  printf 'unix://%s\n' "$ENGINE_SOCKET" "$runtime/docker.sock" "/run/user/$(id -u)/docker.sock" \
    "$runtime/podman/podman.sock" /run/podman/podman.sock | awk '!seen[$0]++'
}

# Finds an engine that answers, and exports where.
engine_find() {
  local candidate
  if [[ -n ${DOCKER_HOST:-} ]]; then
    [[ $DOCKER_HOST != ssh://* ]] || fail "DOCKER_HOST=$DOCKER_HOST: set-up cannot reach an engine over SSH." \
      "Run this on that machine, or forward its socket: ssh -NL /tmp/engine.sock:/var/run/docker.sock HOST" \
      "and set DOCKER_HOST=unix:///tmp/engine.sock"
    engine_answers "$DOCKER_HOST"
    return
  fi
  while IFS= read -r candidate; do
    if engine_answers "$candidate"; then
      export DOCKER_HOST=$candidate
      return 0
    fi
  done < <(engine_candidates)
  return 1
}

# Pid files and sockets of a daemon that was killed: a number that is somebody else's by now keeps dockerd
# from starting, or makes it wait for a containerd that is none.
engine_clear_stale() {
  local run=$1 pid
  pid=$(cat "$run/docker.pid" 2>/dev/null || true)
  is_running "$pid" dockerd && return 0
  rm -f "$run/docker.pid" "$run/docker.sock"
  pid=$(cat "$run/docker/containerd/containerd.pid" 2>/dev/null || true)
  is_running "$pid" containerd && return 0
  rm -f "$run"/docker/containerd/{containerd.pid,containerd.sock,containerd.sock.ttrpc,containerd-debug.sock}
}

# Starts dockerd apart from this script: own session, no inherited descriptor (an open pipe of `make` or CI
# would never see its end), and its output in a log file. Takes further options of dockerd's.
engine_spawn() {
  local -a options=("$@")
  grep -qs live-restore /etc/docker/daemon.json || options+=(--live-restore)
  (
    cd /
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      ((fd > 2)) && eval "exec $fd>&-" 2>/dev/null
    done
    # MAKEFLAGS and the like are no business of a daemon.
    exec env -i PATH="$PATH" HOME=/root LANG=C.UTF-8 \
      ${HTTP_PROXY:+HTTP_PROXY="$HTTP_PROXY"} ${HTTPS_PROXY:+HTTPS_PROXY="$HTTPS_PROXY"} ${NO_PROXY:+NO_PROXY="$NO_PROXY"} \
      setsid -f dockerd "${options[@]}" >>"$ENGINE_LOG" 2>&1 </dev/null
  )
}

has_systemd() { [[ -d /run/systemd/system ]] && have systemctl; }

engine_start() {
  say "Starting dockerd (log: $ENGINE_LOG)"
  if has_systemd; then
    systemctl enable --now docker >/dev/null 2>&1 || fail "systemd could not start docker." "See: journalctl -u docker"
  else
    # The kernel's cgroups are mounted by systemd elsewhere.
    grep -qs cgroup /proc/mounts || { need cgroupfs-mount cgroupfs-mount && cgroupfs-mount; }
    # Debian links /var/run to /run; the daemon writes both names.
    engine_clear_stale /run
    is_running "$(cat /run/docker.pid 2>/dev/null || true)" dockerd || engine_spawn --host "unix://$ENGINE_SOCKET"
  fi
  engine_wait "unix://$ENGINE_SOCKET"
}

engine_wait() {
  local host=$1 started=$SECONDS
  until engine_answers "$host"; do
    if ((SECONDS - started > ENGINE_START_SECONDS_MAX)); then
      tail -n 20 "$ENGINE_LOG" >&2 2>/dev/null || true
      fail "dockerd does not answer at $host after $ENGINE_START_SECONDS_MAX s." "See: $ENGINE_LOG"
    fi
    sleep 0.1
  done
  export DOCKER_HOST=$host
}

engine_install() {
  # Written before the package starts anything, so that a restarted daemon leaves workspaces running.
  if has_systemd && [[ ! -e /etc/docker/daemon.json ]]; then
    mkdir -p /etc/docker
    printf '{ "live-restore": true }\n' >/etc/docker/daemon.json
  fi
  apt_install docker.io iptables ca-certificates ||
    fail "docker.io could not be installed." "Run: apt-get install docker.io" "and then: make setup"
}

# The whole of it: an engine that answers is used as it is; else, as root on Debian or Ubuntu, ours.
engine_ensure() {
  need curl curl
  if engine_find; then return 0; fi
  if [[ -n ${DOCKER_HOST:-} && $DOCKER_HOST != "unix://$ENGINE_SOCKET" ]]; then
    fail "No engine answers at DOCKER_HOST=$DOCKER_HOST." "Start it, or unset DOCKER_HOST to use this machine's own."
  fi
  if ! can_apt; then
    fail "No container engine answers, and installing one needs root on Debian or Ubuntu. Either:" \
      "sudo apt-get install -y docker.io && sudo dockerd --live-restore &   # Debian, Ubuntu" \
      "sudo usermod -aG docker \$USER                                       # then sign in again" \
      "systemctl --user start podman.socket                                # or: rootless Podman" \
      "and run again: make setup"
  fi
  have dockerd || engine_install
  engine_start
}

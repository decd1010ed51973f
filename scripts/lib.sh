# Steps that every script here shares: telling, running long things, installing packages, reading `.env`.
# Sourced, never run. Messages go to stderr, so that a script's own answer stays clean.
# shellcheck shell=bash

REXEC_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly REXEC_ROOT
# Outside the clone, so that a second clone (and CI's next run) finds what the first one made.
# shellcheck disable=SC2034
readonly REXEC_CACHE="${REXEC_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/rexec}"

# How long a quiet step may take before it says that it is still at work, in seconds.
readonly HEARTBEAT_SECONDS=15
readonly APT_SECONDS_MAX=900

say() { printf '==> %s\n' "$*" >&2; }
note() { printf '    %s\n' "$*" >&2; }
fail() {
  printf '==> %s\n' "$1" >&2
  shift
  (($#)) && printf '    %s\n' "$@" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [[ $(id -u) == 0 ]]; }

# long "What is done" COMMAND...: runs it quietly, says that it goes on, and shows its last lines when it fails.
long() {
  local what=$1 log status=0 pid started=$SECONDS beat=$HEARTBEAT_SECONDS
  shift
  log=$(mktemp "${TMPDIR:-/tmp}/rexec-step.XXXXXX")
  say "$what"
  # A process group of its own, so that Ctrl-C ends all of the step and not only this script.
  set -m
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  set +m
  # shellcheck disable=SC2064
  trap "kill -- -$pid 2>/dev/null; rm -f '$log'; trap - INT TERM; kill -INT \$\$" INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - started >= beat)); then
      beat=$((beat + HEARTBEAT_SECONDS))
      note "$((SECONDS - started)) s: $(tail -n 1 "$log" | tr -d '\r' | cut -c 1-100)"
    fi
  done
  wait "$pid" || status=$?
  if ((status)); then
    note "failed after $((SECONDS - started)) s, exit code $status; its last lines:"
    tail -n 40 "$log" >&2
  else
    note "done in $((SECONDS - started)) s"
  fi
  trap - INT TERM
  rm -f "$log"
  return "$status"
}

# dotenv NAME...: takes these variables from `.env` where the environment has none, as the server does.
dotenv() {
  local name line value
  [[ -r $REXEC_ROOT/.env ]] || return 0
  for name in "$@"; do
    [[ -z ${!name:-} ]] || continue
    line=$(grep -E "^[[:space:]]*(export[[:space:]]+)?$name=" "$REXEC_ROOT/.env" | tail -n 1 || true)
    [[ -n $line ]] || continue
    value=${line#*=}
    value=${value%$'\r'}
    value=${value#[\"\']}
    value=${value%[\"\']}
    export "$name=$value"
  done
}

can_apt() { is_root && have apt-get && have dpkg; }

apt_update_once() {
  [[ -z ${REXEC_APT_UPDATED:-} ]] || return 0
  # A machine that was switched off while installing is mended first: apt refuses to work before that.
  if [[ -n $(dpkg --audit 2>/dev/null) ]]; then
    long "Finishing an interrupted installation" env DEBIAN_FRONTEND=noninteractive dpkg --configure -a || true
  fi
  # One unreachable third-party source must not stop us: the installation itself tells whether enough was had.
  long "Refreshing the package lists" timeout "$APT_SECONDS_MAX" apt-get -o DPkg::Lock::Timeout=300 update || true
  REXEC_APT_UPDATED=1
}

# apt_install PACKAGE...: as root on Debian or Ubuntu. RUNLEVEL=1 keeps the packages from starting services:
# what we need running, we start ourselves, with our own options.
apt_install() {
  apt_update_once
  long "Installing $*" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 timeout "$APT_SECONDS_MAX" \
    apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@"
}

# need COMMAND PACKAGE: has the command, or installs its package, or stops with the line to run.
need() {
  have "$1" && return 0
  can_apt || fail "$1 is missing." "Run: sudo apt-get install $2"
  apt_install "$2" || fail "$2 could not be installed." "Run: apt-get install $2"
}

# is_running PID NAME: whether that process lives and is that program (a pid is soon somebody else's).
is_running() {
  [[ $1 =~ ^[0-9]+$ && -r /proc/$1/comm && $(<"/proc/$1/comm") == "$2" ]]
}

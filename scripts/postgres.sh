# A PostgreSQL of our own for one run of the tests: made in a temporary directory, on a free loopback port,
# and gone afterwards. Sourced after lib.sh. Sets POSTGRES_URL; postgres_stop ends it.
# shellcheck shell=bash

readonly POSTGRES_MAJOR=15
readonly POSTGRES_START_SECONDS_MAX=60
readonly POSTGRES_START_TRIES=5
POSTGRES_BIN=
POSTGRES_DIR=
POSTGRES_URL=

# The wanted major version, or the newest that is there.
postgres_bin() {
  local dir
  for dir in "/usr/lib/postgresql/$POSTGRES_MAJOR/bin" $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
    if [[ -x $dir/initdb && -x $dir/postgres ]]; then
      POSTGRES_BIN=$dir
      return 0
    fi
  done
  return 1
}

postgres_install() {
  postgres_bin && return 0
  can_apt || fail "The tests run on a real PostgreSQL." "Run: sudo apt-get install postgresql-$POSTGRES_MAJOR"
  apt_install "postgresql-$POSTGRES_MAJOR" || apt_install postgresql || fail "PostgreSQL could not be installed."
  postgres_bin || fail "PostgreSQL's programs were not found under /usr/lib/postgresql."
}

# Directories of runs that were killed: their server is ended, by the pid that it wrote down itself.
postgres_sweep() {
  local dir pid
  for dir in /tmp/rexec-postgres.*/; do
    [[ -f $dir/owner && ! -d /proc/$(<"$dir/owner") ]] || continue
    pid=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null || true)
    if is_running "$pid" postgres && [[ $(readlink "/proc/$pid/cwd") == "${dir}data" ]]; then
      kill -QUIT "$pid" 2>/dev/null || true
    fi
    rm -rf "$dir"
  done
}

# PostgreSQL refuses to run as root.
as_postgres() {
  if is_root; then
    (cd / && setpriv --reuid postgres --regid postgres --init-groups env -u CDPATH HOME=/tmp LC_ALL=C.UTF-8 "$@")
  else
    env LC_ALL=C.UTF-8 "$@"
  fi
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' 2>/dev/null ||
    node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })'
}

postgres_alive() { is_running "$(head -n 1 "$POSTGRES_DIR/data/postmaster.pid" 2>/dev/null || true)" postgres; }

# Durability is switched off: what these databases hold is worth nothing after the run.
postgres_try() {
  local port=$1
  as_postgres "$POSTGRES_BIN/pg_ctl" start -s -w -t "$POSTGRES_START_SECONDS_MAX" -D "$POSTGRES_DIR/data" -l "$POSTGRES_DIR/log" \
    -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$POSTGRES_DIR -c fsync=off -c synchronous_commit=off \
      -c full_page_writes=off -c max_connections=400 -c shared_buffers=64MB" </dev/null >/dev/null 2>&1
}

postgres_start() {
  local try port
  postgres_install
  postgres_sweep
  POSTGRES_DIR=$(mktemp -d /tmp/rexec-postgres.XXXXXX)
  echo $$ >"$POSTGRES_DIR/owner"
  is_root && chown postgres "$POSTGRES_DIR"
  say "Starting PostgreSQL for the tests"
  as_postgres "$POSTGRES_BIN/initdb" -D "$POSTGRES_DIR/data" -U rexec -A trust -E UTF8 --locale=C.UTF-8 --no-sync \
    >"$POSTGRES_DIR/initdb.log" 2>&1 </dev/null || { cat "$POSTGRES_DIR/initdb.log" >&2; return 1; }
  # Between asking for a free port and taking it, somebody else may: then the next one.
  for ((try = 0; try < POSTGRES_START_TRIES; try++)); do
    port=$(free_port)
    if postgres_try "$port"; then
      # shellcheck disable=SC2034
      POSTGRES_URL="postgres://rexec@127.0.0.1:$port/postgres?sslmode=disable"
      return 0
    fi
  done
  cat "$POSTGRES_DIR/log" >&2 || true
  fail "PostgreSQL did not start."
}

postgres_stop() {
  [[ -n $POSTGRES_DIR && -d $POSTGRES_DIR ]] || return 0
  if postgres_alive; then
    as_postgres "$POSTGRES_BIN/pg_ctl" stop -s -m immediate -D "$POSTGRES_DIR/data" </dev/null >/dev/null 2>&1 || true
  fi
  rm -rf "$POSTGRES_DIR"
  POSTGRES_DIR=
}

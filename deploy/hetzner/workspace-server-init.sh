#!/usr/bin/env bash
# Makes a fresh Debian or Ubuntu machine a host of Rexec's workspaces: Docker behind mutual TLS, gVisor, a firewall, quotas where
# there is a disk for them. Run it again whenever something changed: a second run changes nothing that is as it should be.
#   export PLATFORM_SERVER_IP=10.0.1.1 SERVER_NAME=ws-1 && bash workspace-server-init.sh
# PLATFORM_SERVER_IP  private address of the machine that Rexec runs on: required
# SERVER_NAME         this machine's name there; default: its host name
# PRIVATE_IP          the address to listen at; default: the one that leads to PLATFORM_SERVER_IP
# PRIVATE_NETWORK     who may come to Docker's port; default: 10.0.0.0/16
# DATA_DISK           an empty disk for Docker's data (/dev/disk/by-id/...); one that holds anything is refused, never formatted
# REXEC_SCRIPTS_URL   where the other scripts of this directory come from, when they do not lie beside this one
# It installs no key, makes no account, and leaves sshd as it is.
set -euo pipefail

readonly CERTS=/etc/docker/certs
readonly DATA=/mnt/data
readonly DOCKER_PORT=2376
REXEC_SCRIPTS_URL=${REXEC_SCRIPTS_URL:-https://raw.githubusercontent.com/rexec/rexec/main/deploy/hetzner}

# The directory of these scripts: where this one lies, or a temporary one to which they were fetched.
parts() {
  local here name
  here=$(cd "$(dirname "${BASH_SOURCE[0]:-/nowhere/x}")" 2>/dev/null && pwd) || here=
  if [[ -z $here || ! -e $here/lib.sh ]]; then
    here=$(mktemp -d)
    for name in lib.sh rexec-workspace-certs rexec-workspace-status; do
      curl -fsSL --retry 3 "$REXEC_SCRIPTS_URL/$name" -o "$here/$name"
    done
  fi
  echo "$here"
}

variables() {
  local address='^[0-9]+(\.[0-9]+){3}$'
  [[ -n ${PLATFORM_SERVER_IP:-} ]] || die "PLATFORM_SERVER_IP is not set: the private address of the machine that Rexec runs on."
  [[ $PLATFORM_SERVER_IP =~ $address ]] || die "PLATFORM_SERVER_IP=$PLATFORM_SERVER_IP is no IPv4 address."
  SERVER_NAME=${SERVER_NAME:-$(hostname)}
  [[ $SERVER_NAME =~ ^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$ ]] || die "SERVER_NAME=$SERVER_NAME is no name."
  PRIVATE_NETWORK=${PRIVATE_NETWORK:-10.0.0.0/16}
  [[ $PRIVATE_NETWORK =~ ^[0-9]+(\.[0-9]+){3}/[0-9]+$ ]] || die "PRIVATE_NETWORK=$PRIVATE_NETWORK is no network."
  PRIVATE_IP=${PRIVATE_IP:-$(ip -o route get "$PLATFORM_SERVER_IP" 2>/dev/null | grep -oP 'src \K[0-9.]+' || true)}
  [[ $PRIVATE_IP =~ $address ]] || die "No way leads to $PLATFORM_SERVER_IP: attach the private network, or say PRIVATE_IP."
  # Without a private network the way there is the public one.
  within "$PRIVATE_IP" "$PRIVATE_NETWORK" || die "$PRIVATE_IP leads to the platform, and is not of $PRIVATE_NETWORK (PRIVATE_NETWORK)." \
    "Attach the private network: Docker's port is for nobody else."
}

# An address as a number.
number() {
  local -a parts
  IFS=. read -r -a parts <<<"$1"
  echo $((parts[0] << 24 | parts[1] << 16 | parts[2] << 8 | parts[3]))
}

# within ADDRESS NETWORK/BITS
within() {
  local shift=$((32 - ${2#*/}))
  (($(number "$1") >> shift == $(number "${2%/*}") >> shift))
}

# gVisor's own packages, unless the machine has a runsc.
gvisor() {
  have runsc && return 0
  local keyring=/usr/share/keyrings/gvisor.gpg
  if [[ ! -s $keyring ]]; then
    curl -fsSL --retry 3 https://gvisor.dev/archive.key | gpg --dearmor >"$keyring.new"
    mv "$keyring.new" "$keyring"
  fi
  put /etc/apt/sources.list.d/gvisor.list 0644 <<<"deb [arch=$(dpkg --print-architecture) signed-by=$keyring] https://storage.googleapis.com/gvisor/releases release main"
  packages runsc
}

storage() {
  if [[ -n ${DATA_DISK:-} ]]; then
    data_disk "$DATA_DISK" "$DATA" xfs rexec-data nofail,prjquota,discard mkfs.xfs -q -L rexec-data
  fi
  if mountpoint -q "$DATA"; then
    DATA_ROOT=$DATA/docker
  else
    DATA_ROOT=/var/lib/docker
    note "no data disk: Docker's data stay on the root disk, and sizes of workspaces are measured, not held"
  fi
}

certificates() {
  install -d -m 0700 "$CERTS"
  put "$CERTS/names" 0644 < <(printf '%s\n' "$SERVER_NAME" "$(hostname)" localhost "$PRIVATE_IP" 127.0.0.1 | awk '!seen[$0]++')
  "/usr/local/sbin/rexec-workspace-certs" ensure
}

commands() {
  put /usr/local/sbin/rexec-workspace-certs 0755 <"$PARTS/rexec-workspace-certs"
  put /usr/local/sbin/rexec-workspace-status 0755 <"$PARTS/rexec-workspace-status"
  put /etc/systemd/system/rexec-workspace-certs.service 0644 <<'UNIT'
[Unit]
Description=Renew the certificates by which Rexec reaches Docker
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/rexec-workspace-certs ensure
UNIT
  put /etc/systemd/system/rexec-workspace-certs.timer 0644 <<'UNIT'
[Unit]
Description=Renew the certificates by which Rexec reaches Docker
[Timer]
OnCalendar=daily
RandomizedDelaySec=1h
Persistent=true
[Install]
WantedBy=timers.target
UNIT
}

# --overlay2=none: without it gVisor keeps changes in memory, and a restart loses the workspace's disk.
docker_files() {
  put /etc/docker/daemon.json 0644 <<CONF
{
  "data-root": "$DATA_ROOT",
  "live-restore": true,
  "log-driver": "local",
  "log-opts": { "max-size": "10m", "max-file": "2" },
  "runtimes": { "runsc": { "path": "$(command -v runsc)", "runtimeArgs": ["--overlay2=none"] } },
  "tlsverify": true,
  "tlscacert": "$CERTS/ca.pem",
  "tlscert": "$CERTS/server-cert.pem",
  "tlskey": "$CERTS/server-key.pem"
}
CONF
  put /etc/systemd/system/docker.service.d/rexec.conf 0644 <<CONF
[Unit]
RequiresMountsFor=$DATA_ROOT
# The private network may come after the machine says that it is online: tried until then.
StartLimitIntervalSec=0
[Service]
RestartSec=5
ExecStart=
ExecStart=$(command -v dockerd) -H fd:// -H tcp://$PRIVATE_IP:$DOCKER_PORT --containerd=/run/containerd/containerd.sock
CONF
}

docker_runs() {
  local before=$1
  if ! has_systemd; then
    note "no systemd here: start dockerd -H unix:///var/run/docker.sock -H tcp://$PRIVATE_IP:$DOCKER_PORT yourself"
    return 0
  fi
  if ((CHANGED > before)); then
    systemctl daemon-reload
    systemctl enable docker >/dev/null 2>&1
    systemctl restart docker || die "docker does not start." "See: journalctl -u docker"
  fi
  service docker
  service rexec-workspace-certs.timer
}

# Docker's port for the private network alone; nothing of this machine, of that network or of the cloud's metadata for workspaces. Rexec
# closes all of these itself when it comes; the rules here hold before it has.
# Docker puts its own rules before ufw's in the table "filter", so what is forwarded is stopped in "mangle".
firewall() {
  firewall_base
  rule allow from "$PRIVATE_NETWORK" to any port "$DOCKER_PORT" proto tcp
  rule prepend deny in on rexec0
  forward_rules /etc/ufw/before.rules "-d 169.254.0.0/16" "-d 100.100.100.200/32" "-d $PRIVATE_NETWORK"
  forward_rules /etc/ufw/before6.rules ""
  firewall_on
}

# forward_rules FILE MATCH...: a part of ufw's own file, between two marks.
forward_rules() {
  local file=$1 match before=$CHANGED
  shift
  put "$file" 0640 < <(
    sed '/^# rexec begin$/,/^# rexec end$/d' "$file"
    printf '%s\n' '# rexec begin' '*mangle' ':FORWARD ACCEPT [0:0]' '-F FORWARD'
    for match in "$@"; do
      printf '%s\n' "-A FORWARD -i rexec0 ${match:+$match }-j DROP"
    done
    printf '%s\n' COMMIT '# rexec end'
  )
  if ((CHANGED > before)) && grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf; then
    ufw reload >/dev/null
  fi
}

register() {
  local memory disk
  memory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
  mkdir -p "$DATA_ROOT"
  disk=$(($(df --output=size -B 1G "$DATA_ROOT" | tail -n 1)))
  cat <<TEXT

This machine is a workspace server. Copy its certificates to the platform, from here:

  ssh root@$PLATFORM_SERVER_IP install -d -m 0700 /etc/rexec/certs/$SERVER_NAME
  scp $CERTS/{ca.pem,client-cert.pem,client-key.pem} root@$PLATFORM_SERVER_IP:/etc/rexec/certs/$SERVER_NAME/
  ssh root@$PLATFORM_SERVER_IP chown -R 10001:10001 /etc/rexec/certs    # the user of Rexec's container

and register it, with the address of your Rexec and an administrator's token:

  curl -X POST https://REXEC/api/admin/servers \\
    -H "Authorization: Bearer \$ADMIN_TOKEN" \\
    -H "Content-Type: application/json" \\
    -d '{
      "name": "$SERVER_NAME",
      "hostname": "$PRIVATE_IP",
      "docker_port": $DOCKER_PORT,
      "tls_ca_path": "/etc/rexec/certs/$SERVER_NAME/ca.pem",
      "tls_cert_path": "/etc/rexec/certs/$SERVER_NAME/client-cert.pem",
      "tls_key_path": "/etc/rexec/certs/$SERVER_NAME/client-key.pem",
      "total_cpu": $(nproc),
      "total_memory_mb": $memory,
      "total_disk_gb": $disk
    }'
TEXT
}

main() {
  local before
  PARTS=$(parts)
  # shellcheck source=deploy/hetzner/lib.sh
  . "$PARTS/lib.sh"
  as_root_on_debian
  packages ca-certificates curl docker.io fail2ban gnupg iproute2 iptables openssl python3-systemd ufw unattended-upgrades xfsprogs
  variables
  gvisor
  storage
  commands
  before=$CHANGED
  certificates
  docker_files
  docker_runs "$before"
  firewall
  brute_force
  upgrades
  if ((CHANGED)); then say "$CHANGED things were changed"; else say "Nothing was to be changed"; fi
  register
}

main "$@"

#!/usr/bin/env bash
# Makes a fresh Debian or Ubuntu machine the one that Rexec, its database and its proxy run on: Docker, a firewall, upgrades, a disk for
# the data, and Coolify unless it is not wanted. Run it again at will: a second run changes nothing that is as it should be.
# Fit for cloud-init (`hcloud server create --user-data-from-file`).
# INSTALL_COOLIFY     no: without Coolify, for Compose or a proxy of your own
# DATA_DISK           a disk for /mnt/data: an empty one gets ext4; one that this script made is mounted; any other is refused
# REXEC_SCRIPTS_URL   where lib.sh comes from, when it does not lie beside this script
# It installs no key, makes no account, and leaves sshd as it is.
set -euo pipefail

readonly DATA=/mnt/data
readonly COOLIFY=https://cdn.coollabs.io/coolify/install.sh
REXEC_SCRIPTS_URL=${REXEC_SCRIPTS_URL:-https://raw.githubusercontent.com/rexec/rexec/main/deploy/hetzner}

parts() {
  local here
  here=$(cd "$(dirname "${BASH_SOURCE[0]:-/nowhere/x}")" 2>/dev/null && pwd) || here=
  if [[ -z $here || ! -e $here/lib.sh ]]; then
    here=$(mktemp -d)
    curl -fsSL --retry 3 "$REXEC_SCRIPTS_URL/lib.sh" -o "$here/lib.sh"
  fi
  echo "$here"
}

directories() {
  local dir
  for dir in /etc/rexec /etc/rexec/certs; do
    [[ -d $dir ]] || { install -d -m 0700 "$dir" && changed "made $dir"; }
  done
}

firewall() {
  firewall_base
  rule allow 80/tcp
  rule allow 443/tcp
  # Its page, and what the page's terminal and news come over; close them again once it has a domain.
  [[ ${INSTALL_COOLIFY:-yes} == no ]] || rule allow 8000/tcp
  firewall_on
}

# Its installer is another project's and is run as it comes, from its own address.
coolify() {
  [[ ${INSTALL_COOLIFY:-yes} != no && ! -d /data/coolify ]] || return 0
  local installer
  installer=$(mktemp)
  say "Installing Coolify"
  curl -fsSL --retry 3 "$COOLIFY" -o "$installer"
  bash "$installer"
  rm -f "$installer"
  changed "installed Coolify"
}

main() {
  local before
  # shellcheck source=deploy/hetzner/lib.sh
  . "$(parts)/lib.sh"
  as_root_on_debian
  packages ca-certificates curl docker.io e2fsprogs fail2ban iptables openssl python3-systemd ufw unattended-upgrades
  [[ -z ${DATA_DISK:-} ]] || data_disk "$DATA_DISK" "$DATA" ext4 rexec-platform nofail,discard mkfs.ext4 -q -L rexec-platform
  directories
  before=$CHANGED
  put /etc/docker/daemon.json 0644 <<'CONF'
{ "live-restore": true, "log-driver": "local", "log-opts": { "max-size": "10m", "max-file": "3" } }
CONF
  if ((CHANGED > before)) && has_systemd; then systemctl restart docker; fi
  service docker
  firewall
  brute_force
  upgrades
  coolify
  if ((CHANGED)); then say "$CHANGED things were changed"; else say "Nothing was to be changed"; fi
  say "Workspace servers' certificates go to /etc/rexec/certs/<name>/; docs/deploy-hetzner.md goes on from here."
}

main "$@"

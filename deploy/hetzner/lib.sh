# What both init scripts share. Sourced, never run. Every step looks first, changes only what is not as it should be, and counts it
# in CHANGED (so none stands behind a pipe), and a second run changes nothing.
# shellcheck shell=bash

CHANGED=0
# How much of an unknown disk must be nothing but zeros, at both ends, before it counts as empty, in MiB.
readonly DISK_ZERO_MIB=4

say() { printf '==> %s\n' "$*" >&2; }
note() { printf '    %s\n' "$*" >&2; }
die() {
  printf '==> %s\n' "$1" >&2
  shift
  (($#)) && printf '    %s\n' "$@" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }
has_systemd() { [[ -d /run/systemd/system ]]; }
changed() {
  CHANGED=$((CHANGED + 1))
  note "$*"
}

# put FILE MODE: has exactly what stands in the input, and keeps one copy of what somebody else had written there.
put() {
  local file=$1 mode=$2 content
  content=$(cat; printf x)
  content=${content%x}
  if [[ -e $file && $(cat "$file"; printf x) == "${content}x" ]]; then return 0; fi
  [[ ! -e $file || -e $file.before-rexec ]] || cp -p "$file" "$file.before-rexec"
  mkdir -p "${file%/*}"
  printf '%s' "$content" >"$file.new"
  chmod "$mode" "$file.new"
  mv "$file.new" "$file"
  changed "wrote $file"
}

as_root_on_debian() {
  ((EUID == 0)) || die "This sets up a whole machine: run it as root."
  have apt-get || die "This is for Debian and Ubuntu: apt-get is not there."
}

packages() {
  local name
  local -a missing=()
  for name in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  say "Installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -o DPkg::Lock::Timeout=300 update -q >/dev/null
  apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends "${missing[@]}" >/dev/null
  changed "installed ${missing[*]}"
}

# service NAME: starts with the machine, and runs.
service() {
  has_systemd || return 0
  systemctl is-enabled --quiet "$1" && systemctl is-active --quiet "$1" && return 0
  systemctl enable --now "$1" >/dev/null 2>&1 || die "$1 does not start." "See: journalctl -u $1"
  changed "started $1"
}

upgrades() {
  put /etc/apt/apt.conf.d/20auto-upgrades 0644 <<'CONF'
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
CONF
}

brute_force() {
  put /etc/fail2ban/jail.d/rexec.local 0644 <<'CONF'
[sshd]
enabled = true
backend = systemd
banaction = ufw
maxretry = 5
findtime = 10m
bantime = 1h
CONF
  service fail2ban
}

# Ports at which this machine's sshd listens: they stay open, whatever else is closed.
ssh_ports() {
  local ports=
  [[ ! -x /usr/sbin/sshd ]] || ports=$(/usr/sbin/sshd -T 2>/dev/null | awk '$1 == "port" { print $2 }')
  printf '%s\n' "${ports:-22}"
}

# rule WORD...: a rule of ufw's, unless it is there.
rule() {
  local answer
  answer=$(ufw "$@" 2>&1 </dev/null) || die "ufw $*: $answer"
  [[ $answer == *Skipping* || $answer == *"existing rule"* ]] || changed "ufw $*"
}

# Closed but for SSH, before anything is switched on.
firewall_base() {
  local port
  grep -qs '^DEFAULT_INPUT_POLICY="DROP"' /etc/default/ufw || { ufw default deny incoming >/dev/null </dev/null && changed "ufw default deny incoming"; }
  while IFS= read -r port; do
    rule allow "$port/tcp"
  done < <(ssh_ports)
}

firewall_on() {
  grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf && return 0
  ufw --force enable >/dev/null || die "ufw cannot be switched on."
  changed "switched ufw on"
}

# zeros DEVICE OFFSET-MIB: whether there is nothing for a while.
zeros() {
  dd if="$1" bs=1M skip="$2" count="$DISK_ZERO_MIB" status=none | cmp -s -n $((DISK_ZERO_MIB << 20)) - /dev/zero
}

# Why a disk may not be formatted; nothing is said when it may.
disk_holds() {
  local disk=$1 size found
  found=$(blkid -p -o export "$disk" 2>/dev/null | grep -E '^(TYPE|PTTYPE)=' | paste -sd' ') || true
  if [[ -n $found ]]; then
    echo "it holds $found"
  elif (($(lsblk -nr "$disk" | wc -l) > 1)); then
    echo "something is made of it: $(lsblk -nro NAME,TYPE "$disk" | tail -n +2 | paste -sd' ')"
  else
    size=$(($(blockdev --getsize64 "$disk") >> 20))
    if ! zeros "$disk" 0 || ! zeros "$disk" $((size - DISK_ZERO_MIB)); then
      echo "it is not empty: there is something at its beginning or end"
    fi
  fi
}

# data_disk DISK PATH TYPE LABEL OPTIONS MKFS...: the disk, mounted now and at every start. One that is empty gets a file system of ours;
# one of ours is mounted; anything else is refused and left as it is.
data_disk() {
  local disk=$1 path=$2 type=$3 label=$4 options=$5 why uuid
  shift 5
  [[ -b $disk ]] || die "DATA_DISK=$disk is no disk." "See: lsblk"
  if [[ $(blkid -p -o value -s TYPE "$disk") != "$type" || $(blkid -p -o value -s LABEL "$disk") != "$label" ]]; then
    why=$(disk_holds "$disk")
    [[ -z $why ]] || die "DATA_DISK=$disk is not formatted: $why." "Give a disk that is empty, or leave DATA_DISK out." \
      "If nobody needs what is there: wipefs --all $disk, and zero its beginning."
    "$@" "$disk" >/dev/null
    changed "made $type on $disk"
  fi
  uuid=$(blkid -p -o value -s UUID "$disk")
  mkdir -p "$path"
  if mountpoint -q "$path"; then
    [[ $(findmnt -no UUID --mountpoint "$path") == "$uuid" ]] || die "$path is another disk's already: $(findmnt -no SOURCE --mountpoint "$path")"
  else
    if ! mount -t "$type" -o "${options//nofail,/}" "$disk" "$path" 2>/dev/null; then
      options=${options//prjquota,/}
      mount -t "$type" -o "${options//nofail,/}" "$disk" "$path" || die "$disk cannot be mounted." "See: dmesg"
      note "this kernel has no quotas for $type: sizes of workspaces are measured, not held"
    fi
    changed "mounted $path"
  fi
  if ! grep -q "^UUID=$uuid " /etc/fstab; then
    printf 'UUID=%s %s %s %s 0 2\n' "$uuid" "$path" "$type" "$options" >>/etc/fstab
    changed "$path is in /etc/fstab"
  fi
}

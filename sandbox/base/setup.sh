#!/bin/sh
# What Ansible needs of a host: packages and the user it works as. Usage: setup.sh container|here
set -eu
export DEBIAN_FRONTEND=noninteractive
packages="python3 python3-apt python3-venv openssh-server sudo git ca-certificates curl iproute2 procps acl"
[ "$1" = here ] || packages="$packages systemd systemd-sysv dbus"

if [ "$1" = container ]; then
  # An image needs no synced disk after every file, and nobody reads manuals in it.
  printf '%s\n' force-unsafe-io 'path-exclude /usr/share/doc/*' 'path-exclude /usr/share/man/*' >/etc/dpkg/dpkg.cfg.d/sandbox
fi

# mmdebstrap's own list repeats the machine's.
[ ! -s /etc/apt/sources.list.d/debian.sources ] || rm -f /etc/apt/sources.list.d/0000*
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $packages

id sparklio >/dev/null 2>&1 || useradd --create-home --shell /bin/bash sparklio
(umask 0337; echo 'sparklio ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/sparklio)

if [ "$1" = container ]; then
  printf '%s\n' 'AuthorizedKeysFile /etc/ssh/authorized_keys/%u' 'PasswordAuthentication no' 'PermitRootLogin no' \
    'HostKey /etc/ssh/ssh_host_ed25519_key' 'UseDNS no' 'MaxStartups 50' >/etc/ssh/sshd_config.d/sandbox.conf
  mkdir -p /etc/ssh/authorized_keys
  rm -f /etc/ssh/ssh_host_*
  systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    getty.target console-getty.service systemd-networkd.service systemd-resolved.service 2>/dev/null
  systemctl enable --quiet ssh
fi
apt-get clean

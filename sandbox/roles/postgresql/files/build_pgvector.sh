#!/bin/sh
# Debian 13's source package of pgvector, built for the server that runs here. Usage: build_pgvector.sh PG_MAJOR
set -eu
export DEBIAN_FRONTEND=noninteractive
major=$1
work=$(mktemp -d)
list=/etc/apt/sources.list.d/pgvector-source.list
trap 'rm -rf "$work" "$list"; apt-get update -qq' EXIT

# The mirror that this host uses already.
# shellcheck disable=SC2016 # apt's own variable
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v -e security | sort -u | head -n 1)
apt-get install -y -qq --no-install-recommends gcc libc6-dev make dpkg-dev
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$list"
apt-get update -qq
cd "$work"
chmod 755 "$work"
apt-get source -qq -o APT::Sandbox::User=root pgvector

# Headers only, unpacked aside: the package itself would bring clang and LLVM.
apt-get download -qq -o APT::Sandbox::User=root "postgresql-server-dev-$major"
dpkg-deb -x "postgresql-server-dev-$major"_*.deb root
bin=root/usr/lib/postgresql/$major/bin
mkdir -p "$bin"
cp "/usr/lib/postgresql/$major/bin/pg_config" "$bin/" # it reports paths relative to where it lies

cd pgvector-*/
make -s -j2 with_llvm=no OPTFLAGS= PG_CONFIG="$work/$bin/pg_config" PGXS="$(find "$work/root" /usr/lib/postgresql -name pgxs.mk | head -n 1)"
install -m 644 vector.so "/usr/lib/postgresql/$major/lib/"
install -m 644 vector.control sql/vector--*.sql "/usr/share/postgresql/$major/extension/"

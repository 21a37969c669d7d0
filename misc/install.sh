#!/usr/bin/env bash
# Installs what a task needs and is missing: `misc/install.sh test|bench|deny`.
# Debian packages are installed when run as root; otherwise the one line to run is said, with exit code 1.
set -euo pipefail

# Debian package and a program of it, a pair a line.
needs() {
  case $1 in
    test) printf '%s\n' 'curl curl' 'openssl openssl' 'pebble pebble' 'caddy caddy' 'knot knotd' 'knot-dnsutils knsupdate' 'golang-go go' 'binutils objcopy' 'gcc cc' ;;
    bench) printf '%s\n' 'nginx-light nginx' 'haproxy haproxy' 'caddy caddy' 'etcd-server etcd' 'wrk wrk' 'nghttp2-client h2load' 'valgrind valgrind' ;;
    deny) ;;
    *) echo "usage: misc/install.sh test|bench|deny" >&2; exit 2 ;;
  esac
}

has() {
  command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]
}

missing=()
while read -r package program; do
  [ -z "$program" ] || has "$program" || missing+=("$package")
done < <(needs "${1:-}")

if [ ${#missing[@]} -gt 0 ]; then
  line="apt-get install -y --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" != 0 ] || ! has apt-get; then
    echo "missing: ${missing[*]}. Run: sudo $line" >&2
    exit 1
  fi
  echo "installing ${missing[*]}"
  # A server that comes with a package must not start and take its port.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  $line -qq >/dev/null
fi

# Without it one part of the tests is left out, and the summary says so.
if [ "$1" = test ] && ! has testssl && [ "$(id -u)" = 0 ] && has apt-get; then
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends testssl.sh >/dev/null; } || true
fi

if [ "$1" = deny ] && ! has cargo-deny; then
  cargo install --locked --quiet cargo-deny
fi

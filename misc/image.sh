#!/usr/bin/env bash
# Builds the image of Roo: FROM scratch, nothing pulled, no network.
#
#   misc/image.sh BINARY TAG      for example: misc/image.sh target/release/roo roo:latest
#
# In it: the binary with the names of its functions but without debug info, the shared libraries it names with their
# loader, the root certificates of this machine if it has them, and the few files a C library asks for.
set -euo pipefail

readonly size_max=${ROO_IMAGE_BYTES_MAX:-$((40 * 1000 * 1000))} # a debug build needs more

die() { echo "image: $*" >&2; exit 1; }

[ $# = 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
binary=$1 tag=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ ! -f "$binary" ] || [ ! -x "$binary" ]; then die "there is no program at $binary: build it first"; fi
for tool in docker ldd objcopy readelf; do
  command -v "$tool" >/dev/null || die "$tool is missing: install it (Debian: docker.io, libc-bin, binutils)"
done
docker version --format '{{.Server.Version}}' >/dev/null 2>&1 || die "no Docker engine answers: start it, or set DOCKER_HOST"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
context=$work/context
root=$context/rootfs
mkdir -p "$root"/{usr/bin,etc/ssl/certs,data,tmp}
chmod 1777 "$root/tmp"

# Line tables and types are most of a release binary; function names stay, profiles need them. Those of data do not.
readelf --syms --wide "$binary" | awk '$4 == "OBJECT" || $4 == "NOTYPE" { print $8 }' | sort -u >"$work/data"
readelf --syms --wide "$binary" | awk '$4 == "FUNC" { print $8 }' | sort -u >"$work/functions"
comm -23 "$work/data" "$work/functions" | sed '/^$/d' >"$work/dispensable"
objcopy --strip-debug --strip-symbols="$work/dispensable" "$binary" "$root/usr/bin/roo"
chmod 755 "$root/usr/bin/roo"

# Each library under the very path where this machine's loader finds it, so the copied loader does too.
missing=$(ldd "$binary" 2>/dev/null | awk '/not found/ {print $1}' || true)
[ -z "$missing" ] || die "the program needs libraries that this machine lacks: $missing"
{ ldd "$binary" 2>/dev/null || true; } | sed -n 's/[^/]*\(\/[^ ]*\).*/\1/p' | sort -u | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done

bundle=/etc/ssl/certs/ca-certificates.crt
if [ -r "$bundle" ]; then
  cp -L "$bundle" "$root$bundle"
else
  echo "image: no $bundle on this machine (Debian: ca-certificates), so the image has no root certificates" >&2
fi
printf 'root:x:0:0:root:/data:/usr/bin/roo\nnobody:x:65534:65534:nobody:/:/usr/bin/roo\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

cp "$here/Dockerfile" "$context/"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$here/Cargo.toml" | head -n 1)
revision=$(git -C "$here" rev-parse --short HEAD 2>/dev/null || echo unknown)
before=$(docker image inspect --format '{{.Id}}' "$tag" 2>/dev/null || true)
# The classic builder needs no plugin and no other image; BuildKit would want either.
DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0} docker build --quiet --network none --tag "$tag" \
  --build-arg "VERSION=${version:-dev}" --build-arg "REVISION=$revision" "$context" >"$work/log" 2>&1 ||
  { cat "$work/log" >&2; die "docker build failed"; }

# The image that bore the tag until now would stay without a name.
if [ -n "$before" ] && [ "$(docker image inspect --format '{{len .RepoTags}}' "$before")" = 0 ]; then
  docker image rm "$before" >/dev/null 2>&1 || true # a container may still use it
fi

docker run --rm --network none --read-only --no-healthcheck "$tag" version >/dev/null ||
  die "the program does not start inside the image"
size=$(docker image inspect --format '{{.Size}}' "$tag")
printf 'image: %s, %d.%d MB\n' "$tag" $((size / 1000000)) $((size / 100000 % 10))
[ "$size" -le "$size_max" ] || die "that is over the limit of $((size_max / 1000000)) MB"

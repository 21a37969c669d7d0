#!/usr/bin/env bash
# Runs every test and ends with one summary. What can't run on this machine is named there.
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0
broken=() left_out=()

# part NAME COMMAND...: runs a part, shows its output, and counts its tests.
part() {
  local name=$1 code p f
  shift
  printf '\n== %s\n' "$name"
  "$@" 2>&1 | tee "$log"
  code=${PIPESTATUS[0]}
  if [ "$code" = 77 ]; then
    skipped=$((skipped + 1))
    left_out+=("$name: $(tail -n 1 "$log")")
    return
  fi
  # Closing lines of cargo test, and the plain `N passed, N failed`.
  read -r p f < <(awk '
    /^test result:/ { p += $4; f += $6 }
    /^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3 }
    END { print p + 0, f + 0 }' "$log")
  passed=$((passed + p)) failed=$((failed + f))
  if [ "$code" != 0 ]; then
    [ "$f" -gt 0 ] || failed=$((failed + 1))
    broken+=("$name")
  fi
}

swarm() {
  if ! docker info >/dev/null 2>&1; then
    echo "no Docker engine answers on this machine"
    return 77
  fi
  # Not through make, which would lose the exit code that says: not on this machine.
  make --no-print-directory image && misc/swarm-test.sh
}

fleet() {
  if [ "$(id -u)" != 0 ]; then
    echo "only root may make network namespaces and start engines"
    return 77
  fi
  if ! command -v dockerd >/dev/null; then
    echo "no dockerd on this machine (Debian: docker.io)"
    return 77
  fi
  cargo test --locked --workspace --test swarm
}

part "tools" misc/install.sh test
part "build" make --no-print-directory build
part "scripts" misc/check.sh
# All parts select the whole workspace, so that one build of each library serves them all.
part "units" cargo test --locked --workspace --lib --bins --test behaviour --test cluster --test engine --test issuing
part "docs" cargo test --locked --workspace --doc
part "end to end" cargo test --locked --workspace --test e2e -- --test-threads=3
part "corpus" cargo test --locked --workspace --test corpus -- --nocapture --test-threads=8
part "tls" misc/tls-test.sh
part "siege" cargo test --locked --workspace --test siege -- --nocapture --test-threads=1
part "chaos" cargo test --locked --workspace --test chaos -- --nocapture --test-threads=1
part "swarm" swarm
part "swarm of three" fleet

printf '\n== summary\n'
for name in "${broken[@]}"; do echo "failed: $name"; done
for name in "${left_out[@]}"; do echo "not run: $name"; done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]

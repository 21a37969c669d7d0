#!/usr/bin/env bash
# Looks at the TLS of a node on loopback with testssl.sh: no finding above LOW, but for those named below.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v testssl >/dev/null || { echo "testssl is not installed (apt-get install testssl.sh)"; exit 77; }

roo=${ROO_BIN:-target/release/roo}
name=shop.test
dir=$(mktemp -d)
# The node still writes until it has ended.
trap '[ -z "${pid:-}" ] || { kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; } || true; rm -rf "$dir" || true' EXIT
: >"$dir/log"

"$roo" run --acme-directory internal --data-dir "$dir/data" --http 127.0.0.1:0 --https 127.0.0.1:0 --api 127.0.0.1:0 --raft 127.0.0.1:0 \
  --workers 1 >"$dir/log" 2>&1 &
pid=$!

# port LISTENER: the port that the node has told.
port() {
  sed -n "s/.*\"listener\":\"$1\".*/&/p" "$dir/log" | sed -n 's/.*"address":"[^"]*:\([0-9]*\)".*/\1/p' | tail -n 1
}

# Until the certificate is there, a handshake has none to show.
for _ in $(seq 150); do
  api=$(port api) https=$(port https)
  if [ -n "$api" ] && [ -n "$https" ]; then
    curl -sf -X PUT --data-binary http://127.0.0.1:1 "http://127.0.0.1:$api/roo/v1/kv/com.roo.host:$name:https" >/dev/null &&
      curl -sf "http://127.0.0.1:$api/roo/v1/ca" -o "$dir/ca.pem" &&
      curl -s --cacert "$dir/ca.pem" --resolve "$name:$https:127.0.0.1" -o /dev/null "https://$name:$https/" && break
  fi
  sleep 0.2
done

# --protocols and so on instead of everything: what an answer of the service says is not the node's.
testssl --quiet --color 0 --warnings off --ip 127.0.0.1 --nodns none --add-ca "$dir/ca.pem" \
  --protocols --std --fs --server-preference --server-defaults --vulnerable \
  --jsonfile "$dir/found.json" "$name:$https" >"$dir/out" 2>&1 || true

# Certificates of our own CA name no place to ask for revocations; there is none.
awk -F'"' '
  /"id"/ { id = $4 }
  /"severity"/ { severity = $4 }
  /"finding"/ {
    looked++
    if (severity ~ /MEDIUM|HIGH|CRITICAL/ && id !~ /^cert_revocation/) { print severity ": " id ": " $4; bad++ }
  }
  END { print looked + 0, "findings" > "/dev/stderr"; print (looked > 50 && !bad ? "1 passed, 0 failed" : "0 passed, 1 failed"); exit !(looked > 50 && !bad) }
' "$dir/found.json" || { tail -n 60 "$dir/out"; exit 1; }

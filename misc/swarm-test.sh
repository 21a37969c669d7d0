#!/usr/bin/env bash
# Roo on a real Docker Swarm: deploys roo-docker-compose.yml to this machine's engine as a user would, puts a second
# stack with labels beside it, and asks by name over TLS. Takes away again all that it made.
#
#   misc/swarm-test.sh [IMAGE]    the image under test, default roo:latest; build it with misc/image.sh
#
# Exit code 0: all passed; 1: something failed; 77: no engine to test on, which is said.
# The swarm is made, if the engine has none, on loopback only, and left again.
set -euo pipefail
shopt -s inherit_errexit

image=${1:-${ROO_IMAGE:-roo:latest}}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly image here
readonly wait_max=90 # seconds for anything to come true; most takes one or two

passed=0 failed=0
made_swarm='' made_network='' made_label='' made_bridge='' made_stacks=''
work=$(mktemp -d)

# --- Telling ---------------------------------------------------------------------------------------------------------

pass() { passed=$((passed + 1)); echo "ok    $*"; }
fail() { failed=$((failed + 1)); echo "FAIL  $*"; }
say() { echo "      $*"; }

# step WHAT COMMAND...: one line for one claim.
step() {
  local what=$1
  shift
  if "$@" >"$work/out" 2>&1; then pass "$what"; else
    fail "$what"
    tail -n 5 "$work/out" | sed 's/^/      | /'
  fi
}

# must WHAT COMMAND...: as step, but nothing after it makes sense without it.
must() {
  local before=$failed
  step "$@"
  [ "$failed" = "$before" ] || { say "nothing further can be tested"; exit 1; }
}

skip() {
  echo "skipped: $*"
  exit 77
}

refuse() {
  echo "swarm-test: $*" >&2
  exit 1
}

# eventually COMMAND...: tries until it holds or the time is up; leaves its last output.
eventually() {
  local end=$((SECONDS + wait_max))
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}

never() { ! "$@"; }

# --- Leaving nothing behind ------------------------------------------------------------------------------------------

gone() { [ -z "$(docker ps -aq --filter "label=com.docker.stack.namespace=$1")" ]; }
manual_gone() { [ -z "$(docker ps -aq --filter label=com.docker.swarm.service.name=manual)" ]; }
volume_gone() { docker volume rm roo_roo-data || ! docker volume inspect roo_roo-data; }
network_gone() { docker network rm forenet || ! docker network inspect forenet; }

leave() { eventually "$@" >/dev/null 2>&1 || echo "swarm-test: something is left behind: not true after $wait_max s: $*" >&2; }

clean_up() {
  local code=$?
  set +e
  [ -z "${load:-}" ] || { kill "$load" && wait "$load"; } 2>/dev/null
  if [ -n "$made_stacks" ]; then
    if [ "$code" != 0 ] || [ "$failed" != 0 ]; then
      echo "--- the last of Roo's log"
      docker service logs --raw --tail 40 roo_roo 2>&1
      docker service ps --no-trunc --format '{{.Name}} {{.CurrentState}} {{.Error}}' roo_roo 2>&1
    fi
    docker service rm manual >/dev/null 2>&1
    docker stack rm test roo >/dev/null 2>&1
    leave gone test
    leave gone roo
    leave manual_gone
    leave volume_gone
  fi
  [ -z "$made_network" ] || leave network_gone
  [ -z "$made_label" ] || docker node update --label-rm load_balancer "$made_label" >/dev/null 2>&1
  [ -z "$made_swarm" ] || docker swarm leave --force >/dev/null 2>&1
  [ -z "$made_bridge" ] || docker network rm docker_gwbridge >/dev/null 2>&1
  rm -rf "$work"
  [ $((passed + failed)) = 0 ] || echo "$passed passed, $failed failed"
  [ "$failed" = 0 ] || code=1
  exit "$code"
}

# --- Asking ----------------------------------------------------------------------------------------------------------

free_port() {
  local port
  for _ in $(seq 100); do
    # Below the ports that the kernel hands out by itself.
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
  refuse "found no free port between 20000 and 32000"
}

# The running container of a service, the newest if an old one is about to end.
container() { docker ps -q --filter "label=com.docker.swarm.service.name=$1" --filter status=running | head -n 1; }
roo() { docker exec "$(container roo_roo)" /usr/bin/roo "$@"; }
healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$(container roo_roo)" 2>&1)" = healthy ]; }

# Reads all of its input, unlike grep -q, so that the writer does not fail.
holds() { grep -a "$1" >/dev/null; }

# ask HOST PATH: the body of an answer 200 over TLS by name, trusting Roo's own root and nothing else.
ask() {
  curl -sS --fail --max-time 10 --cacert "$work/root.pem" --resolve "$1:$https:127.0.0.1" "https://$1:$https$2"
}
answers() { ask "$1" / | holds '^Roo demo'; }
# Ends in the handshake: a name that Roo does not serve gets no certificate of any kind.
refused() {
  local code=0
  ask "$1" / >/dev/null 2>&1 || code=$?
  [ "$code" = 35 ]
}
redirects() {
  local location
  location=$(curl -sS --max-time 10 -o /dev/null -w '%{http_code} %{redirect_url}' \
    --resolve "$1:$http:127.0.0.1" "http://$1:$http/path?q=1")
  echo "$location"
  [[ $location == 308\ https://$1*/path?q=1 ]]
}
has_route() { roo kv get "com.roo.host:$1:https"; }
fetch_root() { roo ca root >"$work/root.pem" && grep 'BEGIN CERTIFICATE' "$work/root.pem"; }

# in_task COMMAND...: in the network of Roo's task, where its API is reachable.
in_task() { nsenter -t "$(docker inspect -f '{{.State.Pid}}' "$(container roo_roo)")" -n "$@"; }

deploy() { docker stack deploy --resolve-image never -c "$here/$1" "$2" >/dev/null 2>"$work/deploy" || { cat "$work/deploy"; false; }; }

trap clean_up EXIT
trap 'exit 1' INT TERM

# --- What the machine has --------------------------------------------------------------------------------------------

command -v docker >/dev/null || skip "no docker command on this machine (Debian: docker.io)"
docker info >"$work/out" 2>&1 || skip "no Docker engine answers: $(tail -n 1 "$work/out")"
for tool in curl nsenter; do
  command -v "$tool" >/dev/null || skip "$tool is missing (Debian: curl, util-linux)"
done
swarm=$(docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}')
case $swarm in
  'inactive false' | 'active true') ;;
  *) skip "this engine is in a swarm that it does not manage ($swarm)" ;;
esac
docker image inspect "$image" >/dev/null 2>&1 || refuse "there is no image $image: make image"
if [ "$swarm" = 'active true' ]; then
  for stack in roo test; do
    [ -z "$(docker service ls -q --filter "label=com.docker.stack.namespace=$stack")" ] ||
      refuse "a stack named $stack runs here and is not touched; take it down first: docker stack rm $stack"
  done
  [ -z "$(docker service ls -q --filter name=manual)" ] || refuse "a service named manual runs here and is not touched"
fi
docker volume inspect roo_roo-data >/dev/null 2>&1 &&
  refuse "a volume roo_roo-data exists and is not touched; if it is of no use: docker volume rm roo_roo-data"

# Settings of the calling shell must not change what is tested.
for name in "${!ROO_@}"; do unset "$name"; done
http=$(free_port)
https=$(free_port)
while [ "$https" = "$http" ]; do https=$(free_port); done
export ROO_IMAGE=$image ROO_PUBLISH_HTTP=$http ROO_PUBLISH_HTTPS=$https
export ROO_ACME_DIRECTORY=internal ROO_DEBUG=true
export TEST_HOST=test.localhost OTHER_HOST=other.localhost

# --- The swarm -------------------------------------------------------------------------------------------------------

if [ "$swarm" = 'inactive false' ]; then
  docker network inspect docker_gwbridge >/dev/null 2>&1 || made_bridge=yes
  made_swarm=yes
  must "docker swarm init" docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377
fi
if ! docker network inspect forenet >/dev/null 2>&1; then
  made_network=yes
  must "the network forenet is made" docker network create -d overlay --attachable forenet
fi
node=$(docker info --format '{{.Swarm.NodeID}}')
if [ "$(docker node inspect --format '{{index .Spec.Labels "load_balancer"}}' "$node")" != true ]; then
  made_label=$node
  must "the node is labelled load_balancer=true" docker node update --label-add load_balancer=true "$node"
fi

# --- Roo -------------------------------------------------------------------------------------------------------------

made_stacks=yes
must "docker stack deploy -c roo-docker-compose.yml roo" deploy roo-docker-compose.yml roo
must "Roo is healthy" eventually healthy
step "the API and Raft are not published" \
  never grep -qE '6299|6300' <(docker port "$(container roo_roo)")

# --- Labels become routes --------------------------------------------------------------------------------------------

started=${EPOCHREALTIME/./}
must "docker stack deploy -c misc/test-stack.yml test" deploy misc/test-stack.yml test
must "Roo's own root certificate is handed out" eventually fetch_root # made with the first certificate
step "a service with labels on its containers answers over TLS by name" eventually answers test.localhost
step "a service with deploy.labels answers over TLS by name" eventually answers other.localhost
say "both within $(((${EPOCHREALTIME/./} - started) / 1000)) ms after the deploy"
step "plain http is redirected" redirects test.localhost
step "a name without a route ends in the handshake" refused stranger.localhost

# --- A route by hand, and what remains -------------------------------------------------------------------------------

must "a service without labels starts" docker service create --detach --name manual --network forenet --no-healthcheck \
  --no-resolve-image --mount type=tmpfs,target=/data "$image" demo --listen :80
step "a route is written by hand" roo kv put com.roo.host:manual.localhost:https http://manual:80
step "the route by hand answers over TLS by name" eventually answers manual.localhost

# --- Profiles inside the image, under load ---------------------------------------------------------------------------

# profile NAME QUERY: fetches one while requests are answered.
profile() { in_task curl -sS --fail --max-time 30 -o "$work/$1" "http://127.0.0.1:6299/debug/pprof/$1$2"; }
names_roo() { zcat -f "$work/$1" | holds 'roo_proxy'; }
go_reads() { go tool pprof -top "$work/$1" 2>&1 | holds 'flat%'; }
same_container() { [ "$(container roo_roo)" = "$before" ]; }

if [ "$(id -u)" != 0 ]; then
  say "not tested: profiles (only root may enter the task's network)"
else
  before=$(container roo_roo)
  while :; do
    curl -sS -o /dev/null --cacert "$work/root.pem" --resolve "test.localhost:$https:127.0.0.1" \
      "https://test.localhost:$https/?[1-200]" >/dev/null 2>&1 || sleep 0.1
  done &
  load=$!
  step "a CPU profile is taken under load" profile profile '?seconds=3'
  step "a heap profile is taken under load" profile heap ''
  kill "$load"
  wait "$load" 2>/dev/null || true
  load=
  step "the CPU profile has Roo's own function names" names_roo profile
  if command -v go >/dev/null; then
    step "go tool pprof reads the CPU profile" go_reads profile
    step "go tool pprof reads the heap profile" go_reads heap
  else
    say "not tested: go tool pprof (no go on this machine)"
  fi
  step "the process took no harm" same_container
  step "it still answers" answers test.localhost
fi

# --- A new task finds its data ---------------------------------------------------------------------------------------

replaced() { [ -n "$(container roo_roo)" ] && [ "$(container roo_roo)" != "$before" ] && healthy; }
same_root() { cp "$work/root.pem" "$work/old.pem" && fetch_root && cmp "$work/root.pem" "$work/old.pem"; }

before=$(container roo_roo)
step "the task is replaced" docker service update --detach --force roo_roo
must "the new task is healthy" eventually replaced
step "the route by hand is still there" eventually has_route manual.localhost
step "the certificate authority is the same" same_root
step "all three names answer as before" eventually eval 'answers test.localhost && answers other.localhost && answers manual.localhost'

# --- Routes go with their services -----------------------------------------------------------------------------------

step "docker stack rm test" docker stack rm test
step "the routes of the stack go" eventually never eval 'has_route test.localhost || has_route other.localhost'
step "its names end in the handshake again" eventually eval 'refused test.localhost && refused other.localhost'
step "the route by hand stays" has_route manual.localhost
step "and answers" answers manual.localhost

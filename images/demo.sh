#!/usr/bin/env bash
# The three patterns at work, step by step: `make demo`.
#
#   ONCE=1                       verify every step, leave, and exit non-zero with the reason if one fails
#   DEMO_MODE=pods|processes     default: pods where podman works, else plain processes
#   PORT_HTTP=N PORT_GIT=N ...   fixed ports; otherwise free ones of 127.0.0.1
#
# Ctrl-C removes everything again. What a killed run left behind is removed at the next start.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. images/lib.sh
export PATH=$PATH:/usr/sbin:/sbin

HERE=$PWD/target/demo
PIDS=$HERE/pids
PATIENCE=60

# ---------------------------------------------------------------- telling

if [ -t 1 ]; then BOLD=$'\e[1m' DIM=$'\e[2m' GREEN=$'\e[32m' RED=$'\e[31m' PLAIN=$'\e[0m'; else BOLD='' DIM='' GREEN='' RED='' PLAIN=''; fi
STEPS=0

title() { printf '\n%s%s%s\n' "$BOLD" "$*" "$PLAIN"; }
explain() { printf '  %s\n' "$*"; }
shown() { printf '  %s$ %s%s\n' "$DIM" "$*" "$PLAIN"; }

# A step that must come true within PATIENCE seconds: expect SENTENCE COMMAND...
expect() {
  local sentence=$1
  shift
  if eventually "$PATIENCE" "$@"; then
    STEPS=$((STEPS + 1))
    printf '  %s✓%s %s\n' "$GREEN" "$PLAIN" "$sentence"
  else
    printf '  %s✗%s %s\n' "$RED" "$PLAIN" "$sentence" >&2
    show_logs >&2
    die "step failed: $sentence (waited $PATIENCE s for: $*)"
  fi
}

# ---------------------------------------------------------------- processes that are ours

start_time() { sed -E 's/.*\) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

# Starts a process in the background and remembers it; its output goes to a file.
spawn() { # NAME COMMAND...
  local name=$1 pid
  shift
  "$@" >"$HERE/$name.log" 2>&1 </dev/null 9>&- &
  pid=$!
  echo "$pid $(start_time "$pid") $name" >>"$PIDS"
}

# Ends what this or an earlier run started; a process id that now belongs to another is left alone.
end_processes() {
  [ -e "$PIDS" ] || return 0
  local pid started name left=()
  while read -r pid started name; do
    if [ -z "$started" ] || gone "$pid" "$started"; then continue; fi
    kill "$pid" 2>/dev/null || true
    left+=("$pid $started")
  done <"$PIDS"
  for name in "${left[@]}"; do
    read -r pid started <<<"$name"
    eventually 5 gone "$pid" "$started" || kill -9 "$pid" 2>/dev/null || true
  done
  rm -f "$PIDS"
}

gone() { [ "$(start_time "$1")" != "$2" ]; }

clean_up() {
  trap '' INT TERM
  end_processes
  if [ -e "$HERE/pods" ]; then
    images/pods/play.sh down || return
    rm -f "$HERE/pods"
  fi
}

leave() {
  local status=$?
  [ -z "${MODE:-}" ] || say "
Cleaning up."
  clean_up
  exit "$status"
}

show_logs() {
  local log name
  if [ "$MODE" = pods ]; then
    for name in $(podman ps -a --filter pod=gitsync-nginx --filter pod=redis-ambassador --filter pod=metrics-adapter --format '{{.Names}}'); do
      case $name in *-infra) continue ;; esac
      printf -- '--- %s\n' "$name"
      podman logs --tail 8 "$name" 2>&1 || true
    done
  else
    for log in "$HERE"/*.log; do
      printf -- '--- %s\n' "$log"
      tail -n 8 "$log"
    done
  fi
}

# ---------------------------------------------------------------- what differs between pods and processes

# Brings a pattern up and puts the ports it prints into variables: http -> ADDRESS_HTTP=127.0.0.1:N
up() {
  local line name
  "up_in_$MODE" "$1" >"$HERE/addresses" || die "$(tail -n 5 "$HERE/addresses") ($1 did not start)"
  while IFS= read -r line; do
    name=${line%%=*}
    printf -v "ADDRESS_$(variable_name "$name")" %s "${line#*=}"
  done <"$HERE/addresses"
}

up_in_pods() {
  touch "$HERE/pods"
  # Without the lock's descriptor, which the containers' monitors would otherwise keep after a crash.
  images/pods/play.sh up "$1" 9>&-
}

port_for() { # VARIABLE NAME: the asked-for port or a free one, told as `up` expects it
  local asked
  asked=PORT_$(variable_name "$2")
  if [ -n "${!asked:-}" ]; then printf -v "$1" %s "${!asked}"; else free_port "$1"; fi
  say "$2=127.0.0.1:${!1}"
}

up_in_processes() { "processes_of_${1//-/_}"; }

processes_of_gitsync_nginx() {
  local git http admin
  port_for git git
  port_for http http
  port_for admin gitsync
  mkdir -p "$HERE/git" "$HERE/run" "$HERE/volume" "$HERE/nginx"
  SITE_ROOT=$HERE/git RUN_DIR=$HERE/run LISTEN=127.0.0.1 PORT=$git spawn git-server images/apps/git-server/serve.sh
  eventually "$PATIENCE" curl -fsS -o "$HERE/out" "http://127.0.0.1:$git/healthz" 2>/dev/null
  spawn gitsync "$(static_folder)/gitsync" --repo="http://127.0.0.1:$git/site.git" --ref=main --root="$HERE/volume" \
    --link=site --depth=1 --period=2s --http-bind="127.0.0.1:$admin"
  # One process, so that a demo of root's may read root's files.
  sed -e 's|^daemon off;|daemon off; master_process off;|' -e "s|/tmp/|$HERE/nginx/|g" -e "s|root /git/site|root $HERE/volume/site|" \
    -e "s|listen 8080|listen 127.0.0.1:$http|" \
    images/apps/nginx/nginx.conf >"$HERE/nginx.conf"
  spawn nginx nginx -e stderr -p "$HERE/nginx" -c "$HERE/nginx.conf"
}

processes_of_redis_ambassador() {
  local name port primary='' admin listen servers=()
  for name in redis-primary redis-replica-1 redis-replica-2; do
    port_for port "$name"
    mkdir -p "$HERE/$name"
    if [ -z "$primary" ]; then
      primary=$port
      spawn "$name" redis-server --bind 127.0.0.1 --port "$port" --dir "$HERE/$name" --save '' --appendonly no
      servers+=("--primary=127.0.0.1:$port")
    else
      spawn "$name" redis-server --bind 127.0.0.1 --port "$port" --dir "$HERE/$name" --save '' --appendonly no \
        --replicaof 127.0.0.1 "$primary"
      servers+=("--replica=127.0.0.1:$port")
    fi
  done
  port_for listen redis
  port_for admin admin
  spawn redis-ambassador "$(static_folder)/redis-ambassador" --listen="127.0.0.1:$listen" "${servers[@]}" \
    --admin-listen="127.0.0.1:$admin"
  REDIS_PORT=$listen spawn app images/apps/redis/visits.sh
}

processes_of_metrics_adapter() {
  local statsd web jmx registry prometheus
  free_port statsd
  free_port registry
  port_for web statsd-metrics
  port_for jmx jmx-metrics
  port_for prometheus prometheus
  echo "$statsd" >"$HERE/statsd-port"
  spawn statsd-adapter "$(static_folder)/metrics-adapter" statsd --statsd.listen-udp="127.0.0.1:$statsd" \
    --statsd.listen-tcp="127.0.0.1:$statsd" --web.listen-address="127.0.0.1:$web"
  STATSD_PORT=$statsd spawn statsd-app images/apps/statsd-app/emit.sh
  mkdir -p "$HERE/classes"
  javac -d "$HERE/classes" images/apps/jvm-app/Shop.java
  spawn jvm-app java -Xmx48m -XX:+UseSerialGC -Djava.rmi.server.hostname=127.0.0.1 \
    -Dcom.sun.management.jmxremote.host=127.0.0.1 -Dcom.sun.management.jmxremote.port="$registry" \
    -Dcom.sun.management.jmxremote.rmi.port="$registry" -Dcom.sun.management.jmxremote.authenticate=false \
    -Dcom.sun.management.jmxremote.ssl=false -cp "$HERE/classes" Shop eu us
  # The rules are those of the Pod's ConfigMap.
  awk '/^  jmx.yaml: /{inside = 1; next} inside && !/^    /{exit} inside {print substr($0, 5)}' images/pods/metrics-adapter.yaml |
    sed "s/127.0.0.1:9010/127.0.0.1:$registry/" >"$HERE/jmx.yaml"
  spawn jmx-adapter "$(static_folder)/metrics-adapter" jmx "127.0.0.1:$jmx" "$HERE/jmx.yaml"
  printf '%s\n' 'global: {scrape_interval: 2s, scrape_timeout: 2s}' 'scrape_configs:' \
    "- {job_name: statsd, static_configs: [{targets: ['127.0.0.1:$web']}]}" \
    "- {job_name: jmx, static_configs: [{targets: ['127.0.0.1:$jmx']}]}" >"$HERE/prometheus.yml"
  spawn prometheus prometheus --config.file="$HERE/prometheus.yml" --storage.tsdb.path="$HERE/prometheus" \
    --web.listen-address="127.0.0.1:$prometheus"
}

# What the application in the Pod does: it talks to "the Redis on localhost".
app_redis() {
  if [ "$MODE" = pods ]; then
    podman exec redis-ambassador-app redis-cli -h 127.0.0.1 "$@"
  else
    redis-cli -h 127.0.0.1 -p "${ADDRESS_REDIS##*:}" "$@"
  fi
}

# Asks one server directly, behind the ambassador's back.
server_redis() { # NAME WORDS...
  local address
  address=ADDRESS_$(variable_name "$1")
  shift
  redis-cli -h 127.0.0.1 -p "${!address##*:}" "$@"
}

emit_statsd() {
  if [ "$MODE" = pods ]; then
    podman exec metrics-adapter-statsd-app /bin/bash -c "printf '%s' '$1' >/dev/udp/127.0.0.1/9125"
  else
    printf '%s' "$1" >"/dev/udp/127.0.0.1/$(cat "$HERE/statsd-port")"
  fi
}

# ---------------------------------------------------------------- checks

page() { curl -fsS --max-time 5 "http://$1" 2>/dev/null; }
page_has() { page "$1" | grep -qE -- "$2"; }
calls_of() { server_redis "$1" INFO commandstats | sed -nE "s/^cmdstat_$2:calls=([0-9]+).*/\1/p" | grep . || echo 0; }
equals() { [ "$("${@:2}" 2>/dev/null)" = "$1" ]; }
replica_in_sync() { server_redis "$1" INFO replication | grep -q 'master_link_status:up'; }
prometheus_knows() { page "$ADDRESS_PROMETHEUS/api/v1/query?query=$1" | grep -q '"value":'; }

# ---------------------------------------------------------------- the story

push_page() { # HEADLINE
  local work=$HERE/work
  if [ ! -d "$work/.git" ]; then git clone --quiet "http://$ADDRESS_GIT/site.git" "$work" 2>/dev/null; fi
  printf '<!doctype html>\n<meta charset="utf-8">\n<meta http-equiv="refresh" content="2">\n<title>gitsync</title>\n<h1>%s</h1>\n' \
    "$1" >"$work/index.html"
  git -C "$work" add index.html
  git -C "$work" -c user.name=demo -c user.email=demo@localhost commit --quiet -m "$1"
  git -C "$work" push --quiet origin HEAD:main 2>/dev/null
}

story_of_gitsync() {
  title '1. gitsync beside nginx: push is deploy'
  explain 'nginx serves a folder that it shares with gitsync; gitsync keeps the folder equal to a git branch.'
  up gitsync-nginx
  expect "nginx serves the repository's first commit" page_has "$ADDRESS_HTTP/" 'Hello from the first commit'
  expect 'gitsync says it is ready' page_has "$ADDRESS_GITSYNC/readyz" ''
  local headline start
  headline="Deployed at $(date +%H:%M:%S)"
  shown "git commit -am '$headline' && git push"
  push_page "$headline" || die 'git push to the demo repository failed'
  start=$(date +%s%N)
  expect 'the page shows the new commit, without a restart of anything' page_has "$ADDRESS_HTTP/" "$headline"
  explain "It took $((($(date +%s%N) - start) / 1000000)) ms from the end of the push; gitsync looks every 2 s."
}

story_of_redis() {
  local reads_before reads_after name word answered='' i
  title '2. redis-ambassador beside an application: one plain Redis on localhost'
  explain 'The application knows only 127.0.0.1. The ambassador sends writes to the primary and spreads reads over two replicas.'
  up redis-ambassador
  expect 'both replicas follow the primary' replica_in_sync redis-replica-1
  expect 'the ambassador answers as Redis does' equals PONG app_redis PING
  expect 'the ambassador says it is ready' page_has "$ADDRESS_ADMIN/readyz" ''
  word="hello-$RANDOM"
  shown "redis-cli SET greeting $word"
  expect 'the write is accepted' equals OK app_redis SET greeting "$word"
  expect 'the primary has it' equals "$word" server_redis redis-primary GET greeting
  expect 'and so has replica 1' equals "$word" server_redis redis-replica-1 GET greeting
  expect 'and replica 2' equals "$word" server_redis redis-replica-2 GET greeting
  reads_before=$(($(calls_of redis-replica-1 get) + $(calls_of redis-replica-2 get)))
  shown 'redis-cli GET greeting    (20 times)'
  for i in $(seq 20); do [ "$(app_redis GET greeting)" = "$word" ] || die "read $i through the ambassador gave another value"; done
  reads_after=$(($(calls_of redis-replica-1 get) + $(calls_of redis-replica-2 get)))
  expect 'every read gave the value back' true
  for name in redis-primary redis-replica-1 redis-replica-2; do
    answered="$answered  $name: $(calls_of "$name" set) writes, $(calls_of "$name" get) reads;"
  done
  explain "Who answered so far, by the servers' own count:$answered"
  expect 'the replicas answered the reads' test "$((reads_after - reads_before))" -ge 15
  expect "the ambassador's own figures are on its metrics page" page_has "$ADDRESS_ADMIN/metrics" '^redis_ambassador_'
}

story_of_metrics() {
  local amount=$((RANDOM % 900 + 100))
  title '3. metrics-adapter beside two applications: StatsD and JMX become one Prometheus format'
  explain 'One application sends StatsD lines to localhost, another is a JVM with MBeans; neither knows Prometheus.'
  up metrics-adapter
  expect 'the StatsD application shows up as Prometheus families' page_has "$ADDRESS_STATSD_METRICS/metrics" '^checkout_requests\{method="get"\} [0-9]'
  shown "echo 'demo.orders:$amount|c|#shop:berlin' > /dev/udp/127.0.0.1/9125"
  emit_statsd "demo.orders:$amount|c|#shop:berlin"
  expect 'the line just sent is a counter on the page' page_has "$ADDRESS_STATSD_METRICS/metrics" "^demo_orders\\{shop=\"berlin\"\\} $amount"
  page "$ADDRESS_STATSD_METRICS/metrics" | grep -E 'demo_orders' | sed 's/^/    /'
  expect "the JVM's beans are on the page, read over JMX without a JVM of our own" \
    page_has "$ADDRESS_JMX_METRICS/metrics" '^shop_orders_placed_total\{.*region="eu".*\} [0-9.]+'
  page "$ADDRESS_JMX_METRICS/metrics" | grep -E '^(# TYPE )?(shop_orders_placed_total|jvm_heap_used_bytes)' | sed 's/^/    /'
  expect 'a real Prometheus scrapes the StatsD side' prometheus_knows demo_orders
  expect 'and the JMX side' prometheus_knows shop_orders_placed_total
}

addresses() {
  title 'Open these'
  cat <<END
  the site                 http://$ADDRESS_HTTP/            (reloads itself)
  its repository           git clone http://$ADDRESS_GIT/site.git    push to it and watch the site
  gitsync                  http://$ADDRESS_GITSYNC/
  redis-ambassador         http://$ADDRESS_ADMIN/
  StatsD adapter           http://$ADDRESS_STATSD_METRICS/metrics
  JMX adapter              http://$ADDRESS_JMX_METRICS/metrics
  Prometheus               http://$ADDRESS_PROMETHEUS/
END
}

play_along() {
  title 'Your turn'
  explain 'p  push another commit      w  write and read through the ambassador'
  explain 's  send a StatsD line       q  leave (so does Ctrl-C)'
  local key
  while read -rsn1 key; do
    case $key in
      p) push_page "Deployed at $(date +%H:%M:%S)" && explain "pushed; watch http://$ADDRESS_HTTP/" ;;
      w) explain "SET greeting: $(app_redis SET greeting "$(date +%T)"); GET greeting: $(app_redis GET greeting)" ;;
      s) emit_statsd 'demo.orders:1|c|#shop:berlin' && explain "$(page "$ADDRESS_STATSD_METRICS/metrics" | grep '^demo_orders')" ;;
      q) return ;;
    esac
  done
  # No keyboard: stay until a signal comes.
  while :; do sleep 1 9>&-; done
}

# ---------------------------------------------------------------- getting ready

choose_mode() {
  case ${DEMO_MODE:-} in
    pods) try_pods || die "pods do not work here: $PODMAN_WHY" ;;
    processes) MODE=processes ;;
    '')
      if try_pods; then return; fi
      [ -z "${CI:-}" ] || die "pods do not work here, and CI must not skip them: $PODMAN_WHY"
      warn "pods do not work here: $PODMAN_WHY"
      warn 'the three patterns run as plain processes instead'
      MODE=processes ;;
    *) die "DEMO_MODE is '$DEMO_MODE'; it may be pods or processes" ;;
  esac
}

try_pods() {
  PODMAN_WHY='container tools are missing'
  images/setup.sh pods || return 1
  have podman || { PODMAN_WHY='podman is not installed'; return 1; }
  ENGINE=podman images/build.sh || die 'the images could not be built'
  ENGINE=podman images/apps/build.sh nginx git-server redis jvm-app statsd-app prometheus || die 'the application images could not be built'
  use_podman "$IMAGE_PREFIX/gitsync:latest" || return 1
  MODE=pods
}

main() {
  mkdir -p "$HERE"
  exec 9>"$HERE/lock"
  flock -n 9 || die 'another demo of this folder is running'
  clean_up
  find "$HERE" -mindepth 1 -maxdepth 1 ! -name lock -exec rm -rf {} +
  trap leave EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  title 'Getting ready: programs, binaries, images (the first time takes some minutes)'
  images/setup.sh build apps
  choose_mode
  [ "$MODE" = pods ] || ONLY_BINARIES=1 images/build.sh
  explain "The patterns run as $MODE."
  story_of_gitsync
  story_of_redis
  story_of_metrics
  if [ -n "${ONCE:-}" ]; then
    title "All $STEPS steps verified ($MODE)."
    return
  fi
  addresses
  play_along
}

main "$@"

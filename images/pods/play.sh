#!/usr/bin/env bash
# Runs an example Pod, and what it needs beside it, with podman.
#
#   images/pods/play.sh up PATTERN      prints NAME=HOST:PORT for each port, published on 127.0.0.1
#   images/pods/play.sh down [PATTERN]  removes it; without a name everything that `up` left
#   images/pods/play.sh env             the setting to prefix podman commands with, if any
#
# PATTERN: gitsync-nginx redis-ambassador metrics-adapter
# PORT_<NAME>=N fixes a port, e.g. PORT_HTTP=8080; otherwise free ones are taken.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. images/lib.sh

NETWORK="pattern-containers"
PATTERNS='gitsync-nginx redis-ambassador metrics-adapter'

manifests_of() {
  case $1 in
    gitsync-nginx) echo backing/git-server gitsync-nginx ;;
    redis-ambassador) echo backing/redis-servers redis-ambassador ;;
    metrics-adapter) echo metrics-adapter backing/prometheus ;;
    *) die "unknown pattern '$1' ($PATTERNS)" ;;
  esac
}

pods_of() { awk '/^kind: /{kind = $2} /^  name: /{if (kind == "Pod") print $2; kind = ""}' "images/pods/$1.yaml"; }

# podman keeps emptyDir and configMap volumes under their plain names.
volumes_of() {
  awk '$1 == "-" && $2 == "name:" {name = $3} $1 == "emptyDir:" {print name} $1 == "configMap:" {getline; print $2}' \
    "images/pods/$1.yaml"
}

# The port names of a manifest, in the order of the file.
named_ports() { awk '$1 == "-" && $2 == "name:" {name = $3} $1 == "containerPort:" {print name}' "images/pods/$1.yaml"; }

# Two things differ between Kubernetes and podman, and are adapted here and not in the manifests:
# - ports are published on the host's loopback, which hostPort would wrongly ask of Kubernetes (podman
#   would otherwise publish each containerPort on every address of the host);
# - podman runs an httpGet probe as `curl` inside the container; an image with one binary has none, and
#   the container would be restarted for ever. Liveness probes are left to Kubernetes.
render() { # MANIFEST "hostport ...", one for each containerPort in the order of the file
  awk -v published="$2" '
    BEGIN { split(published, host, " ") }
    function indent(line) { match(line, /^ */); return RLENGTH }
    skipping && indent($0) > depth { next }
    { skipping = 0 }
    $1 == "livenessProbe:" { skipping = 1; depth = indent($0); next }
    { print }
    $1 == "containerPort:" {
      pad = substr($0, 1, indent($0)); print pad "hostIP: 127.0.0.1"; print pad "hostPort: " host[++port] }
  ' "images/pods/$1.yaml"
}

require_podman() {
  have podman || die 'podman is not installed (images/setup.sh pods)'
  podman image inspect "$IMAGE_PREFIX/gitsync:latest" >/dev/null 2>&1 || die 'the images are not built: make images app-images'
  use_podman "$IMAGE_PREFIX/gitsync:latest" || die "podman cannot run containers here: $PODMAN_WHY"
}

ensure_network() {
  podman network exists "$NETWORK" || podman network create --label pattern-containers=1 "$NETWORK" >/dev/null
  podman network inspect "$NETWORK" | grep -q '"dns_enabled": true' ||
    die "pods cannot find each other by name: the DNS companion of podman's network backend is missing (images/setup.sh pods)"
}

up_manifest() {
  local manifest=$1 name host published='' variable
  while read -r name; do
    variable=PORT_$(variable_name "$name")
    host=${!variable:-}
    [ -n "$host" ] || free_port host
    published="$published $host"
    say "$name=127.0.0.1:$host"
  done < <(named_ports "$manifest")
  mkdir -p "$STATE/pods"
  local rendered log
  rendered=$STATE/pods/$(basename "$manifest").yaml
  log=$STATE/pods/$(basename "$manifest").log
  render "$manifest" "$published" >"$rendered"
  podman play kube --network "$NETWORK" "$rendered" >"$log" 2>&1 8>&- || { cat "$log" >&2; die "podman could not start $rendered"; }
  ! grep -q '^Error' "$log" || { cat "$log" >&2; die "podman could not start $rendered"; }
}

ours() { [ "$(podman pod inspect "$1" --format '{{index .Labels "app.kubernetes.io/part-of"}}' 2>/dev/null)" = pattern-containers ]; }

# All at once, because podman takes seconds for each. Examples hold nothing worth a grace period.
down() {
  local pattern manifest pod pods=() volume
  for pattern in "$@"; do
    for manifest in $(manifests_of "$pattern"); do
      for pod in $(pods_of "$manifest"); do
        podman pod exists "$pod" || continue
        ours "$pod" || die "a pod named $pod is there that is not ours; it is left alone"
        pods+=("$pod")
        podman pod rm --force --time 0 "$pod" >/dev/null 2>&1 8>&- &
      done
    done
  done
  wait
  for pod in ${pods[@]+"${pods[@]}"}; do
    podman pod exists "$pod" || continue
    podman pod rm --force --time 0 "$pod" >/dev/null || die "pod $pod could not be removed"
  done
  for pattern in "$@"; do
    for manifest in $(manifests_of "$pattern"); do
      for volume in $(volumes_of "$manifest"); do podman volume rm --force "$volume" >/dev/null 2>&1 || true; done
    done
  done
  [ "$#" = 1 ] || podman network rm "$NETWORK" >/dev/null 2>&1 || true
}

main() {
  local command=${1:-} manifest
  mkdir -p "$STATE"
  # One at a time: they share a network and volumes. Containers must not inherit the lock.
  exec 8>"$STATE/lock"
  flock 8
  case $command in
    up)
      manifests_of "${2:-}" >/dev/null
      require_podman
      down "$2"
      ensure_network
      for manifest in $(manifests_of "$2"); do up_manifest "$manifest"; done ;;
    down)
      [ -n "${2:-}" ] || set -- down "$PATTERNS"
      for manifest in $2; do manifests_of "$manifest" >/dev/null; done
      have podman || exit 0
      recall_podman_settings
      # shellcheck disable=SC2086 # a list of names
      down $2 ;;
    env) require_podman; say "${CONTAINERS_CONF:+CONTAINERS_CONF=$CONTAINERS_CONF}" ;;
    *) die "usage: images/pods/play.sh up|down|env ..." ;;
  esac
}

main "$@"

#!/usr/bin/env bash
# Shows that the images survive a registry: they are pushed to Debian's docker-registry, removed from this
# machine, and pulled into a Pod, which must serve; digests are the same on the way out and in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. images/lib.sh

WORK=$PWD/target/registry-check
POD=check-registry

ok() { say "ok  $*"; }

clean_up() {
  podman pod rm --force --ignore --time 2 "$POD" >/dev/null 2>&1 || true
  [ -z "${REGISTRY_PID:-}" ] || kill "$REGISTRY_PID" 2>/dev/null || true
}

start_registry() {
  local port
  free_port port
  REGISTRY=127.0.0.1:$port/team
  mkdir -p "$WORK/storage"
  {
    say 'version: 0.1'
    say 'log: {level: warn}'
    say "storage: {filesystem: {rootdirectory: \"$WORK/storage\"}}"
    say "http: {addr: \"127.0.0.1:$port\"}"
  } >"$WORK/registry.yml"
  docker-registry serve "$WORK/registry.yml" >"$WORK/registry.log" 2>&1 &
  REGISTRY_PID=$!
  eventually 20 curl -fs -o /dev/null --max-time 2 "http://127.0.0.1:$port/v2/" ||
    { cat "$WORK/registry.log" >&2; die 'docker-registry does not start'; }
}

# Both names of each image go, and with them its layers; they come back from the registry.
remove_locally() {
  local binary
  for binary in $BINARIES; do
    podman image rm "$IMAGE_PREFIX/$binary:latest" "$IMAGE_PREFIX/$binary:$(workspace_version)" >/dev/null
    if podman image exists "$IMAGE_PREFIX/$binary:latest"; then die "$binary is still on this machine"; fi
  done
}

write_pod() {
  sed "s|IMAGE|$REGISTRY/metrics-adapter:$(workspace_version)|; s|HOST_PORT|$1|" >"$WORK/pod.yaml" <<'YAML'
apiVersion: v1
kind: Pod
metadata:
  name: check-registry
spec:
  automountServiceAccountToken: false
  containers:
    - name: metrics-adapter
      image: IMAGE
      imagePullPolicy: Always
      args: [statsd, --web.listen-address=:9102]
      ports: [{containerPort: 9102, hostPort: HOST_PORT, hostIP: 127.0.0.1}]
      securityContext:
        runAsNonRoot: true
        readOnlyRootFilesystem: true
        allowPrivilegeEscalation: false
        capabilities: {drop: [ALL]}
YAML
}

serves() { curl -fsS --max-time 5 "http://127.0.0.1:$1/metrics" 2>/dev/null | grep -q "revision=\"$REVISION\""; }

check_pod() {
  local port
  free_port port
  write_pod "$port"
  podman play kube --tls-verify=false --quiet "$WORK/pod.yaml" >"$WORK/play.log" 2>&1 ||
    { cat "$WORK/play.log" >&2; die 'podman cannot run a Pod from the registry'; }
  eventually 30 serves "$port" || { podman pod logs "$POD" >&2; die 'the Pod from the registry does not serve'; }
  ok 'metrics-adapter: pulled into a Pod, which serves this revision'
}

# The digest under which the registry has it is the one it was pushed with, and the image works.
check_pulled() { # BINARY
  local reference said
  reference=$(sed -n "s|^\($REGISTRY/$1\):$(workspace_version)@\(.*\)|\1@\2|p" "$WORK/pushed")
  [ -n "$reference" ] || die "push named no digest for $1"
  podman pull --quiet --tls-verify=false "$reference" >/dev/null
  said=$(podman run --rm --network=none --read-only --cap-drop=ALL "$reference" --version)
  case $said in *"$REVISION"*) ;; *) die "$1 from the registry says '$said'" ;; esac
  podman tag "$reference" "$IMAGE_PREFIX/$1:latest" "$IMAGE_PREFIX/$1:$(workspace_version)"
  ok "$1: pushed, removed, pulled by digest, runs: ${reference##*@}"
}

main() {
  local binary
  have docker-registry || die 'docker-registry is missing (images/setup.sh test)'
  use_podman "$IMAGE_PREFIX/gitsync:latest" || die "podman cannot run containers here: $PODMAN_WHY"
  rm -rf "$WORK"
  mkdir -p "$WORK"
  trap clean_up EXIT
  REVISION=$(podman image inspect "$IMAGE_PREFIX/gitsync:latest" --format '{{index .Config.Labels "org.opencontainers.image.revision"}}')
  start_registry
  ENGINE=podman PLAIN_HTTP=1 ALLOW_DIRTY=1 images/push.sh "$REGISTRY" >"$WORK/pushed" 2>"$WORK/push.log" ||
    { cat "$WORK/push.log" >&2; die 'the push failed'; }
  ok "pushed to docker-registry: $(wc -l <"$WORK/pushed") tags"
  remove_locally
  check_pod
  for binary in $BINARIES; do check_pulled "$binary"; done
}

main "$@"

#!/usr/bin/env bash
# Pushes the three images of images/build.sh to a registry and prints the digests that it keeps them under.
#
#   images/push.sh REGISTRY[/PATH]      as in `make push REGISTRY=registry.example.com/team`
#
#   ENGINE=podman|buildah|docker   the engine that built them; default: the first that works
#   TAGS='1.2 latest'              more tags beside the version and the commit
#   PLAIN_HTTP=1                   a registry without TLS (docker: list it in insecure-registries instead)
#   ALLOW_DIRTY=1                  push although the tree differs from its commit
#
# Who you are comes from the engine's own log-in (`podman login`, `docker login`), never from here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. images/lib.sh

engine_label() { # ENGINE IMAGE LABEL
  case $1 in
    podman | docker) "$1" image inspect "$2" --format "{{index .Config.Labels \"org.opencontainers.image.$3\"}}" ;;
    buildah) buildah inspect --type image --format "{{index .OCIv1.Config.Labels \"org.opencontainers.image.$3\"}}" "$2" ;;
  esac
}

# Prints the digest.
push_one() { # ENGINE SOURCE DESTINATION
  local digest=$WORK/digest options=()
  [ -z "${PLAIN_HTTP:-}" ] || options=(--tls-verify=false)
  case $1 in
    podman | buildah) "$1" push --quiet "${options[@]}" --digestfile "$digest" "$2" "docker://$3" >&2 && cat "$digest" ;;
    docker) docker tag "$2" "$3" && docker push "$3" | tee /dev/stderr | sed -n 's/.*digest: \(sha256:[0-9a-f]*\).*/\1/p' ;;
  esac
}

main() {
  if [ $# != 1 ] || [ -z "$1" ]; then die 'usage: make push REGISTRY=registry.example.com/team'; fi
  local registry=${1%/} engine binary image version revision tag digest
  case $registry in *://*) die "REGISTRY is a name such as registry.example.com/team, without $registry's scheme" ;; esac
  engine=$(image_engine)
  recall_podman_settings
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  # All are looked at before the first is sent, so that a registry never holds half a version.
  for binary in $BINARIES; do
    image=$IMAGE_PREFIX/$binary:latest
    revision=$(engine_label "$engine" "$image" revision 2>/dev/null) || die "$image is not there: run \`make images\` first"
    case $revision in
      unknown | '') die "$image does not say which commit it was built from: build it from a git checkout" ;;
      *-dirty) [ -n "${ALLOW_DIRTY:-}" ] ||
        die "$image was built from a changed tree ($revision): commit and run \`make images\`, or set ALLOW_DIRTY=1" ;;
    esac
  done
  for binary in $BINARIES; do
    image=$IMAGE_PREFIX/$binary:latest
    version=$(engine_label "$engine" "$image" version)
    revision=$(engine_label "$engine" "$image" revision)
    # shellcheck disable=SC2086 # a list of tags
    for tag in "$version" "$revision" ${TAGS:-}; do
      digest=$(push_one "$engine" "$image" "$registry/$binary:$tag") || die "$registry does not take $binary:$tag"
      say "$registry/$binary:$tag@$digest"
    done
  done
}

main "$@"

#!/usr/bin/env bash
# Removes the images that this repository built. Pods must be gone (`make down`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. images/lib.sh

main() {
  local engine names
  for engine in podman docker; do
    have "$engine" || continue
    names=$("$engine" images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null | grep "^$IMAGE_PREFIX/" || true)
    # shellcheck disable=SC2086 # a list of names
    [ -z "$names" ] || "$engine" rmi $names >/dev/null
  done
}

main

#!/usr/bin/env bash
# Shows that one commit gives one image, whatever the folder: clones HEAD into two folders of different depth, builds
# an image in each from nothing, and compares the digests.
#
#   images/reproducible.sh [BINARY...]     default: redis-ambassador, which takes the least time
#
# With KEEP=1 the folders stay, for looking at a difference.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. images/lib.sh

WORK=$(mktemp -d)
FOLDERS=("$WORK/one" "$WORK/two/of/another/depth")

clean_up() { [ -n "${KEEP:-}" ] || rm -rf "$WORK"; }

# Prints `BINARY DIGEST` of each image, and the sums of what went into it.
build_in() { # FOLDER BINARY...
  local folder=$1 binary
  shift
  mkdir -p "$(dirname "$folder")"
  git clone --quiet "$PWD" "$folder"
  for binary in "$@"; do
    (
      unset CARGO_TARGET_DIR BUILD_REVISION
      cd "$folder"
      PATTERN_IMAGE_PREFIX=localhost/pattern-reproducible images/build.sh "$binary" >"$WORK/build.log" 2>&1
    ) || { tail -n 30 "$WORK/build.log" >&2; die "$folder does not build"; }
    say "$binary image $(podman image inspect "localhost/pattern-reproducible/$binary:latest" --format '{{.Id}} {{.Digest}}')"
    podman image rm "localhost/pattern-reproducible/$binary:latest" "localhost/pattern-reproducible/$binary:$(workspace_version)" >/dev/null
    (cd "$folder/target/images" && sha256sum "$binary/root/$binary" "sbom/$binary".*.json)
  done
}

main() {
  have podman || die 'digests are compared with podman, which is missing (images/setup.sh images)'
  recall_podman_settings
  trap clean_up EXIT
  [ $# -gt 0 ] || set -- redis-ambassador
  case $(revision) in *-dirty) warn 'the tree differs from its commit: the commit is what is built' ;; esac
  build_in "${FOLDERS[0]}" "$@" >"$WORK/first"
  build_in "${FOLDERS[1]}" "$@" >"$WORK/second"
  diff -u "$WORK/first" "$WORK/second" || die 'two folders gave two images'
  cat "$WORK/first"
  say "ok  the same from two folders: $*"
}

main "$@"

#!/usr/bin/env bash
# Shows that one commit gives one image, whatever the folder: builds HEAD here, from whatever was built before, and in a
# clone of another depth, from nothing, and compares digests and bills of materials.
#
#   images/reproducible.sh [BINARY...]     default: all three
#
# A tree with changes is no commit: then two clones are built. With KEEP=1 the clones stay, for looking at a difference.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. images/lib.sh

WORK=$(mktemp -d)

clean_up() { [ -n "${KEEP:-}" ] || rm -rf "$WORK"; }

# A clone of HEAD; prints its folder.
clone() { # FOLDER
  mkdir -p "$(dirname "$1")"
  git clone --quiet "$PWD" "$1"
  echo "$1"
}

# Prints `BINARY DIGEST` of each image, and the sums of what went into it.
build_in() { # FOLDER BINARY...
  local folder=$1 binary
  shift
  (
    unset BUILD_REVISION
    if [ "$folder" != "$PWD" ]; then unset CARGO_TARGET_DIR; fi
    cd "$folder"
    PATTERN_IMAGE_PREFIX=localhost/pattern-reproducible images/build.sh "$@" >"$WORK/build.log" 2>&1
  ) || { tail -n 30 "$WORK/build.log" >&2; die "$folder does not build"; }
  for binary in "$@"; do
    say "$binary image $(podman image inspect "localhost/pattern-reproducible/$binary:latest" --format '{{.Id}} {{.Digest}}')"
    podman image rm "localhost/pattern-reproducible/$binary:latest" "localhost/pattern-reproducible/$binary:$(workspace_version)" >/dev/null
    (cd "$folder/target/images" && sha256sum "$binary/root/$binary" "sbom/$binary".{cdx,spdx}.json)
  done
}

main() {
  local here=$PWD
  have podman || die 'digests are compared with podman, which is missing (images/setup.sh images)'
  recall_podman_settings
  trap clean_up EXIT
  # shellcheck disable=SC2086 # a list of names
  [ $# -gt 0 ] || set -- $BINARIES
  case $(revision) in *-dirty)
    warn 'the tree differs from its commit: the commit is what is built'
    here=$(clone "$WORK/one") ;;
  esac
  build_in "$here" "$@" >"$WORK/first"
  build_in "$(clone "$WORK/two/of/another/depth")" "$@" >"$WORK/second"
  diff -u "$WORK/first" "$WORK/second" || die 'two folders gave two images'
  cat "$WORK/first"
  say "ok  the same from two folders: $*"
}

main "$@"

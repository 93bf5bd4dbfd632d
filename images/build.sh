#!/usr/bin/env bash
# Builds the three images, each FROM scratch with one static binary, and prints their sizes.
#
#   images/build.sh [BINARY...]     default: all three
#
#   ENGINE=podman|buildah|docker    the engine; default: the first that works
#   ONLY_BINARIES=1                 stop after the static binaries
#   ALSO=PACKAGE                    build the binaries of this package beside them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. images/lib.sh

TRIPLE=$(host_triple)
STATIC=$(static_folder)
SBOM=target/images/sbom

# Relocations packed and equal functions folded: a twentieth of the size. Only where rustc brings lld, and where
# a static program's start-up code can unpack relocations (glibc 2.36).
linker_flags() {
  case $TRIPLE in x86_64-*-linux-gnu) ;; *) return 0 ;; esac
  printf '%s\x1f' -Clink-arg=-Wl,--icf=all
  local libc
  libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || return 0
  if [ "$(printf '%s\n' "${libc#glibc }" 2.36 | sort -V | head -n 1)" = 2.36 ]; then
    printf '%s\x1f' -Clink-arg=-Wl,-z,pack-relative-relocs
  fi
}

# What a program needs to be unwound, left out: the tables, and the list by which they are found. Only lld knows the way.
without_tables() {
  [ "$TRIPLE" = x86_64-unknown-linux-gnu ] || return 0
  echo -Clink-arg=-Wl,--no-eh-frame-hdr -Clink-arg=images/without-tables.ld
}

# With --target, RUSTFLAGS stay away from build scripts and proc-macros, which must not be static.
# Paths of this machine are mapped away: two checkouts of one commit give the same bytes, whatever the target folder.
# A panic ends gitsync as a whole: what is published stays, the next start goes on where it ended, and a sixth of the
# program would only be there for going on after a panic. The other two have clients, whom a panic must not cut off.
# C code is never unwound through: Rust stops a panic where C called it. So it needs no tables for that.
# Of zstd only its fastest and its best ways to compress: nobody here uses those in between. libgit2 uses the C library's
# regular expressions instead of an engine of its own, for the names of its settings.
# Cargo forgets the profile's `strip` where a binary's own package has an optimisation level, so it is said here.
build_binaries() {
  local package=() binary place
  local places=("$PWD=/src" "$(realpath -m "${CARGO_TARGET_DIR:-target}")=/src/target" "${CARGO_HOME:-$HOME/.cargo}=/cargo")
  for binary in "$@" ${ALSO:-}; do [ "$binary" = gitsync ] || package+=(--package "$binary"); done
  local smaller=(-UGIT_REGEX_BUILTIN -DGIT_REGEX_REGCOMP=1) way
  for way in DFAST GREEDY LAZY LAZY2 BTLAZY2; do smaller+=("-DZSTD_EXCLUDE_${way}_BLOCK_COMPRESSOR"); done
  local separator=$'\x1f' rust c
  rust="-Ctarget-feature=+crt-static$separator-Cstrip=symbols$separator$(linker_flags)"
  c="${CFLAGS:-} ${smaller[*]} -fno-asynchronous-unwind-tables"
  for place in "${places[@]}"; do
    rust+="--remap-path-prefix=$place$separator"
    c+=" -ffile-prefix-map=$place"
  done
  BUILD_REVISION=$(revision)
  export BUILD_REVISION CFLAGS=$c CARGO_ENCODED_RUSTFLAGS=${rust%"$separator"}
  local release=(--locked --release --target "$TRIPLE")
  if [ ${#package[@]} -gt 0 ]; then cargo build "${release[@]}" "${package[@]}" --bins; fi
  # What differs is told to the last step alone: with other RUSTFLAGS each of the two would build everything anew, every time.
  case " $* " in *' gitsync '*)
    # shellcheck disable=SC2046 # a list of arguments
    cargo rustc "${release[@]}" --config 'profile.release.panic="abort"' --package gitsync --bin gitsync -- $(without_tables) ;;
  esac
}

# A shared library would be missing in an empty image, so a dynamic binary is refused here and not
# found out in a pod.
require_static() {
  if ldd "$1" 2>&1 | grep -q '=>'; then die "$1 is not static: $(ldd "$1" | head -n 1)"; fi
}

# Debian's own list, without what the machine's owner may have added to the system bundle.
write_certificates() {
  local list=/usr/share/ca-certificates/mozilla
  [ -d "$list" ] || die "$list is missing: install ca-certificates (images/setup.sh images)"
  (export LC_ALL=C; cat "$list"/*.crt) >"$1"
}

# The crates of a binary are named in it, and in bills of materials beside the images.
describe() { # BINARY FILE
  local facts=(VERSION="$(workspace_version)" REVISION="$(revision)" SOURCE_DATE_EPOCH="$(source_date_epoch)" TRIPLE="$TRIPLE")
  env "${facts[@]}" images/sbom.py embed "$1" "$2"
  env "${facts[@]}" images/sbom.py write "$1" "$2" "$SBOM"
}

prepare_context() { # BINARY CONTEXT
  local binary=$1 context=$2
  rm -rf "$context"
  mkdir -p "$context/root/etc/ssl/certs"
  install -m 0755 "$STATIC/$binary" "$context/root/$binary"
  describe "$binary" "$context/root/$binary"
  write_certificates "$context/root/etc/ssl/certs/ca-certificates.crt"
  chmod 0644 "$context/root/etc/ssl/certs/ca-certificates.crt"
  chmod 0755 "$context/root" "$context/root/etc" "$context/root/etc/ssl" "$context/root/etc/ssl/certs"
  if [ "$binary" = gitsync ]; then
    mkdir -p "$context/writable/git"
    chmod 0755 "$context/writable"
    # Any UID may write here, as into a Kubernetes emptyDir.
    chmod 0777 "$context/writable/git"
  fi
}

build_image() { # BINARY
  local binary=$1 context=target/images/$1 epoch created
  epoch=$(source_date_epoch)
  created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
  prepare_context "$binary" "$context"
  local arguments=(
    --file "images/$binary/Containerfile"
    --build-arg "VERSION=$(workspace_version)" --build-arg "REVISION=$(revision)" --build-arg "CREATED=$created"
    --tag "$IMAGE_PREFIX/$binary:latest" --tag "$IMAGE_PREFIX/$binary:$(workspace_version)"
  )
  local log=target/images/$binary.log
  case $(image_engine) in
    podman) podman build --quiet --layers=false --timestamp "$epoch" "${arguments[@]}" "$context" ;;
    buildah) buildah build --quiet --layers=false --timestamp "$epoch" "${arguments[@]}" "$context" ;;
    docker) SOURCE_DATE_EPOCH=$epoch docker build --quiet "${arguments[@]}" "$context" ;;
  esac >"$log" 2>&1 || { cat "$log" >&2; die "the image of $binary could not be built"; }
}

bytes_of() { find "target/images/$1/root" -type f -printf '%s\n' | awk '{sum += $1} END {print sum}'; }

print_sizes() {
  local binary bytes limit too_large=''
  printf '\n%-18s %10s %10s  %s\n' image 'size MB' 'limit MB' name
  for binary in "$@"; do
    bytes=$(bytes_of "$binary") limit=$(size_limit "$binary")
    printf '%-18s %10s %10s  %s\n' "$binary" "$(awk -v b="$bytes" 'BEGIN {printf "%.2f", b / 1e6}')" \
      $((limit / 1000000)) "$IMAGE_PREFIX/$binary:$(workspace_version)"
    [ "$bytes" -le "$limit" ] || too_large+=" $binary"
  done
  [ -z "$too_large" ] || die "larger than its limit:$too_large"
}

main() {
  # shellcheck disable=SC2086 # a list of names
  [ $# -gt 0 ] || set -- $BINARIES
  local binary
  [ -n "${ONLY_BINARIES:-}" ] || image_engine >/dev/null
  build_binaries "$@"
  for binary in "$@"; do require_static "$STATIC/$binary"; done
  [ -z "${ONLY_BINARIES:-}" ] || return 0
  mkdir -p target/images
  for binary in "$@"; do build_image "$binary"; done
  print_sizes "$@"
  say "bills of materials (CycloneDX, SPDX): $SBOM"
}

main "$@"

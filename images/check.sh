#!/usr/bin/env bash
# Shows what the three images promise: what is in them, their size, and that they work with a read-only
# root, without any capability, under their seccomp profiles, as any user, and find servers by name although they hold no libc.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. images/lib.sh

NETWORK="pattern-check"
WORK=$PWD/target/image-check
# A UID that no image knows, and no group in common with it.
HARDENED=(--read-only --cap-drop=ALL --security-opt=no-new-privileges --user=123456:123456 --memory=128m)
# What is listed in the binary's own profile, and nothing else.
confined() { echo "--security-opt=seccomp=$PWD/images/seccomp/$1.json"; }
HELPERS='check-git check-redis check-ambassador check-jvm check-adapter'

ok() { say "ok  $*"; }
image() { echo "$IMAGE_PREFIX/$1:latest"; }
label() { podman image inspect "$(image "$1")" --format "{{index .Config.Labels \"org.opencontainers.image.$2\"}}"; }

remove_helpers() {
  # shellcheck disable=SC2086 # a list of names
  podman rm --force --ignore --time 2 $HELPERS >/dev/null 2>&1 || true
  podman network rm "$NETWORK" >/dev/null 2>&1 || true
}

equal() { [ "$2" = "$3" ] || die "$1 is '$2', expected '$3'"; }

# What a program was built for, by its own head.
architecture_of() { # FILE
  case $(od -An -tu2 -j18 -N2 "$1" | tr -d ' ') in 62) echo amd64 ;; 183) echo arm64 ;; *) echo "another than amd64 and arm64" ;; esac
}

check_facts() { # BINARY
  local binary=$1 field size limit
  equal "$binary: user" "$(podman image inspect "$(image "$binary")" --format '{{.Config.User}}')" 65533:65533
  equal "$binary: entry point" "$(podman image inspect "$(image "$binary")" --format '{{join .Config.Entrypoint " "}}')" "/$binary"
  equal "$binary: title" "$(label "$binary" title)" "$binary"
  equal "$binary: version" "$(label "$binary" version)" "$(workspace_version)"
  equal "$binary: revision" "$(label "$binary" revision)" "$(revision)"
  equal "$binary: licences" "$(label "$binary" licenses)" 'MIT OR Apache-2.0'
  equal "$binary: architecture" "$(podman image inspect "$(image "$binary")" --format '{{.Architecture}}')" \
    "$(architecture_of "target/images/$binary/root/$binary")"
  for field in source description created; do [ -n "$(label "$binary" "$field")" ] || die "$binary has no label $field"; done
  size=$(podman image inspect "$(image "$binary")" --format '{{.Size}}')
  limit=$(size_limit "$binary")
  [ "$size" -le "$limit" ] || die "$binary takes $size bytes, more than $limit"
  ok "$binary: labels, numeric user, $(awk -v b="$size" 'BEGIN {printf "%.2f", b / 1e6}') MB"
}

check_content() { # BINARY
  local binary=$1 container expected
  container=$(podman create "$(image "$binary")")
  # What the engine itself adds to every container is not ours.
  podman export "$container" | tar -t | grep -vE '/$|^(dev|proc|sys|run|etc/(hosts|hostname|resolv.conf|mtab))' | sort >"$WORK/content"
  podman rm "$container" >/dev/null
  expected=$(printf '%s\n' "$binary" etc/ssl/certs/ca-certificates.crt | sort)
  equal "$binary: files" "$(cat "$WORK/content")" "$expected"
  ok "$binary: one binary and CA certificates, nothing else"
}

check_version() { # BINARY
  local said
  said=$(podman run --rm --network=none "${HARDENED[@]}" "$(confined "$1")" "$(image "$1")" --version)
  case $said in *"$(workspace_version)"*"$(revision)"*) ok "$1: starts read-only, without capabilities, as UID 123456: $said" ;;
    *) die "$1 --version says '$said', expected version $(workspace_version) and revision $(revision)" ;; esac
}

# What a profile must not let through: other processes' memory, the kernel's own interfaces, new namespaces, and sockets
# of other families than the usual three.
check_profile() { # BINARY
  python3 - "$1" "images/seccomp/$1.json" <<'PYTHON'
import json, sys
name, profile = sys.argv[1], json.load(open(sys.argv[2]))
assert profile["defaultAction"] == "SCMP_ACT_ERRNO", "what is not listed is allowed"
rules = [rule for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW"]
allowed = {call for rule in rules for call in rule["names"]}
never = set("""ptrace process_vm_readv process_vm_writev mount umount2 pivot_root chroot unshare setns clone3 bpf keyctl add_key
    request_key perf_event_open userfaultfd io_uring_setup io_uring_enter init_module finit_module kexec_load reboot
    personality setuid setgid setresuid setgroups capset seccomp mknod mknodat fsopen open_tree move_mount memfd_create
    name_to_handle_at open_by_handle_at iopl ioperm quotactl swapon settimeofday adjtimex acct syslog""".split())
assert not allowed & never, f"{name} is allowed {sorted(allowed & never)}"
for call in ("socket", "clone", "prctl"):
    with_arguments = [rule for rule in rules if call in rule["names"]]
    assert with_arguments and all(rule.get("args") for rule in with_arguments), f"{name}: any {call}"
print(f"ok  {name}: {len(allowed)} system calls, of some 370")
PYTHON
}

# Of a running container, by its own kernel: filtered, and without new privileges.
check_filter() { # CONTAINER
  local pid
  pid=$(podman inspect "$1" --format '{{.State.Pid}}')
  grep -q '^Seccomp:[[:space:]]*2$' "/proc/$pid/status" || die "$1 runs without a system call filter"
}

helper() { # NAME OPTION... IMAGE ARGUMENT...
  local name=$1
  shift
  podman run --detach --name "$name" --network "$NETWORK" "$@" >/dev/null
}

logs_of() { podman logs --tail 20 "$1" 2>&1 || true; }

check_gitsync() {
  helper check-git "$(image git-server)"
  mkdir -p "$WORK/volume"
  chmod 0777 "$WORK/volume"
  eventually 20 podman run --rm --network "$NETWORK" "${HARDENED[@]}" "$(confined gitsync)" --volume "$WORK/volume:/git" "$(image gitsync)" \
    --repo=http://check-git:8080/site.git --ref=main --link=site --one-time >"$WORK/gitsync.log" 2>&1 ||
    { tail -n 20 "$WORK/gitsync.log" >&2; die 'gitsync could not sync from a server it finds by name'; }
  grep -q 'first commit' "$WORK/volume/site/index.html" || die 'gitsync published something else'
  ok 'gitsync: syncs into a volume from a server found by DNS'
}

ambassador_answers() {
  [ "$(podman run --rm --network container:check-ambassador --entrypoint redis-cli "$(image redis)" -h 127.0.0.1 SET k v 2>/dev/null)" = OK ]
}

check_ambassador() {
  helper check-redis "$(image redis)" --port 6379 --save '' --protected-mode no
  helper check-ambassador "${HARDENED[@]}" "$(confined redis-ambassador)" "$(image redis-ambassador)" --listen=127.0.0.1:6379 --primary=check-redis:6379
  eventually 20 ambassador_answers || { logs_of check-ambassador >&2; die 'redis-ambassador does not reach a server it finds by name'; }
  check_filter check-ambassador
  ok 'redis-ambassador: serves a Redis found by DNS'
}

adapter_answers() { curl -fsS --max-time 5 "http://127.0.0.1:$1/metrics" 2>/dev/null | grep -q '^shop_Orders_PlacedTotal'; }

check_adapter() {
  local port
  free_port port
  # Off localhost for once: the point is that the adapter finds it by name.
  helper check-jvm --env "JAVA_TOOL_OPTIONS=-Xmx48m -Djava.rmi.server.hostname=check-jvm \
    -Dcom.sun.management.jmxremote.port=9010 -Dcom.sun.management.jmxremote.rmi.port=9010 \
    -Dcom.sun.management.jmxremote.authenticate=false -Dcom.sun.management.jmxremote.ssl=false" "$(image jvm-app)"
  printf 'hostPort: check-jvm:9010\n' >"$WORK/jmx.yaml"
  chmod 0644 "$WORK/jmx.yaml"
  helper check-adapter "${HARDENED[@]}" "$(confined metrics-adapter)" --volume "$WORK/jmx.yaml:/jmx.yaml:ro" --publish "127.0.0.1:$port:9404" \
    "$(image metrics-adapter)" jmx 9404 /jmx.yaml
  eventually 30 adapter_answers "$port" || { logs_of check-adapter >&2; die 'metrics-adapter does not read a JVM it finds by name'; }
  check_filter check-adapter
  ok 'metrics-adapter: reads a JVM found by DNS'
}

main() {
  local binary
  have podman || die 'the images are run with podman, which is missing (images/setup.sh pods)'
  use_podman "$(image gitsync)" || die "podman cannot run containers here: $PODMAN_WHY"
  rm -rf "$WORK"
  mkdir -p "$WORK"
  remove_helpers
  trap remove_helpers EXIT
  for binary in $BINARIES; do
    check_facts "$binary"
    check_content "$binary"
    check_profile "$binary"
    check_version "$binary"
  done
  podman network create "$NETWORK" >/dev/null
  check_gitsync
  check_ambassador
  check_adapter
}

main "$@"

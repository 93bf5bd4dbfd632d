#!/bin/sh
# Starts this Pod's Redis as what the Sentinels say it is; when nobody answers, redis-0 is the first primary.
set -eu
self="$POD_NAME.redis"
password=$(cat /secret/password)
primary=$(timeout 5 redis-cli -h redis-sentinel -p 26379 SENTINEL GET-MASTER-ADDR-BY-NAME shop 2>/dev/null | head -n 1 || true)
case $primary in *.redis) ;; *) primary=redis-0.redis ;; esac
umask 077
{
  echo "dir /data"
  echo "protected-mode no"
  echo "requirepass $password"
  echo "masterauth $password"
  echo "replica-announce-ip $self"
  [ "$primary" = "$self" ] || echo "replicaof $primary 6379"
} >/conf/redis.conf
exec redis-server /conf/redis.conf

#!/bin/sh
# Starts this Pod's Sentinel. It keeps what it learns in its own configuration file, as long as the Pod lives.
set -eu
self="$POD_NAME.redis"
password=$(cat /secret/password)
primary=$(timeout 5 redis-cli -h redis-sentinel -p 26379 SENTINEL GET-MASTER-ADDR-BY-NAME shop 2>/dev/null | head -n 1 || true)
case $primary in *.redis) ;; *) primary=redis-0.redis ;; esac
umask 077
{
  echo "port 26379"
  echo "protected-mode no"
  echo "sentinel resolve-hostnames yes"
  echo "sentinel announce-hostnames yes"
  echo "sentinel announce-ip $self"
  echo "sentinel monitor shop $primary 6379 2"
  echo "sentinel auth-pass shop $password"
  echo "sentinel down-after-milliseconds shop 3000"
  echo "sentinel failover-timeout shop 5000"
} >/conf/sentinel.conf
# The primary's name must resolve before the Sentinel starts.
until getent hosts "$primary" >/dev/null; do sleep 1; done
exec redis-sentinel /conf/sentinel.conf

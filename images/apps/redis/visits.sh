#!/bin/bash
# A stand-in for an application that uses "the Redis on localhost": it counts visits and reads them back.
trap 'exit 0' TERM
exec 3<> <(:)
while :; do
  redis-cli -h 127.0.0.1 -p "${REDIS_PORT:-6379}" INCR visits >/dev/null 2>&1
  redis-cli -h 127.0.0.1 -p "${REDIS_PORT:-6379}" GET visits >/dev/null 2>&1
  read -r -t "${VISIT_PERIOD:-1}" -u 3 _
done

#!/bin/bash
# A stand-in for an application that speaks StatsD: a counter, a gauge and a timer, some times a second.
# bash alone, with its own UDP sockets; `read` from an idle descriptor stands in for sleep.
target=/dev/udp/${STATSD_HOST:-127.0.0.1}/${STATSD_PORT:-9125}
trap 'exit 0' TERM
exec 3<> <(:)
while :; do
  {
    printf 'checkout.requests:1|c|#method:get\ncheckout.open_carts:%d|g\ncheckout.duration:%d|ms' \
      $((RANDOM % 50)) $((RANDOM % 300)) >"$target"
  } 2>/dev/null
  read -r -t "${EMIT_PERIOD:-0.2}" -u 3 _
done

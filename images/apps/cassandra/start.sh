#!/bin/bash
# Apache Cassandra, told what the public image is told, as far as the example speaks of it:
#   CASSANDRA_SEEDS   a node to ask for the others; without it this one alone
#   MAX_HEAP_SIZE     HEAP_NEWSIZE     JVM_EXTRA_OPTS
# Clients and nodes reach it on the address of its own host name, JMX on the loopback only.
set -eu
name=$(</proc/sys/kernel/hostname)
conf=/tmp/cassandra.yaml
printf '%s\n' "cluster_name: shop
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
data_file_directories: [/var/lib/cassandra/data]
commitlog_directory: /var/lib/cassandra/commitlog
saved_caches_directory: /var/lib/cassandra/saved_caches
commitlog_sync: periodic
commitlog_sync_period_in_ms: 10000
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{seeds: '${CASSANDRA_SEEDS:-$name}'}]
listen_address: $name
rpc_address: $name
start_native_transport: true
start_rpc: false" >$conf

# A later Cassandra keeps its JMX on the loopback by itself; 2.1.0 is told. There is nobody to wait for in a test.
# shellcheck disable=SC2086 # lists of options
exec /usr/lib/jvm/java-8-openjdk-*/jre/bin/java "-Xmx${MAX_HEAP_SIZE:-192M}" "-Xmn${HEAP_NEWSIZE:-48M}" -Xss512k \
  -Djava.rmi.server.hostname=127.0.0.1 -Dcom.sun.management.jmxremote.host=127.0.0.1 \
  -Dcom.sun.management.jmxremote.port=7199 -Dcom.sun.management.jmxremote.rmi.port=7199 \
  -Dcom.sun.management.jmxremote.authenticate=false -Dcom.sun.management.jmxremote.ssl=false \
  -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms=100 -Dcassandra-foreground=yes \
  -Dcassandra.config=file://$conf -Dlogback.configurationFile=logback-tools.xml ${JVM_EXTRA_OPTS:-} \
  -cp '/opt/cassandra/conf:/opt/cassandra/lib/*' org.apache.cassandra.service.CassandraDaemon

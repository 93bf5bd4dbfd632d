//! A real Cassandra of one node.

use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::process::Daemon;
use crate::{free_port, repository, within};

/// Cassandra 2.1 wants Java 8. Debian's comes with a C library and a root of its own, into which everything is mounted
/// that Cassandra needs. The process stays the same one all along.
const ENTER: &str = r#"
    root=$0
    for folder in /dev /proc /tmp "$CASSANDRA" "$BASE"; do
        mkdir -p "$root$folder" && mount --rbind "$folder" "$root$folder" || exit 1
    done
    java=$(cd "$root" && echo usr/lib/jvm/java-8-openjdk-*/jre/bin/java)
    exec chroot "$root" "/$java" "$@""#;

/// A running Cassandra.
#[derive(Debug)]
pub struct Cassandra {
    /// The port of its JMX.
    pub jmx: u16,
    /// The port of its clients.
    pub cql: u16,
    /// The process.
    pub daemon: Daemon,
    _base: TempDir,
}

impl Cassandra {
    /// Starts it.
    ///
    /// # Errors
    /// It, or Java 8, was not fetched, or it does not start.
    pub fn start() -> Result<Self> {
        let (home, java) = (repository().join("target/cassandra"), repository().join("target/jdks/8"));
        ensure!(home.is_dir() && java.is_dir(), "Cassandra or Java 8 is not there: run `make setup`");
        let base = tempfile::tempdir()?;
        let folder = base.path().display();
        let (jmx, cql, storage) = (free_port()?, free_port()?, free_port()?);
        let configuration = format!(
            "cluster_name: shop
num_tokens: 1
initial_token: 0
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
data_file_directories: [{folder}/data]
commitlog_directory: {folder}/commitlog
saved_caches_directory: {folder}/caches
commitlog_sync: periodic
commitlog_sync_period_in_ms: 10000
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: 127.0.0.1}}]
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: {storage}
native_transport_port: {cql}
start_native_transport: true
start_rpc: false
"
        );
        std::fs::write(base.path().join("cassandra.yaml"), configuration)?;
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "--propagation", "private", "sh", "-c", ENTER]);
        command.arg(java).env("CASSANDRA", &home).env("BASE", base.path());
        command.args([
            "-Xmx192m",
            "-Xss512k",
            "-XX:TieredStopAtLevel=1",
            "-Djava.rmi.server.hostname=127.0.0.1",
        ]);
        for (name, value) in [("host", "127.0.0.1".to_owned()), ("port", jmx.to_string())] {
            command.arg(format!("-Dcom.sun.management.jmxremote.{name}={value}"));
        }
        command.arg(format!("-Dcom.sun.management.jmxremote.rmi.port={jmx}"));
        command
            .args(["authenticate", "ssl"].map(|name| format!("-Dcom.sun.management.jmxremote.{name}=false")));
        command.args(
            ["skip_wait_for_gossip_to_settle=0", "ring_delay_ms=100"].map(|it| format!("-Dcassandra.{it}")),
        );
        command.arg(format!("-Dcassandra.config=file://{folder}/cassandra.yaml"));
        command.args(["-Dcassandra-foreground=yes", "-Dlogback.configurationFile=logback-tools.xml", "-cp"]);
        command.arg(format!("{0}/conf:{0}/lib/*", home.display()));
        let daemon = Daemon::start(command.arg("org.apache.cassandra.service.CassandraDaemon"))?;
        within(std::time::Duration::from_secs(60), "Cassandra", || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", cql)).map(drop)?)
        })
        .map_err(|error| error.context(daemon.log()))?;
        Ok(Self { jmx, cql, daemon, _base: base })
    }
}

//! Which replica reads, and which does not.

use crate::harness::{Ambassador, Server, eventually};
use crate::relay::Relay;
use std::time::Duration;

/// A primary and replicas in sync with it.
struct Servers {
    primary: Server,
    replicas: Vec<Server>,
}

impl Servers {
    fn start(replicas: usize) -> Self {
        let primary = Server::start(&[]);
        let replicas: Vec<_> = (0..replicas).map(|_| Server::replica_of(&primary, &[])).collect();
        for replica in &replicas {
            let mut client = replica.client();
            eventually("the replica is in sync", || client.say("ROLE").contains(" connected "));
        }
        Self { primary, replicas }
    }

    /// An ambassador that knows them by these addresses, and has seen that they are fit.
    fn ambassador(&self, replicas: &[String], more: &[&str]) -> Ambassador {
        let mut arguments = vec!["--primary".to_owned(), self.primary.address()];
        replicas.iter().for_each(|replica| arguments.extend(["--replica".to_owned(), replica.clone()]));
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        let ambassador = Ambassador::with_arguments(&arguments);
        eventually("the replicas are fit", || {
            ambassador.metric("redis_ambassador_server_fit") == replicas.len() as f64
        });
        if !more.contains(&"primary-only") {
            let (mut client, mut asked) = (ambassador.client(), 0.0);
            eventually("replicas have all there was", || {
                client.say("GET none");
                asked += 1.0;
                ambassador.metric("redis_ambassador_commands_total{class=\"read\",target=\"replica\"}") > 0.0
            });
            eventually("all is counted", || {
                ambassador.metric("redis_ambassador_answers_total{class=\"read\"}") == asked
            });
        }
        ambassador
    }

    fn addresses(&self) -> Vec<String> {
        self.replicas.iter().map(Server::address).collect()
    }
}

fn read_by(ambassador: &Ambassador, server: &str) -> f64 {
    ambassador.metric(&format!("redis_ambassador_answers_total{{class=\"read\",server=\"{server}\"}}"))
}

/// The reads that each server answers, of so many, one after the other.
fn shares(ambassador: &Ambassador, servers: &[String], reads: usize) -> Vec<f64> {
    let before: Vec<f64> = servers.iter().map(|server| read_by(ambassador, server)).collect();
    let all = ambassador.metric("redis_ambassador_answers_total{class=\"read\"}");
    let mut client = ambassador.client();
    (0..reads).for_each(|_| assert_eq!(client.say("GET none"), "(nil)"));
    eventually("all are counted", || {
        ambassador.metric("redis_ambassador_answers_total{class=\"read\"}") >= all + reads as f64
    });
    servers.iter().zip(before).map(|(server, before)| read_by(ambassador, server) - before).collect()
}

#[test]
fn replicas_share_the_reads_by_weight() {
    let servers = Servers::start(3);
    let addresses = servers.addresses();
    for policy in ["round-robin", "least-outstanding", "random"] {
        let ambassador = servers.ambassador(&addresses, &["--read-policy", policy]);
        let shares = shares(&ambassador, &addresses, 900);
        assert_eq!(shares.iter().sum::<f64>(), 900.0, "{policy}");
        if policy != "least-outstanding" {
            assert!(shares.iter().all(|share| (200.0..400.0).contains(share)), "{policy}: {shares:?}");
        }
    }
    let (heavy, none) = (format!("{}=3", addresses[0]), format!("{}=0", addresses[2]));
    let flags = ["--read-policy", "round-robin", "--weight", &heavy, "--weight", &none];
    let ambassador = servers.ambassador(&addresses, &flags);
    assert_eq!(shares(&ambassador, &addresses, 400), [300.0, 100.0, 0.0]);
}

#[test]
fn the_own_zone_comes_first() {
    let mut servers = Servers::start(2);
    let addresses = servers.addresses();
    let near = format!("{}=a", addresses[1]);
    let flags =
        ["--read-policy", "zone-first", "--zone", "a", "--server-zone", &near, "--server-zone", "*=b"];
    let ambassador = servers.ambassador(&addresses, &flags);
    assert_eq!(shares(&ambassador, &addresses, 50), [0.0, 50.0]);
    servers.replicas[1].kill();
    let mut client = ambassador.client();
    eventually("the other zone reads", || {
        assert_eq!(client.say("GET none"), "(nil)");
        read_by(&ambassador, &addresses[0]) > 5.0
    });
}

#[test]
fn nobody_but_the_primary_or_nobody_but_replicas() {
    let mut servers = Servers::start(1);
    let addresses = servers.addresses();
    let ambassador = servers.ambassador(&addresses, &["--read-policy", "primary-only"]);
    assert_eq!(shares(&ambassador, &addresses, 50), [0.0]);
    let ambassador = servers.ambassador(&addresses, &["--read-policy", "replica-only"]);
    let mut client = ambassador.client();
    let before = read_by(&ambassador, &addresses[0]);
    // What was written is read back, from the replica, once it is there.
    for round in 0..20 {
        client.send(&format!("SET a {round}"));
        client.send("GET a");
        client.send("MGET a b");
        assert_eq!(client.read().text(), "OK");
        assert_eq!(client.read().text(), round.to_string());
        assert_eq!(client.read().text(), format!("{round} (nil)"));
    }
    let primary = servers.primary.address();
    eventually("all are counted", || read_by(&ambassador, &addresses[0]) == before + 40.0);
    assert_eq!(read_by(&ambassador, &primary), 0.0);
    let flags = ["--read-policy", "replica-only", "--failover-wait", "300ms"];
    let ambassador = servers.ambassador(&addresses, &flags);
    let mut client = ambassador.client();
    servers.replicas[0].kill();
    eventually("it says so", || client.say("GET a").starts_with("NOREPLICA"));
    assert_eq!(client.say("SET a 1"), "OK");
}

#[test]
fn the_nearest_replica_reads() {
    let servers = Servers::start(2);
    let (near, far) = (Relay::to(servers.replicas[0].port), Relay::to(servers.replicas[1].port));
    far.delay(Duration::from_millis(20));
    let addresses = [near.address(), far.address()];
    let ambassador = servers.ambassador(&addresses, &["--read-policy", "nearest"]);
    eventually("only the near one reads", || shares(&ambassador, &addresses, 20) == [20.0, 0.0]);
    near.delay(Duration::from_millis(60));
    far.delay(Duration::ZERO);
    eventually("only the one that is nearer now reads", || {
        shares(&ambassador, &addresses, 20) == [0.0, 20.0]
    });
}

#[test]
fn a_slow_replica_gets_no_reads_until_it_is_quick_again() {
    let servers = Servers::start(2);
    let relay = Relay::to(servers.replicas[0].port);
    let addresses = [relay.address(), servers.replicas[1].address()];
    let flags = ["--read-policy", "round-robin", "--max-latency", "100ms"];
    let ambassador = servers.ambassador(&addresses, &flags);
    let mut client = ambassador.client();
    relay.delay(Duration::from_millis(200));
    let slow = format!("redis_ambassador_ejections_total{{reason=\"slow\",server=\"{}\"}}", addresses[0]);
    eventually("it is out", || {
        assert_eq!(client.say("GET none"), "(nil)");
        ambassador.metric(&slow) > 0.0
    });
    relay.delay(Duration::ZERO);
    eventually("it is back", || shares(&ambassador, &addresses, 10)[0] > 0.0);
}

#[test]
fn a_replica_that_lacks_too_many_bytes_gets_no_reads() {
    let primary = Server::start(&[]);
    let relay = Relay::to(primary.port);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &relay.port.to_string()]);
    let mut direct = replica.client();
    eventually("the replica is in sync", || direct.say("ROLE").contains(" connected "));
    let servers = Servers { primary, replicas: vec![replica] };
    let addresses = servers.addresses();
    let flags = ["--consistency", "eventual", "--max-lag", "4KiB"];
    let ambassador = servers.ambassador(&addresses, &flags);
    let mut client = ambassador.client();
    relay.cut(true);
    let value = "x".repeat(1000);
    (0..20).for_each(|_| assert_eq!(client.say(&format!("SET a {value}")), "OK"));
    eventually("it is out", || shares(&ambassador, &addresses, 10) == [0.0]);
    assert!(ambassador.metric("redis_ambassador_server_lag_bytes") > 4096.0);
    assert!(ambassador.get("/status.json").contains("too far behind"));
    relay.cut(false);
    eventually("it is back", || shares(&ambassador, &addresses, 10) == [10.0]);
}

#[test]
fn a_replica_that_takes_no_connections_is_left_alone() {
    let servers = Servers::start(2);
    let addresses = servers.addresses();
    let ambassador = servers.ambassador(&addresses, &["--read-policy", "round-robin"]);
    let mut direct = servers.replicas[0].client();
    assert_eq!(direct.say("CONFIG SET maxclients 1"), "OK");
    // Connections of the other kind are new.
    let mut client = ambassador.client();
    assert!(client.say("HELLO 3").contains("proto 3"));
    (0..200).for_each(|_| assert_eq!(client.say("GET none"), "(nil)"));
    eventually("it is out", || {
        ambassador.metric("redis_ambassador_ejections_total{reason=\"failing\"}") > 0.0 || {
            assert_eq!(client.say("GET none"), "(nil)");
            false
        }
    });
    assert_eq!(direct.say("CONFIG SET maxclients 100"), "OK");
    eventually("it is back", || shares(&ambassador, &addresses, 20)[0] > 0.0);
}

#[test]
fn policies_change_while_it_runs() {
    let servers = Servers::start(1);
    let addresses = servers.addresses();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, "read-policy: random\n").unwrap();
    let ambassador = servers.ambassador(&addresses, &["--config", &file.to_string_lossy()]);
    std::fs::write(&file, "read-policy: primary-only\n").unwrap();
    eventually("the primary reads", || shares(&ambassador, &addresses, 20) == [0.0]);
    std::fs::write(&file, "read-policy: nearest\nmax-latency: 1s\n").unwrap();
    eventually("the replica reads", || shares(&ambassador, &addresses, 20) == [20.0]);
}

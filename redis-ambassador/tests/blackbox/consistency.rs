//! What was written through the ambassador is read back through it, although replicas lag.

use crate::harness::{Ambassador, Client, Server, Trio, eventually};
use crate::relay::Relay;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KEYS: usize = 50;

/// Versions that are acknowledged, and what went wrong.
#[derive(Default)]
struct Ledger {
    acknowledged: Vec<AtomicU64>,
    reads: AtomicU64,
    stale: AtomicU64,
    stop: AtomicBool,
}

fn writer(port: u16, ledger: &Ledger, keys: std::ops::Range<usize>) {
    let mut client = Client::connect(port);
    for version in 1u64.. {
        for key in keys.clone() {
            if ledger.stop.load(Ordering::SeqCst) {
                return;
            }
            match version % 4 {
                0 => {
                    client.say("MULTI");
                    client.say(&format!("SET key{key} {version}"));
                    assert_eq!(client.say("EXEC"), "OK");
                }
                1 => {
                    client.send_words(&[
                        b"EVAL",
                        b"return redis.call('SET', KEYS[1], ARGV[1])",
                        b"1",
                        format!("key{key}").as_bytes(),
                        version.to_string().as_bytes(),
                    ]);
                    assert_eq!(client.read().text(), "OK");
                }
                _ => assert_eq!(client.say(&format!("SET key{key} {version}")), "OK"),
            }
            ledger.acknowledged[key].store(version, Ordering::SeqCst);
        }
    }
}

fn reader(port: u16, ledger: &Ledger, seed: usize) {
    let mut client = Client::connect(port);
    let mut key = seed;
    while !ledger.stop.load(Ordering::SeqCst) {
        key = (key * 31 + 7) % KEYS;
        let floor = ledger.acknowledged[key].load(Ordering::SeqCst);
        let seen = client.say(&format!("GET key{key}")).parse().unwrap_or(0);
        ledger.reads.fetch_add(1, Ordering::Relaxed);
        if seen < floor {
            ledger.stale.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Runs concurrent writers and readers over lagging replicas; returns reads and stale reads.
fn check(mode: &str, threads: &str, time: Duration) -> (u64, u64) {
    let primary = Server::start(&[]);
    // One replica stands still now and then, the other is always behind.
    let network = Relay::to(primary.port);
    let halting = Server::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let distant = Server::start(&["--replicaof", "127.0.0.1", &network.port.to_string()]);
    for replica in [&halting, &distant] {
        let mut direct = replica.client();
        eventually("the replica is in sync", || direct.say("ROLE").contains(" connected "));
    }
    network.delay(Duration::from_millis(15));
    let flags = ["--consistency", mode, "--threads", threads];
    let ambassador = Ambassador::start(&primary, &[&halting, &distant], &flags);
    let port = ambassador.port;
    let ledger = Arc::new(Ledger {
        acknowledged: (0..KEYS).map(|_| AtomicU64::new(0)).collect(),
        ..Ledger::default()
    });
    let mut running = Vec::new();
    for half in 0..2 {
        let shared = Arc::clone(&ledger);
        let keys = half * KEYS / 2..(half + 1) * KEYS / 2;
        running.push(std::thread::spawn(move || writer(port, &shared, keys)));
    }
    for seed in 0..6 {
        let shared = Arc::clone(&ledger);
        running.push(std::thread::spawn(move || reader(port, &shared, seed)));
    }
    let end = Instant::now() + time;
    while Instant::now() < end {
        // A replica that stands still for a moment has everything to catch up with.
        halting.signal("-STOP");
        std::thread::sleep(Duration::from_millis(30));
        halting.signal("-CONT");
        std::thread::sleep(Duration::from_millis(20));
    }
    ledger.stop.store(true, Ordering::SeqCst);
    running.into_iter().for_each(|thread| thread.join().unwrap());
    let (reads, stale) = (ledger.reads.load(Ordering::SeqCst), ledger.stale.load(Ordering::SeqCst));
    println!("{mode}, {threads} threads: {stale} of {reads} reads were stale");
    (reads, stale)
}

#[test]
fn every_client_reads_what_any_client_has_written() {
    let (reads, stale) = check("pod", "1", Duration::from_secs(4));
    assert!(reads > 1000, "{reads}");
    assert_eq!(stale, 0, "of {reads} reads");
}

#[test]
fn the_threads_of_an_ambassador_count_as_one() {
    let (reads, stale) = check("pod", "3", Duration::from_secs(4));
    assert!(reads > 1000, "{reads}");
    assert_eq!(stale, 0, "of {reads} reads");
}

#[test]
fn the_checker_finds_stale_reads_where_none_are_prevented() {
    let (reads, stale) = check("eventual", "1", Duration::from_secs(4));
    assert!(stale > 0, "of {reads} reads");
}

/// Copies bytes between a replica and its primary; nothing comes from the primary while it is held.
fn relay(primary: u16) -> (u16, Arc<AtomicBool>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, held) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
    let hold = Arc::clone(&held);
    std::thread::spawn(move || {
        for replica in listener.incoming().map_while(Result::ok) {
            let Ok(primary) = std::net::TcpStream::connect(("127.0.0.1", primary)) else { continue };
            let (Ok(mut up), Ok(mut down)) = (primary.try_clone(), replica.try_clone()) else { continue };
            std::thread::spawn(move || std::io::copy(&mut down, &mut up));
            let (mut primary, mut replica, hold) = (primary, replica, Arc::clone(&hold));
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count) = std::io::Read::read(&mut primary, &mut bytes) {
                    while hold.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    if count == 0 || std::io::Write::write_all(&mut replica, &bytes[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, held)
}

#[test]
fn a_replica_far_behind_gets_no_reads_until_it_is_near_again() {
    let primary = Server::start(&[]);
    let (port, held) = relay(primary.port);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port.to_string()]);
    let mut direct = replica.client();
    eventually("the replica is in sync", || direct.say("ROLE").contains(" connected "));
    let flags = ["--consistency", "eventual", "--max-lag", "300ms"];
    let ambassador = Ambassador::start(&primary, &[&replica], &flags);
    let mut client = ambassador.client();
    let sample = |what: &str| format!("redis_ambassador_{what}{{server=\"{}\"}}", replica.address());
    let mut reads = || {
        let before = ambassador.metric(&sample("answers_total"));
        for _ in 0..50 {
            client.say("GET none");
        }
        assert!(client.say("INCR counter").parse::<u64>().is_ok());
        std::thread::sleep(Duration::from_millis(250));
        ambassador.metric(&sample("answers_total")) - before
    };
    eventually("the replica serves reads", || reads() > 0.0);
    held.store(true, Ordering::SeqCst);
    eventually("it is out", || reads() == 0.0);
    assert!(ambassador.metric(&sample("server_lag_seconds")) > 0.3);
    held.store(false, Ordering::SeqCst);
    eventually("it is back", || reads() > 0.0);
}

#[test]
fn most_reads_are_still_served_by_replicas() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    client.say("SET warm 1");
    std::thread::sleep(Duration::from_millis(200));
    let sample = |target: &str| {
        trio.ambassador
            .metric(&format!("redis_ambassador_commands_total{{class=\"read\",target=\"{target}\"}}"))
    };
    let (primary, replica) = (sample("primary"), sample("replica"));
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % 100_000
    };
    for round in 0..20_000 {
        if round % 10 == 0 {
            client.say(&format!("SET key{} x", next()));
        } else {
            client.say(&format!("GET key{}", next()));
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    let (primary, replica) = (sample("primary") - primary, sample("replica") - replica);
    println!("{:.4} of {} reads by replicas", replica / (primary + replica), primary + replica);
    assert!(replica / (primary + replica) > 0.85, "{replica} by replicas, {primary} by the primary");
}

//! Servers come and go; clients notice as little as possible.

use crate::harness::{Client, Trio, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Reads and writes from several clients until told to stop; returns the errors they saw.
fn traffic(
    port: u16,
    clients: usize,
    stop: &Arc<AtomicBool>,
) -> (Vec<std::thread::JoinHandle<Vec<String>>>, Arc<AtomicU64>) {
    let done = Arc::new(AtomicU64::new(0));
    let threads = (0..clients)
        .map(|id| {
            let (stop, done) = (Arc::clone(stop), Arc::clone(&done));
            std::thread::spawn(move || {
                let (mut client, mut errors) = (Client::connect(port), Vec::new());
                for round in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let answer = match round % 10 {
                        0 => client.say(&format!("SET key{id} {round}")),
                        _ => client.say(&format!("GET key{}", round % 7)),
                    };
                    if answer.contains(' ') {
                        errors.push(answer);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                errors
            })
        })
        .collect();
    (threads, done)
}

#[test]
fn a_lost_replica_is_invisible() {
    let mut trio = Trio::start(&[]);
    let stop = Arc::new(AtomicBool::new(false));
    let (threads, done) = traffic(trio.ambassador.port, 8, &stop);
    let some = |count: u64| {
        let target = done.load(Ordering::Relaxed) + count;
        eventually("work goes on", || done.load(Ordering::Relaxed) > target);
    };
    some(500);
    trio.replicas[0].kill();
    some(500);
    trio.replicas[1].kill();
    some(500);
    trio.replicas[0].restart();
    some(500);
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Vec::<String>::new());
    }
}

#[test]
fn a_replica_that_hangs_is_left_alone() {
    let trio = Trio::start(&["--probe-timeout", "200ms"]);
    let mut client = trio.client();
    client.say("SET a 1");
    trio.replicas[0].signal("-STOP");
    let start = Instant::now();
    for _ in 0..200 {
        assert_eq!(client.say("GET none"), "(nil)");
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    trio.replicas[0].signal("-CONT");
}

#[test]
fn a_lost_primary_is_a_clear_error_and_then_over() {
    let mut trio = Trio::start(&["--failover-wait", "700ms"]);
    let mut client = trio.client();
    assert_eq!(client.say("SET a 1"), "OK");
    // Once both replicas are known to have what there is.
    for replica in &trio.replicas {
        let sample = format!("redis_ambassador_answers_total{{server=\"{}\"}}", replica.address());
        eventually("the replica answers reads", || {
            assert_eq!(client.say("GET untouched"), "(nil)");
            trio.ambassador.metric(&sample) > 0.0
        });
    }
    trio.primary.kill();
    let start = Instant::now();
    let error = client.say("SET a 2");
    assert!(error.starts_with("NOPRIMARY") || error.starts_with("LOSTREPLY"), "{error}");
    let error = client.say("SET a 2");
    assert!(error.starts_with("NOPRIMARY"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    // Reads of what was not just written go on.
    assert_eq!(client.say("GET untouched"), "(nil)");
    assert!(client.say("MULTI").starts_with("LOSTREPLY") || client.is_closed());
    trio.primary.restart();
    let mut client = trio.client();
    eventually("writes work again", || client.say("SET a 3") == "OK");
    assert_eq!(client.say("GET a"), "3");
}

#[test]
fn writes_wait_for_a_primary_that_restarts() {
    let mut trio = Trio::start(&["--failover-wait", "10s"]);
    let mut client = trio.client();
    assert_eq!(client.say("SET a 1"), "OK");
    trio.primary.kill();
    eventually("the ambassador has noticed", || trio.ambassador.get("/readyz").starts_with("HTTP/1.1 503"));
    client.send("SET a 2");
    std::thread::sleep(Duration::from_millis(300));
    trio.primary.restart();
    assert_eq!(client.read().text(), "OK");
    assert_eq!(client.say("GET a"), "2");
}

#[test]
fn a_write_is_never_sent_twice() {
    let mut trio = Trio::start(&["--failover-wait", "10s"]);
    let port = trio.ambassador.port;
    trio.primary.client().say("CONFIG SET appendfsync always");
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..8)
        .map(|id| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut client = Client::connect(port);
                let (mut sure, mut unsure) = (0u64, 0u64);
                while !stop.load(Ordering::Relaxed) {
                    match client.say(&format!("INCR counter{id}")) {
                        answer if answer.starts_with("LOSTREPLY") => unsure += 1,
                        answer if answer.parse::<u64>().is_ok() => sure += 1,
                        other => panic!("{other}"),
                    }
                }
                (id, sure, unsure)
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    // A planned switch: the old primary stays alive and turns into a replica.
    let target = trio.replicas[0].port;
    assert_eq!(trio.primary.client().say(&format!("FAILOVER TO 127.0.0.1 {target} TIMEOUT 5000")), "OK");
    eventually("the replica is primary", || trio.replicas[0].client().say("ROLE").starts_with("master"));
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    let mut direct = trio.replicas[0].client();
    for thread in threads {
        let (id, sure, unsure) = thread.join().unwrap();
        let value: u64 = direct.say(&format!("GET counter{id}")).parse().unwrap();
        assert!(value >= sure && value <= sure + unsure, "{value} of {sure} + {unsure}");
        assert_eq!(unsure, 0, "a planned switch loses no answer");
    }
    trio.replicas[1].kill();
}

#[test]
fn a_write_that_hangs_at_a_replaced_primary_is_given_up() {
    let trio = Trio::start(&["--failover-wait", "60s"]);
    let (mut hung, mut other) = (trio.client(), trio.client());
    assert_eq!(hung.say("SET k 1"), "OK");
    assert_eq!(hung.say("SET k 2"), "OK");
    trio.primary.signal("-STOP");
    hung.send("SET k 3");
    assert_eq!(trio.replicas[0].client().say("REPLICAOF NO ONE"), "OK");
    // What the old primary says when it wakes up is of no use to anybody.
    assert!(hung.read().text().starts_with("LOSTREPLY"));
    assert_eq!(other.say("SET k 4"), "OK");
    trio.primary.signal("-CONT");
    assert_eq!(other.say("GET k"), "4");
}

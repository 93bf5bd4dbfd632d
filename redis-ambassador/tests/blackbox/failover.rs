//! Another server becomes primary: a pause, not an error.

use crate::harness::{Ambassador, Client, Sentinel, Server, ask, eventually};
use crate::relay::Relay;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A primary with two replicas, three Sentinels, and an ambassador that knows only the Sentinels.
struct Cluster {
    servers: Vec<Server>,
    sentinels: Vec<Sentinel>,
    ambassador: Ambassador,
}

impl Cluster {
    fn start() -> Self {
        Self::with_sentinels_through(|sentinel| sentinel.port)
    }

    /// The ambassador reaches each Sentinel through the port that is given for it.
    fn with_sentinels_through(port: impl Fn(&Sentinel) -> u16) -> Self {
        let primary = Server::start(&[]);
        let replicas = [Server::replica_of(&primary, &[]), Server::replica_of(&primary, &[])];
        for replica in &replicas {
            let mut client = replica.client();
            eventually("the replica is in sync", || client.say("ROLE").contains(" connected "));
        }
        let sentinels: Vec<_> = (0..3).map(|_| Sentinel::start(&primary)).collect();
        eventually("the Sentinels know each other", || {
            sentinels.iter().all(|sentinel| {
                sentinel.client().say("SENTINEL MASTER mymaster").contains("num-other-sentinels 2")
            })
        });
        let arguments: Vec<String> = sentinels
            .iter()
            .flat_map(|sentinel| ["--sentinel".to_owned(), format!("127.0.0.1:{}", port(sentinel))])
            .collect();
        let ambassador = Ambassador::with_arguments(&arguments);
        let servers = std::iter::once(primary).chain(replicas).collect();
        Self { servers, sentinels, ambassador }
    }

    /// The first server but `other` that says it is primary.
    fn primary_but(&self, other: Option<usize>) -> Option<usize> {
        let claims = |index: &usize| {
            ask(self.servers[*index].port, "ROLE").is_some_and(|role| role.starts_with("master"))
        };
        (0..self.servers.len()).filter(|index| Some(*index) != other).find(claims)
    }
}

/// What a writer saw.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: Vec<u64>,
    lost_replies: usize,
    errors: Vec<String>,
    longest_pause: Duration,
}

fn writer(port: u16, id: usize, stop: &AtomicBool) -> Seen {
    let (mut client, mut seen) = (Client::connect(port), Seen::default());
    for number in 0u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let start = Instant::now();
        match client.say(&format!("SADD set{id} {number}")) {
            answer if answer == "1" => seen.acknowledged.push(number),
            answer if answer.starts_with("LOSTREPLY") => seen.lost_replies += 1,
            other => seen.errors.push(other),
        }
        seen.longest_pause = seen.longest_pause.max(start.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    seen
}

fn run(cluster: &mut Cluster, event: impl FnOnce(&mut Cluster)) -> (usize, usize, Vec<Seen>) {
    let port = cluster.ambassador.port;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..10)
        .map(|id| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || writer(port, id, &stop))
        })
        .collect();
    let reading = Arc::clone(&stop);
    let reader = std::thread::spawn(move || {
        let mut client = Client::connect(port);
        while !reading.load(Ordering::SeqCst) {
            assert_eq!(client.say("GET untouched"), "(nil)");
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    let before = cluster.primary_but(None);
    event(cluster);
    eventually("another primary", || cluster.primary_but(before).is_some());
    std::thread::sleep(Duration::from_millis(2500));
    stop.store(true, Ordering::SeqCst);
    let seen: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    reader.join().unwrap();
    let mut direct = cluster.servers[cluster.primary_but(before).unwrap()].client();
    let (mut acknowledged, mut missing) = (0, 0);
    for (id, seen) in seen.iter().enumerate() {
        let members: std::collections::HashSet<u64> = direct
            .say(&format!("SMEMBERS set{id}"))
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        acknowledged += seen.acknowledged.len();
        missing += seen.acknowledged.iter().filter(|number| !members.contains(number)).count();
    }
    (acknowledged, missing, seen)
}

#[test]
fn a_switch_by_the_sentinels_loses_nothing() {
    a_planned_switch_loses_nothing(Cluster::start());
}

#[test]
fn nor_does_one_by_sentinels_that_are_slow_to_tell() {
    a_planned_switch_loses_nothing(Cluster::with_sentinels_through(|sentinel| {
        let relay = Relay::to(sentinel.port);
        relay.delay(Duration::from_millis(40));
        relay.port
    }));
}

fn a_planned_switch_loses_nothing(mut cluster: Cluster) {
    let (acknowledged, missing, seen) = run(&mut cluster, |cluster| {
        assert_eq!(cluster.sentinels[0].client().say("SENTINEL FAILOVER mymaster"), "OK");
    });
    let errors: Vec<_> = seen.iter().flat_map(|seen| &seen.errors).collect();
    let pause = seen.iter().map(|seen| seen.longest_pause).max().unwrap();
    println!("planned: {acknowledged} acknowledged, {missing} missing, longest pause {pause:?}");
    assert!(errors.is_empty(), "{errors:?}");
    assert!(acknowledged > 500 && missing == 0, "{missing} of {acknowledged} acknowledged writes are lost");
    assert!(pause < Duration::from_secs(2), "{pause:?}");
}

#[test]
fn a_killed_primary_is_a_pause() {
    let mut cluster = Cluster::start();
    let (acknowledged, missing, seen) = run(&mut cluster, |cluster| {
        let primary = cluster.primary_but(None).unwrap();
        cluster.servers[primary].kill();
    });
    let errors: Vec<_> = seen.iter().flat_map(|seen| &seen.errors).collect();
    let pause = seen.iter().map(|seen| seen.longest_pause).max().unwrap();
    let lost: usize = seen.iter().map(|seen| seen.lost_replies).sum();
    println!(
        "killed: {acknowledged} acknowledged, {missing} missing, {lost} lost replies, longest pause {pause:?}"
    );
    assert!(errors.is_empty(), "{errors:?}");
    assert!(lost <= 10, "at most one command of each client was on its way: {lost}");
    assert!(acknowledged > 500);
    assert!(pause < Duration::from_secs(6), "{pause:?}");
}

#[test]
fn seeds_find_the_others() {
    let primary = Server::start(&[]);
    let replica = Server::replica_of(&primary, &[]);
    let ambassador = Ambassador::with_arguments(&["--seed".to_owned(), replica.address()]);
    let mut client = ambassador.client();
    assert_eq!(client.say("SET a 1"), "OK");
    assert_eq!(client.say("GET a"), "1");
    eventually("both are known", || ambassador.get("/").contains(&primary.address()));
}

#[test]
fn a_change_of_database_that_waited_for_a_primary_changes_nobody_elses() {
    let mut server = Server::start(&[]);
    let ambassador = Ambassador::start(&server, &[], &[]);
    let (mut other, mut client) = (ambassador.client(), ambassador.client());
    assert_eq!(other.say("SET k zero"), "OK");
    server.kill();
    eventually("it is gone", || ambassador.metric("redis_ambassador_primary_known") == 0.0);
    client.send("SELECT 3");
    eventually("it waits", || ambassador.metric("redis_ambassador_commands_held_total") > 0.0);
    server.restart();
    assert_eq!(client.read().text(), "OK");
    assert_eq!((client.say("SET k three"), other.say("SET k zero")), ("OK".to_owned(), "OK".to_owned()));
    let mut plain = server.client();
    assert_eq!(
        (plain.say("GET k"), plain.say("SELECT 3"), plain.say("GET k")),
        ("zero".to_owned(), "OK".to_owned(), "three".to_owned())
    );
}

//! What an operator sees: metrics, the slow log, the status page.

use crate::harness::{Trio, eventually};

#[test]
fn commands_are_counted_by_class_outcome_and_server() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    assert_eq!(client.say("SET a 1"), "OK");
    assert!(client.say("LPUSH a 1").starts_with("WRONGTYPE"));
    assert_eq!(client.say("GET other"), "(nil)");
    assert_eq!(client.say("DBSIZE"), "1");
    let primary = trio.primary.address();
    let count = |class: &str, outcome: &str| {
        trio.ambassador.metric(&format!(
            "redis_ambassador_answers_total{{class=\"{class}\",outcome=\"{outcome}\",server=\"{primary}\"}}"
        ))
    };
    eventually("all are counted", || {
        let seconds = "redis_ambassador_command_seconds_count";
        (count("write", "ok"), count("write", "error"), count("primary_read", "ok")) == (1.0, 1.0, 1.0)
            && trio.ambassador.metric(&format!("{seconds}{{class=\"write\"}}")) == 2.0
            && trio.ambassador.metric(&format!("{seconds}{{class=\"read\"}}")) == 1.0
    });
    let upstream = format!("redis_ambassador_answer_seconds_count{{server=\"{primary}\"}}");
    assert!(trio.ambassador.metric(&upstream) >= 3.0);
    assert!(trio.ambassador.metric("redis_ambassador_upstream_pool{kind=\"shared\"}") >= 1.0);
    let mut blocked = trio.client();
    blocked.send("BLPOP nothing 0");
    eventually("it is a connection of its own", || {
        trio.ambassador.metric("redis_ambassador_upstream_pool{kind=\"own\"}") == 1.0
    });
    eventually("the share of the replicas is told", || {
        assert_eq!(client.say("GET other"), "(nil)");
        trio.ambassador.metric("redis_ambassador_replica_read_share") > 0.5
    });
}

#[test]
fn slow_commands_are_listed_without_what_they_are_about() {
    let trio = Trio::start(&["--slow-log", "50ms"]);
    let mut client = trio.client();
    client.say("DEBUG SLEEP 0.1");
    client.send_words(&[b"EVAL", b"local t = redis.call('TIME') local function us() local n = redis.call('TIME') return (n[1]-t[1])*1000000+n[2]-t[2] end while us() < 80000 do end return redis.call('SET', KEYS[1], ARGV[1])", b"1", b"private-key", b"private-value"]);
    assert_eq!(client.read().text(), "OK");
    // Waiting is no slowness.
    assert_eq!(client.say("BLPOP nothing 0.1"), "(nil)");
    client.say("MULTI");
    client.say("DEBUG SLEEP 0.1");
    assert_eq!(client.say("EXEC"), "OK");
    let log = || trio.ambassador.get("/slowlog");
    eventually("all three are there", || log().matches("\"command\"").count() >= 3);
    let (log, page) = (log(), trio.ambassador.get("/"));
    for name in ["\"eval\"", "\"debug\"", "\"exec\""] {
        assert!(log.contains(name), "{log}");
    }
    assert!(!log.contains("private") && !page.contains("private") && !log.contains("blpop"), "{log}");
    assert!(log.contains("\"arguments\":4") && log.contains(&trio.primary.address()));
    assert!(page.contains("Slow commands"));
    assert_eq!(
        trio.ambassador.metric("redis_ambassador_slow_commands_total"),
        log.matches("\"command\"").count() as f64
    );
}

#[test]
fn the_topology_is_drawn() {
    let mut trio = Trio::start(&[]);
    let mut client = trio.client();
    assert_eq!(client.say("CLIENT SETNAME <b>shop</b>"), "OK");
    (0..50).for_each(|_| assert_eq!(client.say("GET none"), "(nil)"));
    assert_eq!(client.say("SET a 1"), "OK");
    eventually("the client is listed", || trio.ambassador.get("/").contains("&lt;b&gt;shop"));
    let page = trio.ambassador.get("/");
    assert!(
        page.contains("<svg viewBox=") && page.contains("writes, ") && page.contains(" % of reads"),
        "{page}"
    );
    for server in [&trio.primary, &trio.replicas[0], &trio.replicas[1]] {
        assert!(page.matches(&server.address()).count() >= 2, "{page}");
    }
    assert!(page.contains("Median latency") && page.contains("Connected clients"));
    let told = trio.ambassador.get("/status.json");
    assert!(told.contains("\"role\":\"primary\"") && told.contains("\"lag_bytes\""), "{told}");
    // A new primary.
    trio.primary.kill();
    // Promoted before anybody missed the old one, there would be no outage.
    eventually("the loss is noticed", || trio.ambassador.metric("redis_ambassador_primary_known") == 0.0);
    assert_eq!(trio.replicas[0].client().say("REPLICAOF NO ONE"), "OK");
    assert_eq!(client.say("SET a 2"), "OK");
    let failover = format!("\"to\":\"{}\"", trio.replicas[0].address());
    eventually("the change is told", || trio.ambassador.get("/status.json").contains(&failover));
    assert!(trio.ambassador.get("/").contains("Changes of the primary"));
    eventually("the outage is counted", || {
        trio.ambassador.metric("redis_ambassador_primary_outage_seconds_count") >= 1.0
    });
}

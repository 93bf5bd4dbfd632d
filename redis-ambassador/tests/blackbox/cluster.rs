//! A real Redis Cluster of three primaries and three replicas behind the ambassador: the client sees one server.

use crate::harness::{Ambassador, Client, Server, ask, eventually, server_port};
use crate::tls::Authority;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

struct Cluster {
    servers: Vec<Server>,
    ambassador: Ambassador,
}

fn node(more: &[&str]) -> Server {
    let bus = server_port().to_string();
    let flags = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", &bus];
    let times = ["--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0"];
    Server::start(&[&flags[..], &times[..], more].concat())
}

/// Runs `redis-cli --cluster`. Gossip takes a while, so what it finds not to be agreed on yet is tried again.
fn cluster_cli(words: &[&str]) {
    eventually("the nodes agree", || {
        let output =
            Command::new("redis-cli").arg("--cluster").args(words).arg("--cluster-yes").output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let unsettled = text.contains("fix your cluster problems");
        assert!(output.status.success() || unsettled, "redis-cli --cluster {words:?}: {text}");
        output.status.success() && !unsettled
    });
}

impl Cluster {
    fn start(more: &[&str]) -> Self {
        let servers: Vec<_> = (0..6).map(|_| node(&[])).collect();
        let addresses: Vec<_> = servers.iter().map(Server::address).collect();
        let mut words = vec!["create"];
        words.extend(addresses.iter().map(String::as_str));
        words.extend(["--cluster-replicas", "1"]);
        cluster_cli(&words);
        eventually("every node knows that the cluster is fine", || {
            servers.iter().all(|server| {
                let mut client = server.client();
                client.say("CLUSTER INFO").contains("cluster_state:ok")
                    && (client.say("ROLE").starts_with("master")
                        || client.say("ROLE").contains(" connected "))
            })
        });
        let mut flags = vec!["--cluster".to_owned(), addresses[0].clone()];
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let ambassador = Ambassador::with_arguments(&flags);
        Self { servers, ambassador }
    }

    fn client(&self) -> Client {
        self.ambassador.client()
    }

    /// Position of the servers with that role.
    fn with_role(&self, role: &str) -> Vec<usize> {
        let is = |at: &usize| ask(self.servers[*at].port, "ROLE").is_some_and(|text| text.starts_with(role));
        (0..self.servers.len()).filter(is).collect()
    }

    fn reshard(&self, from: &str, to: &str, slots: &str) {
        let flags = ["--cluster-from", from, "--cluster-to", to, "--cluster-slots", slots];
        cluster_cli(&[&["reshard", &self.servers[0].address()][..], &flags[..]].concat());
    }

    /// Makes a replica the primary of its shard. An attempt that finds no majority in its five seconds is repeated.
    fn promote(&self, replica: usize) {
        let mut tried: Option<Instant> = None;
        eventually("it is primary", || {
            if tried.is_none_or(|at| at.elapsed() > Duration::from_secs(6)) {
                self.servers[replica].client().say("CLUSTER FAILOVER");
                tried = Some(Instant::now());
            }
            ask(self.servers[replica].port, "ROLE").is_some_and(|role| role.starts_with("master"))
        });
    }

    fn id(&self, at: usize) -> String {
        self.servers[at].client().say("CLUSTER MYID")
    }
}

#[test]
fn what_a_server_knows_of_itself_is_told_of_all_shards() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.client();
    let keys: Vec<String> = (0..30).map(|number| format!("key:{number}")).collect();
    keys.iter().for_each(|key| assert_eq!(client.say(&format!("SET {key} v")), "OK"));
    let mut waiting: Vec<Client> = (0..9).map(|_| cluster.client()).collect();
    for (at, waiter) in waiting.iter_mut().enumerate() {
        waiter.send(&format!("BLPOP list:{at} 0"));
    }
    eventually("all of them are seen", || client.say("INFO clients").contains("blocked_clients:9\r\n"));
    assert!(client.say("INFO").contains("db0:keys=30,expires=0,avg_ttl=0"));
    assert!(client.say("HELLO 3").contains("proto 3"));
    assert!(client.say("INFO keyspace").contains("db0:keys=30,expires=0,avg_ttl=0"));
    let shards = cluster.with_role("master").into_iter().map(|at| cluster.servers[at].client());
    let mut random = BTreeSet::new();
    for mut shard in shards {
        let own: Vec<String> = shard.say("KEYS key:*").split(' ').map(ToOwned::to_owned).collect();
        eventually("each shard has its turn", || {
            random.insert(client.say("RANDOMKEY"));
            own.iter().any(|key| random.contains(key))
        });
    }
    assert_eq!(client.say("CONFIG SET lua-time-limit 10"), "OK");
    for key in ["key:1", "key:2", "key:3"] {
        let mut busy = cluster.client();
        busy.send_words(&[b"EVAL", b"while true do end", b"1", key.as_bytes()]);
        eventually("it is stopped wherever it runs", || client.say("SCRIPT KILL") == "OK");
        assert!(busy.read().text().contains("killed by user"));
    }
    for key in keys {
        assert!(client.say(&format!("DEBUG OBJECT {key}")).contains("refcount"), "{key}");
    }
    assert_eq!(client.say("ACL SETUSER app on >secret ~* +@all"), "OK");
    assert_eq!(client.say("AUTH app secret"), "OK");
    (0..30).for_each(|number| assert_eq!(client.say(&format!("APPEND key:{number} w")), "2"));
}

#[test]
fn a_cluster_looks_like_one_server() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.client();
    for number in 0..300 {
        assert_eq!(client.say(&format!("SET key:{number} {number}")), "OK");
    }
    for number in 0..300 {
        assert_eq!(client.say(&format!("GET key:{number}")), number.to_string());
    }
    assert_eq!(client.say("DBSIZE"), "300");
    assert_eq!(client.say("KEYS key:*").split(' ').count(), 300);
    assert!(client.say("RANDOMKEY").starts_with("key:"));
    let (mut cursor, mut found) = ("0".to_owned(), BTreeSet::new());
    loop {
        let answer = client.say(&format!("SCAN {cursor} COUNT 50"));
        let mut words = answer.split(' ').filter(|word| !word.is_empty());
        cursor = words.next().unwrap().to_owned();
        found.extend(words.map(ToOwned::to_owned));
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found.len(), 300);
    assert!(client.say("SCAN x").starts_with("ERR"));

    // Several keys.
    assert_eq!(client.say("MSET a 1 b 2 c 3 d 4"), "OK");
    assert_eq!(client.say("MGET d c nothing b a d"), "4 3 (nil) 2 1 4");
    assert_eq!(client.say("EXISTS a b c nothing a"), "4");
    assert_eq!(client.say("TOUCH a b nothing"), "2");
    assert_eq!(client.say("DEL a b nothing"), "2");
    assert_eq!(client.say("UNLINK c d"), "2");
    assert!(client.say("MSET a 1 b").starts_with("ERR wrong number of arguments"));
    assert!(client.say("SINTER a b").starts_with("CROSSSLOT"));
    assert_eq!(client.say("SADD {t}a x y"), "2");
    assert_eq!(client.say("SADD {t}b y z"), "2");
    assert_eq!(client.say("SINTER {t}a {t}b"), "y");

    // A pipeline over all of them: answers in order.
    for number in 0..300 {
        client.send(&format!("INCRBY key:{number} 1000"));
        client.send(&format!("GET key:{number}"));
    }
    for number in 0..300 {
        assert_eq!(client.read().text(), (1000 + number).to_string());
        assert_eq!(client.read().text(), (1000 + number).to_string());
    }

    // Transactions on one slot, wherever it is; on several they fail as one.
    for number in 0..10 {
        assert_eq!(client.say("MULTI"), "OK");
        assert_eq!(client.say(&format!("INCR tx:{number}")), "QUEUED");
        assert_eq!(client.say(&format!("INCR tx:{number}")), "QUEUED");
        assert_eq!(client.say("EXEC"), "1 2");
        assert_eq!(client.say(&format!("WATCH tx:{number}")), "OK");
        assert_eq!(cluster.client().say(&format!("INCR tx:{number}")), "3");
        assert_eq!(client.say("MULTI"), "OK");
        assert_eq!(client.say(&format!("INCR tx:{number}")), "QUEUED");
        assert_eq!(client.say("EXEC"), "(nil)");
    }
    assert_eq!(client.say("MULTI"), "OK");
    assert_eq!(client.say("SET foo 1"), "QUEUED");
    let other = client.say("SET bar 1");
    assert!(other.starts_with("CROSSSLOT"), "{other}");
    assert!(client.say("EXEC").starts_with("EXECABORT"));
    assert_eq!(client.say("EXISTS foo bar"), "0");
    assert_eq!(client.say("MULTI"), "OK");
    assert_eq!(client.say("EXEC"), "");
    assert_eq!(client.say("MULTI"), "OK");
    assert_eq!(client.say("PING"), "QUEUED");
    assert_eq!(client.say("SET foo 1"), "QUEUED");
    assert_eq!(client.say("EXEC"), "PONG OK");

    // Blocking, on every shard; others go on.
    for key in ["foo", "bar", "hello"] {
        let mut blocked = cluster.client();
        blocked.send(&format!("BLPOP list:{key} 10"));
        blocked.send("PING");
        assert_eq!(client.say(&format!("RPUSH list:{key} x")), "1");
        assert_eq!(blocked.read().text(), format!("list:{key} x"));
        assert_eq!(blocked.read().text(), "PONG");
    }
    assert!(client.say("BLPOP foo bar 1").starts_with("CROSSSLOT"));
    assert_eq!(client.say("WAIT 1 5000"), "1");
    assert_eq!(client.say("WAIT 1 5000"), "1");
    client.send("CLIENT REPLY OFF");
    (0..20).for_each(|number| client.send(&format!("GET key:{number}")));
    assert_eq!(client.say("CLIENT REPLY ON"), "OK");
    client.send("CLIENT REPLY SKIP");
    client.send("MGET key:1 key:2");
    assert_eq!(client.say("GET key:3"), "1003");
    assert_eq!(client.say("CLIENT SETNAME me"), "OK");
    assert_eq!(client.say("CLIENT GETNAME"), "me");
    assert!(client.say("CLIENT INFO").contains(" name=me "));
    assert_eq!(client.say("CLIENT ID"), client.say("CLIENT ID"));

    // Scripts run wherever their keys are.
    client.send_words(&[b"SCRIPT", b"LOAD", b"return redis.call('GET', KEYS[1])"]);
    let sha = client.read().text();
    for number in 0..20 {
        let expected = (1000 + number).to_string();
        assert_eq!(client.say(&format!("EVALSHA {sha} 1 key:{number}")), expected);
        assert_eq!(client.say(&format!("EVALSHA_RO {sha} 1 key:{number}")), expected);
    }

    // Publish and subscribe, sharded too.
    let mut subscriber = cluster.client();
    assert_eq!(subscriber.say("SUBSCRIBE news"), "subscribe news 1");
    assert_eq!(client.say("PUBLISH news hi"), "1");
    assert_eq!(subscriber.read().text(), "message news hi");
    for channel in ["foo", "bar", "hello"] {
        let mut subscriber = cluster.client();
        assert_eq!(subscriber.say(&format!("SSUBSCRIBE {channel}")), format!("ssubscribe {channel} 1"));
        assert_eq!(client.say(&format!("SPUBLISH {channel} hi")), "1");
        assert_eq!(subscriber.read().text(), format!("smessage {channel} hi"));
    }

    // Larger than any buffer, on every shard.
    for size in [3 << 20, 20 << 20] {
        let value = vec![b'x'; size];
        for key in ["foo", "bar", "hello"] {
            client.send_words(&[b"SET", key.as_bytes(), &value]);
            assert_eq!(client.read().text(), "OK");
            assert_eq!(client.say(&format!("STRLEN {key}")), value.len().to_string());
            assert_eq!(client.say(&format!("GET {key}")).len(), value.len());
        }
    }
    assert_eq!(client.say("MULTI"), "OK");
    client.send_words(&[b"SET", b"bar", &vec![b'y'; 17 << 20]]);
    assert_eq!(client.read().text(), "QUEUED");
    assert_eq!(client.say("STRLEN bar"), "QUEUED");
    assert_eq!(client.say("EXEC"), format!("OK {}", 17 << 20));
    assert!(client.say("CLIENT ID").parse::<u64>().is_ok());
    for number in 0..20 {
        assert_eq!(client.say(&format!("GET key:{number}")), (1000 + number).to_string());
    }
    assert!(client.say("HELLO 3").contains("proto 3"));
    assert_eq!(client.say("MGET key:1 key:2 nothing"), "1001 1002 (nil)");
    let replicas = cluster.with_role("slave");
    assert_eq!(replicas.len(), 3);
    for replica in replicas {
        let address = cluster.servers[replica].address();
        let sample = format!("redis_ambassador_answers_total{{server=\"{address}\"}}");
        eventually("every shard's replica answers reads", || {
            (0..50).for_each(|number| drop(client.say(&format!("GET key:{number}"))));
            cluster.ambassador.metric(&sample) > 0.0
        });
    }
    assert_eq!(client.say("FLUSHALL"), "OK");
    assert_eq!(client.say("DBSIZE"), "0");
}

/// What writers have been promised, and what they were told instead.
#[derive(Default)]
struct Seen {
    /// Key to the last value that was acknowledged.
    written: BTreeMap<String, u64>,
    errors: Vec<String>,
    lost_replies: u64,
    operations: u64,
}

/// What is wrong with an answer. The values of a key only grow: a smaller one, or none, is a write that is gone.
fn complaint(what: &str, answer: &str, wanted: &str) -> String {
    let older = |(answer, wanted): (&str, &str)| {
        let number = |text: &str| text.parse::<u64>().ok();
        number(wanted).is_some_and(|wanted| answer == "(nil)" || number(answer).is_some_and(|n| n <= wanted))
    };
    let (given, hoped) = (answer.split(' '), wanted.split(' '));
    match given.clone().count() == hoped.clone().count() && given.zip(hoped).all(older) {
        true => format!("{what}: {answer}, {wanted} was acknowledged"),
        false => format!("{what}: {answer} instead of {wanted}"),
    }
}

/// Reads and writes of one key and others in one go: effects and answers keep their order.
fn pipeline(client: &mut Client, key: &str, round: u64, seen: &mut Seen) {
    let value = |step: u64| (round * 3 + step).to_string();
    for step in 1..=3 {
        client.send(&format!("SET {key} {}", value(step)));
        client.send(&format!("GET {key}"));
        client.send(&format!("SET {key}:{step} x"));
    }
    for step in 1..=3 {
        for expected in ["OK".to_owned(), value(step), "OK".to_owned()] {
            match client.read().text() {
                answer if answer == expected => {}
                answer if answer.starts_with("LOSTREPLY") => seen.lost_replies += 1,
                // What was lost cannot be read back.
                _ if seen.lost_replies > 0 => {}
                answer => seen.errors.push(complaint(&format!("pipeline on {key}"), &answer, &expected)),
            }
        }
    }
}

/// Writes and reads back in every way, until told to stop.
fn worker(port: u16, id: usize, stop: &AtomicBool, total: &AtomicU64) -> Seen {
    let (mut client, mut reader) = (Client::connect(port), Client::connect(port));
    let mut seen = Seen::default();
    for round in 0u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("w{id}:{}", round % 200);
        let mut expect = |client: &mut Client, line: &str, wanted: &str| {
            let answer = client.say(line);
            if answer == wanted {
                return true;
            }
            if answer.starts_with("LOSTREPLY") {
                seen.lost_replies += 1;
            } else {
                seen.errors.push(complaint(line, &answer, wanted));
            }
            false
        };
        if expect(&mut client, &format!("SET {key} {round}"), "OK") {
            // Another client of the same ambassador sees it at once.
            expect(&mut reader, &format!("GET {key}"), &round.to_string());
            expect(&mut client, &format!("MGET {key} {key}"), &format!("{round} {round}"));
            seen.written.insert(key.clone(), round);
        } else {
            seen.written.remove(&key);
        }
        let mut expect = |client: &mut Client, line: &str, wanted: &str| {
            let answer = client.say(line);
            let good = answer == wanted;
            if answer.starts_with("LOSTREPLY") {
                seen.lost_replies += 1;
            } else if !good {
                seen.errors.push(complaint(line, &answer, wanted));
            }
            good
        };
        let (one, two) = (format!("m{id}:{}", round % 50), format!("n{id}:{}", round % 50));
        if expect(&mut client, &format!("MSET {one} {round} {two} {round}"), "OK") {
            expect(&mut client, &format!("MGET {one} {two}"), &format!("{round} {round}"));
        }
        if round % 4 == 0
            && expect(&mut client, "MULTI", "OK")
            && expect(&mut client, &format!("SET {{t{id}:{}}}x {round}", round % 64), "QUEUED")
            && expect(&mut client, &format!("GET {{t{id}:{}}}x", round % 64), "QUEUED")
        {
            expect(&mut client, "EXEC", &format!("OK {round}"));
        }
        pipeline(&mut client, &format!("p{id}:{}", round % 100), round / 100, &mut seen);
        seen.operations += 1;
        total.fetch_add(1, Ordering::SeqCst);
    }
    seen
}

/// Runs workers during an event, and afterwards checks that everything acknowledged is there.
fn under_load(cluster: &Cluster, event: impl FnOnce()) -> (u64, u64, Vec<String>) {
    let (port, stop, total) =
        (cluster.ambassador.port, Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..6)
        .map(|id| {
            let (stop, total) = (Arc::clone(&stop), Arc::clone(&total));
            std::thread::spawn(move || worker(port, id, &stop, &total))
        })
        .collect();
    // However slow the machine is, some worker has to finish a round now and then.
    let more = |count: u64| {
        let goal = total.load(Ordering::SeqCst) + count;
        let mut seen = total.load(Ordering::SeqCst);
        while seen <= goal {
            eventually("workers go on", || total.load(Ordering::SeqCst) > seen);
            seen = total.load(Ordering::SeqCst);
        }
    };
    more(1000);
    event();
    more(1000);
    stop.store(true, Ordering::SeqCst);
    let (mut operations, mut lost, mut errors) = (0, 0, Vec::new());
    let mut client = cluster.client();
    for seen in workers.into_iter().map(|worker| worker.join().unwrap()) {
        operations += seen.operations;
        lost += seen.lost_replies;
        errors.extend(seen.errors);
        for (key, value) in seen.written {
            let found = client.say(&format!("GET {key}"));
            if found != value.to_string() {
                errors.push(format!("{key} is {found}, {value} was acknowledged"));
            }
        }
    }
    eprintln!("{operations} rounds, {lost} lost replies, {} errors", errors.len());
    (operations, lost, errors)
}

#[test]
fn resharding_goes_unnoticed() {
    let cluster = Cluster::start(&[]);
    let primaries = cluster.with_role("master");
    let (_, lost, errors) = under_load(&cluster, || {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            cluster.reshard(&cluster.id(primaries[from]), &cluster.id(primaries[to]), "700");
        }
    });
    assert!(errors.is_empty() && lost == 0, "{lost} lost, {errors:#?}");
    let healed = cluster.ambassador.metric("redis_ambassador_commands_healed_total");
    assert!(healed > 0.0, "nothing was redirected, so nothing was tried");
}

#[test]
fn a_cluster_grows_and_shrinks() {
    let cluster = Cluster::start(&[]);
    let (one, other) = (&cluster.servers[0], node(&[]));
    let old = cluster.id(cluster.with_role("master")[1]);
    let new = other.client().say("CLUSTER MYID");
    let (_, lost, errors) = under_load(&cluster, || {
        cluster_cli(&["add-node", &other.address(), &one.address()]);
        eventually("everybody knows the new node, and that one the cluster", || {
            other.client().say("CLUSTER INFO").contains("cluster_state:ok")
                && cluster.servers.iter().all(|server| server.client().say("CLUSTER NODES").contains(&new))
        });
        cluster.reshard(&old, &new, "500");
        cluster.reshard(&new, &old, "500");
        cluster_cli(&["del-node", &one.address(), &new]);
    });
    assert!(errors.is_empty() && lost == 0, "{lost} lost, {errors:#?}");
    let address = other.address();
    let used = format!("redis_ambassador_answers_total{{server=\"{address}\"}}");
    assert!(cluster.ambassador.metric(&used) > 0.0, "the new node was never used");
}

#[test]
fn a_cluster_is_reached_over_tls_with_a_password() {
    let authority = Authority::new();
    authority.certificate("server", &["localhost", "127.0.0.1"]);
    authority.certificate("client", &["ambassador"]);
    let tls = authority.server();
    let mut flags: Vec<&str> = tls.iter().map(String::as_str).collect();
    flags.extend(["--tls-cluster", "yes", "--requirepass", "secret", "--masterauth", "secret"]);
    let servers: Vec<_> = (0..3).map(|_| node(&flags)).collect();
    let addresses: Vec<_> = servers.iter().map(Server::address).collect();
    let (ca, certificate, key) =
        (authority.text("ca.pem"), authority.text("client.pem"), authority.text("client.key"));
    let mut words = vec!["create"];
    words.extend(addresses.iter().map(String::as_str));
    words.extend(["--tls", "--cacert", &ca, "--cert", &certificate, "--key", &key, "-a", "secret"]);
    cluster_cli(&words);
    let password = authority.path("password");
    std::fs::write(&password, "secret").unwrap();
    let mut arguments = vec!["--cluster".to_owned(), addresses[2].clone()];
    arguments.extend(["--upstream-password-file".to_owned(), password.display().to_string()]);
    arguments.extend(authority.upstream());
    let ambassador = Ambassador::with_arguments(&arguments);
    let mut client = ambassador.client();
    for number in 0..50 {
        assert_eq!(client.say(&format!("SET key:{number} {number}")), "OK");
        assert_eq!(client.say(&format!("GET key:{number}")), number.to_string());
    }
    assert_eq!(client.say("DBSIZE"), "50");
}

#[test]
fn a_planned_failover_of_a_shard_goes_unnoticed() {
    let cluster = Cluster::start(&[]);
    let (_, lost, errors) = under_load(&cluster, || {
        for replica in cluster.with_role("slave") {
            assert_eq!(cluster.servers[replica].client().say("CLUSTER FAILOVER"), "OK");
            eventually("it is primary", || {
                ask(cluster.servers[replica].port, "ROLE").is_some_and(|role| role.starts_with("master"))
            });
        }
    });
    assert!(errors.is_empty() && lost == 0, "{lost} lost, {errors:#?}");
}

/// One key of each shard.
const SHARDS: [&str; 3] = ["foo", "bar", "hello"];

#[test]
fn keys_of_every_shard_are_tracked() {
    let cluster = Cluster::start(&[]);
    let (mut cache, mut writer) = (cluster.client(), cluster.client());
    assert!(cache.say("HELLO 3").contains("proto 3"));
    assert!(cache.say("CLIENT TRACKING ON PREFIX x").starts_with("ERR PREFIX option requires BCAST"));
    assert!(cache.say("CLIENT TRACKINGINFO").contains("off"));
    assert!(cache.say("CLIENT TRACKING ON REDIRECT 7").starts_with("ERR CLIENT TRACKING with REDIRECT"));
    assert_eq!(cache.say("CLIENT TRACKING MAYBE"), "ERR syntax error");
    assert_eq!(cache.say("CLIENT TRACKING ON"), "OK");
    assert!(cache.say("CLIENT TRACKINGINFO").contains("on"));
    assert!(cache.say("SUBSCRIBE c").starts_with("ERR subscriptions"));
    for key in SHARDS {
        assert_eq!(cache.say(&format!("GET {key}")), "(nil)");
        assert_eq!(writer.say(&format!("SET {key} 0")), "OK");
        assert_eq!(cache.read().text(), format!("invalidate {key}"));
    }

    // No answer comes behind the news that it is old, however long it had to wait for its turn.
    cache.send("DEBUG SLEEP 0.5");
    SHARDS.iter().for_each(|key| cache.send(&format!("GET {key}")));
    cache.send("MGET foo bar hello");
    SHARDS.iter().for_each(|key| writer.send(&format!("SET {key} 1")));
    SHARDS.iter().for_each(|_| assert_eq!(writer.read().text(), "OK"));
    SHARDS.iter().for_each(|key| cache.send(&format!("GET {key}")));
    cache.send("ECHO end");
    let mut heard = Vec::new();
    while heard.last().is_none_or(|text| text != "end") {
        heard.push(cache.read().text());
    }
    let answers: Vec<usize> = (0..heard.len()).filter(|at| !heard[*at].starts_with("invalidate")).collect();
    assert_eq!(answers.len(), 1 + 3 + 1 + 3 + 1, "{heard:?}");
    for (nth, key) in SHARDS.iter().enumerate() {
        let (first, last) = (answers[1 + nth], answers[5 + nth]);
        assert_eq!(heard[last], "1", "{heard:?}");
        let told = heard[first..last].contains(&format!("invalidate {key}"));
        assert!(told || heard[first] == "1", "nobody has said that {key} is old: {heard:?}");
    }

    // What is read within a transaction is not tracked, so it counts as old when that is over.
    assert_eq!(cache.say("MULTI"), "OK");
    assert_eq!(cache.say("GET foo"), "QUEUED");
    assert_eq!(cache.say("EXEC"), "1");
    assert_eq!(cache.read().text(), "invalidate (nil)");

    // A server that is no longer asked tells nothing more: everything counts as old.
    assert_eq!(cache.say("GET foo"), "1");
    for replica in cluster.with_role("slave") {
        cluster.promote(replica);
        assert_eq!(cache.read().text(), "invalidate (nil)");
    }
    for key in SHARDS {
        assert_eq!(cache.say(&format!("GET {key}")), "1");
        assert_eq!(writer.say(&format!("SET {key} 2")), "OK");
        assert_eq!(cache.read().text(), format!("invalidate {key}"));
    }
    assert_eq!(cache.say("GET foo"), "2");
    assert_eq!(cache.say("CLIENT TRACKING OFF"), "OK");
    assert_eq!(writer.say("SET foo 3"), "OK");
    assert_eq!(cache.say("GET foo"), "3");
    assert!(cache.say("CLIENT TRACKINGINFO").contains("off"));
}

#[test]
fn keys_of_every_shard_are_told_to_those_who_ask_for_all() {
    let cluster = Cluster::start(&[]);
    let (mut cache, mut writer) = (cluster.client(), cluster.client());
    assert!(cache.say("HELLO 3").contains("proto 3"));
    assert_eq!(cache.say("CLIENT TRACKING ON BCAST PREFIX u: PREFIX v:"), "OK");
    let mut all_told = |cache: &mut Client| {
        for number in 0..30 {
            assert_eq!(writer.say(&format!("SET u:{number} x")), "OK");
            assert_eq!(cache.read().text(), format!("invalidate u:{number}"));
            assert_eq!(writer.say(&format!("SET other:{number} x")), "OK");
        }
    };
    all_told(&mut cache);
    let replica = cluster.with_role("slave")[0];
    cluster.promote(replica);
    assert_eq!(cache.read().text(), "invalidate (nil)");
    // Whoever takes over is listened to without being asked anything.
    let address = cluster.servers[replica].port;
    eventually("the new primary is listened to", || {
        ask(address, "INFO clients").is_some_and(|text| text.contains("tracking_clients:1"))
    });
    all_told(&mut cache);
    assert_eq!(cache.say("PING"), "PONG");

    let mut chooser = cluster.client();
    assert!(chooser.say("HELLO 3").contains("proto 3"));
    assert!(chooser.say("CLIENT CACHING YES").starts_with("ERR CLIENT CACHING can be called only when"));
    assert!(
        chooser.say("CLIENT TRACKING ON BCAST OPTIN").starts_with("ERR OPTIN and OPTOUT are not compatible")
    );
    assert!(chooser.say("CLIENT TRACKING ON OPTIN OPTOUT").starts_with("ERR You can't specify both"));
    assert_eq!(chooser.say("CLIENT TRACKING ON OPTIN NOLOOP"), "OK");
    assert!(chooser.say("CLIENT CACHING NO").starts_with("ERR CLIENT CACHING NO is only valid"));
    assert!(chooser.say("CLIENT TRACKING ON OPTOUT").starts_with("ERR You can't switch OPTIN/OPTOUT"));
    assert_eq!(chooser.say("CLIENT CACHING YES"), "OK");
    assert_eq!(chooser.say("GET u:1"), "x");
    assert_eq!(chooser.say("SET u:1 mine"), "OK");
    assert_eq!(chooser.say("GET u:1"), "mine");
    assert_eq!(cache.read().text(), "invalidate u:1");
    assert_eq!(cluster.client().say("SET u:1 other"), "OK");
    assert_eq!(chooser.read().text(), "invalidate u:1");
}

#[test]
fn cursors_outlive_the_server_that_gave_them() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.client();
    let tags = ["{foo}", "{bar}", "{hello}"];
    for tag in tags {
        for number in 0..1000 {
            assert_eq!(client.say(&format!("HSET {tag}hash field:{number} x")), "1");
            assert_eq!(client.say(&format!("SET {tag}key:{number} x")), "OK");
        }
    }
    let mut elements = |line: &str| -> (String, Vec<String>) {
        let answer = client.say(line);
        let mut words = answer.split(' ').filter(|word| !word.is_empty()).map(ToOwned::to_owned);
        (words.next().unwrap(), words.collect())
    };
    // A scan of everything and one of each hash, all of them on their way.
    let mut scans: Vec<(&str, String, BTreeSet<String>)> = vec![("SCAN", "0".to_owned(), BTreeSet::new())];
    scans.extend(tags.map(|tag| (tag, "0".to_owned(), BTreeSet::new())));
    let mut go_on = |scans: &mut Vec<(&str, String, BTreeSet<String>)>, steps: usize| {
        for (what, cursor, found) in scans {
            for _ in 0..steps {
                let (next, told) = elements(&match *what {
                    "SCAN" => format!("SCAN {cursor} COUNT 20"),
                    tag => format!("HSCAN {tag}hash {cursor} COUNT 20"),
                });
                found.extend(told);
                *cursor = next;
                if *cursor == "0" {
                    break;
                }
            }
        }
    };
    go_on(&mut scans, 9);
    assert!(scans.iter().all(|(_, cursor, _)| cursor != "0"));
    for replica in cluster.with_role("slave") {
        cluster.promote(replica);
    }
    go_on(&mut scans, 1000);
    for (what, cursor, found) in scans {
        assert_eq!(cursor, "0", "{what} never ends");
        let wanted = if what == "SCAN" { 3 * 1000 + 3 } else { 1000 + 1 };
        assert_eq!(found.len(), wanted, "{what}");
    }
}

#[test]
fn a_dead_primary_of_a_shard_is_a_pause() {
    let mut cluster = Cluster::start(&["--failover-wait", "30s"]);
    let victim = cluster.with_role("master")[1];
    let survivor = cluster.client();
    let mut dead = cluster.servers.remove(victim);
    let (_, lost, errors) = under_load(&cluster, || {
        dead.signal("-KILL");
        eventually("the replica takes over", || cluster.with_role("master").len() == 3);
    });
    drop((survivor, dead.kill()));
    // What the dead primary had acknowledged and not passed on may be gone: Redis promises no more.
    let serious: Vec<_> = errors.iter().filter(|error| !error.contains("was acknowledged")).collect();
    assert!(serious.is_empty(), "{lost} lost, {serious:#?}");
}

#[test]
fn clients_are_known_by_one_number_on_all_shards() {
    let cluster = Cluster::start(&["--threads", "2"]);
    let mut other = cluster.client();
    let mut waiting: Vec<(Client, String)> = (0..12)
        .map(|_| cluster.client())
        .map(|mut client| {
            let number = client.say("CLIENT ID");
            (client, number)
        })
        .collect();
    let numbers: BTreeSet<String> = waiting.iter().map(|(_, number)| number.clone()).collect();
    assert_eq!(numbers.len(), 12);
    for (at, (client, number)) in waiting.iter_mut().enumerate() {
        assert_eq!(&client.say("CLIENT ID"), number);
        assert!(client.say("CLIENT INFO").starts_with(&format!("id={number} addr=")));
        assert_eq!(other.say(&format!("CLIENT UNBLOCK {number}")), "0");
        client.send(&format!("BLPOP list:{at} 0"));
    }
    eventually("all of them wait", || other.say("INFO clients").contains("blocked_clients:12\r\n"));
    let listed: BTreeSet<String> = other
        .say("CLIENT LIST")
        .lines()
        .filter(|line| line.contains(" cmd=blpop "))
        .map(|line| line["id=".len()..line.find(' ').unwrap()].to_owned())
        .collect();
    assert_eq!(listed, numbers);
    let some: Vec<&str> = numbers.iter().take(5).map(String::as_str).collect();
    let lines = other.say(&format!("CLIENT LIST ID {}", some.join(" ")));
    assert_eq!(lines.lines().count(), 5, "{lines}");
    assert!(lines.lines().all(|line| some.iter().any(|number| line.starts_with(&format!("id={number} ")))));
    assert_eq!(other.say("CLIENT UNBLOCK 1"), "0");
    assert_eq!(other.say("CLIENT UNBLOCK x"), "ERR value is not an integer or out of range");
    assert!(other.say(&format!("CLIENT UNBLOCK {} MAYBE", waiting[0].1)).contains("TIMEOUT or ERROR"));
    for (at, (client, number)) in waiting.iter_mut().enumerate() {
        let (line, answer) = match at % 2 {
            0 => (format!("CLIENT UNBLOCK {number}"), "(nil)"),
            _ => (format!("CLIENT UNBLOCK {number} ERROR"), "UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        };
        assert_eq!(other.say(&line), "1", "{line}");
        assert!(client.read().text().starts_with(answer), "{line}");
        // It goes on under its number, wherever its next key is.
        assert_eq!(&client.say("CLIENT ID"), number);
        client.send(&format!("BLPOP next:{at} 0"));
    }
    eventually("all of them wait again", || other.say("INFO clients").contains("blocked_clients:12\r\n"));
    for (client, number) in &mut waiting {
        assert_eq!(other.say(&format!("CLIENT UNBLOCK {number} TIMEOUT")), "1");
        assert_eq!(client.read(), crate::harness::Value::Nil);
        client.send("BLPOP last 0");
    }
    eventually("they wait once more", || other.say("INFO clients").contains("blocked_clients:12\r\n"));
    for (client, number) in &mut waiting {
        assert_eq!(other.say(&format!("CLIENT KILL ID {number}")), "1");
        assert!(client.is_closed());
    }
}

#[test]
fn any_connection_of_a_shard_can_be_found_and_cut() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.client();
    assert_eq!(client.say("CLIENT KILL 127.0.0.1:1"), "ERR No such client");
    assert_eq!(client.say("CLIENT KILL ID 0"), "ERR client-id should be greater than 0");
    assert_eq!(client.say("CLIENT KILL ID 10 x"), "ERR syntax error");
    let mine = client.say("CLIENT ID");
    assert_eq!(client.say(&format!("CLIENT KILL ID {mine}")), "0");
    // Connections past the ambassador, under one number on each shard.
    for at in cluster.with_role("master") {
        for by_address in [false, true] {
            let mut direct = cluster.servers[at].client();
            assert_eq!(direct.say("CLIENT SETNAME direct"), "OK");
            let list = client.say("CLIENT LIST TYPE normal");
            let line = list.lines().find(|line| line.contains(" name=direct ")).expect("it is listed");
            let word = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap();
            match by_address {
                true => assert_eq!(client.say(&format!("CLIENT KILL {}", word("addr="))), "OK"),
                false => assert_eq!(client.say(&format!("CLIENT KILL ID {}", word("id="))), "1"),
            }
            assert!(direct.is_closed());
        }
    }
    let mut direct: Vec<Client> =
        cluster.with_role("master").into_iter().map(|at| cluster.servers[at].client()).collect();
    assert_eq!(client.say("ACL SETUSER app on >secret ~* +@all"), "OK");
    direct.iter_mut().for_each(|client| assert_eq!(client.say("AUTH app secret"), "OK"));
    assert_eq!(client.say("CLIENT KILL USER app"), "3");
    direct.iter_mut().for_each(|client| assert!(client.is_closed()));
}

#[test]
fn a_script_that_runs_wild_on_one_shard_is_gone_around() {
    let cluster = Cluster::start(&["--probe-timeout", "5s"]);
    let mut other = cluster.client();
    assert_eq!(other.say("CONFIG SET lua-time-limit 20"), "OK");
    let keys: Vec<String> = (0..30).map(|number| format!("key:{number}")).collect();
    for wild_keys in ["0", "1"] {
        // Its later requests keep their order, although they come when others already go another way.
        let mut wild = cluster.client();
        let script: [&[u8]; 4] = [b"EVAL", b"while true do end", wild_keys.as_bytes(), b"key:1"];
        wild.send_words(&script[..if wild_keys == "1" { 4 } else { 3 }]);
        (0..20).for_each(|number| wild.send(&format!("SET key:1 {number}")));
        let busy = |command: &str| {
            let ask = |key: &String| cluster.client().say(&format!("{command} {{{key}}}:count"));
            keys.iter().map(ask).filter(|answer| answer.starts_with("BUSY")).count()
        };
        // A write that came before anybody knew would wait for the script; these are asked again.
        eventually("one shard says that it is busy", || busy("OBJECT ENCODING") > 0);
        assert!((1..keys.len()).contains(&busy("INCR")), "the other shards answer");
        if wild_keys == "0" {
            let seen = || {
                let page = cluster.ambassador.get("/metrics");
                page.lines().any(|line| line.contains("role=\"unknown\"") && line.ends_with(" 1"))
            };
            eventually("it is seen that the server is busy", seen);
            for line in ["PING", "TIME", "EVAL 1 0", "FUNCTION LIST"] {
                assert!(cluster.client().say(line).starts_with("BUSY"), "{line}");
            }
        }
        (20..40).for_each(|number| wild.send(&format!("SET key:1 {number}")));
        assert_eq!(other.say("SCRIPT KILL"), "OK");
        assert!(wild.read().text().contains("killed by user"));
        (0..40).for_each(|number| assert_eq!(wild.read().text(), "OK", "{number}"));
        assert_eq!(other.say("GET key:1"), "39");
    }
}

#[test]
fn a_pause_holds_writes_on_every_shard_until_it_is_ended() {
    let cluster = Cluster::start(&[]);
    let (mut admin, mut sticky) = (cluster.client(), cluster.client());
    sticky.say("CLIENT ID");
    assert_eq!(admin.say("CLIENT PAUSE 60000 WRITE"), "OK");
    let mut writers: Vec<Client> = (0..9).map(|_| cluster.client()).collect();
    for (at, writer) in writers.iter_mut().enumerate() {
        (0..5).for_each(|number| writer.send(&format!("SET key:{at} {number}")));
    }
    sticky.send("SET sticky 1");
    let mut several = cluster.client();
    several.send("MSET a 1 b 2 c 3 d 4");
    eventually("they wait", || admin.say("INFO clients").contains("blocked_clients:13\r\n"));
    assert_eq!(admin.say("EXISTS a b c d key:1"), "0");
    assert_eq!(admin.say("CLIENT UNPAUSE"), "OK");
    for writer in &mut writers {
        (0..5).for_each(|_| assert_eq!(writer.read().text(), "OK"));
    }
    assert_eq!((sticky.read().text(), several.read().text()), ("OK".to_owned(), "OK".to_owned()));
    (0..9).for_each(|at| assert_eq!(admin.say(&format!("GET key:{at}")), "4"));
}

//! Clients see one plain Redis.

use crate::harness::{Ambassador, Client, Server, Trio, Value, encode, eventually};
use std::time::{Duration, Instant};

#[test]
fn commands_are_answered_and_reads_are_spread() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    assert_eq!(client.say("SET a 1"), "OK");
    assert_eq!(client.say("GET a"), "1");
    assert_eq!(client.say("INCR a"), "2");
    assert_eq!(client.say("get a"), "2");
    assert!(client.say("NOSUCHCOMMAND x").starts_with("ERR unknown command"));
    assert!(client.say("GET").starts_with("ERR wrong number of arguments"));
    assert!(client.say("INFO replication").contains("role:master"));
    client.send_raw(b"PING\r\n\r\nECHO \"a b\"\r\n");
    assert_eq!(client.read().text(), "PONG");
    assert_eq!(client.read().text(), "a b");
    // A command that nobody knows counts as a write to every key: for a moment the primary answers.
    eventually("both replicas have answered", || {
        for key in 0..100 {
            assert_eq!(client.say(&format!("GET none{key}")), "(nil)");
        }
        trio.replicas.iter().all(|replica| {
            let sample = format!("redis_ambassador_answers_total{{server=\"{}\"}}", replica.address());
            trio.ambassador.metric(&sample) > 20.0
        })
    });
    assert!(trio.ambassador.get("/").contains("replica of"));
    assert_eq!(client.say("QUIT"), "OK");
    assert!(client.is_closed());
}

#[test]
fn pipelines_are_answered_in_order_and_read_their_own_writes() {
    for mode in ["pod", "eventual", "session"] {
        let trio = Trio::start(&["--consistency", mode]);
        let mut client = trio.client();
        let mut batch = Vec::new();
        for round in 0..500 {
            let value = round.to_string();
            batch.extend(encode(&[b"GET", b"other"]));
            batch.extend(encode(&[b"SET", b"k", value.as_bytes()]));
            batch.extend(encode(&[b"GET", b"k"]));
            batch.extend(encode(&[b"PING"]));
            batch.extend(encode(&[b"MGET", b"k", b"none"]));
        }
        client.send_raw(&batch);
        for round in 0..500 {
            assert_eq!(client.read(), Value::Nil, "{mode} {round}");
            assert_eq!(client.read().text(), "OK", "{mode} {round}");
            assert_eq!(client.read().text(), round.to_string(), "{mode}");
            assert_eq!(client.read().text(), "PONG", "{mode} {round}");
            assert_eq!(client.read().text(), format!("{round} (nil)"), "{mode}");
        }
    }
}

#[test]
fn a_read_is_not_overtaken_by_a_later_write() {
    let trio = Trio::start(&["--consistency", "eventual"]);
    let mut client = trio.client();
    for round in 0..300 {
        let (before, after) = (format!("a{round}"), format!("b{round}"));
        assert_eq!(client.say(&format!("SET k{round} {before}")), "OK");
        eventually("replicas have it", || {
            trio.replicas.iter().all(|_| client.say(&format!("GET k{round}")) == before)
        });
        let key = format!("k{round}");
        let mut batch = encode(&[b"GET", key.as_bytes()]);
        batch.extend(encode(&[b"SET", key.as_bytes(), after.as_bytes()]));
        client.send_raw(&batch);
        assert_eq!(client.read().text(), before);
        assert_eq!(client.read().text(), "OK");
    }
}

#[test]
fn transactions_guard_and_stay_together() {
    let trio = Trio::start(&[]);
    let (mut one, mut two) = (trio.client(), trio.client());
    assert_eq!(one.say("SET a 1"), "OK");
    assert_eq!(one.say("WATCH a"), "OK");
    assert_eq!(two.say("SET a 2"), "OK");
    assert_eq!(one.say("MULTI"), "OK");
    assert_eq!(one.say("SET a 3"), "QUEUED");
    assert_eq!(one.say("EXEC"), "(nil)");
    assert_eq!(one.say("GET a"), "2");
    assert_eq!(one.say("MULTI"), "OK");
    assert_eq!(two.say("GET a"), "2");
    assert_eq!(one.say("SET a 4"), "QUEUED");
    assert_eq!(one.say("GET a"), "QUEUED");
    assert_eq!(two.say("GET a"), "2");
    assert_eq!(one.say("EXEC"), "OK 4");
    assert_eq!(two.say("GET a"), "4");
    assert!(one.say("EXEC").starts_with("ERR EXEC without MULTI"));
    assert_eq!(one.say("MULTI"), "OK");
    assert!(one.say("NOSUCH").starts_with("ERR unknown command"));
    assert!(one.say("EXEC").starts_with("EXECABORT"));
    assert_eq!(one.say("MULTI"), "OK");
    assert_eq!(one.say("DISCARD"), "OK");
    assert_eq!(one.say("GET a"), "4");
}

#[test]
fn a_client_that_vanishes_in_a_transaction_leaves_nothing() {
    let trio = Trio::start(&[]);
    let mut direct = trio.primary.client();
    let count = |direct: &mut Client| direct.say("CLIENT LIST TYPE normal").matches("cmd=").count();
    trio.client().say("SET a 0");
    let before = count(&mut direct);
    let mut clients: Vec<_> = (0..10).map(|_| trio.client()).collect();
    for client in &mut clients {
        client.say("WATCH a");
        client.say("MULTI");
        client.say("SET a 9");
    }
    assert!(count(&mut direct) >= before + 10);
    drop(clients);
    // Two connections of nobody's are kept ready for the next.
    eventually("their connections are gone", || count(&mut direct) <= before + 2);
    assert_eq!(trio.client().say("GET a"), "0");
}

#[test]
fn own_connections_are_given_back() {
    let trio = Trio::start(&[]);
    let mut direct = trio.primary.client();
    let mut client = trio.client();
    client.say("SET a 0");
    for _ in 0..50 {
        client.say("MULTI");
        client.say("INCR a");
        client.say("EXEC");
        client.say("BLPOP none 0.001");
    }
    let others: Vec<_> = (0..20)
        .map(|_| {
            let mut other = trio.client();
            other.say("MULTI");
            other.say("EXEC");
            other
        })
        .collect();
    let list = direct.say("CLIENT LIST TYPE normal");
    assert!(list.matches("cmd=").count() <= 6, "{list}");
    drop(others);
}

#[test]
fn publish_and_subscribe() {
    let trio = Trio::start(&[]);
    let (mut listener, mut speaker) = (trio.client(), trio.client());
    assert_eq!(listener.say("SUBSCRIBE news"), "subscribe news 1");
    assert_eq!(listener.say("PSUBSCRIBE n*"), "psubscribe n* 2");
    assert_eq!(speaker.say("PUBLISH news hello"), "2");
    assert_eq!(listener.read().text(), "message news hello");
    assert_eq!(listener.read().text(), "pmessage n* news hello");
    assert_eq!(listener.say("PING"), "pong ");
    assert_eq!(listener.say("UNSUBSCRIBE news"), "unsubscribe news 1");
    assert_eq!(listener.say("PUNSUBSCRIBE"), "punsubscribe n* 0");
    assert_eq!(listener.say("SET a 1"), "OK");
    assert_eq!(speaker.say("GET a"), "1");
}

#[test]
fn monitor_streams() {
    let trio = Trio::start(&[]);
    let (mut watcher, mut worker) = (trio.client(), trio.client());
    assert_eq!(watcher.say("MONITOR"), "OK");
    assert_eq!(worker.say("SET seen 1"), "OK");
    while !watcher.read().text().contains("\"SET\" \"seen\" \"1\"") {}
}

#[test]
fn blocking_commands_disturb_nobody() {
    let trio = Trio::start(&[]);
    let (mut waiting, mut other) = (trio.client(), trio.client());
    waiting.send("BLPOP queue 20");
    let start = Instant::now();
    for round in 0..100 {
        assert_eq!(other.say(&format!("SET a {round}")), "OK");
        assert_eq!(other.say("GET a"), round.to_string());
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(other.say("LPUSH queue item"), "1");
    assert_eq!(waiting.read().text(), "queue item");
    assert_eq!(waiting.say("XREAD BLOCK 10 STREAMS s $"), "(nil)");
}

#[test]
fn databases_users_and_protocols_are_each_clients_own() {
    let trio = Trio::start(&[]);
    let (mut one, mut two) = (trio.client(), trio.client());
    assert_eq!(one.say("SELECT 3"), "OK");
    assert_eq!(one.say("SET where three"), "OK");
    assert_eq!(two.say("GET where"), "(nil)");
    assert_eq!(one.say("GET where"), "three");
    assert_eq!(one.say("SELECT 99"), "ERR DB index is out of range");
    assert_eq!(one.say("GET where"), "three");
    let refusal = one.say("AUTH wrong");
    assert!(refusal.starts_with("ERR AUTH <password> called without any password"), "{refusal}");
    assert_eq!(one.say("ACL SETUSER app on >secret ~* +@all -flushall"), "OK");
    assert!(two.say("AUTH app no").starts_with("WRONGPASS"));
    assert_eq!(two.say("AUTH app secret"), "OK");
    assert_eq!(two.say("ACL WHOAMI"), "app");
    assert_eq!(one.say("ACL WHOAMI"), "default");
    assert!(two.say("FLUSHALL").starts_with("NOPERM"));
    let mut three = trio.client();
    three.send("HELLO 3 AUTH app secret SETNAME me");
    assert!(matches!(three.read(), Value::Other('%', _)));
    assert_eq!(three.say("CLIENT GETNAME"), "me");
    assert_eq!(three.say("HSET h f v"), "1");
    three.send("HGETALL h");
    assert_eq!(three.read(), Value::Other('%', vec![Value::Bulk(b"f".into()), Value::Bulk(b"v".into())]));
    assert!(three.say("HELLO 9").starts_with("NOPROTO"));
    assert_eq!(three.say("RESET"), "RESET");
    assert_eq!(three.say("ACL WHOAMI"), "default");
    assert_eq!(three.say("HGETALL h"), "f v");
}

#[test]
fn hello_authenticates_on_a_connection_of_ones_own_as_well() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    assert_eq!(client.say("ACL SETUSER app on >secret ~* +@all"), "OK");
    let id = client.say("CLIENT ID");
    assert!(client.say("HELLO 3 AUTH app wrong").starts_with("WRONGPASS"));
    assert_eq!(client.say("ACL WHOAMI"), "default");
    assert!(client.say("HELLO 3 AUTH app secret SETNAME me").contains("proto 3"));
    assert_eq!(client.say("ACL WHOAMI"), "app");
    assert_eq!(client.say("CLIENT GETNAME"), "me");
    assert_eq!(client.say("CLIENT ID"), id);
}

/// What a real server answers to each line, and that the ambassador says the same.
fn told_alike(server: &Server, ambassador: &Ambassador, lines: &[&str]) -> Vec<String> {
    let (mut plain, mut client) = (server.client(), ambassador.client());
    let mut told = Vec::new();
    for line in lines {
        let answers = (plain.say(line), client.say(line));
        // The greeting has the connection's number.
        if !(line.starts_with("HELLO") && answers.0.starts_with("server redis")) {
            assert_eq!(answers.0, answers.1, "{line} in {lines:?}");
        }
        told.push(answers.1);
    }
    told
}

#[test]
fn a_database_stays_whoever_takes_over() {
    let server = Server::start(&[]);
    let ambassador = Ambassador::start(&server, &[], &[]);
    let mut admin = server.client();
    assert_eq!(admin.say("ACL SETUSER admin on >pw ~* &* +@all"), "OK");
    for user in ["one", "two"] {
        assert_eq!(admin.say(&format!("ACL SETUSER {user} on >pw ~* &* +@all -select")), "OK");
    }
    let own = ["MULTI", "GET k", "EXEC"];
    for first in [&[][..], &["AUTH admin pw"], &["WATCH k"]] {
        let mut lines = first.to_vec();
        lines.extend([
            "SELECT 3",
            "SET k three",
            "AUTH one pw",
            "GET k",
            "AUTH two pw",
            "GET k",
            "ACL WHOAMI",
        ]);
        lines.extend(own);
        lines.extend(["HELLO 3 AUTH one pw", "GET k", "SELECT 4", "AUTH admin pw", "AUTH two pw", "GET k"]);
        lines.extend(own);
        lines.extend(["SELECT 0", "RESET", "GET k", "AUTH two pw", "GET k"]);
        lines.extend(own);
        let told = told_alike(&server, &ambassador, &lines);
        assert_eq!(told.iter().filter(|answer| *answer == "three").count(), 6, "{told:?}");
    }
}

#[test]
fn a_greeting_that_fails_leaves_no_name() {
    let server = Server::start(&[]);
    let ambassador = Ambassador::start(&server, &[], &[]);
    assert_eq!(server.client().say("ACL SETUSER app on >secret ~* &* +@all"), "OK");
    for own in [&[][..], &["WATCH k"]] {
        let mut lines = own.to_vec();
        lines.extend(["HELLO 3 AUTH app wrong SETNAME me", "CLIENT GETNAME", "CLIENT SETNAME mine"]);
        lines.extend([
            "HELLO 3 AUTH app wrong SETNAME me",
            "CLIENT GETNAME",
            "HELLO 4 SETNAME me",
            "CLIENT GETNAME",
        ]);
        lines.extend(["HELLO 3 AUTH app secret SETNAME me", "CLIENT GETNAME", "ACL WHOAMI"]);
        lines.extend(["HELLO 2", "CLIENT GETNAME", "HELLO 2 SETNAME you", "CLIENT GETNAME"]);
        lines.extend(["HELLO 2 SETNAME ", "CLIENT GETNAME"]);
        told_alike(&server, &ambassador, &lines);
    }
}

#[test]
fn a_user_without_password_may_give_one() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    assert_eq!(client.say("AUTH default anything"), "OK");
    assert!(client.say("HELLO 3 AUTH default anything").contains("proto 3"));
    assert!(client.say("AUTH anything").starts_with("ERR AUTH <password> called without any password"));
    assert_eq!(client.say("SET k v"), "OK");
    assert_eq!(client.say("GET k"), "v");
}

#[test]
fn wrong_passwords_and_databases_leave_nothing_behind() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    assert_eq!(client.say("ACL SETUSER app on >secret ~* +@all"), "OK");
    let mut other = trio.client();
    assert_eq!(other.say("AUTH app secret"), "OK");
    for attempt in 0..600 {
        assert!(client.say(&format!("AUTH app wrong{attempt}")).starts_with("WRONGPASS"), "{attempt}");
        assert_eq!(client.say(&format!("SELECT {}", 16 + attempt)), "ERR DB index is out of range");
        assert_eq!(other.say("ACL WHOAMI"), "app");
    }
    assert_eq!(client.say("ACL WHOAMI"), "default");
    assert_eq!(client.say("AUTH app secret"), "OK");
    assert_eq!(client.say("ACL WHOAMI"), "app");
    let mut direct = trio.primary.client();
    eventually("no connection is left over", || {
        direct.say("CLIENT LIST TYPE normal").matches("cmd=").count() <= 8
    });
}

#[test]
fn client_commands_speak_of_the_client() {
    let trio = Trio::start(&[]);
    let (mut one, mut two) = (trio.client(), trio.client());
    assert_eq!(one.say("CLIENT SETNAME first"), "OK");
    let id = one.say("CLIENT ID");
    assert_eq!(one.say("CLIENT ID"), id);
    assert_ne!(two.say("CLIENT ID"), id);
    assert!(one.say("CLIENT INFO").contains("name=first"));
    assert!(two.say(&format!("CLIENT LIST ID {id}")).contains("name=first"));
    one.send("BLPOP none 20");
    eventually("it is blocked", || two.say(&format!("CLIENT UNBLOCK {id}")) == "1");
    assert_eq!(one.read(), Value::Nil);
    one.send_raw(&[encode(&[b"CLIENT", b"REPLY", b"OFF"]), encode(&[b"SET", b"q", b"1"])].concat());
    one.send("CLIENT REPLY ON");
    assert_eq!(one.read().text(), "OK");
    assert_eq!(two.say("GET q"), "1");
}

#[test]
fn answers_that_are_not_wanted_do_not_come() {
    let trio = Trio::start(&[]);
    // What a plain server does with the same words is what counts.
    let script = [
        "CLIENT REPLY SKIP",
        "SET a 1",
        "GET a",
        "CLIENT REPLY SKIP",
        "CLIENT REPLY SKIP",
        "GET a",
        "GET a",
        "CLIENT REPLY SKIP",
        "nonsense",
        "PING",
        "CLIENT REPLY MAYBE",
        "CLIENT REPLY OFF",
        "SET a 2",
        "MULTI",
        "INCR a",
        "GET a",
        "EXEC",
        "CLIENT REPLY SKIP",
        "GET a",
        "CLIENT REPLY ON",
        "GET a",
        "CLIENT REPLY SKIP",
        "CLIENT REPLY ON",
        "GET a",
        "CLIENT REPLY OFF",
        "RESET",
        "GET a",
        "CLIENT REPLY OFF",
        "SUBSCRIBE c",
        "PUBLISH c x",
        "UNSUBSCRIBE c",
        "CLIENT REPLY ON",
        "ECHO end",
    ];
    let heard = |mut client: Client| -> Vec<String> {
        script.iter().for_each(|line| client.send(line));
        let mut heard = Vec::new();
        loop {
            let answer = client.read().text();
            if answer == "end" {
                return heard;
            }
            heard.push(answer);
        }
    };
    assert_eq!(heard(trio.client()), heard(trio.primary.client()));
}

#[test]
fn tracking_invalidates() {
    let trio = Trio::start(&[]);
    let (mut cache, mut writer) = (trio.client(), trio.client());
    cache.send("HELLO 3");
    cache.read();
    assert_eq!(cache.say("CLIENT TRACKING ON"), "OK");
    assert_eq!(cache.say("GET watched"), "(nil)");
    assert_eq!(writer.say("SET watched 1"), "OK");
    assert_eq!(cache.read().text(), "invalidate watched");
}

#[test]
fn wait_counts_replicas_of_this_clients_writes() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    for round in 0..20 {
        assert_eq!(client.say(&format!("SET a {round}")), "OK");
        assert_eq!(client.say("WAIT 2 2000"), "2");
    }
    for replica in &trio.replicas {
        replica.signal("-STOP");
    }
    let mut fresh = trio.client();
    assert_eq!(fresh.say("SET a x"), "OK");
    assert_eq!(fresh.say("WAIT 1 100"), "0");
    for replica in &trio.replicas {
        replica.signal("-CONT");
    }
}

#[test]
fn scans_are_complete() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    for chunk in 0..20 {
        let mut words: Vec<String> = vec!["HSET".into(), "h".into()];
        words.extend((0..100).flat_map(|item| [format!("field{}", chunk * 100 + item), "v".into()]));
        client.say(&words.join(" "));
    }
    let (mut cursor, mut fields) = ("0".to_owned(), std::collections::BTreeSet::new());
    loop {
        client.send(&format!("HSCAN h {cursor} COUNT 50"));
        let Value::Array(answer) = client.read() else { panic!("no array") };
        let Value::Array(items) = &answer[1] else { panic!("no items") };
        fields.extend(items.iter().step_by(2).map(Value::text));
        cursor = answer[0].text();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(fields.len(), 2000);
}

#[test]
fn scripts_run_where_they_are_known() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    let sha = {
        client.send_words(&[b"SCRIPT", b"LOAD", b"return redis.call('GET', KEYS[1])"]);
        client.read().text()
    };
    client.say("SET a script");
    for _ in 0..10 {
        assert_eq!(client.say(&format!("EVALSHA {sha} 1 a")), "script");
        assert_eq!(client.say(&format!("EVALSHA_RO {sha} 1 a")), "script");
    }
}

#[test]
fn a_script_that_runs_wild_can_be_stopped() {
    let trio = Trio::with_servers(&["--lua-time-limit", "100"], &["--probe-timeout", "5s"]);
    let (mut wild, mut other) = (trio.client(), trio.client());
    assert_eq!(other.say("SET a 1"), "OK");
    wild.send_words(&[b"EVAL", b"while true do end", b"0"]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(other.say("SCRIPT KILL"), "OK");
    assert!(wild.read().text().contains("Script killed by user"));
    assert_eq!(other.say("GET a"), "1");
    assert!(other.say("FUNCTION KILL").starts_with("NOTBUSY"));
}

#[test]
fn others_hear_that_a_script_keeps_the_server_busy() {
    let trio = Trio::with_servers(&["--lua-time-limit", "20"], &["--probe-timeout", "5s"]);
    let (mut wild, mut other) = (trio.client(), trio.client());
    assert_eq!(wild.say("SELECT 9") + &other.say("SELECT 9"), "OKOK");
    assert_eq!(other.say("SET a 1"), "OK");
    let library: &[u8] =
        b"#!lua name=wild\nredis.register_function('wild', function() while true do end end)";
    other.send_words(&[b"FUNCTION", b"LOAD", library]);
    assert_eq!(other.read().text(), "wild");
    for (command, kill) in [("FCALL wild 0", "FUNCTION KILL"), ("EVAL while#true#do#end 0", "SCRIPT KILL")] {
        let words: Vec<_> = command.split(' ').map(|word| word.replace('#', " ")).collect();
        let words: Vec<_> = words.iter().map(String::as_bytes).collect();
        wild.send_words(&words);
        // Before the server has noticed that the script runs long, it may still answer.
        eventually("the server says that it is busy", || {
            let mut asking = trio.client();
            asking.say("SET b 1").starts_with("BUSY")
        });
        assert_eq!(other.say(kill), "OK", "{kill}");
        assert!(wild.read().text().contains("killed by user"), "{kill}");
        eventually("it is over", || other.say("SET a 2") == "OK");
    }
    assert_eq!(wild.say("GET a"), "2");
}

#[test]
fn clients_with_names_get_connections_of_their_own_with_these_names() {
    let trio = Trio::start(&[]);
    let mut direct = trio.primary.client();
    for name in ["first", "second", "first"] {
        let mut client = trio.client();
        assert_eq!(client.say(&format!("CLIENT SETNAME {name}")), "OK");
        for round in 0..3 {
            assert_eq!(client.say("MULTI"), "OK");
            assert_eq!(client.say("CLIENT GETNAME"), "QUEUED");
            assert_eq!(client.say(&format!("SET a {round}")), "QUEUED");
            assert_eq!(client.say("EXEC"), format!("{name} OK"));
            assert_eq!(client.say("WATCH a") + &client.say("UNWATCH"), "OKOK");
        }
        client.send(&format!("BLPOP list-{name} 0"));
        eventually("it waits under its name", || {
            let list = direct.say("CLIENT LIST");
            list.lines().any(|line| line.contains(&format!("name={name} ")) && line.contains("cmd=blpop"))
        });
        assert_eq!(direct.say(&format!("RPUSH list-{name} x")), "1");
        assert_eq!(client.read().text(), format!("list-{name} x"));
    }
}

#[test]
fn authentication_of_the_ambassador_itself() {
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "s3cret\n").unwrap();
    let path = password.path().to_str().unwrap().to_owned();
    let server = ["--requirepass", "s3cret", "--masterauth", "s3cret"];
    let primary = Server::start(&server);
    let with = Ambassador::start(&primary, &[], &["--upstream-password-file", &path]);
    assert_eq!(with.client().say("SET a 1"), "OK");
    let without = Ambassador::start(&primary, &[], &[]);
    let mut client = without.client();
    assert!(client.say("GET a").starts_with("NOAUTH"));
    assert!(client.say("SELECT 2").starts_with("NOAUTH"));
    assert!(client.say("AUTH nope").starts_with("WRONGPASS"));
    assert_eq!(client.say("AUTH s3cret"), "OK");
    assert_eq!(client.say("GET a"), "1");
    assert_eq!(client.say("SELECT 2"), "OK");
    assert_eq!(client.say("GET a"), "(nil)");
}

//! Large values, slow clients, and input that is no RESP.

use crate::harness::{Trio, Value, encode, eventually};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

#[test]
fn large_values_are_streamed() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    let value = vec![b'x'; 64 << 20];
    let idle = trio.ambassador.memory();
    client.send_words(&[b"SET", b"big", &value]);
    assert_eq!(client.read().text(), "OK");
    client.send("GET big");
    let Value::Bulk(back) = client.read() else { panic!("no bulk") };
    assert!(back == value);
    let after = trio.ambassador.memory();
    assert!(after < idle + (24 << 20), "{idle} -> {after}");
    assert_eq!(client.say("STRLEN big"), value.len().to_string());
}

#[test]
fn a_million_elements_pass() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    client.send_words(&[b"EVAL", b"for i=1,1000000,5000 do local t={} for j=i,i+4999 do t[#t+1]=j end redis.call('RPUSH',KEYS[1],unpack(t)) end", b"1", b"l"]);
    assert_eq!(client.read(), Value::Nil);
    assert_eq!(client.say("LLEN l"), "1000000");
    client.send("LRANGE l 0 -1");
    let Value::Array(items) = client.read() else { panic!("no array") };
    assert_eq!((items.len(), items[999_999].text()), (1_000_000, "1000000".to_owned()));
}

#[test]
fn a_request_is_bounded_as_a_whole() {
    let trio = Trio::start(&["--max-request", "1MiB"]);
    let (mut client, mut other) = (trio.client(), trio.client());
    let value = vec![b'x'; 300 << 10];
    client.send_words(&[b"MSET", b"a", &value, b"b", &value, b"c", &value]);
    assert_eq!(client.read().text(), "OK");
    // Many that are long together are no long one.
    for _ in 0..8 {
        client.send_words(&[b"SET", b"d", &value]);
    }
    (0..8).for_each(|_| assert_eq!(client.read().text(), "OK"));
    assert_eq!(other.say("SET a short"), "OK");
    let request = encode(&[b"MSET", b"a", &value, b"b", &value, b"c", &value, b"d", &value]);
    // It is refused, and its client closed, before all of it has arrived.
    let _ = client.stream.get_mut().write_all(&request);
    let mut answer = Vec::new();
    let _ = client.stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"-ERR Protocol error: too big request"), "{answer:?}");
    assert_eq!(other.say("GET a"), "short");
}

#[test]
fn a_slow_reader_slows_nobody_else() {
    // A loaded machine may be slow to answer probes; that is not what is looked at here.
    let trio = Trio::start(&["--probe-timeout", "15s"]);
    let mut setup = trio.client();
    setup.send_words(&[b"SET", b"big", &vec![b'x'; 8 << 20]]);
    assert_eq!(setup.read().text(), "OK");
    let mut slow: Vec<_> = (0..4).map(|_| trio.client()).collect();
    for client in &mut slow {
        for _ in 0..8 {
            client.send("GET big");
        }
    }
    let mut other = trio.client();
    let start = Instant::now();
    for round in 0..200 {
        assert_eq!(other.say(&format!("SET a {round}")), "OK");
        assert_eq!(other.say("GET a"), round.to_string());
        assert_eq!(other.say("GET b"), "(nil)");
    }
    // A reader that held others up would do so for good: nothing is read before all of this is done.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(trio.ambassador.memory() < 200 << 20, "{}", trio.ambassador.memory());
    for client in &mut slow {
        for _ in 0..8 {
            let value = client.read();
            let Value::Bulk(bytes) = value else { panic!("no bulk: {value:?}") };
            assert_eq!(bytes.len(), 8 << 20);
        }
    }
}

#[test]
fn a_client_that_never_reads_is_bounded() {
    let trio = Trio::start(&[]);
    let mut client = trio.client();
    client.stream.get_ref().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let value = vec![b'v'; 10_000];
    trio.client().send_words(&[b"SET", b"v", &value]);
    let batch = encode(&[b"GET", b"v"]).repeat(1000);
    for _ in 0..1000 {
        if client.stream.get_mut().write_all(&batch).is_err() {
            break;
        }
    }
    assert!(trio.ambassador.memory() < 100 << 20, "{}", trio.ambassador.memory());
    assert_eq!(trio.client().say("PING"), "PONG");
}

#[test]
fn answers_that_wait_for_an_earlier_one_are_bounded() {
    let trio = Trio::start(&[
        "--consistency",
        "eventual",
        "--max-lag",
        "0",
        "--max-latency",
        "0",
        "--probe-timeout",
        "30s",
    ]);
    let mut setup = trio.client();
    setup.send_words(&[b"SET", b"big", &vec![b'x'; 1 << 20]]);
    assert_eq!(setup.read().text(), "OK");
    assert_eq!(setup.say("WAIT 2 5000"), "2");
    let idle = trio.ambassador.memory();
    // The primary is busy, and the replicas have answered everything long before it answers.
    let (mut client, mut other) = (trio.client(), trio.client());
    client.send("DEBUG SLEEP 3");
    for _ in 0..500 {
        client.send("GET big");
    }
    for _ in 0..200 {
        assert_eq!(other.say("STRLEN big"), (1 << 20).to_string());
    }
    let busy = trio.ambassador.memory();
    assert!(busy < idle + (24 << 20), "{idle} -> {busy}");
    println!("memory: {idle} idle, {busy} with 500 MiB of answers behind one that is still to come");
    assert_eq!(client.read().text(), "OK");
    for _ in 0..500 {
        let Value::Bulk(bytes) = client.read() else { panic!("no bulk") };
        assert_eq!(bytes.len(), 1 << 20);
    }
    assert_eq!(client.say("PING"), "PONG");
}

#[test]
fn all_clients_together_are_bounded() {
    let trio = Trio::start(&["--max-buffered", "1MiB", "--max-latency", "0", "--probe-timeout", "30s"]);
    let mut bystander = trio.client();
    bystander.send_words(&[b"SET", b"v", &vec![b'v'; 100_000]]);
    assert_eq!(bystander.read().text(), "OK");
    let idle = trio.ambassador.memory();
    let kicked = || trio.ambassador.metric("redis_ambassador_clients_kicked_total");
    // Each alone is far below any limit of its own.
    let silent: Vec<_> = (0..12)
        .map(|_| {
            let mut client = trio.client();
            client.stream.get_ref().set_nonblocking(true).unwrap();
            let _ = client.stream.get_mut().write_all(&encode(&[b"GET", b"v"]).repeat(200));
            client
        })
        .collect();
    eventually("the largest is closed", || kicked() > 0.0);
    let answer = bystander.say("GET v");
    assert_eq!(answer.len(), 100_000, "{answer}");
    let busy = trio.ambassador.memory();
    println!("memory: {idle} idle, {busy} with {} clients that do not read", silent.len());
    assert!(busy < idle + (48 << 20), "{idle} -> {busy}");
    drop(silent);
    eventually("nothing is kept for those that are gone", || {
        trio.ambassador.metric("redis_ambassador_buffered_bytes{side=\"client_output\"}") < 4096.0
    });
}

#[test]
fn a_pipeline_is_bounded_in_bytes() {
    let trio = Trio::start(&["--max-pipeline-bytes", "64KiB", "--probe-timeout", "30s"]);
    let idle = trio.ambassador.memory();
    let mut client = trio.client();
    client.send("DEBUG SLEEP 2");
    let writer = client.stream.get_ref().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let mut writer = writer;
        let request = encode(&[b"SET", b"k", &vec![b'x'; 8000]]);
        (0..4000).for_each(|_| writer.write_all(&request).unwrap());
    });
    let mut other = trio.client();
    assert_eq!(other.say("CLIENT GETNAME"), "(nil)");
    eventually("it is no longer read", || {
        trio.ambassador.metric("redis_ambassador_buffered_bytes{side=\"server_requests\"}") > 0.0
    });
    let busy = trio.ambassador.memory();
    assert!(busy < idle + (4 << 20), "{idle} -> {busy}");
    (0..4001).for_each(|_| assert_eq!(client.read().text(), "OK"));
    sender.join().unwrap();
}

#[test]
fn what_is_no_request_closes_its_client_alone() {
    let trio = Trio::start(&[]);
    let mut bystander = trio.client();
    for (input, answer) in [
        (&b"*x\r\n"[..], "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\nx", "ERR Protocol error: expected '$', got 'x'"),
        (b"*1\r\n$-5\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*99999999\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n$99999999999\r\n", "ERR Protocol error: invalid bulk length"),
        (b"SET \"a\r\n", "ERR Protocol error: unbalanced quotes in request"),
    ] {
        let mut client = trio.client();
        client.send("PING");
        client.send_raw(input);
        assert_eq!(client.read().text(), "PONG");
        assert_eq!(client.read().text(), answer);
        assert!(client.is_closed());
        assert_eq!(bystander.say("PING"), "PONG");
    }
    let mut client = trio.client();
    client.send_raw(&vec![b'x'; 100_000]);
    assert_eq!(client.read().text(), "ERR Protocol error: too big inline request");
}

#[test]
fn too_many_clients_are_refused() {
    let trio = Trio::start(&["--max-clients", "3"]);
    let mut held: Vec<_> = (0..3).map(|_| trio.client()).collect();
    for client in &mut held {
        assert_eq!(client.say("PING"), "PONG");
    }
    assert_eq!(trio.client().read().text(), "ERR max number of clients reached");
    held.pop();
    eventually("there is room again", || {
        let mut client = trio.client();
        client.stream.get_mut().write_all(b"PING\r\n").is_ok()
            && client.try_read() == Some(Value::Simple("PONG".into()))
    });
}

#[test]
fn termination_finishes_what_is_in_flight() {
    let mut trio = Trio::start(&[]);
    let mut client = trio.client();
    let before = trio.ambassador.metric("redis_ambassador_commands_total");
    client.send("DEBUG SLEEP 0.9");
    eventually("the command has been taken", || {
        trio.ambassador.metric("redis_ambassador_commands_total") > before
    });
    trio.ambassador.process.signal("-TERM");
    assert_eq!(client.read().text(), "OK");
    assert!(client.is_closed());
    let status = trio.ambassador.process.child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest);
}

#[test]
fn denied_commands_are_refused() {
    let trio = Trio::start(&["--deny", "FLUSHALL", "--deny", "CONFIG|SET"]);
    let mut client = trio.client();
    assert_eq!(client.say("SET a 1"), "OK");
    assert!(client.say("FLUSHALL").starts_with("NOPERM"));
    assert!(client.say("CONFIG SET maxmemory 1").starts_with("NOPERM"));
    assert_eq!(client.say("CONFIG GET maxmemory"), "maxmemory 0");
    assert_eq!(client.say("MULTI"), "OK");
    assert!(client.say("FLUSHALL").starts_with("ERR unknown command 'denied-by-ambassador'"));
    assert!(client.say("EXEC").starts_with("EXECABORT"));
    assert_eq!(client.say("GET a"), "1");
}

#[test]
fn silent_clients_are_closed_when_that_is_wanted() {
    let trio = Trio::start(&["--client-idle-timeout", "300ms"]);
    let (mut silent, mut blocked) = (trio.client(), trio.client());
    assert_eq!(silent.say("PING"), "PONG");
    blocked.send("BLPOP none 1");
    assert!(silent.is_closed());
    assert_eq!(blocked.read(), Value::Nil);
}

#[test]
fn servers_can_be_checked_and_commands_explained() {
    let trio = Trio::start(&[]);
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_redis-ambassador"))
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (primary, replica) = (trio.primary.address(), trio.replicas[0].address());
    let (code, text) = run(&["check", "--primary", &primary, "--replica", &replica]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("primary with") && text.contains("1 replicas serve reads"), "{text}");
    let (code, text) = run(&["check", "--primary", &replica]);
    assert_eq!(code, Some(1), "{text}");
    let (code, text) = run(&["explain", "get", "foo", "--primary", "a:1"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("goes to   a replica"), "{text}");
}

#[test]
fn a_wrong_flag_is_named() {
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_redis-ambassador"))
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&["--primery", "a:1"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("did you mean `--primary`"), "{text}");
    assert_eq!(run(&[]).0, Some(2));
    assert_eq!(run(&["--primary", "a:1", "--check-config"]).0, Some(0));
}

#[test]
fn requests_that_wait_for_a_server_are_bounded() {
    let mut trio = Trio::start(&["--max-queued", "10KiB", "--failover-wait", "60s"]);
    trio.primary.kill();
    let mut waiting = trio.client();
    waiting.send_words(&[b"SET", b"k", &[b'x'; 8000]]);
    let mut client = trio.client();
    // The first may still find the connection open and learn that its answer is lost.
    eventually("there is no room", || {
        client.send_words(&[b"SET", b"k", &[b'x'; 8000]]);
        client.read().text().contains("too many commands wait")
    });
}

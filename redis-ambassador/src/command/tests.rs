//! Classification of real requests with the built-in table.

use super::*;
use crate::resp::{RequestFramer, RequestLimits, Step, write_multibulk};
use proptest::prelude::*;

pub(crate) fn with_request<T>(words: &[&str], check: impl FnOnce(&Table, &Request<'_>) -> T) -> T {
    let mut frame = Vec::new();
    write_multibulk(&mut frame, words.iter().map(|word| word.as_bytes()));
    let mut framer = RequestFramer::new(RequestLimits::default());
    assert_eq!(framer.advance(&frame), Ok(Step::Request(frame.len())));
    check(&Table::builtin(), &Request::new(&frame, framer.args()))
}

fn effect(line: &str) -> Effect {
    with_request(&line.split(' ').collect::<Vec<_>>(), |table, request| table.classify(request).effect)
}

fn keys(line: &str) -> (Vec<String>, bool) {
    with_request(&line.split(' ').collect::<Vec<_>>(), |table, request| {
        let mut keys = Vec::new();
        let complete = table.classify(request).command.is_some_and(|command| {
            visit_keys(command, request, |key| keys.push(String::from_utf8_lossy(key).into_owned()))
        });
        (keys, complete)
    })
}

#[test]
fn reads_go_to_replicas_and_everything_else_does_not() {
    for line in [
        "GET a",
        "get a",
        "MGET a b",
        "EXISTS a",
        "HGETALL h",
        "ZRANGE z 0 -1",
        "XREAD COUNT 2 STREAMS s 0",
        "SORT l",
        "SORT_RO l",
        "GEORADIUS g 1 2 3 m",
        "BITFIELD b GET u8 0",
        "BITFIELD_RO b GET u8 0",
        "EVAL_RO s 1 k",
        "EVALSHA_RO s 1 k",
        "FCALL_RO f 1 k",
        "GEORADIUS_RO g 1 2 3 m",
        "TTL a",
        "STRLEN a",
        "SINTERCARD 2 a b",
    ] {
        assert_eq!(effect(line), Effect::Read, "{line}");
    }
    for line in [
        "SET a 1",
        "SORT l STORE d",
        "GEORADIUS g 1 2 3 m STORE d",
        "BITFIELD b GET u8 0 SET u8 0 1",
        "EVAL s 1 k",
        "EVALSHA s 1 k",
        "FCALL f 1 k",
        "GETEX a",
        "GETSET a b",
        "XADD s * a b",
        "NOSUCH.COMMAND a",
        "EXPIRE a 1",
        "XREADGROUP GROUP g c STREAMS s >",
        "FLUSHALL",
        "FCALL f 0",
        "FUNCTION LOAD x",
    ] {
        assert_eq!(effect(line), Effect::Write, "{line}");
    }
    for line in [
        "SCAN 0",
        "HSCAN h 0",
        "KEYS *",
        "DBSIZE",
        "RANDOMKEY",
        "OBJECT ENCODING a",
        "MEMORY USAGE a",
        "PFCOUNT h",
        "SORT l BY w_*",
        "SORT_RO l GET #",
        "XREAD BLOCK 0 STREAMS s $",
        "TOUCH a",
        "XINFO STREAM s",
        "PING",
        "INFO",
        "PUBLISH c m",
        "SPUBLISH c m",
    ] {
        assert_eq!(effect(line), Effect::PrimaryRead, "{line}");
    }
}

#[test]
fn blocking_is_seen() {
    let blocks = |line: &str| {
        with_request(&line.split(' ').collect::<Vec<_>>(), |table, request| table.classify(request).blocks)
    };
    assert!(blocks("BLPOP a 0") && blocks("BZMPOP 0 1 a MIN") && blocks("XREAD BLOCK 0 STREAMS s $"));
    assert!(blocks("XREADGROUP GROUP g c BLOCK 0 STREAMS s >"));
    assert!(!blocks("XREAD STREAMS s 0") && !blocks("GET a") && !blocks("XREADGROUP GROUP g c STREAMS s >"));
}

#[test]
fn keys_are_found_where_the_server_says() {
    let found = |line| keys(line).0.join(" ");
    assert_eq!(found("GET a"), "a");
    assert_eq!(found("MSET a 1 b 2"), "a b");
    assert_eq!(found("DEL a b c"), "a b c");
    assert_eq!(found("BLPOP a b 0"), "a b");
    assert_eq!(found("XREAD COUNT 2 STREAMS s t 0 0"), "s t");
    assert_eq!(found("EVAL s 2 a b c"), "a b");
    assert_eq!(found("ZUNIONSTORE d 2 a b WEIGHTS 1 2"), "d a b");
    assert_eq!(found("GEORADIUS g 1 2 3 m STORE d"), "g d");
    assert_eq!(found("XGROUP CREATE s g $"), "s");
    assert_eq!(found("BZMPOP 0 2 a b MIN"), "a b");
    assert_eq!(found("MIGRATE h 1 k 0 5"), "k");
    assert!(keys("GET a").1 && keys("MSET a 1 b 2").1 && keys("EVAL s 1 a").1);
    assert!(!keys("EVAL s 0").1 && !keys("FLUSHALL").1 && !keys("SORT a STORE b").1 && !keys("EVAL s x a").1);
    assert!(!keys("GET").1 && !keys("EVAL s 99999999999 a").1);
}

#[test]
fn denied_commands_are_marked() {
    let mut table = Table::builtin();
    table.deny(&["FLUSHALL".to_owned(), "config|set".to_owned(), "SCRIPT".to_owned(), "nosuch".to_owned()]);
    let denied = |name: &str, sub: &str| {
        let command = table.find(name.as_bytes()).unwrap();
        command.subcommand(sub.as_bytes()).unwrap_or(command).denied
    };
    assert!(denied("flushall", "") && denied("config", "SET") && denied("script", "load"));
    assert!(!denied("config", "get") && !denied("get", ""));
}

#[test]
fn the_builtin_table_is_whole() {
    let table = Table::builtin();
    assert!(table.len() > 230, "{}", table.len());
    assert!(table.find(b"CONFIG").is_some_and(|config| config.subcommand(b"Set").is_some()));
    assert!(table.find(b"").is_none() && table.find(&[0xff; 300]).is_none());
}

proptest! {
    #[test]
    fn classification_never_panics(words in prop::collection::vec("[a-zA-Z0-9*$-]{0,8}", 0..8), name in 0usize..240) {
        let table = Table::builtin();
        let name = include_str!("builtin.txt").lines().nth(name).unwrap_or("get").split([' ', '|']).next().unwrap();
        let mut request = vec![name];
        request.extend(words.iter().map(String::as_str));
        with_request(&request, |_, request| {
            let classified = table.classify(request);
            if let Some(command) = classified.command {
                visit_keys(command, request, |_| ());
            }
        });
    }
}

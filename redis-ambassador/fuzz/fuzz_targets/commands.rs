//! What a command is and where its keys are: no panic whatever the arguments and whatever a server says of its
//! commands; keys are arguments, and a split request loses none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_ambassador::cluster::{SLOTS, everywhere, scan_cursor, slot_of, split};
use redis_ambassador::command::{Begin, Command, Find, Flags, KeySpec, Request, Table, visit_keys};
use redis_ambassador::resp::{RequestFramer, RequestLimits, Step, write_multibulk};
use std::sync::LazyLock;

static TABLE: LazyLock<Table> = LazyLock::new(Table::builtin);

/// Frames words and lets `look` see the request.
fn framed<R>(words: &[&[u8]], look: impl FnOnce(&Request<'_>) -> R) -> R {
    let mut frame = Vec::new();
    write_multibulk(&mut frame, words.iter().copied());
    look_at(&frame, look)
}

fn look_at<R>(frame: &[u8], look: impl FnOnce(&Request<'_>) -> R) -> R {
    let mut framer = RequestFramer::new(RequestLimits::default());
    assert_eq!(framer.advance(frame), Ok(Step::Request(frame.len())));
    look(&Request::new(frame, framer.args()))
}

/// Whatever a server may say about a command's keys.
fn declared(word: &str, numbers: [i32; 4]) -> Command {
    let [a, b, c, d] = numbers;
    let size = |number: i32| number as usize;
    let begin = match a & 3 {
        0 => Begin::Index(size(b)),
        1 => Begin::Keyword { word: word.to_owned(), from: b },
        2 => Begin::Index(usize::from(b as u8 % 8)),
        _ => Begin::Unknown,
    };
    let find = match a >> 2 & 3 {
        0 => Find::Range { last: c, step: size(d), limit: size(b) },
        1 => Find::Counted { count: size(c), first: size(d), step: size(b) },
        2 => Find::Range { last: c % 8, step: size(d) % 4, limit: size(b) % 4 },
        _ => Find::Counted { count: size(c) % 4, first: size(d) % 4, step: size(b) % 4 },
    };
    let spec = KeySpec { writes: a & 16 != 0, incomplete: a & 32 != 0, begin, find };
    let flags = Flags { readonly: a & 64 != 0, write: a & 128 != 0, ..Flags::default() };
    Command::new("declared", flags, vec![spec], Vec::new())
}

fn keys(command: &Command, request: &Request<'_>) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    visit_keys(command, request, |key| keys.push(key.to_vec()));
    assert!(keys.len() <= request.len() * command.specs.len());
    keys
}

fn check(words: &[&[u8]], numbers: [i32; 4]) {
    framed(words, |request| {
        let classified = TABLE.classify(request);
        let shouted: Vec<Vec<u8>> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
        let shouted: Vec<&[u8]> = shouted.iter().map(Vec::as_slice).collect();
        framed(&shouted, |request| {
            let loud = TABLE.classify(request);
            assert_eq!(
                (loud.effect, loud.kind, loud.blocks),
                (classified.effect, classified.kind, classified.blocks)
            );
        });
        let word = String::from_utf8_lossy(words.last().copied().unwrap_or_default()).into_owned();
        keys(&declared(&word, numbers), request);
        let Some(command) = classified.command else { return };
        let mut whole = keys(command, request);
        let _ = everywhere(&command.name, request);
        if let Some((_, parts)) = split(&command.name, request) {
            let mut found = Vec::new();
            for part in &parts {
                assert!(part.slot < SLOTS);
                look_at(&part.frame, |request| found.extend(keys(command, request)));
            }
            whole.sort();
            found.sort();
            assert_eq!(whole, found);
        }
        whole.iter().for_each(|key| assert!(slot_of(key) < SLOTS));
    });
    let _ = scan_cursor(numbers[0] as u64 ^ (numbers[1] as u64) << 32, &[0, 3, 5]);
}

fuzz_target!(|input: ([i32; 4], &[u8])| {
    let (numbers, line) = input;
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    check(&words, numbers);
});

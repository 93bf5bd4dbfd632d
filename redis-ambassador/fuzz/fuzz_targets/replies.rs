//! What a server sends, cut anywhere, gives the same replies and the same error; nothing is taken that is not there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_ambassador::cluster::{Join, Joined, Redirect, parse_nodes};
use redis_ambassador::resp::{ReplyError, ReplyFramer};

type Found = (Vec<(Vec<u8>, bool)>, Option<ReplyError>);

fn replies(stream: &[u8], piece: usize) -> Found {
    let mut framer = ReplyFramer::new();
    let (mut found, mut reply, mut start, mut there) = (Vec::new(), Vec::new(), 0, 0);
    loop {
        let chunk = match framer.advance(&stream[start..there]) {
            Ok(chunk) => chunk,
            Err(error) => return (found, Some(error)),
        };
        assert!(start + chunk.taken <= there);
        reply.extend_from_slice(&stream[start..start + chunk.taken]);
        start += chunk.taken;
        if chunk.done {
            assert!(!framer.in_reply() && !reply.is_empty());
            found.push((std::mem::take(&mut reply), framer.is_push()));
        } else if there == stream.len() {
            return (found, None);
        } else {
            there = (there + piece).min(stream.len());
        }
    }
}

/// Answers of several servers become one.
fn join(parts: &[(Vec<u8>, bool)]) {
    let parts: Vec<&[u8]> = parts.iter().take(4).map(|(bytes, _)| &bytes[..]).collect();
    let places = (0..parts.len()).map(|part| vec![part, parts.len() + part]).collect();
    for how in [
        Join::Sum,
        Join::First,
        Join::FirstFound,
        Join::Concat,
        Join::Info,
        Join::FirstGood,
        Join::Scan { base: 1 << 48, next: 0 },
        Join::Place(places),
    ] {
        let mut joined = Joined::new(how, parts.len());
        let mut ended = false;
        for (part, bytes) in parts.iter().enumerate() {
            let (first, last) = bytes.split_at(bytes.len() / 2);
            assert!(!joined.push(part, first, false));
            let _ = joined.has_nil(part, last);
            ended = joined.push(part, last, true);
        }
        if ended {
            let answer = joined.finish();
            let mut framer = ReplyFramer::new();
            let chunk = framer.advance(&answer);
            assert!(chunk.is_ok_and(|chunk| chunk.done && chunk.taken == answer.len()), "{answer:?}");
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, stream) = input;
    let whole = replies(stream, stream.len().max(1));
    assert_eq!(whole, replies(stream, usize::from(piece) + 1));
    join(&whole.0);
    if let Ok(text) = std::str::from_utf8(stream) {
        let _ = parse_nodes(text);
    }
    let _ = Redirect::parse(stream);
});

//! What a client sends, cut anywhere, gives the same requests and the same error; arguments lie within their frame,
//! and a line becomes one request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_ambassador::resp::{ProtocolError, RequestFramer, RequestLimits, Step, inline_to_multibulk};

type Found = (Vec<(usize, Vec<Vec<u8>>)>, Option<ProtocolError>);

fn limits() -> RequestLimits {
    // Small enough for the fuzzer to reach.
    RequestLimits { max_args: 50, max_bulk: 600, max_request: 2000, max_line: 300 }
}

fn requests(stream: &[u8], piece: usize) -> Found {
    let mut framer = RequestFramer::new(limits());
    let (mut found, mut start, mut there) = (Vec::new(), 0, 0);
    loop {
        let step = match framer.advance(&stream[start..there]) {
            Ok(step) => step,
            Err(error) => return (found, Some(error)),
        };
        let length = match step {
            Step::Incomplete if there == stream.len() => return (found, None),
            Step::Incomplete => {
                there = (there + piece).min(stream.len());
                continue;
            }
            Step::Request(length) => {
                let frame = &stream[start..start + length];
                found.push((length, framer.args().iter().map(|arg| arg.of(frame).to_vec()).collect()));
                length
            }
            Step::Inline(length) => {
                line(&stream[start..start + length]);
                found.push((length, Vec::new()));
                length
            }
            Step::Nothing(length) => length,
        };
        assert!(length > 0);
        start += length;
        framer.reset();
    }
}

/// A line means one request, or nothing, or is refused.
fn line(line: &[u8]) {
    let Ok(Some(frame)) = inline_to_multibulk(line) else { return };
    let mut framer = RequestFramer::new(RequestLimits::default());
    assert_eq!(framer.advance(&frame), Ok(Step::Request(frame.len())));
    assert!(!framer.args().is_empty());
}

/// The same when the beginning of a frame is let go of before its end has come, as the proxy does with large ones.
fn streamed(stream: &[u8], piece: usize) -> (usize, bool) {
    let mut framer = RequestFramer::new(limits());
    let (mut start, mut there, mut ended) = (0, 0, 0);
    loop {
        match framer.advance(&stream[start..there]) {
            Ok(Step::Incomplete) if there == stream.len() => return (ended, false),
            Ok(Step::Incomplete) => {
                if framer.missing() > 0 {
                    start += framer.discard_scanned();
                }
                there = (there + piece).min(stream.len());
            }
            Ok(Step::Request(length) | Step::Inline(length) | Step::Nothing(length)) => {
                start += length;
                ended = start;
                framer.reset();
            }
            Err(_) => return (ended, true),
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, stream) = input;
    let piece = usize::from(piece) + 1;
    let whole = requests(stream, stream.len().max(1));
    assert_eq!(whole, requests(stream, piece));
    assert_eq!(streamed(stream, stream.len().max(1)), streamed(stream, piece));
});

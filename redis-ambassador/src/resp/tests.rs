//! Every split gives the same frames; garbage gives an error and never a panic.

use super::*;
use proptest::prelude::*;

/// All requests in `bytes` when they arrive in pieces of the given sizes.
fn requests(bytes: &[u8], pieces: &[usize]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let mut framer = RequestFramer::new(RequestLimits::default());
    let (mut found, mut start, mut there, mut piece) = (Vec::new(), 0, 0, 0);
    loop {
        match framer.advance(&bytes[start..there]) {
            Ok(Step::Incomplete) if there == bytes.len() => return (found, None),
            Ok(Step::Incomplete) => {
                let size = pieces.get(piece % pieces.len().max(1)).copied().unwrap_or(1).max(1);
                piece += 1;
                there = (there + size).min(bytes.len());
            }
            Ok(Step::Request(length)) => {
                let frame = &bytes[start..start + length];
                found.push(framer.args().iter().map(|arg| arg.of(frame).to_vec()).collect());
                start += length;
                framer.reset();
            }
            Ok(Step::Inline(length)) => {
                found.push(vec![bytes[start..start + length].to_vec()]);
                start += length;
                framer.reset();
            }
            Ok(Step::Nothing(length)) => {
                start += length;
                framer.reset();
            }
            Err(error) => return (found, Some(error)),
        }
    }
}

/// The lengths of all replies in `bytes`, arriving in pieces, and whether they ended cleanly.
fn replies(bytes: &[u8], pieces: &[usize]) -> (Vec<(usize, bool)>, Option<ReplyError>) {
    let mut framer = ReplyFramer::new();
    let (mut found, mut start, mut there, mut piece, mut length) = (Vec::new(), 0, 0, 0, 0);
    loop {
        match framer.advance(&bytes[start..there]) {
            Ok(chunk) => {
                start += chunk.taken;
                length += chunk.taken;
                if chunk.done {
                    found.push((length, framer.is_push()));
                    length = 0;
                } else if there == bytes.len() {
                    return (found, None);
                } else {
                    let size = pieces.get(piece % pieces.len().max(1)).copied().unwrap_or(1).max(1);
                    piece += 1;
                    there = (there + size).min(bytes.len());
                }
            }
            Err(error) => return (found, Some(error)),
        }
    }
}

fn reply() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        "[a-zA-Z ]{0,20}".prop_map(|text| format!("+{text}\r\n").into_bytes()),
        "[A-Z]{2,9} [a-z ]{0,20}".prop_map(|text| format!("-{text}\r\n").into_bytes()),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        Just(b"$-1\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        Just(b"_\r\n".to_vec()),
        Just(b"#t\r\n".to_vec()),
        Just(b",3.25\r\n".to_vec()),
        Just(b"(123456789012345678901234567890\r\n".to_vec()),
        Just(b"=7\r\ntxt:abc\r\n".to_vec()),
        Just(b"!5\r\nERR x\r\n".to_vec()),
        Just(b"$?\r\n;3\r\nabc\r\n;1\r\nd\r\n;0\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| bulk(&bytes)),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| aggregate('*', items.len(), &items)),
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| aggregate('~', items.len(), &items)),
            prop::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(|pairs| {
                let items: Vec<_> =
                    pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect();
                aggregate('%', pairs.len(), &items)
            }),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(key, value, item)| { [aggregate('|', 1, &[key, value]), item].concat() }),
            prop::collection::vec(inner, 0..4).prop_map(|items| [
                b"*?\r\n".to_vec(),
                items.concat(),
                b".\r\n".to_vec()
            ]
            .concat()),
        ]
    })
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn aggregate(kind: char, count: usize, items: &[Vec<u8>]) -> Vec<u8> {
    [format!("{kind}{count}\r\n").into_bytes(), items.concat()].concat()
}

proptest! {
    #[test]
    fn requests_do_not_depend_on_splits(
        commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..6), 0..6),
        pieces in prop::collection::vec(1usize..20, 1..10),
    ) {
        let mut bytes = Vec::new();
        for command in &commands {
            write_multibulk(&mut bytes, command.iter().map(Vec::as_slice));
        }
        prop_assert_eq!(requests(&bytes, &pieces), (commands, None));
    }

    #[test]
    fn garbage_requests_never_panic_nor_depend_on_splits(
        bytes in prop::collection::vec(prop_oneof![
            any::<u8>(), Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'-'),
        ], 0..80),
        pieces in prop::collection::vec(1usize..10, 1..10),
    ) {
        prop_assert_eq!(requests(&bytes, &pieces), requests(&bytes, &[bytes.len().max(1)]));
    }

    #[test]
    fn replies_do_not_depend_on_splits(
        items in prop::collection::vec(reply(), 0..5),
        pieces in prop::collection::vec(1usize..20, 1..10),
    ) {
        let lengths: Vec<_> = items.iter().map(|item| (item.len(), false)).collect();
        prop_assert_eq!(replies(&items.concat(), &pieces), (lengths, None));
    }

    #[test]
    fn garbage_replies_never_panic_nor_depend_on_splits(
        bytes in prop::collection::vec(prop_oneof![
            any::<u8>(), Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'?'), Just(b'.'),
            Just(b'%'), Just(b'|'), Just(b';'), Just(b'+'), Just(b'>'),
        ], 0..80),
        pieces in prop::collection::vec(1usize..10, 1..10),
    ) {
        prop_assert_eq!(replies(&bytes, &pieces), replies(&bytes, &[bytes.len().max(1)]));
    }

    #[test]
    fn inline_words_survive_quoting(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 1..6)) {
        let line: Vec<u8> = words
            .iter()
            .map(|word| {
                let hex: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
                format!("\"{hex}\"").into_bytes()
            })
            .collect::<Vec<_>>()
            .join(&b' ');
        let mut expected = Vec::new();
        write_multibulk(&mut expected, words.iter().map(Vec::as_slice));
        prop_assert_eq!(inline_to_multibulk(&line), Ok(Some(expected)));
    }

    #[test]
    fn garbage_inline_never_panics(line in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = inline_to_multibulk(&line);
    }
}

#[test]
fn refuses_what_redis_refuses() {
    let error = |bytes: &[u8]| requests(bytes, &[64]).1.map(|error| error.to_string());
    assert_eq!(error(b"*abc\r\n").as_deref(), Some("Protocol error: invalid multibulk length"));
    assert_eq!(error(b"*99999999999\r\n").as_deref(), Some("Protocol error: invalid multibulk length"));
    assert_eq!(
        error(b"*123456789012345678901234567890").as_deref(),
        Some("Protocol error: invalid multibulk length")
    );
    assert_eq!(error(b"*1\r\nfoo\r\n").as_deref(), Some("Protocol error: expected '$', got 'f'"));
    assert_eq!(error(b"*1\r\n$-1\r\n").as_deref(), Some("Protocol error: invalid bulk length"));
    assert_eq!(error(b"*1\r\n$999999999999\r\n").as_deref(), Some("Protocol error: invalid bulk length"));
    assert_eq!(error(b"*1\r\n$1\r\naXX").as_deref(), Some("Protocol error: expected CRLF"));
    assert_eq!(error(&[b'x'; 70_000]).as_deref(), Some("Protocol error: too big inline request"));
    assert_eq!(error(b"*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n"), None);
}

#[test]
fn a_nesting_bomb_costs_no_memory_and_is_bounded() {
    let bomb = b"*1\r\n".repeat(1_000_000);
    assert_eq!(replies(&bomb, &[65_536]), (vec![], None));
    let streamed = b"*?\r\n".repeat(1_000);
    assert_eq!(replies(&streamed, &[65_536]).1, Some(ReplyError::TooDeep));
    let wide = b"*1000000000000\r\n".repeat(100);
    assert_eq!(replies(&wide, &[65_536]).1, Some(ReplyError::Length));
}

#[test]
fn inline_quoting_follows_redis() {
    let split = |line: &str| inline_to_multibulk(line.as_bytes());
    assert_eq!(split("  \r\n"), Ok(None));
    assert_eq!(split("PING\r\n"), Ok(Some(b"*1\r\n$4\r\nPING\r\n".to_vec())));
    assert_eq!(
        split(r#"SET a "b\"\x41\n""#),
        Ok(Some(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\nb\"A\n\r\n".to_vec()))
    );
    assert_eq!(split(r"ECHO 'it\'s'"), Ok(Some(b"*2\r\n$4\r\nECHO\r\n$4\r\nit's\r\n".to_vec())));
    assert_eq!(split("SET a \"b"), Err(UnbalancedQuotes));
    assert_eq!(split("SET a \"b\"c"), Err(UnbalancedQuotes));
}

#[test]
fn a_streamed_request_is_tracked_to_its_end() {
    let mut framer = RequestFramer::new(RequestLimits::default());
    let mut frame = Vec::new();
    write_multibulk(&mut frame, [&b"SET"[..], b"k", &[b'v'; 1000]].into_iter());
    frame.extend_from_slice(b"*1\r\n");
    assert_eq!(framer.advance(&frame[..100]), Ok(Step::Incomplete));
    assert_eq!(framer.complete_args().len(), 2);
    assert_eq!(framer.discard_scanned(), 100);
    assert_eq!(framer.advance(&frame[100..500]), Ok(Step::Incomplete));
    assert_eq!(framer.discard_scanned(), 400);
    assert_eq!(framer.advance(&frame[500..]), Ok(Step::Request(frame.len() - 4 - 500)));
}

#[test]
fn a_request_is_bounded_as_a_whole() {
    let limits = RequestLimits { max_request: 200, ..RequestLimits::default() };
    let frame = |count: usize| {
        let mut frame = Vec::new();
        write_multibulk(&mut frame, std::iter::repeat_n(&[b'x'; 30][..], count));
        frame
    };
    let (fits, exceeds) = (frame(5), frame(6));
    assert!(fits.len() <= 200 && exceeds.len() > 200);
    for discard in [false, true] {
        for split in 0..exceeds.len() {
            let mut framer = RequestFramer::new(limits);
            // What came before doesn't count.
            assert_eq!(framer.advance(&fits), Ok(Step::Request(fits.len())));
            framer.reset();
            let mut from = 0;
            let first = framer.advance(&exceeds[..split]);
            if discard && first == Ok(Step::Incomplete) && framer.in_frame() {
                from = framer.discard_scanned();
            }
            let second = first.and_then(|_| framer.advance(&exceeds[from..]));
            assert_eq!(second, Err(ProtocolError::RequestTooBig), "split at {split}, discarding: {discard}");
        }
    }
}

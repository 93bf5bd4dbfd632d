//! Any answer of a Git server, cut anywhere: no panic, and the same packets; and every reader ends on them.
#![no_main]

use gitsync::protocol::{AdvertReader, Decoder, FetchResponse, Packet, ProtocolError, RefsReader};
use libfuzzer_sys::fuzz_target;

fn packets(pieces: &mut dyn Iterator<Item = &[u8]>) -> (Vec<Packet>, Option<ProtocolError>) {
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_packet() {
                Ok(Some(packet)) => out.push(packet),
                Ok(None) => break,
                Err(error) => return (out, Some(error)),
            }
        }
    }
    (out, None)
}

/// Until the first error, after which nobody asks again.
fn read<T>(packets: &[Packet], mut reader: impl FnMut(Packet) -> Result<T, ProtocolError>) {
    let _ = packets.iter().cloned().try_for_each(|packet| reader(packet).map(drop));
}

fuzz_target!(|input: (Vec<u8>, u8)| {
    let (stream, size) = input;
    let whole = packets(&mut std::iter::once(&stream[..]));
    assert_eq!(whole, packets(&mut stream.chunks(usize::from(size) + 1)));

    let wanted = || vec!["HEAD".to_owned(), "refs/heads/main".to_owned()];
    for service_header in [false, true] {
        let mut advert = AdvertReader::new(service_header, wanted());
        read(&whole.0, |packet| advert.packet(packet));
    }
    let mut refs = RefsReader::new(wanted());
    read(&whole.0, |packet| refs.packet(packet));
    for mut answer in [FetchResponse::v2(), FetchResponse::v0(true), FetchResponse::v0(false)] {
        read(&whole.0, |packet| answer.packet(packet));
    }
});

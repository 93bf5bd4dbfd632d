//! Any stream, cut anywhere, gives the same lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metrics_adapter::statsd::frame::Lines;

fn cut<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let mut lines = Lines::default();
    let mut out = Vec::new();
    for piece in pieces {
        if lines.push(piece, |line| out.push(line.to_vec())).is_err() {
            return (out, true);
        }
    }
    out.extend(lines.finish().map(<[u8]>::to_vec));
    (out, false)
}

fuzz_target!(|input: (Vec<u8>, u8)| {
    let (stream, size) = input;
    let whole = cut(std::iter::once(&stream[..]));
    assert_eq!(whole, cut(stream.chunks(usize::from(size) + 1)));
});

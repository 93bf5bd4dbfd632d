//! Any reply of a JVM, cut anywhere: no panic, the same outcome, and every interpretation of it ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metrics_adapter::jmx::jrmp::{Method, Outcome, ReplyDecoder};
use metrics_adapter::jmx::mbean::{attribute_list, mbean_info, object_instances, object_names};
use metrics_adapter::jmx::remote::{RemoteException, RemoteReference};
use metrics_adapter::jmx::serialization::Limits;

/// What the first reply comes to, as text.
fn decode(pieces: &mut dyn Iterator<Item = &[u8]>) -> String {
    let limits = Limits { bytes: 1 << 20, nodes: 10_000, values: 20_000, ..Limits::default() };
    let mut decoder = ReplyDecoder::new(limits);
    let mut buffer = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        match decoder.advance(Method::ATTRIBUTES, &buffer) {
            Err(error) => return error.to_string(),
            Ok((used, None)) => drop(buffer.drain(..used)),
            Ok((_, Some(Outcome::Threw(value)))) => {
                return RemoteException::from_throwable(decoder.graph(), value).to_string();
            }
            Ok((_, Some(Outcome::Returned(value)))) => {
                let graph = decoder.graph();
                let _ = RemoteReference::from_stub(graph, value);
                let _ = (object_names(graph, value), object_instances(graph, value), mbean_info(graph, value));
                return format!("{:?}", attribute_list(graph, value));
            }
        }
    }
    "more".to_owned()
}

fuzz_target!(|input: (Vec<u8>, u8)| {
    let (tail, size) = input;
    let mut stream = b"\x51\xAC\xED\x00\x05\x77\x0F\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    stream.extend(tail);
    let whole = decode(&mut std::iter::once(&stream[..]));
    assert_eq!(whole, decode(&mut stream.chunks(usize::from(size) + 1)));
});

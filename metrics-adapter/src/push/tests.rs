use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::{Duration, SystemTime};

use hyper::{HeaderMap, StatusCode};
use proptest::prelude::*;

use super::batch::Batch;
use super::send::{Field, Outcome, fields, judge};
use super::stale::STALE;
use super::{Protocol, Target};
use crate::family::{Families, Family, Histogram, Kind, NativeHistogram, Sample, Summary, Value, Walk as _};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The batches of rounds of families, a second apart.
fn rounds(target: &Target, rounds: &[Vec<Family>]) -> Vec<Batch> {
    let mut encoder = target.encoder(at(1));
    let mut batches = Vec::new();
    for (round, families) in rounds.iter().enumerate() {
        encoder.start(at(2 + round as u64));
        let mut walk = Families::sorted(families.clone());
        while walk.peek().is_some() {
            walk.step(encoder.visitor());
        }
        encoder.finish();
        batches.extend(encoder.take());
    }
    batches
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn varints(mut bytes: &[u8]) -> Vec<u64> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        // A packed number, read as if it were a field of its own.
        let end = bytes.iter().position(|byte| *byte < 0x80).unwrap() + 1;
        let field = [&[0x08], &bytes[..end]].concat();
        let Some((1, Field::Number(number))) = fields(&field).next() else { panic!("no number") };
        all.push(number);
        bytes = &bytes[end..];
    }
    all
}

/// Labels as on a page, value bits, time.
type Series = BTreeMap<(String, u64), u64>;

fn sample(bytes: &[u8]) -> (u64, u64) {
    let found: BTreeMap<u64, u64> = fields(bytes)
        .filter_map(
            |(field, value)| if let Field::Number(number) = value { Some((field, number)) } else { None },
        )
        .collect();
    (found[&1], found[&2])
}

fn decompressed(batch: &Batch) -> Vec<u8> {
    snap::raw::Decoder::new().decompress_vec(&batch.body).unwrap()
}

fn show(labels: &[(String, String)]) -> String {
    assert!(labels.is_sorted() && labels.iter().all(|(_, value)| !value.is_empty()), "{labels:?}");
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn read_one(batch: &Batch, out: &mut Series) -> u64 {
    let mut count = 0;
    for (field, value) in fields(&decompressed(batch)) {
        let (1, Field::Bytes(series)) = (field, value) else { continue };
        let (mut labels, mut values) = (Vec::new(), Vec::new());
        for (field, value) in fields(series) {
            match (field, value) {
                (1, Field::Bytes(label)) => {
                    let parts: Vec<String> = fields(label)
                        .map(
                            |(_, part)| {
                                if let Field::Bytes(part) = part { text(part) } else { panic!("{part:?}") }
                            },
                        )
                        .collect();
                    labels.push((parts[0].clone(), parts[1].clone()));
                }
                (2, Field::Bytes(bytes)) => values.push(sample(bytes)),
                (4, Field::Bytes(_)) => count += 1,
                other => panic!("{other:?}"),
            }
        }
        for (value, time) in values {
            count += 1;
            assert!(out.insert((show(&labels), time), value).is_none(), "{labels:?} twice");
        }
    }
    count
}

fn read_two(batch: &Batch, out: &mut Series) -> u64 {
    let request = decompressed(batch);
    let symbols: Vec<String> = fields(&request)
        .filter_map(|field| if let (4, Field::Bytes(symbol)) = field { Some(text(symbol)) } else { None })
        .collect();
    assert_eq!(symbols[0], "");
    let mut count = 0;
    for (field, value) in fields(&request) {
        let (5, Field::Bytes(series)) = (field, value) else { continue };
        let mut labels = Vec::new();
        for (field, value) in fields(series) {
            match (field, value) {
                (1, Field::Bytes(numbers)) => {
                    let texts: Vec<String> =
                        varints(numbers).iter().map(|at| symbols[*at as usize].clone()).collect();
                    labels = texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
                }
                (2, Field::Bytes(bytes)) => {
                    let (value, time) = sample(bytes);
                    assert!(out.insert((show(&labels), time), value).is_none(), "{labels:?} twice");
                    count += 1;
                }
                (3, Field::Bytes(_)) => count += 1,
                (5, Field::Bytes(metadata)) => {
                    let help = fields(metadata).find(|(field, _)| *field == 3);
                    let Some((_, Field::Number(help))) = help else { panic!("{help:?}") };
                    assert!((help as usize) < symbols.len());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    count
}

fn mixed() -> Vec<Family> {
    let summary = Summary { quantiles: vec![(0.5, 2.0), (0.99, f64::NAN)], sum: 6.5, count: 3 };
    let native = NativeHistogram {
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 1,
        negative: vec![],
        positive: vec![(-3, 2), (-1, 5), (4, 1)],
    };
    let histogram =
        Histogram { buckets: vec![(0.5, 4), (2.5, 8)], sum: 12.25, count: 9, native: Some(Box::new(native)) };
    let one = |value| vec![Sample { labels: vec![("path", "/a")].into(), value }];
    vec![
        Family::new("jobs_total", "Jobs.", Kind::Counter).with(&[("Zone", "z"), ("empty", "")], 7.0),
        Family { samples: one(Value::Summary(summary)), ..Family::new("wait", "Waits.", Kind::Summary) },
        Family { samples: one(Value::Histogram(histogram)), ..Family::new("size", "", Kind::Histogram) },
    ]
}

#[test]
fn both_versions_of_remote_write_hold_the_series_of_a_page() {
    let expected: BTreeMap<&str, f64> = [
        ("Zone=z,__name__=jobs_total,cluster=c", 7.0),
        ("__name__=wait,cluster=c,path=/a,quantile=0.5", 2.0),
        ("__name__=wait,cluster=c,path=/a,quantile=0.99", f64::NAN),
        ("__name__=wait_sum,cluster=c,path=/a", 6.5),
        ("__name__=wait_count,cluster=c,path=/a", 3.0),
        ("__name__=size_bucket,cluster=c,le=0.5,path=/a", 4.0),
        ("__name__=size_bucket,cluster=c,le=2.5,path=/a", 8.0),
        ("__name__=size_bucket,cluster=c,le=+Inf,path=/a", 9.0),
        ("__name__=size_sum,cluster=c,path=/a", 12.25),
        ("__name__=size_count,cluster=c,path=/a", 9.0),
    ]
    .into();
    type Reader = fn(&Batch, &mut Series) -> u64;
    let versions: [(Protocol, Reader); 2] =
        [(Protocol::RemoteWrite1, read_one), (Protocol::RemoteWrite2, read_two)];
    for (protocol, read) in versions {
        let mut target = Target::new(protocol, "http://host/");
        target.labels = vec![("cluster".to_owned(), "c".to_owned()), ("path".to_owned(), "not".to_owned())];
        // `path` stands where the family has none of it.
        let with_path = |labels: &str| labels.replace("cluster=c", "cluster=c,path=not");
        for natives in [false, true] {
            target.native_histograms = natives;
            let mut series = Series::new();
            let batches = rounds(&target, &[mixed()]);
            let read: u64 = batches.iter().map(|batch| read(batch, &mut series)).sum();
            assert_eq!(read, batches.iter().map(|batch| batch.samples).sum::<u64>());
            assert_eq!(read, 10 + u64::from(natives));
            for (labels, value) in &expected {
                let labels = if labels.contains("path=") { (*labels).to_owned() } else { with_path(labels) };
                let bits = series[&(labels, 2000)];
                assert!(f64::from_bits(bits).total_cmp(value).is_eq(), "{bits:x} {value}");
            }
        }
    }
}

#[test]
fn a_series_that_ends_is_marked_once() {
    for (protocol, read) in [
        (Protocol::RemoteWrite1, read_one as fn(&Batch, &mut Series) -> u64),
        (Protocol::RemoteWrite2, read_two),
    ] {
        let (a, b) = (Family::new("a", "", Kind::Gauge).with(&[], 1.0), Family::new("b", "", Kind::Gauge));
        let there = vec![a, b.with(&[("k", "v")], 2.0)];
        let gone = vec![there[0].clone()];
        let mut series = Series::new();
        for batch in rounds(&Target::new(protocol, "http://host/"), &[there, gone.clone(), gone]) {
            read(&batch, &mut series);
        }
        let of = |labels: &str| -> Vec<(u64, u64)> {
            series.iter().filter(|((l, _), _)| l == labels).map(|((_, t), v)| (*t, *v)).collect()
        };
        assert_eq!(of("__name__=b,k=v"), [(2000, 2.0_f64.to_bits()), (3000, STALE.to_bits())]);
        assert_eq!(of("__name__=a").len(), 3);
    }
}

#[test]
fn otlp_holds_points_of_every_kind() {
    let mut target = Target::new(Protocol::Otlp, "http://host/v1/metrics");
    target.labels = vec![("service.name".to_owned(), "shop".to_owned())];
    target.native_histograms = true;
    let batches = rounds(&target, &[mixed()]);
    assert_eq!((batches.len(), batches[0].samples), (1, 3));
    let mut request = Vec::new();
    flate2::read::GzDecoder::new(&batches[0].body[..]).read_to_end(&mut request).unwrap();
    let inside = |bytes: &[u8], path: &[u64]| -> Vec<Vec<u8>> {
        path.iter().fold(vec![bytes.to_vec()], |messages, wanted| {
            let inner = |message: &Vec<u8>| -> Vec<Vec<u8>> {
                let found = fields(message).filter(|(field, _)| field == wanted);
                found
                    .filter_map(|(_, v)| if let Field::Bytes(b) = v { Some(b.to_vec()) } else { None })
                    .collect()
            };
            messages.iter().flat_map(inner).collect()
        })
    };
    // resource_metrics, resource, attributes, key and value.
    assert_eq!(inside(&request, &[1, 1, 1, 1]), [b"service.name".to_vec()]);
    assert_eq!(inside(&request, &[1, 1, 1, 2, 1]), [b"shop".to_vec()]);
    // resource_metrics, scope_metrics, metrics, name.
    let names: Vec<String> = inside(&request, &[1, 2, 2, 1]).iter().map(|name| text(name)).collect();
    assert_eq!(names, ["jobs_total", "size", "wait"]);
    let sums = inside(&request, &[1, 2, 2, 7]);
    let flags: Vec<_> = fields(&sums[0]).skip(1).collect();
    assert_eq!(flags, [(2, Field::Number(2)), (3, Field::Number(1))]);
    let point = inside(&request, &[1, 2, 2, 7, 1]);
    let times: Vec<_> = fields(&point[0]).take(3).collect();
    let value = Field::Number(7.0_f64.to_bits());
    assert_eq!(times, [(2, Field::Number(1_000_000_000)), (3, Field::Number(2_000_000_000)), (4, value)]);
    // Exponential: positive buckets from index -4, without gaps.
    let positive = inside(&request, &[1, 2, 2, 10, 1, 8]);
    let (offset, counts) = (fields(&positive[0]).next(), inside(&positive[0], &[2]));
    assert_eq!(offset, Some((1, Field::Number(7))));
    assert_eq!(varints(&counts[0]), [2, 0, 5, 0, 0, 0, 0, 1]);
    // Explicit, when native ones are not wanted: counts are not cumulative.
    target.native_histograms = false;
    let batch = &rounds(&target, &[mixed()])[0];
    let mut request = Vec::new();
    flate2::read::GzDecoder::new(&batch.body[..]).read_to_end(&mut request).unwrap();
    let counts = inside(&request, &[1, 2, 2, 9, 1, 6]);
    let counts: Vec<u64> = counts[0].chunks(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect();
    assert_eq!(counts, [4, 4, 1]);
}

#[test]
fn answers_are_judged_by_the_protocol() {
    let judged = |protocol, status, body: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        judge(protocol, StatusCode::from_u16(status).unwrap(), &headers, body)
    };
    let is_later =
        |outcome: &Outcome| matches!(outcome, Outcome::Later { pause: Some(p), .. } if p.as_secs() == 7);
    for protocol in [Protocol::RemoteWrite1, Protocol::RemoteWrite2] {
        assert!([500, 502, 503, 599, 429].iter().all(|status| is_later(&judged(protocol, *status, b""))));
        for status in [400, 401, 404, 415, 302] {
            assert!(matches!(judged(protocol, status, b"no\n"), Outcome::Refused { .. }), "{status}");
        }
    }
    assert!([429, 502, 503, 504].iter().all(|status| is_later(&judged(Protocol::Otlp, *status, b""))));
    assert!(matches!(judged(Protocol::Otlp, 500, b""), Outcome::Refused { .. }));
    // partial_success { rejected_data_points: 5, error_message: "old" }
    let partial = [0x0A, 7, 0x08, 5, 0x12, 3, b'o', b'l', b'd'];
    let expected = Outcome::Taken { refused: 5, why: "old".to_owned() };
    assert_eq!(judged(Protocol::Otlp, 200, &partial), expected);
    assert_eq!(judged(Protocol::Otlp, 200, b""), Outcome::Taken { refused: 0, why: String::new() });
}

proptest! {
    #[test]
    fn any_answer_is_judged(status in 100_u16..1000, body in prop::collection::vec(any::<u8>(), 0..100)) {
        for (_, protocol) in Protocol::ALL {
            let _ = judge(protocol, StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), &body);
        }
    }

    #[test]
    fn no_series_is_lost_between_batches(number in 0_usize..300, size in 1_usize..50) {
        let mut family = Family::new("g", "", Kind::Gauge);
        (0..number).for_each(|n| family.push(vec![("n".to_owned(), n.to_string())], n as f64));
        for (protocol, read) in
            [(Protocol::RemoteWrite1, read_one as fn(&Batch, &mut Series) -> u64), (Protocol::RemoteWrite2, read_two)]
        {
            let mut target = Target::new(protocol, "http://host/");
            target.batch = size;
            let mut series = Series::new();
            for batch in rounds(&target, &[vec![family.clone()]]) {
                prop_assert!(batch.samples <= size as u64);
                prop_assert_eq!(read(&batch, &mut series), batch.samples);
            }
            prop_assert_eq!(series.len(), number);
        }
    }
}

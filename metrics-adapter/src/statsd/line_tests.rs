use super::*;
use proptest::prelude::*;

#[derive(Default, Debug, PartialEq)]
struct Seen {
    events: Vec<String>,
    reasons: Vec<&'static str>,
    samples: usize,
    tagged: usize,
    tag_errors: u32,
    other: usize,
}

impl Observer for Seen {
    fn event(&mut self, name: &str, tags: &Tags<'_>, kind: Type, event: Event<'_>) {
        let mut tags: Vec<String> = tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
        tags.sort();
        let event = match event {
            Event::Count(v) => format!("c {v}"),
            Event::Set(v) => format!("g {v}"),
            Event::Move(v) => format!("g {v:+}"),
            Event::Observe(v, n) => format!("o {v} x{n}"),
            Event::Member(m) => format!("s {}", String::from_utf8_lossy(m)),
        };
        let _ = kind;
        self.events.push(format!("{name}{{{}}} {event}", tags.join(",")));
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Rejected(reason) => self.reasons.push(reason.as_str()),
            Notice::TagErrors(n) => self.tag_errors += n,
            Notice::Sample => self.samples += 1,
            Notice::Tagged => self.tagged += 1,
            Notice::DogstatsdEvent | Notice::DogstatsdServiceCheck => self.other += 1,
        }
    }
}

fn read_with(parser: Parser, line: &str) -> Seen {
    let mut seen = Seen::default();
    parser.read(line.as_bytes(), &mut seen);
    seen
}

fn read(line: &str) -> Seen {
    read_with(Parser { styles: Styles::ALL, sets: true }, line)
}

#[test]
fn accepted_lines() {
    let table: &[(&str, &[&str])] = &[
        ("foo:2|c", &["foo{} c 2"]),
        ("foo:3|g", &["foo{} g 3"]),
        ("foo:+3|g", &["foo{} g +3"]),
        ("foo:-3|g", &["foo{} g -3"]),
        ("foo:200|ms", &["foo{} o 0.2 x1"]),
        ("foo:200|h", &["foo{} o 200 x1"]),
        ("foo:200|d|@0.1", &["foo{} o 200 x10"]),
        ("foo:200|ms|@0.3", &["foo{} o 0.2 x3"]),
        ("foo:200|ms|@0.7", &["foo{} o 0.2 x1"]),
        ("foo:0.01|ms|@0.2|#tag1:bar", &["foo{tag1=bar} o 0.00001 x5"]),
        ("foo:1|c|@0.5", &["foo{} c 2"]),
        ("foo:1|c|@0", &["foo{} c 1"]),
        ("foo:1|g|@0.1", &["foo{} g 1"]),
        ("foo:1|c:5|ms:2|g", &["foo{} c 1", "foo{} o 0.005 x1", "foo{} g 2"]),
        (
            "foo:0.5:120:3000:10:20000:0.01|d|@0.2|#tag1:bar,#tag2:baz",
            &[
                "foo{tag1=bar,tag2=baz} o 0.5 x5",
                "foo{tag1=bar,tag2=baz} o 120 x5",
                "foo{tag1=bar,tag2=baz} o 3000 x5",
                "foo{tag1=bar,tag2=baz} o 10 x5",
                "foo{tag1=bar,tag2=baz} o 20000 x5",
                "foo{tag1=bar,tag2=baz} o 0.01 x5",
            ],
        ),
        ("foo:100|c|#tag1:bar,tag2:baz", &["foo{tag1=bar,tag2=baz} c 100"]),
        ("foo:100|c|#09digits:0,tag.with.dots:1", &["foo{_09digits=0,tag_with_dots=1} c 100"]),
        ("foo:100|c|#a:b:c", &["foo{a=b:c} c 100"]),
        ("foo:100|c|#tag1:bar|@0.1", &["foo{tag1=bar} c 1000"]),
        ("foo:100|c|#tag1:bar|c:abc123", &["foo{container_id=abc123,tag1=bar} c 100"]),
        ("foo:100|c|#tag1:bar|T1656581400", &["foo{tag1=bar} c 100"]),
        ("foo:100|c|@0.1|#tag1:bar|c:abc|T1", &["foo{container_id=abc,tag1=bar} c 1000"]),
        ("foo#tag1=bar,tag2=baz:100|c", &["foo{tag1=bar,tag2=baz} c 100"]),
        ("foo,tag1=bar,tag2=baz:100|c", &["foo{tag1=bar,tag2=baz} c 100"]),
        ("foo.[tag1=bar,tag2=baz]test:100|c", &["foo.test{tag1=bar,tag2=baz} c 100"]),
        ("foo:1_0|c", &["foo{} c 10"]),
        ("a:765|s", &["a{} s 765"]),
        ("a:user-1|s", &["a{} s user-1"]),
    ];
    for (line, events) in table {
        let seen = read(line);
        assert_eq!(seen.events, *events, "{line}");
        assert!(seen.reasons.is_empty(), "{line} {:?}", seen.reasons);
        assert_eq!(seen.samples, events.len(), "{line}");
    }
}

#[test]
fn refused_lines() {
    for (line, reason) in [
        ("malformed", "malformed_line"),
        (":1|c", "malformed_line"),
        ("foo", "malformed_line"),
        ("foo:", "not_enough_parts_after_colon"),
        ("foo:1", "not_enough_parts_after_colon"),
        ("foo:1:2|c", "invalid_extended_aggregate_type"),
        ("foo:1:2|g|#a:b", "invalid_extended_aggregate_type"),
        ("foo#a=b:1|c|#c:d", "mixed_tagging_styles"),
        ("foo:1|c|", "malformed_component"),
        ("foo:1|c||@1", "malformed_component"),
        ("foo:1|c|@1|@1|@1|@1|@1", "malformed_component"),
        ("foo:bar|c", "malformed_value"),
        ("foo:|c", "malformed_value"),
        ("foo:1|c|@bar|x", "invalid_sample_factor"),
        ("foo:1|c|foo", "invalid_sample_factor"),
        ("foo:1|c|#a:b|c:", "malformed_container_id"),
        ("foo:1|c|container", "malformed_container_id"),
        ("foo:1|wrong_type", "illegal_event"),
        ("x:1|c\r", "illegal_event"),
    ] {
        let seen = read(line);
        assert_eq!(seen.reasons.last(), Some(&reason), "{line}");
        assert!(seen.events.is_empty(), "{line}");
    }
    let mut seen = Seen::default();
    Parser::default().read(b"foo:1|c|#a:\xff", &mut seen);
    assert_eq!(seen.reasons, ["malformed_line"]);
}

#[test]
fn a_bad_rate_is_counted_and_the_sample_taken() {
    let seen = read("foo:1|c|@bar");
    assert_eq!(seen.events, ["foo{} c 1"]);
    assert_eq!(seen.reasons, ["invalid_sample_factor"]);
}

#[test]
fn bad_samples_leave_the_others() {
    let seen = read("foo:1|c:oops|c:|g:3|c");
    assert_eq!(seen.events, ["foo{} c 1", "foo{} c 3"]);
    assert_eq!(seen.reasons, ["malformed_value", "malformed_value"]);
    assert_eq!(seen.samples, 4);
}

#[test]
fn bad_tags_are_skipped_and_counted() {
    let seen = read("foo:100|c|#tag1:bar,#tag2,tag3:,:x");
    assert_eq!(seen.events, ["foo{tag1=bar} c 100"]);
    assert_eq!((seen.tag_errors, seen.tagged), (3, 1));
    assert_eq!(read("foo[tag1=bar:100|c").events, ["foo[tag1=bar{} c 100"]);
}

#[test]
fn a_style_that_is_off_stays_in_the_name() {
    let parser = Parser { styles: Styles::NONE, sets: false };
    assert_eq!(read_with(parser, "foo,a=b#c=d[e=f]:1|c").events, ["foo,a=b#c=d[e=f]{} c 1"]);
    assert_eq!(read_with(parser, "foo,a=b:1|c|#a:b").events, ["foo,a=b{} c 1"]);
    assert_eq!(read_with(parser, "foo:2|s").reasons, ["illegal_event"]);
    assert_eq!(read_with(parser, "foo:x|s").reasons, ["malformed_value"]);
}

#[test]
fn events_and_service_checks_are_no_errors() {
    for line in ["_e{5,4}:title|text|p:low", "_sc|db|0|#a:b"] {
        let seen = read(line);
        assert_eq!((seen.other, seen.reasons.len(), seen.samples), (1, 0, 0), "{line}");
    }
}

#[test]
fn rates_out_of_reason_count_for_nothing() {
    for rate in ["-0.5", "1e-300", "nan", "inf", "2"] {
        let seen = read(&format!("foo:1|ms|@{rate}"));
        assert_eq!(seen.events, ["foo{} o 0.001 x0"], "{rate}");
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(line in prop::collection::vec(any::<u8>(), 0..200)) {
        Parser { styles: Styles::ALL, sets: true }.read(&line, &mut Seen::default());
    }

    #[test]
    fn near_misses_never_panic(line in "[a-z.,=\\[\\]#:|@cgmshdT0-9+-]{0,60}") {
        let seen = read(&line);
        prop_assert!(seen.events.len() <= seen.samples);
    }
}

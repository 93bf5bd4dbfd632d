use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;
use crate::exposition::{Format, page};
use crate::family::store::{Index, Limits, StoreWalk};

struct Bench {
    ingest: Ingest,
    store: Arc<Mutex<Store>>,
    now: u64,
}

impl Bench {
    fn new(mapping: &str) -> Self {
        Self::with(mapping, Options::default(), Limits { series: 10_000, bytes: usize::MAX })
    }

    fn with(mapping: &str, options: Options, limits: Limits) -> Self {
        let mapping = Arc::new(Mapping::parse(mapping).unwrap());
        let store = Arc::new(Mutex::new(Store::new(limits, &["statsd_exporter_lines_total"])));
        Self { ingest: Ingest::new(options, mapping), store, now: 0 }
    }

    fn send(&mut self, packet: &str) -> &mut Self {
        self.ingest.packet(&mut self.store.lock().unwrap(), packet.as_bytes(), self.now);
        self
    }

    /// The page without comments.
    fn page(&self) -> Vec<String> {
        let entries = Index::default().refresh(&self.store);
        let gone = Arc::new(AtomicUsize::new(0));
        let mut walk = StoreWalk::new(Arc::clone(&self.store), entries, self.now, gone);
        let text = String::from_utf8(page(&mut walk, Format::Text)).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }
}

#[test]
fn lines_become_samples() {
    let mut bench = Bench::new("");
    bench.send("a.b:1|c\na.b:2|c|@0.5\ng:5|g\ng:-2|g\nt:320|ms|#env:prod,az:b\nu:x|s\nu:y|s\nu:x|s");
    assert_eq!(
        bench.page(),
        [
            "a_b 5",
            "g 3",
            "t{az=\"b\",env=\"prod\",quantile=\"0.5\"} 0.32",
            "t{az=\"b\",env=\"prod\",quantile=\"0.9\"} 0.32",
            "t{az=\"b\",env=\"prod\",quantile=\"0.99\"} 0.32",
            "t_sum{az=\"b\",env=\"prod\"} 0.32",
            "t_count{az=\"b\",env=\"prod\"} 1",
            "u 2",
        ]
    );
    let counts = &bench.ingest.counts;
    assert_eq!((counts.lines, counts.samples, counts.tagged, counts.unmapped), (8, 8, 1, 8));
    assert_eq!(counts.events, [2, 5, 1]);
    bench.send("x:1|c\n");
    assert_eq!(bench.ingest.counts.lines, 10);
}

#[test]
fn mappings_decide_names_labels_and_values() {
    let mut bench = Bench::new(
        "mappings:\n- match: test.*.*\n  name: \"t_$1\"\n  labels:\n    tag1: \"$2\"\n    fixed: x\n\
         - match: honored.*\n  name: h\n  honor_labels: true\n  scale: 10\n  labels:\n    tag1: mapped\n    tag2: mapped\n\
         - match: dropped.*\n  name: d\n  action: drop\n- match: empty.*\n  name: $1\n",
    );
    for _ in 0..3 {
        bench.send("test.a.b:1|c|#tag1:event\nhonored.x:1|c|#tag1:event\ndropped.x:1|c\nempty.:1|c\n");
    }
    bench.send("honored.x:-1|c");
    assert_eq!(bench.page(), ["h{tag1=\"event\",tag2=\"mapped\"} 30", "t_a{fixed=\"x\",tag1=\"b\"} 3"]);
    let counts = &bench.ingest.counts;
    assert_eq!((counts.mapped, counts.dropped, counts.empty_names, counts.negative_counters), (7, 3, 3, 1));
}

#[test]
fn conflicts_and_limits_drop_only_the_new() {
    let mut bench = Bench::with("", Options::default(), Limits { series: 2, bytes: usize::MAX });
    bench.send("a:1|c\na:1|g\na:1|ms\nstatsd_exporter_lines_total:1|c\nb:1|c|#__name__:x\nb:1|ms|#quantile:x\nb:1|c\nn1:1|c\nn2:1|c");
    assert_eq!(bench.page(), ["a 1", "b 1"]);
    let counts = &bench.ingest.counts;
    assert_eq!((counts.conflicts.iter().count(), counts.reserved_labels, counts.series_limited), (3, 2, 2));
    assert_eq!(bench.ingest.offenders.most(5), [("*", 2)]);
}

#[test]
fn a_series_that_expired_starts_anew() {
    let mut bench = Bench::new("defaults:\n  ttl: 1s\n");
    bench.send("a:5|c\n").send("a:5|c");
    bench.now = 2000;
    bench.store.lock().unwrap().expire(0, 10, 2000);
    assert!(bench.page().is_empty());
    assert_eq!(bench.send("a:1|c").page(), ["a 1"]);
}

#[test]
fn a_new_mapping_applies_to_lines_already_seen() {
    let mut bench = Bench::new("");
    bench.send("a.b:1|c\na.b:1|c");
    let mapping = Arc::new(Mapping::parse("mappings:\n- match: a.*\n  name: new\n").unwrap());
    bench.ingest.remap(&mut bench.store.lock().unwrap(), mapping);
    assert_eq!(bench.send("a.b:1|c").page(), ["a_b 2", "new 1"]);
}

#[test]
fn messages_that_are_no_metrics_are_counted_apart() {
    let mut bench = Bench::new("");
    bench.send("_e{5,4}:title|text\n_sc|db|0\n");
    let counts = &bench.ingest.counts;
    assert_eq!((counts.dogstatsd_events, counts.dogstatsd_service_checks, counts.rejected), (1, 1, [0; 9]));
}

fn near_lines() -> impl Strategy<Value = String> {
    let name =
        prop::sample::select(vec!["a", "b.c", "a[k=v]", "a,k=v", "a#k=v", "t.x", "", "a[", "drop.x", "é"]);
    let value = prop::sample::select(vec![
        "1", "-1", "+2", "1:2", "1:2:3", "0.5", "x", "", "nan", "1_0", "1e999", "1:x",
    ]);
    let kind = prop::sample::select(vec!["c", "g", "ms", "h", "d", "s", "x", "", "c:5|ms"]);
    let section = prop::sample::select(vec![
        "|@0.5",
        "|@0",
        "|@x",
        "|@-1",
        "|#k:v",
        "|#k:v,l:w",
        "|#k",
        "|#,",
        "|#",
        "|c:id",
        "|c:",
        "|T12",
        "|Tx:1",
        "|",
        "|z",
        "|#container_id:q",
        "\r",
        "|#k:v,k:w",
    ]);
    let sections = prop::collection::vec(section, 0..4);
    (name, value, kind, sections).prop_map(|(n, v, k, s)| format!("{n}:{v}|{k}{}", s.concat()))
}

const MAPPING: &str = "mappings:\n- match: t.*\n  name: m\n  scale: 2\n  labels:\n    kk: z\n    to: $1\n- match: drop.*\n  name: d\n  action: drop\n";

proptest! {
    /// The line cache is invisible: the same lines, each seen before or not, give the same page and counts.
    #[test]
    fn lines_mean_the_same_the_second_time(lines in prop::collection::vec(near_lines(), 1..20)) {
        let run = |cached: bool| {
            let mut bench = Bench::new(MAPPING);
            for line in lines.iter().chain(&lines) {
                bench.send(line);
                if !cached {
                    bench.store.lock().unwrap().lines().clear();
                }
            }
            let counts = Counts { cache_gets: 0, cache_hits: 0, ..bench.ingest.counts.clone() };
            let mut conflicts: Vec<_> = counts.conflicts.iter().map(|(k, n, c)| (k as u8, n.to_owned(), c)).collect();
            conflicts.sort();
            (bench.page(), format!("{:?}", Counts { conflicts: Conflicts::default(), ..counts }), conflicts)
        };
        prop_assert_eq!(run(true), run(false));
    }

    #[test]
    fn garbage_never_panics(packet in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bench = Bench::new(MAPPING);
        let now = bench.now;
        bench.ingest.packet(&mut bench.store.lock().unwrap(), &packet, now);
        bench.page();
    }
}

//! Pushing to receivers that work, fail, hang and refuse, and to a real Prometheus.

// The helpers of tests may fail like tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod prometheus;
mod receiver;

use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics_adapter::Shutdown;
use metrics_adapter::family::{
    Families, Family, Histogram, Kind, PackedLabels, Sample, Summary, Value, Walk,
};
use metrics_adapter::push::{Protocol, Pusher, State, Target};
use metrics_adapter::source::{Collecting, Source};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric::Data, number_data_point};
use prost::Message as _;

use prometheus::Prometheus;
use receiver::{Receiver, Then};

const PATIENCE: Duration = Duration::from_secs(30);

/// A source whose families the test sets.
#[derive(Default)]
struct Given(Mutex<Vec<Family>>);

impl Source for Given {
    fn name(&self) -> &str {
        "given"
    }

    fn collect(&self, _: Instant) -> Collecting<'_> {
        let families = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(Box::new(Families::sorted(families)) as Box<dyn Walk>) })
    }
}

fn jobs(value: f64) -> Family {
    Family::new("jobs_total", "Jobs done.", Kind::Counter).with(&[("queue", "mail")], value)
}

/// A histogram of three values, with classic and with native buckets.
fn sizes() -> Family {
    let histogram = Histogram {
        buckets: vec![(0.5, 1), (2.5, 3)],
        sum: 4.5,
        count: 3,
        native: Some(Box::new(metrics_adapter::family::NativeHistogram {
            schema: 0,
            positive: vec![(0, 1), (1, 1), (4, 1)],
            ..Default::default()
        })),
    };
    Family {
        samples: vec![Sample { labels: PackedLabels::default(), value: Value::Histogram(histogram) }],
        ..Family::new("sizes", "Sizes.", Kind::Histogram)
    }
}

/// A pusher in a runtime of its own.
struct Pushing {
    runtime: tokio::runtime::Runtime,
    shutdown: Shutdown,
    source: Arc<Given>,
    state: Arc<State>,
    running: tokio::task::JoinHandle<()>,
}

impl Pushing {
    fn start(target: Target, families: Vec<Family>) -> Self {
        let source = Arc::new(Given(Mutex::new(families)));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shutdown = Shutdown::new();
        let pusher = Pusher::new(target, Arc::<Given>::clone(&source)).unwrap();
        let state = pusher.state();
        let running = runtime.spawn(pusher.run(shutdown.clone()));
        Self { runtime, shutdown, source, state, running }
    }

    fn value(&self, name: &str) -> f64 {
        let families = self.state.families();
        let family = families.iter().find(|family| family.name.ends_with(name)).unwrap();
        let number = |sample: &Sample| if let Value::Number(number) = sample.value { number } else { 0.0 };
        family.samples.iter().map(number).sum()
    }

    /// Ends it and waits for that.
    fn end(self) -> Arc<State> {
        self.shutdown.trigger();
        self.runtime.block_on(self.running).unwrap();
        self.state
    }
}

pub(crate) fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let start = Instant::now();
    while !look() {
        assert!(start.elapsed() < PATIENCE, "never saw: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A target that is quick to repeat.
fn target(protocol: Protocol, url: String) -> Target {
    Target {
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
        retry: (Duration::from_millis(10), Duration::from_millis(50)),
        ..Target::new(protocol, url)
    }
}

#[test]
fn what_the_receiver_cannot_take_now_is_sent_again_unchanged() {
    for (_, protocol) in Protocol::ALL {
        let receiver = Receiver::start(vec![Then::Status(503), Then::Close, Then::Status(429), Then::Hang]);
        let pushing = Pushing::start(target(protocol, receiver.url()), vec![jobs(7.0)]);
        eventually("a request that was taken", || pushing.state.sent() > 0);
        assert!(pushing.value("retries_total") >= 4.0);
        assert_eq!(pushing.state.lost(), 0);
        assert!(!pushing.state.is_failing());
        let requests = receiver.requests();
        assert!(requests.len() >= 5);
        assert!(requests[..5].iter().all(|request| request.body == requests[0].body), "{protocol}");
        let head = &requests[0].head;
        let (kind, encoding) = match protocol {
            Protocol::Otlp => ("application/x-protobuf\r\n", "gzip"),
            Protocol::RemoteWrite1 => ("application/x-protobuf\r\n", "snappy"),
            _ => ("application/x-protobuf;proto=io.prometheus.write.v2.request\r\n", "snappy"),
        };
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        assert!(head.contains(&format!("content-encoding: {encoding}")), "{head}");
        let version = head.lines().find_map(|line| line.strip_prefix("x-prometheus-remote-write-version: "));
        let expected = match protocol {
            Protocol::Otlp => None,
            Protocol::RemoteWrite1 => Some("0.1.0"),
            _ => Some("2.0.0"),
        };
        assert_eq!(version, expected);
    }
}

#[test]
fn what_is_refused_is_counted_and_does_not_stop_the_next() {
    let receiver = Receiver::start(vec![Then::Status(400), Then::Status(413)]);
    let mut target = target(Protocol::RemoteWrite1, receiver.url());
    target.headers = vec![("authorization".parse().unwrap(), "Bearer token".parse().unwrap())];
    let pushing = Pushing::start(target, vec![jobs(1.0)]);
    eventually("a request that was taken", || pushing.state.sent() > 0);
    assert_eq!(pushing.state.lost(), 2);
    assert!(pushing.value("requests_total") >= 3.0 && pushing.value("retries_total") == 0.0);
    assert!(receiver.requests()[0].head.contains("authorization: bearer token"));
}

#[test]
fn a_receiver_that_hangs_costs_a_bounded_queue() {
    let receiver = Receiver::start(vec![Then::Hang; 10_000]);
    let mut target = target(Protocol::RemoteWrite2, receiver.url());
    target.queue_bytes = 1000;
    target.interval = Duration::from_millis(5);
    let pushing = Pushing::start(target, vec![jobs(1.0)]);
    eventually("dropped samples", || pushing.state.lost() > 10);
    assert!(pushing.value("queue_bytes") <= 1000.0 && pushing.value("queue_requests") > 1.0);
    eventually("a failure", || pushing.state.is_failing());
    let start = Instant::now();
    pushing.end();
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_last_values_are_sent_at_the_end() {
    let receiver = Receiver::start(vec![]);
    let mut target = target(Protocol::RemoteWrite1, receiver.url());
    target.interval = Duration::from_secs(3600);
    let pushing = Pushing::start(target, vec![jobs(1.0)]);
    eventually("the first push", || pushing.state.sent() == 1);
    *pushing.source.0.lock().unwrap() = vec![jobs(2.0)];
    assert_eq!(pushing.end().sent(), 2);
    assert_eq!(receiver.requests().len(), 2);
}

#[test]
#[ignore = "needs Debian's prometheus"]
fn a_real_prometheus_takes_remote_write() {
    a_real_prometheus_takes(Protocol::RemoteWrite1, &Prometheus::start());
}

#[test]
#[ignore = "needs Prometheus 3"]
fn a_newer_prometheus_takes_both_versions_of_remote_write() {
    for protocol in [Protocol::RemoteWrite1, Protocol::RemoteWrite2] {
        a_real_prometheus_takes(protocol, &Prometheus::start_newer());
    }
}

fn a_real_prometheus_takes(protocol: Protocol, prometheus: &Prometheus) {
    let native = || prometheus.wait_for("histogram_count(sizes)", "3");
    is_taken(protocol, prometheus, "/api/v1/write", native);
}

/// No Prometheus that Debian carries has the OTLP receiver; VictoriaMetrics has one.
#[test]
#[ignore = "needs VictoriaMetrics"]
fn a_real_victoriametrics_takes_every_protocol() {
    for (protocol, path) in
        [(Protocol::Otlp, "/opentelemetry/v1/metrics"), (Protocol::RemoteWrite1, "/api/v1/write")]
    {
        is_taken(protocol, &Prometheus::start_victoria(), path, || {});
    }
}

/// Every kind of family arrives with its labels, a new value follows, and what is gone ends.
fn is_taken(protocol: Protocol, prometheus: &Prometheus, path: &str, native: impl Fn()) {
    let many = (0..5000).fold(Family::new("many", "Many.", Kind::Gauge), |mut family, n| {
        family.push(vec![("n".to_owned(), n.to_string())], 1.0);
        family
    });
    let mut target = target(protocol, format!("http://127.0.0.1:{}{path}", prometheus.port));
    target.interval = Duration::from_millis(500);
    target.timeout = Duration::from_secs(10);
    target.labels = vec![("cluster".to_owned(), "test".to_owned())];
    target.native_histograms = path == "/api/v1/write";
    // Started before the receiver listens: the first attempts are repeated.
    let quick = Summary { quantiles: vec![(0.5, 1.5)], sum: 3.0, count: 2 };
    let quick = Family {
        samples: vec![Sample { labels: PackedLabels::default(), value: Value::Summary(quick) }],
        ..Family::new("quick", "Quick.", Kind::Summary)
    };
    let pushing = Pushing::start(target, vec![jobs(7.0), sizes(), quick, many]);

    prometheus.wait_for("jobs_total{queue=%22mail%22,cluster=%22test%22}", "7");
    prometheus.wait_for("count(many)", "5000");
    prometheus.wait_for("sizes_bucket{le=%222.5%22}", "3");
    prometheus.wait_for("sizes_bucket{le=%22%2BInf%22}", "3");
    prometheus.wait_for("sizes_sum", "4.5");
    prometheus.wait_for("quick{quantile=%220.5%22,cluster=%22test%22}", "1.5");
    prometheus.wait_for("quick_count", "2");
    native();
    *pushing.source.0.lock().unwrap() = vec![jobs(8.0)];
    prometheus.wait_for("jobs_total", "8");
    // A series that ended is gone at once, not after five minutes.
    eventually("the end of the others", || {
        prometheus.query("many%20or%20sizes_sum").is_some_and(|answer| answer.contains("\"result\":[]"))
    });
    assert_eq!(pushing.state.lost(), 0);
}

/// No Prometheus that Debian carries has the OTLP receiver, so the reader is the one that OpenTelemetry publishes.
#[test]
fn opentelemetrys_own_reader_understands_otlp() {
    let receiver = Receiver::start(vec![]);
    let mut target = target(Protocol::Otlp, receiver.url());
    target.labels = vec![("service.name".to_owned(), "test".to_owned())];
    target.native_histograms = true;
    let quick = Summary { quantiles: vec![(0.5, 1.5)], sum: 3.0, count: 2 };
    let quick = Family {
        samples: vec![Sample { labels: PackedLabels::default(), value: Value::Summary(quick) }],
        ..Family::new("quick", "Quick.", Kind::Summary)
    };
    let level = Family::new("level", "Level.", Kind::Gauge).with(&[], 0.5);
    let mut classic = sizes();
    "classic".clone_into(&mut classic.name);
    for sample in &mut classic.samples {
        let Value::Histogram(histogram) = &mut sample.value else { continue };
        histogram.native = None;
    }
    let pushing = Pushing::start(target, vec![jobs(7.0), level, quick, classic, sizes()]);
    eventually("a request that was taken", || pushing.state.sent() > 0);

    let request = Arc::clone(&receiver.requests()[0]);
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(&request.body[..]).read_to_end(&mut body).unwrap();
    let request = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
    let [resource] = &request.resource_metrics[..] else { panic!("{request:?}") };
    let text = |pairs: &[KeyValue]| {
        let pair = |pair: &KeyValue| match &pair.value.as_ref().unwrap().value {
            Some(any_value::Value::StringValue(text)) => format!("{}={text}", pair.key),
            other => panic!("{other:?}"),
        };
        pairs.iter().map(pair).collect::<Vec<_>>().join(",")
    };
    assert_eq!(text(&resource.resource.as_ref().unwrap().attributes), "service.name=test");
    let [scope] = &resource.scope_metrics[..] else { panic!("{resource:?}") };
    assert_eq!(scope.scope.as_ref().unwrap().name, "metrics-adapter");
    let cumulative = AggregationTemporality::Cumulative as i32;
    let mut seen = Vec::new();
    for metric in &scope.metrics {
        seen.push(format!("{} {}", metric.name, metric.description));
        match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => {
                assert!(sum.is_monotonic && sum.aggregation_temporality == cumulative);
                let [point] = &sum.data_points[..] else { panic!("{sum:?}") };
                assert_eq!(point.value, Some(number_data_point::Value::AsDouble(7.0)));
                assert_eq!(text(&point.attributes), "queue=mail");
                assert!(point.start_time_unix_nano > 0 && point.start_time_unix_nano <= point.time_unix_nano);
            }
            Data::Gauge(gauge) => {
                assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(0.5)));
            }
            Data::Summary(summary) => {
                let point = &summary.data_points[0];
                assert_eq!((point.count, point.sum), (2, 3.0));
                assert_eq!((point.quantile_values[0].quantile, point.quantile_values[0].value), (0.5, 1.5));
            }
            Data::Histogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality, cumulative);
                let point = &histogram.data_points[0];
                assert_eq!((point.count, point.sum), (3, Some(4.5)));
                assert_eq!(
                    (&point.explicit_bounds[..], &point.bucket_counts[..]),
                    (&[0.5, 2.5][..], &[1, 2, 0][..])
                );
            }
            Data::ExponentialHistogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality, cumulative);
                let point = &histogram.data_points[0];
                assert_eq!((point.count, point.sum, point.scale, point.zero_count), (3, Some(4.5), 0, 0));
                // A bucket of Prometheus ends where OpenTelemetry's with the index before it ends.
                let positive = point.positive.as_ref().unwrap();
                assert_eq!((positive.offset, &positive.bucket_counts[..]), (-1, &[1, 1, 0, 0, 1][..]));
            }
        }
    }
    let expected =
        ["classic Sizes.", "jobs_total Jobs done.", "level Level.", "quick Quick.", "sizes Sizes."];
    assert_eq!(seen, expected);

    // What is there no longer is said to end, once, in the form that it had.
    *pushing.source.0.lock().unwrap() = vec![jobs(8.0)];
    let ended = || {
        let mut ended = Vec::new();
        for request in receiver.requests() {
            let mut body = Vec::new();
            flate2::read::GzDecoder::new(&request.body[..]).read_to_end(&mut body).unwrap();
            let request = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
            let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
            for metric in scopes.flat_map(|scope| scope.metrics) {
                let flags: Vec<u32> = match metric.data.unwrap() {
                    Data::Sum(sum) => sum.data_points.iter().map(|point| point.flags).collect(),
                    Data::Gauge(gauge) => gauge.data_points.iter().map(|point| point.flags).collect(),
                    Data::Summary(summary) => summary.data_points.iter().map(|point| point.flags).collect(),
                    Data::Histogram(histogram) => {
                        histogram.data_points.iter().map(|point| point.flags).collect()
                    }
                    Data::ExponentialHistogram(histogram) => {
                        histogram.data_points.iter().map(|point| point.flags).collect()
                    }
                };
                if flags.contains(&1) {
                    ended.push(metric.name);
                }
            }
        }
        ended.sort();
        ended
    };
    eventually("the ends", || !ended().is_empty());
    let sent = pushing.state.sent();
    eventually("another round", || pushing.state.sent() > sent + 1);
    assert_eq!(ended(), ["classic", "level", "quick", "sizes"]);
}

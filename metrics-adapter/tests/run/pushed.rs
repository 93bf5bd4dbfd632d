//! The page of the run mode, pushed: to a real Prometheus with an outage, and to receivers that fail.

use crate::eventually;
use crate::harness::{Adapter, Fake};
use crate::prometheus::Prometheus;
use crate::receiver::{Receiver, Then};

#[test]
#[ignore = "needs Debian's prometheus"]
fn a_real_prometheus_gets_what_was_gathered_while_it_was_away() {
    let prometheus = Prometheus::start();
    let fake = Fake::body("# TYPE jobs_total counter\njobs_total{queue=\"mail\"} 7\n");
    let url = format!("http://127.0.0.1:{}/api/v1/write", prometheus.port);
    let yaml = |by: &str| {
        format!(
            "sources:\n- {{name: x, type: prometheus, url: '{}', labels: {{by: {by}}}}}\npush:\n\
             - {{protocol: remote_write, url: '{url}', interval: 200ms, labels: {{cluster: test}}}}\n",
            fake.url()
        )
    };
    let adapter = Adapter::start(&yaml("first"));
    prometheus.wait_for("jobs_total{queue=%22mail%22,by=%22first%22,cluster=%22test%22}", "7");
    prometheus.wait_for("metrics_adapter_source_up{source=%22x%22}", "1");
    let port = prometheus.port;
    let stored = prometheus.stop();
    // A series that exists while the receiver is away only.
    adapter.configure(&yaml("away"));
    adapter.wait_for("jobs_total{by=\"away\",queue=\"mail\"}", 7.0);
    let waiting = format!("metrics_adapter_push_queue_requests{{target=\"{url}\"}}");
    let before = adapter.value(&waiting).unwrap_or_default();
    eventually("batches that wait", || adapter.value(&waiting).is_some_and(|count| count >= before + 5.0));
    adapter.configure(&yaml("second"));
    adapter.wait_for("jobs_total{by=\"second\",queue=\"mail\"}", 7.0);
    let prometheus = Prometheus::start_at(port, stored);
    prometheus.wait_for("jobs_total{by=%22second%22}", "7");
    prometheus.wait_for("max_over_time(jobs_total{by=%22away%22}[5m])", "7");
    let page = adapter.page();
    let lost = page.lines().filter(|line| line.starts_with("metrics_adapter_push_samples_lost_total{"));
    assert!(lost.clone().count() > 0 && lost.clone().all(|line| line.ends_with(" 0")), "{page}");
}

/// No Prometheus that Debian carries takes OTLP; VictoriaMetrics does.
#[test]
#[ignore = "needs VictoriaMetrics"]
fn a_real_victoriametrics_gets_otlp() {
    let victoria = Prometheus::start_victoria();
    let fake = Fake::body("# TYPE jobs_total counter\njobs_total{queue=\"mail\"} 7\n");
    let yaml = |by: &str| {
        format!(
            "sources:\n- {{name: x, type: prometheus, url: '{}', labels: {{by: {by}}}}}\npush:\n\
             - {{protocol: otlp, url: 'http://127.0.0.1:{}/opentelemetry/v1/metrics', interval: 200ms, \
             labels: {{cluster: test}}}}\n",
            fake.url(),
            victoria.port
        )
    };
    let adapter = Adapter::start(&yaml("first"));
    victoria.wait_for("jobs_total{queue=%22mail%22,by=%22first%22,cluster=%22test%22}", "7");
    victoria.wait_for("metrics_adapter_source_up{source=%22x%22}", "1");
    adapter.configure(&yaml("second"));
    victoria.wait_for("jobs_total{by=%22second%22}", "7");
    eventually("the end of the first", || {
        victoria.query("jobs_total{by=%22first%22}").is_some_and(|answer| answer.contains("\"result\":[]"))
    });
}

#[test]
fn every_protocol_repeats_what_was_not_taken_and_its_queue_is_bounded() {
    for (protocol, word) in [("remote_write", "snappy"), ("remote_write_2", "snappy"), ("otlp", "gzip")] {
        let receiver = Receiver::start(vec![Then::Status(503), Then::Close, Then::Status(503)]);
        let hanging = Receiver::start(vec![Then::Hang; 10_000]);
        let fake = Fake::body("# TYPE jobs_total counter\njobs_total{queue=\"mail\"} 7\n");
        let adapter = Adapter::start(&format!(
            "sources:\n- {{name: x, type: prometheus, url: '{}'}}\npush:\n\
             - {{protocol: {protocol}, url: '{}', interval: 100ms}}\n\
             - {{protocol: {protocol}, url: '{}', interval: 10ms, queue_bytes: 20KiB}}\n",
            fake.url(),
            receiver.url(),
            hanging.url(),
        ));
        eventually("a request after the failures", || receiver.requests().len() >= 5);
        let requests = receiver.requests();
        assert!(requests[..4].iter().all(|request| request.body == requests[0].body), "{protocol}");
        assert!(requests[0].head.contains(&format!("content-encoding: {word}")), "{}", requests[0].head);
        let of = |name: &str, url: String| format!("metrics_adapter_push_{name}{{target=\"{url}\"}}");
        eventually("lost samples", || {
            let lost = format!(
                "metrics_adapter_push_samples_lost_total{{reason=\"queue_full\",target=\"{}\"}}",
                hanging.url()
            );
            adapter.value(&lost).is_some_and(|lost| lost > 0.0)
        });
        assert!(adapter.value(&of("queue_bytes", hanging.url())).unwrap() <= 20_480.0);
        assert_eq!(adapter.value("jobs_total{queue=\"mail\"}"), Some(7.0));
    }
}

#[test]
fn the_last_values_are_pushed_at_the_end() {
    let receiver = Receiver::start(vec![]);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("x.prom"), "jobs_total 7\n").unwrap();
    let yaml = format!(
        "sources:\n- {{type: file, path: x.prom}}\npush:\n- {{protocol: otlp, url: '{}', interval: 1h}}\n",
        receiver.url()
    );
    let adapter = Adapter::start_in(directory, &yaml, &[]);
    eventually("the first push", || receiver.requests().len() == 1);
    std::fs::write(adapter.path("x.prom"), "jobs_total 8\n").unwrap();
    adapter.stop();
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    for (request, value) in requests.iter().zip([7.0_f64, 8.0]) {
        let mut body = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&request.body[..]), &mut body).unwrap();
        let holds = |wanted: &[u8]| body.windows(wanted.len()).any(|window| window == wanted);
        assert!(holds(b"jobs_total") && holds(&value.to_le_bytes()), "{value}");
    }
}

//! The runner with sources of an embedder.
#![cfg(test)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::shutdown::Shutdown;

use super::{Config, Gather, Gathering, Reading, Runner, SourceOptions};
use crate::exposition::{Format, page};
use crate::family::{Family, Kind};

struct One(&'static str);

impl Gather for One {
    fn gather(&self) -> Gathering<'_> {
        Box::pin(async {
            match self.0 {
                "panics" => panic!("as tests do"),
                "hangs" => std::future::pending().await,
                name => Ok(Reading::of(vec![Family::new(name, "", Kind::Gauge).with(&[], 1.0)])),
            }
        })
    }

    fn down(&self) -> Vec<Family> {
        vec![Family::new("one_up", "", Kind::Gauge).with(&[("what", self.0)], 0.0)]
    }
}

#[tokio::test]
async fn a_source_that_panics_or_hangs_is_down_and_nothing_else() {
    let mut config = Config::new();
    for name in ["good", "panics", "hangs"] {
        let options =
            SourceOptions { timeout: Duration::from_millis(200), ..SourceOptions::new(name, "test") };
        config = config.with_source(options, Arc::new(One(name)));
    }
    let shutdown = Shutdown::new();
    let runner = Runner::start(&config, &shutdown).await.unwrap();
    let mut union = runner.page(Instant::now() + Duration::from_secs(20)).await;
    let text = String::from_utf8(page(&mut union, Format::Text)).unwrap();
    for line in [
        "good 1",
        "one_up{what=\"hangs\"} 0",
        "one_up{what=\"panics\"} 0",
        "metrics_adapter_source_up{source=\"good\",type=\"test\"} 1",
        "metrics_adapter_source_up{source=\"hangs\",type=\"test\"} 0",
        "metrics_adapter_source_errors_total{source=\"panics\",type=\"test\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not on\n{text}");
    }
}

/// Time is the runtime's own here: it leaps to the next timer whenever nothing is left to do.
#[tokio::test(start_paused = true)]
async fn pages_come_while_a_source_still_hangs() {
    let mut config = Config::new();
    for name in ["good", "hangs"] {
        let options = SourceOptions { timeout: Duration::from_secs(60), ..SourceOptions::new(name, "test") };
        config = config.with_source(options, Arc::new(One(name)));
    }
    let runner = Runner::start(&config, &Shutdown::new()).await.unwrap();
    let start = tokio::time::Instant::now();
    for _ in 0..10 {
        let mut union = runner.page(Instant::now() + Duration::from_secs(20)).await;
        let text = String::from_utf8(page(&mut union, Format::Text)).unwrap();
        assert!(text.lines().any(|line| line == "good 1"), "{text}");
        assert!(text.contains("metrics_adapter_source_up{source=\"hangs\",type=\"test\"} 0"), "{text}");
    }
    let waited = start.elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?} for ten pages");
}

#[test]
fn every_rule_set_is_valid_and_usable_by_name() {
    for (name, _) in crate::source::jmx::RULE_SETS {
        let yaml = format!("sources:\n- {{type: jmx, address: 'localhost:1', rule_set: {name}}}\n");
        let config = Config::parse(&yaml, std::path::Path::new("adapter.yaml"), super::Options::default());
        config.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

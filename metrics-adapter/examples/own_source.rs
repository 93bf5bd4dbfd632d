//! A program that serves a source of its own beside those of a configuration file.
//!
//! `cargo run -p metrics-adapter --example own_source -- [ADDRESS [adapter.yaml]]`, then look at
//! `http://127.0.0.1:9102/metrics`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::config::{FromSetting as _, ListenAddr};
use metrics_adapter::family::{Family, Kind};
use metrics_adapter::source::app::{Config, Gather, Gathering, Options, Reading, SourceOptions};
use metrics_adapter::{Shutdown, run};

/// Something the program counts itself.
#[derive(Default)]
struct Orders {
    taken: AtomicU64,
}

impl Gather for Orders {
    fn gather(&self) -> Gathering<'_> {
        Box::pin(async {
            #[expect(clippy::cast_precision_loss, reason = "samples are floats")]
            let taken = self.taken.fetch_add(1, Ordering::Relaxed) as f64;
            let family = Family::new("shop_orders_total", "Orders taken.", Kind::Counter);
            Ok(Reading::of(vec![family.with(&[("shop", "corner")], taken)]))
        })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| ":9102".to_owned());
    let config = match arguments.next() {
        Some(path) => Config::load(Path::new(&path), Options::default())?,
        None => Config::new(),
    };
    let config = config
        .listen(ListenAddr::from_setting(&address)?)
        .with_source(SourceOptions::new("orders", "example"), Arc::new(Orders::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(metrics_adapter::Config::Run(Box::new(config)), Shutdown::new()))?;
    Ok(())
}

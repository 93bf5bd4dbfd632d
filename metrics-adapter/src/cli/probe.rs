//! `metrics-adapter probe`.

use std::ffi::OsString;
use std::process::ExitCode;

use common::cli::USAGE;
use common::runtime::{self, Options};
use metrics_adapter::source::app::probe;

const HELP: &str = "\
Looks at an address or a file, guesses its format, and prints the metrics it would give and a
configuration for `metrics-adapter run`.

Usage: metrics-adapter probe URL|FILE

Examples:
  metrics-adapter probe http://127.0.0.1:8080/stats
  metrics-adapter probe stats.json
";

pub(super) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let what = match &words[..] {
        [word] if matches!(word.as_str(), "--help" | "-h") => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        [word] if !word.starts_with('-') => word.clone(),
        _ => {
            eprint!("metrics-adapter probe: error: one address or file is needed\n\n{HELP}");
            return ExitCode::from(USAGE);
        }
    };
    runtime::run(Options::default(), |_| async move {
        let probed =
            probe(&what).await.inspect_err(|error| eprintln!("metrics-adapter probe: error: {error}"))?;
        print!("# {}\n{}\n# Configuration:\n{}", probed.summary(), probed.page, probed.configuration);
        Ok::<_, metrics_adapter::source::app::GatherError>(())
    })
}

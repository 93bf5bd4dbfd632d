//! `statsd explain LINE`, `statsd lint` and `statsd test FILE`.

use std::path::Path;
use std::process::ExitCode;

use common::cli::USAGE;
use common::error::chain;
use metrics_adapter::explain::{self, Check};
use metrics_adapter::mapping::{self, Mapping};
use metrics_adapter::source::statsd::Config;

/// Shows what becomes of a line. Status 0 when it gives a sample, 1 when not.
pub(crate) fn explain(config: &Config, line: &str) -> ExitCode {
    let mapping = match load(config) {
        Ok(mapping) => mapping,
        Err(code) => return code,
    };
    let told = explain::explain(line.as_bytes(), mapping, config.ingest);
    print!("{told}");
    if told.samples.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Shows rules that can never match. Status 1 when there are some.
pub(crate) fn lint(config: &Config) -> ExitCode {
    let Some(path) = &config.mapping else {
        eprintln!("metrics-adapter statsd lint: error: there is no mapping, set --statsd.mapping-config");
        return ExitCode::from(USAGE);
    };
    let mapping = match load(config) {
        Ok(mapping) => mapping,
        Err(code) => return code,
    };
    let findings = mapping::lint(&mapping);
    for finding in &findings {
        println!("{}:{}: {}", path.display(), finding.line, finding.message);
    }
    match findings.is_empty() {
        true => {
            println!("{}: nothing found in {} rules", path.display(), mapping.rules.len());
            ExitCode::SUCCESS
        }
        false => ExitCode::FAILURE,
    }
}

/// Runs the cases of a file. Status 1 when one fails.
pub(crate) fn test(config: &Config, file: &Path) -> ExitCode {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("metrics-adapter statsd test: error: cannot read {}: {error}", file.display());
            return ExitCode::from(USAGE);
        }
    };
    let cases = match explain::read_cases(&text) {
        Ok(cases) => cases,
        Err(problem) => {
            eprintln!("metrics-adapter statsd test: error: {}:{problem}", file.display());
            return ExitCode::from(USAGE);
        }
    };
    let mut failed = 0;
    for case in &cases {
        let mapping = match load(config) {
            Ok(mapping) => mapping,
            Err(code) => return code,
        };
        match explain::check(case, mapping, config.ingest) {
            Check::Passed => println!("ok      {}", case.name),
            Check::Failed { missing, unexpected } => {
                failed += 1;
                println!("FAILED  {} ({}:{})", case.name, file.display(), case.line);
                missing.iter().for_each(|sample| println!("  missing     {sample}"));
                unexpected.iter().for_each(|sample| println!("  unexpected  {sample}"));
            }
        }
    }
    println!("{} passed, {failed} failed", cases.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn load(config: &Config) -> Result<Mapping, ExitCode> {
    let Some(path) = &config.mapping else { return Ok(Mapping::default()) };
    Mapping::load(path).map_err(|error| {
        eprintln!("metrics-adapter statsd: error: {}", chain(&error));
        ExitCode::from(USAGE)
    })
}

//! The command line: which mode, its flags, its signals.

mod explain;
mod jmx;
mod probe;
mod run;
mod statsd;

use std::ffi::OsString;
use std::process::ExitCode;

use common::cli::USAGE;
use common::config::{did_you_mean, nearest};

const HELP: &str = "\
Turns StatsD, JMX and application statistics into one Prometheus page

Usage: metrics-adapter MODE [FLAGS]

Modes:
  statsd   take StatsD lines (drop-in for statsd_exporter)
  jmx      read a Java process's management beans (drop-in for jmx_exporter)
  run      gather any number of sources: JSON, text, logs, other exporters, well-known servers, both of the above
  probe    look at an address or a file and print a configuration for it

`metrics-adapter MODE --help` shows the flags of a mode.

Examples:
  metrics-adapter statsd --web.listen-address :9102
  metrics-adapter jmx 9404 config.yaml
  metrics-adapter run adapter.yaml
  metrics-adapter probe http://127.0.0.1:8080/stats
";

/// Dispatches to a mode; returns the process's exit status.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_default();
    let mode = arguments.next().map(|mode| mode.to_string_lossy().into_owned());
    match mode.as_deref() {
        Some("statsd") => statsd::main(std::iter::once(program).chain(arguments)),
        Some("jmx") => jmx::main(arguments),
        Some("run") => run::main(std::iter::once(program).chain(arguments)),
        Some("probe") => probe::main(arguments),
        Some("--help" | "-h" | "help") => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Some("--version" | "-V") => {
            let build = common::build!();
            println!("{} {} ({})", build.name, build.version, build.revision);
            ExitCode::SUCCESS
        }
        Some(other) => {
            let modes = ["statsd", "jmx", "run", "probe", "--help", "--version"];
            let hint = did_you_mean(nearest(other, modes));
            eprintln!("metrics-adapter: error: unknown mode `{other}`{hint}\nTry `metrics-adapter --help`.");
            ExitCode::from(USAGE)
        }
        None => {
            eprint!("metrics-adapter: error: no mode given\n\n{HELP}");
            ExitCode::from(USAGE)
        }
    }
}

//! The command line: which mode, its flags, its signals.

mod explain;
mod statsd;

use std::ffi::OsString;
use std::process::ExitCode;

use common::cli::USAGE;
use common::config::{FromSetting, nearest};
use common::telemetry::{self, LogLevel};
use metrics_adapter::source::jmx;

const HELP: &str = "\
Turns StatsD, JMX and application statistics into one Prometheus page

Usage: metrics-adapter MODE [FLAGS]

Modes:
  statsd   take StatsD lines (drop-in for statsd_exporter)
  jmx      read a Java process's management beans (drop-in for jmx_exporter)

`metrics-adapter MODE --help` shows the flags of a mode.
";

/// Dispatches to a mode; returns the process's exit status.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let program = arguments.next().unwrap_or_default();
    let mode = arguments.next().map(|mode| mode.to_string_lossy().into_owned());
    match mode.as_deref() {
        Some("statsd") => statsd::main(std::iter::once(program).chain(arguments)),
        Some("jmx") => {
            // The peer has no flags for its log; the environment variables are those of the other modes.
            let level = log_setting::<LogLevel>("METRICS_ADAPTER_LOG_LEVEL");
            telemetry::start(log_setting("METRICS_ADAPTER_LOG_FORMAT"), &level);
            jmx::command::execute(arguments.map(|argument| argument.to_string_lossy().into_owned()))
        }
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
            let hint = nearest(other, ["statsd", "jmx", "--help", "--version"]);
            let hint = hint.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
            eprintln!("metrics-adapter: error: unknown mode `{other}`{hint}\nTry `metrics-adapter --help`.");
            ExitCode::from(USAGE)
        }
        None => {
            eprint!("metrics-adapter: error: no mode given\n\n{HELP}");
            ExitCode::from(USAGE)
        }
    }
}

/// A logging variable; one that cannot be read counts as unset.
fn log_setting<T: FromSetting + Default>(variable: &str) -> T {
    std::env::var(variable).ok().and_then(|text| T::from_setting(&text).ok()).unwrap_or_default()
}

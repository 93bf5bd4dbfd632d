//! `metrics-adapter statsd`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use common::cli::{self, Invocation, Parsed, Shared, USAGE};
use common::config::{ConfigError, did_you_mean, nearest};
use common::{runtime, telemetry};
use metrics_adapter::mapping::Mapping;
use metrics_adapter::source::statsd::{APP, Config, Reload};
use metrics_adapter::web;

use super::explain;

const SHARED: Shared = Shared {
    config: true,
    check_config: true,
    log: ("log.level", "log.format"),
    words: Some(("COMMAND", 2)),
};

/// Worker threads for HTTP and TCP; datagrams have threads of their own.
const THREADS: usize = 2;

pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let build = common::build!();
    let invocation = match cli::parse(&build, &APP, SHARED, arguments) {
        Parsed::Run(invocation) => invocation,
        Parsed::Exit(code) => return code,
    };
    telemetry::start(invocation.log_format, &invocation.log_level);
    telemetry::start_traces(&common::build!());
    let config = match Config::from_settings(&invocation.settings) {
        Ok(config) => config,
        // No flag of it is wrong, so it ends as the peer does.
        Err(error @ ConfigError::Conflict(_)) => {
            cli::refuse_config(&APP, &error);
            return ExitCode::FAILURE;
        }
        Err(error) => return cli::refuse_config(&APP, &error),
    };
    let words: Vec<&str> = invocation.words.iter().map(String::as_str).collect();
    match words[..] {
        [] => {}
        ["explain", line] => return explain::explain(&config, line),
        ["lint"] => return explain::lint(&config),
        ["test", file] => return explain::test(&config, Path::new(file)),
        ["explain"] => return refuse("explain needs a line"),
        ["test"] => return refuse("test needs a file"),
        [other, ..] => {
            let hint = did_you_mean(nearest(other, ["explain", "lint", "test"]));
            return refuse(&format!("unknown command `{other}`{hint}"));
        }
    }
    // Before any socket is opened.
    match read_files(&config) {
        Err(code) => code,
        Ok(rules) if invocation.check_config => {
            println!("the configuration is good ({rules} mapping rules)");
            ExitCode::SUCCESS
        }
        Ok(_) => start(config, &invocation),
    }
}

/// Says what is wrong with the command line or a file it names.
fn refuse(problem: &str) -> ExitCode {
    eprintln!("{}: error: {problem}\nTry `{} --help`.", APP.name, APP.name);
    ExitCode::from(USAGE)
}

/// Reads every file the configuration names; the number of mapping rules, or the exit status, which is the peer's:
/// a broken file is no wrong flag.
fn read_files(config: &Config) -> Result<usize, ExitCode> {
    let fail = |error: &(dyn std::error::Error + 'static)| {
        eprintln!("{}: error: {}", APP.name, common::error::chain(error));
        ExitCode::FAILURE
    };
    if let Some(path) = &config.web_config {
        web::check(path).map_err(|error| fail(&error))?;
    }
    let Some(path) = &config.mapping else { return Ok(0) };
    Mapping::load(path).map(|mapping| mapping.rules.len()).map_err(|error| fail(&error))
}

fn start(config: Config, invocation: &Invocation) -> ExitCode {
    let build = common::build!();
    let changed = invocation.settings.changed();
    tracing::info!(version = build.version, revision = build.revision, settings = ?changed, "starting");
    let options = runtime::Options { threads: THREADS, ..runtime::Options::default() };
    runtime::run(options, |shutdown| async move {
        reload_on_hangup(config.reload.clone());
        metrics_adapter::run(metrics_adapter::Config::Statsd(Box::new(config)), shutdown).await
    })
}

/// Turns SIGHUP into a reload.
fn reload_on_hangup(reload: Reload) {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => {
            tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    reload.ask();
                }
            });
        }
        Err(error) => tracing::warn!(%error, "cannot listen for SIGHUP"),
    }
}

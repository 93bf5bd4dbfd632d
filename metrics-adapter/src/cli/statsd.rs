//! `metrics-adapter statsd`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use common::cli::{self, Invocation, Parsed, Shared, USAGE};
use common::config::nearest;
use common::{runtime, telemetry};
use metrics_adapter::mapping::Mapping;
use metrics_adapter::source::statsd::{APP, Config, Reload};

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
    let config = match Config::from_settings(&invocation.settings) {
        Ok(config) => config,
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
            let hint = nearest(other, ["explain", "lint", "test"]);
            let hint = hint.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
            return refuse(&format!("unknown command `{other}`{hint}"));
        }
    }
    if invocation.check_config {
        return check(&config);
    }
    start(config, &invocation)
}

/// Says what is wrong with the command line or a file it names.
fn refuse(problem: &str) -> ExitCode {
    eprintln!("{}: error: {problem}\nTry `{} --help`.", APP.name, APP.name);
    ExitCode::from(USAGE)
}

fn check(config: &Config) -> ExitCode {
    match config.mapping.as_deref().map(Mapping::load) {
        Some(Err(error)) => {
            eprintln!("{}: error: {}", APP.name, runtime::chain(&error));
            ExitCode::from(USAGE)
        }
        Some(Ok(mapping)) => {
            println!("the configuration is good ({} mapping rules)", mapping.rules.len());
            ExitCode::SUCCESS
        }
        None => {
            println!("the configuration is good");
            ExitCode::SUCCESS
        }
    }
}

fn start(config: Config, invocation: &Invocation) -> ExitCode {
    // Said here as a usage error, before any socket is opened.
    if let Some(Err(error)) = config.mapping.as_deref().map(Mapping::load) {
        eprintln!("{}: error: {}", APP.name, runtime::chain(&error));
        return ExitCode::from(USAGE);
    }
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

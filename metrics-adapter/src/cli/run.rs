//! `metrics-adapter run`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use common::cli::{self, Parsed, Shared, USAGE};
use common::config::nearest;
use common::{runtime, telemetry};
use metrics_adapter::source::app::{APP, Config, Options, explain, lint, test};
use metrics_adapter::web;

const SHARED: Shared = Shared {
    // The one file is the configuration of sources.
    config: false,
    check_config: true,
    log: ("log.level", "log.format"),
    words: Some(("FILE", 4)),
};

/// Whatever takes long (large documents, logs) has threads of its own; one for the rest needs less memory and fewer
/// switches.
const THREADS: usize = 1;

pub(super) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let build = common::build!();
    let invocation = match cli::parse(&build, &APP, SHARED, arguments) {
        Parsed::Run(invocation) => invocation,
        Parsed::Exit(code) => return code,
    };
    telemetry::start(invocation.log_format, &invocation.log_level);
    telemetry::start_traces(&common::build!());
    let words: Vec<&str> = invocation.words.iter().map(String::as_str).collect();
    let load = |path: &str| -> Result<Config, ExitCode> {
        let settings = |error| cli::refuse_config(&APP, &error);
        let options = Options::from_settings(&invocation.settings).map_err(settings)?;
        let config = Config::load(Path::new(path), options).map_err(|error| refuse(&error.to_string()))?;
        config.with_settings(&invocation.settings).map_err(settings)
    };
    let done = match words[..] {
        ["explain", file] => load(file).map(|config| explained(config, None, None)),
        ["explain", file, source] => load(file).map(|config| explained(config, Some(source), None)),
        ["explain", file, source, document] => {
            load(file).and_then(|config| Ok(explained(config, Some(source), Some(read(document)?))))
        }
        ["lint", file] => load(file).map(|config| {
            let findings = lint(&config);
            findings.iter().for_each(|finding| println!("{finding}"));
            ExitCode::from(u8::from(!findings.is_empty()))
        }),
        ["test", file, cases] => load(file).map(|config| tested(&config, Path::new(cases))),
        [file] => load(file).map(|config| match config.web_config().map(web::check) {
            Some(Err(error)) => refuse(&error.to_string()),
            _ if invocation.check_config => {
                println!("{file}: the configuration is good ({} sources)", config.sources().count());
                ExitCode::SUCCESS
            }
            _ => start(config),
        }),
        [] => Err(refuse("a configuration file is needed")),
        [command, ..] => {
            let hint = nearest(command, ["explain", "lint", "test"]);
            let hint = hint.map(|name| format!(", did you mean `{name} FILE`?")).unwrap_or_default();
            Err(refuse(&format!("`{}` is not understood{hint}", words.join(" "))))
        }
    };
    done.unwrap_or_else(|code| code)
}

fn refuse(problem: &str) -> ExitCode {
    eprintln!("{}: error: {problem}", APP.name);
    ExitCode::from(USAGE)
}

fn options() -> runtime::Options {
    runtime::Options { threads: THREADS, ..runtime::Options::default() }
}

/// A file, or `-` for what comes in.
fn read(path: &str) -> Result<Vec<u8>, ExitCode> {
    let mut bytes = Vec::new();
    let read = match path {
        "-" => std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes),
        path => std::fs::read(path),
    };
    read.map_err(|error| refuse(&format!("{path}: {error}")))
}

fn explained(config: Config, only: Option<&str>, document: Option<Vec<u8>>) -> ExitCode {
    if let Some(name) = only
        && !config.sources().any(|source| source.name == name)
    {
        return refuse(&format!("there is no source `{name}`"));
    }
    let only = only.map(str::to_owned);
    runtime::run(options(), |_| async move {
        let (text, good) = explain(&config, only.as_deref(), document.as_deref()).await;
        print!("{text}");
        if good { Ok(()) } else { Err("a source is down or skips values".to_owned()) }
    })
}

fn tested(config: &Config, cases: &Path) -> ExitCode {
    match test(config, cases) {
        Ok(failures) if failures.is_empty() => {
            println!("all tests passed");
            ExitCode::SUCCESS
        }
        Ok(failures) => {
            failures.iter().for_each(|failure| println!("{failure}"));
            ExitCode::FAILURE
        }
        Err(error) => refuse(&error),
    }
}

fn start(config: Config) -> ExitCode {
    let build = common::build!();
    tracing::info!(version = build.version, revision = build.revision, "starting");
    runtime::run(options(), |shutdown| async move {
        reload_on_hangup(config.reloader());
        metrics_adapter::run(metrics_adapter::Config::Run(Box::new(config)), shutdown).await
    })
}

/// Turns SIGHUP into a reload.
fn reload_on_hangup(reload: impl Fn() + Send + 'static) {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => {
            tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    reload();
                }
            });
        }
        Err(error) => tracing::warn!(%error, "cannot listen for SIGHUP"),
    }
}

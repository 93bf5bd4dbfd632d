//! The command line of the binary.

use crate::{APP, Config, Error, check, explain, run_reloading};
use common::cli::{Parsed, Shared, parse, refuse_config};
use common::runtime;
use common::shutdown::Shutdown;
use common::watch::Watch;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

const SHARED: Shared = Shared {
    config: true,
    check_config: true,
    log: ("log-level", "log-format"),
    words: Some(("check | explain COMMAND", 4096)),
};
/// How long until a changed file is noticed where the system sends no notifications.
const POLL: Duration = Duration::from_secs(5);

/// Runs the binary with these arguments, the first of which is its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let build = common::build!();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let invocation = match parse(&build, &APP, SHARED, arguments.clone()) {
        Parsed::Run(invocation) => invocation,
        Parsed::Exit(code) => return code,
    };
    let words: Vec<&str> = invocation.words.iter().map(String::as_str).collect();
    if let Err(text) = known(&words) {
        eprintln!("redis-ambassador: error: {text}\nTry `redis-ambassador --help`.");
        return ExitCode::from(common::cli::USAGE);
    }
    let config = match Config::from_settings(&invocation.settings) {
        Ok(config) => config,
        Err(error) => return refuse_config(&APP, &error),
    };
    if invocation.check_config {
        println!("configuration is good");
        return ExitCode::SUCCESS;
    }
    match words.as_slice() {
        [] => {}
        ["check", ..] => return check_servers(config),
        _ => {
            print!("{}", explain(&config, &invocation.words[1..]));
            return ExitCode::SUCCESS;
        }
    }
    common::telemetry::start(invocation.log_format, &invocation.log_level);
    common::telemetry::start_traces(&build);
    tracing::info!(version = build.version, revision = build.revision, "starting");
    let deadline = config.drain + Duration::from_secs(3);
    runtime::run(runtime::Options { deadline, ..runtime::Options::default() }, |shutdown| {
        serve(config, arguments, shutdown)
    })
}

/// Whether these words after the flags ask for something there is.
fn known(words: &[&str]) -> Result<(), String> {
    match words {
        [] | ["check"] | ["explain", _, ..] => Ok(()),
        ["explain"] => Err("`explain` needs a command, as in `explain GET foo`".to_owned()),
        [first, ..] => {
            let hint = common::config::nearest(first, ["check", "explain"]).filter(|name| name != first);
            let hint = common::config::did_you_mean(hint);
            Err(format!("`{}` is neither `check` nor `explain COMMAND`{hint}", words.join(" ")))
        }
    }
}

/// Runs, and reads the configuration again at SIGHUP and when its file changes.
async fn serve(config: Config, arguments: Vec<OsString>, shutdown: Shutdown) -> Result<(), Error> {
    let configs = watch::Sender::new(config);
    let receiver = configs.subscribe();
    let stop = shutdown.clone();
    let file = config_file(&arguments);
    shutdown.spawn(async move {
        let mut watch = Watch::new(file, POLL);
        let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
        loop {
            tokio::select! {
                _ = hangups.recv() => {}
                () = watch.changed() => {}
                () = stop.triggered() => return,
            }
            let fresh = match parse(&common::build!(), &APP, SHARED, arguments.clone()) {
                Parsed::Run(invocation) => {
                    Config::from_settings(&invocation.settings).map_err(|error| error.to_string())
                }
                // It has said why.
                Parsed::Exit(_) => Err("see above".to_owned()),
            };
            match fresh {
                Ok(fresh) => {
                    configs.send_replace(fresh);
                }
                Err(error) => tracing::error!(error, "configuration not usable; the one before stays"),
            }
        }
    });
    run_reloading(receiver, shutdown, |_| ()).await
}

/// The file that `--config` or its variable names.
fn config_file(arguments: &[OsString]) -> Option<PathBuf> {
    let mut found = std::env::var_os("REDIS_AMBASSADOR_CONFIG").map(PathBuf::from);
    for (index, argument) in arguments.iter().enumerate() {
        let argument = argument.to_string_lossy();
        if argument == "--config" {
            found = arguments.get(index + 1).map(PathBuf::from);
        } else if let Some(path) = argument.strip_prefix("--config=") {
            found = Some(path.into());
        }
    }
    found
}

/// `redis-ambassador check`: 0 when every server answers and one of them is primary, 1 otherwise.
fn check_servers(config: Config) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("redis-ambassador: error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(check(config, common::shutdown::Shutdown::new())) {
        Ok((text, good)) => {
            print!("{text}");
            if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("redis-ambassador: error: {}", common::error::chain(&error));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_by_a_wrong_word_is_guessed() {
        for words in [&[][..], &["check"], &["explain", "GET", "key"]] {
            assert_eq!(known(words), Ok(()));
        }
        let error = |words: &[&str]| known(words).unwrap_err();
        assert!(error(&["expain", "GET"]).ends_with("did you mean `explain`?"));
        assert_eq!(error(&["check", "all"]), "`check all` is neither `check` nor `explain COMMAND`");
        assert!(error(&["explain"]).contains("explain GET"));
    }
}

//! The command line of the binary.

use crate::{APP, Config, check, explain, run};
use common::cli::{Parsed, Shared, parse, refuse_config};
use common::runtime;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the binary with these arguments, the first of which is its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let build = common::build!();
    let invocation = match parse(
        &build,
        &APP,
        Shared { words: Some(("check | explain COMMAND", 4096)), ..Shared::default() },
        arguments,
    ) {
        Parsed::Run(invocation) => invocation,
        Parsed::Exit(code) => return code,
    };
    let config = match Config::from_settings(&invocation.settings) {
        Ok(config) => config,
        Err(error) => return refuse_config(&APP, &error),
    };
    if invocation.check_config {
        println!("configuration is good");
        return ExitCode::SUCCESS;
    }
    let words: Vec<&str> = invocation.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => {}
        ["check"] => return check_servers(config),
        ["explain", _, ..] => {
            print!("{}", explain(&config, &invocation.words[1..]));
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!(
                "redis-ambassador: error: `{}` is neither `check` nor `explain COMMAND`",
                words.join(" ")
            );
            return ExitCode::from(common::cli::USAGE);
        }
    }
    common::telemetry::start(invocation.log_format, &invocation.log_level);
    tracing::info!(version = build.version, revision = build.revision, "starting");
    let deadline = config.drain + Duration::from_secs(3);
    runtime::run(runtime::Options { threads: 1, deadline }, |shutdown| run(config, shutdown))
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
            eprintln!("redis-ambassador: error: {}", runtime::chain(&error));
            ExitCode::FAILURE
        }
    }
}

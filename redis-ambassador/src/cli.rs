//! The command line of the binary.

use crate::{APP, Config, run};
use common::cli::{Parsed, Shared, parse, refuse_config};
use common::runtime;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the binary with these arguments, the first of which is its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let build = common::build!();
    let invocation = match parse(&build, &APP, Shared::default(), arguments) {
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
    common::telemetry::start(invocation.log_format, &invocation.log_level);
    tracing::info!(version = build.version, revision = build.revision, "starting");
    let deadline = config.drain + Duration::from_secs(3);
    runtime::run(runtime::Options { threads: 1, deadline }, |shutdown| run(config, shutdown))
}

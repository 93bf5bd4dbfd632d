//! The command line of the peer's standalone server: `[host:]port config.yaml`, with `-Dkey=value` allowed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::process::ExitCode;

use common::cli::USAGE;
use common::config::{FromSetting, nearest};
use common::runtime::{self, Options};
use common::telemetry::{self, LogFormat, LogLevel};
use metrics_adapter::explain::Check;
use metrics_adapter::source::jmx::{Config, Explanation, cases, explain, push_only, run};

/// What stands behind `metrics-adapter jmx`.
const HELP: &str = "\
Reads JVMs over JMX and serves what they say as a Prometheus page.

Usage: metrics-adapter jmx [-Dkey=value]... [host:]port config.yaml
       metrics-adapter jmx config.yaml             no page; pushes as `openTelemetry` says
       metrics-adapter jmx --check-config config.yaml
       metrics-adapter jmx explain config.yaml     every value, its rule, its series
       metrics-adapter jmx lint config.yaml        rules that never match, are shadowed or fail
       metrics-adapter jmx test config.yaml FILE   values and the samples they have to give

The configuration file is the one of jmx_exporter; see docs/jmx.md for the additions.

Options:
      --check-config         Say whether the configuration is good, and leave (0 good, 2 not)
      --log-level LEVEL      error, warn, info, debug, trace, or a filter [env: METRICS_ADAPTER_LOG_LEVEL]
      --log-format FORMAT    auto, human, json [env: METRICS_ADAPTER_LOG_FORMAT]
  -h, --help                 Print help

Signals: SIGTERM and SIGINT end. A changed configuration file is read again by itself.

Examples:
  metrics-adapter jmx 9404 config.yaml
  metrics-adapter jmx 127.0.0.1:9404 config.yaml --log-level debug
";

/// What the command line asks for.
#[derive(Debug, Default)]
struct Request {
    help: bool,
    check: bool,
    words: Vec<String>,
    /// `-Dkey=value`
    properties: HashMap<String, String>,
    log_level: Option<String>,
    log_format: Option<String>,
}

/// Runs the mode with the arguments behind `jmx`.
pub(super) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    match parse(arguments).and_then(execute) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("metrics-adapter jmx: error: {reason}\nTry `metrics-adapter jmx --help`.");
            ExitCode::from(USAGE)
        }
    }
}

fn execute(request: Request) -> Result<ExitCode, String> {
    if request.help {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    start_logging(&request)?;
    let load = |path: &str| {
        Config::load_with(path.as_ref(), request.properties.clone()).map_err(|error| error.to_string())
    };
    match (request.check, request.words.as_slice()) {
        (true, [path] | [_, path]) => {
            load(path)?;
            println!("{path}: good");
            Ok(ExitCode::SUCCESS)
        }
        (false, [word, path]) if word == "explain" => explained(load(path)?, |explanation| {
            explanation.values.iter().for_each(|value| print!("{value}"));
            true
        }),
        (false, [word, path]) if word == "lint" => explained(load(path)?, |explanation| {
            let findings = explanation.findings();
            findings.iter().for_each(|finding| println!("{finding}"));
            findings.is_empty()
        }),
        (false, [word, path, file]) if word == "test" => test(&load(path)?, file),
        (false, [listen, path]) => {
            let (config, listen) = (load(path)?, listen_address(listen));
            Ok(runtime::run(Options::default(), async move |shutdown| run(config, &listen, shutdown).await))
        }
        (false, [path]) => {
            let config = load(path)?;
            if !config.pushes() {
                return Err("the address to listen on is missing (`[host:]port config.yaml`); \
                            only a file with `openTelemetry` stands alone"
                    .to_owned());
            }
            Ok(runtime::run(Options::default(), async move |shutdown| push_only(config, shutdown).await))
        }
        _ => Err("two arguments are needed: `[host:]port config.yaml`".to_owned()),
    }
}

/// Reads all JVMs and shows what `show` makes of it; 1 when it finds fault or a JVM cannot be read.
fn explained(
    config: Config,
    show: impl Fn(&Explanation) -> bool + Send + 'static,
) -> Result<ExitCode, String> {
    Ok(runtime::run(Options::default(), async move |_| {
        let mut good = true;
        for explanation in explain(config).await {
            good &= show(&explanation);
            if let Some(error) = explanation.error {
                return Err(error);
            }
        }
        if good { Ok(()) } else { Err("there are findings".to_owned()) }
    }))
}

/// Runs the cases of a file; 1 when one fails.
fn test(config: &Config, file: &str) -> Result<ExitCode, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let cases = cases::read_cases(&text).map_err(|problem| format!("{file}:{problem}"))?;
    let mut failed = 0;
    for case in &cases {
        match cases::check(case, config) {
            Check::Passed => println!("ok      {}", case.name),
            Check::Failed { missing, unexpected } => {
                failed += 1;
                println!("FAILED  {} ({file}:{})", case.name, case.line);
                missing.iter().for_each(|sample| println!("  missing     {sample}"));
                unexpected.iter().for_each(|sample| println!("  unexpected  {sample}"));
            }
        }
    }
    println!("{} passed, {failed} failed", cases.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn start_logging(request: &Request) -> Result<(), String> {
    let value = |given: &Option<String>, variable: &str| {
        given.clone().or_else(|| std::env::var(variable).ok().filter(|text| !text.is_empty()))
    };
    let level = value(&request.log_level, "METRICS_ADAPTER_LOG_LEVEL");
    let format = value(&request.log_format, "METRICS_ADAPTER_LOG_FORMAT");
    let level = level.map(|text| LogLevel::from_setting(&text)).transpose()?.unwrap_or_default();
    let format = format.map(|text| LogFormat::from_setting(&text)).transpose()?.unwrap_or_default();
    telemetry::start(format, &level);
    telemetry::start_traces(&common::build!());
    Ok(())
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Request, String> {
    let mut request = Request::default();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let (flag, inline) = match argument.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (flag.to_owned(), Some(value.to_owned())),
            _ => (argument.clone(), None),
        };
        let mut value =
            || inline.clone().or_else(|| arguments.next()).ok_or(format!("`{flag}` needs a value"));
        match flag.as_str() {
            "-h" | "--help" => request.help = true,
            "--check-config" => request.check = true,
            "--log-level" => request.log_level = Some(value()?),
            "--log-format" => request.log_format = Some(value()?),
            _ if flag.starts_with("-D") => {
                let (key, value) = argument[2..].split_once('=').unwrap_or((&argument[2..], ""));
                request.properties.insert(key.to_owned(), value.to_owned());
            }
            _ if flag.starts_with('-') => {
                let known = ["check-config", "log-level", "log-format", "help"];
                let hint = nearest(flag.trim_start_matches('-'), known);
                let hint = hint.map(|name| format!(", did you mean `--{name}`?")).unwrap_or_default();
                return Err(format!("unknown flag `{flag}`{hint}"));
            }
            _ => request.words.push(argument),
        }
    }
    Ok(request)
}

/// A bare port listens on all interfaces, and the last colon splits an IPv6 address without brackets.
fn listen_address(text: &str) -> String {
    match text.rsplit_once(':') {
        None => format!("0.0.0.0:{text}"),
        Some((host, port)) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        Some(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("9404", "0.0.0.0:9404"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("::1:5", "[::1]:5"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(listen_address(text), expected);
        }
    }

    #[test]
    fn words_and_flags() {
        let parse = |words: &[&str]| super::parse(words.iter().map(|word| (*word).to_owned()));
        let request = parse(&["-Da.b=c=d", "--log-level", "debug", "1", "x.yaml"]).unwrap();
        assert_eq!((request.words.len(), request.properties["a.b"].as_str()), (2, "c=d"));
        let error = parse(&["--check-confg", "x"]).unwrap_err();
        assert!(error.contains("--check-config"), "{error}");
        assert!(parse(&["--log-level"]).is_err());
    }
}

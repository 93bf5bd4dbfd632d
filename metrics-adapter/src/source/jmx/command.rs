//! The command line of the peer's standalone server: `[host:]port config.yaml`, with `-Dkey=value` allowed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use common::cli::USAGE;
use common::runtime::{self, Options};

use super::{Config, run};

/// What stands behind `metrics-adapter jmx`.
const HELP: &str = "\
Reads JVMs over JMX and serves what they say as a Prometheus page.

Usage: metrics-adapter jmx [-Dkey=value]... [host:]port config.yaml
       metrics-adapter jmx --check-config config.yaml

The configuration file is the one of jmx_exporter; see docs/jmx.md for the additions.

Options:
      --check-config  Say whether the configuration is good, and leave (0 good, 2 not)
  -h, --help          Print help
";

enum Request {
    Help,
    Check(PathBuf, HashMap<String, String>),
    Serve(String, PathBuf, HashMap<String, String>),
}

/// Runs the command with the arguments behind `jmx`; telemetry is set up by the caller.
pub fn execute(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let request = match parse(arguments) {
        Ok(request) => request,
        Err(reason) => return refuse(&reason),
    };
    match request {
        Request::Help => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Request::Check(path, properties) => match Config::load_with(&path, properties) {
            Ok(_) => {
                println!("{}: good", path.display());
                ExitCode::SUCCESS
            }
            Err(error) => refuse(&error.to_string()),
        },
        Request::Serve(listen, path, properties) => match Config::load_with(&path, properties) {
            Ok(config) => runtime::run(Options::default(), async move |shutdown| run(config, &listen, shutdown).await),
            Err(error) => refuse(&error.to_string()),
        },
    }
}

fn refuse(reason: &str) -> ExitCode {
    eprintln!("metrics-adapter jmx: error: {reason}\nTry `metrics-adapter jmx --help`.");
    ExitCode::from(USAGE)
}

fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Request, String> {
    let mut properties = HashMap::new();
    let mut words = Vec::new();
    let mut check = false;
    for argument in arguments {
        if let Some(property) = argument.strip_prefix("-D") {
            let (key, value) = property.split_once('=').unwrap_or((property, ""));
            properties.insert(key.to_owned(), value.to_owned());
        } else if argument == "-h" || argument == "--help" {
            return Ok(Request::Help);
        } else if argument == "--check-config" {
            check = true;
        } else if argument.starts_with('-') {
            let hint = common::config::nearest(argument.trim_start_matches('-'), ["check-config", "help"]);
            let hint = hint.map(|name| format!(", did you mean `--{name}`?")).unwrap_or_default();
            return Err(format!("unknown flag `{argument}`{hint}"));
        } else {
            words.push(argument);
        }
    }
    match (check, words.as_slice()) {
        (true, [path]) => Ok(Request::Check(path.into(), properties)),
        (true, [_, path]) => Ok(Request::Check(path.into(), properties)),
        (false, [listen, path]) => Ok(Request::Serve(listen_address(listen), path.into(), properties)),
        (false, [_]) => Err("the address to listen on is missing (`[host:]port config.yaml`); \
                             pushing to OpenTelemetry without it is not supported"
            .to_owned()),
        _ => Err("two arguments are needed: `[host:]port config.yaml`".to_owned()),
    }
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
        for (text, expected) in
            [("9404", "0.0.0.0:9404"), ("127.0.0.1:1", "127.0.0.1:1"), ("::1:5", "[::1]:5"), ("[::1]:5", "[::1]:5")]
        {
            assert_eq!(listen_address(text), expected);
        }
    }

    #[test]
    fn words_and_flags() {
        let parse = |words: &[&str]| super::parse(words.iter().map(|word| (*word).to_owned()));
        let Ok(Request::Serve(listen, _, properties)) = parse(&["-Da.b=c=d", "1", "x.yaml"]) else { panic!() };
        assert_eq!((listen.as_str(), properties["a.b"].as_str()), ("0.0.0.0:1", "c=d"));
        for words in [&[][..], &["1"], &["1", "2", "3"], &["--check-confg", "x"]] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}

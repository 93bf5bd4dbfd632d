//! The only logging set-up: human text on a terminal, JSON otherwise, to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::config::FromSetting;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line for people.
    Human,
    /// One JSON object a line.
    Json,
}

impl FromSetting for LogFormat {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" | "text" | "logfmt" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is no log format (auto, human, json)")),
        }
    }
}

/// Least severe level that is written, or a filter such as `info,hyper=warn`.
#[derive(Debug, Clone)]
pub struct LogLevel(String);

impl Default for LogLevel {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromSetting for LogLevel {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text.parse::<Targets>() {
            Ok(_) if !text.is_empty() => Ok(Self(text.to_owned())),
            _ => Err(format!("`{text}` is no log level (error, warn, info, debug, trace)")),
        }
    }
}

/// Starts logging for the whole process. A second call changes nothing.
pub fn start(format: LogFormat, level: &LogLevel) {
    start_with(format, level, io::stderr);
}

fn start_with<W>(format: LogFormat, level: &LogLevel, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let terminal = io::stderr().is_terminal();
    let filter: Targets = level.0.parse().unwrap_or_default();
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false);
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match json {
        true => layer.json().flatten_event(true).with_span_list(false).boxed(),
        false => layer.with_ansi(terminal).boxed(),
    };
    // `try_init` only fails when somebody (an embedder, a test) has set a subscriber already.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

//! The only logging set-up: human text on a terminal, JSON otherwise, to standard error.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::Build;
use crate::config::FromSetting;
use crate::trace::{self, TraceSettings};

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
        // A word by itself could also name a module, but is rather a misspelt level, which would silence everything.
        let mut words = text.split(',').filter(|part| !part.contains('='));
        let levels = words.all(|word| word.trim().parse::<LevelFilter>().is_ok());
        match text.parse::<Targets>() {
            Ok(_) if !text.is_empty() && levels => Ok(Self(text.to_owned())),
            _ => Err(format!("`{text}` is no log level (error, warn, info, debug, trace)")),
        }
    }
}

/// The keys of JSON lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JsonKeys {
    /// `timestamp`, `level` in words, `message`, then the fields.
    #[default]
    Plain,
    /// `logger`, `ts`, `caller` with file and line, `level` as a number (not on errors), `msg`, then the
    /// fields: what programs that were written with Go's logr and its `funcr` write.
    Logr,
}

/// Starts logging for the whole process. A second call changes nothing.
pub fn start(format: LogFormat, level: &LogLevel) {
    start_as(format, level, JsonKeys::Plain);
}

/// As [`start`], with a choice of what JSON lines look like.
pub fn start_as(format: LogFormat, level: &LogLevel, keys: JsonKeys) {
    start_with(format, level, keys, io::stderr);
}

/// Sends traces if the environment says where to (`OTEL_EXPORTER_OTLP_ENDPOINT` and its relatives; see [`trace`]). Such
/// variables are often set by others, for all containers of a cluster, so one that can't be used is told and ignored.
pub fn start_traces(build: &Build) {
    let settings =
        TraceSettings::from_environment(build.name, build.version, |name| std::env::var(name).ok());
    let outcome = match settings {
        Ok(None) => return,
        Ok(Some(settings)) => {
            let collector = settings.address().to_owned();
            trace::start(settings).map(|()| collector).map_err(|error| error.to_string())
        }
        Err(refused) => Err(refused.to_string()),
    };
    match outcome {
        Ok(collector) => tracing::info!(collector, "traces are sent"),
        Err(error) => tracing::warn!(error, "no traces are sent"),
    }
}

fn start_with<W>(format: LogFormat, level: &LogLevel, keys: JsonKeys, writer: W)
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
        true if keys == JsonKeys::Logr => layer.event_format(Logr).boxed(),
        true => layer.json().flatten_event(true).with_span_list(false).boxed(),
        false => layer.with_ansi(terminal).boxed(),
    };
    // `try_init` only fails when somebody (an embedder, a test) has set a subscriber already.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

/// See [`JsonKeys::Logr`].
struct Logr;

impl<N> FormatEvent<Registry, N> for Logr
where
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, Registry, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let file = meta.file().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let mut line = String::from("{\"logger\":\"\",\"ts\":\"");
        let _ = write!(line, "{}\",\"caller\":{{\"file\":", Stamp(SystemTime::now()));
        quote(&mut line, file);
        let _ = write!(line, ",\"line\":{}}}", meta.line().unwrap_or(0));
        // Errors have no level there, and warnings don't exist: they are told apart by a key of their own.
        match *meta.level() {
            Level::ERROR => {}
            Level::WARN => line.push_str(",\"level\":0,\"severity\":\"warning\""),
            Level::INFO => line.push_str(",\"level\":0"),
            Level::DEBUG => line.push_str(",\"level\":5"),
            Level::TRACE => line.push_str(",\"level\":9"),
        }
        let mut fields = Fields { message: String::new(), others: String::new() };
        event.record(&mut fields);
        line.push_str(",\"msg\":");
        quote(&mut line, &fields.message);
        writeln!(out, "{line}{}}}", fields.others)
    }
}

struct Fields {
    message: String,
    others: String,
}

impl Fields {
    fn key(&mut self, field: &Field) -> &mut String {
        self.others.push(',');
        quote(&mut self.others, field.name());
        self.others.push(':');
        &mut self.others
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => quote(self.key(field), &format!("{value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            _ => quote(self.key(field), value),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let _ = write!(self.key(field), "{value}");
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        let _ = write!(self.key(field), "{value}");
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        let _ = write!(self.key(field), "{value}");
    }
}

/// Appends a JSON string.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// `2006-01-02 15:04:05.000000`, in UTC: images without a time zone database know no other.
struct Stamp(SystemTime);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // Years are counted from March here, so that the leap day is the last one of a year.
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let (day, from_march) = (day - (153 * month + 2) / 5 + 1, month < 10);
        let (month, year) = match from_march {
            true => (month + 3, era * 400 + year),
            false => (month - 9, era * 400 + year + 1),
        };
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let micros = since.subsec_micros();
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_have_their_dates() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00.000000"),
            (951_782_399, "2000-02-28 23:59:59.000000"),
            (951_782_400, "2000-02-29 00:00:00.000000"),
            (951_868_800, "2000-03-01 00:00:00.000000"),
            (1_704_067_199, "2023-12-31 23:59:59.000000"),
            (4_107_542_400, "2100-03-01 00:00:00.000000"),
        ] {
            assert_eq!(Stamp(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(), date);
        }
    }

    #[test]
    fn levels_and_filters() {
        for good in ["info", "WARN", "off", "info,hyper=warn", "hyper=warn"] {
            assert!(LogLevel::from_setting(good).is_ok(), "{good}");
        }
        for bad in ["", "inof", "info,hyper", "hyper=loud"] {
            assert!(LogLevel::from_setting(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn strings_are_json() {
        let mut out = String::new();
        quote(&mut out, "a\"b\\c\n\t\u{7f}ö");
        assert_eq!(out, "\"a\\\"b\\\\c\\n\\u0009\u{7f}ö\"");
    }
}

//! The key `openTelemetry`: the page is pushed to a collector as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::JmxSource;
use super::settings::{Environment, interpolate};
use crate::family::{Families, Family, Kind};
use crate::push::{Protocol, Target};
use crate::rule::config::{Text, flag};
use crate::source::{CollectError, Collecting, Source};

/// As the library of the peer has it.
const INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
/// JVMs are read for every push.
const SHORTEST: Duration = Duration::from_secs(1);
const ENDPOINT: &str = "http://localhost:4318";
const PATH: &str = "/v1/metrics";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct OpenTelemetryFile {
    endpoint: Option<Text>,
    protocol: Option<Text>,
    /// Seconds.
    interval: Option<u64>,
    timeout_seconds: Option<u64>,
    #[serde(deserialize_with = "flag")]
    preserve_names: bool,
    headers: BTreeMap<String, Text>,
    resource_attributes: BTreeMap<String, Text>,
    service_instance_id: Option<Text>,
    service_namespace: Option<Text>,
    service_name: Option<Text>,
    service_version: Option<Text>,
}

/// Where to push, and how the names look there.
#[derive(Clone, Debug)]
pub(super) struct OpenTelemetry {
    pub(super) target: Target,
    /// Counters keep `_total`.
    pub(super) preserve_names: bool,
}

impl OpenTelemetry {
    /// What the file leaves open is taken from the variables `OTEL_*`.
    pub(super) fn new(file: &OpenTelemetryFile, environment: Environment<'_>) -> Result<Self, String> {
        let fail = |key: &str, why: String| format!("`openTelemetry.{key}`: {why}");
        let given = |key: &str, text: &Option<Text>, names: &[&str]| match text {
            Some(text) => interpolate(text, environment).map(Some).map_err(|why| fail(key, why)),
            None => Ok(names.iter().find_map(|name| environment(name)).filter(|text| !text.is_empty())),
        };
        let protocol = ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        match given("protocol", &file.protocol, &protocol)?.as_deref().unwrap_or("grpc").trim() {
            "http/protobuf" => {}
            "grpc" => {
                let why = "`grpc`, which is also the default, is not spoken here; set `http/protobuf` and the \
                           collector's HTTP endpoint (usually port 4318)";
                return Err(fail("protocol", why.to_owned()));
            }
            other => return Err(fail("protocol", format!("`{other}` is unknown; set `http/protobuf`"))),
        }
        let whole = given("endpoint", &None, &["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"])?;
        let base = given("endpoint", &file.endpoint, &["OTEL_EXPORTER_OTLP_ENDPOINT"])?;
        let url = match (&file.endpoint, whole, base) {
            (None, Some(whole), _) => whole,
            (_, _, base) => with_path(base.as_deref().unwrap_or(ENDPOINT)),
        };
        let mut target = Target::new(Protocol::Otlp, url);
        let seconds = |key, seconds: Option<u64>, names: &[&str], otherwise| match seconds {
            Some(0) => Err(fail(key, "it must be at least 1 (seconds)".to_owned())),
            Some(seconds) => Ok(Duration::from_secs(seconds)),
            None => match given(key, &None, names)? {
                Some(text) => duration(&text)
                    .map(|time| time.max(SHORTEST))
                    .ok_or_else(|| fail(key, format!("`{text}` of {} is no time", names.join(" or ")))),
                None => Ok(otherwise),
            },
        };
        target.interval = seconds("interval", file.interval, &["OTEL_METRIC_EXPORT_INTERVAL"], INTERVAL)?;
        let names = ["OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        target.timeout = seconds("timeoutSeconds", file.timeout_seconds, &names, TIMEOUT)?;
        target.headers = headers(file, environment).map_err(|why| fail("headers", why))?;
        target.labels = resource(file, environment).map_err(|why| fail("resourceAttributes", why))?;
        Ok(Self { target, preserve_names: file.preserve_names })
    }
}

/// The peer's documentation has endpoints with the path of the metrics and without.
fn with_path(endpoint: &str) -> String {
    let endpoint = endpoint.trim().trim_end_matches('/');
    if endpoint.ends_with(PATH) { endpoint.to_owned() } else { format!("{endpoint}{PATH}") }
}

/// A time as OpenTelemetry's variables have it: in milliseconds, or with a unit behind.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let milliseconds = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(milliseconds).map(Duration::from_millis)
}

/// `name=value` pairs with commas between them, percent-encoded, as OpenTelemetry's variables have them.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), super::http::percent_decode(value.trim())))
}

fn headers(
    file: &OpenTelemetryFile,
    environment: Environment<'_>,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut all = BTreeMap::new();
    for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS"] {
        all.extend(pairs(&environment(name).unwrap_or_default()));
    }
    for (name, value) in &file.headers {
        all.insert(name.clone(), interpolate(value, environment)?);
    }
    let header = |(name, value): (String, String)| {
        let key: HeaderName = name.parse().map_err(|_| format!("`{name}` is no name of a header"))?;
        let value = HeaderValue::from_str(&value);
        let mut value = value.map_err(|_| format!("`{name}` holds characters that no header may have"))?;
        // They mostly carry keys.
        value.set_sensitive(true);
        Ok((key, value))
    };
    all.into_iter().map(header).collect()
}

fn resource(file: &OpenTelemetryFile, environment: Environment<'_>) -> Result<Vec<(String, String)>, String> {
    let mut all: BTreeMap<String, String> =
        pairs(&environment("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default()).collect();
    if let Some(name) = environment("OTEL_SERVICE_NAME").filter(|name| !name.is_empty()) {
        all.insert("service.name".to_owned(), name);
    }
    let services = [
        ("service.name", &file.service_name),
        ("service.namespace", &file.service_namespace),
        ("service.instance.id", &file.service_instance_id),
        ("service.version", &file.service_version),
    ];
    let services = services.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let attributes = file.resource_attributes.iter().map(|(name, value)| (name.as_str(), value));
    for (name, value) in attributes.chain(services) {
        all.insert(name.to_owned(), interpolate(value, environment)?);
    }
    Ok(all.into_iter().collect())
}

/// The source with the names that receivers of OpenTelemetry expect: the suffix of counters is theirs to add.
pub(super) struct Pushed {
    pub(super) source: Arc<JmxSource>,
    pub(super) preserve_names: bool,
}

impl Source for Pushed {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn collect(&self, deadline: Instant) -> Collecting<'_> {
        Box::pin(async move {
            let families = self.source.families(deadline).await;
            let mut families = families
                .map_err(|error| CollectError { source_name: "jmx".to_owned(), cause: Box::new(error) })?;
            if !self.preserve_names {
                families.iter_mut().for_each(strip);
            }
            let walk: Box<dyn crate::family::Walk> = Box::new(Families::sorted(families));
            Ok(walk)
        })
    }
}

fn strip(family: &mut Family) {
    if family.kind == Kind::Counter
        && let Some(bare) = family.name.strip_suffix("_total").filter(|bare| !bare.is_empty())
    {
        family.name = bare.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str, variables: &[(&str, &str)]) -> Result<OpenTelemetry, String> {
        let file = crate::yaml::from_str::<OpenTelemetryFile>(yaml, crate::yaml::Options::default()).unwrap();
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        OpenTelemetry::new(&file, &find)
    }

    #[test]
    fn what_the_file_says() {
        let yaml = "endpoint: http://c:4318/\nprotocol: http/protobuf\ninterval: 5\ntimeoutSeconds: 3\n\
                    headers: {x-key: \"${KEY}\"}\nserviceName: app\nresourceAttributes: {a.b: 1}\n";
        let found = read(yaml, &[("KEY", "secret"), ("OTEL_SERVICE_NAME", "other")]).unwrap();
        let target = found.target;
        assert_eq!(target.url, "http://c:4318/v1/metrics");
        assert_eq!((target.interval, target.timeout), (Duration::from_secs(5), Duration::from_secs(3)));
        let labels = [("a.b", "1"), ("service.name", "app")];
        assert_eq!(target.labels, labels.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(target.headers[0].1.is_sensitive() && target.headers[0].1 == "secret");
    }

    #[test]
    fn what_variables_say() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1/x"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%20c,d=e+f"),
        ];
        let target = read("preserveNames: true", &variables).unwrap().target;
        assert_eq!(target.url, "http://c:1/x/v1/metrics");
        let headers: Vec<&str> = target.headers.iter().filter_map(|(_, value)| value.to_str().ok()).collect();
        assert_eq!(headers, ["b c", "e+f"]);
        let whole = [variables[0], ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m/here")];
        let target = read("{}", &whole).unwrap().target;
        assert_eq!(target.url, "http://m/here");
        assert_eq!((target.interval, target.timeout), (INTERVAL, TIMEOUT));
        for (interval, timeout, seconds) in [("2500", "1500ms", (2.5, 1.5)), ("1", "2m", (1.0, 120.0))] {
            let times = [("OTEL_METRIC_EXPORT_INTERVAL", interval), ("OTEL_EXPORTER_OTLP_TIMEOUT", timeout)];
            let target = read("{}", &[&times[..], &whole].concat()).unwrap().target;
            assert_eq!((target.interval.as_secs_f64(), target.timeout.as_secs_f64()), seconds);
            let target =
                read("interval: 7\ntimeoutSeconds: 8", &[&times[..], &whole].concat()).unwrap().target;
            assert_eq!((target.interval.as_secs(), target.timeout.as_secs()), (7, 8));
        }
        let error = read("{}", &[whole[0], ("OTEL_METRIC_EXPORT_INTERVAL", "soon")]).unwrap_err();
        assert!(error.contains("`soon` of OTEL_METRIC_EXPORT_INTERVAL"), "{error}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (yaml, words) in [
            ("endpoint: http://c:4317", "http/protobuf"),
            ("protocol: grpc", "http/protobuf"),
            ("protocol: smoke", "smoke"),
            ("protocol: http/protobuf\ninterval: 0", "openTelemetry.interval"),
            ("protocol: http/protobuf\nheaders: {\"a b\": c}", "a b"),
        ] {
            let error = read(yaml, &[]).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn counters_lose_their_suffix() {
        let mut family = Family::new("a_total", "", Kind::Counter);
        strip(&mut family);
        assert_eq!(family.name, "a");
        let mut family = Family::new("a_total", "", Kind::Gauge);
        strip(&mut family);
        assert_eq!(family.name, "a_total");
    }
}

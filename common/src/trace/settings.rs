//! Where traces go: the variables that every program with OpenTelemetry knows (opentelemetry.io, "OTLP Exporter
//! Configuration", "General SDK Configuration"). Pure: the environment is a function.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// What the specification says when nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(10);
const PATH: &str = "/v1/traces";

/// Where and how spans are sent. Its debug form shows no header, since these carry tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceSettings {
    /// `host:port`.
    pub(super) address: String,
    /// What the request asks for, with query.
    pub(super) path: String,
    /// Further headers, such as a token.
    pub(super) headers: Vec<(String, String)>,
    /// For one request.
    pub(super) timeout: Duration,
    /// `service.name` and what else describes this process.
    pub(super) resource: Vec<(String, String)>,
}

impl fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceSettings").field("address", &self.address).field("path", &self.path).finish()
    }
}

/// Why nothing is traced although somebody asked for it.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{variable}: {reason}")]
pub struct Refused {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong with it; never its value, which may hold a token.
    pub reason: &'static str,
}

impl TraceSettings {
    /// Reads the variables; `None` when nobody asked for traces.
    ///
    /// # Errors
    /// A value that can't be used.
    pub fn from_environment(
        name: &str,
        version: &str,
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Option<Self>, Refused> {
        let variable = |name| variable(name).filter(|value| !value.trim().is_empty());
        let is =
            |name, word: &str| variable(name).is_some_and(|value| value.trim().eq_ignore_ascii_case(word));
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let (own, shared) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
        let (source, url, suffix) = match (variable(own), variable(shared)) {
            (Some(url), _) => (own, url, ""),
            (None, Some(url)) => (shared, url, PATH),
            (None, None) => return Ok(None),
        };
        for protocol in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            if is(protocol, "grpc") {
                let reason = "traces are sent over HTTP only: http/json, and port 4318 of most collectors";
                return Err(Refused { variable: protocol, reason });
            }
        }
        let (address, path) =
            target(url.trim(), suffix).map_err(|reason| Refused { variable: source, reason })?;
        let first = |own, shared| {
            variable(own).map(|text| (own, text)).or(variable(shared).map(|text| (shared, text)))
        };
        let headers = first("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS");
        let timeout = first("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT");
        let mut resource = match variable("OTEL_RESOURCE_ATTRIBUTES") {
            Some(text) => pairs("OTEL_RESOURCE_ATTRIBUTES", &text)?,
            None => Vec::new(),
        };
        let given = |resource: &[(String, String)], key| resource.iter().any(|(known, _)| known == key);
        if let Some(service) = variable("OTEL_SERVICE_NAME") {
            resource.retain(|(key, _)| key != "service.name");
            resource.push(("service.name".to_owned(), service));
        }
        for (key, value) in [("service.name", name), ("service.version", version)] {
            if !given(&resource, key) {
                resource.push((key.to_owned(), value.to_owned()));
            }
        }
        let timeout = match timeout {
            Some((variable, text)) => milliseconds(variable, &text)?,
            None => TIMEOUT,
        };
        let headers = match headers {
            Some((variable, text)) => checked(variable, pairs(variable, &text)?)?,
            None => Vec::new(),
        };
        Ok(Some(Self { address, path, headers, timeout, resource }))
    }

    /// `host:port`, for messages.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Address and path of a URL.
fn target(url: &str, suffix: &str) -> Result<(String, String), &'static str> {
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => {
            return Err(
                "traces are sent over http only; let a collector on this machine or in this Pod take them, and send them on over TLS",
            );
        }
        _ => return Err("this is no http:// address"),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("an address with a user; use OTEL_EXPORTER_OTLP_HEADERS");
    }
    if authority.is_empty() || url.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'#') {
        return Err("this is no http:// address");
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(host, port)| {
        !port.is_empty() && port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    let address = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let path = format!("{}{suffix}", path.trim_end_matches('/'));
    Ok((address, if path.starts_with('/') { path } else { format!("/{path}") }))
}

/// `key=value,key=value`, values with `%`-escapes.
fn pairs(variable: &'static str, text: &str) -> Result<Vec<(String, String)>, Refused> {
    let refuse = Refused { variable, reason: "expected key=value,key=value" };
    let one = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let (key, value) = (key.trim(), unescape(value.trim())?);
        (!key.is_empty()).then(|| (key.to_owned(), value))
    };
    let written = text.split(',').filter(|pair| !pair.trim().is_empty());
    written.map(|pair| one(pair).ok_or_else(|| refuse.clone())).collect()
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.as_bytes().to_vec();
    for part in parts {
        out.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        out.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(out).ok()
}

/// Headers go into a request as they are, so nothing may end their line.
fn checked(variable: &'static str, headers: Vec<(String, String)>) -> Result<Vec<(String, String)>, Refused> {
    let is_token =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    match headers
        .iter()
        .all(|(name, value)| is_token(name) && !value.bytes().any(|byte| byte < b' ' || byte == 0x7f))
    {
        true => Ok(headers),
        false => Err(Refused { variable, reason: "these are no HTTP headers" }),
    }
}

fn milliseconds(variable: &'static str, text: &str) -> Result<Duration, Refused> {
    let number = text.trim().parse::<u64>().ok().filter(|number| (1..=600_000).contains(number));
    let refuse = Refused { variable, reason: "expected milliseconds, 1 to 600000" };
    number.map(Duration::from_millis).ok_or(refuse)
}

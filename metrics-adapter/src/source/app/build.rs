//! From a source as written to one that can be gathered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::client::TlsOptions;
use common::config::{ByteSize, FromSetting, nearest};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Uri};

use super::address::Address;
use super::config::{Options, Problem, span};
use super::http::{self, Fetch, Http, Login};
use super::module::{self, Reach, Server};
use super::raw::{At, Command, RawMetric, RawSource, Scalar};
use super::tail::{self, Tail, TailMetric};
use super::{Gather, GatherError, SourceOptions, exec, file, jmx, limits, statsd, tcp};
use crate::family::Kind;
use crate::family::normal::is_label;
use crate::reader::csv::{ColumnMetric, Csv};
use crate::reader::json_path::Path as JsonPath;
use crate::reader::key_value::{KeyMetric, KeyValue};
use crate::reader::metric::{JsonLabel, JsonMetric};
use crate::reader::pattern::{PatternMetric, compile};
use crate::reader::template::Template;
use crate::reader::{Metric, Reader, Reading};

const EVERY: &[&str] =
    &["name", "type", "labels", "interval", "timeout", "max_series", "relabel", "uniform_names"];
const HTTP: &[&str] = &[
    "url",
    "method",
    "headers",
    "body",
    "username",
    "password_file",
    "bearer_token_file",
    "ca_file",
    "cert_file",
    "key_file",
    "max_bytes",
];
const FORMAT: &[&str] = &["format", "metrics", "prefix", "separator", "delimiter", "columns"];

const JVM: &[&str] = &["config", "username", "password_file", "rule_set", "rules"];

/// Every type and the keys it has besides those of every source.
const KINDS: &[(&str, &[&[&str]])] = &[
    ("http_json", &[HTTP, &["metrics", "prefix"]]),
    ("http_text", &[HTTP, FORMAT]),
    ("prometheus", &[HTTP]),
    ("tcp_text", &[&["address", "command", "until", "max_bytes"], FORMAT]),
    ("file", &[&["path", "max_age", "max_bytes"], FORMAT]),
    ("tail", &[&["path", "position_file", "from_start", "metrics"]]),
    ("exec", &[&["command", "environment", "max_bytes"], FORMAT]),
    ("statsd", &[&["settings"]]),
    ("jmx", &[&["address"], JVM]),
    ("jolokia", &[&["url"], JVM]),
    ("nginx", &[HTTP]),
    ("apache", &[HTTP]),
    ("haproxy", &[HTTP, &["address"]]),
    ("php_fpm", &[HTTP, &["address", "path"]]),
    ("memcached", &[&["address", "max_bytes"]]),
    ("redis", &[&["address", "username", "password_file", "max_bytes"]]),
    ("zookeeper", &[&["address", "max_bytes"]]),
    ("rabbitmq", &[HTTP]),
];

type Built = Result<Arc<dyn Gather>, Problem>;

/// Reads a document, on a thread of its own when it is large.
pub(super) async fn parse(reader: &Reader, bytes: Vec<u8>, limit: usize) -> Result<Reading, GatherError> {
    if bytes.len() <= limits::BLOCKING {
        return Ok(reader.read(&bytes, limit)?);
    }
    let reader = reader.clone();
    let reading = tokio::task::spawn_blocking(move || reader.read(&bytes, limit)).await;
    Ok(reading.map_err(|error| GatherError(error.to_string()))??)
}

struct Maker<'a> {
    raw: &'a RawSource,
    options: &'a SourceOptions,
    base: &'a Path,
}

/// Makes the source.
pub(super) fn build(raw: &RawSource, options: &SourceOptions, base: &Path, context: &Options) -> Built {
    let Some(kind) = &raw.kind else {
        return Err(Problem { line: None, reason: "type: it has none".into() });
    };
    let word = kind.value.0.as_str();
    let Some((_, keys)) = KINDS.iter().find(|(known, _)| *known == word) else {
        let known = KINDS.iter().map(|(known, _)| *known);
        let hint = match nearest(word, known.clone()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("it is one of {}", known.collect::<Vec<_>>().join(", ")),
        };
        return Err(Problem::at(kind.line, format!("type: `{word}` is not known; {hint}")));
    };
    let allowed = |key: &str| EVERY.contains(&key) || keys.iter().any(|group| group.contains(&key));
    if let Some((key, line)) = raw.present().into_iter().find(|(key, _)| !allowed(key)) {
        return Err(Problem::at(line, format!("{key}: a source of type {word} has no such key")));
    }
    let maker = Maker { raw, options, base };
    let limit = maker.limit()?;
    let max_series = options.max_series;
    match word {
        "http_json" => {
            let reader = maker.reader("json")?;
            Ok(Arc::new(Http { fetch: maker.fetch(None)?, reader, max_series }))
        }
        "http_text" => Ok(Arc::new(Http { fetch: maker.fetch(None)?, reader: maker.format()?, max_series })),
        "prometheus" => {
            Ok(Arc::new(Http { fetch: maker.fetch(None)?, reader: Reader::Prometheus, max_series }))
        }
        "tcp_text" => maker.tcp(limit),
        "file" => maker.file(limit),
        "tail" => maker.tail(),
        "exec" => maker.exec(limit, context),
        "statsd" => maker.statsd(),
        "jmx" | "jolokia" => maker.jmx(),
        _ => maker.server(limit),
    }
}

impl Maker<'_> {
    fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = &self.raw.max_bytes else { return Ok(limits::BYTES) };
        let fail = |reason: String| Problem::at(text.line, format!("max_bytes: {reason}"));
        let size = ByteSize::from_setting(&text.value).map_err(fail)?.0;
        match usize::try_from(size) {
            Ok(size) if (1..=limits::MOST_BYTES).contains(&size) => Ok(size),
            _ => Err(fail(format!("`{}` is not between 1 byte and 256 MiB", text.value.0))),
        }
    }

    fn path(&self, text: &Scalar) -> PathBuf {
        self.base.join(&text.value.0)
    }

    fn required<'t, T>(&self, key: &str, value: &'t Option<At<T>>) -> Result<&'t At<T>, Problem> {
        value.as_ref().ok_or_else(|| Problem { line: None, reason: format!("{key}: it is missing") })
    }

    fn uri(&self, default: Option<&str>) -> Result<Uri, Problem> {
        match (&self.raw.url, default) {
            (Some(url), _) => {
                http::address(&url.value.0).map_err(|reason| Problem::at(url.line, format!("url: {reason}")))
            }
            (None, Some(url)) => http::address(url).map_err(|reason| Problem { line: None, reason }),
            (None, None) => Err(Problem { line: None, reason: "url: it is missing".to_owned() }),
        }
    }

    fn login(&self) -> Result<Login, Problem> {
        let raw = self.raw;
        match (&raw.username, &raw.password_file, &raw.bearer_token_file) {
            (None, None, None) => Ok(Login::None),
            (Some(user), Some(file), None) => Ok(Login::Basic(user.value.0.clone(), self.path(file))),
            (None, None, Some(file)) => Ok(Login::Bearer(self.path(file))),
            (Some(text), None, _) => Err(Problem::at(text.line, "username: it needs a password_file")),
            (None, Some(text), _) => Err(Problem::at(text.line, "password_file: it needs a username")),
            (Some(_), Some(_), Some(text)) => {
                Err(Problem::at(text.line, "bearer_token_file: either this or username and password_file"))
            }
        }
    }

    fn fetch(&self, default: Option<&str>) -> Result<Fetch, Problem> {
        let raw = self.raw;
        let uri = self.uri(default)?;
        let line = raw.url.as_ref().map_or(0, |url| url.line);
        let identity = match (&raw.cert_file, &raw.key_file) {
            (Some(certificate), Some(key)) => Some((self.path(certificate), self.path(key))),
            (None, None) => None,
            (Some(text), None) => return Err(Problem::at(text.line, "cert_file: it needs a key_file")),
            (None, Some(text)) => return Err(Problem::at(text.line, "key_file: it needs a cert_file")),
        };
        let tls = TlsOptions {
            ca_file: raw.ca_file.as_ref().map(|file| self.path(file)),
            identity,
            ..TlsOptions::default()
        };
        if uri.scheme_str() == Some("http") && (tls.ca_file.is_some() || tls.identity.is_some()) {
            return Err(Problem::at(line, "url: certificates are given, but the address is not https"));
        }
        let client = http::client_for(&uri, &tls).map_err(|reason| Problem::at(line, reason))?;
        let mut fetch = Fetch::get(uri, client, self.limit()?);
        fetch.login = self.login()?;
        if let Some(body) = &raw.body {
            fetch.body = body.value.0.clone().into_bytes().into();
            fetch.method = Method::POST;
        }
        if let Some(method) = &raw.method {
            fetch.method = match method.value.0.to_ascii_uppercase().as_str() {
                "GET" => Method::GET,
                "POST" => Method::POST,
                other => {
                    return Err(Problem::at(
                        method.line,
                        format!("method: `{other}` is neither GET nor POST"),
                    ));
                }
            };
        }
        for (name, value) in raw.headers.as_ref().map(|headers| &headers.value).into_iter().flatten() {
            let fail = |what: &str| Problem::at(value.line, format!("headers: `{name}`: {what}"));
            let header: HeaderName = name.parse().map_err(|_| fail("no header name"))?;
            if header == hyper::header::AUTHORIZATION {
                return Err(fail("secrets come from files: use password_file or bearer_token_file"));
            }
            let value = HeaderValue::from_str(&value.value).map_err(|_| fail("not allowed in a header"))?;
            fetch.headers.push((header, value));
        }
        Ok(fetch)
    }

    fn address(&self, default: Option<&str>, port: Option<u16>) -> Result<Address, Problem> {
        match (&self.raw.address, default) {
            (Some(text), _) => Address::parse(&text.value, port)
                .map_err(|reason| Problem::at(text.line, format!("address: {reason}"))),
            (None, Some(text)) => Address::parse(text, port).map_err(|reason| Problem { line: None, reason }),
            (None, None) => Err(Problem { line: None, reason: "address: it is missing".to_owned() }),
        }
    }

    fn tcp(&self, limit: usize) -> Built {
        let command = match self.raw.command.as_ref().map(|command| (&command.value, command.line)) {
            None => Vec::new(),
            Some((Command::Text(text), _)) => text.0.clone().into_bytes(),
            Some((Command::Words(_), line)) => {
                return Err(Problem::at(line, "command: one text is sent, not a list"));
            }
        };
        Ok(Arc::new(tcp::Tcp {
            address: self.address(None, None)?,
            command,
            until: self.raw.until.as_ref().map(|until| until.value.0.clone().into_bytes()),
            limit,
            reader: self.format()?,
            max_series: self.options.max_series,
        }))
    }

    fn format_of_path(&self) -> &'static str {
        let path = self.raw.path.as_ref().map_or("", |path| &path.value.0);
        match Path::new(path).extension().and_then(|end| end.to_str()) {
            Some("prom") => "prometheus",
            Some("json") => "json",
            Some("csv") => "csv",
            _ => "",
        }
    }

    fn file(&self, limit: usize) -> Built {
        let path = self.required("path", &self.raw.path)?;
        let reader = match (&self.raw.format, self.format_of_path()) {
            (Some(_), _) | (None, "") => self.format()?,
            (None, format) => self.reader(format)?,
        };
        Ok(Arc::new(file::Files {
            path: self.path(path),
            max_age: self.raw.max_age.as_ref().map(|text| span("max_age", text)).transpose()?,
            limit,
            reader,
            max_series: self.options.max_series,
        }))
    }

    fn tail(&self) -> Built {
        let path = self.path(self.required("path", &self.raw.path)?);
        let metrics = self.required("metrics", &self.raw.metrics)?;
        let metrics = metrics.value.iter().map(|raw| {
            let pattern = self.pattern(raw, true)?;
            let buckets = match (pattern.metric.kind, &raw.value.buckets) {
                (Kind::Histogram, Some(buckets)) => {
                    if !buckets.value.is_sorted_by(|a, b| a < b) || buckets.value.len() > 1000 {
                        return Err(Problem::at(
                            buckets.line,
                            "buckets: they must ascend, and be 1000 at most",
                        ));
                    }
                    buckets.value.iter().copied().filter(|bound| bound.is_finite()).collect()
                }
                (Kind::Histogram, None) => common::metrics::LATENCY_SECONDS.to_vec(),
                (_, Some(buckets)) => {
                    return Err(Problem::at(buckets.line, "buckets: the type is not histogram"));
                }
                (_, None) => Vec::new(),
            };
            Ok(TailMetric { pattern, buckets })
        });
        let settings = tail::Settings {
            path,
            position_file: self.raw.position_file.as_ref().map(|file| self.path(file)),
            from_start: self.raw.from_start.as_ref().is_some_and(|from| from.value),
            metrics: metrics.collect::<Result<_, _>>()?,
            max_series: self.options.max_series,
        };
        Ok(Arc::new(Tail::new(settings)))
    }

    fn exec(&self, limit: usize, context: &Options) -> Built {
        let command = self.required("command", &self.raw.command)?;
        let Command::Words(words) = &command.value else {
            let reason = "command: a list of program and arguments is needed; there is no shell";
            return Err(Problem::at(command.line, reason));
        };
        if words.first().is_none_or(|word| word.is_empty()) {
            return Err(Problem::at(command.line, "command: it is empty"));
        }
        if !context.allow_exec {
            let reason = "type: exec runs a program, which has to be allowed with the flag --allow-exec";
            return Err(Problem::at(self.raw.kind.as_ref().map_or(0, |kind| kind.line), reason));
        }
        let environment = self.raw.environment.as_ref().map(|all| &all.value).into_iter().flatten();
        Ok(Arc::new(exec::Exec {
            words: words.iter().map(|word| word.0.clone()).collect(),
            environment: environment.map(|(name, value)| (name.clone(), value.value.0.clone())).collect(),
            directory: self.base.to_owned(),
            limit,
            reader: self.format()?,
            max_series: self.options.max_series,
        }))
    }

    fn statsd(&self) -> Built {
        let empty = BTreeMap::new();
        let settings = self.raw.settings.as_ref().map_or(&empty, |settings| &settings.value);
        Ok(Arc::new(statsd::StatsdGather::new(settings, self.base)?))
    }

    fn jmx(&self) -> Built {
        jmx::build(self.raw, self.base).map(|gather| Arc::new(gather) as Arc<dyn Gather>)
    }

    fn server(&self, limit: usize) -> Built {
        let word = self.raw.kind.as_ref().map_or("", |kind| kind.value.0.as_str());
        let module = module::NAMES.into_iter().find(|known| *known == word).unwrap_or_default();
        let default = module::default_address(module);
        let by_http = self.raw.url.is_some() || default.starts_with("http");
        if let (Some(_), Some(address)) = (&self.raw.url, &self.raw.address) {
            return Err(Problem::at(address.line, "address: either this or url"));
        }
        let mut login = None;
        let reach = if by_http {
            let mut fetch = self.fetch(Some(default))?;
            if module == "apache" && fetch.uri.query().is_none() {
                fetch.uri = format!("{}?auto", fetch.uri).parse().unwrap_or(fetch.uri);
            }
            if module == "php_fpm" && fetch.uri.query().is_none() {
                fetch.uri = format!("{}?json&full", fetch.uri).parse().unwrap_or(fetch.uri);
            }
            Reach::Http(Box::new(fetch))
        } else {
            let address = self.address(Some(default), module::default_port(module))?;
            if module == "php_fpm" {
                let path = self.raw.path.as_ref().map_or("/status", |path| &path.value.0);
                Reach::FastCgi(address, path.to_owned())
            } else {
                if let Some(file) = &self.raw.password_file {
                    let user = self.raw.username.as_ref().map_or("", |user| &user.value.0);
                    login = Some((user.to_owned(), self.path(file)));
                } else if let Some(user) = &self.raw.username {
                    return Err(Problem::at(user.line, "username: it needs a password_file"));
                }
                Reach::Stream(address)
            }
        };
        Ok(Arc::new(Server {
            module,
            reach,
            login,
            limit,
            max_series: self.options.max_series,
            known: module::Known::default(),
        }))
    }

    /// The reader of the key `format`.
    fn format(&self) -> Result<Reader, Problem> {
        let format = self.required("format", &self.raw.format)?;
        let known = ["json", "regex", "key_value", "csv", "prometheus"];
        if !known.contains(&&*format.value.0) {
            let reason = format!("format: `{}` is none of {}", format.value.0, known.join(", "));
            return Err(Problem::at(format.line, reason));
        }
        self.reader(&format.value.0)
    }

    fn reader(&self, format: &str) -> Result<Reader, Problem> {
        let raw = self.raw;
        let only = |key: &str, given: Option<u64>, formats: &[&str]| match given {
            Some(line) if !formats.contains(&format) => {
                Err(Problem::at(line, format!("{key}: the format {format} has no such key")))
            }
            _ => Ok(()),
        };
        only("prefix", raw.prefix.as_ref().map(|at| at.line), &["json", "key_value"])?;
        only("separator", raw.separator.as_ref().map(|at| at.line), &["key_value"])?;
        only("delimiter", raw.delimiter.as_ref().map(|at| at.line), &["csv"])?;
        only("columns", raw.columns.as_ref().map(|at| at.line), &["csv"])?;
        only("metrics", raw.metrics.as_ref().map(|at| at.line), &["json", "key_value", "csv", "regex"])?;
        let metrics = raw.metrics.as_ref().map(|metrics| metrics.value.as_slice()).unwrap_or_default();
        let prefix = raw.prefix.as_ref().map_or("", |prefix| &prefix.value.0).to_owned();
        if metrics.is_empty() && matches!(format, "regex" | "csv") {
            return Err(Problem { line: None, reason: format!("metrics: the format {format} needs some") });
        }
        if !prefix.is_empty() && !metrics.is_empty() {
            let line = raw.prefix.as_ref().map_or(0, |prefix| prefix.line);
            return Err(Problem::at(
                line,
                "prefix: only where there are no metrics, which have names of their own",
            ));
        }
        match format {
            "json" => {
                let metrics = metrics.iter().map(|raw| self.json(raw)).collect::<Result<_, _>>()?;
                Ok(Reader::Json { metrics, prefix })
            }
            "regex" => {
                let metrics = metrics.iter().map(|raw| self.pattern(raw, false));
                Ok(Reader::Pattern(metrics.collect::<Result<_, _>>()?))
            }
            "key_value" => {
                let metrics = metrics.iter().map(|raw| self.key(raw)).collect::<Result<_, _>>()?;
                let separator = raw.separator.as_ref().map(|separator| separator.value.0.clone());
                Ok(Reader::KeyValue(KeyValue {
                    separator: separator.filter(|text| !text.is_empty()),
                    metrics,
                    prefix,
                }))
            }
            "csv" => {
                let delimiter = match &raw.delimiter {
                    None => ',',
                    Some(text) => {
                        let mut characters = text.value.0.chars();
                        match (characters.next(), characters.next()) {
                            (Some(one), None) if one != '"' && one != '\n' => one,
                            _ => return Err(Problem::at(text.line, "delimiter: one character is needed")),
                        }
                    }
                };
                let columns = raw
                    .columns
                    .as_ref()
                    .map(|columns| columns.value.iter().map(|column| column.value.0.clone()).collect());
                let metrics = metrics.iter().map(|raw| self.column(raw)).collect::<Result<_, _>>()?;
                Ok(Reader::Csv(Csv { delimiter, columns, metrics }))
            }
            _ => Ok(Reader::Prometheus),
        }
    }

    /// What every entry of `metrics` has; `keys` are those of its format.
    fn metric(&self, at: &At<RawMetric>, keys: &[&str], histogram: bool) -> Result<Metric, Problem> {
        let raw = &at.value;
        let every = ["name", "help", "type", "scale", "map", "labels"];
        if let Some((key, line)) =
            raw.present().into_iter().find(|(key, _)| !every.contains(key) && !keys.contains(key))
        {
            return Err(Problem::at(line, format!("metrics: {key}: there is no such key in this format")));
        }
        let Some(name) = raw.name.as_ref().filter(|name| !name.value.0.is_empty()) else {
            return Err(Problem::at(at.line, "metrics: name: it is missing"));
        };
        let plain = name.value.0.replace(['$', '{', '}'], "_");
        if crate::family::normal::metric_name(&plain) != plain {
            let reason = format!("metrics: name: `{}` is no metric name", name.value.0);
            return Err(Problem::at(name.line, reason));
        }
        let kind = kind(raw, histogram)?;
        let words = raw.words.as_ref().map(|words| &words.value).into_iter().flatten();
        Ok(Metric {
            name: Template::new(&name.value.0),
            help: raw.help.as_ref().map_or("", |help| &help.value.0).to_owned(),
            kind,
            scale: raw.scale.as_ref().map_or(1.0, |scale| scale.value),
            words: words.map(|(word, value)| (word.clone(), *value)).collect(),
        })
    }

    fn labels<'t>(&self, raw: &'t RawMetric) -> Result<Vec<(&'t str, &'t Scalar)>, Problem> {
        let mut found = Vec::new();
        for (name, value) in raw.labels.as_ref().map(|labels| &labels.value).into_iter().flatten() {
            if !is_label(name) {
                return Err(Problem::at(value.line, format!("metrics: labels: `{name}` is no label name")));
            }
            found.push((name.as_str(), value));
        }
        Ok(found)
    }

    fn templates(&self, raw: &RawMetric) -> Result<Vec<(String, Template)>, Problem> {
        let labels = self.labels(raw)?;
        Ok(labels.into_iter().map(|(name, value)| (name.to_owned(), Template::new(&value.value.0))).collect())
    }

    fn json(&self, at: &At<RawMetric>) -> Result<JsonMetric, Problem> {
        let raw = &at.value;
        let metric = self.metric(at, &["path", "value", "values"], false)?;
        let json_path = |key: &str, text: &Scalar| {
            JsonPath::parse(&text.value)
                .map_err(|reason| Problem::at(text.line, format!("metrics: {key}: {reason}")))
        };
        let Some(text) = &raw.path else { return Err(Problem::at(at.line, "metrics: path: it is missing")) };
        let values = match (&raw.value, &raw.values) {
            (Some(_), Some(both)) => {
                return Err(Problem::at(both.line, "metrics: values: either this or value"));
            }
            (Some(value), None) => vec![(metric, json_path("value", value)?)],
            (None, None) => vec![(metric, JsonPath::here())],
            (None, Some(values)) => {
                let base = raw.name.as_ref().map_or("", |name| &name.value.0);
                let mut found = Vec::new();
                for (suffix, value) in &values.value {
                    let name = format!("{base}_{suffix}");
                    let named = RawMetric {
                        name: Some(At { value: name.as_str().into(), line: value.line }),
                        values: None,
                        ..raw.clone()
                    };
                    let metric = self.metric(&At { value: named, line: value.line }, &["path"], false)?;
                    found.push((metric, json_path("values", value)?));
                }
                found
            }
        };
        let mut labels = Vec::new();
        for (name, value) in self.labels(raw)? {
            let text = &value.value.0;
            let is_path = text.starts_with('@')
                || text.starts_with("$.")
                || text.starts_with("$[")
                || text.starts_with("{.");
            let label = match is_path {
                true => JsonLabel::Path(json_path("labels", value)?),
                false => JsonLabel::Text(Template::new(text)),
            };
            labels.push((name.to_owned(), label));
        }
        Ok(JsonMetric { path: json_path("path", text)?, text: text.value.0.clone(), values, labels })
    }

    fn pattern(&self, at: &At<RawMetric>, histogram: bool) -> Result<PatternMetric, Problem> {
        let raw = &at.value;
        let keys: &[&str] = if histogram { &["regex", "buckets"] } else { &["regex"] };
        let metric = self.metric(at, keys, histogram)?;
        let Some(text) = &raw.regex else {
            return Err(Problem::at(at.line, "metrics: regex: it is missing"));
        };
        let fail =
            |reason: String| Problem::at(text.line, format!("metrics: regex: `{}`: {reason}", text.value.0));
        let pattern = compile(&text.value).map_err(fail)?;
        let labels = self.templates(raw)?;
        let groups: Vec<&str> = pattern.capture_names().flatten().collect();
        let known = |name: &str| match name.parse::<usize>() {
            Ok(number) => number < pattern.captures_len(),
            Err(_) => groups.contains(&name),
        };
        let references =
            labels.iter().flat_map(|(_, template)| template.references()).chain(metric.name.references());
        for name in references {
            if !known(name) {
                return Err(Problem::at(
                    text.line,
                    format!("metrics: regex: it has no group `{name}`, which is referred to"),
                ));
            }
        }
        Ok(PatternMetric { metric, pattern, labels })
    }

    fn key(&self, at: &At<RawMetric>) -> Result<KeyMetric, Problem> {
        let metric = self.metric(at, &["key"], false)?;
        let Some(key) = &at.value.key else {
            return Err(Problem::at(at.line, "metrics: key: it is missing"));
        };
        Ok(KeyMetric { metric, key: key.value.0.clone(), labels: self.templates(&at.value)? })
    }

    fn column(&self, at: &At<RawMetric>) -> Result<ColumnMetric, Problem> {
        let metric = self.metric(at, &["column", "where"], false)?;
        let Some(column) = &at.value.column else {
            return Err(Problem::at(at.line, "metrics: column: it is missing"));
        };
        let only = at.value.only.as_ref().map(|only| &only.value).into_iter().flatten();
        Ok(ColumnMetric {
            metric,
            column: column.value.0.clone(),
            only: only.map(|(column, text)| (column.clone(), text.value.0.clone())).collect(),
            labels: self.templates(&at.value)?,
        })
    }
}

/// The type; without one, the name's ending says it.
fn kind(raw: &RawMetric, histogram: bool) -> Result<Kind, Problem> {
    let name = raw.name.as_ref().map_or("", |name| &name.value.0);
    let Some(kind) = &raw.kind else {
        return Ok(match name {
            name if name.ends_with("_total") => Kind::Counter,
            name if name.ends_with("_info") => Kind::Info,
            _ => Kind::Gauge,
        });
    };
    match kind.value.0.as_str() {
        "counter" => Ok(Kind::Counter),
        "gauge" => Ok(Kind::Gauge),
        "untyped" | "unknown" => Ok(Kind::Untyped),
        "info" => Ok(Kind::Info),
        "histogram" if histogram => Ok(Kind::Histogram),
        "histogram" => {
            Err(Problem::at(kind.line, "metrics: type: a histogram needs lines over time; use type tail"))
        }
        other => {
            let reason = format!("metrics: type: `{other}` is none of counter, gauge, info, untyped");
            Err(Problem::at(kind.line, reason))
        }
    }
}

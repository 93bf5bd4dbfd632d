//! A configuration that has been checked: patterns parsed, rules compiled, secrets resolved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::basic_auth::BasicAuth;
use super::config::{
    Authentication, CustomizerFile, File, HttpServer, NameStyleFile, Ssl, StubHostFile, TableFile,
    TableFormFile, TargetFile,
};
use super::otlp::OpenTelemetry;
use super::tls::{self, ServerTls};
use crate::jmx::client::tls::{NameCheck, TlsSettings};
use crate::jmx::client::{Credentials, Options, RegistryTls, StubHost, Timeouts};
use crate::jmx::jolokia::{self, AgentUrl, TableForm, TableHint};
use crate::jmx::local::Selector;
use crate::jmx::local::attach::stub_of;
use crate::jmx::number::Number;
use crate::jmx::object_name::ObjectName;
use crate::jmx::serialization::Limits;
use crate::jmx::service_url::RegistryAddress;
use crate::jmx::value::Value;
use crate::rule::config::Text;
use crate::rule::name::safe;
use crate::rule::page::NameStyle;
use crate::rule::set::{Naming, RuleSet};

/// Looks an environment variable up.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// What a run needs to know.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) targets: Vec<TargetSettings>,
    pub(super) collection: Arc<Collection>,
    pub(super) start_delay: Duration,
    pub(super) scrape_timeout: Option<Duration>,
    pub(super) metrics_path: Option<String>,
    pub(super) request_timeout: Option<Duration>,
    pub(super) request_limit: usize,
    pub(super) basic_auth: Option<BasicAuth>,
    pub(super) server_tls: Option<ServerTls>,
    /// Key and trust stores, which are read again with the file.
    pub(super) stores: Vec<PathBuf>,
    pub(super) probe_targets: Vec<String>,
    /// What a probed target has in common with the configured ones.
    pub(super) probe_template: Options,
    /// For probed Jolokia agents.
    pub(super) tables: Vec<TableHint>,
    /// Where the page is pushed to.
    pub(super) open_telemetry: Option<OpenTelemetry>,
    /// Keys of the file that are about the page and not about JVMs.
    pub(super) page_keys: Vec<&'static str>,
}

/// One JVM.
#[derive(Clone, Debug)]
pub(super) struct TargetSettings {
    pub(super) name: String,
    pub(super) transport: Transport,
    pub(super) options: Options,
    pub(super) labels: Vec<(String, String)>,
}

/// How a JVM is reached; its address says so.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    Rmi,
    /// Address and tables; the rest is in the target's options.
    Jolokia(Box<jolokia::Options>),
    Attach(Selector),
    PerfData(Selector),
}

/// What is read from each JVM, and what becomes of it.
#[derive(Debug)]
pub(super) struct Collection {
    pub(super) rules: RuleSet,
    pub(super) filter: Filter,
    pub(super) customizers: Vec<Customizer>,
    pub(super) auto_exclude: bool,
    pub(super) name_style: NameStyle,
    pub(super) bean_info_age: Duration,
    pub(super) jvm_metrics: bool,
}

/// Which beans and attributes are wanted.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) includes: Vec<ObjectName>,
    pub(super) explicit: bool,
    pub(super) excludes: Vec<ObjectName>,
    exclude_jvm: bool,
    include_attributes: Vec<(ObjectName, Vec<String>)>,
    exclude_attributes: Vec<(ObjectName, Vec<String>)>,
}

/// Extra labels and samples for some beans.
#[derive(Debug)]
pub(super) struct Customizer {
    domain: String,
    properties: Vec<(String, String)>,
    pub(super) attributes_as_labels: Vec<String>,
    pub(super) extra: Vec<(String, Value, String)>,
}

const JVM_DOMAINS: &[&str] = &[
    "com.sun.management",
    "com.sun.management.jmxremote",
    "java.lang",
    "java.nio",
    "java.util.logging",
    "javax.management",
    "javax.management.remote",
    "jdk.internal",
    "jdk.management",
    "jdk.management.jfr",
    "sun.management",
];

impl Settings {
    pub(super) fn new(file: File, path: &Path, environment: Environment<'_>) -> Result<Self, String> {
        let template = options(&file, path, environment)?;
        let tables = file.jolokia_tables.iter().map(table).collect::<Result<Vec<_>, String>>()?;
        let targets = targets(&file, &tables, &template, path, environment)?;
        let probe_targets = file.probe_targets.clone();
        if targets.is_empty() && probe_targets.is_empty() {
            return Err("one of `hostPort`, `jmxUrl`, `targets` and `probeTargets` is needed".to_owned());
        }
        if file.scrape_timeout_seconds == Some(0) {
            return Err("`scrapeTimeoutSeconds` must be at least 1".to_owned());
        }
        let server = file.http_server.clone().unwrap_or_default();
        let threads = server.threads.as_ref();
        if let Some(threads) = threads
            && (threads.minimum > threads.maximum
                || threads.maximum > 256
                || threads.maximum == 0
                || threads.keep_alive_time == 0)
        {
            return Err("`httpServer.threads`: 1 <= maximum <= 256, minimum <= maximum, keepAliveTime >= 1"
                .to_owned());
        }
        let page_keys = [
            ("httpServer", file.http_server.is_some()),
            ("openTelemetry", file.open_telemetry.is_some()),
            ("probeTargets", !probe_targets.is_empty()),
        ];
        Ok(Self {
            targets,
            start_delay: Duration::from_secs(file.start_delay_seconds.unwrap_or(0)),
            scrape_timeout: file.scrape_timeout_seconds.map(Duration::from_secs),
            metrics_path: metrics_path(server.metrics.path.as_deref())?,
            request_timeout: server.maximum_request_seconds.map(Duration::from_secs),
            request_limit: threads.map_or(10, |threads| threads.maximum as usize),
            basic_auth: server
                .authentication
                .as_ref()
                .map(|authentication| basic_auth(authentication, environment))
                .transpose()?,
            server_tls: server.ssl.as_ref().map(|ssl| ServerTls::new(ssl, path, environment)).transpose()?,
            stores: stores(&file, &server, path),
            collection: Arc::new(collection(&file, environment)?),
            open_telemetry: file
                .open_telemetry
                .as_ref()
                .map(|file| OpenTelemetry::new(file, environment))
                .transpose()?,
            probe_targets,
            probe_template: template,
            tables,
            page_keys: page_keys.into_iter().filter_map(|(key, given)| given.then_some(key)).collect(),
        })
    }
}

/// The files that hold certificates and keys.
fn stores(file: &File, server: &HttpServer, path: &Path) -> Vec<PathBuf> {
    let client = match &file.ssl {
        Some(Ssl::Settings(ssl)) => [ssl.key_store.as_ref(), ssl.trust_store.as_ref()],
        _ => [None, None],
    };
    let server = server.ssl.iter().flat_map(|ssl| {
        let pem = ssl.pem.iter().flat_map(|pem| [&pem.certificate, &pem.private_key]);
        ssl.key_store.iter().chain(&ssl.trust_store).chain(pem)
    });
    let named = client.into_iter().flatten().chain(server).filter_map(|store| store.filename.as_deref());
    named.map(|name| tls::beside(name, path)).collect()
}

fn metrics_path(path: Option<&str>) -> Result<Option<String>, String> {
    match path {
        Some(path) if !path.starts_with('/') => {
            Err(format!("`httpServer.metrics.path`: `{path}` does not start with `/`"))
        }
        path => Ok(path.map(str::to_owned)),
    }
}

fn basic_auth(file: &Authentication, environment: Environment<'_>) -> Result<BasicAuth, String> {
    if file.plugin.is_some() {
        let why = "it names a Java class, and there is no JVM here; use `authentication.basic`";
        return Err(format!("`httpServer.authentication.plugin` is not supported: {why}"));
    }
    let basic = file.basic.as_ref().ok_or("`httpServer.authentication` needs `basic`")?;
    BasicAuth::new(basic, environment)
}

fn collection(file: &File, environment: Environment<'_>) -> Result<Collection, String> {
    let naming = Naming {
        lowercase_names: file.lowercase_output_name,
        lowercase_labels: file.lowercase_output_label_names,
        infer_counters: file.infer_counter_type_from_name,
    };
    for (number, rule) in (1..).zip(file.rules.iter().flatten()) {
        let known = |kind: &&Text| ["COUNTER", "GAUGE", "UNTYPED", "UNKNOWN"].contains(&&***kind);
        if let Some(kind) = rule.kind.as_ref().filter(|kind| !known(kind)) {
            tracing::warn!(
                rule = number,
                kind = &**kind,
                "the `type` of a rule is unknown, so it is UNTYPED"
            );
        }
    }
    let rules = match &file.rules {
        Some(rules) => RuleSet::new(rules, naming).map_err(|error| error.to_string())?,
        None => RuleSet::default_rules(naming),
    };
    Ok(Collection {
        rules,
        filter: Filter::new(file, environment)?,
        customizers: file.metric_customizers.iter().map(Customizer::new).collect::<Result<_, _>>()?,
        auto_exclude: file.auto_exclude_object_name_attributes.unwrap_or(true),
        name_style: match file.name_style {
            Some(NameStyleFile::Zero) => NameStyle::Zero,
            Some(NameStyleFile::One) | None => NameStyle::One,
        },
        bean_info_age: Duration::from_secs(file.bean_info_seconds.unwrap_or(60)),
        jvm_metrics: file.jvm_metrics,
    })
}

/// Everything of a session but its address and credentials.
fn options(file: &File, path: &Path, environment: Environment<'_>) -> Result<Options, String> {
    let mut timeouts = Timeouts::default();
    if let Some(seconds) = file.connect_timeout_seconds {
        timeouts.connect = Duration::from_secs(seconds.max(1));
        timeouts.handshake = timeouts.connect;
    }
    if let Some(seconds) = file.reply_timeout_seconds {
        timeouts.reply = Duration::from_secs(seconds.max(1));
    }
    let name_check =
        if file.verify_host_name.unwrap_or(true) { NameCheck::Required } else { NameCheck::Skipped };
    let tls: Option<TlsSettings> = match &file.ssl {
        None | Some(Ssl::Switch(false)) => None,
        Some(Ssl::Switch(true)) => {
            Some(tls::client(&super::config::SslFile::default(), path, environment, name_check)?)
        }
        Some(Ssl::Settings(settings)) if settings.enabled.unwrap_or(true) => {
            Some(tls::client(settings, path, environment, name_check)?)
        }
        Some(Ssl::Settings(_)) => None,
    };
    let plain_registry =
        environment("RMI_REGISTRY_SSL_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let credentials =
        credentials(&file.username, &file.password, file.password_file.as_deref(), path, environment)?;
    Ok(Options {
        registry: RegistryAddress::new("", 0),
        stub: None,
        credentials,
        tls: tls.map(Arc::new),
        registry_tls: if plain_registry { RegistryTls::Plain } else { RegistryTls::Auto },
        stub_host: match file.stub_host {
            Some(StubHostFile::Followed) => StubHost::Followed,
            Some(StubHostFile::Ignored) | None => StubHost::Ignored,
        },
        stub_port: file.stub_port,
        timeouts,
        limits: Limits::default(),
    })
}

fn targets(
    file: &File,
    tables: &[TableHint],
    template: &Options,
    path: &Path,
    environment: Environment<'_>,
) -> Result<Vec<TargetSettings>, String> {
    let single = TargetFile {
        host_port: file.host_port.clone(),
        jmx_url: file.jmx_url.clone(),
        ..TargetFile::default()
    };
    let single = (single.host_port.is_some() || single.jmx_url.is_some()).then_some(single);
    let mut targets = Vec::new();
    for target in single.iter().chain(&file.targets) {
        let mut options = template.clone();
        let (name, transport) = match (&target.host_port, &target.jmx_url) {
            (Some(_), Some(_)) => return Err("`hostPort` and `jmxUrl` exclude each other".to_owned()),
            (Some(address), None) => {
                let address = RegistryAddress::from_host_port(&interpolate(address, environment)?);
                options.registry = address.map_err(|error| error.to_string())?;
                (format!("{}:{}", options.registry.host, options.registry.port), Transport::Rmi)
            }
            (None, Some(url)) => by_url(&interpolate(url, environment)?, tables, &mut options)?,
            (None, None) => {
                return Err("an entry of `targets` has neither `hostPort` nor `jmxUrl`".to_owned());
            }
        };
        let own = credentials(
            &target.username,
            &target.password,
            target.password_file.as_deref(),
            path,
            environment,
        )?;
        if own.is_some() {
            options.credentials = own;
        }
        targets.push(TargetSettings {
            name,
            transport,
            options,
            labels: labels(&[&file.labels, &target.labels], environment)?,
        });
    }
    if targets.len() > 1 {
        distinct_labels(&mut targets);
    }
    Ok(targets)
}

/// The transport that an address stands for, and how the target is called.
fn by_url(url: &str, tables: &[TableHint], options: &mut Options) -> Result<(String, Transport), String> {
    let url = url.trim();
    if let Some(selector) = url.strip_prefix("attach:") {
        return Ok((url.to_owned(), Transport::Attach(Selector::parse(selector))));
    }
    if let Some(selector) = url.strip_prefix("hsperfdata:") {
        return Ok((url.to_owned(), Transport::PerfData(Selector::parse(selector))));
    }
    if AgentUrl::is_meant(url) {
        let url = AgentUrl::parse(url).map_err(|error| error.to_string())?;
        if url.tls && options.tls.is_none() {
            return Err(
                "an `https` address needs `ssl` (`ssl: true` trusts the system's certificates)".to_owned()
            );
        }
        let name = url.authority();
        let tables = tables.to_vec();
        let timeouts = options.timeouts;
        let agent = jolokia::Options { url, credentials: None, tls: None, timeouts, tables };
        return Ok((name, Transport::Jolokia(Box::new(agent))));
    }
    if let Some(stub) = stub_of(url) {
        options.registry = RegistryAddress::new(stub.host.clone(), stub.port);
        options.stub = Some(stub);
    } else {
        options.registry = RegistryAddress::from_service_url(url).map_err(|error| error.to_string())?;
    }
    Ok((format!("{}:{}", options.registry.host, options.registry.port), Transport::Rmi))
}

fn table(file: &TableFile) -> Result<TableHint, String> {
    Ok(TableHint {
        bean: file.bean.parse().map_err(|error| format!("`jolokiaTables`: {error}"))?,
        path: file.path.split('/').map(str::to_owned).collect(),
        form: match file.form {
            TableFormFile::Map => TableForm::Map,
            TableFormFile::Rows => TableForm::Rows,
            TableFormFile::Composite => TableForm::Composite,
        },
    })
}

/// Several JVMs have the same beans; without labels of their own their series would be the same.
fn distinct_labels(targets: &mut [TargetSettings]) {
    let all: Vec<_> = targets.iter().map(|target| target.labels.clone()).collect();
    for (index, target) in targets.iter_mut().enumerate() {
        let shared = all.iter().enumerate().any(|(other, labels)| other != index && *labels == all[index]);
        if shared && !target.labels.iter().any(|(name, _)| name == "target") {
            target.labels.push(("target".to_owned(), target.name.clone()));
        }
    }
}

fn labels(
    maps: &[&BTreeMap<String, Text>],
    environment: Environment<'_>,
) -> Result<Vec<(String, String)>, String> {
    let mut labels = BTreeMap::new();
    for (name, value) in maps.iter().copied().flatten() {
        if safe(name) != *name || name.contains(':') {
            return Err(format!("`{name}` is not a label name"));
        }
        labels.insert(name.clone(), interpolate(value, environment)?);
    }
    Ok(labels.into_iter().collect())
}

fn credentials(
    username: &Option<Text>,
    password: &Option<Text>,
    password_file: Option<&Path>,
    path: &Path,
    environment: Environment<'_>,
) -> Result<Option<Credentials>, String> {
    let Some(username) = username else {
        if password.is_some() || password_file.is_some() {
            tracing::warn!(path = %path.display(), "a password without `username` is not used");
        }
        return Ok(None);
    };
    let password = match (password, password_file) {
        (Some(_), Some(_)) => return Err("`password` and `passwordFile` exclude each other".to_owned()),
        (Some(password), None) => SecretString::from(resolve(password, environment)?),
        (None, Some(file)) => {
            let file = path.parent().unwrap_or(Path::new("")).join(file);
            common::secret::read(&file).map_err(|error| common::error::chain(&error))?
        }
        (None, None) => SecretString::from(String::new()),
    };
    Ok(Some(Credentials { username: resolve(username, environment)?, password }))
}

/// Replaces a text that is `${NAME}` as a whole by the environment variable of that name.
pub(super) fn resolve(text: &str, environment: Environment<'_>) -> Result<String, String> {
    let name = text.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    match name {
        None | Some("") => Ok(text.to_owned()),
        Some(name) if name.trim().is_empty() => Err(format!("`{text}` names no environment variable")),
        Some(name) => match environment(name) {
            Some(value) if !value.trim().is_empty() => Ok(value),
            _ => Err(format!("the environment variable `{name}` is not set, or blank")),
        },
    }
}

/// Replaces each `${NAME}` by the environment variable of that name, and by what follows `:-` in
/// `${NAME:-otherwise}` where there is none.
pub(super) fn interpolate(text: &str, environment: Environment<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let (inner, behind) = after.split_once('}').ok_or_else(|| format!("`{text}`: `${{` without `}}`"))?;
        let (name, otherwise) =
            inner.split_once(":-").map_or((inner, None), |(name, text)| (name, Some(text)));
        let value = environment(name.trim()).filter(|value| !value.trim().is_empty());
        match value.as_deref().or(otherwise) {
            Some(value) => out.push_str(value),
            None => return Err(format!("`{text}`: the environment variable `{name}` is not set, or blank")),
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

impl Filter {
    fn new(file: &File, environment: Environment<'_>) -> Result<Self, String> {
        let parse = |names: &[String]| -> Result<Vec<ObjectName>, String> {
            let parse =
                |name: &String| interpolate(name, environment)?.parse().map_err(|error| format!("{error}"));
            names.iter().map(parse).collect()
        };
        let attributes =
            |map: &BTreeMap<String, Vec<String>>| -> Result<Vec<(ObjectName, Vec<String>)>, String> {
                map.iter()
                    .map(|(name, list)| Ok((name.parse().map_err(|error| format!("{error}"))?, list.clone())))
                    .collect()
            };
        let includes = file.include_object_names.as_ref().or(file.whitelist_object_names.as_ref());
        let excludes = file.exclude_object_names.as_ref().or(file.blacklist_object_names.as_ref());
        Ok(Self {
            includes: parse(includes.map_or(&[], Vec::as_slice))?,
            explicit: includes.is_some(),
            excludes: parse(excludes.map_or(&[], Vec::as_slice))?,
            exclude_jvm: file.exclude_jvm_metrics,
            include_attributes: attributes(&file.include_object_name_attributes)?,
            exclude_attributes: attributes(&file.exclude_object_name_attributes)?,
        })
    }

    /// Whether a bean that matches an include pattern is wanted.
    pub(super) fn wants(&self, bean: &ObjectName) -> bool {
        if self.excludes.iter().any(|pattern| pattern.matches(bean)) {
            return false;
        }
        !self.exclude_jvm
            || !JVM_DOMAINS.contains(&bean.domain())
            || self.explicit && self.includes.iter().any(|pattern| pattern.matches(bean))
    }

    /// Whether an attribute of a wanted bean is wanted.
    pub(super) fn wants_attribute(&self, bean: &ObjectName, attribute: &str) -> bool {
        let skipped = match (bean.domain(), bean.property("type")) {
            ("java.lang", Some("Runtime")) => {
                matches!(attribute, "SystemProperties" | "ClassPath" | "BootClassPath" | "LibraryPath")
            }
            ("jdk.management.jfr", Some("FlightRecorder")) => true,
            _ => false,
        };
        let listed = |entries: &[(ObjectName, Vec<String>)]| {
            entries.iter().any(|(pattern, names)| {
                pattern.matches(bean) && names.iter().any(|name| glob(name.as_bytes(), attribute.as_bytes()))
            })
        };
        !skipped
            && (self.include_attributes.is_empty() || listed(&self.include_attributes))
            && !listed(&self.exclude_attributes)
    }
}

/// Whether `/probe` may be asked for `name` by a pattern of `probeTargets`. Addresses of Jolokia agents need a
/// pattern that is one, and whose stars stand for parts of a host, port or path element.
pub(super) fn may_probe(pattern: &str, name: &str) -> bool {
    let slashes = |text: &str| text.matches('/').count();
    let fits = match AgentUrl::is_meant(name) {
        true => AgentUrl::is_meant(pattern) && slashes(pattern) == slashes(name),
        false => true,
    };
    fits && glob(pattern.as_bytes(), name.as_bytes())
}

/// What `/probe` was asked for.
pub(super) fn probed(settings: &Settings, name: &str) -> Result<TargetSettings, String> {
    let mut options = settings.probe_template.clone();
    let transport = match AgentUrl::is_meant(name) {
        true => by_url(name, &settings.tables, &mut options)?.1,
        false => {
            let registry = RegistryAddress::from_host_port(name);
            options.registry = registry.map_err(|error| error.to_string())?;
            Transport::Rmi
        }
    };
    Ok(TargetSettings { name: name.to_owned(), transport, options, labels: Vec::new() })
}

/// Matches `*` against any run of characters.
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let Some(star) = pattern.iter().position(|byte| *byte == b'*') else { return pattern == text };
    let (head, tail) = (&pattern[..star], &pattern[star + 1..]);
    text.strip_prefix(head).is_some_and(|rest| (0..=rest.len()).any(|start| glob(tail, &rest[start..])))
}

impl Customizer {
    fn new(file: &CustomizerFile) -> Result<Self, String> {
        let filter = file.mbean_filter.as_ref().filter(|filter| !filter.domain.is_empty());
        let filter = filter.ok_or("`metricCustomizers` needs `mbeanFilter.domain`")?;
        if file.attributes_as_labels.is_none() && file.extra_metrics.is_none() {
            return Err("`metricCustomizers` needs `attributesAsLabels` or `extraMetrics`".to_owned());
        }
        let extra = file.extra_metrics.iter().flatten().map(|extra| {
            let value = extra.value.as_ref().and_then(scalar).ok_or("`extraMetrics` needs a `value`")?;
            if extra.name.is_empty() {
                return Err("`extraMetrics` needs a `name`".to_owned());
            }
            Ok((extra.name.clone(), value, extra.description.clone().unwrap_or_default()))
        });
        Ok(Self {
            domain: filter.domain.clone(),
            properties: filter.properties.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect(),
            attributes_as_labels: file.attributes_as_labels.clone().unwrap_or_default(),
            extra: extra.collect::<Result<_, String>>()?,
        })
    }

    pub(super) fn applies_to(&self, bean: &ObjectName) -> bool {
        let property = |(key, value): &(String, String)| bean.property(key) == Some(value.as_str());
        bean.domain() == self.domain && self.properties.iter().all(property)
    }
}

/// A quoted number is a text, of which only a rule can make a sample.
fn scalar(value: &serde_json::Value) -> Option<Value> {
    Some(match value {
        serde_json::Value::Bool(value) => Value::Boolean(*value),
        serde_json::Value::String(text) => Value::String(text.clone()),
        serde_json::Value::Number(number) => Value::Number(match number.as_i64() {
            Some(whole) => Number::Long(whole),
            None => Number::Double(number.as_f64()?),
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced() {
        let environment = |name: &str| (name == "HOST").then(|| "h".to_owned());
        for (text, expected) in [
            ("${HOST}:1", Some("h:1")),
            ("a${X:-b}c${HOST}", Some("abch")),
            ("${X}", None),
            ("${HOST", None),
            ("$x", Some("$x")),
        ] {
            assert_eq!(interpolate(text, &environment).ok().as_deref(), expected, "{text}");
        }
        assert!(resolve("${ }", &environment).is_err());
        assert_eq!(resolve("${}", &environment).as_deref(), Ok("${}"));
        assert_eq!(resolve("x${HOST}", &environment).as_deref(), Ok("x${HOST}"));
    }

    fn from_text(text: &str) -> Result<Settings, String> {
        let text = format!("hostPort: a:1\n{text}");
        super::super::config::from_text(&text, "x.yaml".as_ref(), &|_| None)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_part_of_another_file_is_taken_strictly() {
        for (text, complaint) in [
            ("ruels: []", "x.yaml:2: the key `ruels` is unknown and not used, did you mean `rules`?"),
            ("httpServer: {}", "`httpServer` counts where"),
            ("openTelemetry: {protocol: http/protobuf}", "`openTelemetry` counts where"),
            ("probeTargets: ['*']", "`probeTargets` counts where"),
        ] {
            let error = from_text(text).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn customizers() {
        let with =
            |more: &str| from_text(&format!("metricCustomizers: [{{mbeanFilter: {{domain: d}}{more}}}]"));
        let extra = ", extraMetrics: [{name: a, value: true}, {name: b, value: 'true'}, {name: c, value: 3}]";
        let settings = with(extra).unwrap();
        let values: Vec<&Value> =
            settings.collection.customizers[0].extra.iter().map(|(_, value, _)| value).collect();
        assert_eq!(
            values,
            [&Value::Boolean(true), &Value::String("true".to_owned()), &Value::Number(Number::Long(3))]
        );
        assert!(with(", attributesAsLabels: []").is_ok());
        for (text, complaint) in [
            ("", "needs `attributesAsLabels`"),
            (", extraMetrics: [{value: 1}]", "needs a `name`"),
            (", extraMetrics: [{name: a, value: }]", "needs a `value`"),
            (", extraMetrics: [{name: a, value: [1]}]", "needs a `value`"),
        ] {
            let error = with(text).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}

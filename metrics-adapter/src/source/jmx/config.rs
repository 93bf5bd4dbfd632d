//! The configuration file of jmx_exporter, with some keys of our own.
//!
//! Unknown keys are read over, as the peer does, but said. Keys that name Java classes are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, Visitor};
use thiserror::Error;

use super::otlp::OpenTelemetryFile;
use super::settings::Settings;
use crate::rule::config::{RuleConfig, Text, flag, optional_flag, present};
use crate::yaml::{self, Note};

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;
/// How deep `includes` may refer to further files.
const MAX_INCLUDES: usize = 8;

/// Why a configuration cannot be used. Names the file, and the line where the parser knows it.
///
/// ```
/// use metrics_adapter::source::jmx::Config;
///
/// let error = Config::from_text("rules: 1", "config.yaml".as_ref()).unwrap_err();
/// assert_eq!(error.path.to_str(), Some("config.yaml"));
/// ```
#[derive(Debug, Error)]
#[error("{}{}: {reason}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

/// The file as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct File {
    pub(super) start_delay_seconds: Option<u64>,
    pub(super) scrape_timeout_seconds: Option<u64>,
    pub(super) host_port: Option<Text>,
    pub(super) jmx_url: Option<Text>,
    pub(super) username: Option<Text>,
    pub(super) password: Option<Text>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ssl: Option<Ssl>,
    #[serde(deserialize_with = "flag")]
    pub(super) lowercase_output_name: bool,
    #[serde(deserialize_with = "flag")]
    pub(super) lowercase_output_label_names: bool,
    #[serde(deserialize_with = "flag")]
    pub(super) infer_counter_type_from_name: bool,
    pub(super) include_object_names: Option<Vec<String>>,
    pub(super) whitelist_object_names: Option<Vec<String>>,
    pub(super) exclude_object_names: Option<Vec<String>>,
    pub(super) blacklist_object_names: Option<Vec<String>>,
    pub(super) include_object_name_attributes: BTreeMap<String, Vec<String>>,
    pub(super) exclude_object_name_attributes: BTreeMap<String, Vec<String>>,
    #[serde(deserialize_with = "optional_flag")]
    pub(super) auto_exclude_object_name_attributes: Option<bool>,
    #[serde(deserialize_with = "flag")]
    pub(super) exclude_jvm_metrics: bool,
    pub(super) metric_customizers: Vec<CustomizerFile>,
    pub(super) rules: Option<Vec<RuleConfig>>,
    pub(super) http_server: Option<HttpServer>,
    pub(super) open_telemetry: Option<OpenTelemetryFile>,
    /// Ours: files whose rules come before this file's.
    pub(super) includes: Vec<PathBuf>,
    /// Ours: several JVMs.
    pub(super) targets: Vec<TargetFile>,
    /// Ours: labels of every sample.
    pub(super) labels: BTreeMap<String, Text>,
    /// Ours: what Jolokia's JSON leaves open about values inside of values.
    pub(super) jolokia_tables: Vec<TableFile>,
    /// Ours: `ignored` (default) or `followed`.
    pub(super) stub_host: Option<StubHostFile>,
    /// Ours: replaces the port in the stub.
    pub(super) stub_port: Option<u16>,
    /// Ours: `false` leaves the name in the certificate unchecked, as Java does.
    #[serde(deserialize_with = "optional_flag")]
    pub(super) verify_host_name: Option<bool>,
    /// Ours: time for connecting and for handshakes.
    pub(super) connect_timeout_seconds: Option<u64>,
    /// Ours: time for the next bytes of a reply.
    pub(super) reply_timeout_seconds: Option<u64>,
    /// Ours: how long the attribute list of a bean that may change it is believed.
    pub(super) bean_info_seconds: Option<u64>,
    /// Ours: `1.x` (default) or `0.x`.
    pub(super) name_style: Option<NameStyleFile>,
    /// Ours: the `jvm_*` families of the peer's agent.
    #[serde(deserialize_with = "flag")]
    pub(super) jvm_metrics: bool,
    /// Ours: which targets `/probe` may be asked for, as globs of `host:port`.
    pub(super) probe_targets: Vec<String>,
}

/// The place of a table in a bean's values.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TableFile {
    pub(super) bean: String,
    /// `attribute/item/…`, `*` for any.
    pub(super) path: String,
    #[serde(rename = "as")]
    pub(super) form: TableFormFile,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TableFormFile {
    Map,
    Rows,
    Composite,
}

/// A key whose value is of no interest.
#[derive(Clone, Debug)]
pub(super) struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StubHostFile {
    Ignored,
    Followed,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) enum NameStyleFile {
    #[serde(rename = "1.x")]
    One,
    #[serde(rename = "0.x")]
    Zero,
}

/// One of several JVMs; keys it lacks are those of the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TargetFile {
    pub(super) host_port: Option<Text>,
    pub(super) jmx_url: Option<Text>,
    pub(super) username: Option<Text>,
    pub(super) password: Option<Text>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) labels: BTreeMap<String, Text>,
}

/// `ssl: true`, or a map.
#[derive(Clone, Debug)]
pub(super) enum Ssl {
    Switch(bool),
    Settings(Box<SslFile>),
}

/// By hand, since `untagged` reads over unknown keys.
impl<'de> Deserialize<'de> for Ssl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Ssl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a map")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Ssl, E> {
                Ok(Ssl::Switch(value))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Ssl, E> {
                flag(text.into_deserializer()).map(Ssl::Switch)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Ssl, A::Error> {
                SslFile::deserialize(MapAccessDeserializer::new(map))
                    .map(|file| Ssl::Settings(Box::new(file)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SslFile {
    #[serde(deserialize_with = "optional_flag")]
    pub(super) enabled: Option<bool>,
    pub(super) key_store: Option<StoreFile>,
    pub(super) trust_store: Option<StoreFile>,
    pub(super) protocols: Option<Names>,
    pub(super) ciphers: Option<Names>,
}

/// A list, or the same with commas in one text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Names {
    List(Vec<String>),
    Text(String),
}

impl Names {
    pub(super) fn list(&self) -> Vec<String> {
        match self {
            Self::List(list) => list.clone(),
            Self::Text(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct StoreFile {
    pub(super) filename: Option<PathBuf>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) password: Option<Text>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct CustomizerFile {
    pub(super) mbean_filter: Option<MbeanFilter>,
    pub(super) attributes_as_labels: Option<Vec<String>>,
    pub(super) extra_metrics: Option<Vec<ExtraMetric>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct MbeanFilter {
    pub(super) domain: String,
    pub(super) properties: BTreeMap<String, Text>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ExtraMetric {
    pub(super) name: String,
    pub(super) value: Option<serde_json::Value>,
    pub(super) description: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct HttpServer {
    pub(super) metrics: MetricsPath,
    pub(super) threads: Option<Threads>,
    pub(super) maximum_request_seconds: Option<u64>,
    /// There without a value, these two must not mean that the page is open.
    #[serde(deserialize_with = "present")]
    pub(super) authentication: Option<Authentication>,
    #[serde(deserialize_with = "present")]
    pub(super) ssl: Option<ServerSsl>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MetricsPath {
    pub(super) path: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Threads {
    pub(super) minimum: u32,
    pub(super) maximum: u32,
    pub(super) keep_alive_time: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Authentication {
    pub(super) basic: Option<Basic>,
    pub(super) plugin: Option<Ignored>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Basic {
    pub(super) username: Text,
    pub(super) password: Option<Text>,
    pub(super) algorithm: Option<String>,
    pub(super) password_hash: Option<Text>,
    pub(super) salt: Option<Text>,
    pub(super) iterations: Option<u32>,
    pub(super) key_length: Option<usize>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServerSsl {
    pub(super) key_store: Option<StoreFile>,
    pub(super) trust_store: Option<StoreFile>,
    pub(super) certificate: Option<CertificateAlias>,
    pub(super) pem: Option<PemFile>,
    #[serde(rename = "mutualTLS", deserialize_with = "flag")]
    pub(super) mutual_tls: bool,
    pub(super) protocols: Option<Names>,
    pub(super) ciphers: Option<Names>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CertificateAlias {
    pub(super) alias: Option<String>,
}

/// Certificate and key as text files, in place of a store.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PemFile {
    pub(super) certificate: StoreFile,
    pub(super) private_key: StoreFile,
}

/// Reads a file with its included ones and checks it as a whole.
///
/// # Errors
/// See [`ConfigError`].
pub(super) fn load(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ConfigError> {
    finish(file(&text(path)?, path)?, path, environment)
}

/// The same for a text that stands in the file `path`. What would count for nothing there is refused.
///
/// # Errors
/// See [`ConfigError`].
pub(super) fn from_text(
    text: &str,
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ConfigError> {
    let fail = |line, reason| ConfigError { path: path.to_owned(), line, reason };
    let (file, notes) = parse(text, path)?;
    if let Some(note) = notes.into_iter().next() {
        return Err(fail(Some(note.line), note.text));
    }
    let settings = finish(file, path, environment)?;
    match settings.page_keys.first() {
        Some(key) => Err(fail(None, format!("`{key}` {ABOUT_A_PAGE}"))),
        None => Ok(settings),
    }
}

/// What has no meaning where JMX is one source among others.
pub(crate) const ABOUT_A_PAGE: &str =
    "counts where JMX is the only source and has a page of its own; here the whole page has its own settings";

fn finish(
    mut file: File,
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ConfigError> {
    let mut included = File::default();
    include(&mut included, path, &file.includes, MAX_INCLUDES)?;
    // Their names are made for it.
    file.lowercase_output_name |= included.lowercase_output_name;
    file.lowercase_output_label_names |= included.lowercase_output_label_names;
    if let Some(mut rules) = included.rules {
        rules.extend(file.rules.take().unwrap_or_default());
        file.rules = Some(rules);
    }
    Settings::new(file, path, environment).map_err(|reason| ConfigError {
        path: path.to_owned(),
        line: None,
        reason,
    })
}

/// Adds up what files hold that matters to the one that includes them.
fn include(all: &mut File, from: &Path, files: &[PathBuf], depth: usize) -> Result<(), ConfigError> {
    for name in files {
        if let Some(set) = name.to_str().and_then(|name| name.strip_prefix("builtin:")) {
            let known = super::RULE_SETS.iter().find(|(known, _)| *known == set);
            let Some((_, text)) = known else {
                let names: Vec<&str> = super::RULE_SETS.iter().map(|(known, _)| *known).collect();
                let reason = format!("`includes`: there is no rule set `{set}` ({})", names.join(", "));
                return Err(ConfigError { path: from.to_owned(), line: None, reason });
            };
            let (file, _) = parse(text, name)?;
            all.lowercase_output_name |= file.lowercase_output_name;
            all.lowercase_output_label_names |= file.lowercase_output_label_names;
            all.rules.get_or_insert_default().extend(file.rules.unwrap_or_default());
            continue;
        }
        let path = from.parent().unwrap_or(Path::new("")).join(name);
        if depth == 0 {
            let reason = format!("`includes` go deeper than {MAX_INCLUDES} files");
            return Err(ConfigError { path, line: None, reason });
        }
        let text = text(&path)?;
        let file = file(&text, &path)?;
        for key in top_keys(&text).iter().filter(|key| !["rules", "includes"].contains(&&***key)) {
            tracing::warn!(path = %path.display(), key, "only `rules` and `includes` of an included file count");
        }
        include(all, &path, &file.includes, depth - 1)?;
        all.rules.get_or_insert_default().extend(file.rules.unwrap_or_default());
    }
    Ok(())
}

fn text(path: &Path) -> Result<String, ConfigError> {
    let fail = |reason| ConfigError { path: path.to_owned(), line: None, reason };
    let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(fail(format!("{size} bytes; a configuration file has at most {MAX_BYTES}")));
    }
    std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))
}

/// Reads a text, and says what it has in vain.
fn file(text: &str, path: &Path) -> Result<File, ConfigError> {
    let (file, notes) = parse(text, path)?;
    for note in notes {
        tracing::warn!(path = %path.display(), line = note.line, "{}", note.text);
    }
    Ok(file)
}

fn top_keys(text: &str) -> Vec<String> {
    let keys = yaml::from_str::<Option<BTreeMap<String, Ignored>>>(text, OPTIONS);
    keys.ok().flatten().unwrap_or_default().into_keys().collect()
}

// `n` and `y` are names to SnakeYAML; where a switch is meant, `flag` takes its other spellings.
const OPTIONS: yaml::Options = yaml::Options { strict_booleans: true, last_wins: true };

fn parse(text: &str, path: &Path) -> Result<(File, Vec<Note>), ConfigError> {
    let parsed = yaml::from_str_with_notes::<Option<File>>(text, OPTIONS);
    let (file, notes) = parsed.map_err(|error| ConfigError {
        path: path.to_owned(),
        line: error.line,
        reason: error.reason,
    })?;
    Ok((file.unwrap_or_default(), notes))
}

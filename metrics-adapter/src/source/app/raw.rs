//! The configuration file as written: every key with its line, unknown ones refused.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::rule::config::Text;
pub(super) use crate::yaml::At;

/// A scalar and its line.
pub(super) type Scalar = At<Text>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) labels: Option<BTreeMap<String, Scalar>>,
    pub(super) interval: Option<Scalar>,
    pub(super) timeout: Option<Scalar>,
    pub(super) uniform_names: bool,
    pub(super) sources: Option<Vec<At<RawSource>>>,
    pub(super) push: Option<Vec<At<RawPush>>>,
}

macro_rules! keys {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $kind:ty = $key:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct $name {
            $(#[serde(rename = $key)] pub(super) $field: Option<At<$kind>>,)*
        }

        impl $name {
            /// Keys that are there, with their lines.
            pub(super) fn present(&self) -> Vec<(&'static str, u64)> {
                let mut found = Vec::new();
                $(found.extend(self.$field.as_ref().map(|value| ($key, value.line)));)*
                found
            }
        }
    };
}

keys! {
    /// One entry of `sources`; which keys it may have depends on its type.
    RawSource {
        name: Text = "name",
        kind: Text = "type",
        labels: BTreeMap<String, Scalar> = "labels",
        interval: Text = "interval",
        timeout: Text = "timeout",
        max_series: u64 = "max_series",
        max_bytes: Text = "max_bytes",
        relabel: Vec<At<RawRelabel>> = "relabel",
        url: Text = "url",
        method: Text = "method",
        headers: BTreeMap<String, Scalar> = "headers",
        body: Text = "body",
        username: Text = "username",
        password_file: Text = "password_file",
        bearer_token_file: Text = "bearer_token_file",
        ca_file: Text = "ca_file",
        cert_file: Text = "cert_file",
        key_file: Text = "key_file",
        address: Text = "address",
        command: Command = "command",
        until: Text = "until",
        path: Text = "path",
        max_age: Text = "max_age",
        position_file: Text = "position_file",
        from_start: bool = "from_start",
        environment: BTreeMap<String, Scalar> = "environment",
        format: Text = "format",
        prefix: Text = "prefix",
        separator: Text = "separator",
        delimiter: Text = "delimiter",
        columns: Vec<Scalar> = "columns",
        metrics: Vec<At<RawMetric>> = "metrics",
        settings: BTreeMap<String, Scalar> = "settings",
        config: Text = "config",
        rule_set: Text = "rule_set",
        rules: serde_json::Value = "rules",
        uniform_names: bool = "uniform_names",
    }
}

keys! {
    /// One entry of `metrics`; which keys it may have depends on the format.
    RawMetric {
        name: Text = "name",
        help: Text = "help",
        kind: Text = "type",
        scale: f64 = "scale",
        words: BTreeMap<String, f64> = "map",
        labels: BTreeMap<String, Scalar> = "labels",
        path: Text = "path",
        value: Text = "value",
        values: BTreeMap<String, Scalar> = "values",
        regex: Text = "regex",
        key: Text = "key",
        column: Text = "column",
        only: BTreeMap<String, Scalar> = "where",
        buckets: Vec<f64> = "buckets",
    }
}

/// One entry of `push`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPush {
    pub(super) protocol: Option<Scalar>,
    pub(super) url: Option<Scalar>,
    pub(super) interval: Option<Scalar>,
    pub(super) timeout: Option<Scalar>,
    pub(super) labels: Option<At<BTreeMap<String, Scalar>>>,
    pub(super) headers: Option<At<BTreeMap<String, Scalar>>>,
    pub(super) username: Option<Scalar>,
    pub(super) password_file: Option<Scalar>,
    pub(super) bearer_token_file: Option<Scalar>,
    pub(super) ca_file: Option<Scalar>,
    pub(super) cert_file: Option<Scalar>,
    pub(super) key_file: Option<Scalar>,
    pub(super) native_histograms: Option<At<bool>>,
    pub(super) queue_bytes: Option<Scalar>,
}

/// One entry of `relabel`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRelabel {
    pub(super) source_labels: Option<At<Vec<Scalar>>>,
    pub(super) separator: Option<Scalar>,
    pub(super) regex: Option<Scalar>,
    pub(super) target_label: Option<Scalar>,
    pub(super) replacement: Option<Scalar>,
    pub(super) action: Option<Scalar>,
}

/// One text, or a list of words.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Command {
    Words(Vec<Text>),
    Text(Text),
}

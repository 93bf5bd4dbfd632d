//! The `rules` of a configuration as they are written.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// One entry of `rules`. Unknown keys are read over, as the peer does.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct RuleConfig {
    /// Pattern for the rule input; absent matches everything.
    pub pattern: Option<Text>,
    /// Template for the metric's name; absent means the default name.
    pub name: Option<Text>,
    /// Template that replaces the value. Present but empty is the text `null`, which is no number.
    #[serde(deserialize_with = "present")]
    pub value: Option<Text>,
    /// Multiplies every value except booleans.
    pub value_factor: Option<f64>,
    /// Label names and values, both templates.
    pub labels: Option<BTreeMap<Text, Text>>,
    /// Template for the help text.
    pub help: Option<Text>,
    /// `COUNTER`, `GAUGE`, `UNTYPED` or `UNKNOWN`.
    #[serde(rename = "type")]
    pub kind: Option<Text>,
    /// Matches the attribute's name in snake case.
    #[serde(deserialize_with = "flag")]
    pub attr_name_snake_case: bool,
    /// Remembers the outcome; the pattern sees `<cache>` instead of the value.
    #[serde(deserialize_with = "flag")]
    pub cache: bool,
    /// Ours: a match is dropped.
    #[serde(deserialize_with = "flag")]
    pub drop: bool,
    /// Ours: `info` exports a text as the label `value` of a constant 1.
    pub text: Option<TextExport>,
}

/// What becomes of a text that a rule without `value` matches.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum TextExport {
    /// A sample with value 1 and the text as label `value`.
    Info,
}

/// A scalar of any kind as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(pub String);

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text, number or boolean")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(text.into())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Text, E> {
        let mut text = String::new();
        crate::jmx::number::write_double(&mut text, value);
        Ok(Text(text))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
        Ok("null".into())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

/// Keeps a key that is there with no value apart from one that is not there.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A switch in any of the spellings that SnakeYAML takes for a boolean.
pub(crate) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = Text::deserialize(deserializer)?;
    match text.to_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err(de::Error::custom(format!("`{}` is neither true nor false", text.0))),
    }
}

/// The same where a missing switch has a meaning of its own.
pub(crate) fn optional_flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    flag(deserializer).map(Some)
}

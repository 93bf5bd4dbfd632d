//! YAML into types that serde fills, every problem with its line.
//!
//! The text becomes a tree first, and types are filled from the tree: what serde makes for each type then goes through
//! that one small reader and not through a parser, which keeps a tenth of the binary away.

mod number;
mod reader;
mod tree;

use std::fmt;

use common::config::{did_you_mean, nearest};
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, SeqAccess, Visitor};

/// What differs between the kinds of files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// `yes`, `on`, `y` and their opposites are texts, as in YAML 1.2, and not switches, as in YAML 1.1.
    pub(crate) strict_booleans: bool,
    /// A key that is given twice has its last value, instead of being refused.
    pub(crate) last_wins: bool,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error {
    /// The line, from 1, when known.
    pub(crate) line: Option<u64>,
    /// What is wrong, after the key whose value it is.
    pub(crate) reason: String,
    /// Whether the reason has its key.
    is_keyed: bool,
}

impl Error {
    fn at(line: u64, reason: impl Into<String>) -> Self {
        Self { line: Some(line), reason: reason.into(), is_keyed: false }
    }

    fn new(reason: String, is_keyed: bool) -> Self {
        Self { line: None, reason, is_keyed }
    }

    /// The innermost place is the one that helps ...
    fn or_at(mut self, line: u64) -> Self {
        self.line.get_or_insert(line);
        self
    }

    /// ... and so is the innermost key.
    fn or_of(mut self, key: &str) -> Self {
        if !self.is_keyed {
            self.reason.insert_str(0, &format!("{key}: "));
            self.is_keyed = true;
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason.to_string(), false)
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("{expected} is expected"), false)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let hint = did_you_mean(nearest(field, expected.iter().copied()));
        Self::new(format!("unknown key `{field}`{hint}"), true)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the key `{field}` is missing"), true)
    }
}

/// Something in a file that counts for nothing, which its author should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The line, from 1.
    pub(crate) line: u64,
    /// What it is, with its key.
    pub(crate) text: String,
}

/// Reads one document. An empty one is YAML's null.
///
/// # Errors
/// This is no YAML, has a second document, is nested more than 128 levels deep, has more than 250,000 values, aliases
/// counted as what they stand for, or doesn't fit the type.
pub(crate) fn from_str<T: DeserializeOwned>(text: &str, options: Options) -> Result<T, Error> {
    from_str_with_notes(text, options).map(|(value, _)| value)
}

/// The same, with what was read over: keys that the type does not have, where it takes them, and values that a later
/// one of the same key replaced.
///
/// # Errors
/// See [`from_str`].
pub(crate) fn from_str_with_notes<T: DeserializeOwned>(
    text: &str,
    options: Options,
) -> Result<(T, Vec<Note>), Error> {
    let (document, mut notes) = tree::read(text, options)?;
    let shared = reader::Shared::new(options);
    let value = T::deserialize(reader::Reader::new(&document, &shared))?;
    notes.extend(shared.into_notes());
    notes.sort_by_key(|note| note.line);
    Ok((value, notes))
}

/// A value that remembers its line, from 1. Two are equal when their values are.
#[derive(Clone, Debug, Default)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) line: u64,
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for At<T> {}

impl<T: PartialOrd> PartialOrd for At<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<T: Ord> Ord for At<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.value.cmp(&other.value)
    }
}

/// Asks the reader for line and value; no file's type has this name.
const AT: &str = "$at";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pair<T> {
            type Value = At<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a file")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<At<T>, A::Error> {
                let lacking = || de::Error::custom("a value without its line");
                let line = pair.next_element()?.ok_or_else(lacking)?;
                Ok(At { line, value: pair.next_element()?.ok_or_else(lacking)? })
            }
        }
        deserializer.deserialize_tuple_struct(AT, 2, Pair(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests;

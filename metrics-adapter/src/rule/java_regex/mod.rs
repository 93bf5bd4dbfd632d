//! Java regular expressions on linear-time automata, with a bounded backtracking engine for what automata
//! cannot do.
//!
//! Syntax source: the API documentation of `java.util.regex.Pattern`. Patterns are wrapped as the peer wraps
//! them, `^.*(?:PATTERN).*$`, and because the leading `.*` is greedy a pattern binds to its *last* possible
//! position.

mod translate;

use regex::{Regex, RegexBuilder};
use thiserror::Error;

/// Steps that the backtracking engine may take for one text.
const BACKTRACK_LIMIT: usize = 200_000;
/// Bytes that one compiled automaton may take.
const SIZE_LIMIT: usize = 8 << 20;
/// What Java's `.` matches, in the translated syntax.
const DOT: &str = r"[^\n\r\x{85}\x{2028}\x{2029}]";

/// A pattern that cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("pattern `{pattern}`: {why}")]
pub struct PatternError {
    /// The pattern as configured.
    pub pattern: String,
    /// The reason.
    pub why: String,
}

/// A match that was given up because it took too many steps.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("pattern `{pattern}` takes more than {BACKTRACK_LIMIT} steps on `{text}`")]
pub struct Exhausted {
    /// The pattern as configured.
    pub pattern: String,
    /// The text it was tried on, cut short.
    pub text: String,
}

/// A compiled pattern, wrapped so that it has to match a whole text.
#[derive(Clone, Debug)]
pub struct JavaRegex {
    pattern: String,
    inner: String,
    engine: Engine,
    groups: usize,
    names: Vec<String>,
}

#[derive(Clone, Debug)]
enum Engine {
    Linear(Regex),
    Backtracking(Box<fancy_regex::Regex>),
}

impl JavaRegex {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is no Java pattern, uses something neither engine has, or is too large.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let refuse = |why: String| PatternError { pattern: pattern.to_owned(), why };
        let translated = translate::translate(pattern).map_err(refuse)?;
        let wrapped = format!(r"\A{DOT}*(?:{}){DOT}*\z", translated.source);
        let engine = if translated.needs_backtracking {
            let regex = fancy_regex::RegexBuilder::new(&wrapped)
                .backtrack_limit(BACKTRACK_LIMIT)
                .delegate_size_limit(SIZE_LIMIT)
                .build()
                .map_err(|error| refuse(error.to_string()))?;
            Engine::Backtracking(Box::new(regex))
        } else {
            let regex = RegexBuilder::new(&wrapped)
                .size_limit(SIZE_LIMIT)
                .build()
                .map_err(|error| refuse(last_line(&error)))?;
            Engine::Linear(regex)
        };
        let names: Vec<Option<String>> = match &engine {
            Engine::Linear(regex) => regex.capture_names().map(|name| name.map(str::to_owned)).collect(),
            Engine::Backtracking(regex) => {
                regex.capture_names().map(|name| name.map(str::to_owned)).collect()
            }
        };
        let groups = names.len() - 1;
        let names = names.into_iter().flatten().collect();
        Ok(Self { pattern: pattern.to_owned(), inner: translated.source, engine, groups, names })
    }

    /// The pattern as configured.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The translated pattern without its wrapper, when automata can run it.
    #[must_use]
    pub fn linear(&self) -> Option<&str> {
        match self.engine {
            Engine::Linear(_) => Some(&self.inner),
            Engine::Backtracking(_) => None,
        }
    }

    /// Number of groups.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Names of the named groups.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Matches the whole of `text`.
    ///
    /// # Errors
    /// The backtracking engine ran out of steps.
    pub fn captures<'t>(&self, text: &'t str) -> Result<Option<Captures<'t>>, Exhausted> {
        match &self.engine {
            Engine::Linear(regex) => Ok(regex.captures(text).map(Captures::Linear)),
            Engine::Backtracking(regex) => match regex.captures(text) {
                Ok(found) => Ok(found.map(Captures::Backtracking)),
                Err(_) => {
                    Err(Exhausted { pattern: self.pattern.clone(), text: text.chars().take(120).collect() })
                }
            },
        }
    }
}

/// The regex crate's messages draw the pattern over several lines; only the last says what is wrong.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// The groups of one match.
#[derive(Debug)]
pub enum Captures<'t> {
    /// From an automaton.
    Linear(regex::Captures<'t>),
    /// From the backtracking engine.
    Backtracking(fancy_regex::Captures<'t>),
}

impl<'t> Captures<'t> {
    /// Text of a numbered group, empty when it took no part. Group 0 is the whole text.
    #[must_use]
    pub fn group(&self, index: usize) -> &'t str {
        match self {
            Self::Linear(captures) => captures.get(index).map_or("", |found| found.as_str()),
            Self::Backtracking(captures) => captures.get(index).map_or("", |found| found.as_str()),
        }
    }

    /// Text of a named group, empty when it took no part.
    #[must_use]
    pub fn named(&self, name: &str) -> &'t str {
        match self {
            Self::Linear(captures) => captures.name(name).map_or("", |found| found.as_str()),
            Self::Backtracking(captures) => captures.name(name).map_or("", |found| found.as_str()),
        }
    }
}

#[cfg(test)]
mod tests;

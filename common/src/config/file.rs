//! The YAML layer: one flat list of keys with their lines.

use std::path::Path;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput};

use super::ConfigError;

/// Largest configuration file that is read.
const MAX_BYTES: u64 = 1 << 20;
/// Maps and lists in each other; the deepest setting there is takes three.
const MAX_DEPTH: usize = 16;

/// One key of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileValue {
    pub(super) key: String,
    pub(super) line: u64,
    pub(super) texts: Vec<String>,
}

/// A list of maps of settings under one key, each map with the line where it begins.
pub(super) type Items = Vec<(u64, Vec<FileValue>)>;

/// `list`: the key that holds [`Items`], if there is to be one.
pub(super) fn read(path: &Path, list: Option<&str>) -> Result<(Vec<FileValue>, Items), ConfigError> {
    let fail = |reason: String| ConfigError::File { path: path.display().to_string(), line: None, reason };
    let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(fail(format!("{size} bytes; a configuration file has at most {MAX_BYTES}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    parse(&text, list).map_err(|(line, reason)| ConfigError::File {
        path: path.display().to_string(),
        line,
        reason,
    })
}

/// The line, if it is known, and what is wrong there.
type Broken = (Option<u64>, String);

pub(super) fn parse(text: &str, list: Option<&str>) -> Result<(Vec<FileValue>, Items), Broken> {
    let (events, items_key) = (Parser::new_from_str(text), list);
    let mut reader =
        Reader { events, items_key, anchored: Vec::new(), values: Vec::new(), items: Vec::new() };
    reader.document()?;
    Ok((reader.values, reader.items))
}

/// Reads the parser's events. Values stay the text that they are: what `1.50`, `017` or `no` means is the setting's
/// business.
struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    /// Values that have a name (`&name`), by the parser's number for it.
    anchored: Vec<(usize, String)>,
    values: Vec<FileValue>,
    items_key: Option<&'a str>,
    items: Items,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, u64), Broken> {
        loop {
            let (event, span) = match self.events.next() {
                Some(event) => event.map_err(|error| broken(&error))?,
                None => return Err((None, "it ends in the middle".to_owned())),
            };
            // Comments and whatever else is no content.
            if !matches!(event, Event::StreamStart | Event::DocumentStart(..)) && is_content(&event) {
                return Ok((event, line(span.start)));
            }
        }
    }

    fn document(&mut self) -> Result<(), Broken> {
        match self.next()? {
            (Event::StreamEnd, _) => return Ok(()),
            (Event::MappingStart(..), _) => self.map("", 1)?,
            // A document of comments.
            (Event::Scalar(text, style, ..), _) if is_nothing(&text, style) => {}
            (_, line) => return Err((Some(line), "expected a map of settings, `key: value`".to_owned())),
        }
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentEnd, _) => {}
                (_, line) => {
                    return Err((Some(line), "a second document; there is one in a file".to_owned()));
                }
            }
        }
    }

    fn map(&mut self, prefix: &str, depth: usize) -> Result<(), Broken> {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(()),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err((Some(line), "a key is one plain word".to_owned())),
            };
            if seen.contains(&key) {
                return Err((Some(line), format!("the key `{key}` is there twice")));
            }
            let full = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            seen.push(key);
            if depth == 1 && self.items_key == Some(full.as_str()) {
                self.items(depth)?;
                continue;
            }
            let texts = match self.next()? {
                (Event::MappingStart(..), at) => {
                    within(depth, at)?;
                    self.map(&full, depth + 1)?;
                    continue;
                }
                (Event::SequenceStart(..), _) => self.list()?,
                (event, at) => vec![self.value(event, at)?],
            };
            self.values.push(FileValue { key: full, line, texts });
        }
    }

    fn items(&mut self, depth: usize) -> Result<(), Broken> {
        match self.next()? {
            (Event::SequenceStart(..), _) => {}
            (_, line) => return Err((Some(line), "expected a list of maps, `- key: value`".to_owned())),
        }
        let above = std::mem::take(&mut self.values);
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => break,
                (Event::MappingStart(..), line) => {
                    self.map("", depth + 1)?;
                    self.items.push((line, std::mem::take(&mut self.values)));
                }
                (_, line) => return Err((Some(line), "expected a map of settings, `key: value`".to_owned())),
            }
        }
        self.values = above;
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<String>, Broken> {
        let mut texts = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(texts),
                (Event::SequenceStart(..) | Event::MappingStart(..), line) => {
                    return Err((Some(line), "a list holds plain values only".to_owned()));
                }
                (event, line) => texts.push(self.value(event, line)?),
            }
        }
    }

    fn value(&mut self, event: Event<'a>, line: u64) -> Result<String, Broken> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let text = if is_nothing(&text, style) { String::new() } else { text.into_owned() };
                if anchor != 0 {
                    self.anchored.push((anchor, text.clone()));
                }
                Ok(text)
            }
            Event::Alias(anchor) => {
                let known = self.anchored.iter().find(|(number, _)| *number == anchor);
                let reason = || "an alias (`*name`) stands for plain values only".to_owned();
                known.map(|(_, text)| text.clone()).ok_or_else(|| (Some(line), reason()))
            }
            _ => Err((Some(line), "expected a value, a list of values, or a map".to_owned())),
        }
    }
}

fn within(depth: usize, line: u64) -> Result<(), Broken> {
    match depth < MAX_DEPTH {
        true => Ok(()),
        false => Err((Some(line), format!("more than {MAX_DEPTH} maps in each other"))),
    }
}

fn is_content(event: &Event<'_>) -> bool {
    event.is_node()
        || matches!(event, Event::MappingEnd | Event::SequenceEnd | Event::DocumentEnd | Event::StreamEnd)
}

/// YAML's ways to write that there is no value.
fn is_nothing(text: &str, style: ScalarStyle) -> bool {
    style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// YAML 1.1's words for booleans, which people know from Kubernetes; anything else as it is.
pub(super) fn boolean(text: &str) -> &str {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" => "true",
        "no" | "off" | "n" => "false",
        _ => text,
    }
}

fn line(at: Marker) -> u64 {
    at.line() as u64
}

fn broken(error: &ScanError) -> Broken {
    (Some(line(*error.marker())), error.info())
}

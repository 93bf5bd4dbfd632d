//! The document as a tree, each value with its line.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::{Error, Note, Options};

/// Lists and maps in each other.
const MAX_DEPTH: usize = 128;
/// Values of a document, with what aliases repeat.
pub(super) const MAX_VALUES: usize = 250_000;

/// A value and the line of the place that has it: of the alias, where it is one.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: u64,
    /// Lists and maps in each other from here on, aliases followed.
    height: usize,
    pub(super) content: Rc<Content>,
}

impl Node {
    fn new(line: u64, content: Content) -> Result<Self, Error> {
        let height = match &content {
            Content::Scalar(_) => 0,
            Content::List(items) => 1 + items.iter().map(|item| item.height).max().unwrap_or(0),
            Content::Map(entries) => 1 + entries.iter().map(|(_, value)| value.height).max().unwrap_or(0),
        };
        if height > MAX_DEPTH {
            Err(too_deep(line))
        } else {
            Ok(Self { line, height, content: Rc::new(content) })
        }
    }
}

#[derive(Debug)]
pub(super) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Neither quoted nor tagged as a text: it may be a number, a switch or nothing.
    pub(super) plain: bool,
}

impl Scalar {
    /// YAML's ways to write that there is no value.
    pub(super) fn is_nothing(&self) -> bool {
        self.plain && matches!(&self.text[..], "" | "~" | "null" | "Null" | "NULL")
    }
}

/// The document, and which of its values later ones replaced.
pub(super) fn read(text: &str, options: Options) -> Result<(Node, Vec<Note>), Error> {
    let events = Parser::new_from_str(text);
    let mut builder = Builder { events, options, anchors: HashMap::new(), values: 0, notes: Vec::new() };
    let nothing = Content::Scalar(Scalar { text: String::new(), plain: true });
    let (event, line) = builder.next()?;
    if event == Event::StreamEnd {
        return Ok((Node::new(1, nothing)?, builder.notes));
    }
    let document = builder.node(event, line, 0)?;
    match builder.next()? {
        (Event::StreamEnd, _) => Ok((document, builder.notes)),
        (_, line) => Err(Error::at(line, "a second YAML document starts; one file holds one")),
    }
}

struct Builder<'a> {
    events: Parser<'a, StrInput<'a>>,
    options: Options,
    /// Values that have a name, by the parser's number for it; none while they are being read.
    anchors: HashMap<usize, Option<Node>>,
    values: usize,
    notes: Vec<Note>,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, u64), Error> {
        loop {
            let Some(event) = self.events.next() else {
                return Ok((Event::StreamEnd, 1));
            };
            let (event, span) = event.map_err(|error| {
                let line = error.marker().line() as u64;
                if error.info().contains("recursion limit") {
                    too_deep(line)
                } else {
                    Error::at(line, error.info())
                }
            })?;
            let is_end = matches!(event, Event::SequenceEnd | Event::MappingEnd | Event::StreamEnd);
            if event.is_node() || is_end {
                return Ok((event, line(&span)));
            }
        }
    }

    fn node(&mut self, event: Event<'a>, line: u64, depth: usize) -> Result<Node, Error> {
        if depth == MAX_DEPTH {
            return Err(too_deep(line));
        }
        self.count(1, line)?;
        let (anchor, content) = match event {
            Event::Alias(anchor) => {
                return match self.anchors.get(&anchor) {
                    Some(Some(node)) => Ok(Node { line, ..node.clone() }),
                    Some(None) => {
                        Err(Error::at(line, "an alias stands for something that contains the alias"))
                    }
                    None => Err(Error::at(line, "an alias of which there is no anchor")),
                };
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = is_plain(style, tag.as_deref(), line)?;
                (anchor, Content::Scalar(Scalar { text: text.into_owned(), plain }))
            }
            Event::SequenceStart(_, anchor, _) => {
                self.name(anchor, None);
                (anchor, Content::List(self.list(depth)?))
            }
            Event::MappingStart(_, anchor, _) => {
                self.name(anchor, None);
                (anchor, Content::Map(self.map(depth)?))
            }
            _ => return Err(Error::at(line, "expected a value")),
        };
        let node = Node::new(line, content)?;
        self.name(anchor, Some(&node));
        Ok(node)
    }

    fn name(&mut self, anchor: usize, node: Option<&Node>) {
        // The parser counts from 1; 0 is no name.
        if anchor != 0 {
            self.anchors.insert(anchor, node.cloned());
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Error> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Node, Node)>, Error> {
        let mut entries: Vec<(Node, Node)> = Vec::new();
        let mut merged: Vec<Node> = Vec::new();
        // Where each key is.
        let mut known: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, line) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, line, depth + 1)?;
            let Content::Scalar(name) = &*key.content else {
                return Err(Error::at(line, "a key is one plain word"));
            };
            let value = self.next().and_then(|(event, at)| self.node(event, at, depth + 1));
            let value = value.map_err(|error| error.or_of(&name.text))?;
            if name.plain && name.text == "<<" {
                merged.push(value);
                continue;
            }
            match known.get(&name.text) {
                Some(&at) if self.options.last_wins => {
                    let text = format!("the key `{}` is given again in line {line}, which counts", name.text);
                    self.notes.push(Note { line: entries[at].0.line, text });
                    entries[at] = (key, value);
                }
                Some(_) => {
                    let reason = format!("the key `{}` is given twice", name.text);
                    return Err(Error { line: Some(line), reason, is_keyed: true });
                }
                None => {
                    known.insert(name.text.clone(), entries.len());
                    entries.push((key, value));
                }
            }
        }
        if !merged.is_empty() {
            self.merge(&mut entries, known.into_keys().collect(), &merged)?;
        }
        Ok(entries)
    }

    /// Adds the keys of other maps (`<<: *name`, `<<: [*one, *two]`) that aren't there yet; the earlier map counts.
    fn merge(
        &mut self,
        entries: &mut Vec<(Node, Node)>,
        mut known: HashSet<String>,
        merged: &[Node],
    ) -> Result<(), Error> {
        for node in merged {
            let sources = match &*node.content {
                Content::List(sources) => Cow::Borrowed(&sources[..]),
                Content::Map(_) | Content::Scalar(_) => Cow::Owned(vec![node.clone()]),
            };
            for source in sources.iter() {
                let Content::Map(more) = &*source.content else {
                    return Err(Error::at(node.line, "`<<` takes a map, or a list of maps"));
                };
                self.count(more.len(), node.line)?;
                for (key, value) in more {
                    if let Content::Scalar(name) = &*key.content
                        && known.insert(name.text.clone())
                    {
                        entries.push((key.clone(), value.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, values: usize, line: u64) -> Result<(), Error> {
        self.values += values;
        if self.values > MAX_VALUES { Err(too_many(line)) } else { Ok(()) }
    }
}

fn too_deep(line: u64) -> Error {
    Error::at(line, "nested too deeply")
}

pub(super) fn too_many(line: u64) -> Error {
    Error::at(line, "too many values, or aliases that repeat too many")
}

/// Whether a scalar may be something else than a text.
fn is_plain(style: ScalarStyle, tag: Option<&Tag>, line: u64) -> Result<bool, Error> {
    let Some(tag) = tag else {
        return Ok(style == ScalarStyle::Plain);
    };
    match tag.core_suffix() {
        Some("str") => Ok(false),
        Some("null" | "bool" | "int" | "float") => Ok(true),
        // `!` alone.
        None if tag.handle().is_empty() && tag.suffix() == "!" => Ok(false),
        None if !tag.handle().starts_with("tag:yaml.org,") => Ok(style == ScalarStyle::Plain),
        _ => Err(Error::at(line, format!("the tag `{tag}` has no meaning here"))),
    }
}

fn line(span: &Span) -> u64 {
    span.start.line() as u64
}

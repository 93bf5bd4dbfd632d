//! The shape nearly every line has, found without allocating: the parts that name a series, and the parts that
//! vary from sample to sample.
//!
//! Whatever does not fit goes to [`Parser`](super::Parser), which alone decides what is an error. What does
//! fit means the same to both.

use memchr::{memchr, memchr2};

use super::line::{Event, MAX_SECTIONS, Type, sample_rate};
use super::number::parse_float;

/// A line cut into what identifies its series and what it says about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape<'a> {
    /// Name with any tags inside it, raw.
    pub name: &'a [u8],
    /// The type.
    pub kind: Type,
    /// DogStatsD tags, raw, without the leading `#`.
    pub tags: &'a [u8],
    /// DogStatsD container id.
    pub container: &'a [u8],
    values: &'a [u8],
    rate: f64,
}

impl<'a> Shape<'a> {
    /// Cuts a line, or gives up on it.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Option<Self> {
        let colon = memchr(b':', line).filter(|&at| at > 0)?;
        let (name, rest) = (&line[..colon], &line[colon + 1..]);
        let bar = memchr(b'|', rest)?;
        let (values, suffix) = (&rest[..bar], &rest[bar + 1..]);
        let type_end = memchr2(b'|', b':', suffix).unwrap_or(suffix.len());
        let kind = Type::read(&suffix[..type_end]).filter(|kind| *kind != Type::Set)?;
        let mut shape = Self { name, kind, tags: &[], container: &[], values, rate: 1.0 };
        if type_end < suffix.len() {
            shape.read_sections(suffix.get(type_end..)?)?;
        }
        Some(shape)
    }

    /// Reads `|section|section…`; each kind at most once.
    fn read_sections(&mut self, mut rest: &'a [u8]) -> Option<()> {
        let (mut sections, mut rated) = (2, false);
        while let [b'|', tail @ ..] = rest {
            let end = memchr(b'|', tail).unwrap_or(tail.len());
            let section = &tail[..end];
            rest = &tail[end..];
            sections += 1;
            match section {
                [b'@', rate @ ..] if !rated => {
                    self.rate = sample_rate(rate)?;
                    rated = true;
                }
                // Tags after a container id could replace it; the full parser knows.
                [b'#', tags @ ..]
                    if !tags.is_empty() && self.tags.is_empty() && self.container.is_empty() =>
                {
                    self.tags = tags;
                }
                // Without tags its colon would start a further sample.
                [b'c', b':', id @ ..]
                    if !id.is_empty() && self.container.is_empty() && !self.tags.is_empty() =>
                {
                    self.container = id;
                }
                [b'T', stamp @ ..] if stamp.iter().all(u8::is_ascii_digit) => {}
                _ => return None,
            }
        }
        (rest.is_empty() && sections <= MAX_SECTIONS).then_some(())
    }

    /// Whether the line holds one value only.
    #[must_use]
    pub fn is_single(&self) -> bool {
        memchr(b':', self.values).is_none()
    }

    /// Passes on the events, one per value, or none and `false` when a value needs the full parser.
    pub fn events(&self, mut each: impl FnMut(Event<'static>)) -> bool {
        if self.is_single() {
            return match self.event(self.values) {
                Some(event) => {
                    each(event);
                    true
                }
                None => false,
            };
        }
        if !self.kind.is_observed()
            || self.values.split(|b| *b == b':').any(|value| self.event(value).is_none())
        {
            return false;
        }
        self.values.split(|b| *b == b':').filter_map(|value| self.event(value)).for_each(each);
        true
    }

    fn event(&self, value: &[u8]) -> Option<Event<'static>> {
        let number = parse_float(value).ok()?;
        let relative = matches!(value.first(), Some(b'+' | b'-'));
        Event::of(self.kind, number, relative, self.rate)
    }
}

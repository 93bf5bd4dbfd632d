//! One line in full: every dialect, every reason for refusing it.

use std::borrow::Cow;

use super::number::{NumberError, parse_float};
use super::tag::{Styles, Tags};

/// Why a line, or one sample of it, was not taken: the `reason` label of `sample_errors_total`.
///
/// ```
/// # use metrics_adapter::statsd::{Event, Notice, Observer, Parser, Tags, Type};
/// #
/// # /// Keeps what a line holds as text.
/// # #[derive(Default)]
/// # struct Lines(Vec<String>);
/// #
/// # impl Observer for Lines {
/// #     fn event(&mut self, name: &str, tags: &Tags<'_>, kind: Type, event: Event<'_>) {
/// #         let tags: Vec<_> = tags.iter().collect();
/// #         self.0.push(format!("{name} {tags:?} {kind:?} {event:?}"));
/// #     }
/// #
/// #     fn notice(&mut self, notice: Notice) {
/// #         self.0.push(format!("{notice:?}"));
/// #     }
/// # }
/// use metrics_adapter::statsd::Reason;
///
/// let mut lines = Lines::default();
/// Parser::default().read(b"hits:many|c", &mut lines);
/// assert!(lines.0.contains(&format!("{:?}", Notice::Rejected(Reason::MalformedValue))));
/// assert_eq!(Reason::MalformedValue.as_str(), "malformed_value");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No colon, no name, or not UTF-8.
    MalformedLine,
    /// Tags both in the name and after the type.
    MixedTaggingStyles,
    /// No `|` after the first colon.
    NotEnoughPartsAfterColon,
    /// Several values for a type other than `ms`, `h` and `d`.
    InvalidExtendedAggregateType,
    /// Too few or too many sections, or an empty one.
    MalformedComponent,
    /// Not a number.
    MalformedValue,
    /// A bad `@` rate, or a section of unknown kind.
    InvalidSampleFactor,
    /// `c:` without an id.
    MalformedContainerId,
    /// Unknown type.
    IllegalEvent,
}

impl Reason {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 9] = [
        Self::MalformedLine,
        Self::MixedTaggingStyles,
        Self::NotEnoughPartsAfterColon,
        Self::InvalidExtendedAggregateType,
        Self::MalformedComponent,
        Self::MalformedValue,
        Self::InvalidSampleFactor,
        Self::MalformedContainerId,
        Self::IllegalEvent,
    ];

    /// The label value.
    ///
    /// ```
    /// use metrics_adapter::statsd::Reason;
    ///
    /// assert_eq!(Reason::IllegalEvent.as_str(), "illegal_event");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedLine => "malformed_line",
            Self::MixedTaggingStyles => "mixed_tagging_styles",
            Self::NotEnoughPartsAfterColon => "not_enough_parts_after_colon",
            Self::InvalidExtendedAggregateType => "invalid_extended_aggregate_type",
            Self::MalformedComponent => "malformed_component",
            Self::MalformedValue => "malformed_value",
            Self::InvalidSampleFactor => "invalid_sample_factor",
            Self::MalformedContainerId => "malformed_container_id",
            Self::IllegalEvent => "illegal_event",
        }
    }
}

/// The type letters of a sample.
///
/// ```
/// use metrics_adapter::statsd::Type;
///
/// assert_eq!(Type::read(b"ms"), Some(Type::Timer));
/// assert!(Type::Timer.is_observed() && !Type::Counter.is_observed());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// `c`
    Counter,
    /// `g`
    Gauge,
    /// `ms`: milliseconds, turned into seconds.
    Timer,
    /// `h` and `d`: a value as it is.
    Distribution,
    /// `s`: members of a set.
    Set,
}

impl Type {
    /// Reads the section between the first and second `|`.
    ///
    /// ```
    /// use metrics_adapter::statsd::Type;
    ///
    /// assert_eq!(Type::read(b"x"), None);
    /// ```
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        match text {
            b"c" => Some(Self::Counter),
            b"g" => Some(Self::Gauge),
            b"ms" => Some(Self::Timer),
            b"h" | b"d" => Some(Self::Distribution),
            b"s" => Some(Self::Set),
            _ => None,
        }
    }

    /// Whether it ends in a summary or histogram.
    ///
    /// ```
    /// assert!(metrics_adapter::statsd::Type::Distribution.is_observed());
    /// ```
    #[must_use]
    pub const fn is_observed(self) -> bool {
        matches!(self, Self::Timer | Self::Distribution)
    }
}

/// What one sample does to its series.
///
/// ```
/// use metrics_adapter::statsd::{Event, Type};
///
/// // `hits:2|c|@0.1`
/// assert_eq!(Event::of(Type::Counter, 2.0, false, 0.1), Some(Event::Count(20.0)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// Adds to a counter.
    Count(f64),
    /// Sets a gauge.
    Set(f64),
    /// Moves a gauge.
    Move(f64),
    /// Observes a value a number of times.
    Observe(f64, u64),
    /// Adds a member to a set.
    Member(&'a [u8]),
}

impl Event<'_> {
    /// Builds the event of a parsed number. `rate` is 1 when the line had none.
    ///
    /// ```
    /// use metrics_adapter::statsd::{Event, Type};
    ///
    /// assert_eq!(Event::of(Type::Gauge, -1.0, true, 1.0), Some(Event::Move(-1.0)));
    /// assert_eq!(Event::of(Type::Timer, 250.0, false, 1.0), Some(Event::Observe(0.25, 1)), "in seconds");
    /// ```
    #[must_use]
    pub fn of(kind: Type, value: f64, relative: bool, rate: f64) -> Option<Self> {
        match kind {
            Type::Counter => Some(Event::Count(value / rate)),
            Type::Gauge if relative => Some(Event::Move(value)),
            Type::Gauge => Some(Event::Set(value)),
            Type::Timer => Some(Event::Observe(value / 1000.0, repetitions(rate))),
            Type::Distribution => Some(Event::Observe(value, repetitions(rate))),
            Type::Set => None,
        }
    }
}

/// How often an observation sampled at this rate counts: `1 / rate` without its fraction.
///
/// Negative rates, and rates so small that the quotient is no 64-bit integer, count as none.
fn repetitions(rate: f64) -> u64 {
    let times = 1.0 / rate;
    if times >= 9_223_372_036_854_775_808.0 { 0 } else { times as u64 }
}

/// Something worth counting that is not a sample.
///
/// ```
/// # use metrics_adapter::statsd::{Event, Notice, Observer, Parser, Tags, Type};
/// #
/// # /// Keeps what a line holds as text.
/// # #[derive(Default)]
/// # struct Lines(Vec<String>);
/// #
/// # impl Observer for Lines {
/// #     fn event(&mut self, name: &str, tags: &Tags<'_>, kind: Type, event: Event<'_>) {
/// #         let tags: Vec<_> = tags.iter().collect();
/// #         self.0.push(format!("{name} {tags:?} {kind:?} {event:?}"));
/// #     }
/// #
/// #     fn notice(&mut self, notice: Notice) {
/// #         self.0.push(format!("{notice:?}"));
/// #     }
/// # }
///
/// let mut lines = Lines::default();
/// Parser::default().read(b"_sc|up|0", &mut lines);
/// assert_eq!(lines.0, ["DogstatsdServiceCheck"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A line or sample was refused.
    Rejected(Reason),
    /// A number of tags were skipped.
    TagErrors(u32),
    /// A sample was seen, valid or not.
    Sample,
    /// A valid sample carries tags.
    Tagged,
    /// A DogStatsD event (`_e{…}:`), which has no place in Prometheus.
    DogstatsdEvent,
    /// A DogStatsD service check (`_sc|…`), likewise.
    DogstatsdServiceCheck,
}

/// Receives what a line holds.
///
/// ```
/// use metrics_adapter::statsd::{Event, Notice, Observer, Parser, Tags, Type};
///
/// /// Keeps what a line holds as text.
/// #[derive(Default)]
/// struct Lines(Vec<String>);
///
/// impl Observer for Lines {
///     fn event(&mut self, name: &str, tags: &Tags<'_>, kind: Type, event: Event<'_>) {
///         let tags: Vec<_> = tags.iter().collect();
///         self.0.push(format!("{name} {tags:?} {kind:?} {event:?}"));
///     }
///
///     fn notice(&mut self, notice: Notice) {
///         self.0.push(format!("{notice:?}"));
///     }
/// }
///
/// let mut lines = Lines::default();
/// Parser::default().read(b"hits:2|c|#shop:corner", &mut lines);
/// assert!(lines.0.contains(&"hits [(\"shop\", \"corner\")] Counter Count(2.0)".to_owned()));
/// ```
pub trait Observer {
    /// One sample. `repeated` samples of one line share name and tags.
    fn event(&mut self, name: &str, tags: &Tags<'_>, kind: Type, event: Event<'_>);
    /// One thing to count.
    fn notice(&mut self, notice: Notice);
}

/// Parser of whole lines; holds only its switches.
///
/// ```
/// # use metrics_adapter::statsd::{Event, Notice, Observer, Parser, Tags, Type};
/// #
/// # /// Keeps what a line holds as text.
/// # #[derive(Default)]
/// # struct Lines(Vec<String>);
/// #
/// # impl Observer for Lines {
/// #     fn event(&mut self, name: &str, tags: &Tags<'_>, kind: Type, event: Event<'_>) {
/// #         let tags: Vec<_> = tags.iter().collect();
/// #         self.0.push(format!("{name} {tags:?} {kind:?} {event:?}"));
/// #     }
/// #
/// #     fn notice(&mut self, notice: Notice) {
/// #         self.0.push(format!("{notice:?}"));
/// #     }
/// # }
/// use metrics_adapter::statsd::Styles;
///
/// let parser = Parser { styles: Styles { influxdb: false, ..Styles::ALL }, sets: true };
/// let mut lines = Lines::default();
/// parser.read(b"users:7|s", &mut lines);
/// assert!(lines.0.iter().any(|line| line.starts_with("users [] Set Member")));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parser {
    /// Tag dialects to read.
    pub styles: Styles,
    /// Whether sets are taken; otherwise they are [`Reason::IllegalEvent`].
    pub sets: bool,
}

/// Sections (value and type included) of one sample.
pub const MAX_SECTIONS: usize = 6;

impl Parser {
    /// Reads one line, given without its line feed. An empty line holds nothing.
    ///
    /// ```
    /// # use metrics_adapter::statsd::{Event, Notice, Observer, Parser, Tags, Type};
    /// #
    /// # /// Keeps what a line holds as text.
    /// # #[derive(Default)]
    /// # struct Lines(Vec<String>);
    /// #
    /// # impl Observer for Lines {
    /// #     fn event(&mut self, name: &str, tags: &Tags<'_>, kind: Type, event: Event<'_>) {
    /// #         let tags: Vec<_> = tags.iter().collect();
    /// #         self.0.push(format!("{name} {tags:?} {kind:?} {event:?}"));
    /// #     }
    /// #
    /// #     fn notice(&mut self, notice: Notice) {
    /// #         self.0.push(format!("{notice:?}"));
    /// #     }
    /// # }
    ///
    /// let mut lines = Lines::default();
    /// Parser::default().read(b"", &mut lines);
    /// assert!(lines.0.is_empty());
    /// ```
    pub fn read(&self, line: &[u8], out: &mut impl Observer) {
        if line.is_empty() {
            return;
        }
        if self.styles.dogstatsd
            && let Some(notice) = dogstatsd_message(line)
        {
            return out.notice(notice);
        }
        let parts = std::str::from_utf8(line).ok().and_then(|text| text.split_once(':'));
        let Some((raw_name, rest)) = parts.filter(|(name, _)| !name.is_empty()) else {
            return out.notice(Notice::Rejected(Reason::MalformedLine));
        };
        let mut tags = Tags::default();
        let name = tags.read_name(raw_name, self.styles);
        let dogstatsd_tags = rest.contains("|#");
        let outcome = if dogstatsd_tags && !tags.is_empty() {
            Err(Reason::MixedTaggingStyles)
        } else {
            self.samples(&name, &mut tags, rest, dogstatsd_tags, out)
        };
        if tags.errors > 0 {
            out.notice(Notice::TagErrors(tags.errors));
        }
        if let Err(reason) = outcome {
            out.notice(Notice::Rejected(reason));
        }
    }

    fn samples<'a>(
        &self,
        name: &str,
        tags: &mut Tags<'a>,
        rest: &'a str,
        dogstatsd_tags: bool,
        out: &mut impl Observer,
    ) -> Result<(), Reason> {
        let (values, suffix) = rest.split_once('|').ok_or(Reason::NotEnoughPartsAfterColon)?;
        if values.contains(':') {
            let kind = suffix.split('|').next().and_then(|text| Type::read(text.as_bytes()));
            if !kind.is_some_and(Type::is_observed) {
                return Err(Reason::InvalidExtendedAggregateType);
            }
            for value in values.split(':') {
                self.counted(name, tags, value, Some(suffix), out);
            }
        } else if dogstatsd_tags {
            self.counted(name, tags, values, Some(suffix), out);
        } else {
            for sample in rest.split(':') {
                let (value, suffix) = match sample.split_once('|') {
                    Some((value, suffix)) => (value, Some(suffix)),
                    None => (sample, None),
                };
                self.counted(name, tags, value, suffix, out);
            }
        }
        Ok(())
    }

    fn counted<'a>(
        &self,
        name: &str,
        tags: &mut Tags<'a>,
        value: &'a str,
        suffix: Option<&'a str>,
        out: &mut impl Observer,
    ) {
        out.notice(Notice::Sample);
        let sample =
            suffix.ok_or(Reason::MalformedComponent).and_then(|s| self.sample(name, tags, value, s, out));
        if let Err(reason) = sample {
            out.notice(Notice::Rejected(reason));
        }
    }

    fn sample<'a>(
        &self,
        name: &str,
        tags: &mut Tags<'a>,
        value: &'a str,
        suffix: &'a str,
        out: &mut impl Observer,
    ) -> Result<(), Reason> {
        let mut sections = suffix.split('|');
        let type_text = sections.next().unwrap_or_default();
        if sections.clone().count() + 2 > MAX_SECTIONS {
            return Err(Reason::MalformedComponent);
        }
        let kind = Type::read(type_text.as_bytes()).filter(|kind| self.sets || *kind != Type::Set);
        let member = kind == Some(Type::Set);
        let number =
            if member { 0.0 } else { parse_float(value.as_bytes()).map_err(|_| Reason::MalformedValue)? };
        if (member && value.is_empty()) || sections.clone().any(str::is_empty) {
            return Err(Reason::MalformedComponent);
        }
        let mut rate = 1.0;
        for section in sections {
            match section.as_bytes()[0] {
                b'@' => rate = self.rate(&section[1..], kind, rate, out),
                b'#' if self.styles.dogstatsd => tags.read_dogstatsd(&section[1..]),
                b'#' | b'T' => {}
                b'c' => match section.strip_prefix("c:") {
                    Some(id) if !id.is_empty() => tags.set(Cow::Borrowed("container_id"), Cow::Borrowed(id)),
                    _ => return Err(Reason::MalformedContainerId),
                },
                _ => return Err(Reason::InvalidSampleFactor),
            }
        }
        if !tags.is_empty() {
            out.notice(Notice::Tagged);
        }
        let kind = kind.ok_or(Reason::IllegalEvent)?;
        let relative = value.starts_with(['+', '-']);
        let event = Event::of(kind, number, relative, rate).unwrap_or(Event::Member(value.as_bytes()));
        out.event(name, tags, kind, event);
        Ok(())
    }

    /// The rate to go on with: counters divide by each one given, of observations the last one counts.
    fn rate(&self, text: &str, kind: Option<Type>, so_far: f64, out: &mut impl Observer) -> f64 {
        let given = sample_rate(text.as_bytes());
        if given.is_none() {
            out.notice(Notice::Rejected(Reason::InvalidSampleFactor));
        }
        let given = given.unwrap_or(if parse_float(text.as_bytes()) == Err(NumberError::Range) {
            f64::INFINITY
        } else {
            1.0
        });
        if kind == Some(Type::Counter) { so_far * given } else { given }
    }
}

/// Reads what follows `@`; zero means one. `None` for what is not a number.
#[must_use]
pub fn sample_rate(text: &[u8]) -> Option<f64> {
    parse_float(text).ok().map(|rate| if rate == 0.0 { 1.0 } else { rate })
}

/// Recognizes the two DogStatsD messages that are no metrics.
fn dogstatsd_message(line: &[u8]) -> Option<Notice> {
    if line.starts_with(b"_sc|") {
        return Some(Notice::DogstatsdServiceCheck);
    }
    let lengths = line.strip_prefix(b"_e{")?;
    let close = memchr::memchr(b'}', lengths)?;
    let numbers = lengths[..close].iter().all(|b| b.is_ascii_digit() || *b == b',');
    (numbers && lengths.get(close + 1) == Some(&b':')).then_some(Notice::DogstatsdEvent)
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;

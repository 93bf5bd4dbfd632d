//! Tags: in the name (SignalFX, Librato, InfluxDB) and after the type (DogStatsD).

use std::borrow::Cow;

use super::escape::escape_name;

/// Which tag dialects are read.
///
/// ```
/// use metrics_adapter::statsd::Styles;
///
/// assert_eq!(Styles::default(), Styles::ALL);
/// let only_dogstatsd = Styles { dogstatsd: true, ..Styles::NONE };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Styles {
    /// `name:1|c|#key:value,key:value`
    pub dogstatsd: bool,
    /// `name,key=value:1|c`
    pub influxdb: bool,
    /// `name#key=value:1|c`
    pub librato: bool,
    /// `name[key=value]:1|c`
    pub signalfx: bool,
}

impl Styles {
    /// All of them, the default.
    pub const ALL: Self = Self { dogstatsd: true, influxdb: true, librato: true, signalfx: true };
    /// None of them.
    pub const NONE: Self = Self { dogstatsd: false, influxdb: false, librato: false, signalfx: false };
}

impl Default for Styles {
    fn default() -> Self {
        Self::ALL
    }
}

/// Tags of one line. A later tag replaces an earlier one of the same key.
///
/// ```
/// use metrics_adapter::statsd::{Styles, Tags};
///
/// let mut tags = Tags::default();
/// assert_eq!(tags.read_name("hits,shop=corner", Styles::ALL), "hits");
/// tags.read_dogstatsd("till:2");
/// tags.set("zone".into(), "a".into());
/// tags.sort();
/// assert_eq!(tags.iter().next(), Some(("shop", "corner")));
/// assert_eq!(tags.value("till"), Some("2"));
/// assert!(!tags.is_empty() && tags.errors == 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Tags that were skipped: no key, no value, or one too many.
    pub errors: u32,
}

/// Tags kept per line; more are counted as errors. Bounds the work of one line.
pub const MAX_TAGS: usize = 1000;

impl<'a> Tags<'a> {
    /// Whether no tag was kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The value of a (escaped) key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| k == key).map(|(_, v)| &**v)
    }

    /// Escaped keys and their values, in the order they were first seen.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(k, v)| (&**k, &**v))
    }

    /// Sets a tag whose key is already a legal label name.
    pub fn set(&mut self, key: Cow<'a, str>, value: Cow<'a, str>) {
        let full = self.pairs.len() >= MAX_TAGS;
        match self.pairs.iter_mut().find(|(k, _)| *k == key) {
            Some(pair) => pair.1 = value,
            None if full => self.errors += 1,
            None => self.pairs.push((key, value)),
        }
    }

    /// Sorts by key, as series are identified and written.
    pub fn sort(&mut self) {
        self.pairs.sort_unstable();
    }

    fn add(&mut self, tag: &'a str, separator: char) {
        match tag.split_once(separator) {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                self.set(escape_name(key), Cow::Borrowed(value));
            }
            _ => self.errors += 1,
        }
    }

    fn add_all(&mut self, section: &'a str, separator: char, strip: Option<char>) {
        if section.is_empty() {
            return;
        }
        // An empty last piece is a trailing comma, not a tag.
        for tag in section.strip_suffix(',').unwrap_or(section).split(',') {
            self.add(strip.and_then(|c| tag.strip_prefix(c)).unwrap_or(tag), separator);
        }
    }

    /// Reads a DogStatsD tag section, given without its leading `#`.
    pub fn read_dogstatsd(&mut self, section: &'a str) {
        self.add_all(section, ':', Some('#'));
    }

    /// Splits tags off a name and returns what is left of it.
    pub fn read_name(&mut self, name: &'a str, styles: Styles) -> Cow<'a, str> {
        if styles.signalfx {
            match (name.find('['), name.find(']')) {
                (Some(open), Some(close)) if open < close => {
                    self.add_all(&name[open + 1..close], '=', None);
                    let (head, tail) = (&name[..open], &name[close + 1..]);
                    return if tail.is_empty() {
                        Cow::Borrowed(head)
                    } else {
                        Cow::Owned([head, tail].concat())
                    };
                }
                (None, None) => {}
                _ => {
                    self.errors += 1;
                    return Cow::Borrowed(name);
                }
            }
        }
        let starts_tags = |c: char| (c == '#' && styles.librato) || (c == ',' && styles.influxdb);
        match name.find(starts_tags) {
            Some(at) => {
                self.add_all(&name[at + 1..], '=', None);
                Cow::Borrowed(&name[..at])
            }
            None => Cow::Borrowed(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_tags(name: &str) -> (String, Vec<(String, String)>, u32) {
        let mut tags = Tags::default();
        let rest = tags.read_name(name, Styles::ALL).into_owned();
        (rest, tags.iter().map(|(k, v)| (k.into(), v.into())).collect(), tags.errors)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn name_dialects() {
        let both = pairs(&[("tag1", "bar"), ("tag2", "baz")]);
        assert_eq!(name_tags("foo#tag1=bar,tag2=baz"), ("foo".into(), both.clone(), 0));
        assert_eq!(name_tags("foo,tag1=bar,tag2=baz"), ("foo".into(), both.clone(), 0));
        assert_eq!(name_tags("foo[tag1=bar,tag2=baz]"), ("foo".into(), both.clone(), 0));
        assert_eq!(name_tags("foo[tag1=bar,tag2=baz]test"), ("footest".into(), both.clone(), 0));
        assert_eq!(name_tags("[tag1=bar,tag2=baz]foo"), ("foo".into(), both, 0));
        assert_eq!(name_tags("foo[tag1=bar"), ("foo[tag1=bar".into(), vec![], 1));
        assert_eq!(name_tags("foo]tag1=[bar"), ("foo]tag1=[bar".into(), vec![], 1));
        assert_eq!(name_tags("foo,tag1=,=x,y,z=1,"), ("foo".into(), pairs(&[("z", "1")]), 3));
        assert_eq!(name_tags("foo,a.b=1,a_b=2"), ("foo".into(), pairs(&[("a_b", "2")]), 0));
    }

    #[test]
    fn dogstatsd_tags() {
        let mut tags = Tags::default();
        tags.read_dogstatsd("a:b,#c:d:e,f,g:,:h,,");
        assert_eq!(tags.iter().collect::<Vec<_>>(), [("a", "b"), ("c", "d:e")]);
        assert_eq!(tags.errors, 4);
    }

    #[test]
    fn a_flood_of_tags_is_bounded() {
        let line: Vec<String> = (0..20_000).map(|n| format!("k{n}:v")).collect();
        let line = line.join(",");
        let mut tags = Tags::default();
        tags.read_dogstatsd(&line);
        assert_eq!(tags.iter().count(), MAX_TAGS);
        assert_eq!(tags.errors, 19_000);
    }
}

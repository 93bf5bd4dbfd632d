//! What becomes of a line, told in words; and checks of a mapping that people keep beside it.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use crate::exposition::{Format, page};
use crate::family::store::{Index, Limits, Store, StoreWalk};
use crate::ingest::{Ingest, Options};
use crate::mapping::{Action, Mapping, Problem};
use crate::statsd::{Event, Notice, Observer, Parser, Tags, Type};
use crate::yaml::At;

/// The way of a line from its bytes to its samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What the parser found and which rule each event met, a sentence each.
    pub steps: Vec<String>,
    /// The resulting page without comments, a sample each.
    pub samples: Vec<String>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))?;
        if self.samples.is_empty() {
            return writeln!(f, "no sample");
        }
        self.samples.iter().try_for_each(|sample| writeln!(f, "  {sample}"))
    }
}

/// Follows the lines of a packet through parser, mapping and store.
#[must_use]
pub fn explain(packet: &[u8], mapping: Mapping, options: Options) -> Told {
    let mapping = Arc::new(mapping);
    let mut told = Told::default();
    let parser = Parser { styles: options.styles, sets: options.set_window > 0 };
    for line in packet.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        told.steps.push(format!("line `{}`", String::from_utf8_lossy(line)));
        parser.read(line, &mut Teller { mapping: &mapping, steps: &mut told.steps });
    }
    told.samples = samples(packet, mapping, options, &mut told.steps);
    told
}

fn samples(packet: &[u8], mapping: Arc<Mapping>, options: Options, steps: &mut Vec<String>) -> Vec<String> {
    let text = page(&mut stored(packet, mapping, options, steps), Format::Text);
    let text = String::from_utf8_lossy(&text);
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// A packet on an empty store; adds what the store refused to `steps`.
pub(crate) fn stored(
    packet: &[u8],
    mapping: Arc<Mapping>,
    options: Options,
    steps: &mut Vec<String>,
) -> StoreWalk {
    let limits = Limits { series: usize::MAX, bytes: usize::MAX };
    let store = Arc::new(Mutex::new(Store::new(limits, &[])));
    let mut ingest = Ingest::new(options, mapping);
    ingest.packet(&mut store.lock().unwrap_or_else(PoisonError::into_inner), packet, 0);
    let counts = &ingest.counts;
    let conflicts = counts.conflicts.iter().map(|(kind, name, _)| {
        format!(
            "refused: `{name}` exists with another type, or as a part of one, so no {} can have it",
            kind.as_str()
        )
    });
    steps.extend(conflicts);
    for (number, what) in [
        (counts.empty_names, "refused: the name came out empty"),
        (counts.negative_counters, "refused: a counter cannot go down"),
        (
            counts.reserved_labels,
            "refused: a label name is reserved (`__…`, `le` of a histogram, `quantile` of a summary)",
        ),
    ] {
        steps.extend((number > 0).then(|| what.to_owned()));
    }
    let entries = Index::default().refresh(&store);
    StoreWalk::new(store, entries, 0, Arc::new(AtomicUsize::new(0)))
}

struct Teller<'a> {
    mapping: &'a Mapping,
    steps: &'a mut Vec<String>,
}

impl Observer for Teller<'_> {
    fn event(&mut self, name: &str, tags: &Tags<'_>, kind: Type, event: Event<'_>) {
        let what = match event {
            Event::Count(value) => format!("count {value}"),
            Event::Set(value) => format!("gauge set to {value}"),
            Event::Move(value) => format!("gauge moved by {value}"),
            Event::Observe(value, 1) => format!("observation of {value}"),
            Event::Observe(value, times) => format!("{times} observations of {value}"),
            Event::Member(member) => format!("set member `{}`", String::from_utf8_lossy(member)),
        };
        let tags: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let tags = if tags.is_empty() { "no tags".to_owned() } else { format!("tags {}", tags.join(", ")) };
        self.steps.push(format!("event: `{name}`, {what}, {tags}"));
        let Some(mapped) = self.mapping.find(name, kind.into()) else {
            return self.steps.push("rule: none matches, the name is escaped".to_owned());
        };
        let rule = &self.mapping.rules[mapped.rule];
        let outcome = match rule.action {
            Action::Drop => "drops it".to_owned(),
            Action::Map => format!("names it `{}`", mapped.name),
        };
        self.steps.push(format!("rule: line {} (`{}`) {outcome}", rule.line, rule.text));
    }

    fn notice(&mut self, notice: Notice) {
        let sentence = match notice {
            Notice::Rejected(reason) => format!("refused: {}", reason.as_str()),
            Notice::TagErrors(number) => format!("tags skipped: {number}"),
            Notice::DogstatsdEvent => "a DogStatsD event, counted and left alone".to_owned(),
            Notice::DogstatsdServiceCheck => "a DogStatsD service check, counted and left alone".to_owned(),
            Notice::Sample | Notice::Tagged => return,
        };
        self.steps.push(sentence);
    }
}

/// Lines and the samples they are to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// Its line in the file, from 1.
    pub line: u64,
    /// Lines, sent as one packet to an empty store.
    pub lines: Vec<String>,
    /// Exactly the samples of the page afterwards, in any order and with labels in any order.
    pub expect: Vec<String>,
}

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed {
        /// Samples that were expected and are not there.
        missing: Vec<String>,
        /// Samples that are there and were not expected.
        unexpected: Vec<String>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tests: Vec<FileCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCase {
    name: Option<String>,
    lines: At<Vec<String>>,
    #[serde(default)]
    expect: Vec<String>,
}

/// Reads a file of cases: `tests: [{name, lines: [...], expect: [...]}]`.
///
/// # Errors
/// What is wrong, and in which line.
pub fn read_cases(text: &str) -> Result<Vec<Case>, Problem> {
    let file = crate::yaml::from_str::<File>(text, crate::yaml::Options::default())?;
    let case = |(index, case): (usize, FileCase)| Case {
        name: case.name.unwrap_or_else(|| format!("case {}", index + 1)),
        line: case.lines.line,
        lines: case.lines.value,
        expect: case.expect,
    };
    Ok(file.tests.into_iter().enumerate().map(case).collect())
}

/// Runs one case on an empty store.
#[must_use]
pub fn check(case: &Case, mapping: Mapping, options: Options) -> Check {
    let packet = case.lines.join("\n");
    let samples = samples(packet.as_bytes(), Arc::new(mapping), options, &mut Vec::new());
    compare(&samples, &case.expect)
}

/// Whether these are the expected samples, whatever the order of samples and labels.
pub(crate) fn compare(samples: &[String], expected: &[String]) -> Check {
    let normal = |samples: &[String]| {
        let mut samples: Vec<String> = samples.iter().map(|sample| normalized(sample)).collect();
        samples.sort();
        samples
    };
    let (there, expected) = (normal(samples), normal(expected));
    if there == expected {
        return Check::Passed;
    }
    let only =
        |these: &[String], not: &[String]| these.iter().filter(|s| !not.contains(s)).cloned().collect();
    Check::Failed { missing: only(&expected, &there), unexpected: only(&there, &expected) }
}

/// A sample with its labels sorted and its value written the usual way.
fn normalized(sample: &str) -> String {
    let (series, value) = sample.trim().rsplit_once(' ').unwrap_or((sample, ""));
    let value = match value.parse::<f64>() {
        Ok(number) => {
            let mut text = Vec::new();
            crate::exposition::write_float(&mut text, number);
            String::from_utf8_lossy(&text).into_owned()
        }
        Err(_) => value.to_owned(),
    };
    let Some((name, labels)) = series.trim().strip_suffix('}').and_then(|series| series.split_once('{'))
    else {
        return format!("{} {value}", series.trim());
    };
    let mut labels = split_labels(labels);
    labels.sort_unstable();
    match labels.is_empty() {
        true => format!("{name} {value}"),
        false => format!("{name}{{{}}} {value}", labels.join(",")),
    }
}

/// Splits at commas outside of quotes.
fn split_labels(text: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|c| {
        match c {
            '"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        c == ',' && !quoted
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPING: &str = "mappings:\n- match: a.*\n  name: a\n  labels:\n    part: $1\n- match: d.*\n  name: d\n  action: drop\n";

    fn tell(line: &str) -> String {
        explain(line.as_bytes(), Mapping::parse(MAPPING).unwrap(), Options::default()).to_string()
    }

    #[test]
    fn the_way_of_a_line() {
        let told = tell("a.b:2|c|@0.5|#env:prod");
        assert_eq!(
            told,
            "line `a.b:2|c|@0.5|#env:prod`\nevent: `a.b`, count 4, tags env=prod\n\
             rule: line 2 (`a.*`) names it `a`\n  a{env=\"prod\",part=\"b\"} 4\n"
        );
        assert!(tell("d.x:1|c").contains("drops it\nno sample"));
        assert!(tell("x:1|c|@x|y").contains("refused: invalid_sample_factor"));
        assert!(tell("x:1|g\nx:1|c").contains("refused: `x` exists with another type"));
        assert!(tell("x:-1|c").contains("cannot go down"));
        assert!(tell("_sc|x|0").contains("service check"));
    }

    #[test]
    fn cases_pass_and_fail() {
        let text = "tests:\n- name: counts\n  lines: [\"a.b:1|c|#z:1,y:a\\\\,b\", \"x:5|g\"]\n  expect:\n  - 'a{z=\"1\", part=\"b\"} 1.0'\n  - x 5\n\
                    - lines: [\"a.b:1|c\"]\n  expect: [\"a 1\"]\n";
        let cases = read_cases(text).unwrap();
        let run = |case| check(case, Mapping::parse(MAPPING).unwrap(), Options::default());
        assert_eq!(
            run(&cases[1]),
            Check::Failed { missing: vec!["a 1".into()], unexpected: vec!["a{part=\"b\"} 1".into()] }
        );
        assert_eq!((&*cases[1].name, cases[1].line), ("case 2", 7));
        let good =
            read_cases("tests:\n- lines: [\"a.b:1|c|#z:1\"]\n  expect: ['a{z=\"1\", part=\"b\"} 1.0']\n")
                .unwrap();
        assert_eq!(run(&good[0]), Check::Passed);
        assert_eq!(read_cases("test: []").unwrap_err().line, Some(1));
    }
}

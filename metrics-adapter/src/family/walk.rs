//! Streaming families to a writer in bounded steps, in name order.

use super::{Family, Kind, Labels, Sample, Value};

/// Receives families and samples; the exposition writers implement it.
pub trait Visitor {
    /// A family starts; the samples that follow belong to it.
    fn family(&mut self, name: &str, help: &str, kind: Kind);
    /// One sample of the family that started last.
    fn sample(&mut self, labels: Labels<'_>, value: &Value);
}

/// One scrape's worth of families, in ascending order of their names, given out in bounded pieces.
///
/// Between two steps no lock is held, so a slow reader of the page cannot stall whoever updates the samples.
pub trait Walk: Send {
    /// The family the next step starts or continues; `None` at the end.
    fn peek(&self) -> Option<&str>;
    /// Passes on the next piece (a family's head when it starts, then some of its samples).
    ///
    /// A step never crosses into the next family, and does nothing at the end.
    fn step(&mut self, out: &mut dyn Visitor);
}

/// Samples passed on per step.
const SAMPLES_PER_STEP: usize = 512;

/// Families already in memory.
#[derive(Debug)]
pub struct Families {
    families: std::vec::IntoIter<Family>,
    current: Option<Family>,
    written: usize,
}

impl Families {
    /// Sorts the families by name and their samples by label values.
    #[must_use]
    pub fn sorted(mut families: Vec<Family>) -> Self {
        families.sort_by(|a, b| a.name.cmp(&b.name));
        for family in &mut families {
            family.samples.sort_by(|one, two| {
                let values = |sample: &'_ Sample| sample.labels.iter().count();
                let counts = values(one).cmp(&values(two));
                counts.then_with(|| one.labels.iter().map(|(_, v)| v).cmp(two.labels.iter().map(|(_, v)| v)))
            });
        }
        let mut families = families.into_iter();
        let current = families.next();
        Self { families, current, written: 0 }
    }
}

impl Walk for Families {
    fn peek(&self) -> Option<&str> {
        self.current.as_ref().map(|family| family.name.as_str())
    }

    fn step(&mut self, out: &mut dyn Visitor) {
        let Some(family) = &self.current else { return };
        if self.written == 0 {
            out.family(&family.name, &family.help, family.kind);
        }
        let end = family.samples.len().min(self.written + SAMPLES_PER_STEP);
        for sample in &family.samples[self.written..end] {
            out.sample(sample.labels.labels(), &sample.value);
        }
        if end == family.samples.len() {
            self.current = self.families.next();
            self.written = 0;
        } else {
            self.written = end;
        }
    }
}

/// Several walks as one, in name order. Of two families with one name the earlier walk's wins.
pub struct Merge {
    walks: Vec<Box<dyn Walk>>,
    /// The walk in the middle of a family, and that family's name.
    open: Option<(usize, String)>,
    /// Name of the last family that was passed on completely.
    done: Option<String>,
}

impl Merge {
    /// Earlier walks win where names clash.
    #[must_use]
    pub fn new(walks: Vec<Box<dyn Walk>>) -> Self {
        let mut merge = Self { walks, open: None, done: None };
        merge.choose();
        merge
    }

    fn choose(&mut self) {
        if let Some(done) = &self.done {
            for walk in &mut self.walks {
                while walk.peek() == Some(done) {
                    walk.step(&mut Nowhere);
                }
            }
        }
        let named = self.walks.iter().enumerate().filter_map(|(at, walk)| walk.peek().map(|name| (name, at)));
        self.open = named.min().map(|(name, at)| (at, name.to_owned()));
    }
}

impl Walk for Merge {
    fn peek(&self) -> Option<&str> {
        self.open.as_ref().map(|(_, name)| name.as_str())
    }

    fn step(&mut self, out: &mut dyn Visitor) {
        let Some((at, name)) = &self.open else { return };
        let walk = &mut self.walks[*at];
        walk.step(out);
        if walk.peek() != Some(name) {
            self.done = Some(name.clone());
            self.choose();
        }
    }
}

/// Swallows a family whose name was already taken.
struct Nowhere;

impl Visitor for Nowhere {
    fn family(&mut self, _: &str, _: &str, _: Kind) {}
    fn sample(&mut self, _: Labels<'_>, _: &Value) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Names(Vec<String>, usize);

    impl Visitor for Names {
        fn family(&mut self, name: &str, help: &str, _: Kind) {
            self.0.push(format!("{name} {help}"));
        }
        fn sample(&mut self, _: Labels<'_>, _: &Value) {
            self.1 += 1;
        }
    }

    fn family(name: &str, help: &str, samples: usize) -> Family {
        let mut family = Family::new(name, help, Kind::Gauge);
        (0..samples).for_each(|n| family.push(vec![("n", n.to_string())], 1.0));
        family
    }

    #[test]
    fn merging_sorts_by_name_and_keeps_the_first_of_a_name() {
        let one = Families::sorted(vec![family("c", "one", 2000), family("a", "one", 1)]);
        let two = Families::sorted(vec![family("b", "two", 1), family("c", "two", 3)]);
        let mut merge = Merge::new(vec![Box::new(one), Box::new(two)]);
        let mut names = Names::default();
        while merge.peek().is_some() {
            merge.step(&mut names);
        }
        assert_eq!(names.0, ["a one", "b two", "c one"]);
        assert_eq!(names.1, 2002);
    }
}

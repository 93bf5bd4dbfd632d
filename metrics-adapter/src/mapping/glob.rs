//! Globs of dot-separated components as one tree per metric type.

use std::collections::HashMap;

use super::MetricType;

/// A node: what may come next, and which rule ends here.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) literal: HashMap<Box<str>, usize>,
    pub(super) star: Option<usize>,
    pub(super) rule: Option<usize>,
    /// Components that may still follow.
    shortest: usize,
    longest: usize,
    /// The earliest rule at or below this node.
    earliest: usize,
}

/// All globs of a mapping.
#[derive(Debug)]
pub(super) struct Globs {
    /// The first three are the roots, in the order of [`MetricType::ALL`].
    pub(super) nodes: Vec<Node>,
    unordered: bool,
    backtracking: bool,
    texts: Vec<String>,
}

/// Where a search stands: the node reached, components consumed, captures taken before the last of them.
struct Branch {
    node: usize,
    depth: usize,
    captures: usize,
    /// Whether the last component was taken by a star.
    star: bool,
}

impl Globs {
    pub(super) fn new(unordered: bool) -> Self {
        let root = || Node { shortest: usize::MAX, earliest: usize::MAX, ..Node::default() };
        Self { nodes: vec![root(), root(), root()], unordered, backtracking: false, texts: Vec::new() }
    }

    /// Adds a glob; of equal globs the first keeps its place.
    pub(super) fn add(&mut self, glob: &str, kind: Option<MetricType>, rule: usize) {
        self.texts.push(glob.to_owned());
        let roots =
            MetricType::ALL.iter().enumerate().filter(|(_, known)| kind.is_none_or(|kind| kind == **known));
        let components: Vec<&str> = glob.split('.').collect();
        for root in roots.map(|(root, _)| root).collect::<Vec<_>>() {
            let mut node = root;
            for (depth, component) in components.iter().enumerate() {
                let remaining = components.len() - depth - 1;
                node = self.child(node, component);
                let place = &mut self.nodes[node];
                place.shortest = place.shortest.min(remaining);
                place.longest = place.longest.max(remaining);
                place.earliest = place.earliest.min(rule);
            }
            self.nodes[node].rule.get_or_insert(rule);
        }
    }

    fn child(&mut self, parent: usize, component: &str) -> usize {
        let next = self.nodes.len();
        let place = &mut self.nodes[parent];
        let child = match component {
            "*" => *place.star.get_or_insert(next),
            _ => *place.literal.entry(component.into()).or_insert(next),
        };
        if child == next {
            self.nodes.push(Node { shortest: usize::MAX, earliest: usize::MAX, ..Node::default() });
        }
        child
    }

    /// To be called after the last [`Globs::add`].
    pub(super) fn finish(&mut self) {
        self.backtracking = !self.unordered || needs_backtracking(&self.texts);
    }

    /// The rule for a name, and what its stars stand for.
    pub(super) fn find<'a>(&self, name: &'a str, kind: MetricType) -> Option<(usize, Vec<&'a str>)> {
        let root = MetricType::ALL.iter().position(|known| *known == kind)?;
        if self.nodes[root].star.is_none() && self.nodes[root].literal.is_empty() {
            return None;
        }
        let components: Vec<&str> = name.split('.').collect();
        let mut captures: Vec<&str> = Vec::new();
        let mut best: Option<(usize, Vec<&str>)> = None;
        let mut branches = vec![Branch { node: root, depth: 0, captures: 0, star: false }];
        while let Some(branch) = branches.pop() {
            let hopeless = best.as_ref().is_some_and(|(rule, _)| self.nodes[branch.node].earliest > *rule);
            if branch.depth > 0 && hopeless {
                continue;
            }
            captures.truncate(branch.captures);
            if branch.star {
                captures.push(components[branch.depth - 1]);
            }
            if branch.depth == components.len() {
                let found = self.nodes[branch.node].rule;
                if let Some(rule) = found.filter(|rule| best.as_ref().is_none_or(|(known, _)| rule < known)) {
                    best = Some((rule, captures.clone()));
                    if self.unordered {
                        break;
                    }
                }
                continue;
            }
            self.branch_out(&branch, captures.len(), &components, &mut branches);
        }
        best
    }

    /// Pushes the ways on, the literal one last, so that it is tried first.
    fn branch_out(&self, from: &Branch, captures: usize, components: &[&str], branches: &mut Vec<Branch>) {
        let node = &self.nodes[from.node];
        let left = components.len() - from.depth - 1;
        let fits = |child: &usize| (self.nodes[*child].shortest..=self.nodes[*child].longest).contains(&left);
        let literal = node.literal.get(components[from.depth]).copied().filter(fits);
        let star = node.star.filter(fits).filter(|_| literal.is_none() || self.backtracking);
        let depth = from.depth + 1;
        branches.extend(star.map(|node| Branch { node, depth, captures, star: true }));
        branches.extend(literal.map(|node| Branch { node, depth, captures, star: false }));
    }
}

/// Whether a set of globs without ordering has a rule that a search without backtracking could miss, by the
/// peer's own test: some rule's star competes with another rule of its length, and the rule neither contains
/// nor is contained in one.
fn needs_backtracking(globs: &[String]) -> bool {
    let rules: Vec<Vec<&str>> = globs.iter().map(|glob| glob.split('.').collect()).collect();
    rules.iter().enumerate().any(|(at, rule)| {
        let others = || {
            let same_length =
                |(index, other): &(usize, &Vec<&str>)| *index != at && other.len() == rule.len();
            rules.iter().enumerate().filter(same_length).map(|(_, other)| other)
        };
        let mut stars =
            rule.iter().enumerate().filter(|(_, component)| **component == "*").map(|(star, _)| star);
        stars.any(|star| others().any(|other| other[..star] == rule[..star]))
            && !others().any(|other| contains(rule, other) || contains(other, rule))
    })
}

/// Whether every name that `inner` matches is matched by `outer`, too.
pub(super) fn contains(outer: &[&str], inner: &[&str]) -> bool {
    outer.len() == inner.len()
        && outer.iter().zip(inner).all(|(outer, inner)| *outer == "*" || outer == inner)
}

/// Whether a glob is well-formed: components of `*` or words whose dashes stand alone inside, the first word
/// not starting with a digit.
pub(super) fn is_glob(text: &str) -> bool {
    text.split('.').enumerate().all(|(at, component)| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let word = component.split('-').all(|part| !part.is_empty() && part.bytes().all(plain));
        component == "*" || (word && (at > 0 || !component.starts_with(|c: char| c.is_ascii_digit())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(unordered: bool, rules: &[&str]) -> Globs {
        let mut globs = Globs::new(unordered);
        rules.iter().enumerate().for_each(|(index, rule)| globs.add(rule, None, index));
        globs.finish();
        globs
    }

    fn find(globs: &Globs, name: &str) -> Option<(usize, String)> {
        globs.find(name, MetricType::Counter).map(|(rule, captures)| (rule, captures.join("|")))
    }

    #[test]
    fn the_earliest_rule_wins() {
        let ordered = globs(false, &["a.*.*", "a.b.*", "*.b.c", "x.y", "x", "a.b.*"]);
        assert_eq!(find(&ordered, "a.b.c"), Some((0, "b|c".into())));
        assert_eq!(find(&ordered, "z.b.c"), Some((2, "z".into())));
        assert_eq!(find(&ordered, "x"), Some((4, String::new())));
        assert_eq!(find(&ordered, "x.y"), Some((3, String::new())));
        assert_eq!(find(&ordered, "a..c"), Some((0, "|c".into())));
        assert_eq!(find(&ordered, "a.b"), None);
        assert_eq!(find(&ordered, "a.b.c.d"), None);
        assert_eq!(find(&globs(false, &["*.dummy.*", "full.name.*"]), "full.name.x"), Some((1, "x".into())));
    }

    #[test]
    fn without_ordering_literals_win_from_the_left() {
        let unordered = globs(true, &["noorder.*.*", "noorder.*.bbb", "noorder.ccc.bbb"]);
        assert_eq!(find(&unordered, "noorder.good.bbb"), Some((1, "good".into())));
        assert_eq!(find(&unordered, "noorder.ccc.bbb"), Some((2, String::new())));
        let backtracking = globs(true, &["backtrack.*.bbb", "backtrack.justatest.aaa"]);
        assert!(backtracking.backtracking);
        assert_eq!(find(&backtracking, "backtrack.justatest.bbb"), Some((0, "justatest".into())));
        // The peer does not look back here, since `*.*.*` contains every other rule.
        let blind = globs(true, &["a.*.c", "a.b.d", "*.*.*"]);
        assert!(!blind.backtracking);
        assert_eq!(find(&blind, "a.b.c"), None);
    }

    #[test]
    fn types_have_their_own_trees() {
        let mut globs = Globs::new(false);
        globs.add("a.*", Some(MetricType::Gauge), 0);
        globs.add("a.b", None, 1);
        globs.finish();
        assert_eq!(find(&globs, "a.b"), Some((1, String::new())));
        assert_eq!(globs.find("a.b", MetricType::Gauge).unwrap().0, 0);
        assert!(globs.find("a.c", MetricType::Counter).is_none());
    }

    #[test]
    fn well_formed_globs() {
        for good in ["a", "*", "a.*", "*.*", "a-b.c_d.0e.*", "_x.9"] {
            assert!(is_glob(good), "{good}");
        }
        for bad in
            ["", "a.", ".a", "0a.b", "bad--metric-line.*", "a*.b", "a.b*", "-a", "a-", "a b", "a.**", "é.a"]
        {
            assert!(!is_glob(bad), "{bad}");
        }
    }
}

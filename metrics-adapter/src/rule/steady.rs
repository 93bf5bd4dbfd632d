//! Finds leaves whose outcome is the same whatever their value, so that rules are applied to them once.
//!
//! A rule sees the value behind `: `. For a number or a boolean it cannot tell values apart when no match of its
//! pattern can end inside of the value: then neither whether it matches, nor what its groups hold depend on
//! it. The patterns' automata run over the input up to the value, and then over everything that a number or
//! boolean can look like, as in [`super::prune`].

use std::collections::HashSet;

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::{Anchored, Input, MatchKind};

use super::prune::{MAX_CACHE_BYTES, MAX_STATES, VALUE_BYTES};

/// The automata of the patterns that can be judged.
#[derive(Debug)]
pub(super) struct Judge {
    dfa: DFA,
    /// Rule index of each pattern.
    rules: Vec<usize>,
}

impl Judge {
    /// From rule indexes and translated patterns. Patterns that look around themselves, except for the start
    /// of the text, are left out: they may see the value without holding any of it.
    pub(super) fn new(sources: &[(usize, &str)]) -> Option<Self> {
        let syntax = regex_automata::util::syntax::Config::new();
        let mut rules = Vec::new();
        let mut patterns = Vec::new();
        for (rule, source) in sources {
            let pattern = format!("(?:{source})");
            let hir = regex_automata::util::syntax::parse_with(&pattern, &syntax).ok()?;
            let looks = hir.properties().look_set();
            if looks.iter().all(|look| matches!(look.as_char(), 'A')) {
                rules.push(*rule);
                patterns.push(pattern);
            }
        }
        if patterns.is_empty() {
            return None;
        }
        let config = DFA::config().match_kind(MatchKind::All);
        let dfa = DFA::builder().configure(config).syntax(syntax).build_many(&patterns).ok()?;
        Some(Self { dfa, rules })
    }

    pub(super) fn cache(&self) -> Cache {
        self.dfa.create_cache()
    }

    /// The rules with a pattern that cannot tell values behind `input` apart; `None` when that is too much to
    /// find out.
    pub(super) fn blind(&self, cache: &mut Cache, input: &str) -> Option<HashSet<usize>> {
        if cache.clear_count() > 0 || cache.memory_usage() > MAX_CACHE_BYTES {
            cache.reset(&self.dfa);
        }
        let start = Input::new(input).anchored(Anchored::No);
        let mut state = self.dfa.start_state_forward(cache, &start).ok()?;
        for byte in input.bytes() {
            state = self.step(cache, state, byte)?;
        }
        let mut blind: HashSet<usize> = self.rules.iter().copied().collect();
        // A match shows one byte late: behind the first byte of a value it ended in front of it.
        let mut seen = HashSet::new();
        let mut open = vec![state];
        let mut first = true;
        while let Some(state) = open.pop() {
            if !first {
                let end = self.dfa.next_eoi_state(cache, state).ok()?;
                self.strike(cache, end, &mut blind);
            }
            for byte in VALUE_BYTES {
                let next = self.step(cache, state, *byte)?;
                if !first {
                    self.strike(cache, next, &mut blind);
                }
                if !next.is_dead() && seen.insert(next) {
                    open.push(next);
                }
            }
            first = false;
            if seen.len() > MAX_STATES || cache.clear_count() > 0 {
                return None;
            }
        }
        Some(blind)
    }

    fn strike(&self, cache: &Cache, state: LazyStateID, blind: &mut HashSet<usize>) {
        if state.is_match() {
            for index in 0..self.dfa.match_len(cache, state) {
                blind.remove(&self.rules[self.dfa.match_pattern(cache, state, index).as_usize()]);
            }
        }
    }

    fn step(&self, cache: &mut Cache, state: LazyStateID, byte: u8) -> Option<LazyStateID> {
        let next = self.dfa.next_state(cache, state, byte).ok()?;
        (!next.is_quit()).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::java_regex::JavaRegex;
    use proptest::prelude::*;

    fn is_blind(pattern: &str, input: &str) -> bool {
        let regex = JavaRegex::new(pattern).unwrap();
        let Some(judge) = Judge::new(&[(0, regex.linear().unwrap())]) else { return false };
        judge.blind(&mut judge.cache(), input).is_some_and(|blind| blind.contains(&0))
    }

    #[test]
    fn what_patterns_can_see() {
        let input = "kafka.server<type=A, name=B><>Value: ";
        for (pattern, expected) in [
            (r"kafka.server<type=(.+), name=(.+)><>Value", true),
            (r"^kafka.server<type=(.+)><>(\w+): ", true),
            (r"><>(\w+)", true),
            (r"nothing of this", true),
            (r"(\w+)", false),
            (r"Value: (\d+)", false),
            (r"Value: -?1", false),
            (r"Value$", false),
            (r"Value: \b", false),
            (r"(.*)", false),
            (r"", false),
        ] {
            assert_eq!(is_blind(pattern, input), expected, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn blind_patterns_give_the_same_groups(
            pattern in r"[ab:. <>1]{1,3}(\([ab.\\d]\+\))?[ab.:]{0,2}",
            input in "[ab<>]{0,8}",
            one in any::<f64>().prop_map(|value| value.to_string()),
            other in any::<i32>().prop_map(|value| value.to_string()),
        ) {
            let pattern = pattern.replace("\\(", "(").replace("\\+", "+");
            let Ok(regex) = JavaRegex::new(&pattern) else { return Ok(()) };
            let input = format!("{input}: ");
            if !is_blind(&pattern, &input) {
                return Ok(());
            }
            let groups = |value: &str| {
                let text = format!("{input}{value}");
                let found = regex.captures(&text).unwrap();
                found.map(|found| (1..=regex.groups()).map(|at| found.group(at).to_owned()).collect::<Vec<_>>())
            };
            prop_assert_eq!(groups(&one), groups(&other));
            prop_assert_eq!(groups("true"), groups(&other));
        }
    }
}

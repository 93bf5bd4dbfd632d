//! Finds attributes that no rule can match, before they are fetched.
//!
//! The rules' automata run over the part of the rule input that is known beforehand (domain, properties,
//! attribute name), and then over everything that a number or boolean can look like. Only when no automaton
//! can accept any such text is the attribute left out, so the page is exactly the same without it.

use std::collections::HashSet;

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::{Anchored, Input};

use super::set::RuleSet;

/// Every byte that `String.valueOf` of a number or boolean can contain.
pub(super) const VALUE_BYTES: &[u8] = b"0123456789.-+EINaftinyrulse";
/// States looked at for one attribute; beyond it the attribute is fetched.
pub(super) const MAX_STATES: usize = 400;
/// Bytes of learnt states that are kept from one attribute to the next.
pub(super) const MAX_CACHE_BYTES: usize = 1 << 20;

/// The automata of one rule set.
#[derive(Debug)]
pub struct Pruner {
    dfa: DFA,
    cache: Cache,
}

impl Pruner {
    /// `None` when a rule matches everything, or cannot be judged beforehand.
    #[must_use]
    pub fn new(rules: &RuleSet) -> Option<Self> {
        let sources = rules.linear_sources()?;
        let syntax = regex_automata::util::syntax::Config::new().dot_matches_new_line(true);
        let patterns: Vec<String> = sources.iter().map(|source| format!(r"\A.*(?:{source}).*\z")).collect();
        let dfa = DFA::builder().syntax(syntax).build_many(&patterns).ok()?;
        let cache = dfa.create_cache();
        Some(Self { dfa, cache })
    }

    /// Whether any rule may match a number or boolean behind `input`, which ends in `: `.
    pub fn may_match(&mut self, input: &str) -> bool {
        // States learnt for one attribute serve the next; a cache that had to be cleared starts afresh.
        if self.cache.clear_count() > 0 || self.cache.memory_usage() > MAX_CACHE_BYTES {
            self.cache.reset(&self.dfa);
        }
        // Whatever the automaton cannot decide is fetched.
        self.decide(input).unwrap_or(true)
    }

    fn decide(&mut self, input: &str) -> Option<bool> {
        let start = Input::new(input).anchored(Anchored::Yes);
        let mut state = self.dfa.start_state_forward(&mut self.cache, &start).ok()?;
        for byte in input.bytes() {
            state = self.step(state, byte)?;
            if state.is_dead() {
                return Some(false);
            }
        }
        let mut seen = HashSet::from([state]);
        let mut open = vec![state];
        while let Some(state) = open.pop() {
            if self.dfa.next_eoi_state(&mut self.cache, state).ok()?.is_match() {
                return Some(true);
            }
            for byte in VALUE_BYTES {
                let next = self.step(state, *byte)?;
                if !next.is_dead() && seen.insert(next) {
                    open.push(next);
                }
            }
            // A cleared cache gives its states new names, so nothing that was seen means anything.
            if seen.len() > MAX_STATES || self.cache.clear_count() > 0 {
                return None;
            }
        }
        Some(false)
    }

    fn step(&mut self, state: LazyStateID, byte: u8) -> Option<LazyStateID> {
        let next = self.dfa.next_state(&mut self.cache, state, byte).ok()?;
        (!next.is_quit()).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::config::RuleConfig;
    use crate::rule::set::Naming;
    use proptest::prelude::*;

    fn pruner(patterns: &[&str]) -> Option<Pruner> {
        let rule = |pattern: &&str| RuleConfig { pattern: Some((*pattern).into()), ..RuleConfig::default() };
        let rules: Vec<RuleConfig> = patterns.iter().map(rule).collect();
        Pruner::new(&RuleSet::new(&rules, Naming::default()).unwrap())
    }

    #[test]
    fn only_what_cannot_match_is_left_out() {
        let mut pruner =
            pruner(&[r"kafka<type=(\w+)><>Count", r"x<><>\w+: (\d+)\.5$", r"value: abc"]).unwrap();
        for (input, expected) in [
            ("kafka<type=A><>Count: ", true),
            ("kafka<type=A><>Mean: ", false),
            ("java.lang<type=Memory><>Verbose: ", false),
            ("x<><>a: ", true),
            ("value: ", false),
            ("xvalue: ", false),
        ] {
            assert_eq!(pruner.may_match(input), expected, "{input}");
        }
        assert!(super::Pruner::new(&RuleSet::default_rules(Naming::default())).is_none());
        assert!(self::pruner(&["(?!a)b"]).is_none());
    }

    proptest! {
        #[test]
        fn a_match_is_never_left_out(
            pattern in r"[ab:.<>]{1,3}(\(\\d\+\))?[ab.]{0,2}",
            input in "[ab<>]{0,8}",
            value in any::<f64>().prop_map(|value| value.to_string()),
        ) {
            let Some(mut pruner) = pruner(&[&pattern]) else { return Ok(()) };
            let input = format!("{input}: ");
            let regex = super::super::java_regex::JavaRegex::new(&pattern).unwrap();
            if regex.captures(&format!("{input}{value}")).unwrap().is_some() {
                prop_assert!(pruner.may_match(&input));
            }
        }
    }
}

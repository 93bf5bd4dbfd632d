//! From the values of one bean to samples on the page.

use std::sync::Arc;

use super::explain::Explained;
use super::settings::Collection;
use super::status::Look;
use super::target::{Attribute, Bean};
use crate::jmx::object_name::ObjectName;
use crate::jmx::value::Value;
use crate::rule::leaf::{Leaf, LeafValue, text_of, walk};
use crate::rule::name::safe;
use crate::rule::page::{Page, Pool, Ready};
use crate::rule::set::{Learnt, Matched, Outcome, Steady, write_input};

/// What becomes of an attribute's number or boolean, where that does not depend on its value.
#[derive(Debug, Default)]
pub(super) enum Known {
    /// Not looked at yet.
    #[default]
    Untried,
    /// The rules have to see each value.
    Varies,
    /// It gives no sample.
    Nothing,
    /// It gives this sample, with its own value times a factor.
    Product(Arc<Ready>, f64),
    /// It gives this sample with this value.
    Constant(Arc<Ready>, f64),
}

/// Where samples go, and what is needed on the way.
pub(super) struct Exporter<'e> {
    pub(super) collection: &'e Collection,
    pub(super) target_labels: &'e [(String, String)],
    pub(super) page: &'e mut Page,
    pub(super) learnt: &'e mut Learnt,
    pub(super) look: &'e Look,
    pub(super) trace: Option<&'e mut Vec<Explained>>,
    pub(super) pool: &'e mut Pool,
}

impl Exporter<'_> {
    /// Walks over the values of one bean. Returns the first error of a rule.
    pub(super) fn bean(&mut self, bean: &mut Bean, values: &[(Arc<str>, Value)]) -> Option<String> {
        let collection = self.collection;
        let customizer = collection.customizers.iter().find(|customizer| customizer.applies_to(&bean.name));
        let labels = customizer.map_or_else(Vec::new, |customizer| {
            let wanted = values
                .iter()
                .filter(|(name, _)| customizer.attributes_as_labels.iter().any(|label| **label == **name));
            let present = wanted.filter(|(_, value)| *value != Value::Null);
            let label = |(name, value): &(Arc<str>, Value)| {
                (collection.rules.label_name(&safe(name)), text_of(value))
            };
            present.map(label).collect::<Vec<_>>()
        });
        let steady = self.trace.is_none() && labels.is_empty();
        let mut problem = None;
        let Bean { name: bean_name, attributes, excluded, .. } = bean;
        for (index, (name, value)) in values.iter().enumerate() {
            // Answers mostly come in the order of the questions, so looking there first saves the search.
            let same = |attribute: &Attribute| *attribute.name == **name;
            let at = if attributes.get(index).is_some_and(same) {
                Some(index)
            } else {
                attributes.iter().position(same)
            };
            let Some(attribute) = at.and_then(|at| attributes.get_mut(at)) else { continue };
            if steady && self.steady(bean_name, attribute, value) {
                continue;
            }
            if collection.auto_exclude && is_unexportable(value) {
                excluded.insert(name.as_ref().to_owned());
                continue;
            }
            problem = problem.or(self.walk(bean_name, name, &attribute.description, value, &labels));
        }
        if !values.is_empty() {
            for (name, value, description) in customizer.map_or(&[][..], |customizer| &customizer.extra) {
                problem = problem.or(self.walk(bean_name, name, description, value, &labels));
            }
        }
        problem
    }

    /// Takes the short way for an attribute whose outcome is known but for its value; `false` when there is none.
    fn steady(&mut self, bean: &ObjectName, attribute: &mut Attribute, value: &Value) -> bool {
        let value = match value {
            Value::Number(number) => LeafValue::Number(number),
            Value::Boolean(value) => LeafValue::Boolean(*value),
            _ => return false,
        };
        let usable = match &attribute.known {
            Known::Untried => false,
            Known::Varies | Known::Nothing => true,
            // The first sample of a family now, and not when its help was dropped.
            Known::Product(ready, _) | Known::Constant(ready, _) => self.page.takes(ready),
        };
        if !usable {
            attribute.known = self.learn(bean, attribute, value);
        }
        match &attribute.known {
            Known::Untried | Known::Varies => return false,
            Known::Nothing => {}
            Known::Product(ready, factor) => {
                if let Some(value) = value.sample(*factor) {
                    self.page.push_ready(ready, value);
                }
            }
            Known::Constant(ready, value) => self.page.push_ready(ready, *value),
        }
        true
    }

    fn learn(&mut self, bean: &ObjectName, attribute: &Attribute, value: LeafValue<'_>) -> Known {
        let leaf = Leaf {
            domain: bean.domain(),
            properties: bean.properties(),
            path: &[],
            name: &attribute.name,
            description: &attribute.description,
            value,
        };
        match self.collection.rules.steady(&leaf, self.learnt) {
            None => Known::Varies,
            Some(Steady::Unmatched) => {
                self.look.uncovered(&leaf);
                Known::Nothing
            }
            Some(Steady::Nothing(_)) => Known::Nothing,
            Some(Steady::Sample(_, matched, factor)) => {
                let constant = matched.value;
                let (matched, input) = self.labelled(matched, &leaf);
                let (bean, rest) = input.split_at(input.len() - leaf.name.len());
                let bean = self.pool.text(bean);
                let ready = Ready::new(self.collection.name_style, matched, &bean, rest, self.pool);
                let ready =
                    Arc::new(if self.page.has_family_of(&ready) { ready.without_help() } else { ready });
                match factor {
                    Some(factor) => Known::Product(ready, factor),
                    None => Known::Constant(ready, constant),
                }
            }
        }
    }

    /// Adds the target's labels where no rule has set them, and tells the rule input.
    fn labelled(&self, mut matched: Matched, leaf: &Leaf<'_>) -> (Matched, String) {
        for (name, value) in self.target_labels {
            if !matched.labels.iter().any(|(known, _)| known == name) {
                matched.labels.push((name.clone(), value.clone()));
            }
        }
        let mut input = String::with_capacity(96);
        write_input(&mut input, leaf, false);
        (matched, input)
    }

    fn walk(
        &mut self,
        bean: &ObjectName,
        attribute: &str,
        description: &str,
        value: &Value,
        labels: &[(String, String)],
    ) -> Option<String> {
        let mut problem = None;
        walk(bean, attribute, description, value, &mut |leaf| {
            let outcome = self.collection.rules.apply(leaf, labels);
            if let Some(trace) = self.trace.as_mut() {
                trace.push(Explained::new(leaf, &outcome));
            }
            match outcome {
                Ok(Outcome::Sample(_, matched)) => {
                    let (matched, input) = self.labelled(matched, leaf);
                    self.page.push(matched, &input);
                }
                Ok(Outcome::Unmatched) => self.look.uncovered(leaf),
                Ok(Outcome::Nothing(_)) => {}
                Err(error) => {
                    problem.get_or_insert(error.to_string());
                }
            }
        });
        problem
    }
}

fn is_unexportable(value: &Value) -> bool {
    matches!(value, Value::Char(_) | Value::List(_) | Value::Map(_) | Value::ObjectName(_) | Value::Other(_))
}

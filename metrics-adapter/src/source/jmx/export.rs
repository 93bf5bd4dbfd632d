//! From the values of one bean to samples on the page.

use super::explain::Explained;
use super::settings::Collection;
use super::target::Bean;
use crate::jmx::value::Value;
use crate::rule::leaf::{text_of, walk};
use crate::rule::name::safe;
use crate::rule::page::Page;
use crate::rule::set::{Outcome, write_input};

/// Walks over the values of one bean. Returns the first error of a rule.
pub(super) fn export(
    bean: &mut Bean,
    collection: &Collection,
    target_labels: &[(String, String)],
    values: &[(String, Value)],
    page: &mut Page,
    mut trace: Option<&mut Vec<Explained>>,
) -> Option<String> {
    let customizer = collection.customizers.iter().find(|customizer| customizer.applies_to(&bean.name));
    let labels = customizer.map_or_else(Vec::new, |customizer| {
        let wanted = values.iter().filter(|(name, _)| customizer.attributes_as_labels.contains(name));
        let present = wanted.filter(|(_, value)| *value != Value::Null);
        present
            .map(|(name, value)| (collection.rules.label_name(&safe(name)), text_of(value)))
            .collect::<Vec<_>>()
    });
    let mut problem = None;
    let mut one = |attribute: &str, description: &str, value: &Value| {
        walk(&bean.name, attribute, description, value, &mut |leaf| {
            let outcome = collection.rules.apply(leaf, &labels);
            if let Some(trace) = trace.as_mut() {
                trace.push(Explained::new(leaf, &outcome));
            }
            match outcome {
                Ok(Outcome::Sample(_, mut matched)) => {
                    for (name, value) in target_labels {
                        if !matched.labels.iter().any(|(known, _)| known == name) {
                            matched.labels.push((name.clone(), value.clone()));
                        }
                    }
                    let mut input = String::new();
                    write_input(&mut input, leaf, false);
                    page.push(matched, input);
                }
                Ok(_) => {}
                Err(error) => {
                    problem.get_or_insert(error.to_string());
                }
            }
        });
    };
    let mut exclude = Vec::new();
    for (name, value) in values {
        let Some(attribute) = bean.attributes.iter().find(|attribute| attribute.name == *name) else {
            continue;
        };
        if collection.auto_exclude && is_unexportable(value) {
            exclude.push(name.clone());
            continue;
        }
        one(name, &attribute.description, value);
    }
    if !values.is_empty() {
        for (name, value, description) in customizer.map_or(&[][..], |customizer| &customizer.extra) {
            one(name, description, value);
        }
    }
    bean.excluded.extend(exclude);
    problem
}

fn is_unexportable(value: &Value) -> bool {
    matches!(value, Value::Char(_) | Value::List(_) | Value::Map(_) | Value::ObjectName(_) | Value::Other(_))
}

//! Beans of one class mostly say the same about themselves, and asking each of a thousand is most of the first scrape.
//!
//! Where a bean promises that its description never changes, the next ones of its class are taken to have the same
//! one. Two beans of one class may differ all the same (other interface, other class loader), so each of them is asked
//! in one of the scrapes that follow, and a class whose beans differ is not trusted again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::jmx::mbean::MBeanInfo;

/// Classes that are remembered.
const MAX_CLASSES: usize = 1024;

/// What classes say about their beans.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    /// `None` for classes whose beans differ.
    known: HashMap<Arc<str>, Option<MBeanInfo>>,
    /// Beans that have not been asked themselves.
    unasked: Vec<Arc<str>>,
}

impl Shapes {
    /// The description that all beans of a class seem to have.
    pub(super) fn of(&self, class: &str) -> Option<&MBeanInfo> {
        self.known.get(class)?.as_ref()
    }

    /// Takes what a bean said itself. Says whether it is what its class was trusted for, if it was.
    pub(super) fn learn(&mut self, class: &Arc<str>, info: &MBeanInfo) -> bool {
        match self.known.get_mut(class) {
            Some(Some(known)) if known.attributes == info.attributes => true,
            Some(known) => {
                *known = None;
                false
            }
            None => {
                if info.immutable && !class.is_empty() && self.known.len() < MAX_CLASSES {
                    self.known.insert(Arc::clone(class), Some(info.clone()));
                }
                true
            }
        }
    }

    /// Notes a bean that was given the description of its class.
    pub(super) fn defer(&mut self, bean: &Arc<str>) {
        self.unasked.push(Arc::clone(bean));
    }

    /// Some of the beans that are still to be asked.
    pub(super) fn due(&mut self, most: usize) -> Vec<Arc<str>> {
        let from = self.unasked.len().saturating_sub(most);
        let due = self.unasked.split_off(from);
        if self.unasked.is_empty() {
            self.unasked = Vec::new();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jmx::mbean::AttributeInfo;

    fn info(attribute: &str, immutable: bool) -> MBeanInfo {
        let attribute = AttributeInfo {
            name: attribute.to_owned(),
            class: "int".to_owned(),
            description: String::new(),
            readable: true,
        };
        MBeanInfo { immutable, attributes: vec![attribute], ..MBeanInfo::default() }
    }

    #[test]
    fn classes_are_trusted_until_their_beans_differ() {
        let mut shapes = Shapes::default();
        let class: Arc<str> = "a.B".into();
        assert!(shapes.learn(&class, &info("X", false)) && shapes.of("a.B").is_none());
        assert!(shapes.learn(&class, &info("X", true)) && shapes.of("a.B").is_some());
        assert!(shapes.learn(&class, &info("X", true)));
        assert!(!shapes.learn(&class, &info("Y", true)) && shapes.of("a.B").is_none());
        assert!(!shapes.learn(&class, &info("X", true)) && shapes.of("a.B").is_none());
        assert!(shapes.learn(&Arc::default(), &info("X", true)) && shapes.of("").is_none());
    }

    #[test]
    fn every_bean_is_asked_once() {
        let mut shapes = Shapes::default();
        (0..5).for_each(|number| shapes.defer(&number.to_string().into()));
        let mut asked: Vec<Arc<str>> = [shapes.due(3), shapes.due(3), shapes.due(3)].concat();
        asked.sort();
        assert_eq!(asked.iter().map(|name| &**name).collect::<String>(), "01234");
    }
}

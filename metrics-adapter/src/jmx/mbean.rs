//! What a bean says about itself: names, classes, attributes.

use std::collections::HashSet;
use std::sync::Arc;

use super::serialization::{Graph, Object, Value as Java};
use super::value::{self, Budget, Value, elements};

/// A registered bean.
///
/// ```
/// use metrics_adapter::jmx::ObjectInstance;
///
/// let bean = ObjectInstance { name: "java.lang:type=Memory".into(), class: "sun.management.MemoryImpl".into() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInstance {
    /// Object name in written order.
    pub name: Arc<str>,
    /// Java class of the implementation.
    pub class: Arc<str>,
}

/// The part of `javax.management.MBeanInfo` that concerns attributes.
///
/// ```
/// let info = metrics_adapter::jmx::MBeanInfo { immutable: true, ..Default::default() };
/// assert!(info.attributes.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MBeanInfo {
    /// Java class of the implementation.
    pub class: String,
    /// Description of the bean.
    pub description: String,
    /// Whether the bean promises that this never changes.
    pub immutable: bool,
    /// Its attributes.
    pub attributes: Vec<AttributeInfo>,
}

/// One attribute's declaration.
///
/// ```
/// let attribute = metrics_adapter::jmx::AttributeInfo {
///     name: "ThreadCount".into(),
///     class: "int".into(),
///     description: String::new(),
///     readable: true,
/// };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeInfo {
    /// Attribute name.
    pub name: String,
    /// Java type, such as `long` or `javax.management.openmbean.CompositeData`.
    pub class: String,
    /// Description.
    pub description: String,
    /// Whether it can be read.
    pub readable: bool,
}

/// Reads the set that `queryMBeans` returns.
#[must_use]
pub fn object_instances(graph: &Graph, value: Java) -> Option<Vec<ObjectInstance>> {
    // Many beans are of few classes.
    let mut classes: HashSet<Arc<str>> = HashSet::new();
    let instances = elements(graph, value, 2)?.into_iter().filter_map(|element| {
        let instance = graph.object(element)?;
        let class = graph.string(instance.field("className")).unwrap_or_default();
        let class = classes.get(class).cloned().unwrap_or_else(|| {
            let class: Arc<str> = class.into();
            classes.insert(Arc::clone(&class));
            class
        });
        Some(ObjectInstance { name: object_name(graph, instance.field("name"))?.into(), class })
    });
    Some(instances.collect())
}

/// Reads the set that `queryNames` returns.
#[must_use]
pub fn object_names(graph: &Graph, value: Java) -> Option<Vec<String>> {
    let names = elements(graph, value, 2)?;
    Some(names.into_iter().filter_map(|name| Some(object_name(graph, name)?.to_owned())).collect())
}

fn object_name(graph: &Graph, value: Java) -> Option<&str> {
    let name = graph.object(value)?;
    name.annotation("javax.management.ObjectName").values().find_map(|value| graph.string(value))
}

/// Reads what `getMBeanInfo` returns.
#[must_use]
pub fn mbean_info(graph: &Graph, value: Java) -> Option<MBeanInfo> {
    let info = graph.object(value).filter(|object| object.is_a("javax.management.MBeanInfo"))?;
    let text = |object: Object<'_>, field| graph.string(object.field(field)).unwrap_or_default().to_owned();
    let attributes = graph.array(info.field("attributes")).map(|array| array.elements().collect::<Vec<_>>());
    let attributes = attributes.unwrap_or_default().into_iter().filter_map(|element| {
        let attribute = graph.object(element)?;
        Some(AttributeInfo {
            name: text(attribute, "name"),
            class: text(attribute, "attributeType"),
            description: text(attribute, "description"),
            readable: attribute.field("isRead") == Java::Boolean(true),
        })
    });
    Some(MBeanInfo {
        class: text(info, "className"),
        description: text(info, "description"),
        immutable: descriptor_entry(graph, info, "immutableInfo").is_some_and(|value| value == "true"),
        attributes: attributes.collect(),
    })
}

/// A string entry of an immutable descriptor, which is written as two parallel arrays.
fn descriptor_entry(graph: &Graph, info: Object<'_>, name: &str) -> Option<String> {
    let mut arrays =
        info.annotation("javax.management.MBeanInfo").values().filter_map(|value| graph.array(value));
    let names = arrays.next()?;
    let values = arrays.next()?;
    let index = names.elements().position(|value| graph.string(value) == Some(name))?;
    graph.string(values.elements().nth(index)?).map(str::to_owned)
}

/// Reads the `AttributeList` that `getAttributes` returns.
#[must_use]
pub fn attribute_list(graph: &Graph, value: Java) -> Option<Vec<(Arc<str>, Value)>> {
    let list = graph.object(value)?;
    let mut budget = Budget::default();
    let attributes = list.annotation("java.util.ArrayList").values().filter_map(|element| {
        let attribute = graph.object(element)?;
        let name = graph.string(attribute.field("name"))?.into();
        Some((name, value::interpret(graph, attribute.field("value"), &mut budget)))
    });
    list.is_a("java.util.ArrayList").then(|| attributes.collect())
}

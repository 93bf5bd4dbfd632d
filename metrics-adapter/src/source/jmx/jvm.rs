//! The `jvm_*` families of jmx_exporter's Java agent, computed from the platform beans, so that dashboards
//! made for the agent work without one. What only exists inside the JVM (thread states, deadlocks, allocation
//! notifications) is not there.

use std::sync::Arc;

use super::session::{Error, Session};
use crate::family::Kind;
use crate::jmx::client::{AttributeRequest, BeanAnswer};
use crate::jmx::object_name::ObjectName;
use crate::jmx::value::{Composite, Value};
use crate::rule::page::Page;
use crate::rule::set::Matched;

/// One sample of a bean.
struct Row {
    attribute: &'static str,
    /// Item of a composite value, or empty.
    item: &'static str,
    metric: &'static str,
    kind: Kind,
    factor: f64,
    /// A fixed label.
    label: Option<(&'static str, &'static str)>,
}

const fn row(attribute: &'static str, metric: &'static str, kind: Kind, factor: f64) -> Row {
    Row { attribute, item: "", metric, kind, factor, label: None }
}

const fn usage(attribute: &'static str, item: &'static str, metric: &'static str, area: &'static str) -> Row {
    let label = if area.is_empty() { None } else { Some(("area", area)) };
    Row { attribute, item, metric, kind: Kind::Gauge, factor: 1.0, label }
}

/// A group of beans: pattern, the label that takes the `name` property, and the rows.
struct Group {
    pattern: &'static str,
    label: &'static str,
    rows: &'static [Row],
}

const GROUPS: &[Group] = &[
    Group {
        pattern: "java.lang:type=ClassLoading",
        label: "",
        rows: &[
            row("LoadedClassCount", "jvm_classes_currently_loaded", Kind::Gauge, 1.0),
            row("TotalLoadedClassCount", "jvm_classes_loaded_total", Kind::Counter, 1.0),
            row("UnloadedClassCount", "jvm_classes_unloaded_total", Kind::Counter, 1.0),
        ],
    },
    Group {
        pattern: "java.lang:type=Compilation",
        label: "",
        rows: &[row("TotalCompilationTime", "jvm_compilation_time_seconds_total", Kind::Counter, 1e-3)],
    },
    Group {
        pattern: "java.lang:type=GarbageCollector,*",
        label: "gc",
        rows: &[
            row("CollectionCount", "jvm_gc_collection_seconds_count", Kind::Untyped, 1.0),
            row("CollectionTime", "jvm_gc_collection_seconds_sum", Kind::Untyped, 1e-3),
        ],
    },
    Group {
        pattern: "java.lang:type=Memory",
        label: "",
        rows: &[
            row(
                "ObjectPendingFinalizationCount",
                "jvm_memory_objects_pending_finalization",
                Kind::Gauge,
                1.0,
            ),
            usage("HeapMemoryUsage", "used", "jvm_memory_used_bytes", "heap"),
            usage("HeapMemoryUsage", "committed", "jvm_memory_committed_bytes", "heap"),
            usage("HeapMemoryUsage", "max", "jvm_memory_max_bytes", "heap"),
            usage("HeapMemoryUsage", "init", "jvm_memory_init_bytes", "heap"),
            usage("NonHeapMemoryUsage", "used", "jvm_memory_used_bytes", "nonheap"),
            usage("NonHeapMemoryUsage", "committed", "jvm_memory_committed_bytes", "nonheap"),
            usage("NonHeapMemoryUsage", "max", "jvm_memory_max_bytes", "nonheap"),
            usage("NonHeapMemoryUsage", "init", "jvm_memory_init_bytes", "nonheap"),
        ],
    },
    Group {
        pattern: "java.lang:type=MemoryPool,*",
        label: "pool",
        rows: &[
            usage("Usage", "used", "jvm_memory_pool_used_bytes", ""),
            usage("Usage", "committed", "jvm_memory_pool_committed_bytes", ""),
            usage("Usage", "max", "jvm_memory_pool_max_bytes", ""),
            usage("Usage", "init", "jvm_memory_pool_init_bytes", ""),
            usage("CollectionUsage", "used", "jvm_memory_pool_collection_used_bytes", ""),
            usage("CollectionUsage", "committed", "jvm_memory_pool_collection_committed_bytes", ""),
            usage("CollectionUsage", "max", "jvm_memory_pool_collection_max_bytes", ""),
            usage("CollectionUsage", "init", "jvm_memory_pool_collection_init_bytes", ""),
        ],
    },
    Group {
        pattern: "java.nio:type=BufferPool,*",
        label: "pool",
        rows: &[
            row("MemoryUsed", "jvm_buffer_pool_used_bytes", Kind::Gauge, 1.0),
            row("TotalCapacity", "jvm_buffer_pool_capacity_bytes", Kind::Gauge, 1.0),
            row("Count", "jvm_buffer_pool_used_buffers", Kind::Gauge, 1.0),
        ],
    },
    Group {
        pattern: "java.lang:type=OperatingSystem",
        label: "",
        rows: &[
            row("ProcessCpuTime", "process_cpu_seconds_total", Kind::Counter, 1e-9),
            row("OpenFileDescriptorCount", "process_open_fds", Kind::Gauge, 1.0),
            row("MaxFileDescriptorCount", "process_max_fds", Kind::Gauge, 1.0),
        ],
    },
    Group {
        pattern: "java.lang:type=Runtime",
        label: "",
        rows: &[row("StartTime", "process_start_time_seconds", Kind::Gauge, 1e-3)],
    },
    Group {
        pattern: "java.lang:type=Threading",
        label: "",
        rows: &[
            row("ThreadCount", "jvm_threads_current", Kind::Gauge, 1.0),
            row("DaemonThreadCount", "jvm_threads_daemon", Kind::Gauge, 1.0),
            row("PeakThreadCount", "jvm_threads_peak", Kind::Gauge, 1.0),
            row("TotalStartedThreadCount", "jvm_threads_started_total", Kind::Counter, 1.0),
        ],
    },
];

/// Where the platform's beans are.
const PLATFORM: &[&str] = &["java.lang:*", "java.nio:*"];

/// The labels of `jvm_runtime_info`: system properties, as in the agent, or else what the bean itself says.
const RUNTIME: &[(&str, &str, &str)] = &[
    ("runtime", "java.runtime.name", "VmName"),
    ("vendor", "java.vm.vendor", "VmVendor"),
    ("version", "java.runtime.version", "VmVersion"),
];

/// Reads the platform beans and adds their samples.
pub(super) async fn add(
    session: &mut Session,
    labels: &[(String, String)],
    page: &mut Page,
) -> Result<(), Error> {
    let platform: Vec<ObjectName> = PLATFORM.iter().filter_map(|pattern| pattern.parse().ok()).collect();
    let names = session.query(Some(&platform)).await?;
    let names: Vec<Arc<str>> = names.into_iter().map(|instance| instance.name).collect();
    let beans = beans(&names);
    let attributes: Vec<Vec<&str>> = beans.iter().map(|(group, _)| attributes(group)).collect();
    let requests = beans.iter().zip(&attributes);
    let requests: Vec<AttributeRequest<'_>> = requests
        .map(|((_, name), attributes)| AttributeRequest { bean: name.as_str(), attributes })
        .collect();
    for ((group, name), answer) in beans.iter().zip(session.attributes(&requests).await?) {
        if let BeanAnswer::Values(result) = answer {
            for row in group.rows {
                sample(group, name, row, &result.values, labels, page);
            }
        }
    }
    let runtime = RUNTIME.iter().map(|(_, _, attribute)| *attribute);
    let runtime: Vec<&str> = runtime.chain(["SystemProperties"]).collect();
    let request = AttributeRequest { bean: "java.lang:type=Runtime", attributes: &runtime };
    for answer in session.attributes(&[request]).await? {
        runtime_info(&answer.values(), labels, page);
    }
    Ok(())
}

fn beans(names: &[Arc<str>]) -> Vec<(&'static Group, ObjectName)> {
    let platform =
        names.iter().filter(|name| name.starts_with("java.lang:") || name.starts_with("java.nio:"));
    let parsed = platform.filter_map(|name| name.parse::<ObjectName>().ok());
    parsed
        .filter_map(|name| {
            let fits = |group: &&Group| group.pattern.parse::<ObjectName>().is_ok_and(|p| p.matches(&name));
            Some((GROUPS.iter().find(fits)?, name))
        })
        .collect()
}

fn attributes(group: &Group) -> Vec<&'static str> {
    let mut attributes: Vec<&str> = group.rows.iter().map(|row| row.attribute).collect();
    attributes.dedup();
    attributes
}

fn sample(
    group: &Group,
    name: &ObjectName,
    row: &Row,
    values: &[(Arc<str>, Value)],
    labels: &[(String, String)],
    page: &mut Page,
) {
    let value = values.iter().find(|(attribute, _)| **attribute == *row.attribute).map(|(_, value)| value);
    let number = match value {
        Some(Value::Number(number)) if row.item.is_empty() => number,
        Some(Value::Composite(composite)) => match composite.item(row.item) {
            Some(Value::Number(number)) => number,
            _ => return,
        },
        _ => return,
    };
    let mut all = labels.to_vec();
    if !group.label.is_empty() {
        all.push((group.label.to_owned(), name.property("name").unwrap_or_default().to_owned()));
    }
    if let Some((label, value)) = row.label {
        all.push((label.to_owned(), value.to_owned()));
    }
    let help = format!("{} of {}", row.attribute, group.pattern);
    let value = number.to_f64() * row.factor;
    let matched = Matched { name: row.metric.to_owned(), help, kind: row.kind, labels: all, value };
    page.push(matched, name.as_str());
}

fn runtime_info(values: &[(Arc<str>, Value)], labels: &[(String, String)], page: &mut Page) {
    let attribute = |wanted: &str| values.iter().find(|(name, _)| **name == *wanted).map(|(_, value)| value);
    let property = |wanted: &str| {
        let Some(Value::Tabular(properties)) = attribute("SystemProperties") else { return None };
        let is_it = |row: &&Composite| matches!(row.item("key"), Some(Value::String(key)) if key == wanted);
        properties.rows.iter().find(is_it)?.item("value")
    };
    let mut all = labels.to_vec();
    for (label, name, own) in RUNTIME {
        if let Some(Value::String(text)) = property(name).or_else(|| attribute(own)) {
            all.push(((*label).to_owned(), text.clone()));
        }
    }
    if all.len() == labels.len() + RUNTIME.len() {
        page.push_verbatim("jvm_runtime_info", "The virtual machine.", all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beans_find_their_groups() {
        let names = [
            "java.lang:type=Memory",
            "java.lang:name=G1,type=GarbageCollector",
            "x:type=Memory",
            "java.lang:type=Y",
        ];
        let names = names.map(Arc::from);
        let found: Vec<&str> = beans(&names).iter().map(|(group, _)| group.pattern).collect();
        assert_eq!(found, ["java.lang:type=Memory", "java.lang:type=GarbageCollector,*"]);
        assert!(GROUPS.iter().all(|group| group.pattern.parse::<ObjectName>().is_ok()));
    }
}

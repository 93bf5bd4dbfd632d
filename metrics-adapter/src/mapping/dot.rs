//! The glob state machine as a Graphviz graph.

use std::fmt::Write as _;

use super::MetricType;
use super::config::Rule;
use super::glob::Globs;

pub(super) fn write(globs: &Globs, rules: &[Rule]) -> String {
    let mut out = String::from(
        "digraph g {\nrankdir=LR\nnode [ label=\"\",style=filled,fillcolor=white,shape=circle ]\n",
    );
    // Writing to a String cannot fail.
    for (root, kind) in MetricType::ALL.iter().enumerate() {
        let _ = writeln!(out, "{root} [shape=box,label=\"{}\"];", kind.as_str());
    }
    for (id, node) in globs.nodes.iter().enumerate() {
        if let Some(rule) = node.rule.and_then(|index| rules.get(index)) {
            let _ = writeln!(out, "{id} [fillcolor=gray];");
            let _ = writeln!(out, "r{id} [shape=box,label=\"{} (line {})\"];", rule.name(), rule.line);
            let _ = writeln!(out, "{id} -> r{id} [style=dotted];");
        }
        let mut edges: Vec<(&str, usize)> =
            node.literal.iter().map(|(text, child)| (&**text, *child)).collect();
        edges.extend(node.star.map(|child| ("*", child)));
        edges.sort_unstable();
        for (text, child) in edges {
            let _ = writeln!(out, "{id} -> {child} [label=\"{text}\"];");
        }
    }
    out.push_str("}\n");
    out
}

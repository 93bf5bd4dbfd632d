//! The topology as a small picture: clients, this ambassador, and the servers it sends to. Pure.

use common::status::{Drawing, Health, escape};
use std::fmt::Write;

/// A server as it is drawn.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) address: String,
    /// What it is, in one or two words.
    pub(super) role: String,
    /// What is to be said of it: how far behind, why it is out.
    pub(super) note: String,
    pub(super) health: Health,
    pub(super) takes_writes: bool,
    /// Share of all reads, 0 to 1.
    pub(super) reads: f64,
}

/// More servers are only in the table.
const MAX_DRAWN: usize = 12;
const WIDTH: usize = 640;
/// Height of a server and the space below it.
const ROW: usize = 62;
const BOX: usize = 50;

/// Draws the clients, the ambassador and its servers.
pub(super) fn draw(clients: i64, nodes: &[Node]) -> Drawing {
    let drawn = &nodes[..nodes.len().min(MAX_DRAWN)];
    let height = (drawn.len().max(1) * ROW).max(ROW) + 4;
    let middle = height / 2;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(&summary(nodes))
    );
    let _ = write!(svg, "<path class=\"wire\" d=\"M110 {middle}H170\"/>");
    for (row, node) in drawn.iter().enumerate() {
        let y = row * ROW + BOX / 2 + 2;
        // As wide as its share of the reads; one that gets nothing is dotted.
        let width = 1.5 + node.reads * 6.0;
        let used = node.takes_writes || node.reads > 0.0 || matches!(node.health, Health::Good);
        let dots = if used { "" } else { " stroke-dasharray=\"4 4\"" };
        let _ = write!(
            svg,
            "<path class=\"wire {}\" stroke-width=\"{width:.1}\"{dots} d=\"M290 {middle}C350 {middle} 330 {y} 390 {y}\"/>",
            node.health.class(),
        );
    }
    plate(&mut svg, (4, middle - BOX / 2, 106), "neutral", [&format!("{clients} clients"), "", ""]);
    plate(&mut svg, (170, middle - BOX / 2, 120), "neutral", ["ambassador", "", ""]);
    for (row, node) in drawn.iter().enumerate() {
        let share = match node.takes_writes {
            true => format!("writes, {:.0} % of reads", node.reads * 100.0),
            false => format!("{:.0} % of reads", node.reads * 100.0),
        };
        let role =
            if node.note.is_empty() { node.role.clone() } else { format!("{}, {}", node.role, node.note) };
        plate(&mut svg, (390, row * ROW + 2, 246), node.health.class(), [&node.address, &role, &share]);
    }
    svg.push_str("</svg>");
    Drawing { svg, summary: summary(nodes) }
}

/// A box with up to three lines of text.
fn plate(svg: &mut String, (x, y, width): (usize, usize, usize), class: &str, lines: [&str; 3]) {
    let _ = write!(
        svg,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{BOX}\" rx=\"6\"/>"
    );
    let full = lines.iter().filter(|line| !line.is_empty()).count();
    let first = y + BOX / 2 + 4 - full.saturating_sub(1) * 7;
    for (at, line) in lines.iter().filter(|line| !line.is_empty()).enumerate() {
        let _ =
            write!(svg, "<text x=\"{}\" y=\"{}\">{}</text>", x + 8, first + at * 15, escape(&short(line)));
    }
}

/// What fits into a box.
fn short(text: &str) -> String {
    const MOST: usize = 38;
    match text.chars().count() > MOST {
        true => text.chars().take(MOST - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

fn summary(nodes: &[Node]) -> String {
    let told = nodes.iter().take(MAX_DRAWN).map(|node| {
        let note = if node.note.is_empty() { String::new() } else { format!(", {}", node.note) };
        format!("{}: {}{note}, {:.0} % of reads", node.address, node.role, node.reads * 100.0)
    });
    let mut text = told.collect::<Vec<_>>().join("; ");
    if nodes.len() > MAX_DRAWN {
        let _ = write!(text, "; and {} more", nodes.len() - MAX_DRAWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_foreign_is_escaped_and_the_picture_is_bounded() {
        let node = Node {
            address: "<script>:1".to_owned(),
            role: "primary".to_owned(),
            note: "\"x\" & y".to_owned(),
            health: Health::Good,
            takes_writes: true,
            reads: 0.25,
        };
        let drawing = draw(3, &vec![node; 100]);
        assert!(!drawing.svg.contains("<script>") && drawing.svg.contains("&lt;script&gt;:1"));
        assert!(drawing.svg.contains("writes, 25 % of reads") && drawing.summary.contains("and 88 more"));
        assert!(drawing.svg.len() < 20_000);
        assert!(draw(0, &[]).svg.ends_with("</svg>"));
    }
}

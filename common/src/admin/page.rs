//! The status page: one self-contained document, readable on a phone, light and dark, whose content
//! is replaced by server-sent events of its own address while it is looked at.

use std::fmt::Write as _;

use crate::Build;
use crate::status::{Cell, Chart, Content, Health, Section, Status, escape};

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#fbfbfa;--fg:#1c1c1a;--dim:#63635e;--line:#dddcd6;--card:#fff;\
--good:#17703a;--warning:#8a5a00;--bad:#b3261e;--bar:#5b7fbd}\
@media(prefers-color-scheme:dark){:root{--bg:#161615;--fg:#ecece8;--dim:#a3a39b;--line:#35352f;--card:#1f1f1d;\
--good:#62c98a;--warning:#e0b050;--bad:#ff8a80;--bar:#86a8e0}}\
*{box-sizing:border-box}body{margin:0 auto;max-width:64rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;\
background:var(--bg);color:var(--fg)}h1{font-size:1.1rem;margin:0}h2{font-size:1rem;margin:0 0 .5rem}\
header{display:flex;flex-wrap:wrap;gap:.25rem 1rem;align-items:baseline;justify-content:space-between}\
header p,footer{color:var(--dim);margin:0;font-size:.9rem}\
.headline{font-size:1.4rem;margin:.5rem 0 1rem;padding-left:.75rem;border-left:.35rem solid}\
section{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1rem;margin:0 0 1rem;\
overflow-x:auto}dl{display:grid;grid-template-columns:minmax(8rem,auto) 1fr;gap:.25rem 1rem;margin:0}\
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}\
td{white-space:pre-wrap}input,select{font:inherit;width:100%;margin:0 0 1rem;padding:.25rem .5rem;color:var(--fg);\
background:var(--card);border:1px solid var(--line);border-radius:.5rem}\
th{color:var(--dim);font-weight:500}.good{color:var(--good)}.warning{color:var(--warning)}.bad{color:var(--bad)}\
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(14rem,1fr));gap:1rem}figure{margin:0}\
figcaption{color:var(--dim);font-size:.9rem}svg{width:100%;height:3rem;display:block}rect{fill:var(--bar)}\
.drawing svg{height:auto;max-width:48rem}.drawing rect{fill:var(--card);stroke:currentColor}\
.drawing text{fill:var(--fg);font-size:12px}.wire{fill:none;stroke:currentColor}";

const SCRIPT: &str = "\
const find=document.getElementById('find');function sift(){const t=find.value.toLowerCase(),\
all=document.querySelectorAll('tbody tr,figure');if(all.length>10)find.parentElement.hidden=false;\
for(const e of all)e.hidden=!e.textContent.toLowerCase().includes(t)}\
find.addEventListener('input',sift);\
const main=document.querySelector('main'),live=document.getElementById('live');let source;\
function watch(){source=new EventSource(location.pathname);\
source.onopen=()=>{live.textContent='live'};source.onmessage=e=>{const old=[...main.children],\
at=old.indexOf(document.activeElement),lefts=old.map(s=>s.scrollLeft);main.innerHTML=e.data;\
[...main.children].forEach((s,i)=>{if(lefts[i])s.scrollLeft=lefts[i];if(i===at)s.focus({preventScroll:true})});\
document.title=document.querySelector('h1').textContent+': '+main.firstElementChild.textContent;sift()};\
source.onerror=()=>{live.textContent='not reachable';if(source.readyState===2)setTimeout(watch,5000)}}\
document.addEventListener('visibilitychange',()=>{source.close();if(!document.hidden)watch()});watch()";

/// The token stays in the page; it is neither stored nor part of any address.
const CALLS: &str = "\
for(const b of document.querySelectorAll('[data-call]'))b.addEventListener('click',async e=>{e.preventDefault();\
const o=document.getElementById('said'),c=document.getElementById('choice');let u=b.dataset.call;\
if(c&&c.value)u+=(u.includes('?')?'&':'?')+c.name+'='+encodeURIComponent(c.value);\
o.textContent='…';try{const r=await fetch(u,{method:'POST',\
headers:{Authorization:'Bearer '+document.getElementById('token').value}});const d=await r.json();\
o.textContent=r.status+' '+[d.status,d.message,d.error,d.new,d.not_followed].filter(Boolean).join(': ')}\
catch(x){o.textContent=String(x)}});";

/// Whether there is so much in tables and charts that people want to search it. The script looks again when the page
/// has grown.
fn is_long(status: &Status) -> bool {
    let parts = |section: &Section| match &section.content {
        Content::Facts(_) | Content::Drawing(_) => 0,
        Content::Table { rows, .. } => rows.len(),
        Content::Charts(charts) => charts.len(),
    };
    status.sections.iter().map(parts).sum::<usize>() > 10
}

pub(super) fn render(build: &Build, status: &Status) -> String {
    let mut html = String::with_capacity(8 << 10);
    let name = escape(build.name);
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{name}: {headline}</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><link rel=\"icon\" href=\"data:,\">\
         <style>{STYLE}</style></head><body><header><h1>{name}</h1><p>{version} ({revision}) · \
         <span id=\"live\" role=\"status\">live</span></p></header><div role=\"search\"{hidden}><input id=\"find\" type=\"search\" \
         aria-label=\"Search tables and charts\" placeholder=\"Search\"></div><main>",
        hidden = if is_long(status) { "" } else { " hidden" },
        headline = escape(&status.headline),
        version = escape(build.version),
        revision = escape(build.revision),
    );
    write_content(&mut html, status);
    html.push_str("</main>");
    if !status.calls.is_empty() {
        html.push_str(
            "<section aria-label=\"Act\"><h2>Act</h2><form><input id=\"token\" type=\"password\" autocomplete=\"off\" \
             aria-label=\"Token\" placeholder=\"Token\">",
        );
        if let Some(choices) = &status.choices {
            let _ = write!(
                html,
                "<select id=\"choice\" name=\"{0}\" aria-label=\"{0}\"><option value=\"\">{1}</option>",
                escape(choices.parameter),
                escape(choices.nothing)
            );
            for value in &choices.values {
                let _ = write!(html, "<option>{}</option>", escape(value));
            }
            html.push_str("</select> ");
        }
        for (label, path) in &status.calls {
            let _ = write!(html, "<button data-call=\"{}\">{}</button> ", escape(path), escape(label));
        }
        let _ = write!(html, "<p id=\"said\" role=\"status\"></p></form></section><script>{CALLS}</script>");
    }
    let _ = write!(
        html,
        "<footer><a href=\"/metrics\">/metrics</a> · <a href=\"/readyz\">/readyz</a> · \
         <a href=\"/livez\">/livez</a> · <a href=\"/status.json\">/status.json</a></footer>\
         <script>{SCRIPT}</script></body></html>"
    );
    html
}

/// What changes while the page is looked at.
pub(super) fn content(status: &Status) -> String {
    let mut html = String::with_capacity(8 << 10);
    write_content(&mut html, status);
    html
}

fn write_content(html: &mut String, status: &Status) {
    let (health, headline) = (status.health.class(), escape(&status.headline));
    let _ = write!(html, "<p class=\"headline {health}\">{headline}</p>");
    for section in &status.sections {
        write_section(html, section);
    }
}

fn write_section(html: &mut String, section: &Section) {
    let title = escape(&section.title);
    // A wide table scrolls within its section, by keyboard too.
    let reach = match section.content {
        Content::Table { .. } => format!(" tabindex=\"0\" aria-label=\"{title}\""),
        _ => String::new(),
    };
    let _ = write!(html, "<section{reach}><h2>{title}</h2>");
    match &section.content {
        Content::Facts(facts) => {
            html.push_str("<dl>");
            for (name, cell) in facts {
                let _ = write!(html, "<dt>{}</dt><dd>{}</dd>", escape(name), span(cell));
            }
            html.push_str("</dl>");
        }
        Content::Table { columns, rows } => {
            html.push_str("<table><thead><tr>");
            for column in columns {
                let _ = write!(html, "<th scope=\"col\">{}</th>", escape(column));
            }
            html.push_str("</tr></thead><tbody>");
            for row in rows {
                html.push_str("<tr>");
                for cell in row {
                    let _ = write!(html, "<td>{}</td>", span(cell));
                }
                html.push_str("</tr>");
            }
            html.push_str("</tbody></table>");
        }
        Content::Charts(charts) => {
            html.push_str("<div class=\"charts\">");
            for chart in charts {
                write_chart(html, chart);
            }
            html.push_str("</div>");
        }
        Content::Drawing(drawing) => {
            let _ = write!(html, "<div class=\"drawing\">{}</div>", drawing.svg);
        }
    }
    html.push_str("</section>");
}

fn write_chart(html: &mut String, chart: &Chart) {
    let top = chart.values.iter().flatten().copied().fold(0.0, f64::max);
    let newest = chart.values.iter().rev().flatten().next().copied().unwrap_or(0.0);
    let title = escape(&chart.title);
    let unit = escape(&chart.unit);
    let count = chart.values.len().max(1);
    let _ = write!(
        html,
        "<figure><svg viewBox=\"0 0 {count} 100\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{title}: now {newest:.3} {unit}, highest {top:.3} {unit}\">"
    );
    for (index, value) in chart.values.iter().enumerate() {
        let Some(value) = value.filter(|_| top > 0.0) else { continue };
        let height = (value / top * 100.0).clamp(1.0, 100.0);
        let _ = write!(
            html,
            "<rect x=\"{index}\" y=\"{:.1}\" width=\"0.8\" height=\"{height:.1}\"/>",
            100.0 - height
        );
    }
    let _ = write!(
        html,
        "</svg><figcaption>{title}: {newest:.3} {unit} (highest {top:.3})</figcaption></figure>"
    );
}

fn span(cell: &Cell) -> String {
    match cell.health {
        Health::Neutral => escape(&cell.text),
        health => format!("<span class=\"{}\">{}</span>", health.class(), escape(&cell.text)),
    }
}

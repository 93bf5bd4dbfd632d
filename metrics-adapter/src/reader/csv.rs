//! Tables: comma-separated values with a header, quoted as in RFC 4180.

use std::borrow::Cow;

use super::metric::Metric;
use super::template::Template;
use super::{Builder, ReadError};

/// How a table is laid out, and what is taken from each row.
#[derive(Clone, Debug)]
pub struct Csv {
    /// Between fields.
    pub delimiter: char,
    /// Column names of a table without a header.
    pub columns: Option<Vec<String>>,
    /// What to take.
    pub metrics: Vec<ColumnMetric>,
}

/// One entry of `metrics` over columns.
#[derive(Clone, Debug)]
pub struct ColumnMetric {
    /// What it is called, and how the value is read.
    pub metric: Metric,
    /// The column of the value.
    pub column: String,
    /// Only rows in which these columns hold these texts.
    pub only: Vec<(String, String)>,
    /// Names, and templates over column names.
    pub labels: Vec<(String, Template)>,
}

/// Columns of one table.
const MAX_COLUMNS: usize = 4096;

/// A table split into rows that refer to their columns by name.
#[derive(Debug)]
pub struct Table {
    columns: Vec<String>,
}

/// One row.
#[derive(Debug)]
pub struct Row<'a> {
    table: &'a Table,
    fields: &'a [Cow<'a, str>],
}

impl Table {
    /// Whether there is a column of this name.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|known| known == column)
    }
}

impl<'a> Row<'a> {
    /// The field in the column of this name; empty where the row is too short.
    #[must_use]
    pub fn field(&self, column: &str) -> Option<&'a str> {
        let at = self.table.columns.iter().position(|known| known == column)?;
        Some(self.fields.get(at).map_or("", |field| field))
    }
}

/// Calls `each` for every row. A line that repeats a header (`# …` in the middle of the text) starts a new one.
///
/// # Errors
/// There is no header, or it has too many columns.
pub fn rows(
    text: &str,
    delimiter: char,
    columns: Option<&[String]>,
    mut each: impl FnMut(u64, &Row<'_>),
) -> Result<Table, ReadError> {
    let mut table = columns.map(|columns| Table { columns: columns.to_vec() });
    let (mut rest, mut line) = (text, 0_u64);
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let first = line + 1;
        fields.clear();
        let (after, lines) = record(rest, delimiter, &mut fields);
        rest = after;
        line += lines;
        if fields.iter().all(|field| field.is_empty()) {
            continue;
        }
        let is_header = columns.is_none() && (table.is_none() || fields[0].starts_with('#'));
        if is_header {
            if fields.len() > MAX_COLUMNS {
                return Err(ReadError::at(first, format!("more than {MAX_COLUMNS} columns")));
            }
            let name = |(at, name): (usize, &Cow<'_, str>)| match at {
                0 => name.trim_start_matches('#').trim().to_owned(),
                _ => name.trim().to_owned(),
            };
            table = Some(Table { columns: fields.iter().enumerate().map(name).collect() });
        } else if let Some(table) = &table {
            each(first, &Row { table, fields: &fields });
        }
    }
    table.ok_or_else(|| ReadError::new("there is no header line"))
}

/// Adds the fields of the first record; gives the text behind it, and its lines.
fn record<'a>(text: &'a str, delimiter: char, fields: &mut Vec<Cow<'a, str>>) -> (&'a str, u64) {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    if line.contains('"') {
        return quoted_record(text, delimiter, fields);
    }
    let line = line.strip_suffix('\r').unwrap_or(line);
    // A row of a million commas is cut; the header's bound names the problem.
    fields.extend(line.split(delimiter).take(MAX_COLUMNS + 1).map(Cow::Borrowed));
    (after, 1)
}

fn quoted_record<'a>(text: &'a str, delimiter: char, fields: &mut Vec<Cow<'a, str>>) -> (&'a str, u64) {
    let (mut field, mut quoted, mut lines) = (String::new(), false, 0);
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' if quoted && characters.peek().is_some_and(|(_, next)| *next == '"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            '\n' if !quoted => {
                if field.ends_with('\r') {
                    field.pop();
                }
                fields.push(field.into());
                return (&text[at + 1..], lines + 1);
            }
            c if c == delimiter && !quoted => {
                if fields.len() <= MAX_COLUMNS {
                    fields.push(std::mem::take(&mut field).into());
                }
                field.clear();
            }
            c => {
                lines += u64::from(c == '\n');
                field.push(c);
            }
        }
    }
    fields.push(field.into());
    ("", lines + 1)
}

impl Csv {
    pub(super) fn read(&self, text: &str, out: &mut Builder) -> Result<(), ReadError> {
        let table = rows(text, self.delimiter, self.columns.as_deref(), |line, row| {
            for metric in &self.metrics {
                metric.read(line, row, out);
            }
        })?;
        for metric in &self.metrics {
            let wanted =
                metric.only.iter().map(|(column, _)| column.as_str()).chain([metric.column.as_str()]);
            let wanted = wanted.chain(metric.labels.iter().flat_map(|(_, template)| template.references()));
            for column in wanted.filter(|column| !table.has(column)) {
                out.skip(|| format!("there is no column `{}`", super::shortened(column, 60)));
            }
        }
        Ok(())
    }
}

impl ColumnMetric {
    fn read(&self, line: u64, row: &Row<'_>, out: &mut Builder) {
        let wanted = self.only.iter().all(|(column, text)| row.field(column) == Some(text.as_str()));
        let Some(value) = row.field(&self.column).filter(|value| wanted && !value.trim().is_empty()) else {
            return;
        };
        let name = self.metric.name.expand(|column| row.field(column));
        match self.metric.value(value) {
            Some(number) => {
                let field = |column: &str| row.field(column);
                let labels = self.labels.iter().map(|(name, template)| (name, template.expand(field)));
                out.add(&name, &self.metric.help, self.metric.kind, labels.collect(), number);
            }
            None => {
                out.skip(|| format!("{name}: line {line}: `{}` is no number", super::shortened(value, 40)));
            }
        }
    }
}

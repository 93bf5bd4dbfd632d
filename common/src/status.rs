//! What the status page shows, as data; [`crate::admin`] renders it.

use serde::Serialize;

/// Whether a part is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Good,
    /// Works, but somebody should look.
    Warning,
    /// Does not work.
    Bad,
    /// Nothing to judge.
    Neutral,
}

/// One page.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The state in one short sentence.
    pub headline: String,
    /// Colour of the headline.
    pub health: Health,
    /// Blocks below it.
    pub sections: Vec<Section>,
    /// What machines read: any JSON, in `/status.json` only.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
    /// Buttons: a label and the path that is sent a POST with the bearer token from the page's field.
    #[serde(skip)]
    pub calls: Vec<(&'static str, &'static str)>,
    /// What the buttons can be about, one of a list; see [`Choices`].
    #[serde(skip)]
    pub choices: Option<Choices>,
}

/// A list to choose from, beside the buttons.
#[derive(Debug, Clone)]
pub struct Choices {
    /// Name of the query parameter that carries the choice; left out as long as nothing is chosen.
    pub parameter: &'static str,
    /// What stands there while nothing is chosen.
    pub nothing: &'static str,
    /// The values.
    pub values: Vec<String>,
}

impl Status {
    /// A page with a headline only.
    pub fn new(health: Health, headline: impl Into<String>) -> Self {
        Self {
            headline: headline.into(),
            health,
            sections: Vec::new(),
            details: serde_json::Value::Null,
            calls: Vec::new(),
            choices: None,
        }
    }

    /// Adds a button; see [`Status::calls`].
    #[must_use]
    pub fn call(mut self, label: &'static str, path: &'static str) -> Self {
        self.calls.push((label, path));
        self
    }

    /// Lets somebody choose what the buttons are about.
    #[must_use]
    pub fn choices(mut self, choices: Choices) -> Self {
        self.choices = Some(choices);
        self
    }

    /// Sets what machines read.
    #[must_use]
    pub fn details(mut self, details: serde_json::Value) -> Self {
        self.details = details;
        self
    }

    /// Adds a block.
    #[must_use]
    pub fn section(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }
}

/// A titled block: named values, a table, or a chart.
#[derive(Debug, Clone, Serialize)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// Content.
    pub content: Content,
}

/// What a [`Section`] holds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// Names and values.
    Facts(Vec<(String, Cell)>),
    /// Rows under column headings.
    Table {
        /// Column headings.
        columns: Vec<String>,
        /// Cells, as many in each row as there are columns.
        rows: Vec<Vec<Cell>>,
    },
    /// Small bar charts, each a series of recent values, newest last.
    Charts(Vec<Chart>),
    /// A picture.
    Drawing(Drawing),
}

/// A picture, and the same in words for those who cannot see it.
#[derive(Debug, Clone, Serialize)]
pub struct Drawing {
    /// An `svg` element, shown as it is: whoever makes it escapes what comes from elsewhere ([`escape`]).
    #[serde(skip)]
    pub svg: String,
    /// What it shows.
    pub summary: String,
}

/// One small chart.
#[derive(Debug, Clone, Serialize)]
pub struct Chart {
    /// What is drawn.
    pub title: String,
    /// Unit of the values, for the caption.
    pub unit: String,
    /// Values, oldest first; `None` draws a gap.
    pub values: Vec<Option<f64>>,
}

impl Health {
    /// Its class in the page's style.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
            Self::Neutral => "neutral",
        }
    }
}

/// Text as HTML and SVG want it.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A value and how it is to be taken.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    /// The text; escaped when rendered.
    pub text: String,
    /// Its colour.
    pub health: Health,
}

impl Cell {
    /// A judged value.
    pub fn new(health: Health, text: impl Into<String>) -> Self {
        Self { text: text.into(), health }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Health::Neutral, text)
    }
}

impl Section {
    /// A block of names and values.
    pub fn facts<K: Into<String>, V: Into<Cell>>(
        title: impl Into<String>,
        facts: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let facts = facts.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { title: title.into(), content: Content::Facts(facts) }
    }

    /// A block with a table.
    pub fn table(title: impl Into<String>, columns: &[&str], rows: Vec<Vec<Cell>>) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { title: title.into(), content: Content::Table { columns, rows } }
    }

    /// A block with a picture.
    pub fn drawing(title: impl Into<String>, drawing: Drawing) -> Self {
        Self { title: title.into(), content: Content::Drawing(drawing) }
    }

    /// A block of small charts.
    pub fn charts(title: impl Into<String>, charts: Vec<Chart>) -> Self {
        Self { title: title.into(), content: Content::Charts(charts) }
    }
}

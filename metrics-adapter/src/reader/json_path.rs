//! JSON pointer (RFC 6901) and JSONPath (the part of RFC 9535 that selects; no functions).
//!
//! `/a/0/b` is a pointer. `$` is the document and `@` the value at hand; a path may begin with neither. Steps are
//! `.name`, `['name']`, `[0]`, `[-1]`, `[*]`, `.*`, `[1:5:2]`, `['a','b']`, `..name`, `..*` and
//! `[?(@.state == 'up' && @.n > 0)]`. Braces around the whole (`{.a.b}`, as in json_exporter) are allowed.
//! Every step that can select several values captures the name or index it took, for `$1`, `$2` in labels.

use super::ReadError;
use super::json::Json;

/// A path that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// Whether it starts at the document even where a value is at hand.
    pub absolute: bool,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
struct Step {
    /// `..`: from every value below as well.
    deep: bool,
    selectors: Vec<Selector>,
}

#[derive(Clone, Debug, PartialEq)]
enum Selector {
    Name(String),
    /// A token of a pointer: a member, or an item if it is a number.
    Token(String),
    Index(i64),
    All,
    Slice(Option<i64>, Option<i64>, i64),
    Filter(Test),
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Or(Vec<Test>),
    And(Vec<Test>),
    Not(Box<Test>),
    Exists(Path),
    Compare(Operand, Comparison, Operand),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Path),
    Literal(Json<'static>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value that was selected.
#[derive(Clone, Debug)]
pub struct Match<'a> {
    /// The value.
    pub value: &'a Json<'a>,
    /// Names and indexes taken by steps that can select several values, in their order.
    pub captures: Vec<String>,
}

/// What one evaluation may look at, and whether it notes the way.
struct Budget {
    visits: usize,
    captures: bool,
}

impl Budget {
    fn visit(&mut self) -> Option<()> {
        self.visits = self.visits.checked_sub(1)?;
        Some(())
    }
}

/// Values looked at by one evaluation.
const MAX_VISITS: usize = 2_000_000;
/// Nested parentheses of a filter.
const MAX_NESTING: usize = 16;

impl Path {
    /// The value at hand itself.
    #[must_use]
    pub const fn here() -> Self {
        Self { absolute: false, steps: Vec::new() }
    }

    /// Reads a pointer or a path.
    ///
    /// # Errors
    /// What is not understood, with its column.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let inner = text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).map_or(text, str::trim);
        if inner.starts_with('/') {
            return pointer(inner);
        }
        let mut parser = Parser { text: inner, at: 0, nesting: 0 };
        let path = parser.path(true)?;
        match parser.rest().is_empty() {
            true => Ok(path),
            false => Err(parser.wrong("a step such as `.name`, `[0]`, `[*]`")),
        }
    }

    /// Whether it can select one value at most.
    #[must_use]
    pub fn is_single(&self) -> bool {
        let single = |selector: &Selector| {
            matches!(selector, Selector::Name(_) | Selector::Token(_) | Selector::Index(_))
        };
        self.steps
            .iter()
            .all(|step| !step.deep && step.selectors.len() == 1 && step.selectors.iter().all(single))
    }

    /// All values the path selects, with captures.
    ///
    /// # Errors
    /// It looks at too many values.
    pub fn select<'a>(
        &self,
        document: &'a Json<'a>,
        here: &'a Json<'a>,
    ) -> Result<Vec<Match<'a>>, ReadError> {
        self.select_with(document, here, true)
    }

    /// The same; captures cost memory per value and are left empty where nobody refers to them.
    ///
    /// # Errors
    /// It looks at too many values.
    pub fn select_with<'a>(
        &self,
        document: &'a Json<'a>,
        here: &'a Json<'a>,
        captures: bool,
    ) -> Result<Vec<Match<'a>>, ReadError> {
        let mut budget = Budget { visits: MAX_VISITS, captures };
        self.select_within(document, here, &mut budget)
            .ok_or_else(|| ReadError::new(format!("a path looks at more than {MAX_VISITS} values")))
    }

    /// The first value the path selects.
    #[must_use]
    pub fn first<'a>(&self, document: &'a Json<'a>, here: &'a Json<'a>) -> Option<&'a Json<'a>> {
        // Almost all paths inside of a value are plain names, which need no list of matches.
        let start = if self.absolute { document } else { here };
        let plain = self.steps.iter().try_fold(Some(start), |value, step| match &step.selectors[..] {
            [Selector::Name(name)] if !step.deep => Some(value.and_then(|value| value.member(name))),
            _ => None,
        });
        match plain {
            Some(found) => found,
            None => self.select_with(document, here, false).ok()?.first().map(|found| found.value),
        }
    }

    fn select_within<'a>(
        &self,
        document: &'a Json<'a>,
        here: &'a Json<'a>,
        budget: &mut Budget,
    ) -> Option<Vec<Match<'a>>> {
        let start = if self.absolute { document } else { here };
        let mut found = vec![Match { value: start, captures: Vec::new() }];
        for step in &self.steps {
            let mut next = Vec::new();
            for one in &found {
                step.apply(document, one, &mut next, budget)?;
            }
            found = next;
        }
        Some(found)
    }
}

fn pointer(text: &str) -> Result<Path, String> {
    let token = |token: &str| {
        let name = token.replace("~1", "/").replace("~0", "~");
        Step { deep: false, selectors: vec![Selector::Token(name)] }
    };
    Ok(Path { absolute: false, steps: text[1..].split('/').map(token).collect() })
}

impl Step {
    fn apply<'a>(
        &self,
        document: &'a Json<'a>,
        from: &Match<'a>,
        out: &mut Vec<Match<'a>>,
        budget: &mut Budget,
    ) -> Option<()> {
        let several = self.deep || self.selectors.len() > 1;
        for selector in &self.selectors {
            selector.apply(document, from, several, out, budget)?;
        }
        if self.deep {
            for (_, child) in children(from.value) {
                let below = Match { value: child, captures: from.captures.clone() };
                self.apply(document, &below, out, budget)?;
            }
        }
        Some(())
    }
}

fn children<'a>(value: &'a Json<'a>) -> Box<dyn Iterator<Item = (Key<'a>, &'a Json<'a>)> + 'a> {
    match value {
        Json::List(items) => Box::new(items.iter().enumerate().map(|(at, item)| (Key::Index(at), item))),
        Json::Map(members) => Box::new(members.iter().map(|(name, value)| (Key::Name(name), value))),
        _ => Box::new(std::iter::empty()),
    }
}

enum Key<'a> {
    Name(&'a str),
    Index(usize),
}

impl Key<'_> {
    fn text(&self) -> String {
        match self {
            Key::Name(name) => (*name).to_owned(),
            Key::Index(at) => at.to_string(),
        }
    }
}

impl Selector {
    fn apply<'a>(
        &self,
        document: &'a Json<'a>,
        from: &Match<'a>,
        several: bool,
        out: &mut Vec<Match<'a>>,
        budget: &mut Budget,
    ) -> Option<()> {
        budget.visit()?;
        let wanted = budget.captures;
        let mut take = |key: Option<Key<'_>>, value: &'a Json<'a>| {
            let mut captures = from.captures.clone();
            if wanted {
                captures.extend(key.map(|key| key.text()));
            }
            out.push(Match { value, captures });
        };
        match (self, from.value) {
            (Self::Name(name), value) => {
                if let Some(value) = value.member(name) {
                    take(several.then_some(Key::Name(name)), value);
                }
            }
            (Self::Token(name), Json::List(items)) => {
                let item = name.parse::<usize>().ok().and_then(|at| items.get(at));
                item.into_iter().for_each(|item| take(None, item));
            }
            (Self::Token(name), value) => {
                value.member(name).into_iter().for_each(|value| take(None, value));
            }
            (Self::Index(at), Json::List(items)) => {
                if let Some(at) = absolute(*at, items.len()).filter(|at| *at < items.len()) {
                    take(several.then_some(Key::Index(at)), &items[at]);
                }
            }
            (Self::All, value) => {
                for (key, child) in children(value) {
                    budget.visit()?;
                    take(Some(key), child);
                }
            }
            (Self::Slice(from, to, by), Json::List(items)) => {
                for at in slice(*from, *to, *by, items.len()) {
                    budget.visit()?;
                    take(Some(Key::Index(at)), &items[at]);
                }
            }
            (Self::Filter(test), value) => {
                for (key, child) in children(value) {
                    budget.visit()?;
                    if test.holds(document, child, budget)? {
                        take(Some(key), child);
                    }
                }
            }
            (Self::Index(_) | Self::Slice(..), _) => {}
        }
        Some(())
    }
}

fn absolute(at: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if at < 0 { at.checked_add(length)? } else { at }).ok()
}

/// The indexes of `[from:to:by]`, as in RFC 9535.
fn slice(from: Option<i64>, to: Option<i64>, by: i64, length: usize) -> Vec<usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let normal = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    let mut found = Vec::new();
    if by > 0 {
        let (from, to) =
            (normal(from.unwrap_or(0)).clamp(0, length), normal(to.unwrap_or(length)).clamp(0, length));
        let mut at = from;
        while at < to {
            found.extend(usize::try_from(at));
            at = at.saturating_add(by);
        }
    } else if by < 0 {
        let from = from.map_or(length - 1, normal).clamp(-1, length - 1);
        let to = to.map_or(-1, |to| normal(to).clamp(-1, length - 1));
        let mut at = from;
        while at > to {
            found.extend(usize::try_from(at));
            at = at.saturating_add(by);
        }
    }
    found
}

impl Test {
    fn holds(&self, document: &Json<'_>, here: &Json<'_>, budget: &mut Budget) -> Option<bool> {
        Some(match self {
            Self::Or(tests) => {
                for test in tests {
                    if test.holds(document, here, budget)? {
                        return Some(true);
                    }
                }
                false
            }
            Self::And(tests) => {
                for test in tests {
                    if !test.holds(document, here, budget)? {
                        return Some(false);
                    }
                }
                true
            }
            Self::Not(test) => !test.holds(document, here, budget)?,
            Self::Exists(path) => !path.select_within(document, here, budget)?.is_empty(),
            Self::Compare(left, comparison, right) => {
                let (left, right) =
                    (left.value(document, here, budget)?, right.value(document, here, budget)?);
                comparison.holds(left, right)
            }
        })
    }
}

impl Operand {
    fn value<'a>(
        &'a self,
        document: &'a Json<'a>,
        here: &'a Json<'a>,
        budget: &mut Budget,
    ) -> Option<Option<&'a Json<'a>>> {
        match self {
            Self::Literal(value) => Some(Some(value)),
            Self::Path(path) => {
                let found = path.select_within(document, here, budget)?;
                Some(found.first().map(|found| found.value))
            }
        }
    }
}

impl Comparison {
    fn holds(self, left: Option<&Json<'_>>, right: Option<&Json<'_>>) -> bool {
        use std::cmp::Ordering;
        let order = match (left, right) {
            (Some(Json::Text(left)), Some(Json::Text(right))) => Some(left.cmp(right)),
            (
                Some(left @ (Json::Whole(_) | Json::Number(_))),
                Some(right @ (Json::Whole(_) | Json::Number(_))),
            ) => left.number().partial_cmp(&right.number()),
            (left, right) => (left == right).then_some(Ordering::Equal),
        };
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::Unequal => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    nesting: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn wrong(&self, expected: &str) -> String {
        let column = self.text[..self.at].chars().count() + 1;
        let found = match self.rest().chars().next() {
            Some(c) => format!("`{c}`"),
            None => "the end".to_owned(),
        };
        format!(
            "`{}`: {expected} is expected at column {column}, where {found} is",
            super::shortened(self.text, 80)
        )
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        self.blanks();
        if self.eat(token) { Ok(()) } else { Err(self.wrong(&format!("`{token}`"))) }
    }

    /// `bare` allows a name at the very start, as in `a.b`.
    fn path(&mut self, bare: bool) -> Result<Path, String> {
        let absolute = self.eat("$");
        let relative = !absolute && self.eat("@");
        let mut steps = Vec::new();
        if bare && !absolute && !relative && !self.rest().is_empty() && !self.rest().starts_with(['.', '[']) {
            steps.push(Step { deep: false, selectors: vec![self.dotted()?] });
        }
        loop {
            let deep = self.eat("..");
            if self.rest().starts_with('[') {
                let selectors = self.brackets()?;
                steps.push(Step { deep, selectors });
            } else if deep || self.eat(".") {
                // `{.}` and `.` are the value itself.
                if !deep && steps.is_empty() && self.rest().is_empty() {
                    break;
                }
                steps.push(Step { deep, selectors: vec![self.dotted()?] });
            } else {
                break;
            }
        }
        Ok(Path { absolute, steps })
    }

    fn dotted(&mut self) -> Result<Selector, String> {
        if self.eat("*") {
            return Ok(Selector::All);
        }
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || !c.is_ascii();
        let end = self.rest().find(|c| !word(c)).unwrap_or(self.rest().len());
        if end == 0 {
            return Err(self.wrong("a name or `*`"));
        }
        let name = self.rest()[..end].to_owned();
        self.at += end;
        if self.rest().starts_with('(') {
            return Err(format!("`{}`: functions are not supported", super::shortened(self.text, 80)));
        }
        Ok(Selector::Name(name))
    }

    fn brackets(&mut self) -> Result<Vec<Selector>, String> {
        self.expect("[")?;
        let mut selectors = Vec::new();
        loop {
            self.blanks();
            selectors.push(self.selector()?);
            self.blanks();
            if self.eat("]") {
                return Ok(selectors);
            }
            if !self.eat(",") {
                return Err(self.wrong("`]` or `,`"));
            }
        }
    }

    fn selector(&mut self) -> Result<Selector, String> {
        if self.eat("*") {
            return Ok(Selector::All);
        }
        if self.eat("?") {
            return Ok(Selector::Filter(self.or()?));
        }
        if self.rest().starts_with(['\'', '"']) {
            return Ok(Selector::Name(self.quoted()?));
        }
        let from = self.whole()?;
        self.blanks();
        if !self.eat(":") {
            return from
                .map(Selector::Index)
                .ok_or_else(|| self.wrong("an index, a quoted name, `*` or `?`"));
        }
        self.blanks();
        let to = self.whole()?;
        self.blanks();
        let by = if self.eat(":") {
            self.blanks();
            self.whole()?
        } else {
            None
        };
        Ok(Selector::Slice(from, to, by.unwrap_or(1)))
    }

    fn whole(&mut self) -> Result<Option<i64>, String> {
        let digits = |c: char| c.is_ascii_digit() || c == '-';
        let end = self.rest().find(|c| !digits(c)).unwrap_or(self.rest().len());
        if end == 0 {
            return Ok(None);
        }
        let whole = self.rest()[..end].parse().map_err(|_| self.wrong("a whole number"))?;
        self.at += end;
        Ok(Some(whole))
    }

    fn quoted(&mut self) -> Result<String, String> {
        let Some(quote) = self.rest().chars().next() else { return Err(self.wrong("a quoted text")) };
        let mut text = String::new();
        let mut escaped = false;
        for (at, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => {
                    text.push(match c {
                        'n' => '\n',
                        't' => '\t',
                        c => c,
                    });
                    escaped = false;
                }
                '\\' => escaped = true,
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        self.at = self.text.len();
        Err(self.wrong("the closing quote"))
    }

    fn or(&mut self) -> Result<Test, String> {
        let mut tests = vec![self.and()?];
        loop {
            self.blanks();
            if !self.eat("||") {
                break;
            }
            tests.push(self.and()?);
        }
        Ok(if tests.len() == 1 { tests.remove(0) } else { Test::Or(tests) })
    }

    fn and(&mut self) -> Result<Test, String> {
        let mut tests = vec![self.test()?];
        loop {
            self.blanks();
            if !self.eat("&&") {
                break;
            }
            tests.push(self.test()?);
        }
        Ok(if tests.len() == 1 { tests.remove(0) } else { Test::And(tests) })
    }

    fn test(&mut self) -> Result<Test, String> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(self.wrong("a filter with fewer parentheses"));
        }
        self.blanks();
        let test = if self.rest().starts_with('!') && !self.rest().starts_with("!=") {
            self.at += 1;
            Test::Not(Box::new(self.test()?))
        } else if self.eat("(") {
            let inner = self.or()?;
            self.expect(")")?;
            inner
        } else {
            self.comparison()?
        };
        self.nesting -= 1;
        Ok(test)
    }

    fn comparison(&mut self) -> Result<Test, String> {
        let left = self.operand()?;
        self.blanks();
        let known = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (token, comparison) in known {
            if self.eat(token) {
                self.blanks();
                return Ok(Test::Compare(left, comparison, self.operand()?));
            }
        }
        match left {
            Operand::Path(path) => Ok(Test::Exists(path)),
            Operand::Literal(_) => Err(self.wrong("a comparison such as `==`")),
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        if self.rest().starts_with(['\'', '"']) {
            return Ok(Operand::Literal(Json::Text(self.quoted()?.into())));
        }
        if self.rest().starts_with(['@', '$']) {
            return Ok(Operand::Path(self.path(false)?));
        }
        for (word, value) in [("true", Json::Bool(true)), ("false", Json::Bool(false)), ("null", Json::Null)]
        {
            if self.eat(word) {
                return Ok(Operand::Literal(value));
            }
        }
        let digits = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let end = self.rest().find(|c| !digits(c)).unwrap_or(self.rest().len());
        let number = self.rest()[..end].parse::<f64>();
        let number = number.map_err(|_| self.wrong("`@…`, `$…`, a number or a quoted text"))?;
        self.at += end;
        Ok(Operand::Literal(Json::Number(number)))
    }
}

//! JSON with the digits of its numbers kept, since a `long` or a `BigDecimal` does not survive a double.

use thiserror::Error;

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 64;

/// Any JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Boolean(bool),
    /// As written.
    Number(String),
    String(String),
    Array(Vec<Json>),
    /// In the order of the text; a name that is there twice is kept twice.
    Object(Vec<(String, Json)>),
}

/// The text is not JSON.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("no JSON at byte {at}: {why}")]
pub(super) struct JsonError {
    /// Offset of what is wrong.
    pub at: usize,
    /// What it is.
    pub why: &'static str,
}

impl Json {
    /// Reads a whole text.
    pub(super) fn parse(text: &str) -> Result<Self, JsonError> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value(MAX_DEPTH)?;
        parser.blanks();
        if parser.at == text.len() { Ok(value) } else { parser.fail("text behind the value") }
    }

    /// The member of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Self::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn members(&self) -> &[(String, Json)] {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }

    pub(super) fn elements(&self) -> &[Json] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
    }
}

/// Appends a text as a JSON string.
pub(super) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl Parser<'_> {
    fn fail<T>(&self, why: &'static str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, why })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.blanks();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, why: &'static str) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { self.fail(why) }
    }

    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth == 0 {
            return self.fail("nested too deep");
        }
        self.blanks();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let words =
                    [("null", Json::Null), ("true", Json::Boolean(true)), ("false", Json::Boolean(false))];
                for (word, value) in words {
                    if self.text[self.at..].starts_with(word) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                self.fail("a value is expected")
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.at += 1;
        let mut members = Vec::new();
        if self.eat(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return self.fail("a name is expected");
            }
            let name = self.string()?;
            self.expect(b':', "a colon is expected")?;
            members.push((name, self.value(depth - 1)?));
            if !self.eat(b',') {
                self.expect(b'}', "a comma or a closing brace is expected")?;
                return Ok(Json::Object(members));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.at += 1;
        let mut elements = Vec::new();
        if self.eat(b']') {
            return Ok(Json::Array(elements));
        }
        loop {
            elements.push(self.value(depth - 1)?);
            if !self.eat(b',') {
                self.expect(b']', "a comma or a closing bracket is expected")?;
                return Ok(Json::Array(elements));
            }
        }
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        match text.parse::<f64>() {
            Ok(_) => Ok(Json::Number(text.to_owned())),
            Err(_) => {
                self.at = start;
                self.fail("a number is malformed")
            }
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(end) = rest.find(['"', '\\']) else { return self.fail("a string does not end") };
            out.push_str(&rest[..end]);
            self.at += end + 1;
            if rest.as_bytes()[end] == b'"' {
                return Ok(out);
            }
            self.escape(&mut out)?;
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), JsonError> {
        let Some(byte) = self.peek() else { return self.fail("a string does not end") };
        self.at += 1;
        out.push(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                let low = (0xD800..0xDC00).contains(&first) && self.text[self.at..].starts_with("\\u");
                let units = if low {
                    self.at += 2;
                    [first, self.unit()?]
                } else {
                    [first, 0]
                };
                let units = if low { &units[..] } else { &units[..1] };
                out.extend(char::decode_utf16(units.iter().copied()).map(|c| c.unwrap_or('\u{fffd}')));
                return Ok(());
            }
            _ => {
                self.at -= 1;
                return self.fail("an unknown escape");
            }
        });
        Ok(())
    }

    fn unit(&mut self) -> Result<u16, JsonError> {
        let digits = self.text.get(self.at..self.at + 4);
        let unit = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Some(unit) = unit.and_then(|text| u16::from_str_radix(text, 16).ok()) else {
            return self.fail("four hexadecimal digits are expected");
        };
        self.at += 4;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values() {
        let text = r#" {"a": [1, -2.50e3, 9223372036854775807], "b\"\u00e9\ud83d\ude00\n": null, "c": {}, "d": true} "#;
        let json = Json::parse(text).unwrap();
        let numbers: Vec<_> = json.get("a").unwrap().elements().iter().collect();
        assert_eq!(*numbers[1], Json::Number("-2.50e3".to_owned()));
        assert_eq!(*numbers[2], Json::Number("9223372036854775807".to_owned()));
        assert_eq!(json.members()[1].0, "b\"é😀\n");
        for bad in ["", "{", "[1,]", "{a:1}", "1 2", "\"\\x\"", "\"\\u12\"", "--1", "nul", &"[".repeat(100)] {
            assert!(Json::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in ".*", near in r#"[\[\]{}",:\\u01eé\-. tn]{0,24}"#) {
            let _ = Json::parse(&text);
            let _ = Json::parse(&near);
        }

        #[test]
        fn written_strings_are_read_back(text in ".*") {
            let mut json = String::new();
            write_string(&mut json, &text);
            prop_assert_eq!(Json::parse(&json).unwrap(), Json::String(text));
        }
    }
}

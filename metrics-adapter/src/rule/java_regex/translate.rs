//! Rewrites Java's syntax into the one of the regex crate and, where needed, fancy-regex.

/// A pattern in the new syntax.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) source: String,
    /// Lookaround, backreferences, possessive quantifiers or atomic groups.
    pub(super) needs_backtracking: bool,
}

/// Nested groups or classes beyond this are refused before any engine sees them.
const MAX_NESTING: usize = 100;

pub(super) fn translate(pattern: &str) -> Result<Translated, String> {
    let mut translator = Translator {
        rest: pattern,
        out: String::with_capacity(pattern.len() * 2),
        needs_backtracking: false,
        dot_all: vec![false],
        class_depth: 0,
    };
    while let Some(c) = translator.next() {
        translator.token(c)?;
    }
    if translator.class_depth > 0 {
        return Err("a character class is not closed".to_owned());
    }
    Ok(Translated { source: translator.out, needs_backtracking: translator.needs_backtracking })
}

struct Translator<'p> {
    rest: &'p str,
    out: String,
    needs_backtracking: bool,
    /// Whether `.` matches line ends, for each open group.
    dot_all: Vec<bool>,
    class_depth: usize,
}

impl Translator<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn token(&mut self, c: char) -> Result<(), String> {
        match c {
            '\\' => self.escape(),
            '[' => self.open_class(),
            _ if self.class_depth > 0 => {
                self.in_class(c);
                Ok(())
            }
            '(' => self.open_group(),
            ')' => {
                if self.dot_all.len() > 1 {
                    self.dot_all.pop();
                }
                self.out.push(')');
                self.quantifier_follows();
                Ok(())
            }
            '.' => {
                let dot_all = self.dot_all.last().copied().unwrap_or_default();
                self.out.push_str(if dot_all { r"(?s:.)" } else { super::DOT });
                self.quantifier_follows();
                Ok(())
            }
            '*' | '+' | '?' => Err(format!("nothing to repeat before `{c}`")),
            '^' | '$' | '|' => {
                self.out.push(c);
                // Repeating an anchor is allowed and pointless.
                self.quantifier_follows();
                Ok(())
            }
            _ => {
                self.literal(c);
                self.quantifier_follows();
                Ok(())
            }
        }
    }

    /// Writes a character that stands for itself. Characters the new syntax reserves are escaped.
    fn literal(&mut self, c: char) {
        if c.is_ascii_punctuation()
            && !matches!(
                c,
                '<' | '>' | '"' | '\'' | ',' | ':' | ';' | '=' | '/' | '_' | '@' | '!' | '%' | '`'
            )
        {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    /// After an atom: copies a quantifier, possessive ones included.
    fn quantifier_follows(&mut self) {
        let length = match self.rest.as_bytes().first() {
            Some(b'*' | b'+' | b'?') => 1,
            Some(b'{') => counted(self.rest),
            _ => 0,
        };
        if length == 0 {
            return;
        }
        let (quantifier, rest) = self.rest.split_at(length);
        self.out.push_str(quantifier);
        self.rest = rest;
        if self.eat("?") {
            self.out.push('?');
        } else if self.eat("+") {
            self.out.push('+');
            self.needs_backtracking = true;
        }
    }

    fn open_group(&mut self) -> Result<(), String> {
        if self.dot_all.len() > MAX_NESTING {
            return Err(format!("groups are nested more than {MAX_NESTING} deep"));
        }
        let inherited = self.dot_all.last().copied().unwrap_or_default();
        if !self.eat("?") {
            self.out.push('(');
            self.dot_all.push(inherited);
            return Ok(());
        }
        for (prefix, backtracking) in
            [(":", false), ("=", true), ("!", true), ("<=", true), ("<!", true), (">", true), ("<", false)]
        {
            if self.eat(prefix) {
                self.out.push_str("(?");
                self.out.push_str(prefix);
                if prefix == "<" {
                    let (name, rest) = self.rest.split_once('>').ok_or("a group name is not closed")?;
                    self.out.push_str(name);
                    self.out.push('>');
                    self.rest = rest;
                }
                self.needs_backtracking |= backtracking;
                self.dot_all.push(inherited);
                return Ok(());
            }
        }
        self.flags(inherited)
    }

    /// `(?i)`, `(?i-s:...)`: the dot rule is kept here, the rest is handed on.
    fn flags(&mut self, inherited: bool) -> Result<(), String> {
        let end = self.rest.find([')', ':']).ok_or("a group is not closed")?;
        let (flags, rest) = self.rest.split_at(end);
        let mut dot_all = inherited;
        let (mut on, mut off) = (String::new(), String::new());
        let mut negated = false;
        for flag in flags.chars() {
            match flag {
                '-' if !negated => negated = true,
                's' => dot_all = !negated,
                'i' | 'm' | 'x' => if negated { &mut off } else { &mut on }.push(flag),
                // Unix lines and Unicode case change nothing that object names contain.
                'd' | 'u' | 'U' => {}
                _ => return Err(format!("unknown flag `{flag}`")),
            }
        }
        let scoped = rest.starts_with(':');
        self.rest = &rest[1..];
        let off = if off.is_empty() { off } else { format!("-{off}") };
        if scoped {
            self.out.push_str(&format!("(?{on}{off}:"));
            self.dot_all.push(dot_all);
        } else {
            if !on.is_empty() || !off.is_empty() {
                self.out.push_str(&format!("(?{on}{off})"));
            }
            if let Some(current) = self.dot_all.last_mut() {
                *current = dot_all;
            }
        }
        Ok(())
    }

    fn open_class(&mut self) -> Result<(), String> {
        if self.class_depth > MAX_NESTING {
            return Err(format!("classes are nested more than {MAX_NESTING} deep"));
        }
        self.class_depth += 1;
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        // The new syntax takes a closing bracket in first place literally, and so does Java.
        if self.eat("]") {
            self.out.push_str(r"\]");
        }
        Ok(())
    }

    fn in_class(&mut self, c: char) {
        match c {
            ']' => {
                self.class_depth -= 1;
                self.out.push(']');
                if self.class_depth == 0 {
                    self.quantifier_follows();
                }
            }
            '&' if self.eat("&") => self.out.push_str("&&"),
            // Set operators of the new syntax, and white space that `x` would drop.
            '&' | '~' | '^' | ' ' | '#' => {
                self.out.push('\\');
                self.out.push(c);
            }
            '-' if self.rest.starts_with('-') => self.out.push_str(r"\-"),
            _ => self.out.push(c),
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        let c = self.next().ok_or("it ends in a backslash")?;
        match c {
            'd' => self.set("0-9", false),
            'D' => self.set("0-9", true),
            'w' => self.set("a-zA-Z0-9_", false),
            'W' => self.set("a-zA-Z0-9_", true),
            's' => self.set(r"\x20\t\n\x0B\f\r", false),
            'S' => self.set(r"\x20\t\n\x0B\f\r", true),
            'h' => self.set(r"\x20\t\xA0\x{1680}\x{180e}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}", false),
            'H' => self.set(r"\x20\t\xA0\x{1680}\x{180e}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}", true),
            'v' => self.set(r"\n\x0B\f\r\x{85}\x{2028}\x{2029}", false),
            'V' => self.set(r"\n\x0B\f\r\x{85}\x{2028}\x{2029}", true),
            'p' | 'P' => self.property(c == 'P')?,
            'Q' => self.quoted(),
            't' | 'n' | 'r' | 'f' | 'a' => {
                self.out.push('\\');
                self.out.push(c);
            }
            'e' => self.out.push_str(r"\x1B"),
            '0' => self.code(8, 3)?,
            'x' if self.eat("{") => {
                let (digits, rest) = self.rest.split_once('}').ok_or("`\\x{` is not closed")?;
                let code =
                    u32::from_str_radix(digits, 16).map_err(|_| "`\\x{` holds no hexadecimal number")?;
                self.rest = rest;
                self.out.push_str(&format!("\\x{{{code:x}}}"));
            }
            'x' => self.code(16, 2)?,
            'u' => self.code(16, 4)?,
            'c' => {
                let control = self.next().filter(char::is_ascii).ok_or("`\\c` needs a letter")?;
                self.out.push_str(&format!("\\x{{{:x}}}", u32::from(control) ^ 64));
            }
            _ if self.class_depth > 0 && c.is_ascii_alphanumeric() => {
                return Err(format!("unknown escape `\\{c}` in a class"));
            }
            'R' => self.out.push_str(r"(?:\r\n|[\n\x0B\f\r\x{85}\x{2028}\x{2029}])"),
            'b' | 'B' | 'A' | 'z' => {
                self.out.push('\\');
                self.out.push(c);
            }
            'Z' => {
                self.out.push_str(r"(?=\n?\z)");
                self.needs_backtracking = true;
            }
            '1'..='9' => {
                self.out.push('\\');
                self.out.push(c);
                self.needs_backtracking = true;
            }
            'k' => {
                let named = self.rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
                let (name, rest) = named.ok_or("`\\k` needs `<name>`")?;
                self.out.push_str(&format!("\\k<{name}>"));
                self.rest = rest;
                self.needs_backtracking = true;
            }
            _ if c.is_ascii_alphanumeric() => return Err(format!("unknown escape `\\{c}`")),
            _ => self.escaped_literal(c),
        }
        if self.class_depth == 0 {
            self.quantifier_follows();
        }
        Ok(())
    }

    fn escaped_literal(&mut self, c: char) {
        if c.is_ascii_punctuation() && !matches!(c, '<' | '>') || c == ' ' {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    /// A predefined class; as a nested one it is safe beside a hyphen.
    fn set(&mut self, members: &str, negated: bool) {
        self.out.push('[');
        if negated {
            self.out.push('^');
        }
        self.out.push_str(members);
        self.out.push(']');
    }

    fn quoted(&mut self) {
        let (text, rest) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
        self.rest = rest;
        for c in text.chars() {
            self.escaped_literal(c);
        }
    }

    /// A character by its number, with up to `most` digits.
    fn code(&mut self, radix: u32, most: usize) -> Result<(), String> {
        let length = self.rest.chars().take(most).take_while(|c| c.is_digit(radix)).count();
        let code =
            u32::from_str_radix(&self.rest[..length], radix).map_err(|_| "a character code has no digits")?;
        self.rest = &self.rest[length..];
        self.out.push_str(&format!("\\x{{{code:x}}}"));
        Ok(())
    }

    fn property(&mut self, negated: bool) -> Result<(), String> {
        let name = if self.eat("{") {
            let (name, rest) = self.rest.split_once('}').ok_or("`\\p{` is not closed")?;
            self.rest = rest;
            name.to_owned()
        } else {
            self.next().ok_or("`\\p` needs a name")?.to_string()
        };
        let posix = match name.as_str() {
            "Lower" => "a-z",
            "Upper" => "A-Z",
            "ASCII" => r"\x00-\x7F",
            "Alpha" => "a-zA-Z",
            "Digit" => "0-9",
            "Alnum" => "a-zA-Z0-9",
            "Punct" => r"!-/:-@\[-`{-~",
            "Graph" => "!-~",
            "Print" => r"\x20-~",
            "Blank" => r"\x20\t",
            "Cntrl" => r"\x00-\x1F\x7F",
            "XDigit" => "0-9a-fA-F",
            "Space" | "javaWhitespace" => r"\x20\t\n\x0B\f\r",
            "javaLowerCase" => r"\p{Ll}",
            "javaUpperCase" => r"\p{Lu}",
            "javaDigit" => r"\p{Nd}",
            "javaLetter" => r"\p{L}",
            "javaLetterOrDigit" => r"\p{L}\p{Nd}",
            _ => "",
        };
        if !posix.is_empty() {
            self.set(posix, negated);
            return Ok(());
        }
        let name = name.strip_prefix("Is").unwrap_or(&name);
        self.set(&format!(r"\p{{{name}}}"), negated);
        Ok(())
    }
}

/// Length of `{n}`, `{n,}` or `{n,m}` at the start; 0 when it is none.
fn counted(text: &str) -> usize {
    let Some(end) = text.find('}') else { return 0 };
    let inner = &text[1..end];
    let (low, high) = inner.split_once(',').unwrap_or((inner, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !low.is_empty() && digits(low) && digits(high) { end + 1 } else { 0 }
}

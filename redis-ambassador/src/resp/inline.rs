//! Inline requests: a line of words, as typed into telnet.

use super::write_multibulk;

/// A quote was opened and not closed, or a closing quote is followed by something other than a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unbalanced quotes in inline request")]
pub struct UnbalancedQuotes;

/// Turns an inline line (with or without its line end) into the multibulk request of the same meaning; `None` when
/// the line has no words.
///
/// Quoting is Redis's: `"…"` with `\n \r \t \b \a \xHH` and `\c`, `'…'` with `\'` only.
///
/// # Errors
/// [`UnbalancedQuotes`].
pub fn inline_to_multibulk(line: &[u8]) -> Result<Option<Vec<u8>>, UnbalancedQuotes> {
    let words = split(line)?;
    if words.is_empty() {
        return Ok(None);
    }
    let mut request = Vec::with_capacity(line.len() + 16 * words.len());
    write_multibulk(&mut request, words.iter().map(Vec::as_slice));
    Ok(Some(request))
}

fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while at < line.len() && is_space(line[at]) {
            at += 1;
        }
        if at == line.len() {
            return Ok(words);
        }
        let (word, end) = word(line, at)?;
        words.push(word);
        at = end;
    }
}

fn word(line: &[u8], mut at: usize) -> Result<(Vec<u8>, usize), UnbalancedQuotes> {
    let mut word = Vec::new();
    while let Some(&byte) = line.get(at) {
        match byte {
            byte if is_space(byte) => break,
            b'"' | b'\'' => {
                at = quoted(line, at + 1, byte, &mut word)?;
                if line.get(at).is_some_and(|&next| !is_space(next)) {
                    return Err(UnbalancedQuotes);
                }
                break;
            }
            _ => word.push(byte),
        }
        at += 1;
    }
    Ok((word, at))
}

/// Reads up to the closing `quote` and returns the position behind it.
fn quoted(line: &[u8], mut at: usize, quote: u8, word: &mut Vec<u8>) -> Result<usize, UnbalancedQuotes> {
    loop {
        let rest = line.get(at..).unwrap_or_default();
        match *rest {
            [] => return Err(UnbalancedQuotes),
            [byte, ..] if byte == quote => return Ok(at + 1),
            [b'\\', b'\'', ..] if quote == b'\'' => {
                word.push(b'\'');
                at += 2;
            }
            [b'\\', b'x', high, low, ..] if quote == b'"' && hex(high).is_some() && hex(low).is_some() => {
                word.push(hex(high).unwrap_or(0) << 4 | hex(low).unwrap_or(0));
                at += 4;
            }
            [b'\\', escaped, ..] if quote == b'"' => {
                word.push(unescape(escaped));
                at += 2;
            }
            [byte, ..] => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

fn unescape(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn is_space(byte: u8) -> bool {
    // C's isspace(), and the NUL at which Redis's splitter stops caring.
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0b | 0x0c | 0)
}

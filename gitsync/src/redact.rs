//! URLs as text: keeping passwords out of what people see.

/// A URL with the password in its user part masked, and a lone user of an `http` URL and a query, which
/// may be tokens.
///
/// ```
/// let shown = gitsync::redact_url("https://user:hush@git.example/site.git?token=1");
/// assert_eq!(shown, "https://user:REDACTED@git.example/site.git?REDACTED");
/// ```
pub fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, _)) => (rest, "?REDACTED"),
        None => (rest, ""),
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:REDACTED@{host}"),
            None if is_http => format!("REDACTED@{host}"),
            None => authority.to_owned(),
        },
        None => authority.to_owned(),
    };
    format!("{scheme}://{authority}{path}{query}")
}

/// `%41` as `A`. What decodes to no UTF-8 stays as it is.
pub(crate) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match pair.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn passwords_are_masked() {
        assert_eq!(super::url("https://u:p@ss@h/x"), "https://u:REDACTED@h/x");
        assert_eq!(super::url("https://h/x@y"), "https://h/x@y");
        assert_eq!(super::url("git@h:x"), "git@h:x");
        assert_eq!(super::url("https://token@h/x?key=1"), "https://REDACTED@h/x?REDACTED");
        assert_eq!(super::url("ssh://git@h/x"), "ssh://git@h/x");
    }
}

//! Keeping passwords out of what people see.

/// A URL with the password in its user part masked.
pub(crate) fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user.to_owned(), |(name, _)| format!("{name}:REDACTED"));
            format!("{scheme}://{user}@{host}{path}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn passwords_are_masked() {
        assert_eq!(super::url("https://u:p@ss@h/x"), "https://u:REDACTED@h/x");
        assert_eq!(super::url("https://h/x@y"), "https://h/x@y");
        assert_eq!(super::url("git@h:x"), "git@h:x");
    }
}

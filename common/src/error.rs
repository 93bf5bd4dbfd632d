//! Errors as text for people.

use std::error::Error;

/// An error and its causes in one line. Each level prints only itself, so nothing is said twice.
///
/// ```
/// let cause = std::io::Error::other("disk full");
/// let path = std::path::PathBuf::from("/token");
/// let error = common::secret::SecretError::Unreadable { path, source: cause };
/// assert_eq!(common::error::chain(&error), "cannot read the secret file /token: disk full");
/// ```
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

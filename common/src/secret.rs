//! Secrets from files. They are wiped from memory when dropped and print as `[REDACTED]`.

use std::path::{Path, PathBuf};

pub use secrecy::{ExposeSecret, SecretString};

/// Largest secret file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Why a secret could not be read; names the file, never its content.
///
/// ```
/// use common::secret::{SecretError, read};
///
/// let error = read("/does/not/exist".as_ref()).unwrap_err();
/// assert!(matches!(error, SecretError::Unreadable { .. }));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read or is not UTF-8.
    #[error("cannot read the secret file {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Larger than any secret.
    #[error("the secret file {path} is larger than 1 MiB")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a secret, without one trailing line end (editors and `kubectl` add it).
///
/// # Errors
/// The file cannot be read, is not UTF-8, or is larger than 1 MiB.
///
/// ```
/// use common::secret::{ExposeSecret as _, read};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("password");
/// std::fs::write(&path, "hush\n")?;
/// let password = read(&path)?;
/// assert_eq!(password.expose_secret(), "hush");
/// assert!(!format!("{password:?}").contains("hush"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: &Path) -> Result<SecretString, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_BYTES {
        return Err(SecretError::TooLarge { path: path.to_owned() });
    }
    let mut text = std::fs::read_to_string(path).map_err(unreadable)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_dropped_and_nothing_shows() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "pass word\r\n").unwrap();
        let secret = read(file.path()).unwrap();
        assert_eq!(secret.expose_secret(), "pass word");
        assert!(!format!("{secret:?}").contains("pass"));
        assert!(read(Path::new("/nonexistent/x")).unwrap_err().to_string().contains("/nonexistent/x"));
    }
}

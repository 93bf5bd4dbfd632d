//! Clients that authenticate at the ambassador, and whom each of them is towards the servers.

use crate::upstream::Credentials;
use common::secret::{ExposeSecret, SecretString};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// More lines than this are not read.
const MAX_USERS: usize = 1024;

/// Why a users file cannot be used.
///
/// ```
/// use redis_ambassador::{Error, UsersError};
///
/// let error = UsersError::Line { path: "/etc/users".into(), line: 2, reason: "four words are needed" };
/// assert!(Error::Users(error).to_string().contains("users"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] common::secret::SecretError),
    /// A line is not what it should be; its words are secrets and not shown.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

#[derive(Debug)]
struct User {
    name: String,
    password: Expected,
    upstream: Credentials,
}

enum Expected {
    Plain(SecretString),
    Sha256([u8; 32]),
}

impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// The users of a file, read again when it changes. Clients that are in already stay in.
#[derive(Debug)]
pub(crate) struct ClientUsers {
    users: Mutex<Vec<User>>,
}

impl ClientUsers {
    /// Reads a file: on each line a user, its password (or `#` and the SHA-256 of it in hex, as Redis writes it),
    /// the user at the servers and that user's password. Empty lines and those that begin with `//` are skipped.
    ///
    /// # Errors
    /// It cannot be read, or a line is wrong.
    pub(crate) fn read(path: &Path) -> Result<Self, UsersError> {
        Ok(Self { users: Mutex::new(parse(path)?) })
    }

    /// Reads it again.
    ///
    /// # Errors
    /// As [`read`](Self::read); what was read before stays.
    pub(crate) fn reload(&self, path: &Path) -> Result<(), UsersError> {
        let users = parse(path)?;
        *self.users.lock().unwrap_or_else(PoisonError::into_inner) = users;
        Ok(())
    }

    /// Whom a client is towards the servers; `None` when it is not who it says.
    pub(crate) fn upstream(&self, name: &[u8], password: &[u8]) -> Option<Credentials> {
        let digest = ring::digest::digest(&ring::digest::SHA256, password);
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        // Every line is compared, by digests, so that time tells nothing about how much of a password was right.
        let mut found = None;
        for user in users.iter().filter(|user| user.name.as_bytes() == name) {
            let matches = match &user.password {
                Expected::Plain(plain) => {
                    let plain = plain.expose_secret().as_bytes();
                    ring::digest::digest(&ring::digest::SHA256, plain).as_ref() == digest.as_ref()
                }
                Expected::Sha256(expected) => expected == digest.as_ref(),
            };
            if matches {
                found = Some(user.upstream.clone());
            }
        }
        found
    }
}

fn parse(path: &Path) -> Result<Vec<User>, UsersError> {
    let text = common::secret::read(path)?;
    let mut users = Vec::new();
    for (index, line) in text.expose_secret().lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        let wrong = |reason| UsersError::Line { path: path.display().to_string(), line: index + 1, reason };
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, password, upstream, upstream_password] = words.as_slice() else {
            return Err(wrong("expected USER PASSWORD SERVER-USER SERVER-PASSWORD"));
        };
        let password = match password.strip_prefix('#') {
            Some(hex) => Expected::Sha256(
                from_hex(hex).ok_or_else(|| wrong("`#` is followed by 64 hexadecimal digits"))?,
            ),
            None => Expected::Plain(SecretString::from((*password).to_owned())),
        };
        if users.len() == MAX_USERS {
            return Err(wrong("more than 1024 users"));
        }
        let upstream = Credentials {
            user: (*upstream).to_owned(),
            password: SecretString::from((*upstream_password).to_owned()),
        };
        users.push(User { name: (*name).to_owned(), password, upstream });
    }
    Ok(users)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(text: &str) -> Result<ClientUsers, UsersError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        ClientUsers::read(file.path())
    }

    #[test]
    fn users_are_mapped() {
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let users =
            read(&format!("// who is who\n\nshop secret app one\njobs #{digest} batch two\n")).unwrap();
        assert_eq!(users.upstream(b"shop", b"secret").unwrap().user, "app");
        assert_eq!(users.upstream(b"jobs", b"test").unwrap().user, "batch");
        for (name, password) in [("shop", "test"), ("jobs", "secret"), ("shop", ""), ("", "secret")] {
            assert!(users.upstream(name.as_bytes(), password.as_bytes()).is_none());
        }
        assert!(!format!("{users:?}").contains("secret"));
    }

    #[test]
    fn errors_name_the_line_and_show_no_secret() {
        for text in ["a b c d\nshop secret\n", "a b c d\nshop #12 app two\n"] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.contains("line 2") && !error.contains("secret") && !error.contains("two"),
                "{error}"
            );
        }
    }
}

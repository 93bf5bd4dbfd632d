//! Where an SSH remote is: `ssh://[user@]host[:port]/path` and `[user@]host:path`, read as git does
//! (gitprotocol and git-clone(1), "GIT URLS"). Pure.

use std::borrow::Cow;
use std::fmt;

/// Longest address that is taken, in bytes.
const MAX_LENGTH: usize = 8 << 10;

/// Why an address is not usable. The text is never repeated: it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Neither form.
    #[error("not an SSH address (write ssh://user@host/path or user@host:path)")]
    NotSsh,
    /// More than 8 KiB.
    #[error("SSH address longer than 8 KiB")]
    TooLong,
    /// Empty, starts with `-`, or holds blanks, control characters or a slash.
    #[error("unusable host in the SSH address")]
    Host,
    /// Empty, starts with `-`, or holds blanks or control characters.
    #[error("unusable user in the SSH address")]
    User,
    /// SSH passwords are not supported; keys are.
    #[error("password in the SSH address: only keys are supported")]
    Password,
    /// Not 1 to 65535.
    #[error("unusable port in the SSH address")]
    Port,
    /// Missing, starts with `-`, or holds a NUL.
    #[error("unusable path in the SSH address")]
    Path,
    /// A `%` without two hexadecimal digits.
    #[error("broken %-escape in the SSH address")]
    Escape,
}

/// A repository behind SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// User to log in as, when the address names one.
    pub user: Option<String>,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port; 22 when the address names none.
    pub port: u16,
    /// Path on the server: absolute, relative to the home directory, or `~user/…`. Any bytes but NUL.
    pub path: Vec<u8>,
}

/// Whether git would reach this address over SSH: an `ssh` URL, or a colon before the first slash.
#[must_use]
pub fn is_ssh(address: &str) -> bool {
    url_body(address).is_some() || (!address.contains("://") && scp_colon(address).is_some())
}

impl Target {
    /// Reads an address in either form.
    ///
    /// # Errors
    /// Another kind of address, or a part that is missing or not usable.
    pub fn parse(address: &str) -> Result<Self, TargetError> {
        if address.len() > MAX_LENGTH {
            return Err(TargetError::TooLong);
        }
        if let Some(body) = url_body(address) {
            return parse_url(body);
        }
        match scp_colon(address) {
            Some(colon) if !address.contains("://") => {
                let (login, path) = (&address[..colon], &address[colon + 1..]);
                build(&strip_scp_brackets(login), None, path.as_bytes().to_vec())
            }
            _ => Err(TargetError::NotSsh),
        }
    }

    /// The command to run on the server: `git-upload-pack` with the path as one quoted word.
    #[must_use]
    pub fn upload_pack(&self) -> Vec<u8> {
        self.command("git-upload-pack", "")
    }

    /// A command about the path: `program`, the path as one quoted word, and what follows it.
    pub(crate) fn command(&self, program: &str, tail: &str) -> Vec<u8> {
        [program.as_bytes(), b" ", &quote(&self.path), tail.as_bytes()].concat()
    }
}

impl fmt::Display for Target {
    /// An address that reads back as this target: the URL, or the scp form when the path is relative.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let path = String::from_utf8_lossy(&self.path);
        let host: Cow<'_, str> = match self.host.contains(':') {
            true => format!("[{}]", self.host).into(),
            false => self.host.as_str().into(),
        };
        let slash = match path.as_bytes()[..] {
            [b'/', ..] => "",
            [b'~', ..] => "/",
            _ if self.port == 22 => return write!(f, "{user}{host}:{path}"),
            _ => return write!(f, "[{user}{}:{}]:{path}", self.host, self.port),
        };
        match self.port {
            22 => write!(f, "ssh://{user}{host}{slash}{path}"),
            port => write!(f, "ssh://{user}{host}:{port}{slash}{path}"),
        }
    }
}

/// Quotes a word for a POSIX shell the way git does: servers that parse instead of running a shell
/// (gitolite, GitHub, Gerrit) expect exactly this.
#[must_use]
pub fn quote(word: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(word.len() + 2);
    quoted.push(b'\'');
    for &byte in word {
        match byte {
            b'\'' | b'!' => quoted.extend_from_slice(&[b'\'', b'\\', byte, b'\'']),
            _ => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

fn url_body(address: &str) -> Option<&str> {
    let (scheme, body) = address.split_once("://")?;
    ["ssh", "git+ssh", "ssh+git"].iter().any(|known| scheme.eq_ignore_ascii_case(known)).then_some(body)
}

/// Position of the colon that ends the host in the scp form; `None` when it is a local path.
fn scp_colon(address: &str) -> Option<usize> {
    let login_end = address.find('/').unwrap_or(address.len());
    let login = &address[..login_end];
    // A colon inside brackets belongs to an IPv6 address or a port.
    let from = match (login.find('['), login.find(']')) {
        (Some(open), Some(close)) if open < close && (open == 0 || login.as_bytes()[open - 1] == b'@') => {
            close
        }
        _ => 0,
    };
    login[from..].find(':').map(|colon| from + colon).filter(|&colon| colon > 0)
}

/// `[host:port]` and `[user@host:port]` are git's way to name a port in the scp form.
fn strip_scp_brackets(login: &str) -> Cow<'_, str> {
    let Some((before, inner)) = login.strip_suffix(']').and_then(|rest| rest.split_once('[')) else {
        return Cow::Borrowed(login);
    };
    let (user, host) = inner.rsplit_once('@').map_or(("", inner), |(user, host)| (user, host));
    if host.matches(':').count() > 1 {
        return Cow::Borrowed(login);
    }
    match user.is_empty() {
        true => Cow::Owned(format!("{before}{host}")),
        false => Cow::Owned(format!("{before}{user}@{host}")),
    }
}

fn parse_url(body: &str) -> Result<Target, TargetError> {
    let slash = body.find('/').ok_or(TargetError::Path)?;
    let path = unescape(&body[slash..])?;
    // `/~user/repository` is relative to that user's home.
    let path = if path.get(1) == Some(&b'~') { path[1..].to_vec() } else { path };
    let login = &body[..slash];
    let (user, host) = match login.rsplit_once('@') {
        None => (None, login),
        Some((user, _)) if user.contains(':') => return Err(TargetError::Password),
        Some((user, host)) => (Some(utf8(unescape(user)?, TargetError::User)?), host),
    };
    let host = utf8(unescape(host)?, TargetError::Host)?;
    build(&host, user, path)
}

/// `login` is `[user@]host[:port]` with the host in brackets when it holds colons; a user given apart
/// is taken as is.
fn build(login: &str, user: Option<String>, path: Vec<u8>) -> Result<Target, TargetError> {
    let (user, address) = match (user, login.rsplit_once('@')) {
        (None, Some((user, address))) => (Some(user.to_owned()), address),
        (user, _) => (user, login),
    };
    let (host, port) = host_and_port(address)?;
    let plain = |text: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && !text.contains(|c: char| c.is_control() || c.is_whitespace())
    };
    if !plain(host) || host.contains(['/', '@', '[', ']']) {
        return Err(TargetError::Host);
    }
    if user.as_deref().is_some_and(|user| !plain(user)) {
        return Err(TargetError::User);
    }
    let path = match path.starts_with(b"/~") {
        true => path[1..].to_vec(),
        false => path,
    };
    if path.is_empty() || path.starts_with(b"-") || path.contains(&0) {
        return Err(TargetError::Path);
    }
    Ok(Target { user, host: host.to_owned(), port, path })
}

fn host_and_port(address: &str) -> Result<(&str, u16), TargetError> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, tail) = rest.split_once(']').ok_or(TargetError::Host)?;
            match tail.strip_prefix(':') {
                Some(port) => (host, port),
                None if tail.is_empty() => (host, ""),
                None => return Err(TargetError::Host),
            }
        }
        None => match address.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return Err(TargetError::Host),
            Some((host, port)) => (host, port),
            None => (address, ""),
        },
    };
    match port {
        "" => Ok((host, 22)),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse() {
            Ok(port) if port > 0 => Ok((host, port)),
            _ => Err(TargetError::Port),
        },
        _ => Err(TargetError::Port),
    }
}

fn unescape(text: &str) -> Result<Vec<u8>, TargetError> {
    crate::auth::url::unescape(text).ok_or(TargetError::Escape)
}

fn utf8(bytes: Vec<u8>, error: TargetError) -> Result<String, TargetError> {
    String::from_utf8(bytes).map_err(|_| error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(address: &str) -> (Option<String>, String, u16, String) {
        let target = Target::parse(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        (target.user, target.host, target.port, String::from_utf8(target.path).unwrap())
    }

    fn parts(user: &str, host: &str, port: u16, path: &str) -> (Option<String>, String, u16, String) {
        ((!user.is_empty()).then(|| user.to_owned()), host.to_owned(), port, path.to_owned())
    }

    #[test]
    fn urls() {
        assert_eq!(target("ssh://git@host/a/b.git"), parts("git", "host", 22, "/a/b.git"));
        assert_eq!(target("SSH://host:2222/a"), parts("", "host", 2222, "/a"));
        assert_eq!(target("git+ssh://host/~me/a"), parts("", "host", 22, "~me/a"));
        assert_eq!(target("ssh+git://host/~/a"), parts("", "host", 22, "~/a"));
        assert_eq!(target("ssh://[::1]:99/a"), parts("", "::1", 99, "/a"));
        assert_eq!(target("ssh://me%40corp@[fe80::1]/a%20b"), parts("me@corp", "fe80::1", 22, "/a b"));
        assert_eq!(target("ssh://host:/a"), parts("", "host", 22, "/a"));
    }

    #[test]
    fn scp_forms() {
        assert_eq!(target("git@host:a/b.git"), parts("git", "host", 22, "a/b.git"));
        assert_eq!(target("host:/abs"), parts("", "host", 22, "/abs"));
        assert_eq!(target("host:~me/a"), parts("", "host", 22, "~me/a"));
        assert_eq!(target("host:/~me/a"), parts("", "host", 22, "~me/a"));
        assert_eq!(target("me@[::1]:a"), parts("me", "::1", 22, "a"));
        assert_eq!(target("[::1]:a"), parts("", "::1", 22, "a"));
        assert_eq!(target("[host:2222]:a"), parts("", "host", 2222, "a"));
        assert_eq!(target("[me@host:2222]:a"), parts("me", "host", 2222, "a"));
        assert_eq!(target("host:a%20b"), parts("", "host", 22, "a%20b"));
    }

    #[test]
    fn what_is_not_ssh() {
        for address in ["/a/b", "./a:b", "a/b:c", "https://host/a:b", "file:///a", "relative", "", ":path"] {
            assert!(!is_ssh(address), "{address}");
            assert_eq!(Target::parse(address), Err(TargetError::NotSsh), "{address}");
        }
        assert!(is_ssh("host:path") && is_ssh("ssh://host/path"));
    }

    #[test]
    fn hostile_parts_are_refused() {
        for (address, error) in [
            ("ssh://-oProxyCommand=x/a", TargetError::Host),
            ("-oProxyCommand=x:a", TargetError::Host),
            ("ssh://ho st/a", TargetError::Host),
            ("ssh://ho%0ast/a", TargetError::Host),
            ("ssh:///a", TargetError::Host),
            ("ssh://-l@host/a", TargetError::User),
            ("ssh://@host/a", TargetError::User),
            ("ssh://user:secret@host/a", TargetError::Password),
            ("ssh://host:0/a", TargetError::Port),
            ("ssh://host:70000/a", TargetError::Port),
            ("ssh://host:+1/a", TargetError::Port),
            ("ssh://host", TargetError::Path),
            ("host:", TargetError::Path),
            ("host:-x", TargetError::Path),
            ("ssh://host/a%00", TargetError::Path),
            ("ssh://host/a%zz", TargetError::Escape),
            ("ssh://::1/a", TargetError::Host),
        ] {
            assert_eq!(Target::parse(address), Err(error), "{address}");
        }
    }

    #[test]
    fn the_path_is_one_word() {
        let command = |address| String::from_utf8(Target::parse(address).unwrap().upload_pack()).unwrap();
        assert_eq!(command("host:/a b"), "git-upload-pack '/a b'");
        assert_eq!(command("host:it's!"), r"git-upload-pack 'it'\''s'\!''");
        assert_eq!(command("ssh://host/~me/x"), "git-upload-pack '~me/x'");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(address in any::<String>()) {
            let _ = is_ssh(&address);
            if let Ok(target) = Target::parse(&address) {
                prop_assert!(!target.host.starts_with('-'));
                prop_assert!(!target.path.is_empty());
            }
        }

        #[test]
        fn near_misses_never_panic(address in r"(ssh://)?[a\[\]@:%0-9/~-]{0,24}") {
            let _ = Target::parse(&address);
        }

        #[test]
        fn printing_and_reading_agree(user in "[a-z]{0,5}", host in "[a-z][a-z0-9.]{0,10}", port in 1u16.., path in "/[a-zA-Z0-9/._-]{1,20}") {
            let written = Target { user: (!user.is_empty()).then_some(user), host, port, path: path.into_bytes() };
            prop_assert_eq!(Target::parse(&written.to_string()), Ok(written));
        }

        #[test]
        fn quoted_words_hold_no_loose_quote(word in proptest::collection::vec(any::<u8>(), 0..40)) {
            // Undo the quoting as a shell does.
            let (mut plain, mut inside, quoted) = (Vec::new(), false, quote(&word));
            let mut bytes = quoted.iter().copied();
            while let Some(byte) = bytes.next() {
                match byte {
                    b'\'' => inside = !inside,
                    b'\\' if !inside => plain.extend(bytes.next()),
                    _ => { prop_assert!(inside); plain.push(byte); }
                }
            }
            prop_assert_eq!(plain, word);
        }
    }
}

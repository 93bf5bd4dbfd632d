//! OpenSSH's `known_hosts` file (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): pure, bounded.
//!
//! Keys are compared as the bytes that go over the wire, so every key type is understood, also those
//! this program cannot use itself.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Largest file that is taken, in bytes.
pub const MAX_FILE: usize = 8 << 20;
/// Longest line that is taken, in bytes.
const MAX_LINE: usize = 64 << 10;
/// SSH's own port: names of hosts on it are written without brackets.
const DEFAULT_PORT: u16 = 22;

/// Why a file is not taken at all.
///
/// Lines that merely cannot be understood are skipped as OpenSSH does, see [`KnownHosts::skipped`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KnownHostsError {
    /// More than 8 MiB.
    #[error("larger than 8 MiB")]
    TooLarge,
    /// More than 64 KiB in one line.
    #[error("line {line} is longer than 64 KiB")]
    LongLine {
        /// Line number, from 1.
        line: usize,
    },
    /// A `@revoked` line must not be skipped: the key it names would be trusted.
    #[error("line {line} revokes a key but cannot be understood: {reason}")]
    Revocation {
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// A host's standing with one plain key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This key is listed for the host.
    Known,
    /// Nothing is listed for the host.
    Unknown,
    /// Other keys are listed for the host, not this one.
    Changed {
        /// Line of the first of them, from 1.
        line: usize,
    },
    /// This key is revoked for the host.
    Revoked {
        /// Line of the revocation, from 1.
        line: usize,
    },
}

/// What a line's key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    Host,
    Authority,
    Revoked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    /// Comma-separated patterns, lower case.
    Patterns(String),
    /// HMAC-SHA1 of the name under the salt.
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    line: usize,
    marker: Marker,
    names: Names,
    key_type: String,
    key: Vec<u8>,
}

/// A parsed file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownHosts {
    entries: Vec<Entry>,
    skipped: Vec<(usize, &'static str)>,
}

impl KnownHosts {
    /// Parses a file's content.
    ///
    /// # Errors
    /// Too large, a line too long, or a broken `@revoked` line.
    pub fn parse(content: &[u8]) -> Result<Self, KnownHostsError> {
        if content.len() > MAX_FILE {
            return Err(KnownHostsError::TooLarge);
        }
        let mut known = Self::default();
        for (index, bytes) in content.split(|&byte| byte == b'\n').enumerate() {
            let line = index + 1;
            if bytes.len() > MAX_LINE {
                return Err(KnownHostsError::LongLine { line });
            }
            let text = bytes.trim_ascii();
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            match parse_line(line, text) {
                Ok(entry) => known.entries.push(entry),
                Err(reason) if text.starts_with(b"@revoked") => {
                    return Err(KnownHostsError::Revocation { line, reason });
                }
                Err(reason) => known.skipped.push((line, reason)),
            }
        }
        Ok(known)
    }

    /// Lines that were not understood: number (from 1) and reason.
    #[must_use]
    pub fn skipped(&self) -> &[(usize, &'static str)] {
        &self.skipped
    }

    /// Judges a plain host key, given as its wire bytes.
    ///
    /// As OpenSSH does, a host on another port than 22 that is not listed with its port is also known
    /// when its bare name is listed with this very key.
    #[must_use]
    pub fn check(&self, host: &str, port: u16, key: &[u8]) -> Verdict {
        let name = entry_name(host, port);
        if let Some(line) = self.revoked(&name, host, key) {
            return Verdict::Revoked { line };
        }
        let mut first_other = None;
        for entry in self.listed(&name, Marker::Host) {
            if entry.key == key {
                return Verdict::Known;
            }
            first_other = first_other.or(Some(entry.line));
        }
        if let Some(line) = first_other {
            return Verdict::Changed { line };
        }
        let bare = host.to_ascii_lowercase();
        match port != DEFAULT_PORT && self.listed(&bare, Marker::Host).any(|entry| entry.key == key) {
            true => Verdict::Known,
            false => Verdict::Unknown,
        }
    }

    /// Judges the authority that signed a host certificate; `authority` and `subject` are the wire
    /// bytes of the signing key and of the certified key. [`Verdict::Changed`] is never the answer.
    #[must_use]
    pub fn check_certificate(&self, host: &str, port: u16, authority: &[u8], subject: &[u8]) -> Verdict {
        let name = entry_name(host, port);
        for key in [authority, subject] {
            if let Some(line) = self.revoked(&name, host, key) {
                return Verdict::Revoked { line };
            }
        }
        match self.authorities(host, port).any(|key| key == authority) {
            true => Verdict::Known,
            false => Verdict::Unknown,
        }
    }

    /// Wire bytes of the authorities (`@cert-authority`) that may vouch for the host.
    pub fn authorities(&self, host: &str, port: u16) -> impl Iterator<Item = &[u8]> {
        self.for_host(host, port, Marker::Authority).map(|entry| entry.key.as_slice())
    }

    /// Key types (`ssh-ed25519` …) listed for the host, in the file's order: what to ask the server for
    /// first, so that a host known by one key is not judged by another.
    pub fn key_types(&self, host: &str, port: u16) -> impl Iterator<Item = &str> {
        self.for_host(host, port, Marker::Host).map(|entry| entry.key_type.as_str())
    }

    fn for_host(&self, host: &str, port: u16, marker: Marker) -> impl Iterator<Item = &Entry> {
        let (name, bare) = (entry_name(host, port), host.to_ascii_lowercase());
        self.entries.iter().filter(move |entry| {
            entry.marker == marker && (entry.names.matches(&name) || entry.names.matches(&bare))
        })
    }

    fn listed<'a>(&'a self, name: &'a str, marker: Marker) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.marker == marker && entry.names.matches(name))
    }

    /// A revocation counts with and without the port: doubt is resolved against the key.
    fn revoked(&self, name: &str, host: &str, key: &[u8]) -> Option<usize> {
        let bare = host.to_ascii_lowercase();
        let hit = |entry: &&Entry| {
            entry.marker == Marker::Revoked
                && entry.key == key
                && (entry.names.matches(name) || entry.names.matches(&bare))
        };
        self.entries.iter().find(hit).map(|entry| entry.line)
    }
}

/// How the file writes a host: lower case, and `[host]:port` for other ports than 22.
#[must_use]
pub fn entry_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == DEFAULT_PORT { host } else { format!("[{host}]:{port}") }
}

/// The line that would make a key known.
#[must_use]
pub fn line_for(host: &str, port: u16, key_type: &str, key: &[u8]) -> String {
    format!("{} {key_type} {}", entry_name(host, port), STANDARD.encode(key))
}

/// A key's fingerprint as OpenSSH prints it: `SHA256:` and unpadded base64.
#[must_use]
pub fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, key)))
}

/// Whether a name, in lower case, matches one OpenSSH pattern with `*` and `?`. Linear in memory and
/// at most quadratic in time.
#[must_use]
pub fn pattern_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut pos) = (0, 0);
    let mut retry = None;
    while pos < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                retry = Some((at, pos));
            }
            Some(&byte) if byte == b'?' || byte == name[pos] => {
                at += 1;
                pos += 1;
            }
            // Let the last star swallow one byte more.
            _ => match retry {
                Some((after_star, from)) => {
                    (at, pos) = (after_star, from + 1);
                    retry = Some((after_star, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

impl Names {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Hashed { salt, hash } => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                ring::hmac::sign(&key, name.as_bytes()).as_ref() == hash.as_slice()
            }
            Self::Patterns(list) => {
                let mut found = false;
                for pattern in list.split(',') {
                    match pattern.strip_prefix('!') {
                        // A negated match rules the whole line out, wherever it stands.
                        Some(negated) if pattern_matches(negated, name) => return false,
                        Some(_) => {}
                        None => found |= !pattern.is_empty() && pattern_matches(pattern, name),
                    }
                }
                found
            }
        }
    }
}

fn parse_line(line: usize, text: &[u8]) -> Result<Entry, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "not UTF-8")?;
    let mut words = text.split_ascii_whitespace().peekable();
    let marker = match words.peek() {
        Some(&"@cert-authority") => Marker::Authority,
        Some(&"@revoked") => Marker::Revoked,
        Some(word) if word.starts_with('@') => return Err("unknown marker"),
        _ => Marker::Host,
    };
    if marker != Marker::Host {
        words.next();
    }
    let names = parse_names(words.next().ok_or("no host name")?)?;
    let key_type = words.next().ok_or("no key type")?;
    let key = words.next().ok_or("no key")?;
    let key = STANDARD.decode(key).map_err(|_| "the key is not base64")?;
    if declared_type(&key) != Some(key_type.as_bytes()) {
        return Err("the key is not of the type the line names");
    }
    Ok(Entry { line, marker, names, key_type: key_type.to_owned(), key })
}

fn parse_names(text: &str) -> Result<Names, &'static str> {
    let Some(hashed) = text.strip_prefix('|') else {
        return Ok(Names::Patterns(text.to_ascii_lowercase()));
    };
    let fields = hashed.strip_prefix("1|").ok_or("unknown kind of hashed name")?;
    let (salt, hash) = fields.split_once('|').ok_or("hashed name without a hash")?;
    let decode = |text| STANDARD.decode(text).map_err(|_| "the hashed name is not base64");
    let (salt, hash) = (decode(salt)?, decode(hash)?);
    if hash.len() != ring::digest::SHA1_OUTPUT_LEN {
        return Err("the hashed name is not a SHA-1 value");
    }
    Ok(Names::Hashed { salt, hash })
}

/// The key type inside a wire-form key (RFC 4253, 6.6): a length-prefixed string at its start.
#[must_use]
pub fn declared_type(key: &[u8]) -> Option<&[u8]> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(kind: &str, tail: &str) -> Vec<u8> {
        let mut key = u32::try_from(kind.len()).unwrap().to_be_bytes().to_vec();
        key.extend_from_slice(kind.as_bytes());
        key.extend_from_slice(tail.as_bytes());
        key
    }

    fn entry(names: &str, kind: &str, tail: &str) -> String {
        format!("{names} {kind} {}\n", STANDARD.encode(key(kind, tail)))
    }

    fn known(content: &str) -> KnownHosts {
        KnownHosts::parse(content.as_bytes()).unwrap()
    }

    fn ed(tail: &str) -> Vec<u8> {
        key("ssh-ed25519", tail)
    }

    #[test]
    fn plain_hashed_wildcard_and_negated_names() {
        // Name hashed by `ssh-keygen -H` from `github.example`, salt of 20 bytes.
        let salt = [7u8; 20];
        let hmac = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        let hash = ring::hmac::sign(&hmac, b"[hidden.example]:2222");
        let hashed = format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(hash));
        let content = [
            "# comment\n\n".to_owned(),
            entry("Host.Example,192.0.2.1", "ssh-ed25519", "a"),
            entry("*.example.org,!bad.example.org", "ssh-ed25519", "b"),
            entry("h?st", "ssh-ed25519", "c"),
            entry(&hashed, "ssh-ed25519", "d"),
            entry("[ported.example]:2222", "ssh-ed25519", "e"),
        ]
        .concat();
        let known = known(&content);
        assert_eq!(known.check("HOST.example", 22, &ed("a")), Verdict::Known);
        assert_eq!(known.check("192.0.2.1", 22, &ed("a")), Verdict::Known);
        assert_eq!(known.check("host.example", 22, &ed("z")), Verdict::Changed { line: 3 });
        assert_eq!(known.check("good.example.org", 22, &ed("b")), Verdict::Known);
        assert_eq!(known.check("bad.example.org", 22, &ed("b")), Verdict::Unknown);
        assert_eq!(known.check("example.org", 22, &ed("b")), Verdict::Unknown);
        assert_eq!(known.check("hast", 22, &ed("c")), Verdict::Known);
        assert_eq!(known.check("hidden.example", 2222, &ed("d")), Verdict::Known);
        assert_eq!(known.check("hidden.example", 22, &ed("d")), Verdict::Unknown);
        assert_eq!(known.check("ported.example", 2222, &ed("e")), Verdict::Known);
        assert_eq!(known.check("ported.example", 22, &ed("e")), Verdict::Unknown);
        assert!(known.skipped().is_empty());
    }

    #[test]
    fn another_port_falls_back_to_the_bare_name_only_for_the_same_key() {
        let known = known(&entry("host", "ssh-ed25519", "a"));
        assert_eq!(known.check("host", 2222, &ed("a")), Verdict::Known);
        assert_eq!(known.check("host", 2222, &ed("b")), Verdict::Unknown);
    }

    #[test]
    fn several_keys_of_a_host_and_their_types() {
        let content = [
            entry("host", "ssh-rsa", "r"),
            entry("host", "ssh-ed25519", "a"),
            entry("host", "ssh-ed25519", "b"),
        ]
        .concat();
        let known = known(&content);
        assert_eq!(known.check("host", 22, &ed("b")), Verdict::Known);
        assert_eq!(known.check("host", 22, &key("ssh-rsa", "r")), Verdict::Known);
        assert_eq!(known.check("host", 22, &key("ssh-rsa", "x")), Verdict::Changed { line: 1 });
        let types: Vec<_> = known.key_types("host", 22).collect();
        assert_eq!(types, ["ssh-rsa", "ssh-ed25519", "ssh-ed25519"]);
    }

    #[test]
    fn revocation_wins_over_everything() {
        let content = [
            entry("host", "ssh-ed25519", "a"),
            entry("@cert-authority *", "ssh-ed25519", "ca"),
            entry("@revoked *", "ssh-ed25519", "a"),
            entry("@revoked evil", "ssh-ed25519", "ca"),
        ]
        .concat();
        let known = known(&content);
        assert_eq!(known.check("host", 22, &ed("a")), Verdict::Revoked { line: 3 });
        assert_eq!(known.check("host", 2222, &ed("a")), Verdict::Revoked { line: 3 });
        assert_eq!(known.check_certificate("host", 22, &ed("ca"), &ed("subject")), Verdict::Known);
        assert_eq!(known.check_certificate("host", 22, &ed("ca"), &ed("a")), Verdict::Revoked { line: 3 });
        assert_eq!(known.check_certificate("evil", 22, &ed("ca"), &ed("x")), Verdict::Revoked { line: 4 });
        assert_eq!(known.check_certificate("host", 22, &ed("other"), &ed("x")), Verdict::Unknown);
        // An authority's key is no host key.
        assert_eq!(known.check("elsewhere", 22, &ed("ca")), Verdict::Unknown);
    }

    #[test]
    fn broken_lines_are_skipped_but_never_a_revocation() {
        let good = entry("host", "ssh-ed25519", "a");
        let content = format!(
            "host\nhost ssh-ed25519\nhost ssh-ed25519 !!\nhost ssh-rsa AAAA\n@new host x y\n|2|a|b x y\n{good}"
        );
        let known = known(&content);
        assert_eq!(known.skipped().len(), 6);
        assert_eq!(known.check("host", 22, &ed("a")), Verdict::Known);
        for line in ["@revoked", "@revoked host ssh-ed25519 !!", "@revokedx host ssh-ed25519 AAAA"] {
            let error = KnownHosts::parse(line.as_bytes()).unwrap_err();
            assert!(matches!(error, KnownHostsError::Revocation { line: 1, .. }), "{line}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(KnownHosts::parse(&vec![b'\n'; MAX_FILE + 1]), Err(KnownHostsError::TooLarge));
        assert_eq!(KnownHosts::parse(&vec![b'x'; MAX_LINE + 1]), Err(KnownHostsError::LongLine { line: 1 }));
    }

    #[test]
    fn patterns_with_many_stars_end_quickly() {
        assert!(!pattern_matches(&"*a".repeat(2000), &"a".repeat(1000).replace("aaa", "aab")));
        assert!(pattern_matches("a*b*c", "a-b-b-c"));
        assert!(pattern_matches("**", ""));
        assert!(!pattern_matches("?", ""));
    }

    #[test]
    fn the_proposed_line_makes_the_key_known() {
        for port in [22, 2222] {
            let line = line_for("Host", port, "ssh-ed25519", &ed("k"));
            assert_eq!(known(&line).check("host", port, &ed("k")), Verdict::Known);
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(content in proptest::collection::vec(any::<u8>(), 0..600), key in any::<Vec<u8>>()) {
            if let Ok(known) = KnownHosts::parse(&content) {
                let _ = known.check("host", 2222, &key);
                let _ = known.check_certificate("host", 22, &key, &key);
            }
        }

        #[test]
        fn near_misses_never_panic(content in r"(@revoked |@cert-authority )?[!*?a-c,\[\]:|1=]{0,20} (ssh-ed25519|ssh-rsa) [A-Za-z0-9+/=]{0,40}( x)?") {
            if let Ok(known) = KnownHosts::parse(content.as_bytes()) {
                prop_assert_eq!(known.check("other.example", 22, b"never listed"), known.check("other.example", 22, b"never listed"));
            }
        }

        #[test]
        fn a_pattern_matches_itself_and_star_everything(name in "[a-z0-9.:-]{0,40}") {
            prop_assert!(pattern_matches(&name, &name));
            prop_assert!(pattern_matches("*", &name));
            let starred = name.replace('a', "*");
            prop_assert!(pattern_matches(&starred, &name));
        }
    }
}

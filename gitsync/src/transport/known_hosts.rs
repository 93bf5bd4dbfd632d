//! Known host keys, as in the file that OpenSSH keeps (`sshd(8)`, "SSH_KNOWN_HOSTS FILE FORMAT"). Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use russh::keys::ssh_key::{Algorithm, PublicKey};

/// What a file says about one host.
#[derive(Debug, Default)]
pub(crate) struct HostKeys {
    /// Keys the host may show.
    pub(crate) trusted: Vec<PublicKey>,
    /// Authorities that may sign the host's certificate.
    pub(crate) authorities: Vec<PublicKey>,
    /// Keys that must never be accepted.
    pub(crate) revoked: Vec<PublicKey>,
}

impl HostKeys {
    /// Reads what is for `host` at `port`. Lines that can't be understood are passed over, as
    /// OpenSSH does.
    pub(crate) fn read(text: &str, host: &str, port: u16) -> Self {
        let host = host.to_ascii_lowercase();
        let name = if port == 22 { host } else { format!("[{host}]:{port}") };
        let mut keys = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut words = line.split_ascii_whitespace().peekable();
            let marker = words.next_if(|word| word.starts_with('@'));
            let (Some(patterns), Some(kind), Some(key)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            if !matches(patterns, &name) {
                continue;
            }
            let Ok(key) = PublicKey::from_openssh(&format!("{kind} {key}")) else { continue };
            match marker {
                None => keys.trusted.push(key),
                Some("@cert-authority") => keys.authorities.push(key),
                Some("@revoked") => keys.revoked.push(key),
                Some(_) => {}
            }
        }
        keys
    }

    /// Whether the host may show this key.
    pub(crate) fn accepts(&self, key: &PublicKey) -> bool {
        let same = |known: &PublicKey| known.key_data() == key.key_data();
        !self.revoked.iter().any(same) && self.trusted.iter().any(same)
    }

    /// Whether nothing is known of the host.
    pub(crate) fn is_empty(&self) -> bool {
        self.trusted.is_empty() && self.authorities.is_empty()
    }

    /// The algorithms of the trusted keys: asking for others would only bring an unknown key.
    pub(crate) fn algorithms(&self) -> Vec<Algorithm> {
        self.trusted.iter().map(PublicKey::algorithm).collect()
    }
}

/// A comma-separated list with wildcards and negations, or one hashed name.
fn matches(patterns: &str, name: &str) -> bool {
    if let Some(hashed) = patterns.strip_prefix("|1|") {
        return matches_hash(hashed, name);
    }
    let mut found = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(refused) if wildcard(refused.as_bytes(), name.as_bytes()) => return false,
            None if wildcard(pattern.as_bytes(), name.as_bytes()) => found = true,
            _ => {}
        }
    }
    found
}

fn matches_hash(hashed: &str, name: &str) -> bool {
    let Some((salt, hash)) = hashed.split_once('|') else { return false };
    let (Ok(salt), Ok(hash)) = (STANDARD.decode(salt), STANDARD.decode(hash)) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    hmac::verify(&key, name.as_bytes(), &hash).is_ok()
}

/// `*` and `?`, letters of either case alike.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || c.eq_ignore_ascii_case(&text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn accepts(text: &str, host: &str, port: u16, key: &str) -> bool {
        HostKeys::read(text, host, port).accepts(&PublicKey::from_openssh(key).unwrap())
    }

    #[test]
    fn names_ports_and_wildcards() {
        assert!(accepts(&format!("h.example {A}"), "H.example", 22, A));
        assert!(!accepts(&format!("h.example {A}"), "h.example", 22, B));
        assert!(!accepts(&format!("h.example {A}"), "h.example", 2222, A));
        assert!(accepts(&format!("[h.example]:2222 {A} comment"), "h.example", 2222, A));
        assert!(accepts(&format!("*.example,!b.example {A}"), "a.example", 22, A));
        assert!(!accepts(&format!("*.example,!b.example {A}"), "b.example", 22, A));
    }

    #[test]
    fn hashed_names() {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"salt");
        let line = |name: &str| {
            let hash = STANDARD.encode(hmac::sign(&key, name.as_bytes()));
            format!("|1|{}|{hash} {A}", STANDARD.encode("salt"))
        };
        assert!(accepts(&line("h"), "h", 22, A));
        assert!(accepts(&line("[h]:23"), "h", 23, A));
        assert!(!accepts(&line("h"), "i", 22, A));
    }

    #[test]
    fn revoked_keys_lose() {
        assert!(!accepts(&format!("h {A}\n@revoked * {A}"), "h", 22, A));
        let keys = HostKeys::read(&format!("@cert-authority *.x {A}\n# {B}\nbroken"), "a.x", 22);
        assert_eq!((keys.authorities.len(), keys.trusted.len()), (1, 0));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in ".{0,200}", host in ".{0,20}") {
            let _ = HostKeys::read(&text, &host, 22);
        }
    }
}

//! `httpServer.authentication.basic`: plain, salted and derived passwords.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha512};

use super::config::Basic;
use super::settings::resolve;

/// Checks the `Authorization` header of requests.
pub(super) struct BasicAuth {
    username: String,
    check: Check,
    /// Digest of the last header that was right: deriving a key takes half a second, a scrape must not.
    accepted: Mutex<Option<[u8; 32]>>,
}

impl std::fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BasicAuth").field("username", &self.username).finish_non_exhaustive()
    }
}

enum Check {
    Plain(String),
    Salted { hash: fn(&[u8]) -> Vec<u8>, salt: String, expected: Vec<u8> },
    Derived { derive: fn(&[u8], &[u8], u32, &mut [u8]), salt: String, iterations: u32, expected: Vec<u8> },
}

type Derive = fn(&[u8], &[u8], u32, &mut [u8]);

impl BasicAuth {
    pub(super) fn new(file: &Basic, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let username = resolve(&file.username, environment)?;
        if username.trim().is_empty() {
            return Err("`authentication.basic` needs a `username`".to_owned());
        }
        let algorithm = file.algorithm.as_deref().unwrap_or("plaintext");
        let check = match algorithm {
            "plaintext" => {
                let password = file.password.as_deref().filter(|password| !password.trim().is_empty());
                let password = password.ok_or("`authentication.basic` needs a `password`")?;
                Check::Plain(resolve(password, environment)?)
            }
            "SHA-1" => salted(file, |bytes| sha1::Sha1::digest(bytes).to_vec())?,
            "SHA-256" => salted(file, |bytes| Sha256::digest(bytes).to_vec())?,
            "SHA-512" => salted(file, |bytes| Sha512::digest(bytes).to_vec())?,
            "PBKDF2WithHmacSHA1" => derived(file, pbkdf2::pbkdf2_hmac::<sha1::Sha1>, 1_300_000)?,
            "PBKDF2WithHmacSHA256" => derived(file, pbkdf2::pbkdf2_hmac::<Sha256>, 600_000)?,
            "PBKDF2WithHmacSHA512" => derived(file, pbkdf2::pbkdf2_hmac::<Sha512>, 210_000)?,
            other => return Err(format!("unknown `algorithm` `{other}` in `authentication.basic`")),
        };
        Ok(Self { username, check, accepted: Mutex::new(None) })
    }

    /// Whether the header carries the right name and password. May take long: call it off the runtime.
    pub(super) fn accepts(&self, header: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(header).into();
        if self.was_accepted(header) {
            return true;
        }
        let encoded = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
        let Some(decoded) = encoded.and_then(|(_, text)| STANDARD.decode(text.trim()).ok()) else {
            return false;
        };
        let Ok(decoded) = String::from_utf8(decoded) else { return false };
        let Some((username, password)) = decoded.split_once(':') else { return false };
        let right = same(username.as_bytes(), self.username.as_bytes()) & self.check.accepts(password);
        if right && let Ok(mut accepted) = self.accepted.lock() {
            *accepted = Some(digest);
        }
        right
    }

    /// Whether this very header was right before.
    pub(super) fn was_accepted(&self, header: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(header).into();
        self.accepted.lock().is_ok_and(|accepted| accepted.is_some_and(|known| same(&known, &digest)))
    }
}

impl Check {
    fn accepts(&self, password: &str) -> bool {
        match self {
            Self::Plain(expected) => same(password.as_bytes(), expected.as_bytes()),
            Self::Salted { hash, salt, expected } => {
                same(&hash(format!("{salt}:{password}").as_bytes()), expected)
            }
            Self::Derived { derive, salt, iterations, expected } => {
                let mut key = vec![0; expected.len()];
                derive(password.as_bytes(), salt.as_bytes(), *iterations, &mut key);
                same(&key, expected)
            }
        }
    }
}

/// Compares in a time that tells nothing about where two texts differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    a.iter().zip(b.iter()).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

fn salted(file: &Basic, hash: fn(&[u8]) -> Vec<u8>) -> Result<Check, String> {
    Ok(Check::Salted { hash, salt: salt(file)?, expected: expected(file)? })
}

fn derived(file: &Basic, derive: Derive, iterations: u32) -> Result<Check, String> {
    let expected = expected(file)?;
    // The default is 128 *bits* in Java's terms; a configured length may be meant in bytes.
    let bits = file.key_length.unwrap_or(128);
    if bits / 8 != expected.len() && bits != expected.len() {
        return Err(format!("`passwordHash` has {} bytes, `keyLength` is {bits} bits", expected.len()));
    }
    let iterations = file.iterations.unwrap_or(iterations);
    if iterations == 0 {
        return Err("`iterations` must be at least 1".to_owned());
    }
    Ok(Check::Derived { derive, salt: salt(file)?, iterations, expected })
}

fn salt(file: &Basic) -> Result<String, String> {
    let salt = file.salt.as_ref().filter(|salt| !salt.trim().is_empty());
    salt.map(|salt| salt.0.clone()).ok_or_else(|| "`authentication.basic` needs a `salt`".to_owned())
}

/// Hexadecimal, any case, colons allowed.
fn expected(file: &Basic) -> Result<Vec<u8>, String> {
    let text = file.password_hash.as_deref().ok_or("`authentication.basic` needs a `passwordHash`")?;
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    let byte =
        |pair: &[char]| Some(pair.first()?.to_digit(16)? as u8 * 16 + pair.get(1)?.to_digit(16)? as u8);
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    bytes.filter(|bytes| !bytes.is_empty()).ok_or_else(|| "`passwordHash` is not hexadecimal".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(basic: &Basic) -> BasicAuth {
        BasicAuth::new(basic, &|_| None).unwrap()
    }

    fn header(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn every_algorithm() {
        let plain = Basic { username: "u".into(), password: Some("p:w".into()), ..Basic::default() };
        let salted = |algorithm: &str, hash: &str| Basic {
            username: "u".into(),
            algorithm: Some(algorithm.to_owned()),
            password_hash: Some(hash.into()),
            salt: Some("s".into()),
            iterations: Some(10),
            ..Basic::default()
        };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        let sha = salted("SHA-256", &hex(&Sha256::digest("s:p:w")));
        let mut key = [0; 16];
        pbkdf2::pbkdf2_hmac::<Sha512>(b"p:w", b"s", 10, &mut key);
        let derived = salted("PBKDF2WithHmacSHA512", &hex(&key));
        for basic in [plain, sha, derived] {
            let auth = auth(&basic);
            assert!(!auth.accepts(&header("u:p")));
            assert!(!auth.accepts(&header("x:p:w")));
            assert!(!auth.accepts("Bearer x"));
            assert!(auth.accepts(&header("u:p:w")));
            assert!(auth.was_accepted(&header("u:p:w")));
            assert!(!auth.was_accepted(&header("u:p")));
        }
        assert!(BasicAuth::new(&salted("MD5", "00"), &|_| None).is_err());
        assert!(BasicAuth::new(&salted("SHA-1", "xyz"), &|_| None).is_err());
        let blank = |password: &str| Basic {
            username: "u".into(),
            password: Some(password.into()),
            ..Basic::default()
        };
        assert!(BasicAuth::new(&blank(" "), &|_| None).is_err());
        let once = Basic { iterations: Some(0), ..salted("PBKDF2WithHmacSHA512", &hex(&key)) };
        assert!(BasicAuth::new(&once, &|_| None).is_err());
    }
}

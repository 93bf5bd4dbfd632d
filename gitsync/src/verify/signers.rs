//! Allowed signers of SSH signatures: `ssh-keygen(1)`, ALLOWED SIGNERS, and git's use of it.

use russh::keys::ssh_key::{HashAlg, PublicKey, SshSig};

use super::Why;
use super::object::Signed;

/// What git signs commits and tags for.
const NAMESPACE: &str = "git";

/// The keys of one file.
#[derive(Debug, Default)]
pub(super) struct Signers(Vec<Signer>);

#[derive(Debug)]
struct Signer {
    key: PublicKey,
    namespaces: Option<Vec<String>>,
    after: Option<i64>,
    before: Option<i64>,
}

impl Signers {
    /// Lines that can't be used are left out, with a word in the log.
    pub(super) fn parse(text: &str) -> Self {
        let mut signers = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match signer(line) {
                Ok(signer) => signers.push(signer),
                Err(reason) => tracing::warn!(line = at + 1, reason, "an allowed signer is left out"),
            }
        }
        Self(signers)
    }

    pub(super) fn check(&self, signed: &Signed) -> Result<(), Why> {
        let bad = |error: russh::keys::ssh_key::Error| Why::Bad(error.to_string());
        let signature = SshSig::from_pem(signed.signature.trim_ascii()).map_err(bad)?;
        let name = PublicKey::from(signature.public_key().clone()).fingerprint(HashAlg::Sha256).to_string();
        if signature.namespace() != NAMESPACE {
            return Err(Why::Bad(format!("it was made for `{}`, not for git", signature.namespace())));
        }
        let mut found = false;
        for signer in self.0.iter().filter(|signer| signer.key.key_data() == signature.public_key()) {
            found = true;
            if signer.counts_at(signed.time) {
                return signer.key.verify(NAMESPACE, &signed.payload, &signature).map_err(bad);
            }
        }
        match found {
            true => Err(Why::Bad(format!("the key {name} isn't allowed for git at that time"))),
            false => Err(Why::UnknownKey(name)),
        }
    }
}

impl Signer {
    fn counts_at(&self, time: i64) -> bool {
        self.namespaces.as_ref().is_none_or(|all| all.iter().any(|one| matches(one, NAMESPACE)))
            && self.after.is_none_or(|after| time >= after)
            && self.before.is_none_or(|before| time < before)
    }
}

/// `principals [options] type key [comment]`. Whom a key belongs to is not asked, as by git.
fn signer(line: &str) -> Result<Signer, &'static str> {
    let (_, rest) = word(line).ok_or("there is no key")?;
    let (mut key, mut options) = (rest, "");
    let (first, after) = word(rest).ok_or("there is no key")?;
    if PublicKey::from_openssh(rest).is_err() && !is_key_type(first) {
        (options, key) = (first, after);
    }
    let key = PublicKey::from_openssh(key)
        .map_err(|_| "the key can't be read, or is of a kind that isn't known")?;
    let mut signer = Signer { key, namespaces: None, after: None, before: None };
    for option in split(options) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value.trim_matches('"');
        match name.to_ascii_lowercase().as_str() {
            "namespaces" => signer.namespaces = Some(value.split(',').map(str::to_owned).collect()),
            "valid-after" => signer.after = Some(time(value).ok_or("valid-after is no time")?),
            "valid-before" => signer.before = Some(time(value).ok_or("valid-before is no time")?),
            "cert-authority" => return Err("certificates are not supported"),
            _ => return Err("an option that isn't known"),
        }
    }
    Ok(signer)
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start))
}

/// The first word, quotes respected, and the rest.
fn word(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let mut quoted = false;
    let end = line.find(|letter: char| {
        quoted ^= letter == '"';
        !quoted && letter.is_ascii_whitespace()
    });
    let end = end.unwrap_or(line.len());
    (end > 0).then(|| (&line[..end], line[end..].trim_start()))
}

/// At commas outside of quotes.
fn split(options: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = options.split(move |letter: char| {
        quoted ^= letter == '"';
        !quoted && letter == ','
    });
    parts.filter(|part| !part.is_empty())
}

/// `YYYYMMDD[Z]`, `YYYYMMDDHHMM[SS][Z]`. Without `Z` it's local time; containers live in UTC.
fn time(text: &str) -> Option<i64> {
    let digits = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number =
        |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |text| text.parse::<i64>().ok());
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days from the civil calendar, years beginning in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (month * 153 + 2) / 5
        + day
        - 1
        - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// `*` and `?`, as in `ssh_config(5)`.
fn matches(pattern: &str, text: &str) -> bool {
    fn rest(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', left)), _) => (0..=text.len()).any(|at| rest(left, &text[at..])),
            (Some((wanted, left)), Some((found, more))) => {
                (*wanted == b'?' || wanted == found) && rest(left, more)
            }
            _ => false,
        }
    }
    // More than one star in a namespace of three letters would only cost time.
    pattern.len() <= 64 && pattern.matches('*').count() <= 2 && rest(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn lines_are_read() {
        let text = format!(
            "# a\n\na@x,*@y {KEY} me\n\"b c\" namespaces=\"file,gi?\",valid-after=\"20200101\",valid-before=20300101000000Z {KEY}\n\
             x cert-authority {KEY}\nx sudo {KEY}\nx namespaces=file {KEY}\nx\nx ssh-ed25519 AAAA\n"
        );
        let signers = Signers::parse(&text);
        assert_eq!(signers.0.len(), 3);
        assert!(signers.0[0].counts_at(0));
        let counts = |time| signers.0[1].counts_at(time);
        assert!(
            !counts(1_577_836_799)
                && counts(1_577_836_800)
                && counts(1_893_455_999)
                && !counts(1_893_456_000)
        );
        assert!(!signers.0[2].counts_at(0));
    }

    #[test]
    fn times() {
        assert_eq!(time("19700101"), Some(0));
        assert_eq!(time("20240229123456Z"), Some(1_709_210_096));
        for wrong in ["", "2024", "20241301", "2024022a", "20240229250000"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in ".{0,200}", line in "[a-z=\", *-]{0,80}") {
            let _ = Signers::parse(&text);
            let _ = Signers::parse(&format!("{line} {KEY}"));
        }
    }
}

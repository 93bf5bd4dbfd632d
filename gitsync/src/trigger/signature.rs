//! Who sent a webhook: the ways in which forges prove that they know the secret. Pure.
//!
//! Sources: the webhook pages of GitHub, GitLab, Gitea, Forgejo and Bitbucket, and the Standard
//! Webhooks specification 1.0.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use ring::hmac;

use super::Refusal;

/// How a delivery was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    GitHub,
    GitLab,
    /// Gitea, Forgejo and Gogs.
    Gitea,
    Bitbucket,
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature`; GitLab's signing tokens, too.
    Standard,
    /// `Gitsync-Timestamp` and `Gitsync-Signature`, for one's own scripts.
    Own,
}

/// What a delivery's headers claim, before anything is believed.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) scheme: Scheme,
    proof: Proof,
}

#[derive(Debug)]
enum Proof {
    /// HMAC-SHA-256 of prefix and body; one of these has to fit.
    Mac { prefix: Vec<u8>, tags: Vec<Vec<u8>> },
    /// The secret itself.
    Token(Vec<u8>),
}

/// Reads the headers. Needs no body, so that nothing unsigned is ever read.
///
/// `now` and `window` are seconds; times count where they are signed.
///
/// # Errors
/// No known signature, one of no known form, or a time outside the window.
pub(crate) fn claim(headers: &HeaderMap, now: u64, window: u64) -> Result<Claim, Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let timed = |time: Option<&str>| {
        let time = time.and_then(|time| time.parse::<u64>().ok()).ok_or(Refusal::Unsigned)?;
        if now.abs_diff(time) > window { Err(Refusal::Expired) } else { Ok(time) }
    };
    let mac = |scheme, prefix: Vec<u8>, hex: &str| {
        let tag = from_hex(hex.strip_prefix("sha256=").unwrap_or(hex)).ok_or(Refusal::BadSignature)?;
        Ok(Claim { scheme, proof: Proof::Mac { prefix, tags: vec![tag] } })
    };
    if let Some(signatures) = text("webhook-signature") {
        let time = timed(text("webhook-timestamp"))?;
        let id = text("webhook-id").ok_or(Refusal::Unsigned)?;
        let tags = signatures.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
        let proof = Proof::Mac { prefix: format!("{id}.{time}.").into_bytes(), tags: tags.collect() };
        return Ok(Claim { scheme: Scheme::Standard, proof });
    }
    if let Some(hex) = text("gitsync-signature") {
        let time = timed(text("gitsync-timestamp"))?;
        return mac(Scheme::Own, format!("{time}.").into_bytes(), hex);
    }
    if let Some(token) = text("x-gitlab-token") {
        return Ok(Claim { scheme: Scheme::GitLab, proof: Proof::Token(token.as_bytes().to_vec()) });
    }
    for name in ["x-forgejo-signature", "x-gitea-signature", "x-gogs-signature"] {
        if let Some(hex) = text(name) {
            return mac(Scheme::Gitea, Vec::new(), hex);
        }
    }
    if let Some(hex) = text("x-hub-signature-256") {
        return mac(Scheme::GitHub, Vec::new(), hex);
    }
    if let Some(hex) = text("x-hub-signature").filter(|hex| hex.starts_with("sha256=")) {
        return mac(Scheme::Bitbucket, Vec::new(), hex);
    }
    Err(Refusal::Unsigned)
}

impl Claim {
    /// Whether one of the secrets made this claim about `body`. Takes the same time for every
    /// wrong one of the same length.
    pub(crate) fn holds(&self, secrets: &[Vec<u8>], body: &[u8]) -> bool {
        secrets.iter().any(|secret| match &self.proof {
            Proof::Token(token) => same(token, secret),
            Proof::Mac { prefix, tags } => {
                let signed = [&prefix[..], body].concat();
                let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key(secret));
                tags.iter().take(8).any(|tag| hmac::verify(&key, &signed, tag).is_ok())
            }
        })
    }

    /// The specification writes keys as base64 after `whsec_`.
    fn key(&self, secret: &[u8]) -> Vec<u8> {
        let encoded = secret.strip_prefix(b"whsec_").filter(|_| self.scheme == Scheme::Standard);
        encoded.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_else(|| secret.to_vec())
    }
}

/// Compares in constant time, lengths included: both sides go through a keyed hash first.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"compare");
    hmac::verify(&key, other, hmac::sign(&key, one).as_ref()).is_ok()
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..32).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()).collect()
}

/// HMAC-SHA-256 in lower-case hexadecimal.
pub(crate) fn sign_hex(secret: &[u8], parts: &[&[u8]]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    parts.iter().for_each(|part| context.update(part));
    crate::protocol::hex(context.sign().as_ref())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn check(pairs: &[(&'static str, &str)], secret: &str, body: &[u8]) -> Result<bool, Refusal> {
        claim(&headers(pairs), NOW, 300).map(|claim| claim.holds(&[secret.as_bytes().to_vec()], body))
    }

    #[test]
    fn github_s_published_example() {
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let good =
            check(&[("x-hub-signature-256", signature)], "It's a Secret to Everybody", b"Hello, World!");
        assert_eq!(good, Ok(true));
        let bad =
            check(&[("x-hub-signature-256", signature)], "It's a secret to everybody", b"Hello, World!");
        assert_eq!(bad, Ok(false));
    }

    #[test]
    fn the_specification_s_published_example() {
        let claim = claim(
            &headers(&[
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("webhook-timestamp", "1614265330"),
                ("webhook-signature", "v1,bm9wZQ== v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ]),
            1_614_265_400,
            300,
        );
        let secret = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_vec();
        assert!(claim.unwrap().holds(&[b"other".to_vec(), secret], br#"{"test": 2432232314}"#));
    }

    #[test]
    fn every_scheme_and_its_failures() {
        let hex = sign_hex(b"s", &[b"body"]);
        let own = sign_hex(b"s", &[b"1700000000.", b"body"]);
        for (pairs, wanted) in [
            (vec![("x-gitea-signature", &hex[..])], Ok(true)),
            (vec![("x-forgejo-signature", &hex)], Ok(true)),
            (vec![("x-hub-signature", &format!("sha256={hex}"))], Ok(true)),
            (vec![("x-hub-signature", "sha1=00")], Err(Refusal::Unsigned)),
            (vec![("x-hub-signature-256", "sha256=zz")], Err(Refusal::BadSignature)),
            (vec![("x-gitlab-token", "s")], Ok(true)),
            (vec![("x-gitlab-token", "")], Ok(false)),
            (vec![("x-gitlab-token", "ss")], Ok(false)),
            (vec![("gitsync-signature", &own), ("gitsync-timestamp", "1700000000")], Ok(true)),
            (vec![("gitsync-signature", &own), ("gitsync-timestamp", "1700000001")], Ok(false)),
            (vec![("gitsync-signature", &own), ("gitsync-timestamp", "1699999000")], Err(Refusal::Expired)),
            (vec![("gitsync-signature", &own), ("gitsync-timestamp", "1700000900")], Err(Refusal::Expired)),
            (vec![("gitsync-signature", &own)], Err(Refusal::Unsigned)),
            (vec![], Err(Refusal::Unsigned)),
        ] {
            assert_eq!(check(&pairs, "s", b"body"), wanted, "{pairs:?}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_passes(body in prop::collection::vec(any::<u8>(), 1..60), at in any::<prop::sample::Index>()) {
            let hex = sign_hex(b"key", &[&body]);
            let mut other = body.clone();
            other[at.index(body.len())] ^= 1;
            prop_assert_eq!(check(&[("x-hub-signature-256", &hex)], "key", &body), Ok(true));
            prop_assert_eq!(check(&[("x-hub-signature-256", &hex)], "key", &other), Ok(false));
        }
    }
}

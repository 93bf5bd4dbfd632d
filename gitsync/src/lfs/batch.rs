//! The batch API's question and answer (git-lfs `docs/api/batch.md`). Pure.

use std::collections::HashMap;

use common::secret::SecretString;
use serde::Deserialize;

use super::pointer::{Oid, Pointer};
use crate::auth::github_app::parse_time;

/// Objects asked for at once; servers refuse more than a few hundred.
pub(super) const MAX_OBJECTS: usize = 100;
/// Bytes of an answer that are taken.
pub(super) const MAX_ANSWER: usize = 4 << 20;
/// Headers of one action that are taken.
const MAX_HEADERS: usize = 64;
/// An action is no longer used so many seconds before its end.
const MARGIN: u64 = 5;

/// Where an object is to be had.
#[derive(Debug, Clone)]
pub(super) struct Action {
    pub(super) href: String,
    pub(super) headers: Vec<(String, SecretString)>,
    /// Unix time in seconds.
    pub(super) expires_at: Option<u64>,
    /// The server says that nothing has to be added to log in.
    pub(super) authenticated: bool,
}

impl Action {
    /// Whether the server may refuse it by now.
    pub(super) fn is_expired(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|end| now.saturating_add(MARGIN) >= end)
    }
}

/// The body of the question.
pub(super) fn question(reference: &str, wanted: &[Pointer]) -> Vec<u8> {
    let objects: Vec<_> = wanted
        .iter()
        .map(|one| serde_json::json!({ "oid": one.oid.to_string(), "size": one.size }))
        .collect();
    let mut question = serde_json::json!({
        "operation": "download",
        "transfers": ["basic"],
        "objects": objects,
        "hash_algo": "sha256",
    });
    if !reference.is_empty() {
        question["ref"] = serde_json::json!({ "name": reference });
    }
    question.to_string().into_bytes()
}

#[derive(Deserialize)]
struct Answer {
    transfer: Option<String>,
    hash_algo: Option<String>,
    #[serde(default)]
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    authenticated: bool,
    actions: Option<HashMap<String, RawAction>>,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct ObjectError {
    code: i64,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct RawAction {
    href: String,
    header: Option<HashMap<String, String>>,
    expires_in: Option<i64>,
    expires_at: Option<String>,
}

/// Why an object can't be had: what to tell, and whether asking again may help.
pub(super) type Refusal = (String, bool);

/// What the server says about each of the wanted objects, in their order.
///
/// # Errors
/// When the answer as a whole is none.
pub(super) fn answer(
    body: &[u8],
    wanted: &[Pointer],
    now: u64,
) -> Result<Vec<Result<Action, Refusal>>, &'static str> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| "is no batch answer in JSON")?;
    if answer.transfer.is_some_and(|name| !name.is_empty() && name != "basic") {
        return Err("wants another transfer than basic");
    }
    if answer.hash_algo.is_some_and(|name| !name.is_empty() && name != "sha256") {
        return Err("names objects by another hash than SHA-256");
    }
    let mut found: HashMap<Oid, Object> = HashMap::new();
    for object in answer.objects {
        if let Ok(oid) = object.oid.parse() {
            found.insert(oid, object);
        }
    }
    let none = || Err(("the server's answer leaves it out".to_owned(), false));
    Ok(wanted
        .iter()
        .map(|one| found.remove(&one.oid).map_or_else(none, |object| action(object, now)))
        .collect())
}

fn action(object: Object, now: u64) -> Result<Action, Refusal> {
    if let Some(error) = object.error {
        let retry = error.code == 429 || error.code >= 500;
        return Err((format!("the server says {} {}", error.code, printable(&error.message)), retry));
    }
    let download = object.actions.and_then(|mut actions| actions.remove("download"));
    let Some(raw) = download else { return Err(("the server offers no download".to_owned(), false)) };
    let (link, _) = link(raw.href, raw.header, raw.expires_in, raw.expires_at.as_deref(), now)
        .map_err(|reason| (reason.to_owned(), false))?;
    Ok(Action { authenticated: object.authenticated, ..link })
}

/// An address with what belongs to it; the second part is whether it has an address at all.
fn link(
    href: String,
    header: Option<HashMap<String, String>>,
    expires_in: Option<i64>,
    expires_at: Option<&str>,
    now: u64,
) -> Result<(Action, bool), &'static str> {
    let header = header.unwrap_or_default();
    if header.len() > MAX_HEADERS {
        return Err("the server's answer has too many headers");
    }
    // The relative time wins: it doesn't depend on two clocks.
    let expires_at = match expires_in.filter(|seconds| *seconds != 0) {
        Some(seconds) => Some(now.saturating_add_signed(seconds)),
        // Go's zero time is before 1970 and means never.
        None => expires_at.and_then(parse_time),
    };
    let has_href = !href.is_empty();
    let headers = header.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect();
    Ok((Action { href, headers, expires_at, authenticated: false }, has_href))
}

/// What `git-lfs-authenticate` printed; the address may be left out.
///
/// # Errors
/// When it is no JSON of that kind.
pub(super) fn authenticated(output: &[u8], now: u64) -> Result<(Action, bool), &'static str> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        href: String,
        header: Option<HashMap<String, String>>,
        expires_in: Option<i64>,
        expires_at: Option<String>,
    }
    let raw: Raw = serde_json::from_slice(output).map_err(|_| "printed no JSON")?;
    link(raw.href, raw.header, raw.expires_in, raw.expires_at.as_deref(), now)
}

/// A server's own words, bounded.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use common::secret::ExposeSecret as _;
    use proptest::prelude::*;

    use super::*;

    fn pointer(digit: &str) -> Pointer {
        Pointer { oid: digit.repeat(64).parse().unwrap(), size: 3, extended: false }
    }

    #[test]
    fn answers() {
        let (a, b, c, d) = (pointer("a"), pointer("b"), pointer("c"), pointer("d"));
        let body = serde_json::json!({ "transfer": "basic", "objects": [
            { "oid": b.oid.to_string(), "size": 3, "error": { "code": 404, "message": "no\nsuch" } },
            { "oid": a.oid.to_string(), "size": 3, "authenticated": true, "actions": { "download": {
                "href": "https://cdn/x", "header": { "Key": "S3CR3T" },
                "expires_in": 10, "expires_at": "1970-01-01T00:00:01Z" } } },
            { "oid": d.oid.to_string(), "size": 3, "actions": {} },
        ]});
        let found = answer(body.to_string().as_bytes(), &[a, b, c, d], 100).unwrap();
        let first = found[0].as_ref().unwrap();
        assert_eq!(
            (first.href.as_str(), first.expires_at, first.authenticated),
            ("https://cdn/x", Some(110), true)
        );
        assert_eq!(first.headers[0].1.expose_secret(), "S3CR3T");
        assert!(!format!("{first:?}").contains("S3CR3T"));
        assert!(!first.is_expired(104) && first.is_expired(105));
        assert_eq!(found[1].as_ref().unwrap_err(), &("the server says 404 nosuch".to_owned(), false));
        assert!(found[2].is_err() && found[3].is_err());
        for wrong in ["", "[]", r#"{"transfer":"tus"}"#, r#"{"hash_algo":"sha1"}"#] {
            assert!(answer(wrong.as_bytes(), &[a], 0).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_ssh_gives() {
        let (link, has_href) = authenticated(
            br#"{"href":"https://h/x","header":{"Authorization":"R"},"expires_at":"0001-01-01T00:00:00Z"}"#,
            5,
        )
        .unwrap();
        assert!(has_href && link.expires_at.is_none() && link.headers.len() == 1);
        assert!(!authenticated(b"{}", 5).unwrap().1);
        assert!(authenticated(b"ERROR: unknown command", 5).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in ".{0,100}") {
            let _ = answer(text.as_bytes(), &[pointer("a")], 0);
            let _ = authenticated(text.as_bytes(), 0);
        }
    }
}

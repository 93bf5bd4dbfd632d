//! Reacting at once: push webhooks and `POST /sync`. [`signature`] and [`payload`] are pure,
//! [`endpoint`] is the driver.
//!
//! A webhook carries no order: it only ends the pause between two attempts, and the remote is asked
//! as always. So a forged, old or lost one can do no more than cost or spare one poll.

mod control;
mod endpoint;
mod events;
mod payload;
mod settings;
mod signature;
mod steer;
mod targets;

use std::path::PathBuf;
use std::time::Duration;

use common::config::ListenAddr;

pub(crate) use control::{Control, Finished, Progress};
pub(crate) use endpoint::{Api, routes};
pub(crate) use events::Events;
use signature::same;
pub(crate) use signature::sign_hex;
pub(crate) use targets::{Target, Targets};

/// Who may start a sync from outside, and where. By default nobody.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
///
/// // Push webhooks at /webhook, signed with one of the secrets in this file.
/// config.triggers.secret_file = Some("/etc/gitsync/webhook-secrets".into());
/// assert!(config.triggers.token_file.is_none(), "nobody may call the rest");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Triggers {
    /// An address of its own; `None`: the one of the HTTP endpoint.
    pub listen: Option<ListenAddr>,
    /// Secrets of push webhooks, one per line; read for each delivery.
    pub secret_file: Option<PathBuf>,
    /// Where push webhooks go.
    pub path: String,
    /// The repository as webhooks name it; `None`: as it is addressed.
    pub repository: Option<String>,
    /// How far a signed time may be away, and how long a delivery is remembered.
    pub window: Duration,
    /// Bearer tokens of the calls, one per line; read for each call.
    pub token_file: Option<PathBuf>,
}

impl Default for Triggers {
    fn default() -> Self {
        Self {
            listen: None,
            secret_file: None,
            path: "/webhook".to_owned(),
            repository: None,
            window: Duration::from_secs(300),
            token_file: None,
        }
    }
}

impl Triggers {
    /// Whether anything is to be served.
    pub(crate) fn is_on(&self) -> bool {
        self.secret_file.is_some() || self.token_file.is_some()
    }
}

/// Why a request from outside is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No signature or token.
    Unsigned,
    /// A wrong one.
    BadSignature,
    /// Signed too long ago, or in the future.
    Expired,
    /// The very same delivery came before.
    Replayed,
    /// No event.
    Malformed,
    /// Another repository.
    OtherRepository,
    /// Over the limit.
    TooLarge,
    /// The body didn't come.
    TooSlow,
    /// Too many at once.
    Busy,
    /// The secret can't be read.
    NoSecret,
}

impl Refusal {
    /// As in the metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::Replayed => "replayed",
            Self::Malformed => "malformed",
            Self::OtherRepository => "other_repository",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Busy => "busy",
            Self::NoSecret => "no_secret",
        }
    }

    /// HTTP status and what to tell the caller.
    fn answer(self) -> (u16, &'static str) {
        match self {
            Self::Unsigned => (401, "there is no signature of a known kind, or no bearer token"),
            Self::BadSignature => (401, "the signature or token doesn't fit the secret"),
            Self::Expired => (401, "the signed time is too far from now; compare the clocks"),
            Self::Replayed => (409, "this very delivery came before"),
            Self::Malformed => (400, "the body is no event of a known forge"),
            Self::OtherRepository => {
                (404, "this is no repository that is synced here; see --push-webhook-repository")
            }
            Self::TooLarge => (413, "the body is too large"),
            Self::TooSlow => (408, "the body came too slowly"),
            Self::Busy => (503, "too many requests at once; try again"),
            Self::NoSecret => (503, "the secret file can't be read; the log says why"),
        }
    }
}

/// See [`crate::fuzz::webhook`].
#[cfg(fuzzing)]
pub(crate) fn fuzz(delivery: &[u8]) {
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};
    let (head, body) = match memchr::memmem::find(delivery, b"\n\n") {
        Some(at) => (&delivery[..at], &delivery[at + 2..]),
        None => (delivery, &[][..]),
    };
    let header = |line: &[u8]| {
        let (name, value) = line.split_at(memchr::memchr(b':', line)?);
        Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(&value[1..]).ok()?))
    };
    let headers: HeaderMap = head.split(|byte| *byte == b'\n').filter_map(header).collect();
    if let Ok(claim) = signature::claim(&headers, 1_700_000_000, 300) {
        // Nobody guesses the secret; except when it was in the corpus, which it is not.
        assert!(!claim.holds(&[b"a secret that no sender knows".to_vec()], body));
    }
    for is_form in [false, true] {
        if let Ok(event) = payload::parse(body, is_form) {
            for reference in ["HEAD", "main", "refs/heads/main"] {
                let follow = crate::protocol::Follow::Name(reference.to_owned());
                let _ =
                    event.relevance("https://example.com/org/site.git", &crate::hub::Interest::One(follow));
            }
        }
    }
}

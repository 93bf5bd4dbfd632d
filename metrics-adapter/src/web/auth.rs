//! Basic authentication against bcrypt hashes.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::server::{Request, Response, text};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

/// Names and passwords that are let in.
#[derive(Debug)]
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// Digests of headers that were right: a bcrypt check takes longer than a scrape.
    known: Mutex<HashSet<[u8; 32]>>,
    /// One check at a time, so that guessing cannot use up the machine.
    turn: Semaphore,
}

/// Right headers remembered.
const REMEMBERED: usize = 100;
/// A hash that no password has, checked for unknown names so that they take as long.
const NOBODY: &str = "$2b$10$tUXs1Fyjo.zBf1gOM4QUiuDP15VAKoB4XiQR3zGuKugNu95qHANAO";

impl Users {
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Self {
        Self { hashes, known: Mutex::default(), turn: Semaphore::new(1) }
    }

    /// The answer to a request that is not let in.
    pub(super) async fn refuse(self: Arc<Self>, request: &Request) -> Option<Response> {
        if self.hashes.is_empty() {
            return None;
        }
        let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let right = match header.and_then(credentials) {
            Some((name, password)) => self.check(name, password).await,
            None => false,
        };
        (!right).then(|| {
            let mut response = text(StatusCode::UNAUTHORIZED, "Unauthorized\n");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
            response
        })
    }

    async fn check(self: Arc<Self>, name: String, password: String) -> bool {
        let digest: [u8; 32] = Sha256::digest(format!("{}:{name}{password}", name.len())).into();
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest) {
            return true;
        }
        let Ok(_turn) = self.turn.acquire().await else { return false };
        let hash = self.hashes.get(&name).cloned();
        let hashed = hash.clone().unwrap_or_else(|| NOBODY.to_owned());
        let checked =
            tokio::task::spawn_blocking(move || bcrypt::verify(password, &hashed).unwrap_or(false)).await;
        let right = hash.is_some() && checked.unwrap_or(false);
        if right {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(digest);
        }
        right
    }
}

fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

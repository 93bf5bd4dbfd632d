//! Getting objects: the batch request, then the basic transfers, some at a time, straight to disk.

use std::fs::File;
use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use common::retry::{Backoff, Policy};
use futures_util::{StreamExt as _, TryStreamExt as _};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use ring::digest::{Context, SHA256};
use url::Url;

use super::LfsError;
use super::batch::{self, Action, MAX_ANSWER, MAX_OBJECTS};
use super::http::{Caller, Fault, Then, piece, secret};
use super::pointer::Pointer;
use crate::keyring::unix_now;
use crate::metrics::Metrics;
use crate::repo::feed::Feed;
use crate::repo::lfs::Objects;

/// Tries for one request.
const TRIES: u32 = 4;
const BACKOFF: Policy = Policy::new(Duration::from_millis(250), Duration::from_secs(5));
const KIND: &str = "application/vnd.git-lfs+json";

/// What is to be had, with a file that needs it.
pub(super) type Wanted = (Pointer, Vec<u8>);

/// One repository's conversation with its server.
pub(super) struct Transfer<'a> {
    pub(super) caller: Caller<'a>,
    pub(super) server: Url,
    /// What logs in at the server.
    pub(super) login: HeaderMap,
    /// The ref, by which some servers decide who may read.
    pub(super) reference: String,
    pub(super) objects: Objects,
    pub(super) metrics: Metrics,
    pub(super) at_once: usize,
}

impl Transfer<'_> {
    /// Gets all objects; what is complete stays for the next attempt when one fails.
    pub(super) async fn run(&self, wanted: &[Wanted]) -> Result<(), LfsError> {
        for some in wanted.chunks(MAX_OBJECTS) {
            let pointers: Vec<_> = some.iter().map(|(pointer, _)| *pointer).collect();
            let answers = self.ask(&pointers).await?;
            let jobs: Vec<_> = some.iter().zip(answers).map(|(one, answer)| self.one(one, answer)).collect();
            futures_util::stream::iter(jobs).buffer_unordered(self.at_once).try_collect::<()>().await?;
        }
        Ok(())
    }

    /// The batch request, tried again where that may help.
    async fn ask(&self, wanted: &[Pointer]) -> Result<Vec<Result<Action, batch::Refusal>>, LfsError> {
        let mut backoff = Backoff::new(BACKOFF);
        loop {
            let fault = match self.ask_once(wanted).await {
                Ok(answers) => return Ok(answers),
                Err(fault) => fault,
            };
            let Then::Again(pause) = fault.then else { return Err(self.server_error(fault.reason)) };
            let delay = backoff.next_delay();
            if backoff.failures() >= TRIES {
                return Err(self.server_error(fault.reason));
            }
            tracing::debug!(url = %shown(&self.server), reason = fault.reason, "asking the LFS server again");
            tokio::time::sleep(pause.unwrap_or(delay)).await;
        }
    }

    fn server_error(&self, reason: String) -> LfsError {
        LfsError::Server { url: shown(&self.server), reason }
    }

    async fn ask_once(&self, wanted: &[Pointer]) -> Result<Vec<Result<Action, batch::Refusal>>, Fault> {
        let mut url = self.server.clone();
        url.set_path(&format!("{}/objects/batch", url.path().trim_end_matches('/')));
        let plain = HeaderMap::from_iter(
            [header::ACCEPT, header::CONTENT_TYPE].map(|name| (name, HeaderValue::from_static(KIND))),
        );
        let body = Bytes::from(batch::question(&self.reference, wanted));
        let (answer, _) = self.caller.send(&Method::POST, &url, &self.login, &plain, &body).await?;
        if answer.status() != StatusCode::OK {
            return Err(Fault::status(answer.status(), answer.headers()));
        }
        let mut body = answer.into_body();
        let mut whole = Vec::new();
        while let Some(bytes) = piece(&mut body).await? {
            if whole.len() + bytes.len() > MAX_ANSWER {
                return Err(Fault::fatal("answers with more than 4 MiB"));
            }
            whole.extend_from_slice(&bytes);
        }
        batch::answer(&whole, wanted, unix_now()).map_err(Fault::fatal)
    }

    /// Gets one object, tried again where that may help.
    async fn one(&self, wanted: &Wanted, first: Result<Action, batch::Refusal>) -> Result<(), LfsError> {
        let (pointer, path) = wanted;
        let (mut answer, mut backoff, mut renewed) = (first, Backoff::new(BACKOFF), false);
        loop {
            let expired = answer.as_ref().is_ok_and(|action| action.is_expired(unix_now()));
            if expired && !renewed {
                renewed = true;
                answer = self.renew(pointer).await?;
                continue;
            }
            let (url, fault) = match &answer {
                Ok(action) => match self.get(pointer, action).await {
                    Ok(()) => {
                        self.metrics.lfs_object("downloaded");
                        return Ok(());
                    }
                    Err(fault) => (crate::redact::url(&action.href), fault),
                },
                Err((reason, retry)) => {
                    let then = if *retry { Then::Again(None) } else { Then::GiveUp };
                    (shown(&self.server), Fault { reason: reason.clone(), then })
                }
            };
            let delay = backoff.next_delay();
            if fault.then == Then::GiveUp
                || backoff.failures() >= TRIES
                || (fault.then == Then::Renew && renewed)
            {
                self.metrics.lfs_object("failed");
                let path = String::from_utf8_lossy(path).into_owned();
                return Err(LfsError::Object {
                    path,
                    oid: pointer.oid.to_string(),
                    url,
                    reason: fault.reason,
                });
            }
            tracing::debug!(oid = %pointer.oid, url, reason = fault.reason, "trying again to get an LFS object");
            let pause = if let Then::Again(pause) = fault.then { pause } else { None };
            tokio::time::sleep(pause.unwrap_or(delay)).await;
            if fault.then == Then::Renew || answer.is_err() {
                renewed = renewed || answer.is_ok();
                answer = self.renew(pointer).await?;
            }
        }
    }

    async fn renew(&self, pointer: &Pointer) -> Result<Result<Action, batch::Refusal>, LfsError> {
        let left_out = || Err(("the server's answer leaves it out".to_owned(), false));
        Ok(self.ask(&[*pointer]).await?.pop().unwrap_or_else(left_out))
    }

    /// One transfer, going on where an earlier one broke off.
    async fn get(&self, pointer: &Pointer, action: &Action) -> Result<(), Fault> {
        let url = self.server.join(&action.href).map_err(|_| Fault::fatal("is no address"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Fault::fatal("is no address of http or https"));
        }
        let mut part = Part::open(self.objects.clone(), *pointer).await?;
        if part.length < pointer.size {
            let headers = self.headers(&url, action);
            let mut plain = HeaderMap::new();
            if part.length > 0 {
                let range = format!("bytes={}-", part.length);
                plain.extend(HeaderValue::from_str(&range).ok().map(|value| (header::RANGE, value)));
            }
            let (answer, _) = self.caller.send(&Method::GET, &url, &headers, &plain, &Bytes::new()).await?;
            match answer.status() {
                StatusCode::OK => part.restart()?,
                StatusCode::PARTIAL_CONTENT if begins_at(answer.headers(), part.length) => {}
                StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                    part.restart()?;
                    return Err(Fault::again("sent another range than asked for"));
                }
                status => return Err(Fault::status(status, answer.headers())),
            }
            let mut body = answer.into_body();
            while let Some(bytes) = piece(&mut body).await? {
                self.metrics.lfs_bytes(bytes.len() as u64);
                part.take(&bytes)?;
            }
        }
        part.finish().await
    }

    /// The server's headers for the transfer; ours only where it names none.
    fn headers(&self, url: &Url, action: &Action) -> HeaderMap {
        let given = action.headers.iter().filter_map(|(name, value)| {
            let name = name.parse::<HeaderName>().ok()?;
            // These are the connection's own.
            let own = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];
            Some((name.clone(), secret(value)?)).filter(|_| !own.contains(&name))
        });
        let mut headers = HeaderMap::new();
        headers.extend(given);
        if !action.authenticated && !headers.contains_key(header::AUTHORIZATION) {
            let own = self.caller.own_headers(url);
            headers.extend(own.into_iter().filter_map(|(name, value)| Some((name?, value))));
        }
        headers
    }
}

/// Whether an answer goes on at `length`.
fn begins_at(headers: &HeaderMap, length: u64) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let start =
        range.and_then(|text| text.strip_prefix("bytes ")?.split('-').next()?.trim().parse::<u64>().ok());
    start == Some(length)
}

/// An object while it comes, hashed on the way.
struct Part {
    objects: Objects,
    pointer: Pointer,
    file: File,
    hash: Context,
    length: u64,
}

impl Part {
    /// Takes up what an earlier transfer left.
    async fn open(objects: Objects, pointer: Pointer) -> Result<Self, Fault> {
        let opening = move || -> io::Result<Self> {
            let path = objects.part(pointer.oid);
            let mut file = File::options().read(true).append(true).create(true).open(&path)?;
            let mut hash = Context::new(&SHA256);
            let length = io::copy(&mut file, &mut Feed(|bytes: &[u8]| hash.update(bytes)))?;
            let mut part = Self { objects, pointer, file, hash, length };
            if length > pointer.size {
                part.reset()?;
            }
            Ok(part)
        };
        spawn(opening).await
    }

    fn reset(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.hash = Context::new(&SHA256);
        self.length = 0;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Fault> {
        if self.length == 0 { Ok(()) } else { self.reset().map_err(|e| disk(&e)) }
    }

    /// The pieces are those of a network connection, so writing one doesn't keep others waiting.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.length + bytes.len() as u64 > self.pointer.size {
            self.reset().map_err(|e| disk(&e))?;
            return Err(Fault::again(format!(
                "sent more than the {} bytes it is to have",
                self.pointer.size
            )));
        }
        self.file.write_all(bytes).map_err(|e| disk(&e))?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    async fn finish(mut self) -> Result<(), Fault> {
        if self.length < self.pointer.size {
            return Err(Fault::again(format!("sent {} of {} bytes", self.length, self.pointer.size)));
        }
        let digest = std::mem::replace(&mut self.hash, Context::new(&SHA256)).finish();
        if !self.pointer.oid.is(digest.as_ref()) {
            self.reset().map_err(|e| disk(&e))?;
            return Err(Fault::again("sent another content (its SHA-256 is not the object's name)"));
        }
        let install = move || {
            let path = self.objects.part(self.pointer.oid);
            self.objects.install(&path, self.pointer.oid).map_err(io::Error::other)
        };
        spawn(install).await
    }
}

async fn spawn<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| disk(&error))
}

fn disk(error: &io::Error) -> Fault {
    Fault::fatal(format!("can't be kept on disk: {error}"))
}

fn shown(url: &Url) -> String {
    crate::redact::url(url.as_str())
}

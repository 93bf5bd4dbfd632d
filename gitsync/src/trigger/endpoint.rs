//! The requests themselves.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::server::{BodyError, Request, Response, Router, json, read_body, require_method};
use hyper::body::Body as _;
use hyper::{HeaderMap, Method, StatusCode, header};
use sha1::{Digest as _, Sha1};
use tokio::sync::Semaphore;

use super::payload::{self, Relevance};
use super::steer;
use super::targets::Chosen;
use super::{Finished, Refusal, Target, Targets, Triggers, same, signature};
use crate::keyring::unix_now;
use crate::metrics::Metrics;
use crate::orders::Orders;

/// Largest webhook that is read, in bytes. A larger push is found by the next poll.
const MAX_BODY: usize = 4 << 20;
/// Time for a webhook's body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Bodies in memory at one time.
const MAX_BODIES: usize = 8;
/// Calls that wait for an outcome at one time.
const MAX_WAITING: usize = 64;
/// Deliveries remembered.
const MAX_REMEMBERED: usize = 4_096;
/// Longest wait that a caller can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// What the routes share.
pub(crate) struct Api {
    triggers: Triggers,
    pub(super) targets: Targets,
    metrics: Metrics,
    bodies: Semaphore,
    waiting: Semaphore,
    seen: Mutex<VecDeque<(Instant, [u8; 20])>>,
}

impl Api {
    pub(crate) fn new(triggers: &Triggers, targets: &Targets, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            triggers: triggers.clone(),
            targets: targets.clone(),
            metrics,
            bodies: Semaphore::new(MAX_BODIES),
            waiting: Semaphore::new(MAX_WAITING),
            seen: Mutex::default(),
        })
    }
}

/// Adds what is configured.
pub(crate) fn routes(mut router: Router, api: &Arc<Api>) -> Router {
    if api.triggers.secret_file.is_some() {
        let shared = Arc::clone(api);
        router = router.route_at(api.triggers.path.clone(), move |request: Request| {
            let api = Arc::clone(&shared);
            async move { api.webhook(request).await }
        });
    }
    if api.triggers.token_file.is_some() {
        let shared = Arc::clone(api);
        router = router.route("/sync", move |request: Request| {
            let api = Arc::clone(&shared);
            async move { api.sync(request).await }
        });
        router = steer::routes(router, api);
    }
    router
}

impl Api {
    async fn webhook(&self, request: Request) -> Response {
        if let Some(wrong) = require_method(&request, &Method::POST) {
            return wrong;
        }
        let (status, outcome, text) = match self.take_webhook(request).await {
            Ok(Relevance::Ours) => (202, "triggered", "a sync was started"),
            Ok(Relevance::OtherRef) => (200, "ignored", "nothing that is synced here moved"),
            Ok(Relevance::OtherRepository) => answer(Refusal::OtherRepository),
            Err(refusal) => answer(refusal),
        };
        self.metrics.webhook(outcome);
        tracing::debug!(outcome, "push webhook");
        reply(status, outcome, text)
    }

    async fn take_webhook(&self, request: Request) -> Result<Relevance, Refusal> {
        let file = self.triggers.secret_file.as_deref().ok_or(Refusal::NoSecret)?;
        let window = self.triggers.window;
        let claim = signature::claim(request.headers(), unix_now(), window.as_secs())?;
        let is_form = is_form(request.headers());
        if request.body().size_hint().lower() > MAX_BODY as u64 {
            return Err(Refusal::TooLarge);
        }
        let _permit = self.bodies.try_acquire().map_err(|_| Refusal::Busy)?;
        let body =
            read_body(request.into_body(), MAX_BODY, BODY_TIME).await.map_err(|error| match error {
                BodyError::TooLarge(_) => Refusal::TooLarge,
                BodyError::TooSlow(_) => Refusal::TooSlow,
                _ => Refusal::Malformed,
            })?;
        if !claim.holds(&secrets(file).await?, &body) {
            return Err(Refusal::BadSignature);
        }
        let event = payload::parse(&body, is_form)?;
        let (relevance, touched) = self.targets.touched(&event);
        if relevance == Relevance::Ours && !self.is_new(Sha1::digest(&body).into()) {
            return Err(Refusal::Replayed);
        }
        let now = Instant::now();
        touched.iter().for_each(|(_, target)| target.control.fire_pushed(now));
        Ok(relevance)
    }

    /// Remembers a delivery for as long as the window.
    fn is_new(&self, digest: [u8; 20]) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let window = self.triggers.window;
        while seen.len() >= MAX_REMEMBERED || seen.front().is_some_and(|(time, _)| time.elapsed() > window) {
            seen.pop_front();
        }
        if seen.iter().any(|(_, known)| *known == digest) {
            return false;
        }
        seen.push_back((Instant::now(), digest));
        true
    }

    async fn sync(&self, request: Request) -> Response {
        if let Some(wrong) = require_method(&request, &Method::POST) {
            return wrong;
        }
        if let Err(refusal) = self.authorize(request.headers()).await {
            let (status, outcome, text) = answer(refusal);
            return self.done("sync", status, outcome, text);
        }
        let query = request.uri().query();
        let chosen = match self.targets.chosen(query) {
            Ok(chosen) => chosen,
            Err(text) => return self.done("sync", 404, "unknown_source", &text),
        };
        let longest = chosen.iter().map(|(_, target)| target.wait).max().unwrap_or_default();
        let wait = match wanted_wait(query, longest) {
            Ok(wait) => wait,
            Err(text) => return self.done("sync", 400, "malformed", text),
        };
        let now = Instant::now();
        let Some(wait) = wait else {
            chosen.iter().for_each(|(_, target)| target.control.fire_since(now));
            return self.done("sync", 202, "triggered", "a sync was started");
        };
        let Ok(_permit) = self.waiting.try_acquire() else {
            let (status, outcome, text) = answer(Refusal::Busy);
            return self.done("sync", status, outcome, text);
        };
        let all = futures_util::future::join_all(chosen.iter().map(|(_, target)| target.control.sync(now)));
        let Ok(finished) = tokio::time::timeout(wait, all).await else {
            return self.done("sync", 202, "running", "the sync has not ended yet");
        };
        match (&chosen[..], &finished[..]) {
            ([(_, target)], [Some(finished)]) => self.outcome("sync", target, finished),
            ([_], _) => self.done("sync", 503, "stopping", "the process is about to end"),
            _ => self.outcomes(&chosen, &finished),
        }
    }

    /// Of several sources: one value for each, and the worst of their outcomes.
    fn outcomes(&self, chosen: &Chosen, finished: &[Option<Arc<Finished>>]) -> Response {
        let mut sources = serde_json::Map::new();
        let mut worst = "unchanged";
        for ((name, target), finished) in chosen.iter().zip(finished) {
            let (outcome, value) = match finished {
                Some(finished) => described(target, finished),
                None => ("stopping", serde_json::json!({ "status": "stopping" })),
            };
            worst = match (outcome, worst) {
                ("failed", _) | (_, "failed") => "failed",
                ("updated", _) => "updated",
                _ => worst,
            };
            sources.insert(name.clone(), value);
        }
        let status = if worst == "failed" { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
        self.metrics.call("sync", worst);
        json(status, &serde_json::json!({ "status": worst, "sources": sources }))
    }

    pub(super) fn outcome(&self, call: &'static str, target: &Target, finished: &Finished) -> Response {
        let (outcome, value) = described(target, finished);
        let status = if outcome == "failed" { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
        self.metrics.call(call, outcome);
        json(status, &value)
    }

    pub(super) fn done(
        &self,
        call: &'static str,
        status: u16,
        outcome: &'static str,
        text: &str,
    ) -> Response {
        self.metrics.call(call, outcome);
        reply(status, outcome, text)
    }

    pub(super) async fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let file = self.triggers.token_file.as_deref().ok_or(Refusal::NoSecret)?;
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, token) = given.and_then(|given| given.split_once(' ')).ok_or(Refusal::Unsigned)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::Unsigned);
        }
        match secrets(file).await?.iter().any(|known| same(known, token.trim().as_bytes())) {
            true => Ok(()),
            false => Err(Refusal::BadSignature),
        }
    }
}

/// How an attempt ended: in a word, and for machines.
fn described(target: &Target, finished: &Finished) -> (&'static str, serde_json::Value) {
    let took = finished.took.as_secs_f64() * 1e3;
    let (outcome, mut value) = match &finished.result {
        Ok(Some(report)) => {
            let outcome = if report.changed { "updated" } else { "unchanged" };
            let news = report.news.as_ref().map(|news| news.to_json());
            (outcome, news.unwrap_or_else(|| serde_json::json!({ "new": report.commit.to_string() })))
        }
        Ok(None) => ("unchanged", serde_json::json!({})),
        Err(error) => ("failed", serde_json::json!({ "error": error })),
    };
    value["status"] = outcome.into();
    value["ref"] = target.reference.clone().into();
    value["duration_ms"] = ((took * 1e3).round() / 1e3).into();
    if let Some(reason) = target.orders.as_ref().and_then(Orders::reason) {
        value["not_followed"] = reason.into();
    }
    (outcome, value)
}

/// `?wait`, `?wait=30s`, or no waiting.
fn wanted_wait(query: Option<&str>, usual: Duration) -> Result<Option<Duration>, &'static str> {
    let query = query.unwrap_or_default();
    let Some((_, value)) = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "wait")
    else {
        return Ok(None);
    };
    match &*value {
        "" | "1" | "true" => Ok(Some(usual)),
        "0" | "false" => Ok(None),
        text => <Duration as common::config::FromSetting>::from_setting(text)
            .map(|wait| Some(wait.min(LONGEST_WAIT)))
            .map_err(|_| "wait is true, false or a duration like 30s"),
    }
}

pub(super) fn answer(refusal: Refusal) -> (u16, &'static str, &'static str) {
    let (status, text) = refusal.answer();
    (status, refusal.name(), text)
}

fn reply(status: u16, outcome: &str, text: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, &serde_json::json!({ "status": outcome, "message": text }));
    if status == StatusCode::UNAUTHORIZED {
        let bearer = header::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE || status == StatusCode::REQUEST_TIMEOUT {
        // The rest of the body is not worth reading.
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    response
}

/// The lines of a secret file. Several of them let a secret be changed without a gap.
async fn secrets(file: &Path) -> Result<Vec<Vec<u8>>, Refusal> {
    use common::secret::ExposeSecret as _;
    let path = file.to_owned();
    let read = tokio::task::spawn_blocking(move || common::secret::read(&path)).await;
    let text = match read {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => {
            tracing::error!(error = common::error::chain(&error), "requests from outside are refused");
            return Err(Refusal::NoSecret);
        }
        Err(_) => return Err(Refusal::NoSecret),
    };
    let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<Vec<u8>> = lines.map(|line| line.as_bytes().to_vec()).collect();
    if lines.is_empty() {
        tracing::error!(path = %file.display(), "the secret file is empty; requests from outside are refused");
        return Err(Refusal::NoSecret);
    }
    Ok(lines)
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded")
}

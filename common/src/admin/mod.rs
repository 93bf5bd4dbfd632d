//! The admin port: `/metrics`, `/livez`, `/readyz`, `/status.json` and the status page at `/`.

mod page;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use hyper::header;
use hyper::{Method, StatusCode};
use prometheus::Registry;

use crate::Build;
use crate::metrics;
use crate::server::{Request, Response, Router, json, require_method, respond, text};
use crate::status::Status;

pub use watch::StatusPage;

/// What must be true before traffic may come. Clones share the conditions.
///
/// A condition is a latch (dropped once, after the first success) or a switch that follows reality.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<Vec<State>>>,
}

#[derive(Debug)]
struct State {
    name: String,
    problem: Option<String>,
}

impl Readiness {
    /// No conditions: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that is not met yet.
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let mut conditions = self.lock();
        conditions.push(State { name: name.into(), problem: Some("not yet".to_owned()) });
        Condition { readiness: self.clone(), index: conditions.len() - 1 }
    }

    /// The unmet conditions as `name: problem`; empty when ready.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let conditions = self.lock();
        let unmet = conditions.iter().filter_map(|state| Some((&state.name, state.problem.as_ref()?)));
        unmet.map(|(name, problem)| format!("{name}: {problem}")).collect()
    }

    /// Whether every condition is met.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().iter().all(|state| state.problem.is_none())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<State>> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle on one condition of a [`Readiness`].
#[derive(Debug, Clone)]
pub struct Condition {
    readiness: Readiness,
    index: usize,
}

impl Condition {
    /// Met.
    pub fn met(&self) {
        self.set(None);
    }

    /// Not met (any more), because of this.
    pub fn unmet(&self, problem: impl Into<String>) {
        self.set(Some(problem.into()));
    }

    fn set(&self, problem: Option<String>) {
        if let Some(state) = self.readiness.lock().get_mut(self.index) {
            state.problem = problem;
        }
    }
}

/// Makes the routes of an admin port; more can be added to the [`Router`] that comes out.
///
/// `status` is called for each look at the page, so it must be cheap and must not block.
#[must_use]
pub fn routes(
    build: Build,
    registry: Registry,
    readiness: Readiness,
    status: impl Fn() -> Status + Send + Sync + 'static,
) -> Router {
    let page = StatusPage::new(build, status);
    let for_json = page.clone();
    Router::new()
        .route("/livez", async |request: Request| get(&request, || text(StatusCode::OK, "ok\n")))
        .route("/readyz", move |request: Request| {
            let response = get(&request, || ready(&readiness));
            async move { response }
        })
        .route("/metrics", move |request: Request| {
            let response =
                get(&request, || respond(StatusCode::OK, metrics::TEXT_FORMAT, metrics::text(&registry)));
            async move { response }
        })
        .route("/status.json", move |request: Request| {
            let response = get(&request, || no_store(json(StatusCode::OK, &for_json.status())));
            async move { response }
        })
        .route("/", move |request: Request| {
            let response = get(&request, || page.answer(&request));
            async move { response }
        })
}

fn ready(readiness: &Readiness) -> Response {
    let problems = readiness.problems();
    match problems.is_empty() {
        true => text(StatusCode::OK, "ready\n"),
        false => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", problems.join("\n"))),
    }
}

fn get(request: &Request, answer: impl FnOnce() -> Response) -> Response {
    require_method(request, &Method::GET).unwrap_or_else(answer)
}

fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;

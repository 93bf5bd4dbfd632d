//! The HTTP endpoint: the paths of kubernetes/git-sync, and the ones every pattern container has.

use std::sync::Arc;

use common::admin::{Readiness, StatusPage, routes};
use common::config::ListenAddr;
use common::metrics::Registry;
use common::server::{Limits, Request, Response, Router, bind, is_endless, respond, serve, text};
use common::shutdown::Shutdown;
use hyper::StatusCode;

use crate::BUILD;
use crate::board::Board;
use crate::config::Http;
use crate::error::Error;
use crate::trigger::{self, Api, Events};

/// Starts serving.
///
/// # Errors
/// When the address can't be bound.
pub(crate) async fn start(
    http: &Http,
    registry: Registry,
    board: &Board,
    triggers: Option<&Arc<Api>>,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let listener = bind(&http.bind).await.map_err(Error::Bind)?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving HTTP");
    }
    let mut router = router(http, registry, board);
    if http.events {
        let events = Events::new(board.listen());
        router = router.route("/events", move |request: Request| {
            let answer = events.answer(&request);
            async move { answer }
        });
    }
    if let Some(api) = triggers {
        router = trigger::routes(router, api);
    }
    shutdown.spawn(serve(listener, Arc::new(router), Limits::default(), shutdown.clone()));
    Ok(())
}

/// Serves push webhooks and calls, and nothing else, on an address of their own.
///
/// # Errors
/// When the address can't be bound.
pub(crate) async fn start_triggers(
    address: &ListenAddr,
    api: &Arc<Api>,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let listener = bind(address).await.map_err(Error::Bind)?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "taking push webhooks and calls");
    }
    let router = trigger::routes(Router::new(), api);
    shutdown.spawn(serve(listener, Arc::new(router), Limits::default(), shutdown.clone()));
    Ok(())
}

fn router(http: &Http, registry: Registry, board: &Board) -> Router {
    let for_status = board.clone();
    let mut router = routes(BUILD, registry, Readiness::new(), move || for_status.status());
    let for_page = board.clone();
    let page = StatusPage::new(BUILD, move || for_page.status());
    let (top, ready, rest) = (board.clone(), board.clone(), board.clone());
    router = router
        // Probes of kubernetes/git-sync's users ask for this path.
        .route("/", move |request: Request| {
            let mut answer = page.answer(&request);
            if !top.is_serving() && !is_endless(&answer) {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            async move { answer }
        })
        .route("/readyz", move |_: Request| {
            let missing = ready.missing();
            let answer = match (missing.is_empty(), ready.stale()) {
                (false, _) if missing.iter().any(String::is_empty) => not_ready(),
                (false, _) => {
                    text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join(", ")))
                }
                (true, None) => text(StatusCode::OK, "ready\n"),
                (true, Some(reason)) => text(StatusCode::OK, format!("ready, but {reason}\n")),
            };
            async move { answer }
        })
        .fallback(move |_: Request| {
            let answer = if rest.is_serving() { text(StatusCode::OK, "") } else { not_ready() };
            async move { answer }
        });
    if !http.metrics {
        router = router.without("/metrics");
    }
    if http.pprof {
        for path in ["/debug/pprof/", "/debug/pprof"] {
            router = router.route(path, async |_: Request| process_facts());
        }
    }
    router
}

fn not_ready() -> Response {
    text(StatusCode::SERVICE_UNAVAILABLE, "repo is not ready\n")
}

/// There are no Go profiles in here; what the kernel knows of the process is the nearest thing.
fn process_facts() -> Response {
    let facts = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    respond(StatusCode::OK, "text/plain; charset=utf-8", facts)
}

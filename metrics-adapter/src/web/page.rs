//! What is served, and under which paths.

use std::sync::Arc;

use common::Build;
use common::admin::{self, Readiness};
use common::metrics::prometheus::Registry;
use common::server::{Request, Response, Router, require_method, text};
use common::shutdown::Shutdown;
use common::status::Status;
use hyper::{Method, StatusCode};

use super::metrics;
use crate::family::Family;
use crate::source::Source;

/// Everything the HTTP side shows.
pub struct Page {
    /// What was built.
    pub build: Build,
    /// The word of the mode in health answers.
    pub mode: &'static str,
    /// Path of the metrics.
    pub path: String,
    /// Whether `/-/reload` and `/-/quit` are served.
    pub lifecycle: bool,
    /// Asks for a reload.
    pub reload: Box<dyn Fn() + Send + Sync>,
    /// The process's own families as they are now. Their names win over those of the sources.
    pub own: Box<dyn Fn() -> Vec<Family> + Send + Sync>,
    /// The status page as it is now.
    pub status: Arc<dyn Fn() -> Status + Send + Sync>,
    /// Whose families are served.
    pub sources: Vec<Arc<dyn Source>>,
}

impl Page {
    /// The routes. `/-/quit` triggers `shutdown`.
    pub(super) fn routes(self, shutdown: &Shutdown) -> Router {
        let (status, mode) = (Arc::clone(&self.status), self.mode);
        let base = admin::routes(self.build, Registry::new(), Readiness::new(), move || status());
        let mut router = base
            .without("/metrics")
            .route("/-/healthy", move |request: Request| said(request, format!("{mode} mode is healthy.\n")))
            .route("/-/ready", move |request: Request| said(request, format!("{mode} mode is ready.\n")));
        if matches!(&*self.path, "" | "/") {
            router = router.without("/");
        }
        let path = if self.path.is_empty() { "/".to_owned() } else { self.path.clone() };
        let page = Arc::new(self);
        if page.lifecycle {
            let (reload, quit) = (Arc::clone(&page), shutdown.clone());
            router = router
                .route("/-/reload", move |request: Request| {
                    let asked = asked(&request, "Asked to reload.\n");
                    if asked.0 {
                        (reload.reload)();
                    }
                    async move { asked.1 }
                })
                .route("/-/quit", move |request: Request| {
                    let asked = asked(&request, "Asked to end.\n");
                    if asked.0 {
                        quit.trigger();
                    }
                    async move { asked.1 }
                });
        }
        router.route_at(path, move |request: Request| metrics::answer(Arc::clone(&page), request))
    }
}

async fn said(request: Request, sentence: String) -> Response {
    require_method(&request, &Method::GET).unwrap_or_else(|| text(StatusCode::OK, sentence))
}

/// PUT and POST are askings; to anything else the peer says nothing, with status 200.
fn asked(request: &Request, sentence: &'static str) -> (bool, Response) {
    match *request.method() {
        Method::PUT | Method::POST => (true, text(StatusCode::OK, sentence)),
        _ => (false, text(StatusCode::OK, "")),
    }
}

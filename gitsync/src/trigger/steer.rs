//! `POST /rollback`, `/pin` and `/unpin`: deciding from outside what is published.

use std::sync::Arc;
use std::time::Instant;

use common::server::{Request, Response, Router, require_method};
use hyper::Method;

use super::endpoint::{Api, answer};

/// What is asked for.
#[derive(Clone, Copy)]
enum Call {
    RollBack,
    Pin,
    Unpin,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::RollBack => "rollback",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
        }
    }
}

/// Adds the three.
pub(super) fn routes(mut router: Router, api: &Arc<Api>) -> Router {
    for (path, call) in [("/rollback", Call::RollBack), ("/pin", Call::Pin), ("/unpin", Call::Unpin)] {
        let shared = Arc::clone(api);
        router = router.route(path, move |request: Request| {
            let api = Arc::clone(&shared);
            async move { api.steer(call, request).await }
        });
    }
    router
}

impl Api {
    async fn steer(&self, call: Call, request: Request) -> Response {
        if let Some(wrong) = require_method(&request, &Method::POST) {
            return wrong;
        }
        if let Err(refusal) = self.authorize(request.headers()).await {
            let (status, outcome, text) = answer(refusal);
            return self.done(call.name(), status, outcome, text);
        }
        let query = request.uri().query().unwrap_or_default();
        let (target, orders) = match self.targets.chosen(Some(query)) {
            Err(text) => return self.done(call.name(), 404, "unknown_source", &text),
            Ok(chosen) => match &chosen[..] {
                [(_, target)] => match &target.orders {
                    Some(orders) => (Arc::clone(target), orders.clone()),
                    None => {
                        let text = "this source has a folder for each ref; say which, ?source=NAME/FOLDER";
                        return self.done(call.name(), 400, "malformed", text);
                    }
                },
                _ => {
                    let text = "there are several sources; say which one, ?source=NAME";
                    return self.done(call.name(), 400, "malformed", text);
                }
            },
        };
        let commit = url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "commit")
            .map(|(_, value)| value.into_owned());
        let ordered = match call {
            Call::RollBack => orders.roll_back(commit.as_deref()).map(|to| (Some(to), None)),
            Call::Pin => orders.pin(commit.as_deref()).map(|(to, before)| (Some(to), Some(before))),
            Call::Unpin => orders.unpin(None).map(|()| (None, None)),
        };
        let (to, before) = match ordered {
            Ok(ordered) => ordered,
            Err(text) => return self.done(call.name(), 409, "refused", &text),
        };
        tracing::info!(call = call.name(), commit = to.map(|hash| hash.to_string()), "ordered from outside");
        let finished = match tokio::time::timeout(target.wait, target.control.sync(Instant::now())).await {
            Err(_) => return self.done(call.name(), 202, "running", "ordered; the sync has not ended yet"),
            Ok(None) => {
                return self.done(call.name(), 503, "stopping", "ordered; the process is about to end");
            }
            Ok(Some(finished)) => finished,
        };
        // A commit that can't be had is no place to stay at.
        if let Some(before) = before.filter(|_| finished.result.is_err()) {
            if let Err(error) = orders.unpin(before) {
                tracing::error!(error, "can't take the pin back");
            }
            target.control.fire();
        }
        self.outcome(call.name(), &target, &finished)
    }
}

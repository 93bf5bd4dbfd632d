//! Asking the neighbour, after a publication, whether it likes what it sees.

use std::time::Duration;

use bytes::Bytes;
use common::client::{Client, RequestBody, TlsOptions};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::redact;

/// Pause between two requests.
const PAUSE: Duration = Duration::from_millis(100);
/// One request can't use up the whole time.
const LONGEST_REQUEST: Duration = Duration::from_secs(5);

/// Sends GET requests until one is answered well.
pub(crate) struct Probe {
    settings: config::Probe,
    client: Client,
}

impl Probe {
    /// # Errors
    /// When the TLS settings can't be used.
    pub(crate) fn new(settings: config::Probe) -> Result<Self, String> {
        let tls = common::client::tls(&TlsOptions::default()).map_err(|e| e.to_string())?;
        // The neighbour is near; no proxy lies between.
        Ok(Self { client: common::client::client(tls, LONGEST_REQUEST), settings })
    }

    /// Whether there was a good answer within the time; `None` when the attempt was given up.
    pub(crate) async fn run(&self, cancel: &CancellationToken) -> Option<Result<(), String>> {
        let ask = async {
            tokio::time::sleep(self.settings.delay).await;
            let mut last = "no answer".to_owned();
            let good = async {
                while let Err(reason) = self.ask().await {
                    last = reason;
                    tokio::time::sleep(PAUSE).await;
                }
            };
            let in_time = tokio::time::timeout(self.settings.timeout, good).await.is_ok();
            let url = redact::url(&self.settings.url);
            if in_time { Ok(()) } else { Err(format!("{url}: {last}")) }
        };
        tokio::select! {
            result = ask => Some(result),
            () = cancel.cancelled() => None,
        }
    }

    async fn ask(&self) -> Result<(), String> {
        let body: RequestBody = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
        let request = Request::get(&self.settings.url)
            .header("User-Agent", "gitsync-probe")
            .body(body)
            .map_err(|e| e.to_string())?;
        let answer = tokio::time::timeout(LONGEST_REQUEST, self.client.request(request))
            .await
            .map_err(|_| "no answer within 5 s".to_owned())?
            .map_err(|error| common::error::chain(&error))?;
        // As Kubernetes judges.
        match answer.status().as_u16() {
            200..400 => Ok(()),
            status => Err(format!("answered {status}")),
        }
    }
}

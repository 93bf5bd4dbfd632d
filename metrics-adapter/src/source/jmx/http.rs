//! The HTTP side of the peer's standalone server.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::admin::{self, Readiness};
use common::config::{FromSetting, ListenAddr};
use common::metrics::prometheus::Registry;
use common::server::{self, Handler, Limits, Request, Response, ResponseFuture, Router, respond, text};
use common::shutdown::Shutdown;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::basic_auth::BasicAuth;
use super::otlp::{OpenTelemetry, Pushed};
use super::{Config, ConfigError, JmxSource, ScrapeError};
use crate::exposition::{Compression, Format, Writer};
use crate::family::Value;
use crate::push::{PushError, Pusher};
use crate::rule::page::SharedFamily;

/// Why the server cannot run.
///
/// ```
/// use metrics_adapter::source::jmx::{Config, RunError, run};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let config = Config::from_text("hostPort: localhost:9010", "config.yaml".as_ref()).unwrap();
/// let error = run(config, "nowhere", metrics_adapter::Shutdown::new()).await.unwrap_err();
/// assert!(matches!(error, RunError::Listen { .. }));
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration cannot be used.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The listening address is none, or taken.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as given.
        address: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The receiver of `openTelemetry` cannot be pushed to.
    #[error("pushing did not start (`openTelemetry`)")]
    Push(#[from] PushError),
}

/// Time for the last push when the process ends.
const PUSH_DRAIN: Duration = Duration::from_secs(4);

/// Pushes as `openTelemetry` says, and serves no page.
///
/// # Errors
/// The receiver cannot be pushed to. One that does not answer is no error.
///
/// ```no_run
/// use metrics_adapter::source::jmx::{Config, push_only};
///
/// # async fn example() -> Result<(), metrics_adapter::source::jmx::RunError> {
/// push_only(Config::load("config.yaml".as_ref())?, metrics_adapter::Shutdown::new()).await
/// # }
/// ```
pub async fn push_only(config: Config, shutdown: Shutdown) -> Result<(), RunError> {
    let push = config.settings.open_telemetry.clone();
    let source = Arc::new(JmxSource::new(config));
    start_pushing(push, &source, &shutdown)?;
    shutdown.triggered().await;
    shutdown.drain(PUSH_DRAIN).await;
    let _ = tokio::time::timeout(Duration::from_secs(2), source.close()).await;
    Ok(())
}

fn start_pushing(
    push: Option<OpenTelemetry>,
    source: &Arc<JmxSource>,
    shutdown: &Shutdown,
) -> Result<(), PushError> {
    let Some(OpenTelemetry { target, preserve_names }) = push else { return Ok(()) };
    let pusher = Pusher::new(target, Arc::new(Pushed { source: Arc::clone(source), preserve_names }))?;
    let _ = source.pushed.set(pusher.state());
    shutdown.spawn(pusher.run(shutdown.clone()));
    Ok(())
}

/// Serves the page on `listen` (`host:port`, `:port`) until shutdown.
///
/// # Errors
/// The address cannot be listened on. A JVM that cannot be reached is no error.
///
/// ```no_run
/// use metrics_adapter::source::jmx::{Config, run};
///
/// # async fn example() -> Result<(), metrics_adapter::source::jmx::RunError> {
/// run(Config::load("config.yaml".as_ref())?, ":9404", metrics_adapter::Shutdown::new()).await
/// # }
/// ```
pub async fn run(config: Config, listen: &str, shutdown: Shutdown) -> Result<(), RunError> {
    let refuse = |source| RunError::Listen { address: listen.to_owned(), source };
    let address = ListenAddr::from_setting(listen).map_err(|reason| refuse(reason.into()))?;
    let listener = server::bind(&address).await.map_err(|error| refuse(error.into()))?;
    match listener.local_addr() {
        Ok(address) => tracing::info!(%address, "serving JMX metrics"),
        Err(error) => return Err(refuse(error.into())),
    }
    let push = config.settings.open_telemetry.clone();
    let page = Page::new(config);
    let with_tls = page.with_tls;
    let source = Arc::clone(&page.source);
    start_pushing(push, &source, &shutdown)?;
    let handler: Arc<dyn Handler> = Arc::new(page);
    match with_tls {
        false => server::serve(listener, handler, Limits::default(), shutdown.clone()).await,
        true => serve_tls(listener, &source, handler, shutdown.clone()).await,
    }
    // What is left is pushed.
    shutdown.drain(PUSH_DRAIN).await;
    // Sessions left behind would idle in the JVM for two minutes.
    let _ = tokio::time::timeout(Duration::from_secs(2), source.close()).await;
    Ok(())
}

async fn serve_tls(listener: TcpListener, source: &JmxSource, handler: Arc<dyn Handler>, shutdown: Shutdown) {
    let limits = Limits::default();
    let permits = Arc::new(Semaphore::new(limits.connections));
    let connections = shutdown.child();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.triggered() => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(tls) = source.server_tls.load_full() else { return };
        let (acceptor, handler, token) = (tls.acceptor.clone(), Arc::clone(&handler), connections.clone());
        connections.spawn(async move {
            match tokio::time::timeout(limits.head, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => server::serve_connection(stream, handler, limits, token).await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_) => tracing::debug!("TLS handshake took too long"),
            }
            drop(permit);
        });
    }
    connections.drain(limits.drain).await;
}

/// Answers requests.
struct Page {
    source: Arc<JmxSource>,
    auth: Option<Arc<BasicAuth>>,
    with_tls: bool,
    router: Router,
    permits: Arc<Semaphore>,
    time: Option<Duration>,
}

impl Page {
    fn new(mut config: Config) -> Self {
        let auth = config.settings.basic_auth.take().map(Arc::new);
        let with_tls = config.settings.server_tls.is_some();
        let time = config.settings.request_timeout;
        let permits = Arc::new(Semaphore::new(config.settings.request_limit));
        let path = config.settings.metrics_path.clone();
        let with_probe = !config.settings.probe_targets.is_empty();
        let source = Arc::new(JmxSource::new(config));
        let router = router(&source, path, with_probe);
        Self { source, auth, with_tls, router, permits, time }
    }
}

fn router(source: &Arc<JmxSource>, path: Option<String>, with_probe: bool) -> Router {
    let metrics = |source: &Arc<JmxSource>| {
        let source = Arc::clone(source);
        move |request: Request| {
            let source = Arc::clone(&source);
            async move { metrics(&source, &request).await }
        }
    };
    let status = Arc::clone(source);
    let base = admin::routes(common::build!(), Registry::new(), Readiness::new(), move || status.status());
    let mut router = base
        .without("/metrics")
        .without("/livez")
        .without("/readyz")
        .route("/metrics", metrics(source))
        .route("/-/healthy", async |_: Request| text(StatusCode::OK, "Exporter is healthy."))
        .route("/-/ready", async |_: Request| text(StatusCode::OK, "Exporter is ready."))
        // The paths of the other containers here, so that one probe fits all.
        .route("/livez", async |_: Request| text(StatusCode::OK, "ok\n"))
        .route("/readyz", async |_: Request| text(StatusCode::OK, "ok\n"));
    if let Some(path) = path {
        router = router.route_at(path, metrics(source));
    }
    if with_probe {
        let source = Arc::clone(source);
        router = router.route("/probe", move |request: Request| {
            let source = Arc::clone(&source);
            async move { probe(&source, &request).await }
        });
    }
    router
}

impl Handler for Page {
    fn call(&self, request: Request) -> ResponseFuture {
        // Probes of Kubernetes carry no password and must not compete with scrapes. A JVM that is not there
        // yet is no reason to be unready: as a native sidecar this starts before it.
        if matches!(request.uri().path(), "/livez" | "/readyz") {
            return Box::pin(std::future::ready(secured(text(StatusCode::OK, "ok\n"), self.with_tls)));
        }
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.source.counts.rejected.fetch_add(1, Ordering::Relaxed);
            let busy = secured(text(StatusCode::TOO_MANY_REQUESTS, "too many requests at a time\n"), false);
            return Box::pin(std::future::ready(busy));
        };
        let auth = self.auth.clone();
        let with_tls = self.with_tls;
        let header = request.headers().get(header::AUTHORIZATION);
        let header = header.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let answer = self.router.call(request);
        let time = self.time;
        Box::pin(async move {
            let _permit = permit;
            if let Some(auth) = auth
                && !authorized(auth, header).await
            {
                return secured(unauthorized(), with_tls);
            }
            let answer = match time {
                None => answer.await,
                Some(limit) => tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
                    text(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "the request took longer than maximumRequestSeconds\n",
                    )
                }),
            };
            secured(answer, with_tls)
        })
    }
}

/// Deriving a key may take half a second of CPU, so it happens on another thread.
async fn authorized(auth: Arc<BasicAuth>, header: String) -> bool {
    if auth.was_accepted(&header) {
        return true;
    }
    tokio::task::spawn_blocking(move || auth.accepts(&header)).await.unwrap_or(false)
}

fn unauthorized() -> Response {
    let mut response = text(StatusCode::UNAUTHORIZED, "name and password are needed\n");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"/\""));
    response
}

fn secured(mut response: Response, with_tls: bool) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if with_tls {
        let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    response
}

async fn metrics(source: &JmxSource, request: &Request) -> Response {
    match source.scrape(deadline(request.headers())).await {
        Ok(families) => {
            let own: Vec<_> = source.own_families().into_iter().map(SharedFamily::from).collect();
            page(request, vec![families, Arc::new(own)])
        }
        Err(error) => failed(&error),
    }
}

async fn probe(source: &JmxSource, request: &Request) -> Response {
    let query = Query::of(request);
    let Some(target) = query.first("target") else {
        return text(StatusCode::BAD_REQUEST, "the query parameter `target` is missing\n");
    };
    match source.probe(&target, deadline(request.headers())).await {
        Ok(families) => page(request, vec![Arc::new(families)]),
        Err(error) => failed(&error),
    }
}

fn failed(error: &ScrapeError) -> Response {
    let status = match error {
        ScrapeError::NotAllowed(_) => StatusCode::FORBIDDEN,
        ScrapeError::NoTarget(_) => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    text(status, format!("{error}\n"))
}

/// Prometheus says how long it waits; a little is kept for sending the page.
fn deadline(headers: &HeaderMap) -> Option<Instant> {
    let name = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
    let seconds: f64 = headers.get(name)?.to_str().ok()?.parse().ok()?;
    let limit = Duration::try_from_secs_f64((seconds * 0.95).clamp(0.1, 3600.0)).ok()?;
    Some(Instant::now() + limit)
}

/// Writes the families that the query asks for, in the form that the client takes.
fn page(request: &Request, sets: Vec<Arc<Vec<SharedFamily>>>) -> Response {
    let query = Query::of(request);
    let wanted = query.all("name[]");
    let is_wanted = |family: &SharedFamily| {
        let bare = family.name.strip_suffix("_total").unwrap_or(&family.name);
        wanted.is_empty() || wanted.iter().any(|name| *name == family.name || *name == bare)
    };
    let page = Families::new(sets, is_wanted);
    let accept = header_text(request.headers(), header::ACCEPT);
    let format = match query.first("debug").as_deref() {
        Some("text") => Format::Text,
        Some("openmetrics") => Format::OpenMetrics,
        Some("prometheus-protobuf") => Format::Protobuf,
        _ => Format::negotiate(&accept),
    };
    let encodings = header_text(request.headers(), header::ACCEPT_ENCODING);
    let packed = Compression::negotiate(&encodings) == Compression::Gzip;
    let mut response = match format {
        // A long page is never whole in memory.
        Format::Text if page.samples() > LONG_PAGE => {
            let (pieces, body) = tokio::sync::mpsc::channel(1);
            tokio::spawn(super::text::send(page, packed, pieces));
            let mut response = Response::new(server::stream(body));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(format)));
            response
        }
        format => {
            let bytes = match format {
                Format::Text => super::text::write(page.iter()).into_bytes(),
                other => written(other, page.iter()),
            };
            match packed.then(|| gzip(&bytes)) {
                Some(Ok(packed)) => respond(StatusCode::OK, content_type(format), packed),
                Some(Err(_)) | None => return respond(StatusCode::OK, content_type(format), bytes),
            }
        }
    };
    if packed {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Samples of a page that is sent in pieces.
const LONG_PAGE: usize = 500;

/// The families of a page in their order, owned by whoever sends it.
pub(super) struct Families {
    sets: Vec<Arc<Vec<SharedFamily>>>,
    /// Set, and index in it.
    order: Vec<(u32, u32)>,
}

impl Families {
    fn new(sets: Vec<Arc<Vec<SharedFamily>>>, is_wanted: impl Fn(&SharedFamily) -> bool) -> Self {
        let mut order = Vec::with_capacity(sets.iter().map(|set| set.len()).sum());
        for (set, families) in (0..).zip(&sets) {
            let wanted = (0..).zip(families.iter()).filter(|(_, family)| is_wanted(family));
            order.extend(wanted.map(|(index, _)| (set, index)));
        }
        let mut all = Self { sets, order: Vec::new() };
        order.sort_by(|a, b| all.at(*a).name.cmp(&all.at(*b).name));
        order.dedup_by(|later, earlier| all.at(*later).name == all.at(*earlier).name);
        all.order = order;
        all
    }

    fn at(&self, (set, index): (u32, u32)) -> &SharedFamily {
        &self.sets[set as usize][index as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SharedFamily> + Clone {
        self.order.iter().map(|place| self.at(*place))
    }

    fn samples(&self) -> usize {
        self.iter().map(|family| family.samples().len()).sum()
    }
}

fn written<'f>(format: Format, families: impl Iterator<Item = &'f SharedFamily>) -> Vec<u8> {
    let mut writer: Box<dyn Writer> = format.writer();
    for family in families {
        writer.family(&family.name, &family.help, family.kind);
        for (labels, value) in family.samples() {
            writer.sample(labels, &Value::Number(value));
        }
    }
    writer.finish();
    writer.take()
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        Format::Protobuf => {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
        }
    }
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Level::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn header_text(headers: &HeaderMap, name: HeaderName) -> String {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

/// Decoded parameters of a request's query.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request) -> Self {
        let pairs = request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| {
                    (percent_decode(&name.replace('+', " ")), percent_decode(&value.replace('+', " ")))
                })
                .collect(),
        )
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    fn first(&self, name: &str) -> Option<String> {
        self.all(name).first().map(|value| (*value).to_owned())
    }
}

pub(super) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, code.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

//! The driver: one thread, a bounded queue, batches over HTTP/1.1.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::attribute;
use super::settings::TraceSettings;

/// Spans that may wait.
const QUEUE: usize = 2048;
/// Spans of one request.
const BATCH: usize = 256;
/// The longest that an ended span waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// Before a batch that wasn't taken is sent once more.
const PAUSE: Duration = Duration::from_secs(1);

enum Message {
    Span(Value),
    /// Send what there is, and say so.
    Flush(SyncSender<()>),
}

/// What became of the spans so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Taken by the collector.
    pub sent: u64,
    /// Dropped: the queue was full, or no collector took them.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Shared {
    sent: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Exporter {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
}

impl Exporter {
    pub(super) fn start(settings: TraceSettings) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let sender = Sender { settings, shared: Arc::clone(&shared), is_working: true };
        std::thread::Builder::new().name("traces".to_owned()).spawn(move || sender.run(&messages))?;
        Ok(Self { queue, shared })
    }

    pub(super) fn take(&self, span: Value) {
        if self.queue.try_send(Message::Span(span)).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn flush(&self, limit: Duration) {
        let (done, wait) = sync_channel(1);
        match self.queue.try_send(Message::Flush(done)) {
            Ok(()) => drop(wait.recv_timeout(limit)),
            // It is behind by thousands and won't catch up in that time.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let count = |one: &AtomicU64| one.load(Ordering::Relaxed);
        Counts { sent: count(&self.shared.sent), dropped: count(&self.shared.dropped) }
    }
}

struct Sender {
    settings: TraceSettings,
    shared: Arc<Shared>,
    /// The last request was taken: an outage is told once.
    is_working: bool,
}

impl Sender {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let (batch, asked) = collect(first, messages);
            if !batch.is_empty() {
                self.send(batch, asked.is_none());
            }
            if let Some(done) = asked {
                let _ = done.try_send(());
            }
        }
    }

    /// At the end of a process nothing is tried twice.
    fn send(&mut self, batch: Vec<Value>, twice: bool) {
        let count = batch.len() as u64;
        let body = body(&self.settings, batch);
        let mut outcome = post(&self.settings, &body);
        if twice && outcome.as_ref().is_err_and(|why| why.is_passing) {
            std::thread::sleep(PAUSE);
            outcome = post(&self.settings, &body);
        }
        let counter = if outcome.is_ok() { &self.shared.sent } else { &self.shared.dropped };
        counter.fetch_add(count, Ordering::Relaxed);
        let collector = &self.settings.address;
        match &outcome {
            Ok(()) if !self.is_working => tracing::info!(collector, "traces are taken again"),
            Err(why) if self.is_working => {
                tracing::warn!(
                    collector,
                    error = why.reason,
                    "no traces can be sent; they are dropped until that works"
                );
            }
            _ => {}
        }
        self.is_working = outcome.is_ok();
    }
}

/// What comes within [`DELAY`] of the first one, and who waits for it to be sent.
fn collect(first: Message, messages: &Receiver<Message>) -> (Vec<Value>, Option<SyncSender<()>>) {
    let deadline = Instant::now() + DELAY;
    let (mut batch, mut next) = (Vec::new(), first);
    loop {
        match next {
            Message::Span(span) => batch.push(span),
            Message::Flush(done) => return (batch, Some(done)),
        }
        if batch.len() >= BATCH {
            return (batch, None);
        }
        match messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(message) => next = message,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return (batch, None),
        }
    }
}

fn body(settings: &TraceSettings, spans: Vec<Value>) -> Vec<u8> {
    let resource: Vec<Value> =
        settings.resource.iter().map(|(key, value)| attribute(key, value.as_str().into())).collect();
    let request = json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "pattern-common"}, "spans": spans}],
    }]});
    request.to_string().into_bytes()
}

#[derive(Debug)]
struct Failure {
    reason: String,
    /// Worth another try.
    is_passing: bool,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { reason: error.to_string(), is_passing: true }
    }
}

/// One request on a connection of its own: there is one a second at most.
fn post(settings: &TraceSettings, body: &[u8]) -> Result<(), Failure> {
    let mut addresses = settings.address.to_socket_addrs()?;
    let address = addresses.next().ok_or_else(|| io::Error::other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, settings.timeout)?;
    stream.set_read_timeout(Some(settings.timeout))?;
    stream.set_write_timeout(Some(settings.timeout))?;
    let mut head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n",
        settings.path,
        settings.address,
        body.len()
    );
    for (name, value) in &settings.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    // `HTTP/1.1 200`: what comes after it changes nothing.
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    let status = std::str::from_utf8(&start)
        .ok()
        .and_then(|text| text.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok());
    match status {
        Some(200..=299) => Ok(()),
        Some(status) => {
            let is_passing = matches!(status, 429 | 502 | 503 | 504);
            Err(Failure { reason: format!("it answers with status {status}"), is_passing })
        }
        None => Err(Failure { reason: "this is no HTTP server".to_owned(), is_passing: false }),
    }
}

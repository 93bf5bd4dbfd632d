//! Answering a scrape: negotiated, compressed, streamed.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::server::{Request, Response, require_method, stream, text};
use common::trace::Span;
use flate2::write::GzEncoder;
use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode};
use tokio::sync::mpsc;

use super::Page;
use crate::exposition::{Compression, Format, Writer, advance};
use crate::family::{Families, Merge, Walk};

/// Uncompressed bytes handed on at once.
const PIECE: usize = 64 << 10;
/// Time for the sources to collect, when the client does not say.
const COLLECT: Duration = Duration::from_secs(10);
/// Time a piece may wait for a client that does not read.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn answer(page: Arc<Page>, request: Request) -> Response {
    if let Some(refusal) = require_method(&request, &Method::GET) {
        return refusal;
    }
    let wanted = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let format = Format::negotiate(wanted(header::ACCEPT).unwrap_or_default());
    let compression = Compression::negotiate(wanted(header::ACCEPT_ENCODING).unwrap_or_default());
    let mut span = Span::serve("scrape");
    let walk = match collect(&page, deadline(&request)).await {
        Ok(walk) => walk,
        Err(problem) => {
            span.fail(&problem);
            return text(StatusCode::INTERNAL_SERVER_ERROR, problem);
        }
    };
    let (pieces, body) = mpsc::channel(2);
    tokio::spawn(write(walk, format, compression, pieces, span));
    let mut response = Response::new(stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if let Some(name) = compression.name() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

/// The client's own time limit, with some left for sending.
fn deadline(request: &Request) -> Instant {
    let header = request.headers().get("X-Prometheus-Scrape-Timeout-Seconds");
    let seconds = header.and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
    let limit = seconds.filter(|seconds| (0.1..86_400.0).contains(seconds)).map(Duration::from_secs_f64);
    Instant::now() + limit.map_or(COLLECT, |limit| limit.mul_f64(0.9))
}

async fn collect(page: &Page, deadline: Instant) -> Result<Merge, String> {
    let mut walks: Vec<Box<dyn Walk>> = vec![Box::new(Families::sorted((page.own)()))];
    for source in &page.sources {
        match source.collect(deadline).await {
            Ok(walk) => walks.push(walk),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(cause, "{error}");
                return Err(format!("{error}: {cause}\n"));
            }
        }
    }
    Ok(Merge::new(walks))
}

/// Writes the page piece by piece; ends early when the client is gone or does not read.
async fn write(
    mut walk: Merge,
    format: Format,
    compression: Compression,
    pieces: mpsc::Sender<Bytes>,
    mut span: Span,
) {
    let mut bytes = 0;
    let mut writer = format.writer();
    let mut encoder = match Encoder::new(compression) {
        Ok(encoder) => encoder,
        Err(error) => return tracing::warn!(%error, "compressing a page failed"),
    };
    let mut more = true;
    while more {
        more = advance(&mut walk, &mut *writer, PIECE);
        let piece = match encoder.encode(&mut *writer, !more) {
            Ok(piece) => piece,
            Err(error) => return tracing::warn!(%error, "compressing a page failed"),
        };
        if piece.is_empty() {
            tokio::task::yield_now().await;
            continue;
        }
        bytes += piece.len();
        match tokio::time::timeout(PATIENCE, pieces.send(piece.into())).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return span.fail("the client left"),
            Err(_) => {
                span.fail("the client did not read");
                return tracing::info!("a client did not read the page it asked for");
            }
        }
    }
    span.set("bytes", bytes);
}

enum Encoder {
    Identity,
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    fn new(compression: Compression) -> std::io::Result<Self> {
        Ok(match compression {
            Compression::Identity => Self::Identity,
            // Pages are repetitive: the fastest level already takes off nine tenths.
            Compression::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::fast())),
            Compression::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
        })
    }

    fn encode(&mut self, writer: &mut dyn Writer, last: bool) -> std::io::Result<Vec<u8>> {
        let plain = writer.take();
        match self {
            Self::Identity => Ok(plain),
            Self::Gzip(encoder) => {
                encoder.write_all(&plain)?;
                if last {
                    encoder.try_finish()?;
                }
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Zstd(encoder) => {
                encoder.write_all(&plain)?;
                if last {
                    encoder.do_finish()?;
                }
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }
}

//! The only outgoing HTTP(S) client and the only TLS settings for one.

mod anyone;
mod proxy;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as LegacyClient, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

pub use proxy::{Connector, Proxies, Stream};
pub use rustls;

/// Bytes that a connection holds of an answer at once, its head included. A kept connection keeps this much.
const MAX_BUFFER: usize = 128 << 10;

/// A request body: whole or streamed.
pub type RequestBody = BoxBody<Bytes, io::Error>;
/// The pooled client.
pub type Client = LegacyClient<HttpsConnector<Connector>, RequestBody>;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A PEM file is unreadable or holds nothing usable.
    #[error("cannot use {path}: {reason}")]
    Pem {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key do not fit, or the library refused the settings.
    #[error("TLS settings refused: {0}")]
    Refused(#[from] rustls::Error),
}

/// What an outgoing TLS connection trusts and shows.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// PEM bundle to trust besides the system's.
    pub ca_file: Option<std::path::PathBuf>,
    /// PEM certificate chain and key to show to the server.
    pub identity: Option<(std::path::PathBuf, std::path::PathBuf)>,
    /// Believe whoever answers: certificates are not checked.
    pub trust_anyone: bool,
}

/// Client settings: the system's certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR` honoured) and the options.
///
/// # Errors
/// A named file is unreadable or not usable. A system without certificates is no error: plain
/// connections still work, and a TLS one then fails with its own message.
pub fn tls(options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = &options.ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match options.trust_anyone {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(anyone::Anyone(provider))),
        false => builder.with_root_certificates(roots),
    };
    match &options.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => Ok(builder.with_client_auth_cert(certificates(chain)?, private_key(key)?)?),
    }
}

/// All certificates of a PEM file.
///
/// # Errors
/// Unreadable, or without a certificate.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |reason: String| TlsError::Pem { path: path.display().to_string(), reason };
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fail(error.to_string()))?;
    if found.is_empty() { Err(fail("no certificate in it".to_owned())) } else { Ok(found) }
}

/// The first private key of a PEM file.
///
/// # Errors
/// Unreadable, or without a key.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| TlsError::Pem { path: path.display().to_string(), reason: error.to_string() })
}

/// A client that keeps idle connections and reaches servers directly. `connect` bounds the connection;
/// bound the whole exchange with `tokio::time::timeout` around the request.
#[must_use]
pub fn client(tls: ClientConfig, connect: Duration) -> Client {
    client_via(tls, connect, Proxies::none())
}

/// As [`client`], through proxies.
#[must_use]
pub fn client_via(tls: ClientConfig, connect: Duration, proxies: Proxies) -> Client {
    let mut http = HttpConnector::new();
    http.set_connect_timeout(Some(connect));
    http.set_nodelay(true);
    http.enforce_http(false);
    let connector = Connector::new(http, proxies);
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    LegacyClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(MAX_BUFFER)
        .build(https)
}

/// Sends a request that only reads, and sends it once more when the connection ends before an answer begins: a server
/// may close a connection it kept just as a request leaves (RFC 9112, section 9.3.1).
///
/// # Errors
/// No connection comes about, the second one ends as well, or the answer is no HTTP.
pub async fn read(client: &Client, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
    let once = |request: Request<Full<Bytes>>| {
        client.request(request.map(|body| body.map_err(|never| match never {}).boxed()))
    };
    match once(request.clone()).await {
        Err(error) if !error.is_connect() && is_lost(&error) => once(request).await,
        result => result,
    }
}

fn is_lost(error: &Error) -> bool {
    let first: Option<&dyn std::error::Error> = Some(error);
    std::iter::successors(first, |error| error.source()).any(|error| {
        // The last is TLS that ends without a word.
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let lost = |error: &io::Error| matches!(error.kind(), ConnectionReset | BrokenPipe | UnexpectedEof);
        error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
            || error.downcast_ref::<io::Error>().is_some_and(lost)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that answers so many requests on each of its connections, reads one more and closes; and how many
    /// of as many requests in turn as `asked` come through.
    async fn served(answers: &[usize], asked: usize) -> Vec<bool> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let answers = answers.to_vec();
        tokio::spawn(async move {
            for count in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                for _ in 0..count {
                    assert_ne!(stream.read(&mut buffer).await.unwrap(), 0);
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                }
                let _ = stream.read(&mut buffer).await;
            }
        });
        let client = client(tls(&TlsOptions::default()).unwrap(), Duration::from_secs(5));
        let mut came = Vec::new();
        for _ in 0..asked {
            let request = Request::post(&uri).body(Full::new(Bytes::from_static(b"body"))).unwrap();
            let answer = read(&client, request).await;
            came.push(answer.is_ok());
            if let Ok(answer) = answer {
                answer.into_body().collect().await.unwrap();
            }
        }
        came
    }

    #[tokio::test]
    async fn a_kept_connection_that_ends_as_a_request_leaves_is_no_error() {
        assert_eq!(served(&[1, 2], 3).await, [true, true, true]);
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_asked_twice_and_not_for_ever() {
        assert_eq!(served(&[0, 0, 1], 2).await, [false, true]);
    }
}

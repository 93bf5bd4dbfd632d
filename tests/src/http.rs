//! A client for a test's few requests: one connection each, whole answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Head, as received.
    pub head: String,
    /// Body; with chunks joined.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET` on loopback.
///
/// # Errors
/// No connection, no answer within 10 s, or not HTTP.
pub fn get(port: u16, path: &str) -> Result<Answer> {
    request(port, "GET", path, &[], b"")
}

/// The body of a `GET` that must answer 200.
///
/// # Errors
/// As [`get`], or another status.
pub fn page(port: u16, path: &str) -> Result<String> {
    let answer = get(port, path)?;
    if answer.status != 200 {
        bail!("GET :{port}{path}: {} {}", answer.status, answer.text());
    }
    Ok(answer.text())
}

/// Any request on loopback.
///
/// # Errors
/// As [`get`].
pub fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let mut stream =
        TcpStream::connect(("127.0.0.1", port)).with_context(|| format!("no connection to :{port}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").context("no end of the head")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status code")?;
    Ok(Answer { status, head, body: bytes.split_off(end + 4) })
}

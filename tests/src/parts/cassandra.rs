//! A client of Cassandra.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};

/// A connection in version 3 of the native protocol, which Cassandra 2.1 and later speak.
#[derive(Debug)]
pub struct CqlClient {
    stream: TcpStream,
}

impl CqlClient {
    /// Connects to a port of loopback and greets; every answer is bounded by 20 s.
    ///
    /// # Errors
    /// Nobody listens there, or it is not ready.
    pub fn connect(port: u16) -> Result<Self> {
        const STARTUP: u8 = 1;
        const READY: u8 = 2;
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut client = Self { stream };
        client.ask(STARTUP, b"\0\x01\0\x0bCQL_VERSION\0\x053.0.0", READY)?;
        Ok(client)
    }

    /// Sends one statement and waits until it is done, on one replica at least.
    ///
    /// # Errors
    /// It failed; the server's words are in the error.
    pub fn say(&mut self, statement: &str) -> Result<()> {
        const QUERY: u8 = 7;
        const RESULT: u8 = 8;
        const CONSISTENCY_ONE_WITHOUT_FLAGS: &[u8] = &[0, 1, 0];
        let length = u32::try_from(statement.len())?.to_be_bytes();
        let body = [&length, statement.as_bytes(), CONSISTENCY_ONE_WITHOUT_FLAGS].concat();
        self.ask(QUERY, &body, RESULT)
    }

    fn ask(&mut self, operation: u8, body: &[u8], expected: u8) -> Result<()> {
        let length = u32::try_from(body.len())?.to_be_bytes();
        // Version 3, no flags, stream 0.
        self.stream.write_all(&[&[3, 0, 0, 0, operation], &length[..], body].concat())?;
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [_, _, _, _, answer, length @ ..] = head;
        let mut body = Vec::new();
        (&self.stream).take(u32::from_be_bytes(length).into()).read_to_end(&mut body)?;
        ensure!(answer == expected, "{answer}: {}", String::from_utf8_lossy(&body));
        Ok(())
    }
}

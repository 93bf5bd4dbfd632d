//! A command sent to a TCP port or a unix socket, and its answer.

use super::address::Address;
use super::{Gather, GatherError, Gathering};
use crate::reader::{Reader, Reading};

pub(super) struct Tcp {
    pub(super) address: Address,
    pub(super) command: Vec<u8>,
    /// The line that ends an answer, for servers that keep the connection open.
    pub(super) until: Option<Vec<u8>>,
    pub(super) limit: usize,
    pub(super) reader: Reader,
    pub(super) max_series: usize,
}

impl Gather for Tcp {
    fn gather(&self) -> Gathering<'_> {
        Box::pin(async {
            let done = |answer: &[u8]| self.until.as_ref().is_some_and(|until| ends_with_line(answer, until));
            let mut answer = self.address.exchange(&self.command, self.limit, done).await?;
            if let Some(until) = &self.until {
                if !ends_with_line(&answer, until) {
                    let wanted = String::from_utf8_lossy(until);
                    return Err(GatherError(format!("{}: the answer ended before `{wanted}`", self.address)));
                }
                let body = answer.trim_ascii_end().len() - until.len();
                answer.truncate(body);
            }
            super::build::parse(&self.reader, answer, self.max_series).await
        })
    }

    fn read(&self, document: &[u8]) -> Option<Result<Reading, GatherError>> {
        Some(self.reader.read(document, self.max_series).map_err(GatherError::from))
    }
}

fn ends_with_line(answer: &[u8], line: &[u8]) -> bool {
    let Some(before) = answer.strip_suffix(b"\n") else { return false };
    let before = before.strip_suffix(b"\r").unwrap_or(before);
    before.strip_suffix(line).is_some_and(|rest| rest.is_empty() || rest.ends_with(b"\n"))
}

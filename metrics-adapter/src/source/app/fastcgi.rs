//! The little of FastCGI 1.0 that a status page needs: one GET, its answer, no keep-alive.

use super::GatherError;
use super::address::Address;

const BEGIN: u8 = 1;
const END: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;

/// Asks for `path?query` and returns the body.
pub(super) async fn get(
    address: &Address,
    path: &str,
    query: &str,
    limit: usize,
) -> Result<Vec<u8>, GatherError> {
    let answer = address.exchange(&request(path, query), limit, |_| false).await?;
    body(&answer).map_err(|reason| GatherError(format!("{address}: {reason}")))
}

fn record(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    out.extend([1, kind, 0, 1, length[0], length[1], 0, 0]);
    out.extend_from_slice(content);
}

fn request(path: &str, query: &str) -> Vec<u8> {
    let mut params = Vec::new();
    let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    for (name, value) in [
        ("SCRIPT_NAME", path),
        ("SCRIPT_FILENAME", path),
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", &uri),
        ("QUERY_STRING", query),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", "metrics-adapter"),
        ("REMOTE_ADDR", "127.0.0.1"),
    ] {
        for length in [name.len(), value.len()] {
            match u8::try_from(length) {
                Ok(short) if short < 128 => params.push(short),
                _ => params.extend((u32::try_from(length).unwrap_or(u32::MAX) | 1 << 31).to_be_bytes()),
            }
        }
        params.extend_from_slice(name.as_bytes());
        params.extend_from_slice(value.as_bytes());
    }
    let mut out = Vec::new();
    // Role responder, no flags: the server closes when it is done.
    record(&mut out, BEGIN, &[0, 1, 0, 0, 0, 0, 0, 0]);
    record(&mut out, PARAMS, &params);
    record(&mut out, PARAMS, &[]);
    record(&mut out, STDIN, &[]);
    out
}

/// The body in the records of an answer.
fn body(mut records: &[u8]) -> Result<Vec<u8>, String> {
    let (mut output, mut errors, mut ended) = (Vec::new(), Vec::new(), false);
    while let Some((head, rest)) = records.split_first_chunk::<8>() {
        let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let whole = length + usize::from(head[6]);
        let content = rest.get(..length).ok_or("the answer ended early")?;
        match head[1] {
            STDOUT => output.extend_from_slice(content),
            STDERR => errors.extend_from_slice(content),
            END => ended = true,
            _ => {}
        }
        records = rest.get(whole..).unwrap_or_default();
    }
    if !ended {
        return Err("the answer ended early".to_owned());
    }
    let text = String::from_utf8_lossy(&output);
    let (head, _) = text.split_once("\r\n\r\n").or_else(|| text.split_once("\n\n")).unwrap_or((&text, ""));
    let status = head.lines().find_map(|line| line.strip_prefix("Status:")).map_or("200", str::trim);
    if !status.starts_with('2') {
        let said = crate::reader::shortened(String::from_utf8_lossy(&errors).trim(), 200);
        return Err(format!("the status page answered {status} {said}").trim_end().to_owned());
    }
    let end = memchr::memmem::find(&output, b"\r\n\r\n").map(|at| at + 4);
    let end = end.or_else(|| memchr::memmem::find(&output, b"\n\n").map(|at| at + 2));
    output.drain(..end.ok_or("the answer has no body")?);
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let mut answer = Vec::new();
        record(&mut answer, STDOUT, b"Content-type: text/plain\r\n\r\nhel");
        record(&mut answer, STDOUT, b"lo");
        let end = answer.len();
        record(&mut answer, END, &[0; 8]);
        assert_eq!(body(&answer).unwrap(), b"hello");
        for cut in 0..=end {
            assert!(body(&answer[..cut]).is_err(), "{cut}");
        }
        let mut refused = Vec::new();
        record(&mut refused, STDERR, b"Primary script unknown");
        record(&mut refused, STDOUT, b"Status: 404 Not Found\r\n\r\nFile not found.\n");
        record(&mut refused, END, &[0; 8]);
        assert_eq!(
            body(&refused).unwrap_err(),
            "the status page answered 404 Not Found Primary script unknown"
        );
        assert_eq!(request("/s", "json")[..8], [1, 1, 0, 1, 0, 8, 0, 0]);
    }
}
